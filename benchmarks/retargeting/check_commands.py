"""Judge published commands with `pin` and `coal` alone; nothing of the retargeting is used here.

    python -m benchmarks.retargeting.check_commands TRACE.npz … [--json] [--collision-every N]

Limits: positions and velocities from the URDF as `pin` reads it, velocities capped at 6 rad/s (0.5 m/s
sliding), accelerations at 30 rad/s² (5 m/s²): the published defaults. A command's velocity is its
step from the previous command over min(real, nominal) time; the acceleration likewise, from rest.
Self-collision: distances between the collision geometries of links that commands move against each
other. A pair nearer than the margin in the first posture may not come nearer than it was there. A margin
of their own, less than the robot's, is granted to links that rest nearer than the margin and a little in the
first posture, and to a link and one that it carries over up to three commanded joints; others that the trace
names are held to the robot's margin. Not judged are neighbours (one joint between them), what overlaps in the
first posture, and what the trace exempts: counted by reason, and listed where it came inside the margin.

Exit status: 0 without a violation, 1 with one, 2 for a trace that cannot be judged.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from benchmarks.retargeting.command_trace import CommandTrace
from benchmarks.retargeting.joined_mesh import is_garbled, joined_mesh

Array = NDArray[np.float64]

VELOCITY_RAD_S, ACCELERATION_RAD_S2 = 6.0, 30.0
VELOCITY_M_S, ACCELERATION_M_S2 = 0.5, 5.0
# Rounding: positions of about 1 rad carry 2e-16, twice divided by 5 ms.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-6, 1e-9
DISTANCE_TOLERANCE_M = 1e-6
# Distances are worked out and reported up to this; bounding balls so much farther apart will do.
LOOK_M = 0.06
_BALLS_WILL_DO_M = 0.05
# Links that rest with no more than this above the margin may have a smaller one, and so may a link and one
# that it carries over so few joints. No margin is less than this: it is there so that nothing touches.
REST_M, FEW_JOINTS, LEAST_MARGIN_M = 0.005, 3, 0.0005


@dataclass(frozen=True)
class NearPair:
    """Two links that came nearer (m) than `promised_m`, in so many commands (0: exempt, not counted)."""

    first: str
    second: str
    reason: str
    nearest_m: float
    promised_m: float
    commands: int


@dataclass
class Judgement:
    """Violations (one per tick and joint, or tick and pair) and the worst of each kind.

    worst_*: largest excess over a position limit (rad or m), and the largest velocity and acceleration as
    shares of their limits. nearest_m: the least distance of a pair that may not touch, NaN where unknown or
    over `LOOK_M`. Pairs of geometries: `collision_pairs` are judged, `exempt_pairs` are not, by reason,
    `adjacent_pairs` have one joint between them, of the judged `own_margin_pairs` are granted less than the
    margin; refused_margins: (link, link, m asked for, m at rest) where less is asked for than granted;
    least_room_m: the least distance less what is promised; `starts_inside`: judged, but inside the margin in
    the first posture, (link, link, m). too_near, exempt_near: the judged and the exempt that came inside.
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
    adjacent_pairs: int = 0
    own_margin_pairs: int = 0
    refused_margins: list[tuple[str, str, float, float]] = field(default_factory=list)
    least_room_m: float = float("nan")
    exempt_pairs: dict[str, int] = field(default_factory=dict)
    starts_inside: list[tuple[str, str, float]] = field(default_factory=list)
    too_near: list[NearPair] = field(default_factory=list)
    exempt_near: list[NearPair] = field(default_factory=list)
    penetrating_ticks: int = 0
    judged_commands: int = 0
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
    # Prefixes without a namespace (`drake:acceleration`) are common, and no XML to the parser.
    text = re.sub(r"(</?|\s)(\w+):(\w+)(?=[\s=>/])", r"\1\2_\3", Path(urdf).read_text(encoding="utf-8"))
    for joint in ElementTree.fromstring(text.encode()).iter("joint"):
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
    """Pairs of collision geometries that commands move against each other, and how near they are.

    A pair's distance is worked out only where it may have come below what is asked: between two postures
    no point of a geometry goes farther than its ball's centre does, and the ball's turn times its radius.
    """

    def __init__(self, trace: CommandTrace, robot: Robot) -> None:
        self._robot = robot
        self._geometry = pin.buildGeomFromUrdf(
            robot.model,
            str(trace.urdf),
            pin.GeometryType.COLLISION,
            package_dirs=[str(path) for path in trace.package_paths],
        )
        self._data = self._geometry.createData()
        self._objects = list(self._geometry.geometryObjects)
        for item in self._objects:
            if isinstance(item.geometry, coal.BVHModelBase) and is_garbled(item.geometry):
                item.geometry = joined_mesh(Path(item.meshPath), item.meshScale)
            item.geometry.computeLocalAABB()
        self._centres = np.array([item.geometry.aabb_center for item in self._objects]).reshape(-1, 3)
        self._radii = np.array([item.geometry.aabb_radius for item in self._objects])
        self.links = [robot.model.frames[item.parentFrame].name for item in self._objects]
        arms = [name for name in trace.joint_names if name not in trace.finger_joints]
        commanded = {robot.model.getJointId(name) for name in arms}
        exempt = {frozenset((first, second)): reason for first, second, reason in trace.exempt_pairs}
        pairs, reasons, few = [], [], []
        self.adjacent = 0
        for i, first in enumerate(self._objects):
            for j in range(i + 1, len(self._objects)):
                between = self._moving_between(first.parentJoint, self._objects[j].parentJoint)
                if not between & commanded:
                    continue
                # Neighbours in the tree touch by construction.
                if len(between) < 2:
                    self.adjacent += 1
                    continue
                pairs.append((i, j))
                chains = [self._chain(item.parentJoint) & commanded for item in (first, self._objects[j])]
                carries = chains[0] <= chains[1] or chains[1] <= chains[0]
                few.append(carries and len(between & commanded) <= FEW_JOINTS)
                reasons.append(exempt.get(frozenset((self.links[i], self.links[j])), ""))
        self.pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        self.reasons = reasons
        self.few_joints = np.array(few, dtype=np.bool_)
        self.margin_m = trace.collision_margin_m
        own = {frozenset((first, second)): margin for first, second, margin in trace.own_margins}
        self.asked = np.array(
            [own.get(frozenset((self.links[i], self.links[j])), self.margin_m) for i, j in self.pairs]
        )

    def rest(self, start: Array) -> Array:
        """How far the links of each pair are apart ``(p,)`` (m), by the distances `start` ``(p,)`` of all."""
        nearest: dict[frozenset[str], float] = {}
        keys = [frozenset(self.link_pair(k)) for k in range(len(self.pairs))]
        for key, distance in zip(keys, start.tolist(), strict=True):
            nearest[key] = min(nearest.get(key, np.inf), distance)
        return np.array([nearest[key] for key in keys])

    def granted(self, start: Array) -> Array:
        """Margins ``(p,)`` (m): what the trace asks for where it may be less than the robot's."""
        may = self.few_joints | (self.rest(start) < self.margin_m + REST_M)
        least = np.maximum(self.asked, min(LEAST_MARGIN_M, self.margin_m))
        margins: Array = np.where(may, np.minimum(least, self.margin_m), self.margin_m)
        return margins

    def name(self, pair: int) -> str:
        first, second = self.pairs[pair]
        return f"{self._objects[first].name} - {self._objects[second].name}"

    def link_pair(self, pair: int) -> tuple[str, str]:
        first, second = self.pairs[pair]
        return self.links[first], self.links[second]

    def _chain(self, joint: int) -> set[int]:
        """The joints from the root to this one."""
        found = set()
        while joint > 0:
            found.add(joint)
            joint = self._robot.model.parents[joint]
        return found

    def _moving_between(self, first: int, second: int) -> set[int]:
        return self._chain(first) ^ self._chain(second)

    def start(self, positions: Array) -> Array:
        """Distance (m) per pair at the first posture: 0 or less when overlapping, exact below `LOOK_M`."""
        self._place(positions)
        count = len(self.pairs)
        self._travelled = np.zeros(len(self._objects))
        # Where a pair was last looked at: a bound of its distance, its placement, how far each had gone.
        self._bound, self._seen_travelled = np.empty(count), np.zeros(count)
        self._seen_turn, self._seen_centre = np.empty((count, 3, 3)), np.empty((count, 3))
        self._look(np.arange(count), np.full(count, LOOK_M))
        distances: Array = self._bound.copy()
        return distances

    def nearer(self, positions: Array, least: Array) -> tuple[NDArray[np.int64], Array]:
        """The pairs nearer than `least` ``(p,)`` (m) at the next posture, and their distances."""
        rotations, centres = self._rotations, self._places
        self._place(positions)
        turned = np.linalg.norm(self._rotations - rotations, axis=(1, 2)) / np.sqrt(2.0)
        self._travelled += np.linalg.norm(self._places - centres, axis=1) + self._radii * turned
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        gone = self._travelled[first] + self._travelled[second] - self._seen_travelled
        near = np.flatnonzero(self._bound - gone < least)
        turn, centre = self._relative(near)
        moved = np.linalg.norm(centre - self._seen_centre[near], axis=1)
        turned = np.linalg.norm(turn - self._seen_turn[near], axis=(1, 2)) / np.sqrt(2.0)
        bound = self._bound[near] - moved - self._radii[second[near]] * turned
        near = near[bound < least[near]]
        self._look(near, least)
        near = near[self._bound[near] < least[near]]
        return near, self._bound[near]

    def _place(self, positions: Array) -> None:
        robot = self._robot
        q = robot.configuration(positions)
        pin.updateGeometryPlacements(robot.model, robot.data, self._geometry, self._data, q)
        matrices = np.array([place.homogeneous for place in self._data.oMg]).reshape(-1, 4, 4)
        self._rotations = matrices[:, :3, :3]
        self._places = np.einsum("gij,gj->gi", self._rotations, self._centres) + matrices[:, :3, 3]

    def _relative(self, pairs: NDArray[np.int64]) -> tuple[Array, Array]:
        """How the second geometry of each pair is turned, and its ball's centre, seen from the first."""
        first, second = self.pairs[pairs].T
        back = np.swapaxes(self._rotations[first], 1, 2)
        centre = np.einsum("pij,pj->pi", back, self._places[second] - self._places[first])
        return back @ self._rotations[second], centre

    def _look(self, pairs: NDArray[np.int64], least: Array) -> None:
        """Distances of `pairs`, of those whose balls are farther apart than asked only that of the balls."""
        first, second = self.pairs[pairs].T
        self._seen_turn[pairs], self._seen_centre[pairs] = self._relative(pairs)
        self._seen_travelled[pairs] = self._travelled[first] + self._travelled[second]
        gap = np.linalg.norm(self._places[first] - self._places[second], axis=1)
        gap -= self._radii[first] + self._radii[second]
        self._bound[pairs] = gap
        # How deep two overlap costs a lot for meshes, and no verdict needs it.
        request = coal.DistanceRequest(False, False)
        for k in pairs[gap < least[pairs] + _BALLS_WILL_DO_M]:
            i, j = (int(index) for index in self.pairs[k])
            self._bound[k] = coal.distance(
                self._objects[i].geometry, _placed(self._data.oMg[i]),
                self._objects[j].geometry, _placed(self._data.oMg[j]),
                request, coal.DistanceResult(),
            )  # fmt: skip


