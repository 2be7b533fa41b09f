"""One script of motions through the OpenXR runtime, the browser's headset and a suit's BVH: the same frames.

The person of the script is worked out here by scipy, in the trainer's axes; every source gets it in its own.
"""

from __future__ import annotations

import itertools
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "openxr"), str(HERE.parent / "openxr_runtime")]

from browser_headset import Headset, browser, needs_browser, running_source, until  # noqa: E402
from compiled_runtime import compiled_runtime  # noqa: E402
from openxr_script import ENVIRONMENT, ScriptedRuntime  # noqa: E402
from worn_headset import wait_for  # noqa: E402

from capture_nodes.sources.mocap import MocapParameters, MocapSource  # noqa: E402
from capture_nodes.sources.openxr.bodies import BD_JOINTS, FB_JOINTS  # noqa: E402
from capture_nodes.sources.openxr.live import OpenXrSource  # noqa: E402
from capture_nodes.sources.openxr.parameters import OpenXrParameters  # noqa: E402
from capture_nodes.sources.openxr.points import HAND_POINT_NAMES  # noqa: E402
from capture_nodes.sources.webxr_body import CONVENTIONS  # noqa: E402
from capture_nodes.sources.webxr_wire import BODY_JOINTS, HAND_JOINTS  # noqa: E402
from capture_nodes.stamp_clock import StampClock, read_together  # noqa: E402
from retargeting.body_points import SIDES  # noqa: E402
from retargeting.motion_frame import MotionFrame  # noqa: E402

TIMEOUT_S = 30.0
TOLERANCE = 1e-4  # m and rad
# A frame stamped this much after a pose was set shows it: more than any clock here is off by.
CLOCKS_NS = 10_000_000
MOMENTS_S = np.linspace(0.0, 2.4, 13)
# Axes of OpenXR (x right, y up, z back) and of BVH (x left, y up, z ahead) as columns in the trainer's.
OPENXR = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
BVH = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
Poses = dict[str, tuple[np.ndarray, np.ndarray]]

# ---- the script


@dataclass(frozen=True)
class Joint:
    """A joint of the person in a T-pose that faces x; m from its parent, both in the trainer's axes.

    `turn`: at most by how much it turns (rotation vector, rad), at `hz`.
    """

    point: str
    name: str
    parent: str
    offset: tuple[float, float, float]
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hz: float = 0.4


def _limbs() -> Iterator[Joint]:
    for side, sign, word in (("left", 1.0, "Left"), ("right", -1.0, "Right")):
        arm = f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"
        yield Joint(arm[0], f"{word}Arm", "chest", (0.0, 0.17 * sign, 0.11), (0.5, 0.6, -1.0 * sign), 0.37)
        yield Joint(arm[1], f"{word}ForeArm", arm[0], (0.0, 0.28 * sign, 0.0), (0.3, 0.0, -1.3 * sign), 0.31)
        yield Joint(arm[2], f"{word}Hand", arm[1], (0.0, 0.25 * sign, 0.0), (0.8, -0.5, 0.4 * sign), 0.53)
        leg = f"{side}_hip", f"{side}_knee", f"{side}_ankle"
        yield Joint(leg[0], f"{word}UpLeg", "pelvis", (0.0, 0.09 * sign, -0.05), (0.1, -0.4, 0.1), 0.41)
        yield Joint(leg[1], f"{word}Leg", leg[0], (0.0, 0.0, -0.42), (0.0, 0.5, 0.0), 0.41)
        yield Joint(leg[2], f"{word}Foot", leg[1], (0.0, 0.0, -0.41), (0.0, -0.2, 0.1), 0.41)


JOINTS = (
    Joint("pelvis", "Hips", "", (0.0, 0.0, 0.95), (0.15, 0.2, 1.1), 0.2),
    Joint("chest", "Spine3", "pelvis", (0.0, 0.0, 0.36), (0.1, 0.3, 0.3), 0.33),
    Joint("head", "Head", "chest", (0.0, 0.0, 0.16), (0.2, 0.5, 0.6), 0.45),
    *_limbs(),
)
_TOE = (0.16, 0.0, -0.07)
_FINGERS = 0.09


def place_of_root(t: float) -> np.ndarray:
    """Walks; stands upright over the origin at first."""
    return np.array([0.3 * np.sin(1.1 * t), -0.2 * np.sin(1.7 * t), 0.95 + 0.06 * np.sin(2.3 * t)])


