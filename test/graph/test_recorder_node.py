"""The recorder as a real process over real DDS; this process publishes and calls the services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from geometry_msgs.msg import Twist, Vector3  # noqa: E402
from mcap.exceptions import EndOfFile, RecordLengthLimitExceeded  # noqa: E402
from mcap.reader import NonSeekingReader, make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from recorder_station import (  # noqa: E402
    TIMEOUT_S,
    Station,
    joint_state,
    metadata_of,
    payloads_of,
    running,
)
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from capture_nodes.recording.cdr import read_child_frames  # noqa: E402
from capture_nodes.recording.mcap_file import ChannelDescription  # noqa: E402
from capture_nodes.recording.recent_messages import Taken  # noqa: E402
from capture_nodes.recording.recovery import recover_all  # noqa: E402
from capture_nodes.recording.stream import Stream  # noqa: E402
from capture_nodes.recording.stream_statistics import PublisherCounts  # noqa: E402
from capture_nodes.recording.tf_stream import TransformTemplate  # noqa: E402
from capture_nodes.resources import robot_description_file  # noqa: E402
from capture_nodes.subscriptions import OVERLAP_S, SubscriptionSet  # noqa: E402
from capture_nodes.topics import latched_qos, stream_qos  # noqa: E402

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "recorder.yaml"


def _joint_states_on_disk(active: Path) -> list[bytes]:
    """What can be read of a file that is still being written."""
    found: list[bytes] = []
    with active.open("rb") as stream, contextlib.suppress(EndOfFile, RecordLengthLimitExceeded, struct.error):
        for _, channel, message in NonSeekingReader(stream).iter_messages(log_time_order=False):
            if channel.topic == "/kestrel/joint_states":
                found.append(message.data)
    return found


def test_every_published_message_is_in_the_file_bit_for_bit(tmp_path: Path) -> None:
    report_path = tmp_path / "report.json"
    config = tmp_path / "recorder.yaml"
    config.write_text(SHIPPED.read_text(encoding="utf-8").replace("encoding: h264", "encoding: raw"))
    arguments = (f"report_path:={report_path}", "operator:=ada", f"config:={config}")
    with running(40, tmp_path, *arguments) as station:
        description = station.publisher(String, "/kestrel/robot_description", latched_qos())
        # Of a length that DDS need not pad to whole words.
        urdf = bytes(serialize_message(String(data="<robot>....")))
        assert len(urdf) % 4 == 0
        description.publish(urdf)
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        tactile = station.publisher(Image, "/kestrel/tactile/left_inner", stream_qos(100))
        camera = station.publisher(Image, "/kestrel/camera/head/image", qos_profile_sensor_data)
        other = station.node.create_publisher(String, "/kestrel/joint_commands", stream_qos(10))
        diagnostics = station.publisher(DiagnosticArray, "/diagnostics", stream_qos(100))
        joints.publish(joint_state(0))  # before the episode: not in the file, but counted
        station.wait(lambda: station.episode is not None, "the episode state")

        episode_id = station.start()
        station.wait(
            lambda: station.episode is not None and station.episode.message == "recording", "recording"
        )
        sent: dict[str, list[bytes]] = {"joints": [], "tactile": [], "camera": []}
        for i in range(1, 301):
            data = joint_state(i)
            joints.publish(data)
            sent["joints"].append(data)
            if i % 2 == 0:
                touch = Image(height=4, width=4, encoding="32FC1", step=16, data=bytes([i % 256]) * 64)
                sent["tactile"].append(bytes(serialize_message(touch)))
                tactile.publish(sent["tactile"][-1])
            if i % 10 == 0:
                frame = Image(height=240, width=320, encoding="rgb8", step=960, data=os.urandom(230_400))
                sent["camera"].append(bytes(serialize_message(frame)))
                camera.publish(sent["camera"][-1])
            station.executor.spin_once(timeout_sec=0.002)
        for publisher in (joints, tactile):
            assert publisher.wait_for_all_acked(Duration(seconds=5))
        values = lambda: {v.key: v.value for v in station.episode.values}  # type: ignore[union-attr] # noqa: E731
        station.wait(
            lambda: "joint_states" in values()["rates"] and int(values()["messages"]) > 300, "live numbers"
        )
        assert values()["id"] == episode_id

        answer = station.call("stop")
        assert answer.success, answer.message
        path = Path(answer.message)
        assert path.exists() and path.stem == episode_id and path.parts[-4:-2] == ("kestrel", "lift")
        station.wait(lambda: station.episode is not None and station.episode.message == "idle", "idle")

        payloads = payloads_of(answer.message)
        assert payloads["/kestrel/joint_states"] == sent["joints"]
        assert payloads["/kestrel/tactile/left_inner"] == sent["tactile"]
        assert payloads["/kestrel/camera/head/image"] == sent["camera"]
        assert payloads["/kestrel/robot_description"] == [urdf]
        assert len(payloads["/tf"]) >= 10 and len(payloads["/tf_static"]) == 1
        assert "/kestrel/joint_commands" not in payloads

        with path.open("rb") as stream:
            reader = make_reader(stream, decoder_factories=[DecoderFactory()])
            summary = reader.get_summary()
            assert summary is not None
            channels = {c.topic: c for c in summary.channels.values()}
            joint_channel = channels["/kestrel/joint_states"]
            assert "reliability: reliable" in joint_channel.metadata["offered_qos_profiles"]
            assert (
                "reliability: best_effort"
                in channels["/kestrel/camera/head/image"].metadata["offered_qos_profiles"]
            )
            assert joint_channel.metadata["topic_type_hash"].startswith("RIHS01_")
            metadata = {m.name: m.metadata for m in reader.iter_metadata()}
            assert {a.name for a in reader.iter_attachments()} == {
                "robot.urdf",
                "robot.yaml",
                "alignment.json.gz",
            }
            list(reader.iter_decoded_messages())
            for _, _, message in reader.iter_messages(topics=["/kestrel/joint_states"]):
                assert message.publish_time <= message.log_time
        assert (metadata["episode"]["operator"], metadata["episode"]["lost"]) == ("ada", "0")
        assert "configured is sensor_msgs/msg/JointState" in metadata["episode"]["refused_topics"]
        row = json.loads(metadata["streams"][f"/kestrel/joint_states {station.gid(joints)}"])
        assert (row["published"], row["received"], row["sequence_before"], row["lost"]) == (300, 300, 1, 0)
        assert row["node"] == "/test_station"

        final = DiagnosticArray()
        final.status = [
            DiagnosticStatus(
                name="/test_station: published",
                hardware_id="final",
                values=[KeyValue(key="/kestrel/joint_states", value=f"301 {station.gid(joints)}")],
            )
        ]
        diagnostics.publish(final)
        assert diagnostics.wait_for_all_acked(Duration(seconds=5))
        station.node.destroy_publisher(other)
        stdout, stderr = station.end()
        assert station.process.returncode == 0, stderr
        report = json.loads(stdout.strip().splitlines()[-1])
        assert report == json.loads(report_path.read_text())
        (row,) = [r for r in report["streams"] if r["topic"] == "/kestrel/joint_states"]
        assert (row["published"], row["received"], row["lost"], row["published_said_by"]) == (
            301,
            301,
            0,
            "publisher",
        )
        assert report["lost"] == report["lost_in_episodes"] == 0
        assert [e["id"] for e in report["episodes"]] == [episode_id]


def test_sigint_completes_the_episode_at_hand_and_discard_keeps_it_apart(tmp_path: Path) -> None:
    with running(41, tmp_path) as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        assert not station.call("stop").success
        station.start()
        again = station.call("start")
        assert not again.success and "stop or discard it first" in again.message
        discarded = station.call("discard")
        assert discarded.success and Path(discarded.message).is_relative_to(tmp_path / ".trash")
        started = station.start()
        joints.publish(joint_state(1))
        assert joints.wait_for_all_acked(Duration(seconds=5))
        _, stderr = station.end(signal.SIGTERM)
        assert station.process.returncode == 0, stderr
    (path,) = (tmp_path / "kestrel").rglob("*.mcap")
    assert path.stem == started and len(payloads_of(str(path))["/kestrel/joint_states"]) == 1
    assert list(tmp_path.rglob("*.active")) == []


def test_a_killed_recorder_leaves_a_file_that_the_next_one_recovers(tmp_path: Path) -> None:
    with running(42, tmp_path) as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        started = station.start()
        sent = [joint_state(i) for i in range(50)]
        for data in sent:
            joints.publish(data)
        assert joints.wait_for_all_acked(Duration(seconds=5))

        (active,) = tmp_path.rglob("*.mcap.active")
        station.wait(lambda: _joint_states_on_disk(active) == sent, "the messages to be on the disk")
        station.process.kill()
        station.process.wait(10)
    with running(42, tmp_path) as station:
        path = active.with_name(active.name.removesuffix(".active"))
        station.wait(lambda: path.exists() and not active.exists(), "the recovery")
        assert path.stem == started
        assert payloads_of(str(path))["/kestrel/joint_states"] == sent
        assert recover_all(tmp_path, print) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["skill:=../up"], "skill '../up' cannot name a folder"),
        (["robot:=kestrell"], "unknown robot 'kestrell'"),
        (["config:=/nowhere/recorder.yaml"], "/nowhere/recorder.yaml: file: cannot be read"),
        (["simulated:=perhaps"], "auto, yes or no is expected"),
        (["command_rate_hz:=-1.0"], "parameter command_rate_hz: -1.0 is given"),
        (["verdict:=discard"], "parameter verdict: 'discard' is given; success, failure or nothing"),
        (["no_such_parameter:=1"], "unknown parameter 'no_such_parameter'"),
    ],
)
def test_bad_parameters_end_with_one_clear_message(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    station = Station(43, [f"root:={tmp_path}", *arguments])
    try:
        _, stderr = station.process.communicate(timeout=TIMEOUT_S)
        assert station.process.returncode == 2
        assert expected in stderr and "error:" in stderr and "Traceback" not in stderr
    finally:
        station.close()


def test_a_folder_that_cannot_be_made_refuses_the_start_and_the_node_lives_on(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file")
    with running(44, blocked) as station:
        with pytest.raises(AssertionError, match=f"{blocked}.*`root`"):
            station.start()
        assert not station.call("stop").success
        stdout, _ = station.end()
        assert (
            station.process.returncode == 0 and json.loads(stdout.strip().splitlines()[-1])["episodes"] == []
        )


def test_verdict_rates_and_real_time_factor_get_into_the_file(tmp_path: Path) -> None:
    rates = ("command_rate_hz:=100", "motion_rate_hz:=72.0", "camera_rate_hz:=15.0")
    with running(45, tmp_path, *rates) as station:
        topics = ("/kestrel/joint_states", "/kestrel/joint_commands")
        publishers = [station.publisher(JointState, topic, stream_qos(200)) for topic in topics]
        diagnostics = station.publisher(DiagnosticArray, "/diagnostics", stream_qos(100))
        values = [KeyValue(key="real_time_factor", value="0.9800")]
        slow = DiagnosticArray(status=[DiagnosticStatus(name="/kestrel/simulated_robot", values=values)])
        assert station.set(verdict="success") == ""
        station.start()
        assert "success, failure or nothing" in station.set(verdict="great")
        for publisher in publishers:
            publisher.publish(joint_state(1))
        diagnostics.publish(slow)
        for publisher in (*publishers, diagnostics):
            assert publisher.wait_for_all_acked(Duration(seconds=5))
        assert station.set(verdict="failure", reason="the robot held") == ""
        metadata = metadata_of(station.call("stop").message)
        episode = metadata["episode"]
        assert (episode["verdict"], episode["reason"]) == ("failure", "the robot held")
        assert episode["real_time_factor"] == "0.9800"
        rows = [json.loads(row) for row in metadata["streams"].values()]
        found = {row["topic"]: row["expected_hz"] for row in rows}
        assert [found[topic] for topic in (*topics, "/tf", "/diagnostics")] == [200.0, 100.0, 50.0, None]

        # A verdict is of one episode only, and none that was set before it.
        station.set(verdict="success")
        station.start()
        episode = metadata_of(station.call("stop").message)["episode"]
        assert (episode["verdict"], episode["reason"]) == ("", "")
        station.start()
        assert station.set(reason="slipped") == ""
        episode = metadata_of(station.call("discard").message)["episode"]
        assert (episode["verdict"], episode["reason"]) == ("discard", "slipped")


def test_the_velocity_of_a_mobile_base_is_recorded(tmp_path: Path) -> None:
    """No line of recorder.yaml names it: the robot's own description does."""
    robot = robot_description_file("kestrel")
    (tmp_path / "kestrel.urdf").write_text(robot.with_name("kestrel.urdf").read_text())
    (tmp_path / "robot.yaml").write_text(f"{robot.read_text()}base: {{topic: wheels/cmd_vel}}\n")
    with running(48, tmp_path / "data", f"robot:={tmp_path / 'robot.yaml'}") as station:
        twists = station.publisher(Twist, "/kestrel/wheels/cmd_vel", stream_qos(200))
        station.start()
        sent = [Twist(linear=Vector3(x=0.01 * i)) for i in range(20)]
        for twist in sent:
            twists.publish(twist)
        assert twists.wait_for_all_acked(Duration(seconds=5))
        payloads = payloads_of(station.call("stop").message)["/kestrel/wheels/cmd_vel"]
        assert [deserialize_message(data, Twist) for data in payloads] == sent


