"""Finer capsules: they enclose, never say more than the true distance; what is left out, is rightly."""

from __future__ import annotations

from collections import defaultdict

import coal
import numpy as np

from retargeting.capsules import Piece, Solid, enclosing_capsule, link_pieces
from retargeting.collision_cache import collision_model
from retargeting.collision_pairs import LIMITS, CollisionModel
from retargeting.finer_pairs import PlacedPieces, finer_pairs
from retargeting.frames import rotation_matrix_from_quaternion
from retargeting.robot_model import RobotModel

IDENTITY = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


class LinkShapes:
    """The collision geometry of a robot's links as coal reads it, and how far links are apart."""

    def __init__(self, model: RobotModel, collision: CollisionModel) -> None:
        self.model, self.collision = model, collision
        self._shapes: dict[str, list[tuple[object, np.ndarray]]] = {}
        self._request = coal.DistanceRequest(False, False)

    def _of(self, link: str):
        if link not in self._shapes:
            loader = coal.MeshLoader()
            found = []
            for shape in self.model.urdf.links[link].collisions:
                geometry, size = shape.geometry, shape.geometry.size_m
                made = {
                    "box": lambda size=size: coal.Box(*size),
                    "cylinder": lambda size=size: coal.Cylinder(*size),
                    "capsule": lambda size=size: coal.Capsule(*size),
                    "sphere": lambda size=size: coal.Sphere(size[0]),
                    "mesh": lambda geometry=geometry: loader.load(
                        str(geometry.mesh), np.array(geometry.scale)
                    ),
                }[geometry.kind]()
                found.append((made, shape.pose))
            self._shapes[link] = found
        return self._shapes[link]

    def distance(self, links: tuple[str, str], poses: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
        def placed(link: str, pose: np.ndarray) -> coal.Transform3s:
            position, rotation = poses[link]
            turn = rotation @ rotation_matrix_from_quaternion(pose[None, 3:])[0]
            return coal.Transform3s(turn, position + rotation @ pose[:3])

        return min(
            coal.distance(
                one, placed(links[0], pose_one), two, placed(links[1], pose_two),
                self._request, coal.DistanceResult(),
            )
            for one, pose_one in self._of(links[0])
            for two, pose_two in self._of(links[1])
        )  # fmt: skip


def link_poses(model: RobotModel, q: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Position and rotation of every link in the root, by walking the URDF."""
    values = model.locked_positions | dict(zip(model.joint_names, q.tolist(), strict=True))
    poses = {model.urdf.root: (np.zeros(3), np.eye(3))}
    for joint in model.urdf.joints_root_first():
        leader, factor, offset = joint, 1.0, 0.0
        while leader.mimic is not None:
            offset += factor * leader.mimic.offset
            factor *= leader.mimic.multiplier
            leader = model.urdf.joints[leader.mimic.joint]
        value = factor * values.get(leader.name, 0.0) + offset
        position, rotation = poses[joint.parent]
        position = position + rotation @ joint.pose[:3]
        rotation = rotation @ rotation_matrix_from_quaternion(joint.pose[None, 3:])[0]
        axis = np.asarray(joint.axis, dtype=np.float64)
        if joint.kind == "prismatic":
            position = position + rotation @ axis * value
        elif joint.kind != "fixed":
            turn = np.concatenate([np.sin(0.5 * value) * axis, [np.cos(0.5 * value)]])
            rotation = rotation @ rotation_matrix_from_quaternion(turn[None])[0]
        poses[joint.child] = position, rotation
    return poses


def depths(piece: Piece, points: np.ndarray) -> np.ndarray:
    capsule = piece.capsule
    along = capsule.end - capsule.start
    share = np.clip((points - capsule.start) @ along / max(float(along @ along), 1e-18), 0.0, 1.0)
    nearest = capsule.start + share[:, None] * along
    return capsule.radius_m - np.linalg.norm(points - nearest, axis=1)


def test_the_halves_of_a_piece_enclose_what_it_encloses(model: RobotModel):
    for link in list(model.urdf.links.values())[:12]:
        pieces, _ = link_pieces(model.urdf, link)
        for piece in pieces:
            leaves = [piece]
            for _ in range(3):
                leaves = [half for leaf in leaves for half in (leaf.halves() or (leaf,))]
            points = piece._solid.triangles.reshape(-1, 3)
            if len(points):
                deepest = np.max([depths(leaf, points) for leaf in leaves], axis=0)
                assert deepest.min() > -1e-6, link.name


def plate(link: str, half_m: np.ndarray) -> Piece:
    """A box around the origin."""
    corners = half_m * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    faces = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    rows = [row for a, b, c, d in faces for row in ((a, b, c), (a, c, d))]
    solid = Solid(corners[np.array(rows)], np.zeros((0, 4)))
    return Piece(solid, enclosing_capsule(link, solid.corners()))


def test_cutting_brings_apart_what_only_its_capsules_join():
    gap_m, half_m = 0.02, np.array([0.1, 0.1, 0.01])
    one, two = plate("one", half_m), plate("two", half_m)
    places = {"one": (0, IDENTITY), "two": (1, IDENTITY)}
    apart = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0 * half_m[2] + gap_m]])
    placed = PlacedPieces(places, [(apart, np.stack([np.eye(3), np.eye(3)]))])
    coarse_m = placed.distance(one, two)
    found = finer_pairs([(one, two)], placed, 0.002, 600)
    assert coarse_m < -0.01
    assert 0.002 <= min(pair.distance_m for pair in found) <= gap_m
    for pair in found:
        assert pair.distance_m == placed.distance(pair.first, pair.second)
    few = finer_pairs([(one, two)], placed, 0.002, 5)
    assert len(few) <= 6 and coarse_m <= min(pair.distance_m for pair in few) < 0.002


def test_capsules_never_say_more_than_the_true_distance(model: RobotModel):
    collision = collision_model(model)
    shapes = LinkShapes(model, collision)
    pairs = defaultdict(list)
    for p, names in enumerate(collision.link_pairs()):
        if collision.fine[p] and all(model.urdf.links[name].collisions for name in names):
            pairs[names].append(p)
    # Of links that are left out in part some capsules are missing.
    whole = [names for names in pairs if names not in collision.partly_left_out][:8]
    rng = np.random.default_rng(4)
    for _ in range(15):
        q = rng.uniform(np.maximum(model.lower, -2.0), np.minimum(model.upper, 2.0))
        poses, distances = link_poses(model, q), collision.distances(q)
        for names in whole:
            true_m = shapes.distance(names, poses)
            # Capsules that never meet are not held: they are not those that are near.
            if true_m < collision.margin_m:
                assert distances[pairs[names]].min() <= true_m + 1e-6


def test_what_limits_are_said_to_keep_apart_touches_in_no_other_posture(model: RobotModel):
    collision = collision_model(model)
    shapes = LinkShapes(model, collision)
    said = [
        names
        for names, why in collision.left_out.items()
        if why == LIMITS and all(model.urdf.links[name].collisions for name in names)
    ]
    assert said
    rng = np.random.default_rng(21)
    for _ in range(40):
        poses = link_poses(model, rng.uniform(model.lower, model.upper))
        for names in said[:12]:
            assert shapes.distance(names, poses) > 0.0


def test_no_robot_rests_inside_a_margin(model: RobotModel):
    collision = collision_model(model)
    apart = collision.distances(model.neutral)
    assert (collision.margins >= 0.0).all() and (collision.margins <= collision.margin_m).all()
    assert (apart >= collision.margins + collision.goal_spares).all()
    own = dict(((a, b), margin_m) for a, b, margin_m in collision.own_margins())
    for pair, margin_m in zip(collision.link_pairs(), collision.margins, strict=True):
        assert own.get(pair, collision.margin_m) <= margin_m


def test_the_upper_arms_of_kestrel_keep_the_whole_margin_from_its_torso(kestrel: RobotModel):
    collision = collision_model(kestrel)
    told = {frozenset(pair[:2]) for pair in (*collision.exempt_links(), *collision.own_margins())}
    for side in ("left", "right"):
        pair = ("torso", f"{side}_upper_arm")
        assert frozenset(pair) not in told and pair in collision.link_pairs()


def test_ends_of_capsules_are_where_their_links_are(model: RobotModel):
    collision = collision_model(model)
    q = np.clip(model.neutral + 0.2, model.lower, model.upper)
    poses = link_poses(model, q)
    positions, rotations = collision.tree.body_poses(q)
    for k, capsule in enumerate(collision.capsules[:40]):
        position, rotation = poses[capsule.link]
        body = collision.bodies[k]
        np.testing.assert_allclose(
            positions[body] + rotations[body] @ collision.starts[k], position + rotation @ capsule.start,
            atol=1e-9,
        )  # fmt: skip
