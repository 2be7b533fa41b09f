"""Judge published commands with `pin` and `coal` alone; nothing of the retargeting is used here.

    python -m benchmarks.retargeting.check_commands TRACE.npz … [--json] [--collision-every N]

Limits: positions and velocities from the URDF as `pin` reads it, velocities capped at 6 rad/s (0.5 m/s
sliding), accelerations at 30 rad/s² (5 m/s²): the published defaults. A command's velocity is its
step from the previous command over min(real, nominal) time; the acceleration likewise, from rest.
Self-collision: distances between the collision geometries of links that commands move against each
other. A pair nearer than the margin in the first posture may not come nearer than it was there.

Exit status: 0 without a violation, 1 with one, 2 for a trace that cannot be judged.
"""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from benchmarks.retargeting.command_trace import CommandTrace

Array = NDArray[np.float64]

VELOCITY_RAD_S, ACCELERATION_RAD_S2 = 6.0, 30.0
VELOCITY_M_S, ACCELERATION_M_S2 = 0.5, 5.0
# Rounding: positions of about 1 rad carry 2e-16, twice divided by 5 ms.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-6, 1e-9
DISTANCE_TOLERANCE_M = 1e-6


@dataclass
class Judgement:
    """Violations (one per tick and joint, or tick and pair) and the worst of each kind.

    worst_*: largest excess over a position limit (rad or m), and the largest velocity and acceleration as
    shares of their limits. nearest_m: the least distance of a pair that may not touch, NaN where unknown.
    """

    label: str
    ticks: int
    position: int = 0
    velocity: int = 0
    acceleration: int = 0
    collision: int = 0
    worst_position: float = 0.0
    worst_velocity: float = 0.0
    worst_acceleration: float = 0.0
    nearest_m: float = float("nan")
    nearest_pair: str = ""
    collision_pairs: int = 0
    penetrating_ticks: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        return self.position + self.velocity + self.acceleration + self.collision


class Robot:
    """The URDF as `pin` reads it, with joints of the trace looked up by name."""

    def __init__(self, trace: CommandTrace) -> None:
        self.model = pin.buildModelFromUrdf(str(trace.urdf))
        self.data = self.model.createData()
        self._mimics = _mimics(trace.urdf)
        self._held = trace.held
        self.names = trace.joint_names
        missing = [name for name in self.names if not self.model.existJointName(name)]
        if missing:
            raise ValueError(f"{trace.urdf}: pin knows no joint {', '.join(missing)}")
        self.joints = [self.model.joints[self.model.getJointId(name)] for name in self.names]

    def limits(self) -> tuple[Array, Array, Array, Array]:
        """lower, upper, velocity, acceleration ``(n,)``."""
        rows = []
        for joint in self.joints:
            lower, upper = -np.inf, np.inf
            if joint.nq == 1:
                lower = float(self.model.lowerPositionLimit[joint.idx_q])
                upper = float(self.model.upperPositionLimit[joint.idx_q])
            slides = "P" in joint.shortname().removeprefix("JointModel")[:1]
            cap, acceleration = (
                (VELOCITY_M_S, ACCELERATION_M_S2) if slides else (VELOCITY_RAD_S, ACCELERATION_RAD_S2)
            )
            own = float(self.model.velocityLimit[joint.idx_v])
            # 0 and what is not finite are no limits but gaps of the file.
            velocity = min(own, cap) if np.isfinite(own) and own > 0.0 else cap
            rows.append((lower, upper, velocity, acceleration))
        lower_, upper_, velocity_, acceleration_ = np.array(rows).T
        return lower_, upper_, velocity_, acceleration_

    def configuration(self, positions: Array) -> Array:
        """pin's q for one command; joints that mimic follow, the others are as `held` says."""
        q: Array = pin.neutral(self.model)
        values = dict(self._held) | dict(zip(self.names, positions.tolist(), strict=True))
        for name, (leader, multiplier, offset) in self._mimics.items():
            if leader in values:
                values[name] = multiplier * values[leader] + offset
        for name, value in values.items():
            if not self.model.existJointName(name):
                continue
            joint = self.model.joints[self.model.getJointId(name)]
            if joint.nq == 2:
                q[joint.idx_q : joint.idx_q + 2] = np.cos(value), np.sin(value)
            else:
                q[joint.idx_q] = value
        return q


