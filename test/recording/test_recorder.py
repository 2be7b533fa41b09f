"""The recorder without ROS: the test plays the middleware."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import (
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileOptions,
    LockedFile,
)
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.recordings_folder import purge_trash
from capture_nodes.recording.recovery import recover
from capture_nodes.recording.sidecar import read_sidecar, sidecar_path
from capture_nodes.recording.stream import Stream
from capture_nodes.recording.tf_stream import TF_TYPE, TfStream, TransformTemplate
from episodes.bag import read_bag
from episodes.streams_check import check_streams
from retargeting.robot_model import RobotModel

Channel = Callable[[str, str], ChannelDescription]
GID = bytes(range(16))
FIELDS = EpisodeFields(
    robot="kestrel", skill="lift", operator="ada", versions={"python": "3"}, simulated=True
)
STRING = "std_msgs/msg/String"
JOINT_STATE = "sensor_msgs/msg/JointState"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


def _configuration(**changes: Any) -> RecorderConfiguration:
    values = {
        "topics": (),
        "min_free_bytes": 0,
        "file": FileOptions(flush_s=0.05),
        "pre_roll_s": 0.0,
        "post_roll_s": 0.0,
        **changes,
    }
    return RecorderConfiguration(**values)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path, _configuration(), (Attachment("robot.yaml", "application/yaml", b"name: x"),))
    yield made
    made.close()


def _with_tf(root: Path, channel: Channel, robot: RobotModel, **changes: Any) -> Recorder:
    tf, tf_static = (channel(topic, TF_TYPE) for topic in ("/tf", "/tf_static"))
    return Recorder(root, _configuration(**changes), (), TfStream(robot), tf, tf_static)


def _take(
    recorder: Recorder, stream: Stream, sequence: int, data: bytes = b"\0\1\0\0", gid: bytes = GID
) -> None:
    now_ns = time.time_ns()
    with recorder.taking():
        recorder.take(stream, data, now_ns - 1000, now_ns, sequence, gid)


def _finish(recorder: Recorder, result: Future[Path], timeout_s: float = 5.0) -> Path:
    """Rounds of an idle taking thread until the file has its name."""
    deadline_s = time.monotonic() + timeout_s
    while not result.done() and time.monotonic() < deadline_s:
        with recorder.taking():
            recorder.pass_done()
    return result.result(timeout=timeout_s)


def _messages(path: Path) -> list[tuple[str, int, bytes]]:
    with path.open("rb") as stream:
        return [(c.topic, m.sequence, m.data) for _, c, m in make_reader(stream).iter_messages()]


def _metadata(path: Path) -> dict[str, dict[str, str]]:
    with path.open("rb") as stream:
        return {m.name: m.metadata for m in make_reader(stream).iter_metadata()}


def test_an_episode_holds_what_arrived_between_start_and_stop(recorder: Recorder, channel: Channel) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    assert recorder.status().state == "idle"
    _take(recorder, stream, 1, b"before")
    episode_id = recorder.start(FIELDS)
    assert recorder.status().state == "recording" and recorder.status().id == episode_id
    for number in (2, 3, 5):
        _take(recorder, stream, number, b"inside %d" % number)
    result = recorder.stop()
    assert recorder.status().state == "finishing"
    _take(recorder, stream, 7, b"after")
    path = _finish(recorder, result)
    assert recorder.status().state == "idle"
    assert path.name == f"{episode_id}.mcap" and path.parts[-4:-2] == ("kestrel", "lift")
    assert _messages(path) == [("/a", n, b"inside %d" % n) for n in (2, 3, 5)]
    metadata = _metadata(path)
    episode = metadata["episode"]
    assert (episode["id"], episode["operator"], episode["simulated"], episode["lost"]) == (
        episode_id,
        "ada",
        "true",
        "2",
    )
    assert int(episode["start_ns"]) < int(episode["end_ns"])
    assert json.loads(episode["topics"]) == {"/a": {"published": 5, "received": 3, "written": 3, "lost": 2}}
    row = json.loads(metadata["streams"][f"/a {GID.hex()}"])
    assert (row["sequence_before"], row["first_sequence"], row["last_sequence"], row["sequence_after"]) == (
        1,
        2,
        5,
        7,
    )
    assert row["lost_in"] == {"middleware": 2, "queue": 0, "disk": 0} and row["tail_known"]


def test_starting_twice_and_stopping_nothing_are_refused(recorder: Recorder) -> None:
    with pytest.raises(CaptureError, match="no episode is being recorded"):
        recorder.stop()
    first = recorder.start(FIELDS)
    with pytest.raises(CaptureError, match=f"{first} is being recorded: stop or discard it"):
        recorder.start(FIELDS)
    _finish(recorder, recorder.stop())


def test_the_next_episode_may_start_while_the_last_is_finished(recorder: Recorder, channel: Channel) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    recorder.start(FIELDS)
    _take(recorder, stream, 1, b"one")
    first = recorder.stop()
    recorder.start(FIELDS)
    _take(recorder, stream, 2, b"two")
    second = recorder.stop()
    assert _messages(_finish(recorder, first)) == [("/a", 1, b"one")]
    assert _messages(_finish(recorder, second)) == [("/a", 2, b"two")]


def test_a_message_received_before_the_stop_but_taken_after_it_belongs_inside(
    recorder: Recorder, channel: Channel
) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    recorder.start(FIELDS)
    received_ns = time.time_ns()
    result = recorder.stop()
    with recorder.taking():
        recorder.take(stream, b"late taken", received_ns, received_ns, 1, GID)
    assert _messages(_finish(recorder, result)) == [("/a", 1, b"late taken")]


def test_a_message_repaired_after_the_stop_leaves_no_hole(recorder: Recorder, channel: Channel) -> None:
    """The middleware hands 3, which came before the stop, over after 2, which had to be sent again."""
    stream = recorder.streams.add(channel("/a", STRING))
    recorder.start(FIELDS)
    _take(recorder, stream, 1)
    before_ns = time.time_ns()
    result = recorder.stop()
    after_ns = time.time_ns() + 1
    with recorder.taking():
        recorder.take(stream, b"\0\1\0\0", before_ns - 2000, after_ns, 2, GID)
        recorder.take(stream, b"\0\1\0\0", before_ns - 1000, before_ns, 3, GID)
    path = _finish(recorder, result)
    assert [number for _, number, _ in _messages(path)] == [1]
    row = json.loads(_metadata(path)["streams"][f"/a {GID.hex()}"])
    assert (row["last_sequence"], row["sequence_after"], row["lost"]) == (1, 2, 0)


def test_latched_messages_are_repeated_in_every_episode(recorder: Recorder, channel: Channel) -> None:
    latched = recorder.streams.add(channel("/robot_description", STRING), latched=True)
    _take(recorder, latched, 1, b"old")
    _take(recorder, latched, 2, b"new")
    for _ in range(2):
        recorder.start(FIELDS)
        path = _finish(recorder, recorder.stop())
        assert _messages(path) == [("/robot_description", 2, b"new")]
        row = json.loads(_metadata(path)["streams"][f"/robot_description {GID.hex()}"])
        assert (row["repeated"], row["received"], row["lost"]) == (1, 0, 0)
    # A new publisher replaces what the one that is gone had latched.
    other = bytes(16)
    _take(recorder, latched, 1, b"newest", other)
    recorder.streams.describe(latched, {}, {other.hex(): "/r/node"})
    recorder.start(FIELDS)
    assert _messages(_finish(recorder, recorder.stop())) == [("/robot_description", 1, b"newest")]


def test_a_discarded_episode_goes_to_the_trash_for_a_while(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(FIELDS)
    path = _finish(recorder, recorder.stop(discard=True))
    assert path.is_relative_to(tmp_path / ".trash" / "kestrel")
    assert purge_trash(tmp_path, 1.0) == [] and path.exists()
    old_s = time.time() - 7200
    # However old its file is: it was discarded just now.
    os.utime(path, (old_s, old_s))
    assert purge_trash(tmp_path, 1.0) == []
    assert purge_trash(tmp_path, 0.0) == [path] and not path.exists()


def test_too_little_space_refuses_the_start(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, _configuration(min_free_bytes=1 << 60))
    try:
        with pytest.raises(CaptureError, match=rf"disk of {tmp_path} has \d+ MB left.*free space.*`root`"):
            recorder.start(FIELDS)
        assert recorder.status().state == "idle" and list(tmp_path.rglob("*.mcap*")) == []
    finally:
        recorder.close()


def test_a_disk_that_fails_midway_is_told_and_counted(
    recorder: Recorder, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    recorder.start(FIELDS)
    _take(recorder, stream, 1, b"safe")
    active = Path(recorder.status().path + ".active")
    deadline_s = time.monotonic() + 5
    while recorder.status().bytes == 0 and time.monotonic() < deadline_s:
        pass

    def full(_self: LockedFile, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LockedFile, "write", full)
    _take(recorder, stream, 2, b"lost")
    while not recorder.status().problem and time.monotonic() < deadline_s:
        pass
    _take(recorder, stream, 3, b"lost too")
    assert "ENOSPC" in recorder.status().problem and "free space" in recorder.status().problem
    result = recorder.stop()
    with pytest.raises(CaptureError, match=r"ENOSPC.*kept and recovered at the next start"):
        _finish(recorder, result)
    assert active.exists()
    report = recorder.report()
    assert report["episodes"][0]["problem"]
    assert report["episodes"][0]["topics"]["/a"] == {"published": 3, "received": 3, "written": 1, "lost": 2}


def test_a_full_queue_refuses_and_counts(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, _configuration(queue_limit_bytes=100))
    try:
        stream = recorder.streams.add(channel("/a", STRING))
        recorder.start(FIELDS)
        gate: Future[None] = Future()
        write = EpisodeFile.write

        def slow(self: EpisodeFile, *args: Any) -> bool:
            gate.result(timeout=5)
            return write(self, *args)

        monkeypatch.setattr(EpisodeFile, "write", slow)
        for number in range(1, 11):
            _take(recorder, stream, number, b"x" * 40)
        result = recorder.stop()
        gate.set_result(None)
        path = _finish(recorder, result)
        counts = json.loads(_metadata(path)["episode"]["topics"])["/a"]
        assert counts == {"published": 10, "received": 10, "written": 3, "lost": 7}
        assert len(_messages(path)) == 3
        row = json.loads(_metadata(path)["streams"][f"/a {GID.hex()}"])
        assert row["lost_in"] == {"middleware": 0, "queue": 7, "disk": 0}
    finally:
        recorder.close()


def test_who_says_to_be_publishing_and_is_not_heard_is_named(
    recorder: Recorder, channel: Channel, final_counts: Callable[..., bytes]
) -> None:
    diagnostics = recorder.streams.add(channel("/diagnostics", DIAGNOSTICS), role="diagnostics")
    stream = recorder.streams.add(channel("/a", STRING))
    number = 0

    def report(kind: str = "running", age_ns: int = 0, **counts: int) -> None:
        nonlocal number
        number += 1
        values = {f"/{name}": f"{count} {GID.hex()}" for name, count in counts.items()}
        received_ns = time.time_ns() - age_ns
        with recorder.taking():
            data = final_counts("/x", values, kind)
            recorder.take(diagnostics, data, received_ns, received_ns, number, b"d" * 16)

    report(a=5, b=5, c=5)
    # It has published; whether it goes on, the next report tells.
    assert recorder.unheard() == ["/a", "/b", "/c"]
    report(a=9, b=9, c=5)
    # /c has been silent for a while, and of /b the recorder has not even heard that there is such a topic.
    assert recorder.unheard() == ["/a", "/b"]
    _take(recorder, stream, 10)
    assert recorder.unheard() == ["/b"]
    # Who does not report any more may be gone.
    report(age_ns=10_000_000_000, b=12)
    assert recorder.unheard() == []


def test_final_counts_reach_the_report(
    recorder: Recorder, channel: Channel, final_counts: Callable[..., bytes]
) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    diagnostics = recorder.streams.add(
        channel("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"), role="diagnostics"
    )
    _take(recorder, stream, 1)
    recorder.start(FIELDS)
    _take(recorder, stream, 2)
    result = recorder.stop()
    _finish(recorder, result)
    gid = GID.hex()
    _take(recorder, diagnostics, 1, final_counts("/x", {"/a": f"2 {gid}"}, "running"), b"d" * 16)
    assert recorder.waiting_for_final(frozenset({gid})) == [gid]
    _take(recorder, diagnostics, 2, final_counts("/x", {"/a": f"6 {gid}", "/other": "9 ff"}), b"d" * 16)
    assert recorder.waiting_for_final(frozenset({gid})) == []
    report = recorder.report()
    (row,) = [r for r in report["streams"] if r["topic"] == "/a"]
    assert (row["published"], row["received"], row["lost"], row["published_said_by"]) == (
        6,
        2,
        4,
        "publisher",
    )
    assert not [r for r in report["streams"] if r["topic"] == "/other"]
    assert report["episodes"][0]["topics"]["/a"]["lost"] == 4
    json.dumps(report)


def test_random_drops_are_counted_over_many_episodes(recorder: Recorder, channel: Channel) -> None:
    rng = random.Random(11)
    stream = recorder.streams.add(channel("/a", STRING))
    sequence, received, kept = 0, 0, 0
    windows = []
    for _ in range(6):
        recorder.start(FIELDS)
        for _ in range(rng.randrange(30)):
            sequence += 1
            if rng.random() < 0.7 or sequence == 1:
                _take(recorder, stream, sequence)
                received += 1
                kept += 1
        windows.append(_finish(recorder, recorder.stop()))
        sequence += 1
        _take(recorder, stream, sequence)
        received += 1
    report = recorder.report()
    (row,) = [r for r in report["streams"] if r["topic"] == "/a"]
    assert (row["published"], row["received"], row["lost"]) == (sequence, received, sequence - received)
    assert sum(len(_messages(path)) for path in windows) == kept
    # Between two episodes everything arrived, so the episodes have all of the losses between them.
    assert report["lost_in_episodes"] == sequence - received


def test_tf_reaches_beyond_the_last_stamp_however_late_the_joints_come(
    tmp_path: Path, channel: Channel, kestrel: RobotModel, joint_state: Callable[..., bytes]
) -> None:
    recorder = _with_tf(tmp_path, channel, kestrel, tail_s=1.0)
    try:
        joints = recorder.streams.add(
            channel("/k/joint_states", "sensor_msgs/msg/JointState"), role="joint_states"
        )
        number = 0

        def tick(late_ns: int) -> int:
            nonlocal number
            number += 1
            stamp_ns = time.time_ns() - late_ns
            data = joint_state(stamp_ns, ["waist_yaw"], [0.1])
            with recorder.taking():
                recorder.take(joints, data, stamp_ns, time.time_ns(), number, GID)
                recorder.pass_done()
            return stamp_ns

        tick(30_000_000)
        recorder.start(FIELDS)
        result = recorder.stop()
        while not result.done():
            tick(30_000_000)
        path = result.result()
        end_ns = int(_metadata(path)["episode"]["end_ns"])
        with path.open("rb") as stream:
            stamps = [
                d.decoded_message.transforms[0].header.stamp
                for d in make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
                if d.channel.topic == "/tf"
            ]
        # A scheduled stamp may lead the clock by some milliseconds; none leads by more.
        last_ns = max(stamp.sec * 10**9 + stamp.nanosec for stamp in stamps)
        assert last_ns > end_ns + 5_000_000
    finally:
        recorder.close()


def test_tf_surrounds_the_episode_and_joins_the_trainer(
    tmp_path: Path,
    channel: Channel,
    kestrel: RobotModel,
    joint_state: Callable[..., bytes],
    diagnostic_status: Callable[..., bytes],
) -> None:
    recorder = _with_tf(tmp_path, channel, kestrel)
    try:
        joints = recorder.streams.add(
            channel("/k/joint_states", "sensor_msgs/msg/JointState"), role="joint_states"
        )
        state = recorder.streams.add(
            channel("/k/retargeting/state", "diagnostic_msgs/msg/DiagnosticStatus"), True, "retargeting_state"
        )
        ticked_ns: list[int] = []
        number = 0

        def tick() -> None:
            nonlocal number
            number += 1
            now_ns = time.time_ns()
            ticked_ns.append(now_ns)
            with recorder.taking():
                recorder.take(
                    joints, joint_state(now_ns, ["waist_yaw"], [0.1 * number]), now_ns, now_ns, number, GID
                )
                recorder.pass_done()

        def run(seconds: float) -> None:
            deadline_s = time.monotonic() + seconds
            while time.monotonic() < deadline_s:
                tick()

        run(0.15)
        recorder.start(FIELDS)
        run(0.1)
        _take(
            recorder,
            state,
            1,
            diagnostic_status("/k/retargeting", "tracking", {"transform_trainer_to_base": "1 2 3 0 0 0 1"}),
        )
        run(0.1)
        result = recorder.stop()
        while not result.done():
            tick()
        path = result.result()
        episode = _metadata(path)["episode"]
        with path.open("rb") as stream:
            decoded = [
                (d.channel.topic, d.message.log_time, d.decoded_message)
                for d in make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
                if d.channel.topic.startswith("/tf")
            ]
        assert [topic for topic, _, _ in decoded].count("/tf_static") == 1 and decoded[0][0] == "/tf_static"
        stamps = [
            m.transforms[0].header.stamp.sec * 10**9 + m.transforms[0].header.stamp.nanosec
            for topic, _, m in decoded
            if topic == "/tf"
        ]
        start_ns, end_ns = int(episode["start_ns"]), int(episode["end_ns"])
        assert stamps == sorted(set(stamps))
        assert stamps[0] < start_ns - 50_000_000 and stamps[-1] >= end_ns
        inside = sum(start_ns <= s <= end_ns for s in stamps)
        ticks = [n for n in ticked_ns if start_ns <= n <= end_ns]
        # A machine that stood still had no samples to thin, and the sample after that comes late: the next
        # one is nearer to it than a period. A sample may be an eighth early.
        still_ns = sum(b - a for a, b in pairwise(ticks) if b - a > 10_000_000)
        assert abs(inside - (end_ns - start_ns) / 20e6) <= 1.125 + still_ns / 20e6
        trainer = [
            t.transform.translation.x
            for _, _, m in decoded
            for t in m.transforms
            if t.child_frame_id == "trainer"
        ]
        assert trainer[0] == 0.0 and trainer[-1] == 1.0 and trainer == sorted(trainer)
        assert json.loads(episode["topics"])["/tf"]["lost"] == 0
    finally:
        recorder.close()


def _children(path: Path, topic: str) -> list[set[str]]:
    """Child frames of every message of a TF topic."""
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        return [
            {t.child_frame_id for t in m.decoded_message.transforms}
            for m in reader.iter_decoded_messages(topics=[topic])
        ]


def test_transforms_of_others_are_recorded_beside_our_own(
    tmp_path: Path, channel: Channel, kestrel: RobotModel, joint_state: Callable[..., bytes]
) -> None:
    """A headset's trainer frames change nothing; of what a robot driver publishes we write none ourselves."""
    recorder = _with_tf(tmp_path, channel, kestrel)
    try:
        joints = recorder.streams.add(channel("/k/joint_states", JOINT_STATE), role="joint_states")
        tf = recorder.streams.add(channel("/tf", TF_TYPE), role="transforms", rate_hz=300.0)
        number = 0
        identity = [0, 0, 0, 0, 0, 0, 1]
        link = next(f"kestrel/{j.child}" for j in kestrel.urdf.joints.values() if j.kind != "fixed")

        def tick(*frames: tuple[str, str]) -> bytes:
            nonlocal number
            number += 1
            now_ns = time.time_ns()
            foreign = TransformTemplate(frames).message(now_ns, [identity] * len(frames))
            with recorder.taking():
                recorder.take(tf, foreign, now_ns, now_ns, number, b"f" * 16)
                data = joint_state(now_ns, ["waist_yaw"], [0.1])
                # A joint state of 20 ms of its own each, so that every one becomes a /tf.
                recorder.take(joints, data, number * 20_000_000, now_ns, number, GID)
                recorder.pass_done()
            return foreign

        def episode(*frames: tuple[str, str]) -> tuple[Path, list[bytes]]:
            recorder.start(FIELDS)
            sent = [tick(*frames) for _ in range(3)]
            return _finish(recorder, recorder.stop()), sent

        path, sent = episode(("trainer", "trainer/head"))
        written = _messages(path)
        assert [data for topic, _, data in written if topic == "/tf" and data in sent] == sent
        own = [children for children in _children(path, "/tf") if children != {"trainer/head"}]
        assert len(own) == 3 and all({link, "trainer"} <= children for children in own)
        assert len(_children(path, "/tf_static")) == 1

        path, sent = episode(("world", link))
        assert [data for topic, _, data in _messages(path) if topic == "/tf" and data in sent] == sent
        # Frames have one parent: this one is the other's, the rest stay ours.
        own = [children for children in _children(path, "/tf") if children != {link}]
        assert len(own) >= 3 and {"trainer"} <= own[-1] and link not in own[-1]

        rows = [json.loads(row) for row in _metadata(path)["streams"].values()]
        assert [row["expected_hz"] for row in rows if row["topic"] == "/tf"] == [None, None]
        assert json.loads(_metadata(path)["episode"]["topics"])["/tf"]["lost"] == 0
    finally:
        recorder.close()


