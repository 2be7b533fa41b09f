"""A suit over real sockets on this machine: the frames of the file, reconnecting, strangers, stamps."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from capture_nodes.sources.bvh_file import read_bvh
from capture_nodes.sources.mocap import MocapParameters, MocapSource, _Figures, _Timing, mocap_parameters
from capture_nodes.sources.registry import SourceOptions, check_source
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.suit_skeleton import SuitSkeleton
from retargeting.motion_frame import Controls, MotionFrame

TIMEOUT_S = 20.0


def joint(name: str, offset: str, *children: str) -> str:
    inner = "".join(children) or "End Site\n{\nOFFSET 0 -7 16\n}\n"
    turns = "CHANNELS 3 Yrotation Xrotation Zrotation"
    return f"JOINT {name}\n{{\nOFFSET {offset}\n{turns}\n{inner}}}\n"


def limbs() -> str:
    parts = [joint("Spine3", "0 36 0", joint("Head", "0 16 0"), arm("Left", ""), arm("Right", "-"))]
    for side, sign in (("Left", ""), ("Right", "-")):
        foot = joint(f"{side}Foot", "0 -41 0")
        parts.append(joint(f"{side}UpLeg", f"{sign}9 -5 0", joint(f"{side}Leg", "0 -42 0", foot)))
    return "".join(parts)


def arm(side: str, sign: str) -> str:
    hand = joint(f"{side}Hand", f"{sign}25 0 0")
    return joint(f"{side}Arm", f"{sign}17 11 0", joint(f"{side}ForeArm", f"{sign}28 0 0", hand))


HEADER = (
    "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\n"
    "CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation\n" + limbs() + "}\nMOTION\n"
)
CHANNELS = 6 + 3 * 14


def motion(count: int) -> list[list[float]]:
    """Arms that wave; the feet stand."""
    rng = np.random.default_rng(6)
    rows = []
    for k in range(count):
        values = [0.0] * CHANNELS
        values[1] = 95.0
        for c in range(12, 12 + 18):
            values[c] = float(20.0 * np.sin(0.1 * k + rng.uniform(0.0, 0.01)))
        rows.append([round(value, 6) for value in values])
    return rows


def line(values: list[float]) -> str:
    return " ".join(repr(value) for value in values)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bvh") / "one.bvh"
    rows = "\n".join(map(line, motion(40)))
    path.write_text(f"{HEADER}Frames: 40\nFrame Time: 0.01\n{rows}\n")
    return path


def stamp_of(moment_s: float) -> int:
    return round(moment_s * 1e9)


def next_frame(source: MocapSource) -> MotionFrame:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        frame = source.wait_frame(0.1)
        if frame is not None:
            return frame
    raise AssertionError(f"no frame: {source.diagnostics()}")


def until(condition, source: MocapSource) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, source.diagnostics()
        source.wait_frame(0.02)


class Software:
    """What sends: a TCP server on this machine, as suit software is one."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(TIMEOUT_S)
        self.port = self.server.getsockname()[1]
        self.line: socket.socket | None = None

    def accept(self) -> None:
        self.line, _ = self.server.accept()

    def say(self, text: str) -> None:
        assert self.line is not None
        self.line.sendall(text.encode())

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None

    def close(self) -> None:
        self.hang_up()
        self.server.close()


@pytest.fixture
def software() -> Iterator[Software]:
    one = Software()
    yield one
    one.close()


@contextmanager
def suit(address: str, peers: str = "", skeleton: SuitSkeleton | None = None) -> Iterator[MocapSource]:
    source = MocapSource(MocapParameters(address, peers, skeleton or SuitSkeleton()), stamp_of)
    with source:
        yield source


