"""Hearing of the emergency stop, whoever sets it and however they publish."""

from __future__ import annotations

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from capture_nodes.stop_latch import StopLatch, Word
from capture_nodes.subscriptions import NO_SEQUENCE
from capture_nodes.topics import EMERGENCY_STOP

_DEPTH = 20
# This node says False on the topic only where somebody asked its service for a reset.
_RESETTING_NODE = "retargeting"
_HEARD = (
    (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
    (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
    (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
)


class EmergencyStopListener:
    """The topic `emergency_stop` of a node that drains it itself (`group` is a `DrainedGroup`).

    Three subscriptions: a transient local one hears of a stop that was set before this node started, but
    never hears a publisher that keeps nothing for latecomers; a volatile one hears every publisher that is
    reliable, and misses nothing of it; a best effort one hears every publisher. What several of them hear
    counts once. Who may reset what: see `StopLatch`.
    """

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        self._node = node
        self._latch = StopLatch(self._is_service)
        self._subscriptions = [
            node.create_subscription(
                Bool,
                EMERGENCY_STOP,
                lambda _message: None,
                QoSProfile(
                    depth=_DEPTH,
                    history=HistoryPolicy.KEEP_LAST,
                    reliability=reliability,
                    durability=durability,
                ),
                callback_group=group,
            )
            for reliability, durability in _HEARD
        ]

    def take(self) -> bool | None:
        """Whether the stop was set (True) or reset (False) since the last call; None: neither."""
        heard = []
        for subscription in self._subscriptions:
            while (taken := subscription.handle.take_message(Bool, False)) is not None:
                message, info = taken
                sequence = info["publication_sequence_number"]
                # Where the middleware numbers nothing, the publisher's time does.
                number = info["source_timestamp"] if sequence == NO_SEQUENCE else sequence
                heard.append(Word(bytes(info["publisher_gid"]["data"]), number, bool(message.data)))
        return self._latch.hear(heard) if heard else None

    def _is_service(self, gid: bytes) -> bool:
        """Whether a publisher belongs to the node whose service resets the stop of this robot."""
        node = _RESETTING_NODE, self._node.get_namespace()
        return any(
            bytes(info.endpoint_gid) == gid and (info.node_name, info.node_namespace) == node
            for info in self._node.get_publishers_info_by_topic(EMERGENCY_STOP)
        )