def test_odd_messages_end_neither_the_threads_nor_the_episode(
    tmp_path: Path,
    channel: Channel,
    kestrel: RobotModel,
    joint_state: Callable[..., bytes],
    diagnostic_status: Callable[..., bytes],
    final_counts: Callable[..., bytes],
) -> None:
    recorder = _with_tf(tmp_path, channel, kestrel)
    try:
        joints = recorder.streams.add(channel("/k/joint_states", JOINT_STATE), role="joint_states")
        state = recorder.streams.add(
            channel("/k/retargeting/state", "diagnostic_msgs/msg/DiagnosticStatus"), True, "retargeting_state"
        )
        diagnostics = recorder.streams.add(channel("/diagnostics", DIAGNOSTICS), role="diagnostics")
        tf = recorder.streams.add(channel("/tf_static", TF_TYPE), True, "transforms")
        recorder.start(FIELDS)
        before_1970 = joint_state(-5_000_000_000, ["waist_yaw"], [0.1])
        _take(recorder, joints, 1, before_1970)
        _take(recorder, state, 1, diagnostic_status("/k/r", "x", {"transform_trainer_to_base": "1 2"}))
        _take(recorder, diagnostics, 1, final_counts("/x", {"/k/joint_states": "² ab", "/a": "9" * 6000}))
        _take(recorder, diagnostics, 2, b"\0\1\0\0: published")
        _take(recorder, tf, 1, b"\0\1\0\0\7")
        with recorder.taking():
            recorder.take(joints, before_1970, -1, time.time_ns(), 2, GID)
        path = _finish(recorder, recorder.stop())
        topics = [topic for topic, _, _ in _messages(path)]
        assert {topic: topics.count(topic) for topic in topics} == {
            "/k/joint_states": 1,
            "/k/retargeting/state": 1,
            "/diagnostics": 2,
            "/tf_static": 2,
            "/tf": 1,
        }
        episode = _metadata(path)["episode"]
        assert episode["lost"] == "1"
        refused = json.loads(episode["refused_topics"])
        assert set(refused) == {"/k/joint_states", "/k/retargeting/state", "/diagnostics", "/tf_static"}
        assert "could not be used: 1" in refused["/k/joint_states"] and "-1 ns" in refused["/k/joint_states"]
        assert recorder.report()["refused_topics"] == refused
    finally:
        recorder.close()


