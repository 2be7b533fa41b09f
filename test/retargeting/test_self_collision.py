"""Self-collision: capsules enclose, distances agree with coal, margins hold under any target."""

from __future__ import annotations

from dataclasses import replace

import coal
import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.capsule_distance import closest_points, distance_gradient, place_capsules
from retargeting.capsules import link_capsules
from retargeting.collision_braking import _lead
from retargeting.collision_cache import collision_model
from retargeting.collision_pairs import CollisionModel
from retargeting.compiled import compiled
from retargeting.frames import pose_apply, rotation_matrix_from_quaternion
from retargeting.mesh_file import UnreadableMesh, mesh_triangles
from retargeting.robot_model import RobotModel
from retargeting.self_collision import SelfCollision
from retargeting.solver import Solver, SolverParameters, SolverTargets

TICK_S = 0.005
MARGIN_ROUNDING_M = 1e-9


def surface_points(shape) -> np.ndarray:
    """Points on a collision shape in its link, from coal's own reading of a mesh."""
    geometry = shape.geometry
    size = geometry.size_m
    rng = np.random.default_rng(0)
    if geometry.kind == "mesh":
        points = coal.MeshLoader().load(str(geometry.mesh), np.array(geometry.scale)).vertices()
    elif geometry.kind == "box":
        points = 0.5 * np.array(size) * rng.choice([-1.0, 1.0], (64, 3))
    elif geometry.kind == "cylinder":
        turn = rng.uniform(0.0, 2.0 * np.pi, 400)
        height = 0.5 * size[1] * rng.choice([-1.0, 1.0], 400)
        points = np.c_[size[0] * np.cos(turn), size[0] * np.sin(turn), height]
    else:
        points = rng.normal(size=(400, 3))
        points *= size[0] / np.linalg.norm(points, axis=1)[:, None]
        if geometry.kind == "capsule":
            points[:, 2] += 0.5 * size[1] * np.sign(points[:, 2])
    return pose_apply(shape.pose, points)


def test_capsules_enclose_the_collision_geometry(model: RobotModel):
    for link in model.urdf.links.values():
        if not link.collisions:
            continue
        capsules, warnings = link_capsules(model.urdf, link)
        assert not warnings
        for shape in link.collisions:
            points = surface_points(shape)
            depth = np.full(len(points), -np.inf)
            for capsule in capsules:
                along = capsule.end - capsule.start
                share = (points - capsule.start) @ along / max(float(along @ along), 1e-18)
                nearest = capsule.start + np.clip(share, 0.0, 1.0)[:, None] * along
                depth = np.maximum(depth, capsule.radius_m - np.linalg.norm(points - nearest, axis=1))
            assert depth.min() > -1e-6, link.name


def coal_distance(a0, a1, radius_a, b0, b1, radius_b) -> float:
    def placed(p0, p1, radius):
        length = float(np.linalg.norm(p1 - p0))
        rotation = np.eye(3)
        if length > 1e-9:
            z = (p1 - p0) / length
            x = np.cross(z, np.eye(3)[np.argmin(np.abs(z))])
            x /= np.linalg.norm(x)
            rotation = np.column_stack([x, np.cross(z, x), z])
        return coal.Capsule(radius, length), coal.Transform3s(rotation, 0.5 * (p0 + p1))

    one, where_one = placed(a0, a1, radius_a)
    two, where_two = placed(b0, b1, radius_b)
    return coal.distance(one, where_one, two, where_two, coal.DistanceRequest(), coal.DistanceResult())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), special=st.sampled_from(["", "ball", "balls", "parallel", "crossing"]))
def test_coal_gives_the_same_distance(seed: int, special: str):
    rng = np.random.default_rng(seed)
    a0, a1, b0, b1 = rng.uniform(-0.5, 0.5, (4, 3))
    apart = np.array([0.0, 0.0, 0.0 if special == "crossing" else 1.3])
    b0, b1 = b0 + apart, b1 + apart
    if special.startswith("ball"):
        a1 = a0.copy()
    if special == "balls":
        b1 = b0.copy()
    if special == "parallel":
        b1 = b0 + (a1 - a0) * rng.uniform(-2.0, 2.0)
    radii = rng.uniform(0.01, 0.1, 2)
    ours = closest_points(a0, a1, b0, b1, np.empty(3), np.empty(3)) - radii.sum()
    theirs = coal_distance(a0, a1, radii[0], b0, b1, radii[1])
    if ours > 1e-3:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    else:
        assert theirs < 2e-3


