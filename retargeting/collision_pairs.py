"""Which capsules of a robot are kept apart.

All pairs of capsules on different bodies, except

- neighbours: bodies joined by one joint, and everything from a wrist on outwards (fingers must close);
- pairs that stay far apart in all sampled postures and down a descent from the nearest;
- links of which one carries the other over a few joints, if fine capsules (`finer_pairs`) touch in none of
  those: the joints' limits keep them apart (wrists and elbows of several joints);
- capsules that overlap at rest, or nearly always, however fine they are; and of links over a few joints those
  of which even a small margin would take many postures.

Where capsules rest nearer than the margin and a little, finer ones take their place; those that still do
keep a margin of their own, less than they have at rest. So do links over a few joints of which the whole
margin would take many postures.
`robot.yaml: collision` overrides each. Joints that are not commanded stay at their neutral positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.capsule_distance import pair_distances, place_capsules
from retargeting.capsules import Capsule, Piece, link_pieces
from retargeting.finer_pairs import FinePair, PlacedPieces, finer_pairs
from retargeting.frames import pose_apply
from retargeting.kinematics import KinematicTree, build_tree
from retargeting.pair_sampling import descend_distances, sample_distances
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAMPLES = 2000
# At rest pairs are to have this much more than the margin: no robot should rest in contact.
_REST_M = 0.005
# A link and one that it carries over so few joints may be kept apart by these joints' limits.
_FEW_JOINTS = 3
# Capsules that have this much between them do not touch.
_CLEAR_M = 0.001
# Pairs of fine capsules of two links, for showing that limits keep them apart and for keeping them so.
_MOST_TO_CLEAR, _MOST_AT_REST = 60, 80
# So often the worst postures are looked for, so many of them at a time.
_ROUNDS, _WORST = 4, 3
# Before links are left out, so many postures in which their capsules are too near are looked at for whether
# the links are, with so many finer capsules; and so many pairs may keep them apart there.
_LOOKS, _MOST_TO_LOOK, _MOST_TO_KEEP = 24, 250, 200
# The goal keeps this much more than the margin, so that a command at rest on its goal rests on no row.
_GOAL_SPARE_M = 0.003
# Closer than the margin in this share of the sampled postures: always.
_ALWAYS = 0.95
# Of links over few joints: what the margin may take of the postures, else a small one is kept; what that one
# may take between trunk and arm and where links rest far enough apart, and within an arm or trunk where they
# do not and little of it is true; and so seldom that coarse capsules will do. How many postures say so.
_OFTEN, _MOSTLY, _SOMETIMES, _SELDOM, _SOME = 0.25, 0.5, 0.15, 0.02, 300
# What links over few joints keep where the margin would take most postures from them.
_SMALL_MARGIN_M = 0.002
# Farther than the margin by this in all sampled postures and after a descent from the nearest: never.
_NEVER_M = 0.02
_NEVER_MEET, LIMITS = "never meet", "limits keep apart"


@dataclass(frozen=True)
class CollisionModel:
    """Capsules on a tree over all commanded joints, and the pairs that are kept apart.

    capsules in their links; bodies ``(c,)``, starts, ends ``(c, 3)``: the same in the tree's bodies;
    pairs ``(p, 2)`` of capsules, common ``(p,)`` the last body that carries both, margins
    ``(p,)`` (m): `margin_m`, less where links rest nearer; goal_spares ``(p,)``: what goals keep more; fine
    ``(p,)``: of finer capsules; largest_positions: how far each joint can be from 0; left_out: why the links
    of the other pairs may touch; partly_left_out: the same of links of which other capsules are kept apart.
    """

    tree: KinematicTree
    capsules: tuple[Capsule, ...]
    bodies: IntArray
    starts: Array
    ends: Array
    radii: Array
    pairs: IntArray
    common: IntArray
    margins: Array
    goal_spares: Array
    fine: NDArray[np.bool_]
    margin_m: float
    largest_positions: tuple[float, ...]
    left_out: dict[tuple[str, str], str]
    partly_left_out: dict[tuple[str, str], str]
    warnings: tuple[str, ...]

    @cached_property
    def levers(self) -> Array:
        """``(c, n)``: at most so far a unit of joint motion moves a point of a capsule's segment."""
        return self._chain_sums(turning=False)

    @cached_property
    def turns(self) -> Array:
        """``(c, n)``: at most so much a unit of joint motion turns a capsule (0: it does not)."""
        return self._chain_sums(turning=True)

    @cached_property
    def movers(self) -> NDArray[np.bool_]:
        """``(p, n)``: the joints that move one capsule of a pair against the other."""
        found = np.zeros((len(self.pairs), self.levers.shape[1]), dtype=np.bool_)
        for p, pair in enumerate(self.pairs):
            for k in pair:
                body = int(self.bodies[k])
                while body != self.common[p]:
                    if self.tree.arrays.coordinates[body] >= 0:
                        found[p, self.tree.arrays.coordinates[body]] = True
                    body = int(self.tree.arrays.parents[body])
        return found

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

    def exempt_links(self) -> tuple[tuple[str, str, str], ...]:
        """(link, link, reason) where no margin is promised, or not for all capsules of the links."""
        told = (_NEVER_MEET, LIMITS)
        whole = [(a, b, why) for (a, b), why in self.left_out.items() if why not in told]
        partly = [(a, b, f"in part: {why}") for (a, b), why in self.partly_left_out.items()]
        return (*whole, *partly)

    def own_margins(self) -> tuple[tuple[str, str, float], ...]:
        """(link, link, m) where less than `margin_m` is kept; those that limits keep apart do not touch."""
        least: dict[tuple[str, str], float] = {}
        for pair, margin_m in zip(self.link_pairs(), self.margins.tolist(), strict=True):
            least[pair] = min(least.get(pair, self.margin_m), margin_m)
        found = [(a, b, margin_m) for (a, b), margin_m in least.items() if margin_m < self.margin_m]
        found += [(a, b, 0.5 * _CLEAR_M) for (a, b), why in self.left_out.items() if why == LIMITS]
        return tuple(found)

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