@pytest.mark.parametrize("broken", ["write", "flush_if_due", "_register"])
def test_whatever_goes_wrong_while_writing_the_stop_is_answered(
    recorder: Recorder, channel: Channel, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    stream = recorder.streams.add(channel("/a", STRING))
    recorder.start(FIELDS)
    active = recorder.status().path + ".active"

    def fail(*_: Any) -> None:
        raise OverflowError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeFile, broken, fail)
        _take(recorder, stream, 1, b"data")
        deadline_s = time.monotonic() + 5
        while recorder.status().backlog_bytes and time.monotonic() < deadline_s:
            pass
        while broken != "write" and not recorder.status().problem and time.monotonic() < deadline_s:
            pass
    _take(recorder, stream, 2, b"more")
    if broken == "write":
        path = _finish(recorder, recorder.stop())
        assert _messages(path) == [("/a", 2, b"more")] and _metadata(path)["episode"]["lost"] == "1"
        assert "OverflowError('odd')" in _metadata(path)["episode"]["refused_topics"]
    else:
        with pytest.raises(CaptureError, match=f"{active} stopped: OverflowError: odd"):
            _finish(recorder, recorder.stop())
    assert recorder.status().state == "idle"


def test_expected_rates_are_in_the_file(
    tmp_path: Path, channel: Channel, kestrel: RobotModel, joint_state: Callable[..., bytes]
) -> None:
    recorder = _with_tf(tmp_path, channel, kestrel)
    joints = recorder.streams.add(channel("/k/joint_states", JOINT_STATE), role="joint_states", rate_hz=25.0)
    state = recorder.streams.add(channel("/k/state", STRING))
    recorder.start(FIELDS)
    active = Path(recorder.status().path + ".active")
    _take(recorder, joints, 1, joint_state(time.time_ns(), ["waist_yaw"], [0.1]))
    _take(recorder, state, 1)
    deadline_s = time.monotonic() + 5
    while recorder.status().bytes == 0 and time.monotonic() < deadline_s:
        pass
    cut = tmp_path / "cut.mcap.active"
    cut.write_bytes(active.read_bytes())
    path = _finish(recorder, recorder.stop())
    recorder.close()
    # /tf is made of joint states, so it cannot be faster than they are.
    expected = {"/k/joint_states": 25.0, "/k/state": None, "/tf": 25.0}
    for found in (path, recover(cut).path):
        rows = [json.loads(row) for row in _metadata(found)["streams"].values()]
        rates = {row["topic"]: row.get("expected_hz") for row in rows}
        assert {topic: rates[topic] for topic in expected} == expected
        assert "expected_hz" not in _metadata(found)["episode"]