def local_turn(joint: Joint, t: float) -> Rotation:
    return Rotation.from_rotvec(np.array(joint.turn) * np.sin(2.0 * np.pi * joint.hz * t))


def person_at(t: float) -> Poses:
    """Place, and turn since the T-pose (matrix), of each body point."""
    poses: Poses = {}
    for joint in JOINTS:
        turn = local_turn(joint, t).as_matrix()
        if not joint.parent:
            poses[joint.point] = place_of_root(t), turn
            continue
        at, parent_turn = poses[joint.parent]
        poses[joint.point] = at + parent_turn @ joint.offset, parent_turn @ turn
    return poses


def t_pose_axes(point: str) -> np.ndarray:
    """Of a point in a T-pose: x along the limb, z out of the hand's back, which is up."""
    side, _, part = point.partition("_")
    if part not in ("shoulder", "elbow", "wrist"):
        return np.eye(3)
    left = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return left if side == "left" else left.T


def truth_at(t: float) -> Poses:
    """What every source has to say of the body."""
    return {point: (at, turn @ t_pose_axes(point)) for point, (at, turn) in person_at(t).items()}


def openxr(pose: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, Rotation]:
    """A pose of the trainer's axes in those of OpenXR and WebXR, own axes too."""
    at, axes = pose
    return OPENXR.T @ at, Rotation.from_matrix(OPENXR.T @ axes @ OPENXR)


# Which way a joint's x, y, z point in a T-pose, palms down: what each convention of a body has instead of
# x right, y up, z back. Meta's as other programs undo them; the draft's where -z runs along the bone and -y
# out of the palm's side.
_WAYS = {
    "right": (1, 0, 0), "left": (-1, 0, 0), "up": (0, 1, 0), "down": (0, -1, 0), "back": (0, 0, 1),
    "ahead": (0, 0, -1),
}  # fmt: skip
_META = {
    "trunk": "down ahead right", "left arm": "right ahead up", "right arm": "right back down",
    "left leg": "up back right", "right leg": "down ahead right", "left foot": "ahead up right",
    "right foot": "back down right",
}  # fmt: skip
_DRAFT = {
    "trunk": "right back down", "left arm": "ahead up right", "right arm": "back up left",
    "left leg": "left back up", "right leg": "left back up", "left foot": "right up back",
    "right foot": "right up back",
}  # fmt: skip
_LIMBS = {"shoulder": "arm", "elbow": "arm", "wrist": "arm", "hip": "leg", "knee": "leg", "ankle": "foot"}


def joint_axes(convention: str, point: str) -> np.ndarray:
    """Of a body's joint in a T-pose, as columns in OpenXR's axes."""
    if convention == "bd":
        return np.eye(3)
    side, _, part = point.partition("_")
    words = {"meta": _META, "draft": _DRAFT}[convention][f"{side} {_LIMBS[part]}" if part else "trunk"]
    axes = np.array([_WAYS[word] for word in words.split()], dtype=float).T
    assert np.linalg.det(axes) == pytest.approx(1.0), (convention, point)
    return axes


def joint_of(convention: str, point: str, pose: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, Rotation]:
    """A body point as a device says it, in OpenXR's world."""
    at, turn = openxr(pose)
    return at, turn * Rotation.from_matrix(joint_axes(convention, point))


def in_hand(t: float) -> Poses:
    """Grips, aims and the joints of both hands in the trainer's axes, fixed to a wrist that moves.

    Their own axes are those of OpenXR and WebXR, turned into the trainer's; arbitrary but for the wrist's.
    """
    random = np.random.default_rng(5)
    truth, poses = truth_at(t), {}
    for side in SIDES:
        at, axes = truth[f"{side}_wrist"]
        for name in ("grip", "aim", *HAND_POINT_NAMES):
            offset = random.uniform((-0.05, -0.1, -0.1), (0.15, 0.1, 0.1))
            turn = Rotation.random(random_state=random).as_matrix()
            if name == "wrist":
                offset, turn = np.zeros(3), np.eye(3)
            poses[f"{side}_{name}"] = at + axes @ offset, axes @ turn
    return poses


# ---- through OpenXR


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_runtime(tmp_path_factory.mktemp("openxr_runtime"))


@pytest.fixture
def runtime(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedRuntime:
    monkeypatch.setenv("XR_RUNTIME_JSON", str(manifest))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "script"))
    runtime = ScriptedRuntime(tmp_path / "script")
    with runtime.writing() as script:
        # Far from the steady clock, as runtimes have it.
        script.time_shift_ns = 987_654_321_012_345
        script.bd_supported = 1
    return runtime


