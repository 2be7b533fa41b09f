"""An arm in the wrong branch is led out of it; whatever is asked, the limits hold and nothing alternates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.arm_recovery import ArmRecovery, Phase, RecoveryParameters
from retargeting.branch_search import BranchSearch
from retargeting.errors import RetargetingError
from retargeting.frames import quaternion_from_rotation_vector, rotation_matrix_from_quaternion
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import robot_posture
from retargeting.solver import Solver, SolverParameters, SolverTargets

TICK_S = 0.005
RECOVERING = SolverParameters(self_collision=False, branch_recovery=True)


def resting_targets(solver: Solver) -> SolverTargets:
    """Those of the neutral posture."""
    m = solver.model.body_count
    positions, rotations = solver.layout.site_poses(solver.model.neutral[:m])
    directions = robot_posture(solver.layout, solver.model.neutral[:m]).directions
    return SolverTargets(positions, rotations, directions)


def moved(targets: SolverTargets, shifts: np.ndarray, turns: np.ndarray) -> SolverTargets:
    """Wrists shifted by ``(2, 3)`` m and turned by rotation vectors ``(2, 3)``."""
    positions, rotations = targets.positions.copy(), targets.rotations.copy()
    positions[:2] += shifts
    for k in range(2):
        turn = rotation_matrix_from_quaternion(quaternion_from_rotation_vector(turns[k]))
        rotations[k] = turn @ targets.rotations[k]
    return SolverTargets(positions, rotations, targets.elbow_directions)


class Run:
    """A solver driven tick by tick; every command and every goal is checked."""

    def __init__(self, model: RobotModel, parameters: SolverParameters | None = None) -> None:
        self.model, self.solver = model, Solver(model, parameters or RECOVERING)
        self.home = resting_targets(self.solver)
        self.errors: list[float] = []
        self._grippers = model.neutral[model.body_count :]

    def tick(self, targets: SolverTargets, dt: float = TICK_S) -> None:
        model, solver, m = self.model, self.solver, self.model.body_count
        q, v, goal = solver.q.copy(), solver.v.copy(), solver.goal[:m].copy()
        step = solver.follow(targets, self._grippers, dt)
        assert step.forced_exceptions == 0
        assert (step.positions >= model.lower).all() and (step.positions <= model.upper).all()
        velocity = (step.positions - q) / dt
        assert (np.abs(velocity) <= model.velocity * (1.0 + 1e-9) + 1e-9).all()
        assert (np.abs(velocity - v) <= model.acceleration * dt * (1.0 + 1e-6) + 1e-9).all()
        # The goal does not jump to another branch either.
        assert (np.abs(solver.goal[:m] - goal) <= model.velocity[:m] * dt * (1.0 + 1e-9) + 1e-12).all()
        reached = solver.layout.site_poses(step.positions[:m])[0]
        self.errors.append(float(np.linalg.norm((reached - targets.positions)[:2], axis=1).max()))

    def violent(self, rng: np.random.Generator, legs: int = 5) -> None:
        """To and fro between places most of which cannot be reached, home at the end."""
        shifts, turns = np.zeros((2, 3)), np.zeros((2, 3))
        for leg in range(legs + 1):
            last = leg == legs
            next_shifts = np.zeros((2, 3)) if last else rng.uniform(-0.9, 0.9, (2, 3))
            next_turns = np.zeros((2, 3)) if last else rng.uniform(-1.5, 1.5, (2, 3))
            ticks = int(rng.uniform(0.3, 0.7) / TICK_S)
            for k in range(1, ticks + 1):
                share = k / ticks
                share = share * share * (3.0 - 2.0 * share)
                self.tick(
                    moved(
                        self.home,
                        shifts + share * (next_shifts - shifts),
                        turns + share * (next_turns - turns),
                    )
                )
            shifts, turns = next_shifts, next_turns


def ends_of_violent_motions(model: RobotModel, parameters: SolverParameters) -> list[float]:
    """The larger wrist error (m) 6 s after each of some violent motions."""
    ends = []
    for seed in range(8):
        run = Run(model, parameters)
        run.violent(np.random.default_rng(seed))
        for _ in range(1200):
            run.tick(run.home)
        ends.append(run.errors[-1])
    return ends


def test_a_violent_motion_leaves_no_arm_in_the_wrong_branch(model: RobotModel):
    ends = ends_of_violent_motions(model, RECOVERING)
    assert max(ends) < RecoveryParameters().away_m, np.round(ends, 4)


def wrong_posture(run: Run, rng: np.random.Generator) -> None:
    """The goal and the command where a search from a random posture ends that does not come home."""
    model, m = run.model, run.model.body_count
    for _ in range(200):
        start = model.neutral.copy()
        start[:m] = rng.uniform(np.maximum(model.lower[:m], -np.pi), np.minimum(model.upper[:m], np.pi))
        run.solver.start_from(start)
        run.solver.improve_goal(run.home, 300)
        stuck = run.solver.goal.copy()
        away = run.solver.layout.site_poses(stuck[:m])[0] - run.home.positions
        if np.linalg.norm(away[:2], axis=1).max() > 0.05:
            run.solver.start_from(stuck)
            return
    raise AssertionError("every posture leads home")


@pytest.mark.parametrize("closed_form", [True, False])
def test_a_stuck_arm_comes_home(model: RobotModel, closed_form: bool, monkeypatch: pytest.MonkeyPatch):
    """From a posture in which it rests, with seeds in closed form and without any."""
    if not closed_form:
        monkeypatch.setattr("retargeting.arm_recovery.robot_arms", lambda *_: {})
    for seed in range(4):
        run = Run(model)
        wrong_posture(run, np.random.default_rng(seed))
        for _ in range(1600):
            run.tick(run.home)
        assert run.errors[0] > 0.05
        assert run.errors[-1] < 0.010
        assert run.solver.recoveries >= 1


def test_without_recovery_it_stays(model: RobotModel):
    """The postures of the test above are no mere detours."""
    run = Run(model, SolverParameters(self_collision=False))
    wrong_posture(run, np.random.default_rng(0))
    for _ in range(300):
        run.tick(run.home)
    assert run.errors[-1] > 0.04


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_random_targets_and_ticks_break_no_limit(kestrel: RobotModel, seed: int):
    """Targets that jump, in reach and far out of it; ticks of uneven length; a brake in between."""
    rng = np.random.default_rng(seed)
    run = Run(kestrel)
    targets = run.home
    for k in range(300):
        if rng.random() < 0.05:
            targets = moved(run.home, rng.normal(0.0, 0.6, (2, 3)), rng.normal(0.0, 1.5, (2, 3)))
        if k == 150:
            run.solver.brake(TICK_S)
            continue
        run.tick(targets, TICK_S if rng.random() < 0.8 else rng.uniform(0.001, 0.005))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_an_unreachable_target_lets_no_arm_alternate(model: RobotModel, seed: int):
    rng = np.random.default_rng(seed)
    run = Run(model)
    far = moved(run.home, rng.normal(0.0, 1.0, (2, 3)), rng.normal(0.0, 1.0, (2, 3)))
    for _ in range(500):
        run.tick(far)
    before = run.solver.recoveries
    for _ in range(400):
        run.tick(far)
    assert run.solver.recoveries == before
    assert np.ptp(run.errors[-400:]) < 0.005


def test_while_the_trainer_moves_no_arm_is_led(model: RobotModel):
    """However far off it is: the target may be elsewhere before another branch is reached."""
    for seed in range(3):
        run = Run(model)
        run.violent(np.random.default_rng(seed), legs=3)
        assert run.solver.recoveries == 0


def test_in_reach_nothing_is_sought(model: RobotModel):
    """A wrist that follows slowly moving targets is never suspected."""
    run = Run(model)
    for k in range(400):
        phase = 2.0 * np.pi * 0.4 * k * TICK_S
        shift = 0.05 * np.array([np.sin(phase), 1.0 - np.cos(phase), np.sin(phase)])
        run.tick(moved(run.home, np.array([shift, shift]), np.zeros((2, 3))))
        assert run.solver.recoveries == 0
    assert max(run.errors) < 0.02


def test_a_way_that_breaks_a_margin_is_not_taken(kestrel: RobotModel):
    run = Run(kestrel, SolverParameters(self_collision=False))
    wrong_posture(run, np.random.default_rng(0))
    goal = run.solver.goal[: kestrel.body_count]
    for blocked in (True, False):
        recovery = ArmRecovery(kestrel, run.solver.layout, run.solver.parameters)
        asked = []

        def room(q: np.ndarray, blocked: bool = blocked, asked: list[int] = asked) -> np.ndarray:
            asked.append(1)
            return np.array([0.01 if np.array_equal(q, goal) or not blocked else -0.001])

        for _ in range(1000):
            recovery.watch(goal, run.home, room, TICK_S)
            if recovery.phase is Phase.PASSING:
                break
        assert asked and recovery.searches == 1
        assert (recovery.phase is Phase.PASSING) is not blocked


def watched(model: RobotModel, parameters: RecoveryParameters) -> tuple[list[Phase], ArmRecovery, np.ndarray]:
    """The phases of a recovery that is shown a goal in the wrong branch and a target at rest; the goal."""
    run = Run(model, SolverParameters(self_collision=False))
    wrong_posture(run, np.random.default_rng(0))
    goal = run.solver.goal[: model.body_count]
    recovery = ArmRecovery(model, run.solver.layout, run.solver.parameters, parameters)
    phases = []
    for _ in range(1000):
        recovery.watch(goal, run.home, None, TICK_S)
        phases.append(recovery.phase)
        if recovery.phase is Phase.PASSING:
            break
    return phases, recovery, goal


def test_a_way_that_costs_more_than_it_brings_is_not_gone(model: RobotModel):
    """So slow that being on the way would be worse than staying."""
    phases, recovery, _ = watched(model, RecoveryParameters(speed_rad_s=0.05))
    assert recovery.searches == 1 and Phase.PASSING not in phases
    phases, _, _ = watched(model, RecoveryParameters())
    assert phases[-1] is Phase.PASSING


def test_what_failed_is_sought_again_only_for_other_targets(model: RobotModel):
    run = Run(model)
    far = moved(run.home, np.full((2, 3), 1.5), np.zeros((2, 3)))
    for _ in range(800):
        run.tick(far)
    recovery = run.solver._recovery
    assert recovery is not None and recovery.searches == 1 and recovery.recoveries == 0
    for k in range(800):
        run.tick(moved(far, np.full((2, 3), 0.1 * min(1.0, k / 40)), np.zeros((2, 3))))
    assert recovery.searches == 2


def test_only_the_arm_that_is_wrong_is_led(kestrel: RobotModel):
    """The other arm and the waist stay, if the arm gets there alone."""
    phases, recovery, goal = watched(kestrel, RecoveryParameters())
    assert phases[-1] is Phase.PASSING
    recovery.fill_lead(goal, TICK_S)
    arm = [kestrel.joint_names.index(name) for name in kestrel.description.chains["right_arm"]]
    np.testing.assert_array_equal(np.flatnonzero(recovery.led), arm)
    assert np.abs(recovery.lead[arm]).max() > 0.0
    assert not recovery.lead[~recovery.led].any()


def test_walks_lead_from_the_neutral_posture_to_the_targets(model: RobotModel):
    run = Run(model, SolverParameters(self_collision=False))
    search = BranchSearch(model, run.solver.layout, run.solver.parameters, {})
    neutral = model.neutral[: model.body_count].copy()
    near = moved(run.home, np.full((2, 3), 0.05), np.full((2, 3), 0.2))
    search.set_out(near)
    np.testing.assert_allclose(search.distances(neutral, search.between(0.0)), 0.0, atol=1e-9)
    there = search.between(1.0)
    for mine, wanted in zip(there[:3], near[:3], strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-9)
    held = neutral.copy()
    search.settle_near(held, neutral, np.zeros(len(neutral)), 5, near)
    np.testing.assert_array_equal(held, neutral)


def test_the_goal_meets_reachable_targets_as_well_with_damping(model: RobotModel):
    """Damping by the residual costs no accuracy where the targets can be met."""
    errors = []
    for residual_damping in (0.0, SolverParameters().residual_damping):
        run = Run(model, SolverParameters(self_collision=False, residual_damping=residual_damping))
        near = moved(run.home, np.full((2, 3), 0.04), np.full((2, 3), 0.1))
        for _ in range(200):
            run.tick(near)
        errors.append(run.errors[-1])
    assert errors[1] <= errors[0] + 1e-6


def test_beyond_reach_the_error_grows_smoothly_and_nothing_shakes(model: RobotModel):
    """From within reach to beyond it at 0.12 m/s, and back."""
    rough = []
    for residual_damping in (0.0, SolverParameters().residual_damping):
        run = Run(model, SolverParameters(self_collision=False, residual_damping=residual_damping))
        outward = np.array([0.9, 0.0, 0.45])
        velocities = []
        for k in range(1200):
            far = 0.35 * (1.0 - abs(k - 600) / 600)
            run.tick(moved(run.home, np.array([far * outward, far * outward]), np.zeros((2, 3))))
            velocities.append(run.solver.v[: model.body_count].copy())
        rough.append(float(np.sqrt(np.mean(np.diff(velocities, axis=0) ** 2))) / TICK_S)
    # No faster than its target moves, and a little for what the command lags.
    assert np.abs(np.diff(run.errors)).max() < 2.0 * 0.12 * TICK_S * np.linalg.norm(outward)
    assert rough[1] <= rough[0] * 1.01, rough


def test_parameters_are_checked():
    with pytest.raises(RetargetingError, match="search_ticks"):
        RecoveryParameters(search_ticks=0)
    with pytest.raises(RetargetingError, match=r"better_share: 1\.5"):
        RecoveryParameters(better_share=1.5)
    with pytest.raises(RetargetingError, match="away_m: nan"):
        replace(RecoveryParameters(), away_m=float("nan"))
