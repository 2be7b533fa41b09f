"""Which targets could the robot reach at all, if only its joints' position limits bound it?

The yardstick for tracking: a solver cannot be blamed for a target beyond the arm. Damped least squares
(Levenberg-Marquardt) with the joint ranges as box bounds (joints on a bound whose gradient pushes
outward are held), all frames of a motion at once, every frame on its own: no velocity, no acceleration,
no posture, no collision. Failed frames start again from the solution of their nearest solved neighbour in
time, from the neutral posture and from random postures. A frame called reachable is so for certain (its
residual was evaluated); one called unreachable was not reached from any start, so the coverage is a lower
bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.kinematics import KinematicTree, Placement, Site, rotation_angle, rotation_vector
from episodes.progress import Progress, no_progress

Array = NDArray[np.float64]

# One radian of orientation weighs as much as this many metres: 1 degree like 5 mm.
METRES_PER_RADIAN = 0.3
POSITION_TOLERANCE_M = 0.005
ORIENTATION_TOLERANCE_RAD = float(np.radians(1.0))


@dataclass(frozen=True)
class ReachProblem:
    """Bring `sites` to `targets` (n frames each) with joints `names` between `lower` and `upper`.

    `start` ``(n, joints)`` is where the search begins, `neutral` ``(joints,)`` where it begins again.
    """

    tree: KinematicTree
    sites: Mapping[str, Site]
    targets: Mapping[str, Placement]
    names: tuple[str, ...]
    lower: Array
    upper: Array
    start: Array
    neutral: Array


@dataclass(frozen=True)
class Reached:
    """The best found: errors ``(n, sites)`` in m and rad, sites in the problem's order; `q` its joints."""

    position_error_m: Array
    orientation_error_rad: Array
    q: Array


# (problem, whether orientation counts too, progress) -> best found
Reach = Callable[[ReachProblem, bool, Progress], Reached]


def errors_at(problem: ReachProblem, q: Array, frames: NDArray[np.intp] | None = None) -> tuple[Array, Array]:
    """Position and orientation errors ``(n, sites)`` of joints `q` (for a selection of frames)."""
    pick = slice(None) if frames is None else frames
    placed = problem.tree.place_sites(problem.sites, problem.names, q)
    position, orientation = [], []
    for name in problem.sites:
        at, target = placed[name], problem.targets[name]
        position.append(np.linalg.norm(target.position[pick] - at.position, axis=-1))
        orientation.append(rotation_angle(target.rotation[pick] @ np.swapaxes(at.rotation, -1, -2)))
    return np.stack(position, axis=-1), np.stack(orientation, axis=-1)


def is_reached(position_m: Array, orientation_rad: Array, orientation: bool) -> NDArray[np.bool_]:
    """Whether all sites of a frame are within 5 mm (and 1 degree where orientation counts)."""
    reached: NDArray[np.bool_] = np.all(position_m <= POSITION_TOLERANCE_M, axis=-1)
    if orientation:
        reached = np.logical_and(reached, np.all(orientation_rad <= ORIENTATION_TOLERANCE_RAD, axis=-1))
    return reached


def _residual(
    problem: ReachProblem, q: Array, frames: NDArray[np.intp], orientation: bool
) -> tuple[Array, Array]:
    """Residuals ``(n, m)`` and their Jacobian ``(n, m, joints)``."""
    parts = []
    slopes = []
    for name, (at, jacobian) in problem.tree.jacobians(problem.sites, problem.names, q).items():
        target = problem.targets[name]
        parts.append(at.position - target.position[frames])
        slopes.append(jacobian[:, :3])
        if orientation:
            turn = at.rotation @ np.swapaxes(target.rotation[frames], -1, -2)
            parts.append(METRES_PER_RADIAN * rotation_vector(turn))
            slopes.append(METRES_PER_RADIAN * jacobian[:, 3:])
    return np.concatenate(parts, axis=1), np.concatenate(slopes, axis=1)


