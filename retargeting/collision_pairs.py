"""Which capsules of a robot are kept apart.

All pairs of capsules on different bodies, except

- neighbours: bodies joined by one joint, and everything from a wrist on outwards (fingers must close);
- pairs that rest closer than the margin in the neutral posture, or are so in nearly all sampled ones:
  their capsules overlap by construction;
- pairs that stay far apart in all sampled postures, and pairs of which one carries the other and that
  hardly overlap in any (wrists and elbows of several joints, whose limits keep them apart).

`robot.yaml: collision` overrides each. Joints that are not commanded stay at their neutral positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.capsule_distance import closest_points, pair_distances, place_capsules
from retargeting.capsules import Capsule, link_capsules
from retargeting.compiled import compiled
from retargeting.frames import pose_apply
from retargeting.kinematics import KinematicTree, build_tree, forward
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAMPLES = 2000
# Pairs that rest closer than the margin and this belong together: no robot should rest in contact.
_REST_M = 0.005
# A link and one that it carries which overlap by less than this in all sampled postures: the capsules
# are thicker than the links, and the joints' limits keep these apart.
_GRAZE_M = 0.01
# Closer than the margin in this share of the sampled postures: always.
_ALWAYS = 0.95
# Farther than the margin by this in all sampled postures: never. Samples do not find the very minimum.
_NEVER_M = 0.08


@dataclass(frozen=True)
class CollisionModel:
    """Capsules on a tree over all commanded joints, and the pairs that are kept `margin_m` apart.

    capsules in their links; bodies ``(c,)``, starts, ends ``(c, 3)``: the same in the tree's bodies;
    pairs ``(p, 2)`` of capsules, common ``(p,)`` the last body that carries both; largest_positions:
    how far each joint can be from 0; left_out: why the links of the other pairs may touch.
    """

    tree: KinematicTree
    capsules: tuple[Capsule, ...]
    bodies: IntArray
    starts: Array
    ends: Array
    radii: Array
    pairs: IntArray
    common: IntArray
    margin_m: float
    largest_positions: tuple[float, ...]
    left_out: dict[tuple[str, str], str]
    warnings: tuple[str, ...]

    @cached_property
    def levers(self) -> Array:
        """``(c, n)``: at most so far a unit of joint motion moves a point of a capsule's segment."""
        return self._chain_sums(turning=False)

    @cached_property
    def turns(self) -> Array:
        """``(c, n)``: at most so much a unit of joint motion turns a capsule (0: it does not)."""
        return self._chain_sums(turning=True)

    def _chain_sums(self, *, turning: bool) -> Array:
        tree = self.tree
        sums = np.zeros((len(self.bodies), int(tree.arrays.coordinates.max(initial=-1)) + 1))
        for k, body in enumerate(self.bodies):
            reach = max(float(np.linalg.norm(self.starts[k])), float(np.linalg.norm(self.ends[k])))
            b = int(body)
            while b >= 0:
                c = int(tree.arrays.coordinates[b])
                if c >= 0:
                    slides = bool(tree.arrays.prismatic[b])
                    share = float(slides != turning) if turning or slides else reach
                    sums[k, c] += abs(float(tree.arrays.multipliers[b])) * share
                reach += float(np.linalg.norm(tree.arrays.offset_positions[b])) + self._slide_m(b)
                b = int(tree.arrays.parents[b])
        return sums

    def _slide_m(self, body: int) -> float:
        """How far a sliding joint's body can be from its offset."""
        c = int(self.tree.arrays.coordinates[body])
        if c < 0 or not self.tree.arrays.prismatic[body]:
            return 0.0
        factor, bias = float(self.tree.arrays.multipliers[body]), float(self.tree.arrays.biases[body])
        return self.largest_positions[c] * abs(factor) + abs(bias)

    def link_pairs(self) -> list[tuple[str, str]]:
        """The links of every pair, in the pairs' order."""
        return [(self.capsules[a].link, self.capsules[b].link) for a, b in self.pairs]

    def distances(self, q: Array) -> Array:
        """Distances ``(p,)`` (m) of the pairs at q ``(n,)``, the commanded joints' positions."""
        positions, rotations = self.tree.body_poses(q)
        placed = np.empty_like(self.starts), np.empty_like(self.ends)
        place_capsules(positions, rotations, self.bodies, self.starts, self.ends, *placed)
        distances = np.empty(len(self.pairs))
        pair_distances(*placed, self.radii, self.pairs, distances)
        return distances


@compiled
def _sample(  # type: ignore[no-untyped-def]
    tree,
    bodies, starts, ends, radii, pairs, postures, margin, least, closer,
):  # fmt: skip
    """Over `postures` ``(k, n)``: the least distance of each pair and how often it is under the margin."""
    positions, rotations = np.empty((tree.parents.shape[0], 3)), np.empty((tree.parents.shape[0], 3, 3))
    placed_starts, placed_ends = np.empty(starts.shape), np.empty(ends.shape)
    on_a, on_b = np.empty(3), np.empty(3)
    least[:] = np.inf
    closer[:] = 0
    for k in range(postures.shape[0]):
        forward(tree, postures[k], positions, rotations)
        place_capsules(positions, rotations, bodies, starts, ends, placed_starts, placed_ends)
        for p in range(pairs.shape[0]):
            a, b = pairs[p, 0], pairs[p, 1]
            gap = closest_points(
                placed_starts[a], placed_ends[a], placed_starts[b], placed_ends[b], on_a, on_b
            )
            distance = gap - radii[a] - radii[b]
            least[p] = min(least[p], distance)
            if distance < margin:
                closer[p] += 1