def station_clock() -> StampClock:
    return StampClock(time.time_ns)


def through_openxr(runtime: ScriptedRuntime, what: str) -> list[MotionFrame]:
    frames = []
    runtime.hold(*(("touch", "touch") if what == "controllers" else ("none", "none")))
    with runtime.writing() as script:
        script.bd_supported, script.fb_supported = int(what != "fb body"), int(what == "fb body")
        for point, joint in FB_JOINTS.items():
            at, turn = joint_of("meta", point, person_at(0.0)[point])
            script.fb_skeleton[joint].put(at, turn.as_quat())
    with OpenXrSource(OpenXrParameters(), station_clock()) as source:
        for t in MOMENTS_S:
            body, held = person_at(t), in_hand(t)
            with runtime.writing() as script:
                _put(script.head, body["head"])
                script.bd_active, script.fb_active = int(what == "hands"), int(what == "fb body")
                for point, joint in FB_JOINTS.items():
                    at, turn = joint_of("meta", point, body[point])
                    script.fb[joint].put(at, turn.as_quat())
                for point, joint in BD_JOINTS.items():
                    _put(script.bd[joint], body[point])
                for k, side in enumerate(SIDES):
                    _put(script.controllers[k].grip, held[f"{side}_grip"])
                    _put(script.controllers[k].aim, held[f"{side}_aim"])
                    script.hands[k].active = int(what == "hands")
                    for joint, name in zip(script.hands[k].joints, HAND_POINT_NAMES, strict=True):
                        _put(joint, held[f"{side}_{name}"])
            later = time.time_ns() + CLOCKS_NS
            wanted = {"controllers": "left_grip", "hands": "left_palm", "fb body": "chest"}[what]
            frames.append(
                wait_for(source, lambda f, later=later, p=wanted: f.stamp_ns > later and p in f.poses)
            )
    return frames


def _put(scripted: Any, pose: tuple[np.ndarray, np.ndarray]) -> None:
    at, rotation = openxr(pose)
    scripted.put(at, rotation.as_quat())


# ---- through the browser

# What iwer computes from tables of its own (joints of hands, how a grip lies to its aim) is put instead; a
# body it does not have at all.
_SCRIPTED = """(() => {
const offset = (space) => space[Object.getOwnPropertySymbols(space).find((s) => space[s]?.offsetMatrix)];
const ray = headset.hands.left.inputSource.targetRaySpace;
const body = new Map(NAMES.map((name) => [name, new XRSpace(ray)]));
for (const hand of Object.values(headset.hands)) {
  hand.updateHandPose = () => {};
  hand.position.set(0, 0, 0);
  hand.quaternion.set(0, 0, 0, 1);
}
Object.defineProperty(XRFrame.prototype, 'body', {
  get() { return headset.primaryInputMode === 'hand' ? body : undefined; }});
const place = (thing, pose) => { thing.position.set(...pose[0]); thing.quaternion.set(...pose[1]); };
globalThis.put = (said) => {
  place(headset, said.head);
  for (const side of ['left', 'right']) {
    place(headset.controllers[side], said[side].aim);
    offset(headset.controllers[side].inputSource.gripSpace).offsetMatrix.set(said[side].grip);
    [...headset.hands[side].inputSource.hand.values()].forEach(
      (joint, k) => offset(joint).offsetMatrix.set(said[side].joints[k]));
  }
  [...body.values()].forEach((space, k) => offset(space).offsetMatrix.set(said.body[k]));
};
})()"""
_BODY_PARTS = {
    "shoulder": "arm-upper", "elbow": "arm-lower", "wrist": "hand-wrist", "hip": "upper-leg",
    "knee": "lower-leg", "ankle": "foot-ankle",
}  # fmt: skip


def _web_name(point: str) -> str:
    side, _, part = point.partition("_")
    return {"chest": "chest", "pelvis": "hips"}.get(point) or f"{side}-{_BODY_PARTS[part]}"


