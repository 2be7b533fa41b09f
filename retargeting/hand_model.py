"""A robot's hand flattened to arrays: which joints it has, where its fingers begin, bend and end.

A finger's four points stand for those of a trainer's (`retargeting.hand_points`): the base is the
origin of the first joint that moves this finger only, the distal point that of the last one, the middle
that of the joint nearest to half the way, the tip the centre of the pad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS
from retargeting.errors import RetargetingError
from retargeting.frames import pose_apply, pose_compose, rotation_matrix_from_quaternion
from retargeting.hand_points import BASE, DISTAL, MIDDLE, TIP
from retargeting.kinematics import KinematicTree, build_tree
from retargeting.robot_description import Finger, Gripper, Site
from retargeting.urdf import Joint, Urdf

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_POSTURES = 400
# A joint this near to the pad's centre gives the last bone no direction.
_SHORTEST_BONE_M = 0.005


@dataclass(frozen=True)
class RobotHand:
    """`n` joints (mimics are folded into the tree) and `k` fingers.

    lower, upper, closed, open ``(n,)`` rad or m; finger_indices ``(k,)`` into `FINGERS`; bodies
    ``(k, 4)`` rows of the tree and positions ``(k, 4, 3)`` in them (base, middle, distal, tip);
    pad_radii, reach_m ``(k,)``: the longest distance from base to tip; moves ``(k, n)``: which joints
    move a finger's tip; wrist_rotation ``(3, 3)``: the wrist site's axes in the tree's root.
    """

    side: str
    joint_names: tuple[str, ...]
    tree: KinematicTree
    lower: Array
    upper: Array
    closed: Array
    open: Array
    fingers: tuple[str, ...]
    finger_indices: IntArray
    bodies: IntArray
    positions: Array
    pad_radii: Array
    reach_m: Array
    moves: BoolArray
    wrist_rotation: Array
    wrist_position: Array

    def points(self, q: Array) -> Array:
        """The fingers' points ``(k, 4, 3)`` in the axes of the wrist for joint positions ``(n,)``."""
        positions, rotations = self.tree.body_poses(np.ascontiguousarray(q, dtype=np.float64))
        where = positions[self.bodies] + np.einsum("kpij,kpj->kpi", rotations[self.bodies], self.positions)
        result: Array = (where - self.wrist_position) @ self.wrist_rotation
        return result

    def gaps(self, q: Array) -> Array:
        """Distance (m) between the surfaces of the thumb's pad and each finger's, ``(k,)``; the thumb's is 0.

        Raises `RetargetingError` for a hand without a thumb.
        """
        if "thumb" not in self.fingers:
            raise RetargetingError(f"the {self.side} hand has no thumb")
        thumb = self.fingers.index("thumb")
        tips = self.points(q)[:, TIP]
        gaps = np.linalg.norm(tips - tips[thumb], axis=1) - self.pad_radii - self.pad_radii[thumb]
        gaps[thumb] = 0.0
        result: Array = gaps
        return result