def test_the_points_are_those_of_the_file(software: Software, file: Path) -> None:
    whole = BvhSource(BvhParameters(file))
    with suit(f"tcp://127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER + "Frames: 40\nFrame Time: 0.01\n")
        stamps = []
        for k, values in enumerate(motion(40)):
            before_s = time.monotonic()
            software.say(line(values) + "\n")
            frame = next_frame(source)
            assert before_s <= frame.stamp_ns * 1e-9 <= time.monotonic()
            stamps.append(frame.stamp_ns)
            expected = whole.frame_at(k * 0.01, 0).poses
            assert frame.poses.keys() == expected.keys() and frame.controls == Controls()
            for point, pose in frame.poses.items():
                other = expected[point]
                np.testing.assert_allclose(pose[:3], other[:3], atol=1e-9, err_msg=point)
                assert abs(pose[3:] @ other[3:]) == pytest.approx(1.0, abs=1e-9)
        assert sorted(set(stamps)) == stamps
        assert source.report["joints"] == whole.report["joints"]
        assert source.diagnostics()["problem"] == "" and source.diagnostics()["suit_frames"] == 40


def test_the_line_drops_and_comes_back(software: Software) -> None:
    rows = motion(3)
    with suit(f"127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER + line(rows[0]) + "||")
        first = next_frame(source)
        software.hang_up()
        # One last frame, with the stamp of the last one and nothing held; then none.
        last = next_frame(source)
        assert last.stamp_ns == first.stamp_ns and last.controls == Controls()
        assert source.wait_frame(0.3) is None
        software.accept()
        # The skeleton is known: a sender that says it once only goes on.
        software.say(line(rows[1]) + "||")
        again = next_frame(source)
        assert again.stamp_ns > first.stamp_ns
        # Another header of the same skeleton leaves the trainer where they are.
        moved = [10.0, *rows[0][1:]]
        software.say(HEADER + line(moved) + "||")
        frame = next_frame(source)
        assert frame.poses["pelvis"][1] == pytest.approx(first.poses["pelvis"][1] + 0.1)
        assert source.diagnostics()["connections"] == 2


def test_nobody_there_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with suit(f"tcp://127.0.0.1:{port}") as source:
        assert source.wait_frame(0.2) is None
        until(lambda: "waiting" in str(source.diagnostics()["line"]), source)


def test_bad_frames_are_told_and_do_no_harm(software: Software) -> None:
    rows = motion(2)
    with suit(f"127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER + line(rows[0]) + "\n")
        next_frame(source)
        software.say(line([float("nan")] * CHANNELS) + "\n" + line([1e300] * CHANNELS) + "\n1 2 3\n")
        until(lambda: source.diagnostics()["unusable_frames"] == 1, source)
        until(lambda: source.diagnostics()["refused_lines"] == 2, source)
        assert ", line " in str(source.diagnostics()["problem"])
        software.say(line(rows[1]) + "\n")
        next_frame(source)


def test_a_skeleton_without_arms_is_told(software: Software) -> None:
    with suit(f"127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER.replace("Arm", "Wing").replace("Hand", "Feather") + line(motion(1)[0]) + "\n")
        # Its shape is that of a person all the same.
        assert "left_wrist" in next_frame(source).poses
        bad = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n}\nMOTION\n"
        software.say(bad + "1 2 3\n4 5 6\n")
        until(lambda: source.diagnostics()["unusable_frames"] == 2, source)
        assert "no joint for left_shoulder" in str(source.diagnostics()["problem"])


def test_waiting_for_the_software_to_call(file: Path) -> None:
    with suit("tcp-listen://127.0.0.1:0") as source:
        address = ("127.0.0.1", source.bound_port)
        with socket.create_connection(address) as caller:
            caller.sendall((HEADER + line(motion(1)[0]) + "\n").encode())
            next_frame(source)
            with socket.create_connection(address) as other:
                until(lambda: source.diagnostics()["refused_peers"] == 1, source)
                other.settimeout(TIMEOUT_S)
                assert other.recv(1) == b""
        with socket.create_connection(address) as caller:
            caller.sendall((HEADER + line(motion(1)[0]) + "\n").encode())
            until(lambda: source.diagnostics()["connections"] == 2, source)


def silent(source: MocapSource) -> bool:
    return "silent" in str(source.diagnostics()["line"])


def test_a_silent_caller_gives_its_place_to_the_next() -> None:
    """It may be paused, or its machine be gone: nobody can tell, so it keeps the line until another calls."""
    with suit("tcp-listen://127.0.0.1:0") as source:
        address = ("127.0.0.1", source.bound_port)
        said = (HEADER + line(motion(1)[0]) + "\n").encode()
        with socket.create_connection(address) as paused:
            paused.sendall(said)
            next_frame(source)
            until(lambda: silent(source), source)
            paused.sendall(line(motion(2)[1]).encode() + b"\n")
            next_frame(source)
            assert source.diagnostics()["line"] == "connected"
            until(lambda: silent(source), source)
            with socket.create_connection(address) as other:
                other.sendall(said)
                until(lambda: source.diagnostics()["connections"] == 2, source)
                paused.settimeout(TIMEOUT_S)
                assert paused.recv(1) == b""
                other.sendall(line(motion(2)[1]).encode() + b"\n")
                next_frame(source)
            assert source.diagnostics()["refused_peers"] == 0


def test_software_that_falls_silent_is_called_again(software: Software) -> None:
    """A line whose other end is gone without a word looks like this; the steady clock is the test's."""
    ahead_s = [0.0]
    source = MocapSource(
        MocapParameters(f"127.0.0.1:{software.port}"), stamp_of, lambda: time.monotonic() + ahead_s[0]
    )
    with source:
        software.accept()
        software.say(HEADER + line(motion(1)[0]) + "\n")
        first = next_frame(source)
        gone = software.line
        assert gone is not None
        ahead_s[0] = 2.0
        until(lambda: silent(source), source)
        assert source.diagnostics()["connections"] == 1, "paused for a moment"
        ahead_s[0] = 6.0
        last = next_frame(source)
        assert last.stamp_ns == first.stamp_ns
        gone.settimeout(TIMEOUT_S)
        assert gone.recv(1) == b""
        gone.close()
        software.accept()
        software.say(line(motion(2)[1]) + "\n")
        assert next_frame(source).stamp_ns > first.stamp_ns
        assert source.diagnostics()["connections"] == 2


def test_the_system_looks_after_a_line_that_nobody_replaces(software: Software, monkeypatch) -> None:
    made = []
    connect = socket.create_connection

    def connecting(*arguments, **more):
        made.append(connect(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(socket, "create_connection", connecting)
    with suit(f"127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER + line(motion(1)[0]) + "\n")
        next_frame(source)
        assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 10


def test_datagrams_from_one_sender(file: Path) -> None:
    said = SuitSkeleton(hierarchy=read_bvh(file).joints)
    with suit("udp://127.0.0.1:0", skeleton=said) as source:
        address = ("127.0.0.1", source.bound_port)
        rows = motion(4)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            sender.sendto(f"1 {line(rows[0])}||".encode(), address)
            next_frame(source)
            stranger.sendto(f"2 {line(rows[1])}||".encode(), address)
            until(lambda: source.diagnostics()["refused_peers"] == 1, source)
            # Numbered: one is missing, one comes late.
            sender.sendto(f"3 {line(rows[1])}".encode(), address)
            next_frame(source)
            sender.sendto(f"2 {line(rows[2])}".encode(), address)
            until(lambda: source.diagnostics()["late_frames"] == 1, source)
            assert source.diagnostics()["missing_frames"] == 1
            # Silent for long enough its place is free.
            until(
                lambda: (
                    "silent" in str(source.diagnostics()["line"]) or source.diagnostics()["line"] == "waiting"
                ),
                source,
            )
            stranger.sendto(f"9 {line(rows[3])}".encode(), address)
            until(lambda: source.diagnostics()["connections"] == 2, source)


def test_who_may_send_must_be_named() -> None:
    for address in ("udp://0.0.0.0:7001", "tcp-listen://192.168.1.5:7001", "udp://[::]:7001"):
        with pytest.raises(SourceError, match="anybody on the network could move the arms"):
            MocapParameters(address)
        MocapParameters(address, "any")
    named = MocapParameters("udp://0.0.0.0:7001", "10.0.0.7, 10.0.0.8")
    assert named.may_send("10.0.0.8") and not named.may_send("10.0.0.9") and not named.may_send("127.0.0.1")
    assert named.may_send("::ffff:10.0.0.7") and not named.may_send("::ffff:10.0.0.9")
    assert MocapParameters("udp://[::]:1", "FE80::1").may_send("fe80::1%eth0")
    assert MocapParameters("udp://127.0.0.1:7001").may_send("127.0.0.1")
    assert not MocapParameters("udp://127.0.0.1:7001").may_send("10.0.0.7")
    # A line we ask for ourselves needs no leave.
    assert not MocapParameters("tcp://192.168.1.5:7001").waits
    with pytest.raises(SourceError, match=r"'suit\.local' is no address"):
        MocapParameters("udp://0.0.0.0:1", "suit.local")
    for host in ("a" * 70, "a..b"):
        with pytest.raises(SourceError, match="is no host's name"):
            MocapParameters(f"tcp://{host}:7001")
    for address in ("ftp://a:1", "host", "udp://a:70000", "a:b:c"):
        with pytest.raises(SourceError, match="is expected"):
            MocapParameters(address)
    with suit("udp://127.0.0.1:0", "10.0.0.7") as source:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"HIERARCHY\n", ("127.0.0.1", source.bound_port))
        until(lambda: source.diagnostics()["refused_peers"] == 1, source)


@pytest.mark.parametrize("where", ["calling", "reading"])
def test_a_failure_that_nobody_foresaw_is_told_and_tried_again(
    software: Software, monkeypatch, caplog, where: str
) -> None:
    """A thread that ends would leave a node that lives and hears nobody."""
    times = [0]

    def failing(*arguments, **more):
        times[0] += 1
        if times[0] == 3:
            monkeypatch.undo()
        raise RuntimeError("half a\ud800 name")

    with suit(f"127.0.0.1:{software.port}") as source:
        software.accept()
        software.say(HEADER + line(motion(1)[0]) + "\n")
        first = next_frame(source)
        if where == "reading":
            monkeypatch.setattr(source, "_take", failing)
            for _ in range(3):
                software.say("1 2 3\n")
                software.accept()
        else:
            monkeypatch.setattr(socket, "create_connection", failing)
            software.hang_up()
            software.accept()
        last = next_frame(source)
        assert last.stamp_ns == first.stamp_ns and last.controls == Controls()
        assert "failed: RuntimeError: half a" in str(source.diagnostics()["problem"])
        software.say(line(motion(2)[1]) + "\n")
        assert next_frame(source).stamp_ns > first.stamp_ns
        assert source.diagnostics()["problem"] == ""
    assert sum("it is tried again" in record.getMessage() for record in caplog.records) == 1


def test_a_port_that_is_taken_is_told_on_opening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp-listen://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SourceError, match="Address already in use"), suit(address):
            pass


def test_it_is_known_by_name(tmp_path: Path) -> None:
    check_source("mocap", SourceOptions())
    with pytest.raises(SourceError, match="takes no file"):
        check_source("mocap", SourceOptions(motion="a.bvh"))
    skeleton = tmp_path / "suit.yaml"
    skeleton.write_text("up_axis: z\nscale_m_per_unit: 0.5\n")
    said = mocap_parameters("", "", str(skeleton), 0.0, "auto").skeleton
    assert (said.up_axis, said.scale_m_per_unit) == ("z", 0.5)
    said = mocap_parameters("", "", str(skeleton), 0.01, "+y").skeleton
    assert (said.up_axis, said.scale_m_per_unit) == ("+y", 0.01)


def test_it_stops_at_once_whatever_it_does(software: Software) -> None:
    for address in ("udp://127.0.0.1:0", "tcp-listen://127.0.0.1:0", f"127.0.0.1:{software.port}"):
        before = threading.active_count()
        with suit(address):
            pass
        assert threading.active_count() == before


# ---- stamps


def test_numbers_take_the_networks_jitter_away() -> None:
    rng = np.random.default_rng(7)
    timing, figures = _Timing(), _Figures()
    sent = 100.0 + 0.01 * np.arange(1000)
    arrivals = np.maximum.accumulate(sent + 0.002 + rng.exponential(0.004, 1000))
    moments = np.array(
        [timing.moment_s(5000 + k, arrival, 0.01, figures) for k, arrival in enumerate(arrivals)]
    )
    assert (moments <= arrivals + 1e-12).all() and (np.diff(moments) > 0.0).all()
    late = moments[300:] - sent[300:]
    # What is left is the shortest delay of the network; the jitter was tens of times that.
    assert np.ptp(late) < 0.5e-3 and late.min() > 0.0019 and late.max() < 0.003
    assert np.std(arrivals[300:] - sent[300:]) > 3e-3
    assert figures.gaps == 0 and figures.late_frames == 0


def test_without_numbers_a_stamp_is_the_arrival_and_gaps_are_counted() -> None:
    timing, figures = _Timing(), _Figures()
    arrivals = [1.0, 1.01, 1.02, 1.05, 1.06]
    assert [timing.moment_s(None, arrival, 0.01, figures) for arrival in arrivals] == arrivals
    assert figures.gaps == 1 and timing.words == "time of arrival"


def test_numbers_that_go_back_far_are_a_sender_that_began_anew() -> None:
    timing, figures = _Timing(), _Figures()
    for k in range(5):
        timing.moment_s(100_000 + k, 1.0 + 0.01 * k, 0.01, figures)
    assert timing.moment_s(1, 1.06, 0.01, figures) == pytest.approx(1.06)
    assert timing.moment_s(1, 1.07, 0.01, figures) is None
    assert timing.moment_s(4, 1.09, 0.01, figures) is not None
    assert (figures.late_frames, figures.missing_frames) == (1, 2)


def test_too_many_frames_are_dropped() -> None:
    timing, figures = _Timing(), _Figures()
    taken = [timing.moment_s(None, 1.0 + 1e-4 * k, None, figures) for k in range(5000)]
    assert sum(moment is not None for moment in taken) == 500 and figures.dropped_frames == 4500