def test_gradients_are_those_of_the_distances(model: RobotModel):
    collision = collision_model(model)
    tree = collision.tree
    rng = np.random.default_rng(5)
    step, checked = 1e-6, 0
    for _ in range(4):
        q = rng.uniform(np.maximum(model.lower, -2.0), np.minimum(model.upper, 2.0))
        positions, rotations = tree.body_poses(q)
        starts, ends = np.empty_like(collision.starts), np.empty_like(collision.ends)
        place_capsules(positions, rotations, collision.bodies, collision.starts, collision.ends, starts, ends)
        numeric = np.empty((len(collision.pairs), len(q)))
        second = np.empty_like(numeric)
        middle = collision.distances(q)
        for i in range(len(q)):
            shifted = np.zeros(len(q))
            shifted[i] = step
            above, below = collision.distances(q + shifted), collision.distances(q - shifted)
            numeric[:, i] = (above - below) / (2 * step)
            second[:, i] = np.abs(above - 2 * middle + below) / step
        on_a, on_b, gradient = np.empty(3), np.empty(3), np.empty(len(q))
        for p, (a, b) in enumerate(collision.pairs):
            gap = closest_points(starts[a], ends[a], starts[b], ends[b], on_a, on_b)
            # Where the closest points jump there is no gradient; where segments meet, no direction.
            if gap < 1e-3 or second[p].max() > 1e-3:
                continue
            distance_gradient(
                tree.arrays, positions,
                rotations, collision.bodies[a], collision.bodies[b], collision.common[p],
                on_a, on_b, gradient,
            )  # fmt: skip
            np.testing.assert_allclose(gradient, numeric[p], atol=1e-5)
            checked += 1
    assert checked > 100


def test_a_capsules_ends_are_led_as_their_first_two_derivatives_say(model: RobotModel):
    apart = SelfCollision(model)
    margins, tree = apart.margins, apart.collision.tree
    hull, work = margins.hull, margins.proof
    rng = np.random.default_rng(8)
    q = rng.uniform(np.maximum(model.lower, -2.0), np.minimum(model.upper, 2.0))
    v = rng.uniform(-2.0, 2.0, len(q)) * np.where(model.upper - model.lower < 0.2, 0.05, 1.0)

    def ends_at(s: float) -> np.ndarray:
        positions, rotations = tree.body_poses(q + s * v)
        placed = np.empty_like(hull.starts), np.empty_like(hull.ends)
        place_capsules(positions, rotations, hull.bodies, hull.starts, hull.ends, *placed)
        return np.stack(placed)

    work.positions[:], work.rotations[:] = tree.body_poses(q)
    work.starts[:], work.ends[:] = ends_at(0.0)
    step = 1e-4
    before, here, after = (ends_at(s) for s in (-step, 0.0, step))
    first, second = (after - before) / (2 * step), (after - 2 * here + before) / step**2
    lead = compiled(_lead)
    for half in (0.1, 0.02):
        lead(tree.arrays, hull, v, half, work)
        leads, curves = (
            np.stack(rows)
            for rows in ((work.start_leads, work.end_leads), (work.start_curves, work.end_curves))
        )
        np.testing.assert_allclose(leads, half * first, atol=1e-6)
        np.testing.assert_allclose(curves, 0.5 * half**2 * second, atol=1e-5)
        rest = np.linalg.norm(ends_at(half) - here - leads - curves, axis=2).max(axis=0)
        assert (rest <= work.bends + 1e-9).all()


def test_other_postures_do_not_bring_together_what_is_said_never_to_meet(model: RobotModel):
    collision = collision_model(model)
    never = {frozenset(pair) for pair, why in collision.left_out.items() if why == "never meet"}
    links = [capsule.link for capsule in collision.capsules]
    pairs = np.array(
        [(i, j) for i in range(len(links)) for j in range(i) if frozenset((links[i], links[j])) in never]
    )
    others = replace(collision, pairs=pairs)
    rng = np.random.default_rng(77)
    lower, upper = np.maximum(model.lower, -np.pi), np.minimum(model.upper, np.pi)
    least = min(others.distances(rng.uniform(lower, upper)).min() for _ in range(4000))
    assert least > collision.margin_m