def _matrix(at: np.ndarray, rotation: Rotation) -> list[float]:
    """Column after column."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), at
    return matrix.T.ravel().tolist()


def _said(t: float, convention: str) -> dict[str, Any]:
    body, held = person_at(t), in_hand(t)
    said: dict[str, Any] = {
        "head": [part.tolist() for part in (openxr(body["head"])[0], openxr(body["head"])[1].as_quat())],
        "body": [_matrix(*joint_of(convention, point, body[point])) for point in BODY_JOINTS],
    }
    for side in SIDES:
        (aim_at, aim), (grip_at, grip) = (openxr(held[f"{side}_{name}"]) for name in ("aim", "grip"))
        said[side] = {
            "aim": [aim_at.tolist(), aim.as_quat().tolist()],
            "grip": _matrix(aim.inv().apply(grip_at - aim_at), aim.inv() * grip),
            "joints": [_matrix(*openxr(held[f"{side}_{name}"])) for name in HAND_JOINTS],
        }
    return said


@contextmanager
def worn_in_browser(folder: Path) -> Iterator[tuple[Any, Any, Headset]]:
    needs_browser()
    with running_source(folder) as (source, publisher), browser() as chromium:
        worn = Headset(chromium)
        worn.open(f"http://127.0.0.1:{source.port}/")
        worn.run(_SCRIPTED.replace("NAMES", str([_web_name(point) for point in BODY_JOINTS])))
        worn.start()
        until(lambda: len(publisher.frames) > 3, "frames", page=worn.page)
        yield source, publisher, worn
        assert worn.errors == []
        worn.close()


def through_browser(worn: Headset, publisher: Any, what: str, convention: str = "meta") -> list[MotionFrame]:
    frames = []
    worn.page.evaluate("(said) => put(said)", _said(0.0, convention))
    worn.run(f"headset.primaryInputMode = '{'controller' if what == 'controllers' else 'hand'}'")
    wanted = "left_grip" if what == "controllers" else "left_wrist"
    until(lambda: wanted in publisher.newest.poses, what, page=worn.page)
    # As if another browser came.
    for state in ("visible-blurred", "visible"):
        worn.run(f"headset.updateVisibilityState('{state}')")
        count = len(publisher.frames)
        until(lambda: len(publisher.frames) > count + 3, state, page=worn.page)  # noqa: B023
    for t in MOMENTS_S:
        worn.page.evaluate("(said) => put(said)", _said(t, convention))
        set_ns = time.time_ns()
        until(
            lambda set_ns=set_ns: publisher.newest.stamp_ns > set_ns + CLOCKS_NS,
            "frames of after", page=worn.page,
        )  # fmt: skip
        frames.append(publisher.newest)
    return frames


# ---- through a suit's software


def header(frame_time: str = "") -> str:
    def written(joint: Joint) -> str:
        channels = "CHANNELS 3 Yrotation Xrotation Zrotation\n"
        if not joint.parent:
            channels = "CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation\n"
        inner = "".join(written(child) for child in JOINTS if child.parent == joint.point)
        if not inner:
            side = 1.0 if joint.point.startswith("left") else -1.0
            end = _TOE if "ankle" in joint.point else (0.0, side * _FINGERS, 0.0)
            if joint.point == "head":
                end = (0.0, 0.0, 0.2)
            inner = f"End Site\n{{\nOFFSET {_cm(np.array(end))}\n}}\n"
        kind = "JOINT" if joint.parent else "ROOT"
        return f"{kind} {joint.name}\n{{\nOFFSET {_cm(np.array(joint.offset))}\n{channels}{inner}}}\n"

    return f"HIERARCHY\n{written(JOINTS[0])}MOTION\n{frame_time}"


def _cm(offset: np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in 100.0 * BVH.T @ offset)


def line(t: float) -> str:
    """A frame of the script."""
    order = {joint.point: joint for joint in JOINTS}
    values: list[str] = [_cm(place_of_root(t))]

    def take(joint: Joint) -> None:
        turn = Rotation.from_matrix(BVH.T @ local_turn(joint, t).as_matrix() @ BVH)
        values.extend(repr(float(angle)) for angle in turn.as_euler("YXZ", degrees=True))
        for child in order.values():
            if child.parent == joint.point:
                take(child)

    take(JOINTS[0])
    return " ".join(values)


@contextmanager
def worn_suit() -> Iterator[tuple[MocapSource, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        clock = station_clock()
        with MocapSource(
            MocapParameters(f"tcp://127.0.0.1:{server.getsockname()[1]}"), clock.stamp
        ) as source:
            sender, _ = server.accept()
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sender:
                yield source, sender


def next_frame(source: MocapSource) -> MotionFrame:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        frame = source.wait_frame(0.1)
        if frame is not None:
            return frame
    raise AssertionError(f"no frame: {source.diagnostics()}")


def through_suit() -> list[MotionFrame]:
    with worn_suit() as (source, sender):
        sender.sendall(header().encode())
        frames = []
        for t in MOMENTS_S:
            sender.sendall(f"{line(t)}\n".encode())
            frames.append(next_frame(source))
        return frames


# ---- the same


def differences(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """m and rad between two poses."""
    turn = Rotation.from_quat(a[3:]).inv() * Rotation.from_quat(b[3:])
    return float(np.linalg.norm(a[:3] - b[:3])), float(turn.magnitude())


def compare(
    names: tuple[str, str],
    a: list[MotionFrame],
    b: list[MotionFrame],
    points: set[str],
    record: Callable[[str, object], None],
) -> None:
    """Of every moment of the script."""
    worst_m, worst_rad = 0.0, 0.0
    for k, (one, other) in enumerate(zip(a, b, strict=True)):
        for point in points:
            far_m, far_rad = differences(one.poses[point], other.poses[point])
            worst_m, worst_rad = max(worst_m, far_m), max(worst_rad, far_rad)
            where = f"{point} of {names} at {MOMENTS_S[k]:.1f} s"
            assert far_m < TOLERANCE, f"{where}: {far_m} m"
            assert far_rad < TOLERANCE, f"{where}: {far_rad} rad"
    record(f"{' and '.join(names)}, {len(points)} points: m, rad", f"{worst_m:.1e}, {worst_rad:.1e}")
    print(names, len(points), "points", f"{worst_m:.1e} m {worst_rad:.1e} rad")


def test_the_script_moves_and_turns() -> None:
    """Else its sameness would say little."""
    for point in ("head", "left_wrist", "right_wrist"):
        places = np.array([truth_at(t)[point][0] for t in MOMENTS_S])
        assert np.ptp(places, axis=0).min() > 0.05
        turns = [
            Rotation.from_matrix(truth_at(0.0)[point][1].T @ truth_at(t)[point][1]).magnitude()
            for t in MOMENTS_S
        ]
        assert max(turns) > 1.0


def test_one_script_gives_the_same_frames_whatever_it_comes_through(
    runtime: ScriptedRuntime, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    suit = through_suit()
    held = through_openxr(runtime, "controllers")
    bare = through_openxr(runtime, "hands")
    upper = through_openxr(runtime, "fb body")
    web_bodies = {}
    with worn_in_browser(tmp_path / "webxr") as (source, publisher, worn):
        web_held = through_browser(worn, publisher, "controllers")
        for convention in CONVENTIONS:
            web_bodies[convention] = through_browser(worn, publisher, "hands", convention)
            assert source.diagnostics()["body_axes"] == convention
    web_bare = web_bodies["meta"]

    controllers = {"head", *(f"{side}_{kind}" for side in SIDES for kind in ("grip", "aim"))}
    assert set(held[0].poses) == set(web_held[0].poses) == controllers
    compare(("openxr", "webxr"), held, web_held, controllers, record_property)

    fingers = {f"{side}_{joint}" for side in SIDES for joint in HAND_JOINTS}
    compare(("openxr", "webxr"), bare, web_bare, {"head", *fingers}, record_property)

    body = {joint.point for joint in JOINTS}
    assert set(suit[0].poses) == body and body <= set(bare[0].poses)
    compare(("openxr", "mocap"), bare, suit, body, record_property)
    compare(("openxr FB", "mocap"), upper, suit, set(FB_JOINTS), record_property)
    assert set(upper[0].poses) == set(FB_JOINTS)

    for convention, web in web_bodies.items():
        assert body <= set(web[0].poses)
        compare((f"webxr, {convention}", "mocap"), web, suit, body, record_property)
        compare((f"webxr, {convention}", "openxr BD"), web, bare, body, record_property)
        compare((f"webxr, {convention}", "openxr FB"), web, upper, set(FB_JOINTS), record_property)

    for frames in (suit, bare, *web_bodies.values()):
        for t, frame in zip(MOMENTS_S, frames, strict=True):
            for point, (at, axes) in truth_at(t).items():
                pose = np.concatenate([at, Rotation.from_matrix(axes).as_quat()])
                assert max(differences(pose, frame.poses[point])) < TOLERANCE, point
    for frames in (suit, held, bare, upper, web_held, *web_bodies.values()):
        stamps = [frame.stamp_ns for frame in frames]
        assert all(a < b for a, b in itertools.pairwise(stamps))
        assert 0.0 <= 1e-9 * (time.time_ns() - stamps[-1]) < 600.0


# ---- stamps: a place along x tells the moment (m = s since the beginning) that it was shown at


def told_s(errors_s: list[float]) -> str:
    low, median, high = 1e3 * np.quantile(errors_s, (0.01, 0.5, 0.99))
    return f"median {median:.4f}, 98 % between {low:.4f} and {high:.4f}"


def station_s(moment_s: float) -> float:
    """The station's time of a moment of the steady clock."""
    now_ns, steady_s = read_together(time.time_ns)
    return 1e-9 * now_ns - (steady_s - moment_s)


