"""`ros2 launch` without the `ros2` command: run_launch_file.py FILE [name:=value …]."""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

from launch import LaunchDescription, LaunchService


def main() -> int:
    file, *words = sys.argv[1:]
    arguments = [tuple(word.split(":=", 1)) for word in words]
    service = LaunchService(argv=words, noninteractive=True)
    include = IncludeLaunchDescription(AnyLaunchDescriptionSource(file), launch_arguments=arguments)
    service.include_launch_description(LaunchDescription([include]))
    return service.run()


if __name__ == "__main__":
    sys.exit(main())