def test_joints_that_move_a_pair_are_those_its_distance_depends_on(model: RobotModel):
    collision = collision_model(model)
    rng = np.random.default_rng(6)
    q = rng.uniform(np.maximum(model.lower, -2.0), np.minimum(model.upper, 2.0))
    here = collision.distances(q)
    for i in range(len(q)):
        moved = q.copy()
        moved[i] += 0.1
        changed = np.abs(collision.distances(moved) - here) > 1e-9
        assert not (changed & ~collision.movers[:, i]).any()
        assert changed.any() == collision.movers[:, i].any()


def test_a_start_inside_a_margin_names_its_links(kestrel: RobotModel):
    solver = Solver(kestrel, SolverParameters(self_collision=True))
    assert solver.starts_inside == ()
    start = kestrel.neutral.copy()
    start[kestrel.joint_names.index("left_elbow_pitch")] = -2.3
    start[kestrel.joint_names.index("left_shoulder_yaw")] = -1.2
    solver.start_from(start)
    assert any("torso" in pair for pair in solver.starts_inside)


class Oracle:
    """The distances of a robot's pairs by pinocchio's kinematics and coal's capsules."""

    def __init__(self, model: RobotModel, collision: CollisionModel) -> None:
        self.model, self.collision = model, collision
        self.robot = pinocchio.buildModelFromXML(model.urdf.text)
        self.data = self.robot.createData()
        self.frames = [self.robot.getFrameId(c.link, pinocchio.FrameType.BODY) for c in collision.capsules]

    def distances(self, q: np.ndarray, pairs) -> np.ndarray:
        positions = self.model.neutral_positions() | dict(zip(self.model.joint_names, q, strict=True))
        full = pinocchio.neutral(self.robot)
        for name, joint in self.model.urdf.joints.items():
            if joint.kind == "fixed" or not self.robot.existJointName(name):
                continue
            leader, factor, offset = joint, 1.0, 0.0
            while leader.mimic is not None:
                offset += factor * leader.mimic.offset
                factor *= leader.mimic.multiplier
                leader = self.model.urdf.joints[leader.mimic.joint]
            full[self.robot.joints[self.robot.getJointId(name)].idx_q] = (
                factor * positions[leader.name] + offset
            )
        pinocchio.framesForwardKinematics(self.robot, self.data, full)
        result = []
        for p in pairs:
            placed = []
            for k in self.collision.pairs[p]:
                capsule, where = self.collision.capsules[k], self.data.oMf[self.frames[k]]
                placed += [where.act(capsule.start), where.act(capsule.end), capsule.radius_m]
            result.append(coal_distance(*placed))
        return np.array(result)


def wild_targets(model: RobotModel, solver: Solver, rng: np.random.Generator, ticks: int):
    """Targets that jump and rush about through the body, and gripper positions, tick by tick."""
    m = model.body_count
    rest, _ = solver.layout.site_poses(model.neutral[:m].copy())
    goal, now, speed = rest.copy(), rest.copy(), 1.0
    rotations = np.tile(np.eye(3), (3, 1, 1))
    grippers = model.neutral[m:].copy()
    for k in range(ticks):
        if k % 60 == 0:
            goal = np.array([0.05, 0.0, rest[:2, 2].mean()]) + rng.uniform(
                [-0.25, -0.5, -0.5], [0.45, 0.5, 0.5], (3, 3)
            )
            speed = rng.choice([0.5, 2.0, 100.0])
            quaternions = rng.normal(size=(3, 4))
            quaternions /= np.linalg.norm(quaternions, axis=1)[:, None]
            rotations = rotation_matrix_from_quaternion(quaternions)
            grippers = rng.uniform(model.lower[m:], model.upper[m:])
        away = goal - now
        length = np.linalg.norm(away, axis=1)[:, None]
        now = now + away * np.minimum(1.0, speed * TICK_S / np.maximum(length, 1e-9))
        yield SolverTargets(now.copy(), rotations, np.zeros((2, 3))), grippers