def test_tf_of_a_headset_is_recorded_beside_the_robots(tmp_path: Path) -> None:
    """The wheels have no tf2_msgs: its bytes are published, and taken, as those of another type."""
    config = tmp_path / "recorder.yaml"
    config.write_text(
        "topics:\n"
        "  joint_states: {type: sensor_msgs/msg/JointState, rate_hz: 200}\n"
        "  /tf: {type: std_msgs/msg/String, rate_hz: 100}\n"
    )
    with running(46, tmp_path / "data", f"config:={config}") as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        tf = station.publisher(String, "/tf", stream_qos(100))
        template = TransformTemplate([("trainer", "trainer/head")])
        station.start()
        sent = []
        for i in range(100):
            joints.publish(joint_state(i))
            sent.append(template.message(time.time_ns(), [[0.001 * i, 0, 1.6, 0, 0, 0, 1]]))
            tf.publish(sent[-1])
            station.executor.spin_once(timeout_sec=0.005)
        for publisher in (joints, tf):
            assert publisher.wait_for_all_acked(Duration(seconds=5))
        answer = station.call("stop")
        payloads = payloads_of(answer.message)
        assert [data for data in payloads["/tf"] if data in sent] == sent
        own = [read_child_frames(data) for data in payloads["/tf"] if data not in sent]
        assert len(own) >= 10 and all("trainer" in frames and len(frames) > 10 for frames in own)
        assert len(payloads["/tf_static"]) == 1


