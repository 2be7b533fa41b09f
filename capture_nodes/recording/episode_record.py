"""What an episode is called, where its file lies, and what its `episode` metadata record says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from capture_nodes.errors import CaptureError
from capture_nodes.recording.camera_encoding import CameraFigures
from capture_nodes.recording.clock_watch import ClockMove

SCHEMA_VERSION = 1

# Written when a file is opened, so that a cut file still says what it is.
OPENING_RECORD = "episode_opening"
# Written the moment it is said, so that a cut file has that too.
SAID_RECORD = "episode_said"
EPISODE_RECORD = "episode"
STREAMS_RECORD = "streams"
EXPECTED_HZ = "expected_hz"

# What a person or a session may say of an episode when it ends; "" is no verdict.
VERDICTS = ("", "success", "failure")
DISCARDED = "discard"

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")


def new_episode_id(time_ns: int | None = None) -> str:
    """A UUID version 7 (RFC 9562): sorts by time, unique without asking anybody."""
    milliseconds = (time.time_ns() if time_ns is None else time_ns) // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def derived_episode_id(time_ns: int, what: bytes) -> str:
    """The one id of what was made of ``what``: a UUID version 8 (RFC 9562), sorting by time as version 7."""
    milliseconds = time_ns // 1_000_000
    low = int.from_bytes(hashlib.sha256(what).digest()[:10], "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80 | low
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


@dataclass(frozen=True)
class Moment:
    """Something that happened at a time (station clock) of an episode, with details where it has any."""

    time_ns: int
    label: str
    details: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {"time_ns": self.time_ns, "label": self.label, **self.details}


@dataclass(frozen=True)
class EpisodeFields:
    """What the station knows of an episode when it starts. Raises `CaptureError` on an unusable name.

    `instruction`: language (BCP 47) to text. `end_effectors`: site to kind. `action_space`: what the
    commands in the file are. `calibrations`: file name to its SHA-256 and date. `clock`: where stamps come
    from and how far they may be off.
    """

    robot: str
    skill: str
    source: str = ""
    scenario: str = ""
    operator: str = ""
    assignment: str = ""
    robot_serial: str = ""
    instruction: Mapping[str, str] = field(default_factory=dict)
    simulated: bool | None = None
    urdf_sha256: str = ""
    end_effectors: Mapping[str, str] = field(default_factory=dict)
    action_space: Mapping[str, Any] = field(default_factory=dict)
    control_mode: str = ""
    calibrations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    clock: Mapping[str, Any] = field(default_factory=lambda: {"source": "system (ROS time)"})
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("robot", "skill"):
            value = getattr(self, name)
            if not _NAME.match(value):
                raise CaptureError(
                    f"{name} {value!r} cannot name a folder: letters, digits, '_', '-', '.' are allowed, "
                    "1 to 100 of them, the first a letter or digit"
                )


def said_word(verdict: str, reason: str) -> dict[str, str]:
    """The trainer's word as a `SAID_RECORD`."""
    return {"kind": "word", "verdict": verdict, "reason": reason}


def said_moment(kind: Literal["moment", "clutch"], moment: Moment) -> dict[str, str]:
    """A moment, or a state of the clutch, as a `SAID_RECORD`."""
    return {"kind": kind, "moment": json.dumps(moment.as_json())}


@dataclass
class SaidSoFar:
    """What was said of an episode, put together from its `SAID_RECORD`s."""

    verdict: str = ""
    reason: str = ""
    moments: list[Moment] = field(default_factory=list)
    clutch: list[Moment] = field(default_factory=list)

    def hear(self, values: Mapping[str, str]) -> None:
        """The next record; one that is damaged (metadata have no CRC) says nothing."""
        kind = values.get("kind")
        if kind == "word" and values.get("verdict") in (*VERDICTS, DISCARDED):
            self.verdict, self.reason = values["verdict"], values.get("reason", "")
        elif kind in ("moment", "clutch"):
            try:
                said = dict(json.loads(values.get("moment", "")))
                moment = Moment(int(said.pop("time_ns")), str(said.pop("label")), said)
            except (ValueError, TypeError, KeyError, RecursionError):
                return
            (self.moments if kind == "moment" else self.clutch).append(moment)