def build_robot_hand(
    urdf: Urdf,
    side: str,
    gripper: Gripper,
    fingers: Mapping[str, Finger],
    wrist: Site,
    locked: Mapping[str, float],
) -> RobotHand:
    """The hand of `side`, its other joints (arm, legs) at `locked`.

    Raises `RetargetingError` where a finger is moved by no joint of the gripper, or the wrist is.
    """
    names = tuple(gripper.joints)
    carriers = {joint.child: joint for joint in urdf.joints.values()}
    chains = {finger: _moving_joints(urdf, carriers, entry.tip, names) for finger, entry in fingers.items()}
    for finger, chain in chains.items():
        if not chain:
            raise RetargetingError(
                f"hands.{side}.{finger}: no joint of grippers.{side} moves the link {fingers[finger].tip!r}"
            )
    if _moving_joints(urdf, carriers, wrist.link, names):
        raise RetargetingError(f"sites.{side}_wrist: {wrist.link!r} is moved by a joint of grippers.{side}")
    links = {wrist.link}
    for finger, chain in chains.items():
        links |= {fingers[finger].tip, *(joint.child for joint in chain)}
        if fingers[finger].base:
            links.add(fingers[finger].base)
    tree, body_of = build_tree(urdf, names, locked, keep=sorted(links))
    closed = np.array([ends.closed for ends in gripper.joints.values()])
    opened = np.array([ends.open for ends in gripper.joints.values()])

    def place(link: str, position: Array) -> tuple[int, Array]:
        body, pose = body_of[link]
        return tree.index(body), pose_apply(pose, position)

    order = tuple(finger for finger in FINGERS if finger in fingers)
    bodies, positions = np.zeros((len(order), 4), dtype=np.int64), np.zeros((len(order), 4, 3))
    body_positions, body_rotations = tree.body_poses(opened)
    for k, finger in enumerate(order):
        entry = fingers[finger]
        own = [joint for joint in chains[finger] if not _is_shared(joint, finger, chains)]
        bends = [joint.child for joint in own or chains[finger]]
        if entry.base:
            bends = [entry.base, *bends[bends.index(entry.base) + 1 if entry.base in bends else 0 :]]
        places = [place(link, np.zeros(3)) for link in bends]
        places.append(place(entry.tip, entry.tip_position))
        where = np.array([body_positions[body] + body_rotations[body] @ point for body, point in places])
        for point, index in zip((BASE, MIDDLE, DISTAL, TIP), _joint_choice(where), strict=True):
            bodies[k, point], positions[k, point] = places[index]
    wrist_body, wrist_pose = body_of[wrist.link]
    wrist_pose = pose_compose(wrist_pose, wrist.pose)
    row = tree.index(wrist_body)
    columns = {name: i for i, name in enumerate(names)}
    moves = np.zeros((len(order), len(names)), dtype=np.bool_)
    for k, finger in enumerate(order):
        moves[k, [columns[_leader(urdf, joint)] for joint in chains[finger]]] = True
    lower = np.array([urdf.joints[name].lower for name in names])
    upper = np.array([urdf.joints[name].upper for name in names])
    return RobotHand(
        side=side,
        joint_names=names,
        tree=tree,
        lower=lower,
        upper=upper,
        closed=closed,
        open=opened,
        fingers=order,
        finger_indices=np.array([FINGERS.index(finger) for finger in order], dtype=np.int64),
        bodies=bodies,
        positions=positions,
        pad_radii=np.array([fingers[finger].pad_radius_m for finger in order]),
        reach_m=_reach(tree, bodies, positions, lower, upper, (closed, opened)),
        moves=moves,
        wrist_rotation=body_rotations[row] @ rotation_matrix_from_quaternion(wrist_pose[3:]),
        wrist_position=body_positions[row] + body_rotations[row] @ wrist_pose[:3],
    )


def _leader(urdf: Urdf, joint: Joint) -> str:
    """The joint whose position decides that of `joint`."""
    while joint.mimic is not None:
        joint = urdf.joints[joint.mimic.joint]
    return joint.name


def _moving_joints(urdf: Urdf, carriers: Mapping[str, Joint], link: str, names: Sequence[str]) -> list[Joint]:
    """The joints between the root and `link` that follow one of `names`, root first."""
    chain = []
    while link in carriers:
        joint = carriers[link]
        if joint.kind != "fixed" and _leader(urdf, joint) in names:
            chain.append(joint)
        link = joint.parent
    return chain[::-1]


def _is_shared(joint: Joint, finger: str, chains: Mapping[str, list[Joint]]) -> bool:
    return any(joint in chain for other, chain in chains.items() if other != finger)


def _joint_choice(where: Array) -> tuple[int, int, int, int]:
    """Which of a finger's joint origins and tip ``(m, 3)`` are its base, middle, distal point and tip."""
    tip = len(where) - 1
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(where, axis=0), axis=1))])
    between = range(1, tip)
    middle = min(between, key=lambda i: abs(along[i] - 0.5 * along[tip]), default=tip)
    far = [i for i in range(tip) if np.linalg.norm(where[tip] - where[i]) > _SHORTEST_BONE_M]
    return 0, middle, far[-1] if far else 0, tip


def _reach(
    tree: KinematicTree,
    bodies: IntArray,
    positions: Array,
    lower: Array,
    upper: Array,
    postures: Sequence[Array],
) -> Array:
    """The longest distance (m) from base to tip of every finger over random postures (seeded)."""
    rng = np.random.default_rng(0)
    low, high = np.maximum(lower, -np.pi), np.minimum(upper, np.pi)
    longest = np.zeros(len(bodies))
    for q in [*postures, *rng.uniform(low, high, (_POSTURES, len(lower)))]:
        where, rotations = tree.body_poses(q)
        base, tip = (
            where[bodies[:, p]] + np.einsum("kij,kj->ki", rotations[bodies[:, p]], positions[:, p])
            for p in (BASE, TIP)
        )
        longest = np.maximum(longest, np.linalg.norm(tip - base, axis=1))
    return longest