def test_wild_targets_never_break_a_margin_or_a_limit(model: RobotModel):
    solver = Solver(model, SolverParameters(self_collision=True))
    collision = collision_model(model)
    oracle = Oracle(model, collision)
    rng = np.random.default_rng(11)
    solver.start_from(model.neutral)
    before = np.zeros(len(model.neutral))
    shaped = 0
    for k, (targets, grippers) in enumerate(wild_targets(model, solver, rng, 700)):
        # Uneven ticks, as real ones are.
        dt = TICK_S * (1.0 if rng.random() < 0.7 else rng.uniform(0.1, 1.0))
        held = k % 200 > 170
        step = solver.brake(dt) if held else solver.follow(targets, grippers, dt)
        assert step.forced_exceptions == 0
        assert (step.positions >= model.lower).all() and (step.positions <= model.upper).all()
        assert (np.abs(step.velocities) <= model.velocity * (1.0 + 1e-9)).all()
        assert (np.abs(step.velocities - before) <= model.acceleration * dt * (1.0 + 1e-6) + 1e-9).all()
        before = step.velocities
        shaped += step.collision_limited
        near = np.argsort(collision.distances(step.positions) - collision.margins)[:3]
        room = oracle.distances(step.positions, near) - collision.margins[near]
        assert room.min() >= -MARGIN_ROUNDING_M
    assert shaped > 50
    assert solver._self_collision.unsolved == 0


def test_without_self_collision_the_same_targets_go_through_the_body(kestrel: RobotModel):
    solver = Solver(kestrel, SolverParameters(self_collision=False))
    collision = collision_model(kestrel)
    rng = np.random.default_rng(11)
    worst = np.inf
    for targets, grippers in wild_targets(kestrel, solver, rng, 700):
        worst = min(worst, collision.distances(solver.follow(targets, grippers, TICK_S).positions).min())
    assert worst < -0.02


def test_a_robot_that_starts_too_near_never_comes_nearer(kestrel: RobotModel):
    solver = Solver(kestrel, SolverParameters(self_collision=True))
    collision = collision_model(kestrel)
    start = kestrel.neutral.copy()
    start[kestrel.joint_names.index("left_elbow_pitch")] = -2.3
    start[kestrel.joint_names.index("left_shoulder_yaw")] = -1.2
    first = collision.distances(start)
    inside = first < collision.margins
    assert inside.any(), "the posture must be in contact for this test to say anything"
    solver.start_from(start)
    reached = np.minimum(first, collision.margins)
    rng = np.random.default_rng(2)
    for targets, grippers in wild_targets(kestrel, solver, rng, 400):
        distances = collision.distances(solver.follow(targets, grippers, TICK_S).positions)
        assert (distances >= reached - 1e-9).all()


def test_a_hand_led_into_the_body_comes_to_rest_outside(model: RobotModel):
    solver = Solver(model, SolverParameters(self_collision=True))
    collision = collision_model(model)
    m = model.body_count
    where, rotations = solver.layout.site_poses(model.neutral[:m].copy())
    start = where[0].copy()
    for k in range(1000):
        where[0] = start + min(1.0, k * TICK_S / 1.5) * np.array([-0.15, -0.18, 0.0])
        step = solver.follow(SolverTargets(where, rotations, np.zeros((2, 3))), model.neutral[m:], TICK_S)
        assert (collision.distances(step.positions) >= collision.margins).all()
        if k > 900:
            assert np.abs(step.velocities).max() < 0.1


def test_mesh_files_that_cannot_be_read_say_why(tmp_path):
    for name, content, why in (
        ("a.stl", b"\x00" * 90, "damaged .stl"),
        ("b.obj", b"v 0 0\nf 1 2 3\n", "damaged .obj"),
        ("c.dae", b"<COLLADA>", "damaged .dae"),
        ("f.glb", b"glTF" + b"\x02\x00\x00\x00" * 20, "damaged .glb"),
        ("d.ply", b"", "format '.ply' is not read"),
        ("e.obj", b"v 0 0 0\n", "no triangle"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableMesh, match=why):
            mesh_triangles(tmp_path / name)
    with pytest.raises(UnreadableMesh, match="cannot be read"):
        mesh_triangles(tmp_path / "none.stl")
