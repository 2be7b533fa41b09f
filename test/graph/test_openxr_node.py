"""`source:=openxr` as a real node over real DDS: what is on the topics, and a robot whose runtime dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "openxr_runtime"))

import retargeting_world  # noqa: E402
from compiled_runtime import compiled_runtime  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from openxr_script import ENVIRONMENT, ScriptedRuntime  # noqa: E402
from retargeting_world import KESTREL, TICK_S, World, check_limits, interrupt, running_node  # noqa: E402
from sensor_msgs.msg import Joy, MultiDOFJointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from capture_nodes import topics  # noqa: E402
from capture_nodes.sources.openxr.bodies import BD_JOINTS  # noqa: E402
from retargeting.frames import ROTATION_OPENXR_TO_TRAINER  # noqa: E402
from retargeting.motion_frame import Axis  # noqa: E402

DOMAIN = 74
TIMEOUT_S = 60.0
# Arms ahead, palms down, by the words of OpenXR's specification on grips (x, y, z as columns).
_PALM_DOWN = {"left": (-0.5, 0.5, -0.5, -0.5), "right": (0.5, 0.5, 0.5, -0.5)}


# Of the right side, OpenXR's axes.
_STANDING = {
    "head": (0.0, 1.6, 0.0),
    "chest": (0.0, 1.3, 0.0),
    "pelvis": (0.0, 1.0, 0.0),
    "shoulder": (0.18, 1.45, 0.0),
    "elbow": (0.2, 1.2, -0.05),
    "wrist": (0.2, 1.15, -0.32),
    "hip": (0.1, 0.95, 0.0),
    "knee": (0.1, 0.5, 0.0),
    "ankle": (0.1, 0.08, 0.0),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_runtime(tmp_path_factory.mktemp("openxr_runtime"))


@pytest.fixture
def runtime(tmp_path: Path) -> ScriptedRuntime:
    runtime = ScriptedRuntime(tmp_path / "script")
    with runtime.writing() as script:
        for k, side in enumerate(("left", "right")):
            script.controllers[k].grip.put((-0.2 + 0.4 * k, 1.15, -0.4), _PALM_DOWN[side])
    runtime.hold("touch", "touch")
    return runtime


@contextmanager
def headset_node(manifest: Path, runtime: ScriptedRuntime) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "XR_RUNTIME_JSON": str(manifest),
        ENVIRONMENT: str(runtime.path),
    }
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    arguments = ["--ros-args", "-r", "__ns:=/trainer", "-p", "source:=openxr"]
    process = subprocess.Popen(
        [sys.executable, "-m", "capture_nodes.headset_node", *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


class Listener:
    """Hears motion and buttons; (received on the steady clock, message)."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("listener", context=self._context)
        self.motion: list[tuple[int, MultiDOFJointState]] = []
        self.buttons: list[tuple[int, Joy]] = []
        for kind, topic, heard in (
            (MultiDOFJointState, topics.MOTION, self.motion),
            (Joy, topics.BUTTONS, self.buttons),
        ):
            self._node.create_subscription(
                kind, topic, lambda m, heard=heard: heard.append((time.monotonic_ns(), m)), 100
            )
        # Words and reasons.
        self.states: list[tuple[str, str]] = [("", "")]
        self._node.create_subscription(
            DiagnosticStatus, "/trainer/headset/state", self._on_state, topics.latched_qos()
        )
        self._play = self._node.create_client(Trigger, "/trainer/headset/play")
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self._tick = threading.Event()

    def _on_state(self, message: DiagnosticStatus) -> None:
        values = {item.key: item.value for item in message.values}
        self.states.append((message.message, values.get("reason", "")))

    def play(self) -> str:
        """What the node's service answers."""
        assert self._play.wait_for_service(TIMEOUT_S)
        answer = self._play.call_async(Trigger.Request())
        self.until(answer.done, "an answer")
        return str(answer.result().message)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline_s, f"no {what}"
            self._tick.wait(0.002)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def place(message: MultiDOFJointState, point: str) -> np.ndarray:
    p = message.transforms[message.joint_names.index(point)].translation
    return np.array([p.x, p.y, p.z])


