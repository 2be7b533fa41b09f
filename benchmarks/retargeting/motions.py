"""What the benchmark plays: motion frames of a synthetic trainer, and recorded ones.

A motion starts with `STANDING_S` in the ready pose: the trainer is measured and the arms engage there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from capture_nodes.sources.person import Person
from capture_nodes.sources.script import minimum_jerk
from retargeting.body_points import SIDES
from retargeting.frames import (
    quaternion_from_rotation_vector,
    quaternion_from_rpy,
    quaternion_multiply,
    rotate,
)
from retargeting.motion_frame import MotionFrame

Array = NDArray[np.float64]

FRAME_RATE_HZ = 90.0
STANDING_S = 3.0
ENGAGE_S = 0.8
# The mapping uses 97 % of the robot's reach for a stretched human arm; this brings it to all of it.
_FULL_REACH = 1.0 / 0.97
_JITTER_M, _JITTER_RAD = 0.0005, np.radians(0.3)
_FIRST_STAMP_NS = 1_000_000_000


@dataclass(frozen=True)
class Motion:
    """Frames (stamps from `_FIRST_STAMP_NS` on), and what the operator does: (s, "engage" | "release").

    tick_share: step lengths as shares of the nominal tick, repeated; `clean`: the same motion without
    its disturbance, for motions that have one.
    """

    name: str
    frames: tuple[MotionFrame, ...]
    events: tuple[tuple[float, str], ...] = ((ENGAGE_S, "engage"),)
    tick_share: tuple[float, ...] = (1.0,)
    clean: Motion | None = field(default=None, repr=False)

    @property
    def duration_s(self) -> float:
        return (self.frames[-1].stamp_ns - self.frames[0].stamp_ns) * 1e-9


@dataclass(frozen=True)
class Hands:
    """Wrist poses ``(n, 7)`` per side in `trainer` at `FRAME_RATE_HZ`, and elbow swivel ``(n,)`` (rad)."""

    left: Array
    right: Array
    swivel_rad: Array

    def of(self, side: str) -> Array:
        return self.left if side == "left" else self.right


# From a time (s, after standing) to offsets of the wrist from its shoulder, in arm lengths, and its rpy.
Way = Callable[[float, float], tuple[Array, Array]]


def _ready(person: Person, side: str) -> tuple[Array, Array]:
    pose = person.ready_wrist(side)
    return (pose[:3] - person.shoulder(side)) / person.reach_m, np.zeros(3)


def _hands(
    person: Person, duration_s: float, way: Way, swivel: Callable[[float], float] | None = None
) -> Hands:
    """Both wrists along `way(time, sign)` (sign +1 left, -1 right), standing in the ready pose before."""
    times = np.arange(round((STANDING_S + duration_s) * FRAME_RATE_HZ) + 1) / FRAME_RATE_HZ - STANDING_S
    poses = {}
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        start, start_rpy = _ready(person, side)
        ways = [(start, start_rpy) if time <= 0.0 else way(float(time), sign) for time in times]
        # The first second leads from the ready pose into the motion.
        share = minimum_jerk(times)[:, None]
        offset = start + share * (np.array([offset for offset, _ in ways]) - start)
        turn = quaternion_from_rpy(share * np.array([rpy for _, rpy in ways]))
        poses[side] = np.concatenate([person.shoulder(side) + person.reach_m * offset, turn], axis=-1)
    angle = np.array([swivel(float(t)) if swivel is not None and t > 0.0 else 0.0 for t in times])
    return Hands(poses["left"], poses["right"], angle)


def _knots(rows: list[tuple[float, tuple[float, float, float], tuple[float, float, float]]]) -> Way:
    """Minimum-jerk way through (time s, offset, rpy) of the left wrist; the right one mirrors it."""
    times = [row[0] for row in rows]

    def way(time: float, sign: float) -> tuple[Array, Array]:
        after = min(int(np.searchsorted(times, time)), len(rows) - 1)
        before = max(0, after - 1)
        length = max(times[after] - times[before], 1e-9)
        share = float(minimum_jerk(np.array((time - times[before]) / length)))
        mirror, turn = np.array([1.0, sign, 1.0]), np.array([sign, 1.0, sign])
        offset = (1 - share) * np.array(rows[before][1]) + share * np.array(rows[after][1])
        rpy = (1 - share) * np.array(rows[before][2]) + share * np.array(rows[after][2])
        return mirror * offset, turn * rpy

    return way


def _swivelled(points: dict[str, Array], side: str, angle: Array) -> None:
    """Turn the elbow about the line from shoulder to wrist, outwards and up for positive angles."""
    shoulder, elbow, wrist = (points[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist"))
    line = wrist[:, :3] - shoulder[:, :3]
    line = line / np.linalg.norm(line, axis=1, keepdims=True)
    sign = -1.0 if side == "left" else 1.0
    turn = quaternion_from_rotation_vector(sign * angle[:, None] * line)
    elbow[:, :3] = shoulder[:, :3] + rotate(turn, elbow[:, :3] - shoulder[:, :3])
    elbow[:, 3:] = quaternion_multiply(turn, elbow[:, 3:])


def _frames(person: Person, hands: Hands) -> tuple[MotionFrame, ...]:
    """A person whose wrists are there; the arm is stretched towards a wrist that is out of its reach."""
    near = {}
    for side in SIDES:
        wrist, shoulder = hands.of(side).copy(), person.shoulder(side)
        offset = wrist[:, :3] - shoulder
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        # A hair inside both ends: a stretched or folded arm has no elbow direction of its own.
        kept = np.clip(length, abs(person.upper_arm_m - person.forearm_m) + 0.005, 0.9999 * person.reach_m)
        wrist[:, :3] = shoulder + offset * kept / np.maximum(length, 1e-9)
        near[side] = wrist
    look_at = np.array([0.6, 0.0, person.shoulder_height_m - 0.3])
    points = person.body(near, np.zeros(len(hands.left)), look_at)
    for side in SIDES:
        _swivelled(points, side, hands.swivel_rad)
        points[f"{side}_wrist"] = hands.of(side)
    return tuple(
        MotionFrame(_stamp_ns(k), {name: poses[k] for name, poses in points.items()})
        for k in range(len(hands.left))
    )


def _stamp_ns(frame: int) -> int:
    return _FIRST_STAMP_NS + round(frame * 1e9 / FRAME_RATE_HZ)


def _with_pose(frame: MotionFrame, changes: dict[str, Array | None]) -> MotionFrame:
    """The frame with some points moved, or absent for None."""
    poses = {name: pose for name, pose in frame.poses.items() if name not in changes}
    poses |= {name: pose for name, pose in changes.items() if pose is not None}
    return replace(frame, poses=poses)


def _eight(frequency_hz: float, width: float, height: float) -> Way:
    def way(time: float, sign: float) -> tuple[Array, Array]:
        phase = 2.0 * np.pi * frequency_hz * (time - 1.0) * (1.0 if time > 1.0 else 0.0)
        offset = np.array([0.62, 0.0, -0.28])
        offset += [0.0, sign * width * np.sin(phase), height * np.sin(2.0 * phase)]
        return offset, np.array([0.4 * np.sin(phase), 0.0, 0.0])

    return way


def figure_eight(person: Person) -> Motion:
    return Motion("figure_eight", _frames(person, _hands(person, 7.0, _eight(0.5, 0.3, 0.15))))


def late_ticks(person: Person, rng: np.random.Generator) -> Motion:
    """The figure-eight with every fifth tick late or early, by up to six ticks."""
    shares = np.where(rng.random(997) < 0.8, 1.0, rng.uniform(0.3, 6.0, 997))
    return replace(figure_eight(person), name="late_ticks", tick_share=tuple(shares.tolist()))


def jittery_headset(person: Person, rng: np.random.Generator) -> Motion:
    """A slow reach with 0.5 mm and 0.3 degrees (1 sigma per axis) of white noise on every tracked point."""
    way = _knots([(1.0, (0.6, 0.1, -0.4), (0, 0, 0)), (5.0, (0.75, -0.15, -0.1), (0.3, -0.3, 0.0))])
    clean = Motion("jittery_headset", _frames(person, _hands(person, 6.0, way)))
    return replace(clean, frames=tuple(_jittered(frame, rng) for frame in clean.frames), clean=clean)


def _jittered(frame: MotionFrame, rng: np.random.Generator) -> MotionFrame:
    poses = {}
    for name, pose in frame.poses.items():
        turn = quaternion_from_rotation_vector(rng.normal(0.0, _JITTER_RAD, 3))
        position = pose[:3] + rng.normal(0.0, _JITTER_M, 3)
        poses[name] = np.concatenate([position, quaternion_multiply(turn, pose[3:])])
    return replace(frame, poses=poses)


def full_extension(person: Person) -> Motion:
    """To the end of the robot's reach and 15 % beyond it, a sweep there, and back."""
    ahead = np.array([0.95, 0.1, -0.3])
    ahead /= np.linalg.norm(ahead)
    aside = np.array([0.75, 0.62, -0.2])
    aside /= np.linalg.norm(aside)

    def at(direction: Array, share: float) -> tuple[float, float, float]:
        x, y, z = (_FULL_REACH * share * direction).tolist()
        return x, y, z

    rest = (0.0, 0.0, 0.0)
    way = _knots(
        [
            (1.0, at(ahead, 0.75), rest),
            (2.5, at(ahead, 1.0), rest),
            (3.5, at(ahead, 1.15), rest),
            (5.5, at(aside, 1.15), rest),
            (7.0, at(ahead, 1.15), rest),
            (8.5, at(ahead, 0.75), rest),
            (9.0, at(ahead, 0.75), rest),
        ]
    )
    return Motion("full_extension", _frames(person, _hands(person, 9.0, way)))


