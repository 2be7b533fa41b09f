"""What the recorder counted per topic: the `streams` metadata of an episode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from episodes.errors import EpisodeError


@dataclass(frozen=True)
class StreamCounts:
    """What the recorder says about a topic (its `streams` metadata), all publishers together.

    None where it says nothing. `repeated` are latched messages written again at the start of the
    file; with `tail_known` False a loss of the very last messages could not show yet. `not_joined` are
    the messages that a publisher (node, else gid) sent inside the episode before the recorder had found
    it. `expected_hz` is the rate the stream should have; None with `rate_known`: it has no fixed one.
    """

    published: int | None = None
    received: int | None = None
    written: int | None = None
    repeated: int = 0
    lost: int | None = None
    publishers: int = 0
    not_joined: Mapping[str, int] = field(default_factory=dict)
    tail_known: bool = True
    expected_hz: float | None = None
    rate_known: bool = False


def counts_by_topic(path: Path, metadata: Mapping[str, str]) -> dict[str, StreamCounts]:
    """Counts by topic from the `streams` metadata: JSON per topic, or per topic and publisher (gid)."""
    publishers: dict[str, list[dict[str, Any]]] = {}
    for key, text in metadata.items():
        try:
            values = json.loads(text)
        except ValueError as error:
            raise EpisodeError(path, f"metadata 'streams' of {key!r} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise EpisodeError(path, f"metadata 'streams' of {key!r} is {text!r}, a JSON object expected")
        publishers.setdefault(str(values.get("topic", key.split(" ", 1)[0])), []).append(values)

    def total(rows: list[dict[str, Any]], key: str) -> int | None:
        numbers = [row[key] for row in rows if isinstance(row.get(key), int)]
        # One publisher that is not counted makes the sum unknown.
        return sum(numbers) if len(numbers) == len(rows) else None

    result = {}
    # Of a camera whose encoding changed, the topics its other forms were written to.
    for rows in publishers.values():
        for row in rows:
            for topic, written in (row.get("written_as") or {}).items():
                result[topic] = StreamCounts(written=written, rate_known=True)
    for topic, given in publishers.items():
        # In the topic of the row there are only those of its form.
        rows = [
            {**row, "written": (row.get("written_as") or {}).get(topic, row.get("written"))} for row in given
        ]
        rates = [row["expected_hz"] for row in rows if "expected_hz" in row]
        not_joined: dict[str, int] = {}
        for row in rows:
            if isinstance(row.get("not_joined"), int) and row["not_joined"] > 0:
                publisher = str(row.get("node") or row.get("gid"))
                not_joined[publisher] = not_joined.get(publisher, 0) + row["not_joined"]
        result[topic] = StreamCounts(
            published=total(rows, "published"),
            received=total(rows, "received"),
            written=total(rows, "written"),
            repeated=total(rows, "repeated") or 0,
            lost=total(rows, "lost"),
            publishers=len(rows),
            tail_known=all(bool(row.get("tail_known", True)) for row in rows),
            not_joined=not_joined,
            # Of several publishers one without a fixed rate leaves the topic without one.
            expected_hz=float(rates[0]) if rates and all(map(_is_rate, rates)) else None,
            rate_known=bool(rates),
        )
    return result


def opening_rates(opening: Mapping[str, str]) -> dict[str, StreamCounts]:
    """The expected rates that the recorder knew when it opened the file: all that a cut one has of them."""
    try:
        rates = json.loads(opening.get("expected_hz", "{}"))
    except ValueError:
        return {}
    if not isinstance(rates, dict):
        return {}
    return {
        topic: StreamCounts(expected_hz=float(rate) if _is_rate(rate) else None, rate_known=True)
        for topic, rate in rates.items()
    }


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0.0 < value < float("inf")