def test_what_the_runtime_tracks_is_on_the_topics(
    manifest: Path, runtime: ScriptedRuntime, listener: Listener
) -> None:
    """At 90 Hz, in the station's time, and gone when the runtime has gone."""
    with headset_node(manifest, runtime) as node:
        listener.until(lambda: len(listener.motion) > 90, "motion")
        message = listener.motion[-1][1]
        assert message.header.frame_id == "trainer"
        assert set(message.joint_names) == {"head", "left_grip", "left_aim", "right_grip", "right_aim"}
        assert np.allclose(
            place(message, "left_grip"), ROTATION_OPENXR_TO_TRAINER @ [-0.2, 1.15, -0.4], atol=1e-6
        )
        now_s = time.time()
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in listener.motion[-60:]]
        assert np.mean(np.diff(stamps)) == pytest.approx(1 / 90, rel=0.05)
        assert -0.001 < now_s - stamps[-1] < 5.0
        with runtime.writing() as script:
            script.controllers[1].press(squeeze__value=0.5)
        listener.until(
            lambda: listener.buttons[-1][1].axes[Axis.RIGHT_SQUEEZE] == pytest.approx(0.5), "the squeeze"
        )
        with runtime.writing() as script:
            script.instance_lost, script.present = 1, 0
        listener.until(lambda: listener.buttons[-1][1].axes[Axis.RIGHT_SQUEEZE] == 0.0, "the open deadman")
        # The same frame's poses may be heard after its buttons.
        stamp = listener.buttons[-1][1].header.stamp
        frames = sum(message.header.stamp == stamp for _, message in listener.buttons)
        listener.until(
            lambda: sum(message.header.stamp == stamp for _, message in listener.motion) == frames,
            "its poses",
        )
        count = len(listener.motion)
        # Its tries to be back are no frames.
        listener.until(lambda: runtime.happened.instances_destroyed == 1, "letting go of the instance")
        with runtime.writing() as script:
            script.instance_lost, script.present = 0, 1
        listener.until(lambda: runtime.happened.instances_made == 2, "the next instance")
        assert len(listener.motion) == count
        listener.until(lambda: len(listener.motion) > count + 30, "motion again")
        interrupt(node)
    assert runtime.happened.sessions_ended == 1


def test_a_node_whose_runtime_freezes_says_so_serves_and_ends(
    manifest: Path, runtime: ScriptedRuntime, listener: Listener
) -> None:
    with headset_node(manifest, runtime) as node:
        listener.until(lambda: len(listener.motion) > 30, "motion")
        listener.until(lambda: listener.states[-1] == ("tracking", "in use"), "the state")
        with runtime.writing() as script:
            script.frozen = 1
        listener.until(lambda: listener.states[-1][0] == "lost", "the word that the trainer is lost")
        assert listener.states[-1][1].startswith("the OpenXR runtime has not answered for 0.")
        assert "the trainer is not there: lost" in listener.play()
        with runtime.writing() as script:
            script.frozen = 0
        listener.until(lambda: listener.states[-1][0] == "tracking", "the trainer again")
        with runtime.writing() as script:
            script.frozen = 1
        listener.until(lambda: listener.states[-1][0] == "lost", "another loss")
        asked_s = time.monotonic()
        interrupt(node)
        assert time.monotonic() - asked_s < 8.0, "longer than a station waits"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retargeting_world, "DOMAIN", DOMAIN + 1)
    monkeypatch.setitem(globals(), "DOMAIN", DOMAIN + 1)
    world = World()
    world.has_motion = False
    yield world
    world.close()