def out_of_bounds(person: Person) -> Motion:
    """Behind the back, high above, across the body and far away, at the speed of a brisk arm."""
    way = _knots(
        [
            (1.0, (0.6, 0.0, -0.4), (0, 0, 0)),
            (2.0, (-0.6, 0.3, -0.5), (0, 0.5, 1.0)),
            (3.2, (0.2, 0.2, 1.2), (0, -1.4, 0)),
            (4.4, (0.5, -1.1, -0.1), (0, 0, -1.2)),
            (5.6, (1.5, 0.4, 0.2), (1.0, 0, 0)),
            (6.6, (0.1, 0.1, -1.4), (0, 1.2, 0)),
            (7.6, (0.6, 0.0, -0.4), (0, 0, 0)),
            (8.2, (0.6, 0.0, -0.4), (0, 0, 0)),
        ]
    )
    return Motion("out_of_bounds", _frames(person, _hands(person, 8.2, way)))


def elbow_raised(person: Person) -> Motion:
    """Wrists nearly still, elbows swung up to shoulder height and back, twice."""

    def still(_time: float, sign: float) -> tuple[Array, Array]:
        return np.array([0.6, -0.05 * sign, -0.25]), np.zeros(3)

    def swivel(time: float) -> float:
        return 0.0 if time < 1.0 else 0.65 * (1.0 - np.cos(2.0 * np.pi * (time - 1.0) / 3.0))

    return Motion("elbow_raised", _frames(person, _hands(person, 7.0, still, swivel)))