def test_the_lowest_real_time_factor_marks_the_episode(
    recorder: Recorder, channel: Channel, simulation_diagnostics: Callable[[str, str], bytes]
) -> None:
    recorder.streams.add(channel("/k/joint_states", JOINT_STATE), role="joint_states")
    diagnostics = recorder.streams.add(channel("/diagnostics", DIAGNOSTICS), role="diagnostics")

    def say(factor: str, node: str = "/k/simulated_robot") -> None:
        _take(recorder, diagnostics, 1, simulation_diagnostics(node, factor))

    say("0.1")
    recorder.start(FIELDS)
    for factor in ("0.9990", "0.9712", "nan", "1.0001"):
        say(factor)
    say("0.5", "/other/simulated_robot")
    result = recorder.stop()
    say("0.2")
    assert _metadata(_finish(recorder, result))["episode"]["real_time_factor"] == "0.9712"
    recorder.start(FIELDS)
    assert "real_time_factor" not in _metadata(_finish(recorder, recorder.stop()))["episode"]
    assert [e["real_time_factor"] for e in recorder.report()["episodes"]] == [0.9712, None]


def test_verdict_and_reason_are_written_at_the_end(recorder: Recorder) -> None:
    recorder.start(FIELDS)
    with pytest.raises(CaptureError, match="'perhaps' is given; '', 'success' or 'failure' is expected"):
        recorder.stop(verdict="perhaps")
    said = []
    for discard, verdict, reason in ((False, "failure", "the robot held"), (False, "", ""), (True, "", "no")):
        path = _finish(recorder, recorder.stop(discard, verdict, reason))
        said.append(tuple(_metadata(path)["episode"][key] for key in ("verdict", "reason")))
        recorder.start(FIELDS)
    assert said == [("failure", "the robot held"), ("", ""), ("discard", "no")]
    _finish(recorder, recorder.stop())
    assert [e["verdict"] for e in recorder.report()["episodes"]] == ["failure", "", "discard", ""]


