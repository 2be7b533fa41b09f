"""From a URDF alone to a `robot.yaml`: what the body is, why, and how sure that is."""
