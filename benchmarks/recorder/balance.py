"""Whether received + lost = published holds for every publisher, by counts that three parties made.

The publishers count what they sent (files of `load`), the reader what it received and missed, and the
finished file is counted by `file_watch`. None of them knows the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.recorder.file_watch import FileContent
from benchmarks.recorder.load_plan import PRIORITIES, priority_of
from capture_nodes.recording.camera_encoding import TOPIC_SUFFIXES

FORMS = tuple(TOPIC_SUFFIXES.values())


@dataclass(frozen=True)
class Row:
    """One publisher over the whole run and, where an episode was recorded, within it.

    published: by its own final count; not_joined: before the reader's first. problem: what does not add up.
    """

    topic: str
    gid: str
    depth: int
    published: int
    received: int
    lost: int
    not_joined: int
    episode_published: int | None = None
    episode_received: int | None = None
    written: int | None = None
    lost_middleware: int | None = None
    lost_queue: int | None = None
    lost_disk: int | None = None
    in_file: int | None = None
    missing_in_file: int | None = None
    problem: str = ""

    @property
    def lost_anywhere(self) -> int:
        """On the way to the reader, and on its way into the file."""
        return self.lost + (self.lost_queue or 0) + (self.lost_disk or 0)


def balance(
    publishers: Sequence[Mapping[str, Any]],
    readers: Sequence[Mapping[str, Any]],
    episode: Mapping[str, Mapping[str, Any]] | None = None,
    content: FileContent | None = None,
) -> list[Row]:
    """A row for every publisher of the load.

    publishers: `streams` of the load's files; readers: `streams` of the reader's report; episode: `streams`
    of the recorded episode in it; content: what its file holds.
    """
    by_gid = {(row["topic"], row["gid"]): row for row in readers}
    rows = []
    for publisher in publishers:
        topic, gid = publisher["topic"], publisher["gid"]
        read = by_gid.get((topic, gid), {"received": 0, "lost": publisher["published"], "not_joined": 0})
        problems = []
        received, not_joined = int(read["received"]), int(read["not_joined"] or 0)
        # Who only counts does not know what came after the last that it received.
        lost = int(read.get("lost", publisher["published"] - received - not_joined) or 0)
        if received + lost + not_joined != publisher["published"]:
            problems.append(
                f"{received} received + {lost} lost + {not_joined} before joining is not "
                f"{publisher['published']} published"
            )
        part: dict[str, int] = {}
        if episode is not None:
            part = _in_episode(episode.get(f"{topic} {gid}"), problems)
        if content is not None:
            part |= {
                # A camera has a topic for each form it is recorded in.
                "in_file": sum(content.messages.get(topic + suffix, 0) for suffix in FORMS),
                "missing_in_file": sum(content.missing.get(topic + suffix, 0) for suffix in FORMS),
            }
            written = part.get("written", 0)
            if part["in_file"] != written:
                problems.append(f"{part['in_file']} in the file, {written} said to be written")
            inside = part.get("episode_published", 0) - written
            # The first and the last of an episode may be missing too, which its own numbers do not show.
            if part["missing_in_file"] > inside:
                problems.append(
                    f"{part['missing_in_file']} numbers missing in the file, {inside} said to be lost"
                )
        rows.append(
            Row(
                topic,
                gid,
                int(publisher["depth"]),
                int(publisher["published"]),
                received,
                lost,
                not_joined,
                problem="; ".join(problems),
                **part,
            )
        )
    return rows


def _in_episode(said: Mapping[str, Any] | None, problems: list[str]) -> dict[str, int]:
    if said is None:
        problems.append("is not in the episode's record")
        return {}
    lost_in = said["lost_in"]
    part = {
        "episode_published": int(said["published"] or 0),
        "episode_received": int(said["received"]),
        "written": int(said["written"]) + int(said.get("repeated", 0)),
        "lost_middleware": int(lost_in["middleware"] or 0),
        "lost_queue": int(lost_in["queue"]),
        "lost_disk": int(lost_in["disk"]),
    }
    lost = sum(int(value or 0) for value in lost_in.values())
    if part["written"] + lost != part["episode_published"] + int(said.get("repeated", 0)):
        problems.append(
            f"in the episode {part['written']} written + {lost} lost is not "
            f"{part['episode_published']} published"
        )
    return part


def lost_by_priority(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """What must be lost last first: published, lost and where, share lost (of the whole run).

    lost: on the way to the reader in the whole run, and behind it in the episode.
    """
    result: dict[str, dict[str, Any]] = {}
    for priority in PRIORITIES:
        chosen = [row for row in rows if priority_of(row.topic) == priority]
        published = sum(row.published for row in chosen)
        lost = sum(row.lost_anywhere for row in chosen)
        entry: dict[str, Any] = {
            "published": published,
            "lost": lost,
            "lost_share": lost / published if published else 0.0,
        }
        for where in ("lost_middleware", "lost_queue", "lost_disk"):
            entry[where] = sum(getattr(row, where) or 0 for row in chosen)
        result[priority] = entry
    return result


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