def test_a_stream_is_whole_when_another_publisher_makes_its_reader_be_replaced(tmp_path: Path) -> None:
    with running(47, tmp_path) as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        station.start()
        best_effort = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
        gid = station.gid(joints)
        sent = []
        other: Any = None
        deadline_s = time.monotonic() + 3.0
        while time.monotonic() < deadline_s:
            sent.append(joint_state(len(sent)))
            joints.publish(sent[-1])
            if len(sent) == 100:
                other = station.node.create_publisher(JointState, "/kestrel/joint_states", best_effort)
            station.executor.spin_once(timeout_sec=0.005)
        assert joints.wait_for_all_acked(Duration(seconds=5))
        # A best-effort reader acknowledges nothing: what it has to deliver is waited for.
        station.wait(
            lambda: any(
                v.key == "messages" and int(v.value) > len(sent)
                for v in station.episode.values  # type: ignore[union-attr]
            ),
            "all messages",
        )
        assert other.get_subscription_count() > 0
        answer = station.call("stop")
        assert payloads_of(answer.message)["/kestrel/joint_states"] == sent
        row = json.loads(metadata_of(answer.message)["streams"][f"/kestrel/joint_states {gid}"])
        assert (row["received"], row["lost"]) == (len(sent), 0)


def test_a_publisher_that_appears_inside_an_episode_has_its_qos_and_type_hash_in_the_file(
    tmp_path: Path,
) -> None:
    """Its first message comes before the recorder looks at the graph again, which it does once a second."""
    with running(63, tmp_path) as station:
        joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
        station.start()
        joints.publish(joint_state(0))
        late = station.node.create_publisher(JointState, "/kestrel/joint_commands", stream_qos(200))
        station.wait(lambda: late.get_subscription_count() > 0, "the recorder to be connected")
        late.publish(joint_state(1))
        assert late.wait_for_all_acked(Duration(seconds=5))
        answer = station.call("stop")
        with Path(answer.message).open("rb") as stream:
            summary = make_reader(stream).get_summary()
        assert summary is not None
        channels = {channel.topic: channel.metadata for channel in summary.channels.values()}
        assert channels["/kestrel/joint_commands"] == channels["/kestrel/joint_states"]
        assert channels["/kestrel/joint_commands"]["topic_type_hash"].startswith("RIHS01_")