def _ancestors(tree: KinematicTree, body: int) -> list[int]:
    chain = [body]
    while tree.arrays.parents[chain[-1]] >= 0:
        chain.append(int(tree.arrays.parents[chain[-1]]))
    return chain


def _joints_between(tree: KinematicTree, a: int, b: int) -> float:
    """How many joints move the body that one carries against the other; infinite where none carries one."""
    chains = _ancestors(tree, a), _ancestors(tree, b)
    if b in chains[0]:
        return chains[0].index(b)
    return chains[1].index(a) if a in chains[1] else np.inf


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


class _Capsules:
    """The capsules of a robot on its tree; finer ones are added as they are asked for."""

    def __init__(self, model: RobotModel) -> None:
        pieces: list[Piece] = []
        self.warnings: list[str] = []
        for link in model.urdf.links.values():
            found, said = link_pieces(model.urdf, link)
            pieces += found
            self.warnings += said
        wrists = [site.link for name, site in model.description.sites.items() if name.endswith("_wrist")]
        keep = [*(piece.capsule.link for piece in pieces), *wrists]
        self.tree, self.body_of = build_tree(model.urdf, model.joint_names, model.locked_positions, keep=keep)
        self.places = {
            link: (self.tree.index(body), pose)
            for link, (body, pose) in self.body_of.items()
            if link in set(keep)
        }
        self.chains = [_ancestors(self.tree, body) for body in range(len(self.tree.names))]
        self.pieces: list[Piece] = []
        self._ends: list[Array] = []
        self._index: dict[int, int] = {}
        for piece in pieces:
            self.index(piece)

    def index(self, piece: Piece) -> int:
        found = self._index.setdefault(id(piece), len(self.pieces))
        if found == len(self.pieces):
            capsule = piece.capsule
            self.pieces.append(piece)
            pose = self.places[capsule.link][1]
            self._ends.append(pose_apply(pose, np.array([capsule.start, capsule.end])))
        return found

    def link(self, k: int) -> str:
        return self.pieces[k].capsule.link

    def body(self, k: int) -> int:
        return self.places[self.link(k)][0]

    def common(self, a: int, b: int) -> int:
        """The last body that carries both capsules."""
        shared = set(self.chains[self.body(b)])
        return next(body for body in self.chains[self.body(a)] if body in shared)

    def arm_bodies(self, model: RobotModel) -> set[int]:
        """The bodies that an arm's joints move against the trunk."""
        description = model.description
        firsts = {model.joint_names.index(description.chains[f"{side}_arm"][0])
                  for side in SIDES if description.chains[f"{side}_arm"]}  # fmt: skip
        moved = self.tree.arrays.coordinates
        return {body for body, chain in enumerate(self.chains) if any(int(moved[b]) in firsts for b in chain)}

    def keep(self, used: list[int]) -> None:
        """Forget the capsules that are not in `used`; those are then numbered by their place in it."""
        self.pieces = [self.pieces[k] for k in used]
        self._ends = [self._ends[k] for k in used]
        self._index = {id(piece): k for k, piece in enumerate(self.pieces)}

    def arrays(self) -> tuple[IntArray, Array, Array, Array]:
        """bodies ``(c,)``, starts, ends ``(c, 3)`` in them, radii ``(c,)``."""
        capsules = [piece.capsule for piece in self.pieces]
        ends = np.array(self._ends).reshape(-1, 2, 3)
        return (
            np.array([self.places[c.link][0] for c in capsules], dtype=np.int64),
            np.ascontiguousarray(ends[:, 0]),
            np.ascontiguousarray(ends[:, 1]),
            np.array([c.radius_m for c in capsules]),
        )


