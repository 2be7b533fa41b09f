"""How well do the commanded (and the measured) wrists follow their recorded targets?

Commanded: forward kinematics of `joint_commands` against `target/<site>` at the same stamp. Measured: the
same of `joint_states`, interpolated to that stamp. The verdict is on the wrists, at the frames whose
targets can be reached at all (`episodes.reachability`): both wrists at once, by position limits only.

``pose``      reachable within 5 mm and 1 degree (the targets are poses; the verdict)
``position``  reachable within 5 mm, orientation free (figures beside it)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.attached_model import AttachedModel, attached_model
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.kinematics import Placement, Site, rotation_angle, rotation_from_quaternion
from episodes.message_types import POSE_STAMPED
from episodes.progress import Progress, no_progress
from episodes.reachability import (
    ORIENTATION_TOLERANCE_RAD,
    POSITION_TOLERANCE_M,
    Reach,
    Reached,
    ReachProblem,
    is_reached,
    reach,
)
from episodes.result import CheckResult
from episodes.samples import JointSamples, PoseSamples

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

NAME = "tracking"
WRISTS = ("left_wrist", "right_wrist")


@dataclass(frozen=True)
class TrackingOptions:
    """`frame_step` looks at every n-th frame only; the other values are the bounds of the verdict."""

    position_p95_m: float = 0.025
    orientation_p95_deg: float = 6.0
    coverage: float = 0.6
    reachable: str = "pose"
    frame_step: int = 1

    def __post_init__(self) -> None:
        if self.reachable not in ("pose", "position"):
            raise EpisodeError(None, f"reachable is {self.reachable!r}; pose or position expected")
        if self.frame_step < 1:
            raise EpisodeError(None, f"frame step is {self.frame_step}; 1 or more expected")


@dataclass(frozen=True)
class SiteErrors:
    """Errors of one site at the compared frames ``(n,)``, m and rad; measured: NaN outside joint_states."""

    commanded_m: Array
    commanded_rad: Array
    measured_m: Array
    measured_rad: Array


@dataclass(frozen=True)
class Tracking:
    """What was compared: `stamp_ns` ``(n,)``, errors by site, and which targets could be reached."""

    stamp_ns: IntArray
    sites: Mapping[str, SiteErrors]
    unmatched: int


def _interpolated(samples: JointSamples, names: tuple[str, ...], stamps: IntArray) -> Array:
    """Joint positions ``(n, names)`` at stamps, NaN where the samples do not bracket them."""
    columns = {name: k for k, name in enumerate(samples.names)}
    at = stamps.astype(np.float64) - float(samples.stamp_ns[0])
    base = samples.stamp_ns.astype(np.float64) - float(samples.stamp_ns[0])
    result = np.full((len(stamps), len(names)), np.nan)
    for j, name in enumerate(names):
        if name not in columns:
            raise EpisodeError(None, f"joint_states lack the commanded joint {name!r}")
        result[:, j] = np.interp(at, base, samples.position[:, columns[name]], left=np.nan, right=np.nan)
    return result


def _placed(
    model: AttachedModel, frame: str, target: PoseSamples, names: tuple[str, ...], q: Array
) -> Placement:
    """Targets in the root link."""
    rotation, position = rotation_from_quaternion(target.pose[:, 3:]), target.pose[:, :3]
    link = frame.rsplit("/", 1)[-1]
    if link == model.tree.root:
        return Placement(rotation, position)
    if link not in model.tree.links:
        raise EpisodeError(None, f"target is given in frame {frame!r}, which is no link of robot.urdf")
    at = model.tree.place([link], names, q)[link]
    return Placement(at.rotation @ rotation, at.position + np.einsum("nij,nj->ni", at.rotation, position))


def _errors(target: Placement, at: Placement) -> tuple[Array, Array]:
    turn = target.rotation @ np.swapaxes(at.rotation, -1, -2)
    return np.linalg.norm(target.position - at.position, axis=-1), rotation_angle(turn)


@dataclass(frozen=True)
class _Matched:
    names: tuple[str, ...]
    stamp_ns: IntArray
    q: Array
    measured: Array
    targets: Mapping[str, Placement]
    sites: Mapping[str, Site]
    unmatched: int


def _match(bag: Bag, model: AttachedModel, step: int) -> _Matched:
    commands = bag.joints(bag.topic("joint_commands"))
    topics = bag.robot_topics("target", POSE_STAMPED)
    topics = {name: topic for name, topic in topics.items() if bag.streams[topic].count}
    if not topics:
        raise EpisodeError(bag.path, f"has no target under {bag.topic('target')}/")
    missing = sorted(set(topics) - set(model.sites))
    if missing:
        raise EpisodeError(bag.path, f"robot.yaml has no site {', '.join(missing)} for its recorded target")
    targets = {name: bag.poses(topic) for name, topic in topics.items()}
    stamps = commands.stamp_ns
    for samples in targets.values():
        stamps = np.intersect1d(stamps, samples.stamp_ns)
    # Before and after the repetition the robot may be on its way to the trainer, or hold. At its edges a
    # recording may have one of two messages of the same tick; inside, never.
    stamps = stamps[bag.in_repetition(stamps)]
    every = [commands.stamp_ns, *(samples.stamp_ns for samples in targets.values())]
    every = [of[bag.in_repetition(of)] for of in every]
    begin, end = max(int(s.min()) for s in every if len(s)), min(int(s.max()) for s in every if len(s))
    inside = [np.count_nonzero((s >= begin) & (s <= end)) for s in every]
    unmatched = max(0, max(int(count) for count in inside) - len(stamps))
    stamps = stamps[::step]

    def rows(of: IntArray) -> NDArray[np.intp]:
        _, _, index = np.intersect1d(stamps, of, return_indices=True)
        return np.asarray(index, dtype=np.intp)

    q = commands.position[rows(commands.stamp_ns)]
    states = bag.joints(bag.topic("joint_states"))
    measured = (
        _interpolated(states, commands.names, stamps) if len(states.stamp_ns) else np.full_like(q, np.nan)
    )
    placed = {}
    for name, samples in targets.items():
        chosen = PoseSamples(samples.frame_id, stamps, samples.pose[rows(samples.stamp_ns)])
        placed[name] = _placed(model, samples.frame_id, chosen, commands.names, q)
    return _Matched(
        commands.names, stamps, q, measured, placed, {name: model.sites[name] for name in topics}, unmatched
    )


def _measure(model: AttachedModel, matched: _Matched) -> Tracking:
    """Errors of every site that has a target, without the question of reachability."""
    commanded = model.tree.place_sites(matched.sites, matched.names, matched.q)
    measured = model.tree.place_sites(matched.sites, matched.names, matched.measured)
    sites = {
        name: SiteErrors(*_errors(target, commanded[name]), *_errors(target, measured[name]))
        for name, target in matched.targets.items()
    }
    return Tracking(matched.stamp_ns, sites, matched.unmatched)


def _problem(model: AttachedModel, matched: _Matched) -> ReachProblem:
    """The question which of the recorded wrist targets can be reached, starting from the commands."""
    sites = {name: site for name, site in matched.sites.items() if name in WRISTS}
    names = model.joints_moving([site.link for site in sites.values()], matched.names)
    limits = model.limits(names)
    columns = [matched.names.index(name) for name in names]
    neutral = np.array([model.posture.get(name, 0.0) for name in names])
    return ReachProblem(
        tree=model.tree,
        sites=sites,
        targets={name: matched.targets[name] for name in sites},
        names=names,
        lower=limits.lower,
        upper=limits.upper,
        start=matched.q[:, columns],
        neutral=np.clip(neutral, limits.lower, limits.upper),
    )


def _percentiles(values: Array, scale: float = 1.0) -> dict[str, float | None]:
    finite = values[np.isfinite(values)] * scale
    if len(finite) == 0:
        return {"p50": None, "p95": None, "max": None}
    p50, p95 = np.percentile(finite, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "max": float(finite.max())}


def _site_figures(errors: SiteErrors, frames: NDArray[np.bool_]) -> dict[str, Any]:
    degrees = float(np.degrees(1.0))
    return {
        "commanded_m": _percentiles(errors.commanded_m[frames]),
        "commanded_deg": _percentiles(errors.commanded_rad[frames], degrees),
        "measured_m": _percentiles(errors.measured_m[frames]),
        "measured_deg": _percentiles(errors.measured_rad[frames], degrees),
    }


def check_tracking(
    bag: Bag,
    options: TrackingOptions | None = None,
    solver: Reach = reach,
    progress: Progress = no_progress,
) -> CheckResult:
    """The tracking check of an episode. Raises `EpisodeError` where streams or attachments are unusable."""
    options = TrackingOptions() if options is None else options
    model = attached_model(bag)
    try:
        matched = _match(bag, model, options.frame_step)
        if len(matched.stamp_ns) == 0:
            return CheckResult(NAME, problems=("no target has the stamp of a command",))
        tracking = _measure(model, matched)
    except EpisodeError as error:
        raise error if error.path is not None else EpisodeError(bag.path, error.message) from error
    everything = np.ones(len(matched.stamp_ns), dtype=bool)
    figures: dict[str, Any] = {
        "frames": len(matched.stamp_ns),
        "unmatched_targets": matched.unmatched,
        "frame_step": options.frame_step,
        "reachable_within_m": POSITION_TOLERANCE_M,
        "reachable_within_deg": float(np.degrees(ORIENTATION_TOLERANCE_RAD)),
        "verdict_on": options.reachable,
        "all_frames": {name: _site_figures(errors, everything) for name, errors in tracking.sites.items()},
    }
    problems: list[str] = []
    if matched.unmatched:
        problems.append(f"{matched.unmatched} targets without a command of the same stamp (or the reverse)")
    wrists = [name for name in tracking.sites if name in WRISTS]
    if not wrists:
        return CheckResult(NAME, (*problems, "no wrist has a target"), figures)

    problem = _problem(model, matched)
    by_pose = solver(problem, True, lambda share: progress(0.6 * share))
    by_position = _position_only(problem, by_pose, solver, lambda share: progress(0.6 + 0.4 * share))
    sets = {
        "pose": is_reached(by_pose.position_error_m, by_pose.orientation_error_rad, True),
        "position": by_position,
    }
    for kind, frames in sets.items():
        figures[f"reachable_{kind}"] = {
            "coverage": float(np.mean(frames)),
            "frames": int(np.count_nonzero(frames)),
            **{name: _site_figures(tracking.sites[name], frames) for name in wrists},
        }
    chosen = figures[f"reachable_{options.reachable}"]
    if chosen["coverage"] < options.coverage:
        problems.append(
            f"only {100 * chosen['coverage']:.1f} % of frames have reachable targets ({options.reachable}), "
            f"{100 * options.coverage:.0f} % expected"
        )
    for name in wrists:
        for key, bound, unit, scale in (
            ("commanded_m", options.position_p95_m, "mm", 1000.0),
            ("commanded_deg", options.orientation_p95_deg, "°", 1.0),
        ):
            p95 = chosen[name][key]["p95"]
            if p95 is not None and not p95 <= bound:
                problems.append(
                    f"{name} commanded {scale * p95:.2f} {unit} from its target (p95), "
                    f"at most {scale * bound:g} {unit}"
                )
    return CheckResult(NAME, tuple(problems), figures)


def _position_only(
    problem: ReachProblem, by_pose: Reached, solver: Reach, progress: Progress
) -> NDArray[np.bool_]:
    """Frames reachable with orientation free: those by pose, and what more is found among the others."""
    reached = is_reached(by_pose.position_error_m, by_pose.orientation_error_rad, False)
    missing = np.flatnonzero(~reached)
    if len(missing):
        rest = ReachProblem(
            tree=problem.tree,
            sites=problem.sites,
            targets={
                name: Placement(target.rotation[missing], target.position[missing])
                for name, target in problem.targets.items()
            },
            names=problem.names,
            lower=problem.lower,
            upper=problem.upper,
            start=by_pose.q[missing],
            neutral=problem.neutral,
        )
        found = solver(rest, False, progress)
        reached[missing] = is_reached(found.position_error_m, found.orientation_error_rad, False)
    progress(1.0)
    return reached