@pytest.mark.parametrize("when", ["recording", "finished"])
def test_a_discarded_episode_is_no_success_any_more(recorder: Recorder, when: str) -> None:
    episode_id = recorder.start(FIELDS)
    if when == "finished":
        _finish(recorder, recorder.stop(verdict="success"))
    result = recorder.discard_last("slipped")
    for _ in range(2):
        with pytest.raises(CaptureError, match=f"episode {episode_id} is discarded"):
            recorder.say("success")
        path = _finish(recorder, result)
    sidecar = read_sidecar(sidecar_path(path))
    assert sidecar is not None and (sidecar.word.verdict, sidecar.word.reason) == ("discard", "slipped")


def test_what_a_late_found_publisher_had_sent_is_named(recorder: Recorder, channel: Channel) -> None:
    fast = recorder.streams.add(channel("/a", STRING), rate_hz=100.0)
    on_change = recorder.streams.add(channel("/b", STRING))
    _take(recorder, fast, 6)
    recorder.start(FIELDS)
    _take(recorder, fast, 7)
    _take(recorder, fast, 4, gid=b"n" * 16)
    _take(recorder, on_change, 9, gid=b"o" * 16)
    path = _finish(recorder, recorder.stop())
    rows = [json.loads(row) for row in _metadata(path)["streams"].values()]
    assert {row["gid"]: row["not_joined"] for row in rows} == {
        GID.hex(): 0,
        (b"n" * 16).hex(): 3,
        (b"o" * 16).hex(): 8,
    }
    # Only where messages are owed at all times.
    assert recorder.report()["not_joined_in_episodes"] == 3


