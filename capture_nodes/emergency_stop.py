"""Hearing of the emergency stop, whoever sets it and however they publish."""

from __future__ import annotations

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from capture_nodes.topics import EMERGENCY_STOP

_DEPTH = 20


class EmergencyStopListener:
    """The topic `emergency_stop` of a node that drains it itself (`group` is a `DrainedGroup`).

    Two subscriptions: a transient local one hears of a stop that was set before this node started, but
    never hears a publisher that keeps nothing for latecomers; a volatile one hears every publisher.
    """

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        self._subscriptions = [
            node.create_subscription(
                Bool,
                EMERGENCY_STOP,
                lambda _message: None,
                QoSProfile(
                    depth=_DEPTH,
                    history=HistoryPolicy.KEEP_LAST,
                    reliability=ReliabilityPolicy.RELIABLE,
                    durability=durability,
                ),
                callback_group=group,
            )
            for durability in (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE)
        ]

    def take(self) -> bool | None:
        """Whether the stop was set (True) or reset (False) since the last call; None: neither.

        One that was set wins over any reset that came with it: of two that speak at once, the careful one.
        """
        heard = []
        for subscription in self._subscriptions:
            while (taken := subscription.handle.take_message(Bool, False)) is not None:
                heard.append(bool(taken[0].data))
        return any(heard) if heard else None
