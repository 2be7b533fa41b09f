"""Which topics the recorder takes: the configured ones, and those of their form that appear."""

from __future__ import annotations

import importlib
import time

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo

from capture_nodes.errors import CaptureError
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.message_schemas import ament_prefixes, schema_text
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration, TopicRule
from capture_nodes.recording.stream import Role, Stream
from capture_nodes.recording.tf_stream import TF_TYPE
from capture_nodes.serialized_take import opening_for
from capture_nodes.subscriptions import SubscriptionSet, endpoint_metadata, profile_text
from capture_nodes.topics import DIAGNOSTICS, JOINT_STATES, RETARGETING_STATE

_JOINING_S = 0.3
# Our nodes report every second what they have published.
_REPORT_S = 2.0


class TopicWatch:
    """Subscribes what is configured at once, and on every `look` what has appeared; fits QoS to publishers.

    A topic that cannot be recorded is refused by name, once, and named in every file while its types stay.
    """

    def __init__(self, node: Node, recorder: Recorder, configuration: RecorderConfiguration) -> None:
        self._node = node
        self._recorder = recorder
        self._rules = configuration.topics
        self._prefixes = ament_prefixes()
        self._namespace = namespace = node.get_namespace()
        self._roles: dict[str, Role] = {
            f"{namespace}/{JOINT_STATES}": "joint_states",
            f"{namespace}/{RETARGETING_STATE}": "retargeting_state",
            DIAGNOSTICS: "diagnostics",
            "/tf": "transforms",
            "/tf_static": "transforms",
        }
        # Topics that are refused, with the types they had.
        self._refused_types: dict[str, tuple[str, ...]] = {}
        self.simulated = False
        self._joined_s: dict[str, float] = {}
        self._found_s: dict[bytes, float] = {}
        # In words: by rcl, or by rclpy and why.
        opening, self.taken_by = opening_for(node)
        node.get_logger().info(f"messages are taken by {self.taken_by}")
        recorder.streams.offered = self._offered
        self.readers = SubscriptionSet(node, configuration.history_s, opening)
        for rule in self._rules:
            # The package of their type is no part of every installation: only once somebody publishes them.
            if not rule.is_family and rule.type_name != TF_TYPE:
                self._add(rule.resolved(namespace), rule)

    def look(self) -> None:
        """Add topics that have appeared, adapt to publishers, learn their gids and node names."""
        self._add_new()
        for stream in self._recorder.streams.all():
            found = self._node.get_publishers_info_by_topic(stream.topic)
            publishers = _of_type(found, stream.channel.type_name)
            others = tuple(sorted({p.topic_type for p in found} - {stream.channel.type_name}))
            self._allow_changed(stream.topic, others)
            if others:
                reason = f"it is {', '.join(others)}, configured is {stream.channel.type_name}"
                self._refuse(stream.topic, reason, others)
            if not publishers:
                continue
            if stream.role == "joint_states":
                self.simulated = any(p.node_name == "simulated_robot" for p in publishers)
            nodes = {
                bytes(p.endpoint_gid).hex(): f"{p.node_namespace.rstrip('/')}/{p.node_name}"
                for p in publishers
            }
            self._recorder.streams.describe(stream, endpoint_metadata(publishers), nodes)
            change = self.readers.adapt(stream, publishers)
            if change:
                self._node.get_logger().warning(change)
        self.readers.retire(time.monotonic())

    def _offered(self, stream: Stream) -> dict[str, str]:
        """By the taking thread, between two looks: whose message has come is on the graph."""
        found = self._node.get_publishers_info_by_topic(stream.topic)
        publishers = _of_type(found, stream.channel.type_name)
        return endpoint_metadata(publishers) if publishers else {}

    def not_joined(self, now_s: float) -> list[str]:
        """Topics with a publisher that the recorder is not, or only just, connected to (`now_s`: steady).

        An episode that began now could miss their first messages.
        """
        self.look()
        waiting = []
        for stream in self._recorder.streams.all():
            topic = stream.topic
            found = self._node.get_publishers_info_by_topic(topic)
            # One of another type is never connected; `look` has refused it by name.
            publishers = len(_of_type(found, stream.channel.type_name))
            if self.readers.matched(topic) < publishers:
                self._joined_s.pop(topic, None)
                waiting.append(topic)
            elif publishers and now_s - self._joined_s.setdefault(topic, now_s) < _JOINING_S:
                # The publisher learns of the subscription a moment after the subscription of it.
                waiting.append(topic)
            elif stream.role == "diagnostics" and self._reports_due(stream, found, now_s):
                waiting.append(topic)
        # What the graph does not show yet, its publisher tells. What comes at no fixed rate may be over.
        unheard = [topic for topic in self._recorder.unheard() if self._has_rate(topic)]
        return sorted({*waiting, *unheard})

    def _reports_due(self, stream: Stream, publishers: list[TopicEndpointInfo], now_s: float) -> bool:
        """Whether a node that was found lately has yet to report what it publishes."""
        gids = [bytes(publisher.endpoint_gid) for publisher in publishers]
        return any(
            gid not in stream.publishers and now_s - self._found_s.setdefault(gid, now_s) < _REPORT_S
            for gid in gids
        )

    def _has_rate(self, topic: str) -> bool:
        return topic not in self._recorder.streams.refused and any(
            rule.rate_hz is not None and rule.matches(topic, self._namespace) for rule in self._rules
        )

    def publishers_alive(self, except_node: str) -> frozenset[str]:
        """Gids of all publishers of recorded topics on the network but those of one node."""
        return frozenset(
            bytes(info.endpoint_gid).hex()
            for stream in self._recorder.streams.all()
            for info in self._node.get_publishers_info_by_topic(stream.topic)
            if info.node_name != except_node
        )

    def _add_new(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            if topic in self.readers.topics:
                continue
            had = tuple(sorted(types))
            self._allow_changed(topic, had)
            if topic in self._recorder.streams.refused:
                continue
            named = [rule for rule in self._rules if rule.matches(topic, self._namespace)]
            if not named or not self._node.get_publishers_info_by_topic(topic):
                continue
            rule = next((rule for rule in named if rule.type_name in types), None)
            if rule is None:
                self._refuse(topic, f"it is {', '.join(types)}, configured is {named[0].type_name}", had)
            else:
                self._add(topic, rule, had)

    def _add(self, topic: str, rule: TopicRule, types: tuple[str, ...] = ()) -> None:
        try:
            text = schema_text(rule.type_name, self._prefixes)
            message_type = _message_type(rule.type_name)
        except CaptureError as error:
            self._refuse(topic, str(error), types or (rule.type_name,))
            return
        channel = ChannelDescription(topic, rule.type_name, text)
        role = self._roles.get(topic, "")
        stream = self._recorder.streams.add(
            channel, rule.latched, role, rule.rate_hz, rule.priority, rule.encoding, rule.expected
        )
        self.readers.add(stream, message_type, rule.rate_hz, rule.latched)

    def _allow_changed(self, topic: str, types: tuple[str, ...]) -> None:
        """Whoever published what was refused may be gone: only what is there now counts."""
        if topic in self._refused_types and self._refused_types[topic] != types:
            del self._refused_types[topic]
            self._recorder.streams.refused.pop(topic, None)

    def _refuse(self, topic: str, reason: str, types: tuple[str, ...]) -> None:
        self._refused_types[topic] = types
        if topic not in self._recorder.streams.refused:
            self._recorder.streams.refused[topic] = reason
            self._node.get_logger().warning(f"{topic} is not recorded: {reason}")


def _of_type(publishers: list[TopicEndpointInfo], type_name: str) -> list[TopicEndpointInfo]:
    return [publisher for publisher in publishers if publisher.topic_type == type_name]


def tf_channel(topic: str, qos: QoSProfile) -> ChannelDescription:
    """A channel of the recorder's own transforms."""
    text = schema_text(TF_TYPE, ament_prefixes())
    return ChannelDescription(topic, TF_TYPE, text, {"offered_qos_profiles": profile_text(qos)})


def _message_type(type_name: str) -> type:
    package, _, short = type_name.split("/")
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), short)
    except (ImportError, AttributeError) as error:
        raise CaptureError(
            f"message type {type_name!r} has no Python support here ({error}): install the package {package}"
        ) from error
    return found