def test_a_silent_publisher_is_no_passed_episode(recorder: Recorder, channel: Channel) -> None:
    """One that spoke before, one that is only on the graph, one that says it publishes and is not heard."""
    topics = ("/before", "/graph", "/unheard", "/on_change", "/nobody", "/heard")
    rates = {"/on_change": None, "/heard": None}
    before, graph, unheard, on_change, _, heard = (
        recorder.streams.add(channel(topic, STRING), rate_hz=rates.get(topic, 30.0)) for topic in topics
    )
    for k, stream in enumerate((before, graph, unheard, on_change, heard)):
        recorder.streams.describe(stream, {}, {(bytes([k]) * 16).hex(): "/node"})
    for number in range(1, 31):
        _take(recorder, before, number, gid=b"\0" * 16)
    recorder.start(FIELDS)
    for count in (500, 520, 533):
        with recorder.taking():
            recorder.statistics.reported("/unheard", (bytes([2]) * 16).hex(), count, False)
    _take(recorder, heard, 1, gid=bytes([4]) * 16)
    path = _finish(recorder, recorder.stop())
    metadata = _metadata(path)
    rows = {row["topic"]: row for row in map(json.loads, metadata["streams"].values())}
    assert rows.keys() == {"/before", "/graph", "/unheard", "/on_change", "/heard"}
    counts = {topic: (row["published"], row["received"], row["lost"]) for topic, row in rows.items()}
    assert counts["/unheard"] == (33, 0, 33) and rows["/unheard"]["lost_in"]["middleware"] == 33
    assert counts["/before"] == counts["/graph"] == counts["/on_change"] == (0, 0, 0)
    assert metadata["quality"]["verdict"] == "failed"
    assert json.loads(metadata["quality"]["reasons"]) == [
        "/before: silent: no message within the episode, 30 Hz expected",
        "/graph: silent: no message within the episode, 30 Hz expected",
        "/unheard: silent: no message within the episode, 30 Hz expected",
        "/unheard: 33 messages lost (33 in the middleware), at most 0",
    ]
    assert json.loads(metadata["episode"]["topics"])["/unheard"]["lost"] == 33
    problems = check_streams(read_bag(path)).problems
    assert "/before: silent: no message within the episode, 30 Hz expected" in problems
    assert "/unheard: silent: no message within the episode, 30 Hz expected, 33 of 33 lost" in problems
    assert not any("/on_change" in problem or "/nobody" in problem for problem in problems)