def torso_grazing(person: Person) -> Motion:
    """Hands along the belly, crossed before it, and up along the chest."""
    flat = (0.0, 0.0, 0.0)
    way = _knots(
        [
            (1.0, (0.40, -0.05, -0.70), flat),
            (2.2, (0.24, -0.20, -0.70), (0, 0, -0.9)),
            (3.4, (0.20, -0.45, -0.60), (0, 0, -1.3)),
            (4.6, (0.22, -0.30, -0.20), (0, -0.6, -1.0)),
            (5.8, (0.22, 0.10, -0.50), (0, 0, -0.3)),
            (7.0, (0.45, 0.00, -0.60), flat),
            (7.5, (0.45, 0.00, -0.60), flat),
        ]
    )
    return Motion("torso_grazing", _frames(person, _hands(person, 7.5, way)))


def fast_reach(person: Person) -> Motion:
    """Reaches of 0.55 m in 0.32 s: 3.2 m/s at their peak, as fast as people reach."""
    far = 0.55 / person.reach_m
    near, end = (0.35, 0.1, -0.45), (0.35 + 0.85 * far * 0.6, 0.1, -0.45 + 0.85 * far * 0.8)
    step = np.array(end) - np.array(near)
    end_at = np.array(near) + step * far / np.linalg.norm(step)
    end = (float(end_at[0]), float(end_at[1]), float(end_at[2]))
    rest, rows, time = (0.0, 0.0, 0.0), [(1.0, near, (0.0, 0.0, 0.0))], 1.5
    for _ in range(3):
        rows += [(time, near, rest), (time + 0.32, end, rest), (time + 0.9, end, rest)]
        rows += [(time + 1.22, near, rest)]
        time += 1.9
    return Motion("fast_reach", _frames(person, _hands(person, time + 0.3, _knots(rows))))