def _ancestors(tree: KinematicTree, body: int) -> list[int]:
    chain = [body]
    while tree.arrays.parents[chain[-1]] >= 0:
        chain.append(int(tree.arrays.parents[chain[-1]]))
    return chain


def _hands(model: RobotModel, tree: KinematicTree, body_of: dict[str, tuple[str, Array]]) -> IntArray:
    """Per body: 1 + the side whose wrist carries it, or 0."""
    hands = np.zeros(len(tree.names), dtype=np.int64)
    for side, name in enumerate(SIDES):
        site = model.description.sites.get(f"{name}_wrist")
        if site is None or site.link not in body_of:
            continue
        wrist = tree.index(body_of[site.link][0])
        for body in range(len(tree.names)):
            if wrist > 0 and wrist in _ancestors(tree, body):
                hands[body] = 1 + side
    return hands


# Building takes a second for a robot of large meshes; stations and tests build the same one again.
_built: dict[tuple[object, ...], CollisionModel] = {}


def collision_model(model: RobotModel) -> CollisionModel:
    """The capsules and pairs of a robot. The postures are drawn with a fixed seed."""
    settings = model.description.collision
    key = (
        model.urdf.path,
        model.urdf.text,
        model.joint_names,
        model.neutral.tobytes(),
        model.lower.tobytes(),
        model.upper.tobytes(),
        tuple(sorted(model.locked_positions.items())),
        tuple(sorted((name, site.link) for name, site in model.description.sites.items())),
        settings,
    )
    if key not in _built:
        _built[key] = _build(model)
    return _built[key]


def _build(model: RobotModel) -> CollisionModel:
    settings = model.description.collision
    capsules: list[Capsule] = []
    warnings: list[str] = []
    for link in model.urdf.links.values():
        found, said = link_capsules(model.urdf, link)
        capsules += found
        warnings += said
    carriers = [capsule.link for capsule in capsules]
    wrists = [site.link for name, site in model.description.sites.items() if name.endswith("_wrist")]
    tree, body_of = build_tree(
        model.urdf, model.joint_names, model.locked_positions, keep=[*carriers, *wrists]
    )
    places = [(tree.index(body_of[link][0]), body_of[link][1]) for link in carriers]
    bodies = np.array([body for body, _ in places], dtype=np.int64)
    shape = (len(capsules), 3)
    starts = np.array([pose_apply(pose, c.start) for (_, pose), c in zip(places, capsules, strict=True)])
    ends = np.array([pose_apply(pose, c.end) for (_, pose), c in zip(places, capsules, strict=True)])
    starts, ends = starts.reshape(shape), ends.reshape(shape)
    radii = np.array([capsule.radius_m for capsule in capsules])

    chains = [_ancestors(tree, body) for body in range(len(tree.names))]
    hands = _hands(model, tree, body_of)
    ignored = {frozenset(pair) for pair in settings.ignore}
    asked = {frozenset(pair) for pair in settings.check}
    left_out: dict[tuple[str, str], str] = {}
    pairs, common = [], []
    for i in range(len(capsules)):
        for j in range(i):
            a, b = int(bodies[i]), int(bodies[j])
            links = frozenset((carriers[i], carriers[j]))
            if a == b:
                continue
            if links not in asked:
                reason = ""
                if links in ignored:
                    reason = "ignored in robot.yaml"
                elif tree.arrays.parents[a] == b or tree.arrays.parents[b] == a:
                    reason = "neighbours"
                elif hands[a] and hands[a] == hands[b]:
                    reason = "one hand"
                if reason:
                    left_out[(carriers[j], carriers[i])] = reason
                    continue
            shared = set(chains[b])
            pairs.append((j, i))
            common.append(next(body for body in chains[a] if body in shared))
    candidates = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    carrying = np.array(common, dtype=np.int64)

    postures = np.random.default_rng(0).uniform(
        np.maximum(model.lower, -np.pi), np.minimum(model.upper, np.pi), (SAMPLES, len(model.lower))
    )
    least, closer = np.empty(len(candidates)), np.empty(len(candidates), dtype=np.int64)
    arrays = (tree.arrays, bodies, starts, ends, radii, candidates)
    _sample(*arrays, model.neutral[None, :], settings.margin_m + _REST_M, least, closer)
    resting = closer > 0
    _sample(*arrays, postures, settings.margin_m, least, closer)
    kept = []
    for p, (a, b) in enumerate(candidates):
        links_pair = (carriers[a], carriers[b])
        reason = ""
        if resting[p]:
            reason = "rest in contact"
        elif closer[p] > _ALWAYS * SAMPLES:
            reason = "always in contact"
        elif least[p] > settings.margin_m + _NEVER_M:
            reason = "never meet"
        elif least[p] > -_GRAZE_M and {int(bodies[a]), int(bodies[b])} & {int(carrying[p])}:
            reason = "graze"
        if reason and frozenset(links_pair) not in asked:
            left_out[links_pair] = reason
        else:
            kept.append(p)
    checked = {frozenset((carriers[a], carriers[b])) for a, b in candidates[kept]}
    left_out = {pair: why for pair, why in left_out.items() if frozenset(pair) not in checked}
    return CollisionModel(
        tree=tree,
        capsules=tuple(capsules),
        bodies=bodies,
        starts=starts,
        ends=ends,
        radii=radii,
        pairs=np.ascontiguousarray(candidates[kept]).reshape(-1, 2),
        common=carrying[kept],
        margin_m=settings.margin_m,
        left_out=left_out,
        warnings=tuple(warnings),
        largest_positions=tuple(
            float(max(abs(low), abs(high))) for low, high in zip(model.lower, model.upper, strict=True)
        ),
    )