def test_what_a_publisher_says_beyond_its_last_message_is_lost(recorder: Recorder, channel: Channel) -> None:
    stream = recorder.streams.add(channel("/a", STRING), rate_hz=30.0)
    recorder.start(FIELDS)
    for number in (1, 2, 3):
        _take(recorder, stream, number)
    with recorder.taking():
        recorder.statistics.reported("/a", GID.hex(), 8, False)
    result = recorder.stop()
    with recorder.taking():
        # Told after the end: of no concern to this episode.
        recorder.statistics.reported("/a", GID.hex(), 20, False, time.time_ns())
    path = _finish(recorder, result)
    row = json.loads(_metadata(path)["streams"][f"/a {GID.hex()}"])
    assert (row["published"], row["received"], row["lost"]) == (8, 3, 5)


def test_a_publisher_that_is_gone_has_no_row_beside_its_successor(
    recorder: Recorder, channel: Channel
) -> None:
    stream = recorder.streams.add(channel("/a", STRING), rate_hz=30.0)
    _take(recorder, stream, 1, gid=b"o" * 16)
    recorder.streams.describe(stream, {}, {(b"n" * 16).hex(): "/node"})
    recorder.start(FIELDS)
    for number in (1, 2):
        _take(recorder, stream, number, gid=b"n" * 16)
    path = _finish(recorder, recorder.stop())
    assert list(_metadata(path)["streams"]) == [f"/a {(b'n' * 16).hex()}"]


