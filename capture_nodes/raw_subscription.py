"""A subscription whose handle a thread of ours takes messages from, as bytes, of a node that nobody spins."""

from __future__ import annotations

from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile


def raw_subscription(node: Node, message_type: type, topic: str, qos: QoSProfile) -> Any:
    """To be destroyed by ``node``; without rclpy's own callbacks for events, which only an executor calls."""
    return node.create_subscription(
        message_type,
        topic,
        _never_called,
        qos,
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        raw=True,
    )


def _never_called(_message: bytes) -> None:
    raise RuntimeError("a subscription of the taking thread was given to an executor")
