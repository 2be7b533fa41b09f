"""All checks of an episode in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from episodes import frames_check, grasp_check, limits_check, streams_check, tracking_check
from episodes.bag import Bag, read_bag
from episodes.errors import EpisodeError
from episodes.frames_check import FrameBounds
from episodes.progress import Progress, no_progress
from episodes.result import CheckResult
from episodes.tracking_check import TrackingOptions

SCHEMA_VERSION = 1
CHECKS = (
    streams_check.NAME,
    limits_check.NAME,
    frames_check.NAME,
    tracking_check.NAME,
    grasp_check.NAME,
)


@dataclass(frozen=True)
class CheckOptions:
    """Which checks to run and what they need to know beyond the file.

    `rates_hz` maps topic patterns to expected rates, `goal_m` is where the object belongs at the end.
    """

    checks: Sequence[str] = CHECKS
    rates_hz: Mapping[str, float] = field(default_factory=dict)
    goal_m: tuple[float, float, float] | None = None
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    frames: FrameBounds = field(default_factory=FrameBounds)
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.checks if name not in CHECKS]
        if unknown:
            raise EpisodeError(None, f"unknown check {', '.join(unknown)}; there are {', '.join(CHECKS)}")


@dataclass(frozen=True)
class EpisodeReport:
    """The file and what every check says about it."""

    bag: Bag
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    def result(self, name: str) -> CheckResult | None:
        return next((result for result in self.results if result.name == name), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "file": str(self.bag.path),
            "passed": self.passed,
            "incomplete": self.bag.incomplete,
            "checks": [result.as_json() for result in self.results],
        }


def check_bag(
    bag: Bag, options: CheckOptions | None = None, progress: Progress = no_progress
) -> EpisodeReport:
    """Run the checks on a bag; one that cannot be made for lack of data has failed and says why."""
    options = CheckOptions() if options is None else options
    runs: Mapping[str, Callable[[], CheckResult]] = {
        streams_check.NAME: lambda: streams_check.check_streams(bag, options.rates_hz),
        limits_check.NAME: lambda: limits_check.check_limits(bag, options.rates_hz),
        frames_check.NAME: lambda: frames_check.check_frames(bag, options.frames),
        tracking_check.NAME: lambda: tracking_check.check_tracking(bag, options.tracking, progress=progress),
        grasp_check.NAME: lambda: grasp_check.check_grasp(bag, options.goal_m),
    }
    results = []
    for name in options.checks:
        try:
            results.append(runs[name]())
        except EpisodeError as error:
            results.append(CheckResult(name, (f"cannot be checked: {error.message}",)))
    return EpisodeReport(bag, tuple(results))


def check_episode(
    path: Path | str, options: CheckOptions | None = None, progress: Progress = no_progress
) -> EpisodeReport:
    """Read an episode file and check it. Raises `EpisodeError` where the file cannot be read."""
    options = CheckOptions() if options is None else options
    bag = read_bag(
        path, allow_incomplete=options.allow_incomplete, progress=lambda share: progress(0.3 * share)
    )
    return check_bag(bag, options, lambda share: progress(0.3 + 0.7 * share))


def report_text(report: EpisodeReport) -> str:
    """A report for a terminal: one line per check, problems and notes below it."""
    lines = [str(report.bag.path)]
    if report.bag.incomplete:
        lines.append(f"  INCOMPLETE: {report.bag.incomplete}")
    width = max(map(len, CHECKS))
    for result in report.results:
        summary = result.skipped or summary_text(result)
        lines.append(f"  {result.verdict.upper():<7}  {result.name:<{width}}  {summary}".rstrip())
        lines += [f"             ✗ {problem}" for problem in result.problems]
        lines += [f"             · {note}" for note in result.notes]
    return "\n".join(lines)


def summary_text(result: CheckResult) -> str:
    """The figures of a check that matter most, in one line."""
    f = result.figures
    if not f:
        return ""
    if result.name == limits_check.NAME:
        worst = [f"{kind} {f[kind]['worst_ratio']:.3f}" for kind in ("velocity", "acceleration")
                 if f[kind]["worst_ratio"] is not None]  # fmt: skip
        shares = f"worst share of limit: {', '.join(worst)}"
        return f"{f['violations']} violations in {f['commands']} commands; {shares}"
    if result.name == streams_check.NAME:
        rated = [s for s in f["streams"].values() if s["expected_hz"] is not None]
        lost = "unknown" if f["lost"] is None else f["lost"]
        text = f"{len(f['streams'])} streams, {len(rated)} with a rate; lost {lost}"
        latency = f["latency"] or {}
        for words, key in (
            ("motion to command", "motion_to_command"),
            ("newest motion", "newest_motion_age"),
        ):
            part = latency.get(key, {})
            if part.get("p50_s") is not None:
                text += f"; {words} p50 {1000 * part['p50_s']:.1f} ms, p99 {1000 * part['p99_s']:.1f} ms"
        return text
    if result.name == frames_check.NAME:
        return f"{len(f['frames'])} frames at {f['times']} times, root {', '.join(f['roots']) or 'none'}"
    if result.name == tracking_check.NAME:
        return _tracking_text(f)
    main = f["objects"][f["object"]]
    text = f"{f['object']} lifted {100 * main['lift_m']:.1f} cm"
    if main["goal_distance_m"] is not None:
        text += f", set down {100 * main['goal_distance_m']:.1f} cm from its goal"
    hand = f["hand"]
    if hand is not None:
        text += (
            f"; grip {hand['median_contact_n']:.1f} N, load {hand['median_load_n']:.1f} N, "
            f"correlation {hand['correlation']:.2f}"
        )
    return text


def wrist_p95(figures: Mapping[str, Any], key: str, kind: str | None = None) -> float | None:
    """The worse wrist's 95th percentile (`commanded_m`, `measured_deg` …) on the frames of the verdict."""
    chosen = figures.get(f"reachable_{kind or figures.get('verdict_on')}", {})
    values = [
        chosen[name][key]["p95"]
        for name in tracking_check.WRISTS
        if name in chosen and chosen[name][key]["p95"] is not None
    ]
    return max(values, default=None)


def _tracking_text(f: Mapping[str, Any]) -> str:
    chosen = f.get(f"reachable_{f['verdict_on']}")
    if chosen is None:
        return f"{f['frames']} frames"
    parts = [f"{100 * chosen['coverage']:.1f} % of {f['frames']} frames reachable ({f['verdict_on']})"]
    for what in ("commanded", "measured"):
        metres, degrees = wrist_p95(f, f"{what}_m"), wrist_p95(f, f"{what}_deg")
        if metres is not None and degrees is not None:
            parts.append(f"{what} p95 {1000 * metres:.1f} mm {degrees:.2f}°")
    return "; ".join(parts)
