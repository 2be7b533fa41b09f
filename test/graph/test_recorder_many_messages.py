"""The recorder over real DDS with more topics, and more messages at once, than any robot has."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from recorder_station import Station, joint_state, metadata_of, payloads_of, running  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from capture_nodes.topics import stream_qos  # noqa: E402

TOPICS, EACH = 200, 20
FLOOD, FRAMES, FRAME_BYTES = 20_000, 60, 4 * 1024 * 1024
REST = """
episode: {pre_roll_s: 0, post_roll_s: 0.2}
disk: {min_free_mb: 64}
"""


def _configuration(path: Path, topics: str) -> str:
    path.write_text(f"topics:\n{topics}{REST}")
    return f"config:={path}"


def _cpu_s(station: Station) -> float:
    fields = Path(f"/proc/{station.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_two_hundred_topics_are_found_by_pattern_and_nothing_is_lost(
    tmp_path: Path, record_property: Any
) -> None:
    config = _configuration(
        tmp_path / "recorder.yaml", '  "many/{name}": {type: std_msgs/msg/String, rate_hz: 20}\n'
    )
    with running(81, tmp_path / "data", config) as station:
        publishers = {
            f"/kestrel/many/topic_{k}": station.node.create_publisher(
                String, f"/kestrel/many/topic_{k}", stream_qos(20)
            )
            for k in range(TOPICS)
        }
        station.wait(
            lambda: all(p.get_subscription_count() > 0 for p in publishers.values()),
            "a subscription of every topic",
            timeout_s=60.0,
        )
        episode_id = station.start()
        sent: dict[str, list[str]] = {topic: [] for topic in publishers}
        for n in range(EACH):
            for topic, publisher in publishers.items():
                sent[topic].append(f"{topic} {n}")
                publisher.publish(String(data=sent[topic][-1]))
            station.executor.spin_once(timeout_sec=0.01)
        assert all(p.wait_for_all_acked(Duration(seconds=10)) for p in publishers.values())
        answer = station.call("stop")
        assert answer.success, answer.message
        assert Path(answer.message).stem == episode_id
        payloads = payloads_of(answer.message)
        assert {
            topic: [deserialize_message(data, String).data for data in payloads[topic]] for topic in sent
        } == sent
        metadata = metadata_of(answer.message)
        rows = [json.loads(row) for row in metadata["streams"].values()]
        assert {row["topic"]: row["written"] for row in rows if row["topic"] in sent} == dict.fromkeys(
            sent, EACH
        )
        assert all(row["lost"] == 0 for row in rows) and metadata["episode"]["lost"] == "0"
        # Said, not judged: what 200 subscriptions cost that nobody fills.
        before_s, begin_s = _cpu_s(station), time.monotonic()
        station.wait(lambda: time.monotonic() > begin_s + 2.0, "time to pass")
        record_property("idle_cores", round((_cpu_s(station) - before_s) / (time.monotonic() - begin_s), 3))
        stdout, stderr = station.end()
        assert station.process.returncode == 0, stderr
        report = json.loads(stdout.strip().splitlines()[-1])
        received = {row["topic"]: row["received"] for row in report["streams"] if row["topic"] in sent}
        assert received == dict.fromkeys(sent, EACH) and report["lost"] == 0


def test_floods_are_counted_to_the_last_message(tmp_path: Path, record_property: Any) -> None:
    """As fast as this process can, past every history: received and lost together are what was published."""
    config = _configuration(
        tmp_path / "recorder.yaml",
        "  joint_states: {type: sensor_msgs/msg/JointState, rate_hz: 200}\n"
        "  flood: {type: std_msgs/msg/String, rate_hz: 100, priority: 1}\n"
        "  frames: {type: sensor_msgs/msg/Image, rate_hz: 30, priority: 0}\n"
        "  /diagnostics: {type: diagnostic_msgs/msg/DiagnosticArray}\n",
    )
    few = QoSProfile(depth=4, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
    with running(82, tmp_path / "data", config) as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        flood = station.publisher(String, "/kestrel/flood", stream_qos(100))
        frames = station.publisher(Image, "/kestrel/frames", few)
        diagnostics = station.publisher(DiagnosticArray, "/diagnostics", stream_qos(10))
        small = bytes(serialize_message(String(data="x" * 40)))
        frame = bytes(serialize_message(Image(height=1, width=FRAME_BYTES, data=bytes(FRAME_BYTES))))
        # What a publisher sent before its first message that arrived would be told apart, as not joined.
        joints.publish(joint_state(0))
        flood.publish(small)
        frames.publish(frame)
        assert all(p.wait_for_all_acked(Duration(seconds=10)) for p in (joints, flood, frames))
        station.start()
        for n in range(FLOOD):
            flood.publish(small)
            if n % 20 == 0:
                joints.publish(joint_state(n))
        for n in range(FRAMES):
            frames.publish(frame)
            joints.publish(joint_state(n))
        counts = {joints: FLOOD // 20 + FRAMES, flood: FLOOD, frames: FRAMES}
        assert all(p.wait_for_all_acked(Duration(seconds=10)) for p in counts)
        final = DiagnosticStatus(name="/test_station: published", hardware_id="final")
        final.values = [
            KeyValue(key=publisher.topic_name, value=f"{count + 1} {station.gid(publisher)}")
            for publisher, count in counts.items()
        ]
        published = {publisher.topic_name: count for publisher, count in counts.items()}
        diagnostics.publish(DiagnosticArray(status=[final]))
        assert diagnostics.wait_for_all_acked(Duration(seconds=10))
        answer = station.call("stop")
        assert answer.success, answer.message
        payloads = payloads_of(answer.message)
        stdout, stderr = station.end()
        assert station.process.returncode == 0, stderr
    report = json.loads(stdout.strip().splitlines()[-1])
    rows = {row["topic"]: row for row in report["streams"]}
    (episode,) = report["episodes"]
    for topic, count in published.items():
        row, inside = rows[topic], episode["topics"][topic]
        assert (row["published"], row["published_said_by"]) == (count + 1, "publisher")
        assert row["received"] + row["lost"] == count + 1
        assert (inside["published"], inside["written"] + inside["lost"]) == (count, count)
        assert len(payloads.get(topic, [])) == inside["written"]
        record_property(f"lost{topic}", inside["lost"])
    # Joints were fewer than their publisher keeps: whatever else is given up, they are there.
    assert episode["topics"]["/kestrel/joint_states"]["lost"] == 0
