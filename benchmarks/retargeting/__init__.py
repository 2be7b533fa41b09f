"""The retargeting measured against other inverse kinematics; see `docs/retargeting.md`."""
