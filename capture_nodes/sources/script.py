"""Trainer source `script`: a parametric person who reaches, grasps, lifts and places.

A script is data: waypoints of the hands. Between two of them a hand moves by minimum jerk
(Flash & Hogan, J. Neuroscience 5, 1985: ``10 t^3 - 15 t^4 + 6 t^5``), straight in position and by
the shortest arc in rotation, and comes to rest at each. The trunk leans where the arm does not reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from capture_nodes.sources.person import Person
from capture_nodes.sources.pose_track import PoseTrack, trigger_axes
from capture_nodes.sources.source import SourceError
from retargeting.body_points import SIDES
from retargeting.frames import (
    Array,
    quaternion_from_rotation_vector,
    quaternion_from_rpy,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
)

# Linear interpolation at this rate is within 2 micrometres of the polynomial at human speeds.
_SAMPLE_RATE_HZ = 1000.0
MOST_LEAN_RAD = 0.7
_COMFORTABLE_REACH = 0.95

Pose = tuple[float, float, float, float, float, float, float]
WristMapping = Callable[[str, Array], Array]


@dataclass(frozen=True)
class Circle:
    """A way along a circle: about `axis` (unit vector) through `centre_m`, by `angle_rad`."""

    centre_m: tuple[float, float, float]
    axis: tuple[float, float, float]
    angle_rad: float


@dataclass(frozen=True)
class Waypoint:
    """Where one hand is brought next: wrist pose in `trainer`, opening (1 open, 0 closed).

    The hand takes `duration_s` and stays `pause_s`. With a `circle` the wrist goes along it, keeping
    its rotation, and `wrist` must be where that ends.
    """

    side: str
    wrist: Pose
    opening: float
    duration_s: float
    pause_s: float = 0.0
    circle: Circle | None = None


@dataclass(frozen=True)
class Script:
    """A person, the wrist poses (hands open) it starts with, and what the hands do one after the other.

    The trunk leans up to `most_lean_rad` for what the arms do not reach. Raises `SourceError`
    with every problem.
    """

    person: Person
    start: Mapping[str, Pose]
    waypoints: tuple[Waypoint, ...]
    pause_before_s: float = 0.5
    pause_after_s: float = 0.5
    most_lean_rad: float = MOST_LEAN_RAD

    def __post_init__(self) -> None:
        problems = [f"script: start has no {side} wrist" for side in SIDES if side not in self.start]
        if not self.waypoints:
            problems.append("script: there is no waypoint")
        for side, pose in self.start.items():
            problems += _pose_problems(f"start of the {side} hand", pose)
        for number, waypoint in enumerate(self.waypoints):
            name = f"waypoint {number}"
            if waypoint.side not in SIDES:
                problems.append(f"script: {name}: side {waypoint.side!r}; left or right is expected")
            problems += _pose_problems(name, waypoint.wrist)
            if not 0.0 <= waypoint.opening <= 1.0:
                problems.append(f"script: {name}: opening {waypoint.opening!r}; 0..1 is expected")
            if not 0.05 <= waypoint.duration_s <= 600.0:
                problems.append(f"script: {name}: duration_s {waypoint.duration_s!r}; 0.05..600 is expected")
            if not 0.0 <= waypoint.pause_s <= 600.0:
                problems.append(f"script: {name}: pause_s {waypoint.pause_s!r}; 0..600 is expected")
        for name, value in (("pause_before_s", self.pause_before_s), ("pause_after_s", self.pause_after_s)):
            if not 0.0 <= value <= 600.0:
                problems.append(f"script: {name} is {value!r}; 0..600 is expected")
        if not 0.0 <= self.most_lean_rad <= 1.2:
            problems.append(f"script: most_lean_rad is {self.most_lean_rad!r}; 0..1.2 is expected")
        if problems:
            raise SourceError(*problems)

    @property
    def duration_s(self) -> float:
        moving = sum(waypoint.duration_s + waypoint.pause_s for waypoint in self.waypoints)
        return self.pause_before_s + moving + self.pause_after_s


def _pose_problems(name: str, pose: Pose) -> list[str]:
    values = np.asarray(pose, dtype=np.float64)
    if values.shape != (7,) or not np.isfinite(values).all():
        return [f"script: {name}: wrist {pose!r}; 7 finite numbers x y z qx qy qz qw are expected"]
    norm = float(np.linalg.norm(values[3:]))
    return [] if abs(norm - 1.0) <= 1e-3 else [f"script: {name}: quaternion norm {norm:.6f}; 1 is expected"]


def minimum_jerk(fraction: Array) -> Array:
    """Share of the way at shares of the time ``(...)``: at rest, without acceleration, at both ends."""
    t = np.clip(fraction, 0.0, 1.0)
    result: Array = t**3 * (10.0 + t * (-15.0 + 6.0 * t))
    return result


class ScriptSource(PoseTrack):
    """A script as a trainer. Raises `SourceError` where a waypoint is out of the person's reach."""

    def __init__(self, script: Script, *, loop: bool = False) -> None:
        self._script = script
        wrists, openings, lean = _hands(script)
        active = sorted({waypoint.side for waypoint in script.waypoints})
        look_at = np.mean([wrists[side][:, :3] for side in active], axis=0)
        points = script.person.body(wrists, lean, look_at)
        super().__init__(
            tuple(points),
            np.stack(list(points.values()), axis=1),
            _SAMPLE_RATE_HZ,
            axes=trigger_axes(openings["left"], openings["right"]),
            loop=loop,
        )

    @property
    def script(self) -> Script:
        return self._script

    @property
    def report(self) -> Mapping[str, str]:
        person = self._script.person
        return {
            "script": f"{len(self._script.waypoints)} waypoints, {self.duration_s:.2f} s",
            "person": f"shoulders at {person.shoulder_height_m:.2f} m, arms of {person.reach_m:.2f} m",
        }


