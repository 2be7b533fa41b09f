"""The station's clock is set while the recorder runs: nothing is lost, no episode ends early or never."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mcap.reader import make_reader

from capture_nodes.recording.clock_watch import LEAST_NS, ClockWatch
from capture_nodes.recording.episode_parts import EpisodeParts, SplitLimits
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import ChannelDescription, FileOptions
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.tf_stream import TF_TYPE, TfStream
from episodes.check import CheckOptions, check_episode
from retargeting.robot_model import RobotModel

FIELDS = EpisodeFields(robot="kestrel", skill="lift")
STRING = "std_msgs/msg/String"
JOINT_STATE = "sensor_msgs/msg/JointState"
GIDS = [bytes([number] * 16) for number in range(2)]
PRE_ROLL_S, POST_ROLL_S = 0.2, 0.15
JUMPS_S = (-5.0, 3600.0, -3600.0)
# Between two clocks that are read one after the other.
SLACK_S = 0.02

Result = TypeVar("Result")
# By the steady clock, s.
Asked = tuple[float, float]
Channel = Callable[[str, str], ChannelDescription]


class Clock:
    """The system's, which can be set; the steady one runs on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_ns = 0
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.ahead_ns)

    def set(self, by_s: float) -> None:
        self.ahead_ns += round(by_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Middleware:
    """Two publishers, a message of each every millisecond; when they came is remembered by both clocks."""

    def __init__(self, recorder: Recorder, channel: Channel) -> None:
        self.recorder = recorder
        self.stream = recorder.streams.add(channel("/a", STRING), rate_hz=1000.0)
        self.came: list[tuple[float, int]] = []

    def publish(self) -> list[tuple[bytes, int, int]]:
        """What the middleware has received and nobody has taken yet."""
        received_ns = time.time_ns()
        self.came.append((time.monotonic(), received_ns))
        return [(gid, len(self.came), received_ns) for gid in GIDS]

    def take(self, received: list[tuple[bytes, int, int]]) -> None:
        with self.recorder.taking():
            for gid, number, received_ns in received:
                data = b"\0\1\0\0" + gid + number.to_bytes(8, "little")
                self.recorder.take(self.stream, data, received_ns - 1000, received_ns, number, gid)
            self.recorder.pass_done()

    def while_(self, going_on: Callable[[], bool]) -> None:
        due_s = time.monotonic()
        while going_on():
            due = time.monotonic() >= due_s
            if due:
                due_s += 0.001
            self.take(self.publish() if due else [])

    def run(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.while_(lambda: time.monotonic() < end_s)

    def until(self, result: Future[Path], timeout_s: float = 5.0) -> Path:
        end_s = time.monotonic() + timeout_s
        self.while_(lambda: not result.done() and time.monotonic() < end_s)
        return result.result(timeout=0)

    def between(self, begin_s: float, end_s: float) -> list[int]:
        """What came between two moments of the steady clock."""
        return [number for number, (at, _) in enumerate(self.came, 1) if begin_s <= at <= end_s]

    def asked(self, control: Callable[[], Result]) -> tuple[Result, Asked]:
        """What is asked of the recorder, and between which two moments."""
        before_s = time.monotonic()
        result = control()
        return result, (before_s, time.monotonic())


def _recorder(root: Path, **changes: Any) -> Recorder:
    values: dict[str, Any] = {
        "topics": (),
        "min_free_bytes": 0,
        "file": FileOptions(flush_s=0.02),
        "pre_roll_s": PRE_ROLL_S,
        "post_roll_s": POST_ROLL_S,
        **changes,
    }
    return Recorder(root, RecorderConfiguration(**values))


@pytest.fixture
def recorder(clock: Clock, tmp_path: Path) -> Iterator[Recorder]:
    made = _recorder(tmp_path)
    yield made
    made.close()


def _read(path: Path) -> tuple[dict[bytes, list[int]], dict[str, dict[str, str]]]:
    """Numbers of each publisher in the order of the file, and the metadata."""
    found: dict[bytes, list[int]] = {}
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        for _, channel, message in reader.iter_messages(log_time_order=False):
            if channel.topic == "/a":
                number = int.from_bytes(message.data[20:28], "little")
                found.setdefault(message.data[4:20], []).append(number)
        return found, {m.name: m.metadata for m in reader.iter_metadata()}


def _check(path: Path, middleware: Middleware, start: Asked, stop: Asked) -> dict[str, dict[str, str]]:
    """The file holds what came from the pre-roll to the post-roll, by the steady clock, without a hole."""
    found, metadata = _read(path)
    must = middleware.between(start[1] - PRE_ROLL_S + SLACK_S, stop[0] + POST_ROLL_S - SLACK_S)
    may = middleware.between(start[0] - PRE_ROLL_S - SLACK_S, stop[1] + POST_ROLL_S + SLACK_S)
    for gid in GIDS:
        assert found[gid] == list(range(found[gid][0], found[gid][-1] + 1))
        assert may[0] <= found[gid][0] <= must[0] and must[-1] <= found[gid][-1] <= may[-1]
    for row in (json.loads(row) for row in metadata["streams"].values()):
        assert (row["lost"], row["published"], row["written"]) == (0, row["received"], row["received"])
        assert row["received"] == len(found[bytes.fromhex(row["gid"])]) and row["tail_known"]
    # What the record says is where the messages lie, by the clock as it was at each end.
    first, last = found[GIDS[0]][0], found[GIDS[0]][-1]
    slack_ns = SLACK_S * 1e9
    start_ns, end_ns = (int(metadata["episode"][key]) for key in ("start_ns", "end_ns"))
    assert middleware.came[first - 2][1] - slack_ns <= start_ns <= middleware.came[first - 1][1] + slack_ns
    assert middleware.came[last - 1][1] - slack_ns <= end_ns <= middleware.came[last][1] + slack_ns
    return metadata


@pytest.mark.parametrize("by_s", JUMPS_S)
@pytest.mark.parametrize("when", ["in the pre-roll", "recording", "in the post-roll"])
def test_an_episode_is_whole_whenever_the_clock_is_set(
    recorder: Recorder, channel: Channel, clock: Clock, when: str, by_s: float
) -> None:
    middleware = Middleware(recorder, channel)

    def run(seconds: float, here: bool) -> None:
        middleware.run(seconds / 2)
        if here:
            waiting = middleware.publish()
            clock.set(by_s)
            # Received by the old clock, taken by the new one; then what lies in one round by the new.
            middleware.take([*waiting, *middleware.publish()])
        middleware.run(seconds / 2)

    middleware.run(2 * PRE_ROLL_S)
    run(PRE_ROLL_S, when == "in the pre-roll")
    _, start = middleware.asked(lambda: recorder.start(FIELDS))
    run(0.3, when == "recording")
    assert 0.25 < recorder.status().duration_s < 5.0
    result, stop = middleware.asked(lambda: recorder.stop(verdict="success"))
    if when == "in the post-roll":
        run(POST_ROLL_S / 2, True)
    path = middleware.until(result)
    metadata = _check(path, middleware, start, stop)
    episode = metadata["episode"]
    moved = [move["by_ns"] / 1e9 for move in json.loads(episode["clock_moved"])]
    assert moved == [pytest.approx(by_s, abs=0.002)]
    reasons = json.loads(metadata["quality"]["reasons"])
    assert f"clock was set {by_s:+.3f} s" in reasons[0] and "clock was set" not in "".join(reasons[1:])
    assert any(f"clock was set {by_s:+.3f} s" in note for note in recorder.notes)
    (report,) = check_episode(path, CheckOptions(checks=("streams",))).results
    assert any(f"clock was set {by_s:+.3f} s" in problem for problem in report.problems)


@pytest.mark.parametrize("by_s", JUMPS_S)
def test_the_episodes_after_it_are_as_ever(
    recorder: Recorder, channel: Channel, clock: Clock, monkeypatch: pytest.MonkeyPatch, by_s: float
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "capture_nodes.recording.recorder.check_free_space", lambda _root, _bytes, why: asked.append(why)
    )
    middleware = Middleware(recorder, channel)
    middleware.run(0.1)
    recorder.start(FIELDS)
    clock.set(by_s)
    middleware.run(0.1)
    middleware.until(recorder.stop())
    for _ in range(2):
        middleware.run(2 * PRE_ROLL_S)
        _, start = middleware.asked(lambda: recorder.start(FIELDS))
        middleware.run(0.1)
        result, stop = middleware.asked(recorder.stop)
        metadata = _check(middleware.until(result), middleware, start, stop)
        assert metadata["episode"]["clock_moved"] == "[]"
        assert "clock was set" not in metadata["quality"]["reasons"]
    # An hour that nobody recorded asks for no room.
    assert all(why.endswith("for 60 s") for why in asked)


def test_an_episode_begun_while_the_clock_is_set_begins_where_it_should(
    recorder: Recorder, channel: Channel, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the request and the file that is made for it."""
    middleware = Middleware(recorder, channel)
    middleware.run(2 * PRE_ROLL_S)
    monkeypatch.setattr("capture_nodes.recording.recorder.check_free_space", lambda *_: clock.set(-3600.0))
    _, start = middleware.asked(lambda: recorder.start(FIELDS))
    middleware.run(0.1)
    result, stop = middleware.asked(recorder.stop)
    _check(middleware.until(result), middleware, start, stop)


@pytest.mark.parametrize("by_s", JUMPS_S)
def test_the_transforms_go_on(
    clock: Clock, tmp_path: Path, channel: Channel, kestrel: RobotModel, joint_state: Any, by_s: float
) -> None:
    tf, tf_static = (channel(topic, TF_TYPE) for topic in ("/tf", "/tf_static"))
    configuration = RecorderConfiguration(topics=(), min_free_bytes=0, pre_roll_s=0.0, post_roll_s=0.0)
    recorder = Recorder(tmp_path, configuration, (), TfStream(kestrel), tf, tf_static)
    try:
        joints = recorder.streams.add(channel("/k/joint_states", JOINT_STATE), role="joint_states")
        number = 0

        def run(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
            nonlocal number
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and not until():
                number += 1
                now_ns = time.time_ns()
                with recorder.taking():
                    data = joint_state(now_ns, ["waist_yaw"], [0.1])
                    recorder.take(joints, data, now_ns, now_ns, number, GIDS[0])
                    recorder.pass_done()

        run(0.1)
        recorder.start(FIELDS)
        run(0.1)
        clock.set(by_s)
        set_ns = time.time_ns()
        run(0.3)
        result = recorder.stop()
        run(5.0, result.done)
        with result.result(timeout=0).open("rb") as stream:
            times = [m.log_time for _, _, m in make_reader(stream).iter_messages(topics=["/tf"])]
        assert 3 <= sum(set_ns <= at <= set_ns + 300_000_000 for at in times) <= 18
    finally:
        recorder.close()


def test_a_clock_that_is_only_slewed_has_not_moved(clock: Clock) -> None:
    watch = ClockWatch()
    for _ in range(100):
        clock.set(0.001)
        assert watch.moved_ns() == 0
    clock.set(-0.5)
    assert watch.moved_ns() == pytest.approx(-500_000_000, abs=LEAST_NS)
    assert watch.moved_ns() == 0


def test_a_part_does_not_wait_for_the_clock_to_come_back(
    clock: Clock, tmp_path: Path, channel: Channel
) -> None:
    parts = EpisodeParts(tmp_path / "e.mcap", limits=SplitLimits(max_s=1.0))
    parts.open()
    for n in range(40):
        at = 10**18 + n * 100_000_000 - (3600 * 10**9 if n >= 5 else 0)
        parts.write(channel("/a", STRING), at, at, n, b"%04d" % n)
    parts.finish()
    assert len(parts.parts) == 4
