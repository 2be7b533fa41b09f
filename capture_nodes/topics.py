"""Topic names and quality of service, one place for publishers and subscribers."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from capture_nodes.command_messages import COMMAND_CAUSE as COMMAND_CAUSE
from capture_nodes.command_messages import JOINT_COMMANDS as JOINT_COMMANDS

TRAINER_NAMESPACE = "/trainer"
MOTION = "/trainer/motion"
BUTTONS = "/trainer/buttons"
FEEDBACK = "/trainer/feedback"
DIAGNOSTICS = "/diagnostics"

# Relative to the robot's namespace.
JOINT_STATES = "joint_states"
EMERGENCY_STOP = "emergency_stop"
ROBOT_DESCRIPTION = "robot_description"
RETARGETING_STATE = "retargeting/state"


# A recorder that stands still for five seconds gets everything afterwards.
STREAM_HISTORY_S = 6.0


def stream_qos(rate_hz: float, history_s: float = STREAM_HISTORY_S) -> QoSProfile:
    """Of a publisher of small messages: reliable, with some seconds of history.

    The publisher's depth, not the subscriber's, decides what a stalled reader loses.
    """
    return QoSProfile(
        depth=max(10, round(history_s * rate_hz)),
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def latched_qos() -> QoSProfile:
    """State that late subscribers need too: reliable, transient local, the newest one."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def newest_qos(depth: int = 1) -> QoSProfile:
    """Of a subscriber that only wants the newest messages and does without what it missed."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
