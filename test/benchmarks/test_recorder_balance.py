"""Counts that agree are let pass, and any one that is wrong is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.recorder.balance import balance, lost_by_priority
from benchmarks.recorder.file_watch import FileContent, missing_numbers

TOPIC, GID = "/kestrel/joint_states", "ab"
COUNTS = st.integers(0, 50)


def case(before: int, outside: int, middleware: int, queue: int, disk: int, written: int) -> list[Any]:
    """One publisher: not joined, received outside of the episode, and what became of the others."""
    received = outside + queue + disk + written
    published = before + received + middleware
    publishers = [{"topic": TOPIC, "gid": GID, "published": published, "bytes": 0, "depth": 10}]
    readers = [
        {"topic": TOPIC, "gid": GID, "received": received, "lost": middleware, "not_joined": before},
    ]
    inside = middleware + queue + disk + written
    episode = {
        f"{TOPIC} {GID}": {
            "published": inside,
            "received": inside - middleware,
            "written": written,
            "repeated": 0,
            "lost_in": {"middleware": middleware, "queue": queue, "disk": disk},
        }
    }
    lost = middleware + queue + disk if written > 1 else 0
    content = FileContent({TOPIC: written}, {TOPIC: 8 * written}, {TOPIC: lost}, {}, 0)
    return [publishers, readers, episode, content]


@settings(derandomize=True)
@given(st.tuples(*[COUNTS] * 6))
def test_true_counts_add_up(counts: tuple[int, ...]):
    (row,) = balance(*case(*counts))
    assert row.problem == ""
    assert row.received + row.lost + row.not_joined == row.published
    assert (row.lost_middleware, row.lost_queue, row.lost_disk, row.in_file) == (*counts[2:5], counts[5])


@settings(derandomize=True)
@given(st.tuples(*[COUNTS] * 5, st.integers(2, 50)), st.integers(1, 9), st.integers(0, 5))
def test_one_wrong_count_is_found(counts: tuple[int, ...], wrong: int, which: int):
    publishers, readers, episode, content = case(*counts)
    said = episode[f"{TOPIC} {GID}"]
    if which == 0:
        publishers[0]["published"] += wrong
    elif which == 1:
        readers[0]["received"] -= wrong
    elif which == 2:
        readers[0]["lost"] += wrong
    elif which == 3:
        said["lost_in"]["queue"] += wrong
    elif which == 4:
        content.messages[TOPIC] -= wrong
    else:
        content.missing[TOPIC] += wrong + said["published"]
    (row,) = balance(publishers, readers, episode, content)
    assert row.problem


def test_a_publisher_that_was_never_heard_has_lost_everything_and_is_missed_in_the_episode():
    publishers, _, _, content = case(0, 0, 0, 0, 0, 5)
    (row,) = balance(publishers, [], {}, content)
    assert (row.received, row.lost) == (0, 5)
    assert "is not in the episode's record" in row.problem


def test_who_only_counts_has_lost_what_others_published():
    publishers, readers, *_ = case(3, 10, 4, 0, 0, 0)
    del readers[0]["lost"]
    (row,) = balance(publishers, readers)
    assert (row.lost, row.problem) == (4, "")


def test_loss_is_told_by_priority():
    publishers = [
        {"topic": topic, "gid": GID, "published": 100, "bytes": 0, "depth": 10}
        for topic in ("/kestrel/joint_states", "/kestrel/joint_commands", "/kestrel/camera/camera_0/image")
    ]
    readers = [
        {"topic": row["topic"], "gid": GID, "received": 100 - lost, "lost": lost, "not_joined": 0}
        for row, lost in zip(publishers, (0, 1, 50), strict=True)
    ]
    found = lost_by_priority(balance(publishers, readers))
    assert found["joints and commands"]["lost_share"] == pytest.approx(0.005)
    assert found["cameras"]["lost"] == 50
    assert found["tactile"] == {
        "published": 0,
        "lost": 0,
        "lost_share": 0.0,
        "lost_middleware": 0,
        "lost_queue": 0,
        "lost_disk": 0,
    }


@settings(derandomize=True)
@given(st.sets(st.integers(0, 300), min_size=2), st.randoms())
def test_missing_numbers_are_counted_whatever_the_order(numbers: set[int], random: Any):
    shuffled = list(numbers)
    random.shuffle(shuffled)
    whole = range(min(numbers), max(numbers) + 1)
    assert missing_numbers(shuffled) == len([n for n in whole if n not in numbers])