def re_engage(person: Person) -> Motion:
    """Released and engaged again elsewhere, twice, the second time on a moving arm."""
    frames = _frames(person, _hands(person, 9.0, _eight(0.4, 0.35, 0.2)))
    start = STANDING_S
    events = (
        (ENGAGE_S, "engage"),
        (start + 2.0, "release"),
        (start + 2.9, "engage"),
        (start + 5.5, "release"),
        (start + 5.75, "engage"),
    )
    return Motion("re_engage", frames, events)


def tracking_loss(person: Person) -> Motion:
    """The right wrist is not tracked for 0.05, 0.25 and 0.8 s; the operator engages again each time."""
    clean = Motion("tracking_loss", _frames(person, _hands(person, 9.0, _eight(0.4, 0.35, 0.2))))
    lost = ((2.0, 0.05), (4.0, 0.25), (6.0, 0.8))
    frames = list(clean.frames)
    for begin, length in lost:
        first = round((STANDING_S + begin) * FRAME_RATE_HZ)
        for k in range(first, first + round(length * FRAME_RATE_HZ)):
            frames[k] = _with_pose(frames[k], {"right_wrist": None})
    again = tuple((STANDING_S + begin + length + 0.1, "engage") for begin, length in lost)
    return replace(clean, frames=tuple(frames), events=(*clean.events, *again))


def glitch(person: Person) -> Motion:
    """One frame each in which a wrist is 0.3, 0.4 and 0.5 m away: at rest, then on a moving arm."""

    def way(time: float, sign: float) -> tuple[Array, Array]:
        return _eight(0.4, 0.25, 0.12)(max(1.0, time - 3.5), sign)

    clean = Motion("glitch", _frames(person, _hands(person, 8.0, way)))
    frames = list(clean.frames)
    places = ((1.5, 0.3, 0), (2.2, 0.4, 1), (2.9, 0.5, 2), (5.0, 0.3, 1), (5.7, 0.4, 2), (6.4, 0.5, 0))
    for time, size_m, axis in places:
        k = round((STANDING_S + time) * FRAME_RATE_HZ)
        pose = frames[k].poses["right_wrist"].copy()
        pose[axis] += size_m
        frames[k] = _with_pose(frames[k], {"right_wrist": pose})
    return replace(clean, frames=tuple(frames), clean=clean)


def recorded(file: Path) -> Motion:
    """A BVH file at `FRAME_RATE_HZ`, standing still in its first frame before. Raises `SourceError`."""
    source = BvhSource(BvhParameters(file))
    frames = []
    for k in range(round((STANDING_S + source.duration_s) * FRAME_RATE_HZ)):
        frame = source.frame_at(max(0.0, k / FRAME_RATE_HZ - STANDING_S), _stamp_ns(k))
        if frame is not None:
            frames.append(frame)
    return Motion(file.stem, tuple(frames))


SYNTHETIC: dict[str, Callable[[Person], Motion]] = {
    "figure_eight": figure_eight,
    "late_ticks": lambda person: late_ticks(person, np.random.default_rng(0)),
    "jittery_headset": lambda person: jittery_headset(person, np.random.default_rng(1)),
    "full_extension": full_extension,
    "out_of_bounds": out_of_bounds,
    "elbow_raised": elbow_raised,
    "torso_grazing": torso_grazing,
    "fast_reach": fast_reach,
    "re_engage": re_engage,
    "tracking_loss": tracking_loss,
    "glitch": glitch,
}