def test_the_arms_brake_when_the_runtime_dies_and_wait_for_a_new_press(
    manifest: Path, runtime: ScriptedRuntime, world: World
) -> None:
    pressed, released = {"squeeze__value": 1.0}, {"squeeze__value": 0.0}
    with runtime.writing() as script:
        script.bd_supported = script.bd_active = 1
        for point, joint in BD_JOINTS.items():
            script.bd[joint].put(_STANDING[point.removeprefix("left_").removeprefix("right_")])
            side, _, _part = point.partition("_")
            script.bd[joint].position[0] *= -1.0 if side == "left" else 1.0

    def press(values: dict[str, float]) -> None:
        with runtime.writing() as script:
            for controller in script.controllers:
                controller.press(**values)

    def press_anew() -> bool:
        """Let go and press, where frames were late, on a busy machine, once more: a late press is none."""
        if world.states[-1][0] in ("idle", "holding"):
            press(released)
            syncs = runtime.happened.syncs
            world.wait(lambda: runtime.happened.syncs > syncs + 10, "the release to be seen")
            press(pressed)
            world.wait(lambda: runtime.happened.syncs > syncs + 60, "the press to be seen")
        return world.states[-1][0] == "tracking"

    def reach() -> None:
        with runtime.writing() as script:
            wrist = script.bd[BD_JOINTS["left_wrist"]]
            wrist.put(
                (-_STANDING["wrist"][0], *_STANDING["wrist"][1:]),
                velocity=(0.0, 0.3, -0.8),
                origin_ns=runtime.xr_time(time.monotonic_ns()),
            )

    def arm_moves() -> bool:
        """From the start again where late frames held the arm on its way."""
        if world.states[-1][0] != "tracking":
            world.wait(press_anew, "engaged anew")
            reach()
        return bool(np.abs(world.commands[-1][2]).max() > 0.3)

    with headset_node(manifest, runtime) as headset, running_node("-p", "deadman:=squeeze") as retargeting:
        world.wait_for("idle")
        world.wait(
            lambda: "no deadman is held" in world.call("engage").message, "to be measured, and refused"
        )
        assert world.set_parameter("engage_mode", "relative").successful
        world.wait(press_anew, "engaged")
        assert ("tracking", "engaged") in world.states
        world.wait_for_commands(100)
        reach()
        world.wait(arm_moves, "the arm to move")
        died_s = time.time()
        with runtime.writing() as script:
            script.instance_lost, script.present = 1, 0
        world.wait_for("holding")
        world.wait_for_rest()
        check_stop(world, died_s)

        with runtime.writing() as script:
            script.instance_lost, script.present = 0, 1
            script.bd[BD_JOINTS["left_wrist"]].velocity[:] = [0.0, 0.0, 0.0]
        world.wait(lambda: runtime.happened.instances_made >= 2, "the runtime to be back")
        syncs = runtime.happened.syncs
        world.wait(lambda: runtime.happened.syncs > syncs + 60, "frames")
        # Held all the time, it moves nothing.
        assert world.states[-1][0] == "holding"
        assert not world.commands[-1][2].any()
        world.wait(press_anew, "tracking again")
        world.wait_for_commands(100)
        interrupt(retargeting)
        interrupt(headset)
    check_limits(world)


def check_stop(world: World, died_s: float) -> None:
    """Still, and still for good, at the latest a moment and v/a after the death.

    The moment is 0.15 s on a machine of our own (`docs/openxr.md` has the figure); 0.5 s are let pass on
    one that others load.
    """
    after = [(stamp_s, np.abs(v).max()) for stamp_s, _, v in world.commands if stamp_s > died_s]
    speeds = np.array([speed for _, speed in after])
    still = int(np.flatnonzero(speeds)[-1]) + 1
    braking_s = speeds.max() / KESTREL.acceleration.min() + 10 * TICK_S
    print(f"still {1e3 * (after[still][0] - died_s):.0f} ms after the death, from {speeds.max():.2f} rad/s")
    assert after[still][0] - died_s <= 0.5 + braking_s
