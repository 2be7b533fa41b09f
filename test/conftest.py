"""What all tests need: ROS usable from the wheels, no network beyond this machine, patience."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from capture_nodes.ros_environment import prepare_ros_environment

prepare_ros_environment()

# A machine that others load is slow at drawing examples; that says nothing of the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
