"""Raw subscriptions that one thread drains directly, fitted to what the publishers offer.

An executor callback per message costs about 150 µs of Python; taking from the handle until it is empty costs
a few, and gives each message's publisher, sequence number and times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.duration import Infinite
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from capture_nodes.recording.recorder import Stream

# What the middleware says where it numbers nothing.
NO_SEQUENCE = (1 << 64) - 1
DEPTH_ON_CHANGE = 200

Take = Callable[[Stream, bytes, int, int, "int | None", bytes], None]
Policies = tuple[ReliabilityPolicy, DurabilityPolicy]


class SubscriptionSet:
    """The subscriptions of one node that no executor spins.

    `add`, `adapt` and `destroy` are called by the main thread; `drain` by the taking thread, which must not
    run during `destroy`.
    """

    def __init__(self, node: Node, history_s: float) -> None:
        self._node = node
        self._history_s = history_s
        self._types: dict[str, tuple[type, int]] = {}
        self._policies: dict[str, Policies] = {}
        self._subscriptions: dict[str, Any] = {}
        self._retired: list[Any] = []
        self._taken: list[tuple[Stream, type, Any]] = []

    @property
    def topics(self) -> set[str]:
        return set(self._subscriptions)

    def add(self, stream: Stream, message_type: type, rate_hz: float | None, latched: bool) -> None:
        """Subscribe reliably, latched topics transient local; `adapt` fits that to the publishers."""
        depth = DEPTH_ON_CHANGE if rate_hz is None else max(DEPTH_ON_CHANGE, round(self._history_s * rate_hz))
        self._types[stream.topic] = (message_type, depth)
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        self._subscribe(stream, (ReliabilityPolicy.RELIABLE, durability))

    def adapt(self, stream: Stream, publishers: Sequence[TopicEndpointInfo]) -> str:
        """Renew the subscription where a publisher would not match it; says what was changed, else ''."""
        if not publishers or stream.topic not in self._policies:
            return ""
        reliability, durability = self._policies[stream.topic]
        if any(p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
            reliability = ReliabilityPolicy.BEST_EFFORT
        if any(p.qos_profile.durability == DurabilityPolicy.VOLATILE for p in publishers):
            durability = DurabilityPolicy.VOLATILE
        wanted = (reliability, durability)
        if wanted == self._policies[stream.topic]:
            return ""
        self._subscribe(stream, wanted)
        return f"{stream.topic} is taken {reliability.name} and {durability.name}, as its publishers offer"

    def _subscribe(self, stream: Stream, policies: Policies) -> None:
        message_type, depth = self._types[stream.topic]
        reliability, durability = policies
        subscription = self._node.create_subscription(
            message_type,
            stream.topic,
            _never_called,
            QoSProfile(
                depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=reliability, durability=durability
            ),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            raw=True,
        )
        former = self._subscriptions.get(stream.topic)
        if former is not None:
            # The taking thread may be in it: it is emptied with the others and destroyed at the end.
            self._retired.append(former)
        self._subscriptions[stream.topic] = subscription
        self._policies[stream.topic] = policies
        taken = [entry for entry in self._taken if former is None or entry[2] is not former.handle]
        # Replaced as a whole, so that a round of the taking thread sees either list.
        self._taken = [*taken, (stream, message_type, subscription.handle)]

    def matched(self, topic: str) -> int:
        """How many publishers of a topic its subscription is connected to."""
        subscription = self._subscriptions.get(topic)
        return 0 if subscription is None else int(subscription.handle.get_publisher_count())

    def drain(self, take: Take) -> None:
        """Take everything that is there, one subscription after the other."""
        for stream, message_type, handle in self._taken:
            while True:
                taken = handle.take_message(message_type, True)
                if taken is None:
                    break
                data, info = taken
                sequence = info["publication_sequence_number"]
                take(
                    stream,
                    data,
                    info["source_timestamp"],
                    info["received_timestamp"],
                    None if sequence is None or sequence == NO_SEQUENCE else sequence,
                    info["publisher_gid"]["data"],
                )

    def destroy(self) -> None:
        for subscription in (*self._subscriptions.values(), *self._retired):
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._retired.clear()
        self._taken = []


def _never_called(_message: bytes) -> None:
    raise RuntimeError("a subscription of the taking thread was given to an executor")


def endpoint_metadata(publishers: Sequence[TopicEndpointInfo]) -> dict[str, str]:
    """Channel metadata as `rosbag2` writes it: the offered QoS of every publisher, the type hash."""
    metadata = {"offered_qos_profiles": "\n".join(profile_text(p.qos_profile) for p in publishers)}
    type_hash = str(publishers[0].topic_type_hash)
    if type_hash.startswith("RIHS"):
        metadata["topic_type_hash"] = type_hash
    return metadata


def profile_text(profile: QoSProfile) -> str:
    """One entry of `offered_qos_profiles` (YAML)."""

    def duration(value: Any) -> str:
        # Unset is 0 in a profile of ours and infinite in what the graph tells; both mean infinite.
        nanoseconds = value.nanoseconds or Infinite.nanoseconds
        return f"{{sec: {nanoseconds // 1_000_000_000}, nsec: {nanoseconds % 1_000_000_000}}}"

    return "\n".join(
        [
            f"- history: {profile.history.name.lower()}",
            f"  depth: {profile.depth}",
            f"  reliability: {profile.reliability.name.lower()}",
            f"  durability: {profile.durability.name.lower()}",
            f"  deadline: {duration(profile.deadline)}",
            f"  lifespan: {duration(profile.lifespan)}",
            f"  liveliness: {profile.liveliness.name.lower()}",
            f"  liveliness_lease_duration: {duration(profile.liveliness_lease_duration)}",
            "  avoid_ros_namespace_conventions: false",
        ]
    )
