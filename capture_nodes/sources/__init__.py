"""Where motion frames come from: trainer inputs behind one Protocol. Never imports rclpy."""