class _Postures:
    """Sampled postures of a robot, and how near pairs of capsules come in them."""

    def __init__(self, model: RobotModel, capsules: _Capsules) -> None:
        # Joints without limits turn on for ever: once round is all of it. Others may end beyond half a turn.
        endless = ~(np.isfinite(model.lower) & np.isfinite(model.upper))
        self.lower = np.where(endless, -np.pi, model.lower)
        self.upper = np.where(endless, np.pi, model.upper)
        self.neutral = model.neutral
        self.samples = np.random.default_rng(0).uniform(self.lower, self.upper, (SAMPLES, len(self.lower)))
        self._capsules = capsules

    def at_rest(self, pairs: IntArray) -> Array:
        """Distances ``(p,)`` (m) in the neutral posture."""
        return self._look(pairs, self.neutral[None, :], 0.0)[0]

    def _look(self, pairs: IntArray, postures: Array, margin_m: float) -> tuple[Array, IntArray, IntArray]:
        least, nearest = np.empty(len(pairs)), np.zeros(len(pairs), dtype=np.int64)
        closer = np.empty(len(pairs), dtype=np.int64)
        arrays = (self._capsules.tree.arrays, *self._capsules.arrays(), pairs)
        sample_distances(*arrays, postures, margin_m, least, nearest, closer)
        return least, nearest, closer

    def below(self, pairs: IntArray, margins: Array) -> NDArray[np.bool_]:
        """Whether each pair is under its margin ``(p,)`` (m), in some of the postures ``(s, p)``."""
        bodies, starts, ends, radii = self._capsules.arrays()
        placed, distances = (np.empty_like(starts), np.empty_like(ends)), np.empty((_SOME, len(pairs)))
        for q, row in zip(self.samples, distances, strict=False):
            positions, rotations = self._capsules.tree.body_poses(q)
            place_capsules(positions, rotations, bodies, starts, ends, *placed)
            pair_distances(*placed, radii, pairs, row)
        found: NDArray[np.bool_] = distances < margins
        return found

    def search(self, pairs: IntArray, margin_m: float, enough_m: float) -> tuple[Array, Array, Array]:
        """Least distances (m) of pairs, in which postures, and in which share they are under the margin.

        The least ones after a descent from the nearest sample, down to `enough_m`.
        """
        least, nearest, closer = self._look(pairs, self.samples, margin_m)
        arrays = (self._capsules.tree.arrays, *self._capsules.arrays(), pairs)
        common = np.array([self._capsules.common(a, b) for a, b in pairs], dtype=np.int64)
        found = self.samples[nearest]
        own = np.arange(len(pairs))
        descend_distances(*arrays, common, found, self.lower, self.upper, enough_m, least, own)
        return least, found, closer / SAMPLES