def _hands(script: Script) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Wrist poses ``(samples, 7)`` and openings per side, and the trunk's lean, at `_SAMPLE_RATE_HZ`."""
    times = np.arange(math.ceil(script.duration_s * _SAMPLE_RATE_HZ - 1e-6) + 1) / _SAMPLE_RATE_HZ
    pose = {side: np.asarray(script.start[side], dtype=np.float64) for side in SIDES}
    opening = dict.fromkeys(SIDES, 1.0)
    wrists = {side: np.tile(pose[side], (len(times), 1)) for side in SIDES}
    openings = {side: np.ones(len(times)) for side in SIDES}
    lean = _lean(script, pose, "the start")
    leans = np.full(len(times), lean)
    begin = script.pause_before_s
    for number, waypoint in enumerate(script.waypoints):
        side, target = waypoint.side, np.asarray(waypoint.wrist, dtype=np.float64)
        later = slice(int(np.searchsorted(times, begin)), None)
        share = minimum_jerk((times[later] - begin) / waypoint.duration_s)
        wrists[side][later] = _way(pose[side], target, share, waypoint.circle, number)
        openings[side][later] = opening[side] + share * (waypoint.opening - opening[side])
        pose[side], opening[side] = target, waypoint.opening
        next_lean = _lean(script, pose, f"waypoint {number}")
        leans[later] = lean + share * (next_lean - lean)
        lean = next_lean
        begin += waypoint.duration_s + waypoint.pause_s
    return wrists, openings, leans


def _lean(script: Script, wrists: Mapping[str, Array], name: str) -> float:
    targets = {side: pose[:3] for side, pose in wrists.items()}
    lean = script.person.lean_for(targets, script.most_lean_rad, _COMFORTABLE_REACH)
    if lean is None:
        side = max(targets, key=lambda s: float(np.linalg.norm(targets[s] - script.person.shoulder(s))))
        distance = float(np.linalg.norm(targets[side] - script.person.shoulder(side)))
        leaning = f" even with the trunk leaning {script.most_lean_rad:g} rad" if script.most_lean_rad else ""
        raise SourceError(
            f"script: {name}: the {side} wrist at {np.round(targets[side], 3).tolist()} m is "
            f"{distance:.3f} m from the shoulder, "
            f"out of reach of an arm of {script.person.reach_m:.3f} m{leaning}. "
            f"Bring object and goal nearer, or point the hand differently"
        )
    return lean