def _mimics(urdf: Path) -> dict[str, tuple[str, float, float]]:
    """Every mimicking joint: (leader, multiplier, offset), leaders before those that mimic them."""
    found = {}
    for joint in ElementTree.parse(urdf).getroot().iter("joint"):
        mimic = joint.find("mimic")
        if mimic is not None:
            found[str(joint.get("name"))] = (
                str(mimic.get("joint")),
                float(mimic.get("multiplier") or 1.0),
                float(mimic.get("offset") or 0.0),
            )
    ordered: dict[str, tuple[str, float, float]] = {}
    while found:
        ready = [name for name, entry in found.items() if entry[0] not in found]
        if not ready:
            raise ValueError(f"{urdf}: joints mimic each other in a circle: {', '.join(found)}")
        for name in ready:
            ordered[name] = found.pop(name)
    return ordered


def judge_limits(trace: CommandTrace, robot: Robot, judgement: Judgement) -> None:
    lower, upper, velocity, acceleration = robot.limits()
    real_s = np.diff(trace.stamps_ns) * 1e-9
    if (real_s <= 0.0).any():
        raise ValueError("stamps do not increase")
    steps_s = np.concatenate([[trace.nominal_s], np.minimum(real_s, trace.nominal_s)])[:, None]
    # A start outside the limits is brought inside by the first command, as a forced exception.
    start = np.clip(trace.start, lower, upper)
    velocities = np.diff(np.vstack([start, trace.positions]), axis=0) / steps_s
    accelerations = np.diff(np.vstack([np.zeros_like(start), velocities]), axis=0) / steps_s
    excess = np.maximum(lower - trace.positions, trace.positions - upper)
    judgement.position = int((excess > ABSOLUTE_TOLERANCE).sum())
    judgement.worst_position = max(0.0, float(excess.max()))
    speed, push = np.abs(velocities) / velocity, np.abs(accelerations) / acceleration
    judgement.velocity = int((speed > 1.0 + RELATIVE_TOLERANCE).sum())
    judgement.worst_velocity = float(speed.max())
    judgement.acceleration = int((push > 1.0 + RELATIVE_TOLERANCE).sum())
    judgement.worst_acceleration = float(push.max())


class _Pairs:
    """Pairs of collision geometries that commands move against each other."""

    def __init__(self, trace: CommandTrace, robot: Robot) -> None:
        folders = [str(path) for path in trace.package_paths]
        self._robot = robot
        self._geometry = pin.buildGeomFromUrdf(
            robot.model, str(trace.urdf), pin.GeometryType.COLLISION, package_dirs=folders
        )
        self._data = self._geometry.createData()
        objects = self._geometry.geometryObjects
        for item in objects:
            item.geometry.computeLocalAABB()
        self._centres = np.array([item.geometry.aabb_center for item in objects]).reshape(-1, 3)
        self._radii = np.array([item.geometry.aabb_radius for item in objects])
        arms = [name for name in trace.joint_names if name not in trace.finger_joints]
        commanded = {robot.model.getJointId(name) for name in arms}
        exempt = {frozenset(pair) for pair in trace.exempt_pairs}
        links = [robot.model.frames[item.parentFrame].name for item in objects]
        pairs = []
        for i, first in enumerate(objects):
            for j in range(i + 1, len(objects)):
                second = objects[j]
                between = self._moving_between(first.parentJoint, second.parentJoint)
                # Neighbours in the tree touch by construction.
                if len(between) < 2 or not between & commanded:
                    continue
                if frozenset((links[i], links[j])) not in exempt:
                    pairs.append((i, j))
        self.pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        self.names = [item.name for item in objects]

    def _moving_between(self, first: int, second: int) -> set[int]:
        def chain(joint: int) -> list[int]:
            found = []
            while joint > 0:
                found.append(joint)
                joint = self._robot.model.parents[joint]
            return found

        return set(chain(first)) ^ set(chain(second))

    def distances(self, positions: Array, nearer_than_m: float) -> Array:
        """Distance (m) per pair, 0 or less when overlapping; infinite where surely over `nearer_than_m`."""
        robot = self._robot
        q = robot.configuration(positions)
        pin.updateGeometryPlacements(robot.model, robot.data, self._geometry, self._data, q)
        places = self._data.oMg
        centres = np.array([place.act(centre) for place, centre in zip(places, self._centres, strict=True)])
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        gap = np.linalg.norm(centres[first] - centres[second], axis=1)
        gap -= self._radii[first] + self._radii[second]
        result = np.full(len(self.pairs), np.inf)
        objects = self._geometry.geometryObjects
        # How deep two overlap costs a lot for meshes, and no verdict needs it.
        request = coal.DistanceRequest(False, False)
        for k in np.flatnonzero(gap < nearer_than_m):
            i, j = int(first[k]), int(second[k])
            answer = coal.DistanceResult()
            result[k] = coal.distance(
                objects[i].geometry, _placed(places[i]), objects[j].geometry, _placed(places[j]),
                request, answer,
            )  # fmt: skip
        return result