class _Chosen(NamedTuple):
    """Pairs of capsules that are kept apart, their margins (m) and how much more their goal keeps."""

    pairs: list[tuple[int, int]]
    margins: list[float]
    goal_spares: list[float]
    fine: list[bool]


class _Finer:
    """Looks closer at links of which capsules overlap though the links may not."""

    def __init__(self, capsules: _Capsules, postures: _Postures, margin_m: float) -> None:
        self._capsules, self._postures, self._margin_m = capsules, postures, margin_m
        self._neutral = capsules.tree.body_poses(postures.neutral)

    def _cut(
        self, pairs: Sequence[tuple[int, int]], others: Sequence[Array], wanted_m: float, most: int
    ) -> list[FinePair]:
        pieces = [(self._capsules.pieces[a], self._capsules.pieces[b]) for a, b in pairs]
        poses = [self._neutral, *(self._capsules.tree.body_poses(q) for q in others)]
        return finer_pairs(pieces, PlacedPieces(self._capsules.places, poses), wanted_m, most)

    def _indices(self, found: Sequence[FinePair]) -> list[tuple[int, int]]:
        return [(self._capsules.index(pair.first), self._capsules.index(pair.second)) for pair in found]

    def limits_keep_apart(self, pairs: Sequence[tuple[int, int]]) -> tuple[bool, list[Array]]:
        """Whether fine capsules of the links touch in no posture within the joints' limits.

        Also the postures that they had to be cut for.
        """
        worst: list[Array] = []
        before: list[Array] = []
        for _ in range(_ROUNDS):
            found = self._cut(pairs, worst, _CLEAR_M, _MOST_TO_CLEAR)
            if min(pair.distance_m for pair in found) < _CLEAR_M:
                return False, before
            before = worst.copy()
            indices = np.array(self._indices(found), dtype=np.int64)
            least, postures, _ = self._postures.search(indices, 0.0, 0.0)
            if least.min() >= _CLEAR_M:
                return True, worst
            worst += [postures[k] for k in np.argsort(least)[:_WORST] if least[k] < _CLEAR_M]
        return False, before

    def apart(
        self, pairs: Sequence[tuple[int, int]], others: Sequence[Array], most: int = _MOST_AT_REST
    ) -> tuple[list[tuple[int, int]], Array]:
        """Pairs of capsules fine enough to be apart at rest and in `others`, and how far they rest (m)."""
        found = self._indices(self._cut(pairs, others, self._margin_m + _REST_M, most))
        return found, self._postures.at_rest(np.array(found, dtype=np.int64))

    def tighter(
        self, pairs: Sequence[tuple[int, int]], found: Sequence[tuple[int, int]], margin_m: float
    ) -> tuple[list[tuple[int, int]], Array]:
        """`apart`, cut for postures in which the capsules `found` are too near, but not the links."""
        near = np.array(found, dtype=np.int64)
        rows = np.flatnonzero(self._postures.below(near, np.full(len(near), margin_m)).any(axis=1))
        pieces = [(self._capsules.pieces[a], self._capsules.pieces[b]) for a, b in pairs]
        free = []
        for row in rows[:: max(1, len(rows) // _LOOKS)][:_LOOKS]:
            q = self._postures.samples[row]
            placed = PlacedPieces(self._capsules.places, [self._capsules.tree.body_poses(q)])
            cut = finer_pairs(pieces, placed, margin_m + _CLEAR_M, _MOST_TO_LOOK)
            if min(pair.distance_m for pair in cut) >= margin_m + _CLEAR_M:
                free.append(q)
        return self.apart(pairs, free, _MOST_TO_KEEP)

    def bearable(self, found: Sequence[tuple[int, int]], apart_m: Array, full_m: float, most: float) -> bool:
        """Whether pairs rest apart (`apart_m` ``(p,)``) and take at most the share `most` of all postures."""
        if not (apart_m >= _CLEAR_M).all():
            return False
        return self.taken(found, _own_margins(apart_m, full_m)) <= most

    def taken(self, pairs: Sequence[tuple[int, int]], margins: Array) -> float:
        """The share of all postures that the pairs' margins ``(p,)`` (m) take."""
        below = self._postures.below(np.array(pairs, dtype=np.int64).reshape(-1, 2), margins)
        return float(below.any(axis=1).mean())


def _candidates(
    model: RobotModel, capsules: _Capsules, left_out: dict[tuple[str, str], str]
) -> list[tuple[int, int]]:
    """Pairs of capsules that may be kept apart; the others' reasons are put into `left_out`."""
    settings, tree = model.description.collision, capsules.tree
    hands = _hands(model, tree, capsules.body_of)
    ignored = {frozenset(pair) for pair in settings.ignore}
    asked = {frozenset(pair) for pair in settings.check}
    pairs = []
    for i in range(len(capsules.pieces)):
        for j in range(i):
            a, b = capsules.body(i), capsules.body(j)
            names = (capsules.link(j), capsules.link(i))
            if a == b:
                continue
            reason = ""
            if frozenset(names) in asked:
                pass
            elif frozenset(names) in ignored:
                reason = "ignored in robot.yaml"
            elif tree.arrays.parents[a] == b or tree.arrays.parents[b] == a:
                reason = "neighbours"
            elif hands[a] and hands[a] == hands[b]:
                reason = "one hand"
            if reason:
                left_out[names] = reason
            else:
                pairs.append((j, i))
    return pairs


def build_collision_model(model: RobotModel) -> CollisionModel:
    """The capsules and pairs of a robot, in seconds. The postures are drawn with a fixed seed."""
    settings = model.description.collision
    margin_m = settings.margin_m
    capsules = _Capsules(model)
    postures = _Postures(model, capsules)
    left_out: dict[tuple[str, str], str] = {}
    pairs = _candidates(model, capsules, left_out)
    asked = {frozenset(pair) for pair in settings.check}
    chosen = _Chosen([], [], [], [])

    def names(pair: tuple[int, int]) -> tuple[str, str]:
        return capsules.link(pair[0]), capsules.link(pair[1])

    def leave_out(pair: tuple[int, int], reason: str) -> None:
        # Of several capsules of two links that one counts which may come near.
        if left_out.get(names(pair), _NEVER_MEET) in (_NEVER_MEET, LIMITS):
            left_out[names(pair)] = reason

    # In capsules of whole links, or large parts of them.
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    rest_m = postures.at_rest(array)
    least, _, closer = postures.search(array, margin_m, margin_m)
    unclear: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for p, pair in enumerate(pairs):
        near = _joints_between(capsules.tree, capsules.body(pair[0]), capsules.body(pair[1])) <= _FEW_JOINTS
        if least[p] > margin_m + _NEVER_M and frozenset(names(pair)) not in asked:
            leave_out(pair, _NEVER_MEET)
        elif rest_m[p] < margin_m + _REST_M or closer[p] > (_SELDOM if near else _ALWAYS):
            unclear.setdefault(names(pair), []).append(pair)
        else:
            _choose(chosen, pair, margin_m, _GOAL_SPARE_M, fine=False)
    # The others in finer ones.
    arms = capsules.arm_bodies(model)
    finer = _Finer(capsules, postures, margin_m)
    for links, members in unclear.items():
        a, b = members[0]
        promised = frozenset(links) in asked
        near = _joints_between(capsules.tree, capsules.body(a), capsules.body(b)) <= _FEW_JOINTS
        others: list[Array] = []
        if near and not promised:
            never, others = finer.limits_keep_apart(members)
            if never:
                leave_out((a, b), LIMITS)
                continue
        found, apart_m = finer.apart(members, others)
        full_m = margin_m
        if near and not promised:
            whole = bool((apart_m >= _CLEAR_M).all())
            if not whole or finer.taken(found, _own_margins(apart_m, full_m)) > _OFTEN:
                full_m = min(_SMALL_MARGIN_M, margin_m)
                between_arm_and_trunk = len({capsules.body(k) in arms for k in (a, b)}) > 1
                clear = bool((apart_m >= margin_m + _REST_M).all())
                most = _MOSTLY if between_arm_and_trunk or clear else _SOMETIMES
                if not finer.bearable(found, apart_m, full_m, most):
                    if apart_m.min() > -_REST_M:
                        found, apart_m = finer.tighter(members, found, full_m)
                    if not finer.bearable(found, apart_m, full_m, most):
                        leave_out((a, b), "near in many postures")
                        continue
        least, _, closer = postures.search(np.array(found, dtype=np.int64), 0.0, margin_m)
        for pair, distance_m, nearest_m, share in zip(found, apart_m, least, closer, strict=True):
            if nearest_m > margin_m + _NEVER_M and not promised:
                leave_out(pair, _NEVER_MEET)
            elif distance_m < _CLEAR_M and not promised:
                leave_out(pair, "overlap at rest")
            elif share > _ALWAYS and not promised:
                leave_out(pair, "always in contact")
            else:
                own_m = margin_m if promised else float(_own_margins(distance_m, full_m))
                spare_m = min(_GOAL_SPARE_M, max(0.0, 0.5 * (distance_m - own_m)))
                _choose(chosen, pair, own_m, spare_m, fine=True)
    checked = {frozenset(names(pair)) for pair in chosen.pairs}
    partly = {
        pair: why
        for pair, why in left_out.items()
        if frozenset(pair) in checked and why not in (_NEVER_MEET, LIMITS)
    }
    left_out = {pair: why for pair, why in left_out.items() if frozenset(pair) not in checked}
    used = sorted({k for pair in chosen.pairs for k in pair})
    place = {k: i for i, k in enumerate(used)}
    common = np.array([capsules.common(a, b) for a, b in chosen.pairs], dtype=np.int64)
    pairs_array = np.array([(place[a], place[b]) for a, b in chosen.pairs], dtype=np.int64).reshape(-1, 2)
    capsules.keep(used)
    bodies, starts, ends, radii = capsules.arrays()
    return CollisionModel(
        tree=capsules.tree,
        capsules=tuple(piece.capsule for piece in capsules.pieces),
        bodies=bodies,
        starts=starts,
        ends=ends,
        radii=radii,
        pairs=pairs_array,
        common=common,
        margins=np.array(chosen.margins),
        goal_spares=np.array(chosen.goal_spares),
        fine=np.array(chosen.fine, dtype=np.bool_),
        margin_m=margin_m,
        left_out=left_out,
        partly_left_out=partly,
        warnings=tuple(capsules.warnings),
        largest_positions=tuple(
            float(max(abs(low), abs(high))) for low, high in zip(model.lower, model.upper, strict=True)
        ),
    )


def _own_margins(apart_m: Array, full_m: float) -> Array:
    """Margins (m) of pairs that rest so far apart, at most `full_m`."""
    own: Array = np.minimum(full_m, np.maximum(apart_m - _REST_M, 0.5 * apart_m))
    return own


def _choose(chosen: _Chosen, pair: tuple[int, int], margin_m: float, spare_m: float, *, fine: bool) -> None:
    chosen.pairs.append(pair)
    chosen.margins.append(margin_m)
    chosen.goal_spares.append(spare_m)
    chosen.fine.append(fine)