def _descend(
    problem: ReachProblem, q: Array, frames: NDArray[np.intp], orientation: bool, iterations: int
) -> Array:
    """Levenberg-Marquardt in the box, on many frames at once; returns the best joints of each."""
    q = np.clip(q, problem.lower, problem.upper)
    joints = q.shape[1]
    damping = np.full(len(q), 1e-3)
    # Well inside the tolerance, so that the last step need not hit its edge.
    enough = 0.5 * (0.2 * POSITION_TOLERANCE_M) ** 2
    active = np.arange(len(q))
    residual, slope = _residual(problem, q, frames, orientation)
    cost = 0.5 * np.einsum("nm,nm->n", residual, residual)
    for _ in range(iterations):
        active = active[(cost[active] > enough) & (damping[active] < 1e4)]
        if len(active) == 0:
            break
        j, r, here = slope[active], residual[active], q[active]
        gradient = np.einsum("nmj,nm->nj", j, r)
        held = ((here <= problem.lower) & (gradient > 0.0)) | ((here >= problem.upper) & (gradient < 0.0))
        j = np.where(held[:, None, :], 0.0, j)
        hessian = np.swapaxes(j, 1, 2) @ j
        hessian[:, np.arange(joints), np.arange(joints)] += damping[active, None] + held
        step = -np.linalg.solve(hessian, np.where(held, 0.0, gradient)[..., None])[..., 0]
        step *= np.minimum(1.0, 0.5 / np.maximum(1e-12, np.abs(step).max(axis=1)))[:, None]
        trial = np.clip(here + step, problem.lower, problem.upper)
        trial_residual, trial_slope = _residual(problem, trial, frames[active], orientation)
        trial_cost = 0.5 * np.einsum("nm,nm->n", trial_residual, trial_residual)
        better = trial_cost < cost[active]
        # Creeping is the end of the way: an unreachable target has its nearest point here.
        creeping = better & (trial_cost > (1.0 - 1e-4) * cost[active])
        chosen = active[better]
        q[chosen], residual[chosen], slope[chosen] = (
            trial[better],
            trial_residual[better],
            trial_slope[better],
        )
        cost[chosen] = trial_cost[better]
        damping[active] = np.where(better, np.maximum(1e-9, damping[active] * 0.2), damping[active] * 5.0)
        damping[active[creeping]] = 1e9
    return q


def reach(
    problem: ReachProblem,
    orientation: bool,
    progress: Progress = no_progress,
    *,
    iterations: int = 40,
    random_starts: int = 2,
    seed: int = 0,
) -> Reached:
    """The best position-limits-only solution found for every frame (see the module)."""
    # A continuous joint has no bounds: start it within half a turn.
    low = np.where(np.isfinite(problem.lower), problem.lower, -np.pi)
    high = np.where(np.isfinite(problem.upper), problem.upper, np.pi)
    random = np.random.default_rng(seed)
    best = np.clip(problem.start, problem.lower, problem.upper)
    position, angle = errors_at(problem, best)
    badness = _badness(position, angle, orientation)

    def improve(frames: NDArray[np.intp], starts: Array) -> None:
        q = _descend(problem, starts, frames, orientation, iterations)
        here_position, here_angle = errors_at(problem, q, frames)
        here = _badness(here_position, here_angle, orientation)
        better = here < badness[frames]
        chosen = frames[better]
        best[chosen], badness[chosen] = q[better], here[better]
        position[chosen], angle[chosen] = here_position[better], here_angle[better]

    rounds = ["start", "neighbour", "neutral", "neighbour", *["random"] * random_starts, "neighbour"]
    for number, kind in enumerate(rounds):
        progress(number / len(rounds))
        reached = is_reached(position, angle, orientation)
        missing = np.flatnonzero(~reached)
        if len(missing) == 0:
            break
        if kind == "start":
            starts = best[missing]
        elif kind == "neutral":
            starts = np.broadcast_to(problem.neutral, (len(missing), len(problem.names))).copy()
        elif kind == "random":
            starts = random.uniform(low, high, (len(missing), len(problem.names)))
        else:
            solved = np.flatnonzero(reached)
            if len(solved) == 0:
                continue
            right = np.clip(np.searchsorted(solved, missing), 0, len(solved) - 1)
            left = np.clip(right - 1, 0, len(solved) - 1)
            nearer = np.abs(solved[left] - missing) < np.abs(solved[right] - missing)
            starts = best[np.where(nearer, solved[left], solved[right])]
        improve(missing, starts)
    progress(1.0)
    return Reached(position, angle, best)


def _badness(position_m: Array, angle_rad: Array, orientation: bool) -> Array:
    """How far the worst site of a frame is from its tolerance; at most 1 is reached."""
    worst: Array = position_m.max(axis=-1) / POSITION_TOLERANCE_M
    if orientation:
        worst = np.maximum(worst, angle_rad.max(axis=-1) / ORIENTATION_TOLERANCE_RAD)
    return worst
