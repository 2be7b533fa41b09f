"""The simulated robot with its trainer and retargeting, without a session: it runs until Ctrl-C.

    ros2 launch teleop_capture simulation.launch.py robot:=kestrel source:=script

The same plan as `station.launch.py` with `episodes:=0`; start and stop recording by the recorder's
services.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from capture_nodes.station_arguments import argument_defaults
from launch import LaunchDescription


def generate_launch_description():
    defaults = {name: value for name, value in argument_defaults().items() if name != "episodes"}
    arguments = [
        DeclareLaunchArgument(name, default_value=value, description="see config/station.yaml")
        for name, value in defaults.items()
    ]
    station = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("station.launch.py"))),
        launch_arguments=[*((name, LaunchConfiguration(name)) for name in defaults), ("episodes", "0")],
    )
    return LaunchDescription([*arguments, station])
