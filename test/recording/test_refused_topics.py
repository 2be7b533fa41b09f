"""A topic of a wrong type is refused only as long as it has that type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from capture_nodes.recording.message_schemas import ament_prefixes
from capture_nodes.recording.recorder_configuration import TopicRule
from capture_nodes.topic_watch import TopicWatch

TOPIC, WRENCH, IMAGE = "/k/wrench/left", "geometry_msgs/msg/WrenchStamped", "sensor_msgs/msg/CompressedImage"


def test_a_topic_that_gets_its_type_later_is_taken() -> None:
    types, told, added = [IMAGE], [], set[str]()
    watch: Any = object.__new__(TopicWatch)
    watch._node = SimpleNamespace(
        get_topic_names_and_types=lambda: [(TOPIC, list(types))],
        get_publishers_info_by_topic=lambda _: [SimpleNamespace(topic_type=types[0])],
        get_logger=lambda: SimpleNamespace(warning=told.append),
    )
    refused: dict[str, str] = {}
    watch._recorder = SimpleNamespace(
        streams=SimpleNamespace(refused=refused, add=lambda channel, *_: channel)
    )
    watch.readers = SimpleNamespace(topics=added, add=lambda channel, *_: added.add(channel.topic))
    watch._rules = (TopicRule("wrench/{site}", WRENCH, 200.0),)
    watch._namespace, watch._roles, watch._refused_types = "/k", {}, {}
    watch._prefixes = ament_prefixes()
    for _ in range(2):
        watch._add_new()
    assert refused == {TOPIC: f"it is {IMAGE}, configured is {WRENCH}"} and len(told) == 1 and not added
    types[:] = [WRENCH]
    watch._add_new()
    assert added == {TOPIC} and refused == {}
