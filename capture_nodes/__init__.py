"""Everything that touches ROS or a device."""
