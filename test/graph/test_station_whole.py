"""The `station` command as a user starts it: real nodes, real DDS, one repetition."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mcap.reader import make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from capture_nodes.recording.recovery import recover_all  # noqa: E402
from capture_nodes.station import EXIT_FAILED  # noqa: E402
from capture_nodes.topics import stream_qos  # noqa: E402
from episodes.bag import read_bag  # noqa: E402
from episodes.streams_check import StreamBounds, check_streams  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MOTIONS = ROOT.parent / "shared" / "motions"
# Of the test at hand: each has one of its own, since processes that were killed leave shared memory behind.
DOMAIN = 65
DOMAINS = itertools.cycle((65, 85, 86, *range(88, 100)))
TIMEOUT_S = 240.0

# The robot's watchdog (command_timeout_s, stale_s), its acceleration limit, and what playing back a
# command and following it takes.
WATCHDOG_S, ACCELERATION_RAD_S2, FOLLOWING_S = 0.1, 30.0, 0.06
BUSY_MACHINE = StreamBounds(rate_share=0.1, intervals_share=0.9, real_time_factor=0.9)
MOVING_RAD_S, STANDING_RAD_S = 0.3, 0.05


def has_package(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Station:
    """A running `station` command; its output is read as it comes."""

    def __init__(self, root: Path, *words: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        arguments = [f"root:={root}", f"domain_id:={DOMAIN}", "camera_width:=64", "camera_height:=48", *words]
        self.root = root
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capture_nodes.station", *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.deadline = time.monotonic() + TIMEOUT_S

    def lines(self) -> Iterator[str]:
        stream = self.process.stdout
        for line in stream if stream is not None else ():
            self.text += line
            yield line

    def read_until(self, wanted: str) -> None:
        """Read on until a line holds `wanted`; the station's own time limits end a wait in vain."""
        for line in self.lines():
            if wanted in line:
                return
        pytest.fail(f"{wanted!r} was never said:\n{self.text}")

    def end(self) -> int:
        for _ in self.lines():
            if time.monotonic() > self.deadline:
                self.process.kill()
                pytest.fail(f"the station did not end within {TIMEOUT_S:g} s:\n{self.text}")
        return self.process.wait(timeout=30.0)

    def pid_of(self, module: str) -> int:
        """Of a node of this station: its command line names our folder or our domain's environment."""
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    words = (process / "cmdline").read_text().split("\0")
                    environment = (process / "environ").read_text().split("\0")
                except OSError:
                    continue
                if module in words and f"ROS_DOMAIN_ID={DOMAIN}" in environment:
                    return int(process.name)
        raise AssertionError(f"no process runs {module}")

    def episodes(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.mcap") if ".trash" not in path.parts)

    def leftovers(self) -> list[str]:
        """Node processes of our domain that are still there."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    words = (process / "cmdline").read_text()
                    environment = (process / "environ").read_text().split("\0")
                except OSError:
                    continue
                if "capture_nodes." in words and f"ROS_DOMAIN_ID={DOMAIN}" in environment:
                    found.append(words)
        return found


class JointWatch:
    """The joint states as published: `raw`, and (seconds of ROS time, fastest joint's rad/s) of each."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self.raw: list[bytes] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        context = Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        node = rclpy.create_node("joint_watch", context=context)
        subscription = node.create_subscription(JointState, "/kestrel/joint_states", print, stream_qos(200))
        while not self._ending.wait(0.002):
            while (taken := subscription.handle.take_message(JointState, True)) is not None:
                message = deserialize_message(taken[0], JointState)
                stamp = message.header.stamp
                self.raw.append(taken[0])
                self.samples.append((stamp.sec + stamp.nanosec * 1e-9, max(map(abs, message.velocity))))
        node.destroy_node()
        rclpy.try_shutdown(context=context)

    def wait_for_motion(self) -> None:
        deadline = time.monotonic() + 60.0
        while not self.samples or self.samples[-1][1] < MOVING_RAD_S:
            assert time.monotonic() < deadline, "the robot never moved"
            self._ending.wait(0.002)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()


@pytest.fixture(autouse=True)
def domain_of_its_own() -> None:
    global DOMAIN
    DOMAIN = next(DOMAINS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    stations: list[Station] = []

    def begin(*words: str) -> Station:
        stations.append(Station(tmp_path, *words))
        return stations[-1]

    yield begin
    for station in stations:
        if station.process.poll() is None:
            station.process.send_signal(signal.SIGINT)
            station.process.communicate(timeout=60.0)


def check_recorded(station: Station, code: int) -> None:
    """One complete file, nothing lost, nothing left running, no limit broken.

    How evenly the streams came depends on what else the machine does: `make soak` judges it as shipped.
    """
    (file,) = station.episodes()
    if code != 0:
        assert code == EXIT_FAILED, station.text
        streams = check_streams(read_bag(file), bounds=BUSY_MACHINE)
        assert streams.problems == (), station.text
        others = [sys.executable, "-m", "episodes.cli", "check", "--only", "limits,frames,grasp", str(file)]
        result = subprocess.run(others, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
    assert not list(station.root.rglob("*.mcap.active"))
    (report_file,) = station.root.glob(".station/report_domain_*.json")
    report = json.loads(report_file.read_text())
    assert report["lost_in_episodes"] == 0
    assert report["received"] > 1000
    assert str(file) in station.text or file.name in station.text
    assert station.leftovers() == []


def test_one_scripted_repetition(start: Callable[..., Station]) -> None:
    """Every joint state that was published is in the file, bit for bit, for an independent reader too."""
    watch = JointWatch()
    try:
        station = start("source:=script", "episodes:=1")
        code = station.end()
    finally:
        watch.close()
    check_recorded(station, code)
    (file,) = station.episodes()
    with file.open("rb") as stream:
        recorded = [
            message.data
            for _, _, message in make_reader(stream).iter_messages(topics=["/kestrel/joint_states"])
        ]
    first = watch.raw.index(recorded[0])
    assert recorded == watch.raw[first : first + len(recorded)]
    with AnyReader([file]) as reader:
        connections = [c for c in reader.connections if c.topic == "/kestrel/joint_states"]
        assert [bytes(data) for _, _, data in reader.messages(connections=connections)] == recorded
        message = reader.deserialize(recorded[0], connections[0].msgtype)
        assert len(message.name) == len(message.position) > 10


@pytest.mark.skipif(not list(MOTIONS.glob("*.bvh")), reason=f"no recorded motions in {MOTIONS}")
@pytest.mark.skipif(not has_package("example-robot-data"), reason="example-robot-data is not installed")
def test_one_recorded_motion_on_a_real_humanoid(start: Callable[..., Station]) -> None:
    motion = min(MOTIONS.glob("*.bvh"), key=lambda path: path.stat().st_size)
    station = start("robot:=g1", "source:=bvh", f"motion:={motion}", "episodes:=1")
    check_recorded(station, station.end())
    (file,) = station.episodes()
    command = [sys.executable, "-m", "episodes.cli", "check", "--json", str(file)]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    (report,) = json.loads(result.stdout)
    figures = {check["name"]: check["figures"] for check in report["checks"]}
    assert figures["streams"]["lost"] == figures["limits"]["violations"] == 0
    # On the frames that a solution of the position limits alone reaches within 5 mm.
    reachable = figures["tracking"]["reachable_position"]
    assert reachable["coverage"] >= 0.6
    for wrist in ("left_wrist", "right_wrist"):
        assert reachable[wrist]["commanded_m"]["p95"] <= 0.025
        assert reachable[wrist]["commanded_deg"]["p95"] <= 6.0


def test_interrupt_completes_the_episode_at_hand(start: Callable[..., Station]) -> None:
    station = start("episodes:=1")
    station.read_until("| tracking |")
    station.process.send_signal(signal.SIGINT)
    assert station.end() == 130, station.text
    assert "interrupted" in station.text
    assert len(station.episodes()) == 1
    assert station.leftovers() == []


def test_a_repetition_that_was_held_is_discarded_and_tried_again(start: Callable[..., Station]) -> None:
    """A headset that hangs for a moment: the arms hold, the session repeats, nothing is lost."""
    station = start("episodes:=1")
    station.read_until("| tracking |")
    headset = station.pid_of("capture_nodes.headset_node")
    os.kill(headset, signal.SIGSTOP)
    threading.Event().wait(0.3)  # how long it hangs
    os.kill(headset, signal.SIGCONT)
    station.read_until("repetition discarded and tried again")
    check_recorded(station, station.end())
    assert "stale" in station.text
    assert len(list(station.root.glob(".trash/**/*.mcap"))) == 1


def last_states(file: Path) -> dict[str, str]:
    """The last word on every `…/state` topic of an episode."""
    words = {}
    with file.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            if channel.topic.endswith("/state"):
                words[channel.topic.split("/")[2]] = message.message
    return words


NODES = ["session", "headset", "retargeting", "simulated_robot", "simulated_cameras", "recorder"]


@pytest.mark.parametrize("name", NODES)
def test_whatever_is_killed_the_robot_stands_and_the_episode_survives(
    start: Callable[..., Station], name: str
) -> None:
    # Before the station: who joins the domain later keeps everybody busy for a moment.
    watch = JointWatch()
    try:
        station = start("episodes:=1")
        station.read_until("| tracking |")
        watch.wait_for_motion()
        os.kill(station.pid_of(f"capture_nodes.{name}_node"), signal.SIGKILL)
        killed_s = time.time()
        assert station.end() == 3, station.text
    finally:
        watch.close()
    assert f"{name} was killed by SIGKILL" in station.text
    assert station.leftovers() == []

    after = [(t - killed_s, speed) for t, speed in watch.samples if t > killed_s]
    if name != "simulated_robot":
        braking_s = max(speed for _, speed in after) / ACCELERATION_RAD_S2
        still_s = max((t for t, speed in after if speed > STANDING_RAD_S), default=0.0)
        assert after[-1][0] > still_s + 0.2, "the robot is watched until it stands"
        assert still_s <= WATCHDOG_S + braking_s + FOLLOWING_S

    if name == "recorder":
        assert station.episodes() == []
        recoveries = recover_all(station.root, print)
        assert [recovery.messages > 1000 for recovery in recoveries] == [True], station.text
    (file,) = station.episodes()
    words = last_states(file)
    if name not in ("retargeting", "recorder"):
        assert words["retargeting"] in ("emergency_stop", "holding")
    if name not in ("simulated_robot", "recorder"):
        assert words["simulated_robot"] in ("emergency_stop", "holding")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["robot:=nobody"], "unknown robot 'nobody'"),
        (["root:=/proc/nowhere"], "the folder cannot be written"),
        (["source:=bvh", "motion:=/nowhere.bvh"], "no such file"),
        (["episodes=3"], "name:=value is expected, as in episodes:=3"),
    ],
)
def test_one_clear_message_for_a_bad_argument(tmp_path: Path, words: list[str], expected: str) -> None:
    given = words if any(word.startswith("root") for word in words) else [f"root:={tmp_path}", *words]
    result = subprocess.run(
        [sys.executable, "-m", "capture_nodes.station", *given],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_second_station_on_the_domain_is_refused(start: Callable[..., Station], tmp_path: Path) -> None:
    first = start("episodes:=0", "cameras:=false")
    first.read_until("are ready")
    second = Station(tmp_path, "episodes:=1")
    assert second.end() == 2
    assert (
        f"domain {DOMAIN} is taken by another station (process {first.process.pid}, robot kestrel)"
        in second.text
    )
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130, first.text
