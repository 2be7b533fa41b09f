"""Raw subscriptions that one thread drains directly, fitted to what the publishers offer.

An executor callback per message costs about 150 µs of Python; taking from the handle until it is empty costs
a few, and gives each message's publisher, sequence number and times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from capture_nodes.raw_subscription import raw_subscription
from capture_nodes.recording.mcap_writer import LARGE_BYTES
from capture_nodes.recording.recent_messages import Taken
from capture_nodes.recording.stream import Stream
from capture_nodes.serialized_take import NO_SEQUENCE as NO_SEQUENCE
from capture_nodes.serialized_take import HandleTake, Opening, RclpyTake

DEPTH_ON_CHANGE = 200
# A replaced reader is taken on at least this long: the publishers have to find its successor first.
OVERLAP_S = 1.0

Take = Callable[[Stream, "list[Taken]"], None]
# Handed over at once at most.
MOST_TAKEN = 64
# Of one subscription before the others have their turn: all, and large ones.
MOST_IN_TURN = 512
MOST_LARGE_IN_TURN = 8
# Messages of several publishers, or repaired ones, may be out of the order in which they were received.
REORDERED_NS = 100_000_000
Policies = tuple[ReliabilityPolicy, DurabilityPolicy]


class _Overlap:
    """What several readers of one topic have delivered together, so that each message is taken once.

    Used by the taking thread only.
    """

    def __init__(self) -> None:
        self._before: dict[bytes, int] | None = None
        self._taken: set[tuple[bytes, int]] = set()

    def is_new(self, stream: Stream, gid: bytes, sequence: int | None, source_ns: int) -> bool:
        if self._before is None:
            # What the former reader had delivered by now: a latched topic gives it to the new one again.
            self._before = {gid: c.last for gid, c in stream.publishers.items() if c.last is not None}
        # Where the middleware numbers nothing, both readers have the publisher's time in common.
        key = (gid, source_ns if sequence is None else sequence)
        if key in self._taken or (sequence is not None and sequence <= self._before.get(gid, 0)):
            return False
        self._taken.add(key)
        return True


@dataclass(frozen=True)
class _Reader:
    """A subscription's handle as the taking thread sees it."""

    stream: Stream
    handle: Any
    source: HandleTake
    depth: int
    overlap: _Overlap | None = None


@dataclass
class _Retired:
    """A replaced subscription: taken until its successor has surely joined, then destroyed.

    `rounds`: how many the taking thread had done when it lost the handle, None as long as it has it.
    """

    topic: str
    subscription: Any
    since_s: float = field(default_factory=time.monotonic)
    rounds: int | None = None


