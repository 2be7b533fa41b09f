"""The simulated robot: physics (MuJoCo), sensors, pacing and rendering. No rclpy here."""
