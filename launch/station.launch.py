"""A whole station: trainer, retargeting, simulated robot, cameras, recorder and session.

    ros2 launch teleop_capture station.launch.py robot:=kestrel source:=script episodes:=3

The plan is made by `capture_nodes.station`; here it only becomes launch actions. Launch ends with an
error where the arguments cannot be used, and where a process fails before the session has ended.
"""

import shlex
import shutil
import signal

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

from capture_nodes.station import make_plan
from capture_nodes.station_arguments import StationError, argument_defaults
from launch import Event, EventHandler, LaunchDescription


class ProcessFailed(Event):
    """A process of the station has ended although nobody asked it to."""

    name = "teleop_capture.ProcessFailed"

    def __init__(self, problem):
        self.problem = problem


def end_with_error(context):
    """Launch ends with a return code other than 0 only after an exception, which it also logs."""
    raise StationError([context.locals.event.problem])


def after_exit(process):
    """What to do when a process ends: the session ends the station, any other process fails it."""

    def on_exit(event, context):
        if context.is_shutdown:
            return []
        code = event.returncode
        if process.name == "session" and code == 0:
            return [EmitEvent(event=Shutdown(reason="the session has ended"))]
        ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        # As an event of its own: an exception here would keep this one from its other handlers.
        return [EmitEvent(event=ProcessFailed(f"{process.name} {ending}; stopping the others"))]

    return on_exit


def guard(context):
    """Prefix of every process: should launch be killed, the kernel interrupts them and no arm moves on."""
    setpriv = shutil.which("setpriv")
    # Who asks for a prefix (a debugger) gets that one alone.
    if setpriv is None or context.launch_configurations.get("launch-prefix"):
        return None
    return f"{shlex.quote(setpriv)} --pdeathsig INT --"


def actions_of_plan(context):
    """One node action per process of the plan; the end of any of them ends the station."""
    values = {name: LaunchConfiguration(name).perform(context) for name in argument_defaults()}
    plan = make_plan(values)
    actions = [SetEnvironmentVariable(name, value) for name, value in plan.environment.items()]
    is_failure = EventHandler(
        matcher=lambda event: isinstance(event, ProcessFailed),
        entities=[OpaqueFunction(function=end_with_error)],
    )
    actions.append(RegisterEventHandler(is_failure))
    for process in plan.processes:
        node = Node(
            package="teleop_capture",
            executable=process.executable,
            exec_name=process.name,
            name=process.node_name,
            namespace=process.namespace,
            parameters=[dict(process.parameters)],
            additional_env=dict(process.environment),
            # What a node says goes to the screen and the log, the recorder's report (stdout) to the log.
            output="log",
            prefix=guard(context),
            # The recorder completes its file and hears the others' final counts before it ends.
            sigterm_timeout=str(process.stop_timeout_s),
            sigkill_timeout=str(process.stop_timeout_s),
        )
        actions.append(node)
        if process.required:
            handler = OnProcessExit(target_action=node, on_exit=after_exit(process))
            actions.append(RegisterEventHandler(handler))
    return actions


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description="see config/station.yaml")
        for name, default in argument_defaults().items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=actions_of_plan)])
