"""What a bag holds, for people and for programs. Works on any MCAP file."""

from __future__ import annotations

from typing import Any

from episodes.bag import Bag
from episodes.streams_check import expected_rate_hz
from episodes.text_table import bytes_text, date_text, number_text, text_table

SCHEMA_VERSION = 1
# The fields shown first, in this order; the others follow by name.
FIELDS = (
    "id", "robot", "skill", "scenario", "source", "operator", "instruction", "verdict", "reason", "simulated",
    "real_time_factor", "recovered",
)  # fmt: skip
# Said otherwise in the text, or too long for it.
_NOT_SHOWN = ("topics", "start_ns", "end_ns", "schema_version", "lost", "versions", "expected_hz")


def info(bag: Bag) -> dict[str, Any]:
    """The contents of a bag as JSON types; the keys are documented in `docs/episodes.md`."""
    total = sum(stream.size_bytes for stream in bag.streams.values())
    streams = []
    for topic, stream in bag.streams.items():
        times = stream.times_ns
        # A latched message may have been published long before the episode.
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        streams.append(
            {
                "topic": topic,
                "type": stream.type,
                "count": stream.count,
                "rate_hz": stream.rate_hz,
                "expected_hz": expected_rate_hz(stream),
                "first_s": None if first is None else (first - bag.start_ns) * 1e-9,
                "last_s": None if last is None else (last - bag.start_ns) * 1e-9,
                "published": stream.counts.published,
                "lost": stream.counts.lost,
                "size_bytes": stream.size_bytes,
                "size_share": stream.size_bytes / total if total else 0.0,
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "file": str(bag.path),
        "size_bytes": bag.size_bytes,
        "profile": bag.profile,
        "is_episode": bag.is_episode,
        "incomplete": bag.incomplete,
        "start_ns": bag.start_ns,
        "end_ns": bag.end_ns,
        "length_s": bag.length_s,
        "messages": sum(stream.count for stream in bag.streams.values()),
        "episode": dict(bag.episode),
        "streams": streams,
        "attachments": [
            {"name": name, "size_bytes": len(content)} for name, content in sorted(bag.attachments.items())
        ],
    }


def info_text(bag: Bag) -> str:
    """The same for a terminal."""
    content = info(bag)
    lines = [
        str(bag.path),
        f"  {bytes_text(bag.size_bytes)}, {content['messages']} messages, {bag.length_s:.2f} s "
        f"from {date_text(bag.start_ns)}",
    ]
    if bag.incomplete:
        lines.append(f"  INCOMPLETE: {bag.incomplete}")
    if not bag.is_episode:
        lines.append("  no episode metadata: not recorded by this package")
    fields = [key for key in FIELDS if key in bag.episode]
    fields += sorted(key for key in bag.episode if key not in FIELDS and key not in _NOT_SHOWN)
    shown = [(key, bag.episode[key]) for key in fields if bag.episode[key] not in ("", {}, [])]
    width = max((len(key) for key, _ in shown), default=0)
    lines += [f"  {key:<{width}}  {_value_text(value)}" for key, value in shown]
    rows = []
    for stream in content["streams"]:
        rate, expected = stream["rate_hz"], stream["expected_hz"]
        periodic = expected is not None or (rate is not None and stream["count"] > 10)
        rows.append(
            [
                stream["topic"],
                stream["type"].replace("/msg/", "/"),
                str(stream["count"]),
                number_text(rate if periodic else None, 1),
                number_text(stream["first_s"], 2),
                number_text(stream["last_s"], 2),
                "-" if stream["lost"] is None else str(stream["lost"]),
                f"{100 * stream['size_share']:.1f} %",
            ]
        )
    header = ["TOPIC", "TYPE", "COUNT", "RATE Hz", "FIRST s", "LAST s", "LOST", "SIZE"]
    lines += ["", text_table(header, rows, right=range(2, 8)) if rows else "no messages"]
    if content["attachments"]:
        held = ", ".join(f"{a['name']} ({bytes_text(a['size_bytes'])})" for a in content["attachments"])
        lines += ["", f"attached: {held}"]
    return "\n".join(lines)


def _value_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value_text(item)}" for key, item in sorted(value.items()))
    if isinstance(value, list):
        return " ".join(_value_text(item) for item in value)
    return str(value)