class _Handle:
    """Of a subscription: what waits in it, and how many publishers it hears."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, dict[str, Any]]] = deque()
        self.publishers = 1

    def put(self, gid: bytes, sequence: int | None) -> None:
        number = sequence or 0
        info = {
            "publication_sequence_number": sequence,
            "source_timestamp": number,
            "received_timestamp": number,
            "publisher_gid": {"data": gid},
        }
        self.waiting.append((gid + b" %d" % number, info))

    def take_message(self, _type: type, _raw: bool) -> tuple[bytes, dict[str, Any]] | None:
        return self.waiting.popleft() if self.waiting else None

    def get_publisher_count(self) -> int:
        return self.publishers


class _Subscription:
    def __init__(self) -> None:
        self.handle = _Handle()


class _Node:
    def __init__(self) -> None:
        self.subscriptions: list[_Subscription] = []
        self.destroyed: list[_Subscription] = []

    def create_subscription(self, *_: Any, **__: Any) -> _Subscription:
        self.subscriptions.append(_Subscription())
        return self.subscriptions[-1]

    def destroy_subscription(self, subscription: _Subscription) -> None:
        self.destroyed.append(subscription)


class _Endpoint:
    def __init__(self) -> None:
        self.qos_profile = qos_profile_sensor_data


def test_a_replaced_reader_is_emptied_and_nothing_is_taken_twice() -> None:
    node = _Node()
    readers = SubscriptionSet(node, history_s=1.0)  # type: ignore[arg-type]
    stream = Stream(ChannelDescription("/a", "std_msgs/msg/String", ""))
    taken: list[bytes] = []

    def take(_: Stream, messages: list[Taken]) -> None:
        for data, _source, _received, number, gid in messages:
            stream.publishers.setdefault(gid, PublisherCounts("/a", gid.hex())).saw(number, len(data))
            taken.append(bytes(data))

    readers.add(stream, String, None, latched=True)
    old = node.subscriptions[0].handle
    old.put(b"p", 1)
    readers.drain(take)
    old.put(b"p", 2)
    assert "BEST_EFFORT" in readers.adapt(stream, [_Endpoint()])  # type: ignore[list-item]
    new = node.subscriptions[1].handle
    new.publishers = 0
    old.put(b"p", 3)
    readers.drain(take)
    assert taken == [b"p 1", b"p 2", b"p 3"]

    # The new one has joined, gets what was latched again, and the next ones beside the old one.
    new.publishers = 2
    for number in (3, 4, 5):
        new.put(b"p", number)
    for number in (4, 5, 6):
        old.put(b"p", number)
    new.put(b"q", 1)
    readers.drain(take)
    for handle in (new, old):
        handle.put(b"u", None)
    new.put(b"p", 6)
    readers.drain(take)
    assert taken[3:] == [b"p 4", b"p 5", b"p 6", b"q 1", b"u 0"]

    now_s = time.monotonic()
    readers.retire(now_s)
    assert node.destroyed == [] and len(readers._taken) == 2
    new.publishers = 0
    readers.retire(now_s + OVERLAP_S)
    assert len(readers._taken) == 2, "the publishers are not known to have found the new reader"
    new.publishers = 2
    readers.retire(now_s + OVERLAP_S)
    readers.retire(now_s + OVERLAP_S)
    assert node.destroyed == [], "the taking thread may still be in it"
    old.put(b"p", 7)
    new.put(b"p", 6)
    new.put(b"p", 7)
    readers.drain(take)
    readers.drain(take)
    readers.retire(now_s + OVERLAP_S)
    assert taken[8:] == [b"p 7"] and node.destroyed == [node.subscriptions[0]]
    new.put(b"p", 8)
    readers.drain(take)
    assert taken[9:] == [b"p 8"]
    readers.destroy()
    assert node.destroyed == node.subscriptions
