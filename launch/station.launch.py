"""A whole station: trainer, retargeting, simulated robot, cameras, recorder and session.

    ros2 launch teleop_capture station.launch.py robot:=kestrel source:=script episodes:=3

The plan is made by `capture_nodes.station`; here it only becomes launch actions.
"""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from capture_nodes.station import argument_defaults, make_plan
from launch import LaunchDescription


def actions_of_plan(context):
    """One node action per process of the plan; the end of any of them ends the station."""
    values = {name: LaunchConfiguration(name).perform(context) for name in argument_defaults()}
    plan = make_plan(values)
    actions = [SetEnvironmentVariable(name, value) for name, value in plan.environment.items()]
    for process in plan.processes:
        node = Node(
            package="teleop_capture",
            executable=process.executable,
            name=process.node_name,
            namespace=process.namespace,
            parameters=[dict(process.parameters)],
            output="screen",
            # The recorder completes its file and hears the others' final counts before it ends.
            sigterm_timeout=str(process.stop_timeout_s),
            sigkill_timeout=str(process.stop_timeout_s),
        )
        actions.append(node)
        if process.required:
            reason = f"{process.name} has ended"
            handler = OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown(reason=reason))])
            actions.append(RegisterEventHandler(handler))
    return actions


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description="see config/station.yaml")
        for name, default in argument_defaults().items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=actions_of_plan)])