def _placed(place: pin.SE3) -> coal.Transform3s:
    return coal.Transform3s(place.rotation, place.translation)


def judge_collisions(trace: CommandTrace, robot: Robot, judgement: Judgement, every: int) -> None:
    """Every `every`-th command and the last."""
    try:
        pairs = _Pairs(trace, robot)
    except (ValueError, RuntimeError) as error:
        judgement.notes.append(f"no collision geometry to judge by: {error}".splitlines()[0])
        return
    judgement.collision_pairs = len(pairs.pairs)
    if not len(pairs.pairs):
        judgement.notes.append("no pair of collision geometries moves against each other")
        return
    margin = trace.collision_margin_m
    look_m = margin + 0.05
    start = pairs.distances(np.asarray(trace.start), look_m)
    # Pairs that touch at rest are how the robot is built (or coarse geometry), not a collision.
    promised = np.minimum(start, margin)
    judged = start > 0.0
    nearest, nearest_pair = np.inf, -1
    rows = sorted({*range(0, len(trace.positions), every), len(trace.positions) - 1})
    for row in rows:
        distances = pairs.distances(trace.positions[row], look_m)
        distances[~judged] = np.inf
        judgement.collision += int((distances < promised - DISTANCE_TOLERANCE_M)[judged].sum())
        judgement.penetrating_ticks += bool((distances <= 0.0).any())
        k = int(np.argmin(distances))
        if distances[k] < nearest:
            nearest, nearest_pair = float(distances[k]), k
    if nearest_pair >= 0:
        judgement.nearest_m = nearest
        i, j = pairs.pairs[nearest_pair]
        judgement.nearest_pair = f"{pairs.names[i]} - {pairs.names[j]}"
    if margin == 0.0:
        # No margin was promised: touching is reported, not counted.
        judgement.collision = 0
        judgement.notes.append("no collision margin is promised")
    judgement.notes.append(f"collisions judged on {len(rows)} of {len(trace.positions)} commands")


def judge(trace: CommandTrace, collision_every: int = 4) -> Judgement:
    """Raises `ValueError` for a trace that cannot be judged; `collision_every` 0 leaves collisions out."""
    if not np.isfinite(trace.positions).all():
        raise ValueError("a command is not finite")
    robot = Robot(trace)
    judgement = Judgement(trace.label, len(trace.positions))
    judge_limits(trace, robot, judgement)
    if collision_every:
        judge_collisions(trace, robot, judgement, collision_every)
    return judgement


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="check_commands", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    parser.add_argument(
        "--collision-every", type=int, default=4, metavar="N", help="judge every Nth command; 0 none"
    )
    given = parser.parse_args(arguments)
    status, results = 0, []
    for file in given.traces:
        try:
            result = judge(CommandTrace.load(file), given.collision_every)
        except (OSError, ValueError, KeyError) as error:
            print(f"check_commands: error: {file}: {error}", file=sys.stderr)
            return 2
        status = max(status, int(result.violations > 0))
        results.append(asdict(result) | {"file": str(file)})
        if not given.json:
            print(
                f"{result.label or file}: {result.ticks} commands, violations: position {result.position}, "
                f"velocity {result.velocity} (worst {100 * result.worst_velocity:.2f} %), acceleration "
                f"{result.acceleration} (worst {100 * result.worst_acceleration:.2f} %), collision "
                f"{result.collision}; nearest {1e3 * result.nearest_m:.1f} mm {result.nearest_pair}"
            )
            for note in result.notes:
                print(f"    {note}")
    if given.json:
        print(json.dumps(results, indent=1))
    return status


if __name__ == "__main__":
    sys.exit(main())
