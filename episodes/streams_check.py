"""Did every stream arrive whole, at its rate, in order, in one clock?

Per stream with an expected rate: rate (header stamps, first to last) within 2 %, 99 % of intervals
under twice the period, from when the start was asked for to when the stop was (what an episode holds before
and after may be of another state), and stamps strictly increasing from its first message to its last. Every
stream with headers: stamps within 0.5 s of the publish and log times (one clock). Every stream: nothing
lost by the recorder's counts, no gap in the sequence numbers, as many messages as were written; with an
expected rate also: none published inside the episode before the recorder had found the publisher. A
simulated robot kept up with real time. Latency is read off `command_cause`, the command's tick minus the
stamp of the motion frame it follows: motion to command is that of the first command after each frame; later
ones only wait for the next frame and tell how old the newest motion is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.message_types import TIME_REFERENCE
from episodes.result import CheckResult, listed
from episodes.stream import Stream

Array = NDArray[np.float64]

NAME = "streams"

# Rates (Hz) where the recorder's metadata names none; topics without their robot, `*` is any name.
DEFAULT_RATES_HZ: Mapping[str, float] = {
    "/trainer/motion": 90.0,
    "/trainer/buttons": 90.0,
    "/trainer/head": 90.0,
    "/trainer/left_wrist": 90.0,
    "/trainer/right_wrist": 90.0,
    "/*/joint_states": 200.0,
    "/*/joint_commands": 200.0,
    "/*/command_cause": 200.0,
    "/*/target/*": 200.0,
    "/*/wrench/*": 200.0,
    "/*/tactile/*": 100.0,
    "/*/camera/*/image": 30.0,
    "/*/camera/*/image/compressed": 30.0,
    "/*/camera/*/image/foxglove": 30.0,
    "/*/camera/*/camera_info": 30.0,
    "/*/object/*/pose": 100.0,
    "/tf": 50.0,
}


@dataclass(frozen=True)
class StreamBounds:
    """The bounds of the verdict.

    `edge_s`: a stream may begin and end this much inside the episode. `real_time_factor`: simulated over
    real time, at its lowest.
    """

    rate_share: float = 0.02
    intervals_share: float = 0.99
    clock_s: float = 0.5
    edge_s: float = 0.25
    matched_causes_share: float = 0.99
    real_time_factor: float = 0.99


def expected_rate_hz(stream: Stream, rates: Mapping[str, float] | None = None) -> float | None:
    """The rate a stream should have: given, else by the metadata, else by its topic; None: no fixed rate."""
    for pattern, rate in (rates or {}).items():
        if fnmatchcase(stream.topic, pattern):
            return rate
    if stream.counts.rate_known:
        return stream.counts.expected_hz
    return next(
        (rate for pattern, rate in DEFAULT_RATES_HZ.items() if fnmatchcase(stream.topic, pattern)), None
    )


def stream_figures(bag: Bag, stream: Stream, expected_hz: float | None) -> dict[str, Any]:
    """The numbers of one stream; keys as in `docs/episodes.md`."""
    begin_ns, end_ns = bag.repetition_ns
    times = stream.times_ns
    inside = times[bag.in_repetition(times)]
    steps = np.diff(inside).astype(np.float64) * 1e-9
    figures: dict[str, Any] = {
        "type": stream.type,
        "count": stream.count,
        "expected_hz": expected_hz,
        "rate_hz": _rate_hz(inside),
        "published": stream.counts.published,
        "lost": stream.counts.lost,
        "not_joined": sum(stream.counts.not_joined.values()) if stream.counts.publishers else None,
        "tail_known": stream.counts.tail_known if stream.counts.publishers else None,
        "sequence_gaps": _sequence_gaps(stream),
        "not_increasing": int(np.count_nonzero(np.diff(times) <= 0)),
        "longest_interval_s": float(steps.max()) if len(steps) else None,
        "under_two_periods": None,
        "clock_offset_s": None,
        "begins_s": float(times[0] - bag.start_ns) * 1e-9 if len(times) else None,
        "ends_s": float(times[-1] - bag.start_ns) * 1e-9 if len(times) else None,
        "begins_late_s": float(times[0] - begin_ns) * 1e-9 if len(times) else None,
        "ends_early_s": float(end_ns - times[-1]) * 1e-9 if len(times) else None,
    }
    if expected_hz is not None and len(steps):
        figures["under_two_periods"] = float(np.mean(steps < 2.0 / expected_hz))
    if stream.stamp_ns is not None and stream.count:
        offsets = [np.abs(stream.stamp_ns - other).max() for other in (stream.publish_ns, stream.log_ns)]
        figures["clock_offset_s"] = float(max(offsets)) * 1e-9
    return figures


def _rate_hz(times_ns: NDArray[np.int64]) -> float | None:
    """Messages per second from the first to the last; None where there is no telling."""
    length_ns = int(times_ns[-1] - times_ns[0]) if len(times_ns) else 0
    return (len(times_ns) - 1) / (length_ns * 1e-9) if length_ns > 0 else None


def _sequence_gaps(stream: Stream) -> int | None:
    """Numbers missing between the first and the last; None where nothing numbered the messages."""
    if stream.count < 2 or stream.counts.publishers > 1 or not stream.sequence.any():
        return None
    steps = np.diff(stream.sequence)
    if np.any(steps <= 0):
        return None
    return int(np.sum(steps - 1))


def _stream_problems(bag: Bag, topic: str, f: Mapping[str, Any], bounds: StreamBounds) -> list[str]:
    problems = []
    expected = f["expected_hz"]
    if expected is not None:
        rate = f["rate_hz"]
        if f["count"] < 2:
            problems.append(f"{f['count']} messages, {expected:g} Hz expected")
        elif rate is None or abs(rate - expected) > bounds.rate_share * expected:
            shown = "no" if rate is None else f"{rate:.2f} Hz"
            problems.append(f"{shown} rate, {expected:g} Hz ± {100 * bounds.rate_share:g} % expected")
        if f["under_two_periods"] is not None and f["under_two_periods"] < bounds.intervals_share:
            problems.append(
                f"only {100 * f['under_two_periods']:.2f} % of intervals under two periods "
                f"(longest {1000 * f['longest_interval_s']:.1f} ms)"
            )
        if f["not_increasing"]:
            problems.append(f"{f['not_increasing']} stamps do not come after the one before")
        edge = bounds.edge_s + 2.0 / expected
        if f["begins_late_s"] is not None and f["begins_late_s"] > edge:
            problems.append(f"begins {f['begins_late_s']:.2f} s after the episode, at most {edge:.2f} s")
        if f["ends_early_s"] is not None and f["ends_early_s"] > edge:
            problems.append(f"ends {f['ends_early_s']:.2f} s before the episode, at most {edge:.2f} s")
    if f["clock_offset_s"] is not None and f["clock_offset_s"] > bounds.clock_s:
        problems.append(
            f"stamps up to {f['clock_offset_s']:.3f} s from the publish and log times, "
            f"at most {bounds.clock_s:g} s: another clock"
        )
    if f["lost"]:
        problems.append(f"{f['lost']} of {f['published']} messages lost")
    if f["sequence_gaps"]:
        problems.append(f"{f['sequence_gaps']} sequence numbers missing")
    return problems


def real_time_factor(bag: Bag) -> float | None:
    """The lowest that a simulated robot reported during the episode; None where the file has none."""
    try:
        value = float(str(bag.episode.get("real_time_factor", "")))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def latency_figures(bag: Bag) -> dict[str, Any]:
    """Latency (s) from `command_cause`, and how many commands have their cause recorded.

    `motion_to_command` counts each frame once, but the file's first: its first command may be from before.
    """
    causes = bag.causes(bag.topic("command_cause"))
    commands = bag.stream(bag.topic("joint_commands"))
    stamps = commands.stamp_ns if commands.stamp_ns is not None else np.empty(0, dtype=np.int64)
    stamps = stamps[bag.in_repetition(stamps)]
    matched = np.isin(stamps, causes.stamp_ns)
    known = causes.cause_ns > 0
    order = np.argsort(causes.stamp_ns[known], kind="stable")
    cause_ns = causes.cause_ns[known][order]
    age_s = (causes.stamp_ns[known][order] - cause_ns).astype(np.float64) * 1e-9
    _, first = np.unique(cause_ns, return_index=True)
    first = first[first > 0]
    newest = _spread(age_s)
    return {
        "causes": len(causes.stamp_ns),
        "without_cause": int(np.count_nonzero(~known)),
        "negative": int(np.count_nonzero(age_s < 0.0)),
        "commands_with_cause": float(np.mean(matched)) if len(matched) else None,
        "motion_to_command": {"frames": len(first), **_spread(age_s[first])},
        "newest_motion_age": {"commands": len(age_s), **newest},
        **newest,
    }


def _spread(samples_s: Array) -> dict[str, float | None]:
    if not len(samples_s):
        return {"p50_s": None, "p99_s": None, "max_s": None}
    p50, p99 = (float(value) for value in np.percentile(samples_s, [50, 99]))
    return {"p50_s": p50, "p99_s": p99, "max_s": float(samples_s.max())}


def check_streams(
    bag: Bag, rates: Mapping[str, float] | None = None, bounds: StreamBounds | None = None
) -> CheckResult:
    """The stream check of an episode; `rates` (topic patterns to Hz) come before the metadata's."""
    bounds = StreamBounds() if bounds is None else bounds
    problems: list[str] = []
    notes: list[str] = []
    streams: dict[str, Any] = {}
    uncounted, open_tails = [], []
    for topic, stream in bag.streams.items():
        figures = stream_figures(bag, stream, expected_rate_hz(stream, rates))
        streams[topic] = figures
        problems += [f"{topic}: {problem}" for problem in _stream_problems(bag, topic, figures, bounds)]
        counts = stream.counts
        if figures["expected_hz"] is not None:
            problems += [
                f"{topic}: {count} messages that {publisher} published inside the episode are not in it: "
                "the recorder had not found the publisher yet"
                for publisher, count in counts.not_joined.items()
            ]
        if stream.malformed:
            problems.append(f"{topic}: holds messages that are no {stream.type}")
        if counts.written is not None and counts.written + counts.repeated != stream.count:
            problems.append(
                f"{topic}: holds {stream.count} messages, "
                f"the recorder wrote {counts.written + counts.repeated}"
            )
        if figures["expected_hz"] is not None and topic not in ("/tf", "/tf_static"):
            if counts.lost is None:
                uncounted.append(topic)
            elif not counts.tail_known:
                open_tails.append(topic)
    for topic, counts in bag.silent.items():
        if counts.expected_hz is not None:
            missing = f", {counts.lost} of {counts.published} lost" if counts.lost else ""
            problems.append(
                f"{topic}: silent: no message within the episode, {counts.expected_hz:g} Hz expected{missing}"
            )
    if uncounted and bag.is_episode:
        problems.append(f"no loss count for {listed(uncounted)}")
    elif uncounted:
        notes.append("no loss counts: not recorded by this package")
    if open_tails:
        notes.append(f"last messages not yet accounted for (see the recorder's report): {listed(open_tails)}")
    if bag.episode.get("simulated") == "true" and real_time_factor(bag) is None:
        notes.append("simulated, and no real-time factor was reported during the episode")
    lost = [stream.counts.lost for stream in bag.streams.values() if stream.counts.lost is not None]
    factor = real_time_factor(bag)
    if factor is not None and factor < bounds.real_time_factor:
        problems.append(
            f"the simulated robot fell behind: real-time factor {factor:.4f} at its lowest, "
            f"at least {bounds.real_time_factor:g}; motion and contact are slower than they were stamped"
        )
    problems += [
        f"the station's clock was set {by_s:+.3f} s: stamps before and after do not compare"
        for by_s in bag.clock_moves_s
    ]
    all_figures: dict[str, Any] = {
        "lost": sum(lost) if lost else None,
        "real_time_factor": factor,
        "streams": streams,
        "latency": None,
    }
    try:
        topic = bag.topic("command_cause")
        bag.stream(topic, TIME_REFERENCE)
        latency = latency_figures(bag)
    except EpisodeError as error:
        problems.append(f"latency cannot be read: {error.message}")
    else:
        all_figures["latency"] = latency
        if latency["p50_s"] is None:
            problems.append(f"{topic}: no command names its cause")
        if latency["negative"]:
            problems.append(f"{topic}: {latency['negative']} commands before their cause")
        share = latency["commands_with_cause"]
        if share is not None and share < bounds.matched_causes_share:
            problems.append(f"{topic}: only {100 * share:.1f} % of commands have their cause recorded")
    return CheckResult(NAME, tuple(problems), all_figures, tuple(notes))
