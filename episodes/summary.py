"""The table over several episodes: length, messages, rates, losses, tracking, limits, size, path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from episodes import grasp_check, limits_check, streams_check, tracking_check
from episodes.check import EpisodeReport, wrist_p95
from episodes.text_table import bytes_text, number_text, text_table

SCHEMA_VERSION = 1
# Beyond this many episodes the streams table shows ranges instead of a column each.
EPISODE_COLUMNS = 4
# A reason may be a whole report; the table shows its beginning, `episodes info` all of it.
REASON_LENGTH = 60


def summary(report: EpisodeReport) -> dict[str, Any]:
    """One episode's row as JSON types; the keys are documented in `docs/episodes.md`."""
    bag = report.bag
    streams = report.result(streams_check.NAME)
    limits = report.result(limits_check.NAME)
    tracking = report.result(tracking_check.NAME)
    grasp = report.result(grasp_check.NAME)
    track = {} if tracking is None else tracking.figures
    chosen = track.get(f"reachable_{track.get('verdict_on')}", {})
    return {
        "schema_version": SCHEMA_VERSION,
        "episode": str(bag.episode.get("id", bag.path.stem)),
        "path": str(bag.path),
        "size_bytes": bag.size_bytes,
        "length_s": bag.length_s,
        "passed": report.passed,
        "messages": sum(stream.count for stream in bag.streams.values()),
        "lost": None if streams is None else streams.figures.get("lost"),
        "streams": {
            topic: {
                "count": stream.count,
                "rate_hz": stream.rate_hz,
                "expected_hz": streams_check.expected_rate_hz(stream),
                "lost": stream.counts.lost,
            }
            for topic, stream in bag.streams.items()
        },
        "limit_violations": None if limits is None else limits.figures.get("violations"),
        "wrist_coverage": chosen.get("coverage"),
        "wrist_commanded_p95_m": wrist_p95(track, "commanded_m"),
        "wrist_commanded_p95_deg": wrist_p95(track, "commanded_deg"),
        "wrist_measured_p95_m": wrist_p95(track, "measured_m"),
        "wrist_measured_p95_deg": wrist_p95(track, "measured_deg"),
        "object": None
        if grasp is None
        else grasp.figures.get("objects", {}).get(grasp.figures.get("object")),
        "verdict": str(bag.episode.get("verdict", "")),
        "reason": str(bag.episode.get("reason", "")),
        "failed_checks": [result.name for result in report.results if not result.passed],
    }


def summary_text(rows: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal: episodes, then their streams, then their files."""
    header = [
        "#", "EPISODE", "LENGTH", "MESSAGES", "RATES", "LOST", "WRIST ERROR p95", "MEASURED p95", "REACHABLE",
        "LIMITS", "LIFT", "GOAL", "SIZE", "CHECKS",
    ]  # fmt: skip
    table = [_row(number, row) for number, row in enumerate(rows, 1)]
    lines = [text_table(header, table, right=[0, *range(2, 13)]), "", streams_text(rows), ""]
    lines += [f"{number:>{len(str(len(rows)))}}  {row['path']}" for number, row in enumerate(rows, 1)]
    return "\n".join(lines)


def _row(number: int, row: dict[str, Any]) -> list[str]:
    moved = row["object"] or {}
    coverage = row["wrist_coverage"]
    return [
        str(number),
        _short(row["episode"]),
        f"{row['length_s']:.1f} s",
        str(row["messages"]),
        _rates(row),
        "-" if row["lost"] is None else str(row["lost"]),
        _error(row["wrist_commanded_p95_m"], row["wrist_commanded_p95_deg"]),
        _error(row["wrist_measured_p95_m"], row["wrist_measured_p95_deg"]),
        "-" if coverage is None else f"{100 * coverage:.0f} %",
        "-" if row["limit_violations"] is None else str(row["limit_violations"]),
        number_text(_scaled(moved.get("lift_m"), 100.0), 1, " cm"),
        number_text(_scaled(moved.get("goal_distance_m"), 100.0), 1, " cm"),
        bytes_text(row["size_bytes"]),
        _judgement(row),
    ]


def _judgement(row: dict[str, Any]) -> str:
    """What the checks say, and what the session or the trainer said: ``passed; failure: the robot held``."""
    failed = row["failed_checks"]
    text = "failed: " + ", ".join(failed) if failed else "passed"
    reason = " ".join(row["reason"].split())
    if len(reason) > REASON_LENGTH:
        reason = reason[: REASON_LENGTH - 1] + "…"
    said = ": ".join(word for word in (row["verdict"], reason) if word)
    return f"{text}; {said}" if said else text


def _short(name: str) -> str:
    """Ids are long and alike at their begin (a time): their end tells them apart."""
    return name if len(name) <= 13 else "…" + name[-12:]


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _error(metres: float | None, degrees: float | None) -> str:
    return "-" if metres is None or degrees is None else f"{1000 * metres:.1f} mm {degrees:.1f}°"


def _rates(row: dict[str, Any]) -> str:
    """How many of the streams with a rate keep it within 2 %."""
    rated = [stream for stream in row["streams"].values() if stream["expected_hz"] is not None]
    kept = [
        stream
        for stream in rated
        if stream["rate_hz"] is not None and abs(stream["rate_hz"] / stream["expected_hz"] - 1.0) <= 0.02
    ]
    return f"{len(kept)}/{len(rated)}"


def streams_text(rows: Sequence[dict[str, Any]]) -> str:
    """Messages, rate and losses of every stream with a rate, a column per episode (or their range)."""
    topics = sorted(
        {topic for row in rows for topic, s in row["streams"].items() if s["expected_hz"] is not None}
    )
    if not topics:
        return "no stream with a known rate"
    each = len(rows) <= EPISODE_COLUMNS
    header = ["STREAM", "EXPECTED"]
    header += [f"#{number}" for number in range(1, len(rows) + 1)] if each else ["MESSAGES", "RATE"]
    header.append("LOST")
    table = []
    for topic in topics:
        found = [row["streams"].get(topic) for row in rows]
        there = [stream for stream in found if stream is not None]
        cells = [topic, f"{there[0]['expected_hz']:g} Hz"]
        if each:
            cells += [
                "-" if s is None else f"{s['count']} @ {number_text(s['rate_hz'], 1)} Hz" for s in found
            ]
        else:
            counts = [stream["count"] for stream in there]
            rates = [stream["rate_hz"] for stream in there if stream["rate_hz"] is not None]
            cells.append(f"{min(counts)} … {max(counts)}")
            cells.append(f"{min(rates):.1f} … {max(rates):.1f} Hz" if rates else "-")
        lost = [stream["lost"] for stream in there]
        known = [value for value in lost if value is not None]
        cells.append(str(sum(known)) if known else "-")
        table.append(cells)
    return text_table(header, table, right=range(1, len(header)))