def _way(start: Array, target: Array, share: Array, circle: Circle | None, number: int) -> Array:
    """Wrist poses ``(samples, 7)`` at shares of the way from `start` to `target`."""
    if circle is None:
        position = start[:3] + share[:, None] * (target[:3] - start[:3])
    else:
        turn = np.asarray(circle.axis) * circle.angle_rad
        arm = start[:3] - np.asarray(circle.centre_m)
        end = np.asarray(circle.centre_m) + rotate(quaternion_from_rotation_vector(turn), arm)
        if np.linalg.norm(end - target[:3]) > 1e-6:
            raise SourceError(
                f"script: waypoint {number}: its circle ends at {end.tolist()}, not at {target[:3].tolist()}"
            )
        position = np.asarray(circle.centre_m) + rotate(
            quaternion_from_rotation_vector(share[:, None] * turn), arm
        )
    step = rotation_vector_from_quaternion(quaternion_multiply(quaternion_inverse(start[3:]), target[3:]))
    turned = quaternion_multiply(start[3:], quaternion_from_rotation_vector(share[:, None] * step))
    return np.concatenate([position, turned], axis=-1)


@dataclass(frozen=True)
class PickAndPlace:
    """A task in one frame (the trainer's, or a robot's base): take an object, lift it, set it down.

    Positions are of the object's centre. `hand_rpy_rad` is how the hand is turned when it takes the
    object (URDF's roll, pitch, yaw; a positive pitch points the fingers down) and `grasp_offset_m`
    where the object is then in the wrist's axes. The hand comes and leaves along its own x over
    `approach_m`; the object is carried `lift_m` higher. Raises `SourceError` with every problem.
    """

    side: str
    object_position_m: tuple[float, float, float]
    goal_position_m: tuple[float, float, float]
    hand_rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    grasp_offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    approach_m: float = 0.10
    lift_m: float = 0.12
    closed_opening: float = 0.0
    duration_s: float = 12.0

    def __post_init__(self) -> None:
        problems = []
        if self.side not in SIDES:
            problems.append(f"side:={self.side!r}: left or right is expected")
        for name in ("object_position_m", "goal_position_m", "hand_rpy_rad", "grasp_offset_m"):
            values = getattr(self, name)
            if len(values) != 3 or not all(math.isfinite(v) and abs(v) <= 10.0 for v in values):
                problems.append(f"{name}:={list(values)}: 3 numbers within 10 of zero are expected")
        bounds = {
            "approach_m": (0.0, 0.5),
            "lift_m": (0.0, 0.5),
            "closed_opening": (0.0, 1.0),
            "duration_s": (5.0, 120.0),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not least <= value <= most:
                problems.append(f"{name}:={value:g}: {least:g}..{most:g} is expected")
        if problems:
            raise SourceError(*problems)

    def wrist(self, object_position_m: Array, *, back_m: float = 0.0, up_m: float = 0.0) -> Array:
        """Wrist pose ``(7,)`` that holds an object there; `back_m` along the hand, `up_m` above."""
        q = quaternion_from_rpy(np.array(self.hand_rpy_rad))
        reach = np.asarray(self.grasp_offset_m) + np.array([back_m, 0.0, 0.0])
        position = np.asarray(object_position_m) - rotate(q, reach) + np.array([0.0, 0.0, up_m])
        return np.concatenate([position, q])


# Shares of `duration_s`: moving, then pausing. What is left of 1 is spent before and after them.
_PHASE_SHARES: Mapping[str, tuple[float, float]] = {
    "reach": (0.15, 0.01),
    "approach": (0.09, 0.015),
    "grasp": (0.07, 0.025),
    "lift": (0.10, 0.01),
    "carry": (0.13, 0.01),
    "lower": (0.10, 0.025),
    "release": (0.06, 0.015),
    "retreat": (0.07, 0.0),
    "return": (0.10, 0.0),
}


def pick_and_place(person: Person, task: PickAndPlace, to_trainer: WristMapping | None = None) -> Script:
    """The script of a task. `to_trainer(side, pose)` maps wrist poses ``(7,)`` of the task's frame to
    `trainer` (for a robot: the inverse of its retargeting); without it the task is in `trainer`.
    With a mapping the trunk does not lean: robots are driven relative to the trainer's shoulders.

    Both hands start and end in the person's ready pose; the other arm stays there.
    """

    def there(pose: Array) -> Pose:
        return _as_pose(pose if to_trainer is None else to_trainer(task.side, pose))

    taken, goal = np.asarray(task.object_position_m), np.asarray(task.goal_position_m)
    closed = task.closed_opening
    ready = {side: _as_pose(person.ready_wrist(side)) for side in SIDES}
    targets: Mapping[str, tuple[Pose, float]] = {
        "reach": (there(task.wrist(taken, back_m=task.approach_m)), 1.0),
        "approach": (there(task.wrist(taken)), 1.0),
        "grasp": (there(task.wrist(taken)), closed),
        "lift": (there(task.wrist(taken, up_m=task.lift_m)), closed),
        "carry": (there(task.wrist(goal, up_m=task.lift_m)), closed),
        "lower": (there(task.wrist(goal)), closed),
        "release": (there(task.wrist(goal)), 1.0),
        "retreat": (there(task.wrist(goal, back_m=task.approach_m)), 1.0),
        "return": (ready[task.side], 1.0),
    }
    waypoints = tuple(
        Waypoint(task.side, pose, opening, moving * task.duration_s, pausing * task.duration_s)
        for (pose, opening), (moving, pausing) in (
            (targets[phase], shares) for phase, shares in _PHASE_SHARES.items()
        )
    )
    pause = 0.5 * max(0.0, 1.0 - sum(map(sum, _PHASE_SHARES.values()))) * task.duration_s
    lean = MOST_LEAN_RAD if to_trainer is None else 0.0
    return Script(person, ready, waypoints, pause_before_s=pause, pause_after_s=pause, most_lean_rad=lean)


def stand_ready(person: Person) -> Script:
    """A script that only stands in the ready pose: what the trainer does before a task is known."""
    ready = {side: _as_pose(person.ready_wrist(side)) for side in SIDES}
    return Script(person, ready, (Waypoint("right", ready["right"], 1.0, 0.1),), 0.0, 0.0)


def reach_and_circle(person: Person, side: str = "right") -> Script:
    """A script that needs no robot and no object: reach forward, draw two circles, close, open, return."""
    ready = {s: _as_pose(person.ready_wrist(s)) for s in SIDES}
    radius = 0.15 * person.reach_m
    centre = person.shoulder(side) + np.array([0.68 * person.reach_m, 0.0, -0.25 * person.reach_m])
    top = _as_pose(np.concatenate([centre + np.array([0.0, 0.0, radius]), [0.0, 0.0, 0.0, 1.0]]))
    two_turns = Circle((float(centre[0]), float(centre[1]), float(centre[2])), (1.0, 0.0, 0.0), 4.0 * math.pi)
    return Script(
        person,
        ready,
        (
            Waypoint(side, top, 1.0, 2.0, 0.3),
            Waypoint(side, top, 1.0, 5.0, 0.3, circle=two_turns),
            Waypoint(side, top, 0.0, 0.8, 0.2),
            Waypoint(side, top, 1.0, 0.8, 0.2),
            Waypoint(side, ready[side], 1.0, 1.6),
        ),
    )


def _as_pose(pose: Array) -> Pose:
    x, y, z, qx, qy, qz, qw = (float(value) for value in pose)
    return (x, y, z, qx, qy, qz, qw)
