"""What all tests need: ROS usable from the wheels, no network beyond this machine."""

from __future__ import annotations

from capture_nodes.ros_environment import prepare_ros_environment

prepare_ros_environment()