def episode_path(root: Path, fields: EpisodeFields, episode_id: str, start_ns: int) -> Path:
    """``<root>/<robot>/<skill>/<date>/<id>.mcap``; the date is UTC, the same on every machine."""
    date = datetime.fromtimestamp(start_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d")
    return root / fields.robot / fields.skill / date / f"{episode_id}.mcap"


def opening_record(
    fields: EpisodeFields,
    episode_id: str,
    start_ns: int,
    expected_hz: Mapping[str, float | None] | None = None,
) -> dict[str, str]:
    """The fields known at the start, as metadata (strings; nested values are JSON).

    ``expected_hz``: rates by topic (None: no fixed rate). The closed file has them in its `streams` record;
    here they are for a file that is cut off before it gets one.
    """
    simulated = "" if fields.simulated is None else ("true" if fields.simulated else "false")
    return {
        "id": episode_id,
        "schema_version": str(SCHEMA_VERSION),
        "robot": fields.robot,
        "skill": fields.skill,
        "source": fields.source,
        "scenario": fields.scenario,
        "operator": fields.operator,
        "assignment": fields.assignment,
        "robot_serial": fields.robot_serial,
        # As it was given first; all of them are in `instructions`.
        "instruction": next(iter(fields.instruction.values()), ""),
        "instructions": json.dumps(dict(fields.instruction), ensure_ascii=False),
        "simulated": simulated,
        "urdf_sha256": fields.urdf_sha256,
        "end_effectors": json.dumps(dict(fields.end_effectors), sort_keys=True),
        "action_space": json.dumps(dict(fields.action_space), sort_keys=True),
        "control_mode": fields.control_mode,
        "calibrations": json.dumps(
            {name: dict(of) for name, of in fields.calibrations.items()}, sort_keys=True
        ),
        "versions": json.dumps(dict(fields.versions), sort_keys=True),
        "start_ns": str(start_ns),
        "started_ns": str(start_ns),
        "clock": json.dumps(dict(fields.clock), sort_keys=True),
        "verdict": "",
        "reason": "",
        EXPECTED_HZ: json.dumps(dict(expected_hz or {}), sort_keys=True),
    }


def closing_record(
    opening: Mapping[str, str],
    *,
    start_ns: int,
    end_ns: int,
    topics: Mapping[str, Mapping[str, int]],
    refused: Mapping[str, str] | None = None,
    recovered: bool = False,
    verdict: str = "",
    reason: str = "",
    real_time_factor: float | None = None,
    stopped_ns: int = 0,
    moments: Sequence[Moment] = (),
    clutch: Sequence[Moment] = (),
    cameras: Sequence[CameraFigures] = (),
    clock_moves: Sequence[ClockMove] = (),
) -> dict[str, str]:
    """The complete `episode` record; ``topics``: counts per topic, ``refused``: topics with the reason.

    ``start_ns`` to ``end_ns`` is what the file holds; the start was asked for at `started_ns`, the stop at
    ``stopped_ns``. ``clutch``: the retargeter's states, each arm's with it, from the last before the start.

    ``real_time_factor``: the lowest that a simulated robot reported during the episode, None if none did.
    """
    record = {key: value for key, value in opening.items() if key != EXPECTED_HZ}
    if real_time_factor is not None:
        record["real_time_factor"] = f"{real_time_factor:.4f}"
    record.update(
        verdict=verdict,
        reason=reason,
        start_ns=str(start_ns),
        end_ns=str(end_ns),
        stopped_ns=str(stopped_ns or end_ns),
        moments=json.dumps([moment.as_json() for moment in moments]),
        clutch=json.dumps([state.as_json() for state in clutch]),
        clock_moved=json.dumps([move.as_json() for move in clock_moves]),
        cameras=json.dumps({figures.topic: _camera(figures) for figures in cameras}),
        topics=json.dumps(topics, sort_keys=True),
        lost=str(sum(entry.get("lost", 0) for entry in topics.values())),
        refused_topics=json.dumps(dict(refused or {}), sort_keys=True),
        recovered="true" if recovered else "false",
    )
    return record


def _camera(figures: CameraFigures) -> dict[str, object]:
    values = asdict(figures)
    del values["topic"]
    return {**values, "steps": [str(step) for step in figures.steps], "cpu_s": round(figures.cpu_s, 3)}


def streams_record(table: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """`StreamStatistics.episode_table` as metadata."""
    return {key: json.dumps(row, sort_keys=True) for key, row in table.items()}