def test_messages_refused_in_one_episode_are_not_those_of_the_next(
    recorder: Recorder, channel: Channel
) -> None:
    state = recorder.streams.add(
        channel("/s", "diagnostic_msgs/msg/DiagnosticStatus"), role="retargeting_state"
    )
    refused = []
    for number in (1, 2):
        recorder.start(FIELDS)
        if number == 1:
            _take(recorder, state, number, b"no message")
        path = _finish(recorder, recorder.stop())
        refused.append(json.loads(_metadata(path)["episode"]["refused_topics"]))
    assert "messages that could not be used: 1" in refused[0]["/s"] and refused[1] == {}
    assert "/s" in recorder.report()["refused_topics"]


def test_a_publisher_that_appears_inside_an_episode_is_asked_what_it_offers(
    recorder: Recorder, channel: Channel
) -> None:
    """Its channel stands in the file with its first message, before anybody has looked at the graph again."""
    known, new, unknown = (channel(topic, STRING) for topic in ("/known", "/new", "/unknown"))
    streams = [
        recorder.streams.add(known),
        *(
            recorder.streams.add(ChannelDescription(c.topic, c.type_name, c.schema_text))
            for c in (new, unknown)
        ),
    ]
    asked: list[str] = []

    def offered(stream: Stream) -> dict[str, str]:
        asked.append(stream.topic)
        return {"topic_type_hash": "RIHS01_x"} if stream.topic == "/new" else {}

    recorder.streams.offered = offered
    recorder.start(FIELDS)
    for number in (1, 2, 3):
        for stream in streams:
            _take(recorder, stream, number)
    path = _finish(recorder, recorder.stop())
    with path.open("rb") as stream_of:
        summary = make_reader(stream_of).get_summary()
    assert summary is not None
    channels = {c.topic: dict(c.metadata) for c in summary.channels.values()}
    assert channels == {"/known": known.metadata, "/new": {"topic_type_hash": "RIHS01_x"}, "/unknown": {}}
    assert asked == ["/new", "/unknown"]
