"""A whole station with a live trainer, whose plug is pulled while the simulated robot follows."""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "openxr_runtime"))

import retargeting_world
import test_station_whole
from compiled_runtime import compiled_runtime
from live_trainers import SWING_HZ, SWING_M, Suit
from openxr_script import ENVIRONMENT, ScriptedRuntime
from retargeting_world import check_limits
from sensor_msgs.msg import JointState
from test_pulled_plugs import MovedWorld, check_stop, pull, stays_still, wait_for_motion
from test_station_whole import STANDING_RAD_S, Station

from capture_nodes import topics
from capture_nodes.node_runtime import DrainedGroup

OPENXR_DOMAIN, SUIT_DOMAIN = 100, 101
START_TIMEOUT_S = 120.0
# Arms ahead, palms down, by the words of OpenXR's specification on grips.
_PALM_DOWN = {"left": (-0.5, 0.5, -0.5, -0.5), "right": (0.5, 0.5, 0.5, -0.5)}
Record = Callable[[str, object], None]


class StationWorld(MovedWorld):
    """Hears a station's robot too: (stamp in s, fastest joint in rad/s) of its measured joints."""

    _measured = None

    def __init__(self) -> None:
        self.measured: list[tuple[float, float]] = []
        super().__init__()
        self.has_joints = False
        self._measured = self.node.create_subscription(
            JointState, "/kestrel/joint_states", print, topics.stream_qos(500), callback_group=DrainedGroup()
        )

    def _hear(self) -> None:
        super()._hear()
        while self._measured and (taken := self._measured.handle.take_message(JointState, False)) is not None:
            stamp = taken[0].header.stamp
            fastest = max(map(abs, taken[0].velocity), default=0.0)
            self.measured.append((stamp.sec + 1e-9 * stamp.nanosec, fastest))

    def wait_for_station(self) -> None:
        """Compiling the solver and simulating may take a while."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self.states or not self.measured or not self.heard:
            assert time.monotonic() < deadline_s, (self.states, len(self.measured), self.heard)
            self._ending.wait(0.05)


@contextmanager
def station_world(
    monkeypatch: pytest.MonkeyPatch, folder: Path, domain: int, *words: str
) -> Iterator[tuple[StationWorld, Station]]:
    """Without cameras or a session; interrupted at the end, which has to go well."""
    monkeypatch.setattr(retargeting_world, "DOMAIN", domain)
    monkeypatch.setattr(test_station_whole, "DOMAIN", domain)
    world = StationWorld()
    station = Station(folder, "episodes:=0", "cameras:=false", "engage_mode:=relative", *words)
    output = threading.Thread(target=lambda: [None for _ in station.lines()], daemon=True)
    output.start()
    try:
        world.wait_for_station()
        yield world, station
        station.process.send_signal(signal.SIGINT)
        assert station.process.wait(60.0) == 130, station.text
        output.join(10.0)
        assert "Traceback" not in station.text
    finally:
        if station.process.poll() is None:
            station.process.send_signal(signal.SIGINT)
            station.process.wait(60.0)
        world.close()


def check_pulled(world: StationWorld, pulled_s: float, record: Record, name: str) -> None:
    """The commands brake at their limit, in time, within all limits, and the robot stands as they do."""
    check_stop(world, pulled_s, record, name)
    standing_s = next(stamp_s for stamp_s, _, v in reversed(world.commands) if v.any())
    # Playing back a command and following it takes a moment (`test_station_whole.FOLLOWING_S`).
    world.wait(lambda: world.measured[-1][0] > standing_s + 0.4, "the robot's joints")
    later = [speed for stamp_s, speed in world.measured if stamp_s > standing_s + 0.2]
    assert later and max(later) < STANDING_RAD_S
    check_limits(world)


class SwingingHeadset:
    """A trainer with controllers in the scripted runtime, whose left hand swings."""

    def __init__(self, runtime: ScriptedRuntime) -> None:
        self.runtime = runtime
        self._lock = threading.Lock()
        self._ending = threading.Event()
        runtime.hold("touch", "touch")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._ending.wait(1 / 180):
            swing = SWING_M * math.sin(2.0 * math.pi * SWING_HZ * (time.monotonic() - began_s))
            with self._writing() as script:
                for k, (side, up) in enumerate((("left", swing), ("right", 0.0))):
                    script.controllers[k].grip.put((-0.2 + 0.4 * k, 1.15 + up, -0.4), _PALM_DOWN[side])

    @contextmanager
    def _writing(self) -> Iterator[object]:
        with self._lock, self.runtime.writing() as script:
            yield script

    def squeeze(self, value: float) -> None:
        with self._writing() as script:
            for controller in script.controllers:
                controller.press(squeeze__value=value)

    def set(self, **values: int) -> float:
        """Fields of the script; the time of it (s of `time.time`)."""
        with self._writing() as script:
            for name, value in values.items():
                setattr(script, name, value)
        return time.time()

    def close(self) -> None:
        self.set(frozen=0)
        self._ending.set()
        self._thread.join()


def test_a_runtime_is_killed_and_freezes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    manifest = compiled_runtime(tmp_path)
    headset = SwingingHeadset(ScriptedRuntime(tmp_path / "script"))
    monkeypatch.setenv("XR_RUNTIME_JSON", str(manifest))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "script"))

    def pressed() -> bool:
        """Where frames were late, on a busy machine, it has to be pressed again."""
        headset.squeeze(0.0)
        wait_for_motion(world, 10)
        headset.squeeze(1.0)
        wait_for_motion(world, 30)
        return world.states[-1][0] in ("engaging", "tracking")

    with station_world(monkeypatch, tmp_path, OPENXR_DOMAIN, "source:=openxr") as (world, _station):
        wait_for_motion(world)
        world.wait(lambda: "no deadman" in world.call("engage").message, "to be measured, and refused")
        plugs: dict[str, tuple[dict[str, int], dict[str, int]]] = {
            "runtime killed": ({"instance_lost": 1, "present": 0}, {"instance_lost": 0, "present": 1}),
            "runtime frozen": ({"frozen": 1}, {"frozen": 0}),
        }
        try:
            for name, (unplugged, plugged) in plugs.items():
                pulled_s = pull(world, pressed, lambda said=unplugged: headset.set(**said))
                check_pulled(world, pulled_s, record_property, name)
                headset.set(**plugged)
                # Held all the time, it moves nothing.
                stays_still(world)
            world.wait(pressed, "to be engaged")
            world.wait(lambda: world.states[-1][0] == "tracking" or pressed(), "to be tracked")
        finally:
            headset.close()


def test_a_suit_s_line_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    suit = Suit(port)
    words = ("source:=mocap", f"address:=tcp://127.0.0.1:{port}")
    try:
        with station_world(monkeypatch, tmp_path, SUIT_DOMAIN, *words) as (world, _station):
            wait_for_motion(world)
            plugs = {
                "line cut": (lambda: suit.tell(signal.SIGKILL), suit.start),
                "sender frozen": (lambda: suit.tell(signal.SIGSTOP), lambda: suit.tell(signal.SIGCONT)),
            }
            for name, (unplug, plug_in) in plugs.items():
                pulled_s = pull(world, lambda: world.call("engage"), unplug)
                check_pulled(world, pulled_s, record_property, name)
                plug_in()
                stays_still(world)
            world.wait(lambda: world.call("engage").success, "to be engaged")
            world.wait(
                lambda: world.states[-1][0] == "tracking" or world.call("engage").success, "to be tracked"
            )
    finally:
        suit.close()
