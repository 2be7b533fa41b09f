"""What becomes of the messages: episode files, loss counting, recovery, the tf tree. Never imports rclpy."""
