"""What `~/episode` tells between two episodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from capture_nodes.episode_publisher import EpisodePublisher
from capture_nodes.recording.disk_watch import DiskState
from capture_nodes.recording.episode import EpisodeStatus


def test_the_last_file_stays_named_until_the_next_episode() -> None:
    told: list[Any] = []
    status = [EpisodeStatus("idle")]
    node: Any = SimpleNamespace(
        counting_publisher=lambda *_: SimpleNamespace(publish=told.append),
        get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=1)),
        get_fully_qualified_name=lambda: "/k/recorder",
    )
    recorder: Any = SimpleNamespace(status=lambda: status[0], received=dict)
    disk: Any = SimpleNamespace(state=lambda: DiskState("ok", 1))
    publisher = EpisodePublisher(node, recorder, disk)
    publisher.publish(last="/a.mcap")
    publisher.publish()
    status[0] = EpisodeStatus("recording", path="/b.mcap")
    publisher.publish()
    paths = [next(v.value for v in message.values if v.key == "path") for message in told]
    assert paths == ["/a.mcap", "/a.mcap", "/b.mcap"]