def _placed(place: pin.SE3) -> coal.Transform3s:
    return coal.Transform3s(place.rotation, place.translation)


def judge_collisions(trace: CommandTrace, pairs: _Pairs, judgement: Judgement, every: int) -> None:
    """Every `every`-th command and the last.

    Promised pairs count as violations below the margin (or, if nearer, below where they started); those
    that are exempt are listed where they came below it all the same.
    """
    judgement.adjacent_pairs = pairs.adjacent
    if not len(pairs.pairs):
        judgement.notes.append("no pair of collision geometries moves against each other")
        return
    margin = trace.collision_margin_m
    start = pairs.start(np.asarray(trace.start))
    # Geometries that overlap at the start are how the robot is built (or coarse), not a collision.
    overlapping = start <= 0.0
    reasons = ["overlap at the start" if over else why
               for over, why in zip(overlapping, pairs.reasons, strict=True)]  # fmt: skip
    exempt = np.array([bool(reason) for reason in reasons])
    judgement.collision_pairs = int((~exempt).sum())
    judgement.exempt_pairs = dict(Counter(reason for reason in reasons if reason))
    margins, rest = pairs.granted(start), pairs.rest(start)
    judgement.own_margin_pairs = int((~exempt & (margins < margin)).sum())
    judgement.refused_margins = sorted(
        {
            (*pairs.link_pair(int(k)), float(pairs.asked[k]), float(rest[k]))
            for k in np.flatnonzero(~exempt & (pairs.asked < margins))
        }
    )
    judgement.starts_inside = [
        (*pairs.link_pair(int(k)), float(start[k])) for k in np.flatnonzero(~exempt & (start < margins))
    ]
    promised = np.minimum(start, margins)
    lowest = np.where(start < LOOK_M, start, np.inf)
    below: Counter[int] = Counter()
    rows = sorted({*range(0, len(trace.positions), every), len(trace.positions) - 1})
    for row in rows:
        # Only what is nearer than ever, or than it may be, is of interest.
        nearest = min(LOOK_M, float(lowest[~exempt].min(initial=LOOK_M)))
        asked = np.maximum(promised, max(nearest, DISTANCE_TOLERANCE_M))
        least = np.where(exempt, np.minimum(lowest, margin), asked)
        least[overlapping] = -np.inf
        near, distances = pairs.nearer(trace.positions[row], least)
        lowest[near] = np.minimum(lowest[near], distances)
        broken = near[(distances < promised[near] - DISTANCE_TOLERANCE_M) & ~exempt[near]]
        below.update(broken.tolist())
        judgement.penetrating_ticks += bool(((distances <= 0.0) & ~exempt[near]).any())
    judgement.judged_commands = len(rows)
    if (~exempt).any():
        k = int(np.argmin(np.where(exempt, np.inf, lowest)))
        if np.isfinite(lowest[k]):
            judgement.nearest_m, judgement.nearest_pair = float(lowest[k]), pairs.name(k)
            judgement.least_room_m = float((lowest - promised)[~exempt].min())
    for pair in np.flatnonzero((lowest < promised - DISTANCE_TOLERANCE_M) & ~overlapping):
        k = int(pair)
        entry = NearPair(*pairs.link_pair(k), reasons[k], float(lowest[k]), float(promised[k]), below[k])
        (judgement.exempt_near if exempt[k] else judgement.too_near).append(entry)
        judgement.collision += below[k]
    if margin == 0.0:
        # No margin was promised: touching is reported, not counted.
        judgement.collision = 0
        judgement.notes.append("no collision margin is promised")


def judge(trace: CommandTrace, collision_every: int = 4) -> Judgement:
    """Raises `ValueError` for a trace that cannot be judged; `collision_every` 0 leaves collisions out."""
    if not np.isfinite(trace.positions).all():
        raise ValueError("a command is not finite")
    robot = Robot(trace)
    judgement = Judgement(trace.label, len(trace.positions))
    judge_limits(trace, robot, judgement)
    if collision_every:
        try:
            pairs = _Pairs(trace, robot)
        except (ValueError, RuntimeError) as error:
            judgement.notes.append(f"no collision geometry to judge by: {error}".splitlines()[0])
        else:
            judge_collisions(trace, pairs, judgement, collision_every)
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