def test_stamps_of_openxr_are_the_moments_of_the_poses(
    runtime: ScriptedRuntime, record_property: Callable[[str, object], None]
) -> None:
    began_ns = time.monotonic_ns()
    with runtime.writing() as script:
        script.head.put((0.0, 1.6, 0.0), velocity=(0.0, 0.0, -1.0), origin_ns=runtime.xr_time(began_ns))
    errors_s = []
    with OpenXrSource(OpenXrParameters(), station_clock()) as source:
        for _ in range(100):
            frame = wait_for(source, lambda frame: "head" in frame.poses)
            shown_s = station_s(1e-9 * began_ns + frame.poses["head"][0])
            errors_s.append(1e-9 * frame.stamp_ns - shown_s)
        uncertainty_ms = float(source.diagnostics()["clock_uncertainty_ms"])
    record_property("openxr: stamp less moment of the pose, ms", told_s(errors_s))
    print("openxr", told_s(errors_s), f"stated {uncertainty_ms} ms")
    # What an evenly spaced stamp may be off the clock by (`StampClock`), and reading two clocks together.
    assert abs(np.median(errors_s)) < 1e-3 * uncertainty_ms + 1e-3


def test_stamps_of_the_browser_are_the_moments_of_the_poses(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with worn_in_browser(tmp_path / "webxr") as (source, publisher, worn):
        # iwer asks the device where it is when a frame begins.
        worn.run(
            "globalThis.began = performance.now(); Object.defineProperty(headset.position, 'vec3', {"
            "get() { return [0, 1.6, -1e-3 * (performance.now() - began)]; }})"
        )
        # Both clocks are this machine's, the browser's from its time origin on.
        origin_s, began_s = (1e-3 * ms for ms in worn.run("[performance.timeOrigin, began]"))
        count = len(publisher.frames)
        until(lambda: len(publisher.frames) > count + 100, "frames", page=worn.page)
        uncertainty_ms = float(source.diagnostics()["clock_uncertainty_ms"])
        errors_s = [
            1e-9 * frame.stamp_ns - (origin_s + began_s + frame.poses["head"][0])
            for _, _, frame in publisher.frames[count + 3 :]
        ]
    record_property("webxr: stamp less moment of the pose, ms", told_s(errors_s))
    record_property("webxr: stated uncertainty of the clock, ms", uncertainty_ms)
    print("webxr", told_s(errors_s), f"stated {uncertainty_ms} ms")
    # The browser begins its frame when it likes, at most by some frames late: the stamp is the one it means.
    assert -0.1 < np.median(errors_s) < 1e-3 * uncertainty_ms + 2e-3


@pytest.mark.parametrize("numbered", [False, True])
def test_stamps_of_a_suit_are_the_moments_it_sent(
    numbered: bool, record_property: Callable[[str, object], None]
) -> None:
    period_s, count = 0.01, 300
    turns = line(0.0).split(" ", 3)[3]
    errors_s = []
    with worn_suit() as (source, sender):
        sender.sendall(header(f"Frame Time: {period_s}\n").encode())
        began_s = time.monotonic() + period_s
        for k in range(count):
            while time.monotonic() - began_s < period_s * k:
                source.wait_frame(0.0)
            # A number is that of the moment it was made at, however late this machine sends it.
            made_s = period_s * k if numbered else time.monotonic() - began_s
            at = place_of_root(0.0) + np.array([made_s, 0.0, 0.0])
            sender.sendall(f"{f'{k} ' * numbered}{_cm(at)} {turns}||".encode())
            frame = next_frame(source)
            if k == 0:
                # `trainer` is where the first frame has the pelvis.
                first_s = made_s
            shown_s = station_s(began_s + first_s + frame.poses["pelvis"][0])
            errors_s.append(1e-9 * frame.stamp_ns - shown_s)
        assert source.diagnostics()["problem"] == ""
    kind = "numbered" if numbered else "by arrival"
    record_property(f"mocap, {kind}: stamp less moment it was made, ms", told_s(errors_s))
    print("mocap", kind, told_s(errors_s))
    assert -1e-3 < np.median(errors_s) < 0.1
