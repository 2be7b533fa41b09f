"""From a trainer's motion to a robot's joint command: pure maths, without ROS."""