class SubscriptionSet:
    """The subscriptions of one node that no executor spins.

    `add`, `adapt`, `retire` and `destroy` are called by the main thread; `drain` by the taking thread, which
    must not run during `destroy`.
    """

    def __init__(self, node: Node, history_s: float, opening: Opening = RclpyTake) -> None:
        self._node = node
        self._opening = opening
        self._history_s = history_s
        self._types: dict[str, tuple[type, int]] = {}
        self._policies: dict[str, Policies] = {}
        self._subscriptions: dict[str, Any] = {}
        self._retired: list[_Retired] = []
        # By handle: open as long as its subscription.
        self._sources: dict[int, HandleTake] = {}
        self._taken: list[_Reader] = []
        self._rounds = 0
        # Readers, by handle, that may still have something from before the round began, and at most how much.
        self._behind: dict[int, int] = {}
        self._began_ns = 0

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
        qos = QoSProfile(
            depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=reliability, durability=durability
        )
        subscription = raw_subscription(self._node, message_type, stream.topic, qos)
        former = self._subscriptions.get(stream.topic)
        self._subscriptions[stream.topic] = subscription
        self._policies[stream.topic] = policies
        readers, overlap = self._taken, None
        if former is not None:
            # Until the publishers have found the new reader, their messages come to the former one only.
            self._retired.append(_Retired(stream.topic, former))
            overlap = _Overlap()
            readers = self._overlapping(stream.topic, overlap)
        # Replaced as a whole, so that a round of the taking thread sees either list; the former reader first,
        # so that messages come in order.
        handle = subscription.handle
        # What somebody here reads, or keeps for long, is taken as `bytes`.
        source = self._opening(handle, message_type, not stream.role and not stream.latched)
        self._sources[id(handle)] = source
        self._taken = [*readers, _Reader(stream, handle, source, depth, overlap)]

    def _overlapping(self, topic: str, overlap: _Overlap | None) -> list[_Reader]:
        return [
            replace(reader, overlap=overlap) if reader.stream.topic == topic else reader
            for reader in self._taken
        ]

    def retire(self, now_s: float) -> None:
        """Let go of replaced readers whose successors hear all their publishers (``now_s``: steady)."""
        for retired in list(self._retired):
            handle = retired.subscription.handle
            if retired.rounds is None:
                joined = self.matched(retired.topic) >= handle.get_publisher_count()
                if joined and now_s - retired.since_s >= OVERLAP_S:
                    self._taken = [reader for reader in self._taken if reader.handle is not handle]
                    retired.rounds = self._rounds
            elif self._rounds >= retired.rounds + 2:
                # The round that may have been in it is over, and so is one in which its successor gave what
                # both had delivered.
                self._retired.remove(retired)
                self._destroy(retired.subscription)
                if not any(other.topic == retired.topic for other in self._retired):
                    self._taken = self._overlapping(retired.topic, None)

    def matched(self, topic: str) -> int:
        """How many publishers of a topic its subscription is connected to."""
        subscription = self._subscriptions.get(topic)
        return 0 if subscription is None else int(subscription.handle.get_publisher_count())

    def drain(self, take: Take) -> bool:
        """Take what is there, one subscription after the other; whether that ends a round.

        Of each so much at a time (`MOST_IN_TURN`, `MOST_LARGE_IN_TURN`) that none waits long for the others.
        A round is over when everything has been taken that was there when it began, whatever comes meanwhile.
        """
        readers = self._taken
        if not self._behind:
            self._began_ns = time.time_ns()
            self._behind = {id(reader.handle): reader.depth for reader in readers}
        behind = self._behind
        for reader in readers:
            key = id(reader.handle)
            taken, is_empty = self._take_some(reader, take)
            left = behind.get(key, 0) - taken
            if is_empty or left <= 0:
                behind.pop(key, None)
            else:
                behind[key] = left
        if behind:
            there = {id(reader.handle) for reader in readers}
            self._behind = behind = {key: left for key, left in behind.items() if key in there}
        if behind:
            return False
        self._rounds += 1
        return True

    def _take_some(self, reader: _Reader, take: Take) -> tuple[int, bool]:
        """How many, and whether nothing is left that was there when the round began."""
        stream, overlap, take_next = reader.stream, reader.overlap, reader.source.take
        found: list[Taken] = []
        count = large = 0
        try:
            while (taken := take_next()) is not None:
                count += 1
                if overlap is None or overlap.is_new(stream, taken[4], taken[3], taken[1]):
                    found.append(taken)
                    is_large = len(taken[0]) >= LARGE_BYTES
                    if is_large or len(found) >= MOST_TAKEN:
                        large += is_large
                        full, found = found, []
                        take(stream, full)
                        # Later than now: the clock was set, and this says nothing.
                        if self._began_ns + REORDERED_NS < taken[2] <= time.time_ns():
                            return count, True
                        if large >= MOST_LARGE_IN_TURN:
                            return count, False
                if count >= MOST_IN_TURN:
                    return count, False
        finally:
            # Whatever becomes of the next one: these are taken.
            if found:
                take(stream, found)
        return count, True

    def destroy(self) -> None:
        retired = (entry.subscription for entry in self._retired)
        for subscription in (*self._subscriptions.values(), *retired):
            self._destroy(subscription)
        self._subscriptions.clear()
        self._retired.clear()
        self._taken = []

    def _destroy(self, subscription: Any) -> None:
        self._sources.pop(id(subscription.handle)).close()
        self._node.destroy_subscription(subscription)


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
