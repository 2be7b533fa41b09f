"""What happens to bags after they were recorded: read, check, tabulate, picture. Without ROS."""
