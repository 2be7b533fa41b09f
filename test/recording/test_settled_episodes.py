"""What a kill leaves between a file's name and what belongs beside it is settled at the next start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture_nodes.recording.episode_record import (
    DISCARDED,
    EpisodeFields,
    closing_record,
    episode_path,
    new_episode_id,
    opening_record,
)
from capture_nodes.recording.episode_words import write_recovered_sidecar
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile
from capture_nodes.recording.recordings_folder import TRASH, purge_trash
from capture_nodes.recording.settled_episodes import settle_all
from capture_nodes.recording.sidecar import check_files, read_sidecar, sidecar_path

FIELDS = EpisodeFields(robot="kestrel", skill="lift")
Channel = Callable[[str, str], ChannelDescription]


def _file(root: Path, channel: Channel, verdict: str = "", part: int = 1, episode_id: str = "") -> Path:
    now_ns = time.time_ns()
    path = episode_path(root, FIELDS, episode_id or new_episode_id(), now_ns)
    opening = opening_record(FIELDS, path.stem, now_ns)
    file = EpisodeFile(path if part == 1 else path.with_name(f"{path.stem}.part{part}.mcap"))
    file.open()
    file.write(channel("/a", "std_msgs/msg/String"), now_ns, now_ns, 1, bytes(12))
    file.add_metadata(
        "episode", closing_record(opening, start_ns=now_ns, end_ns=now_ns, topics={}, verdict=verdict)
    )
    return file.finish()


def _settle(root: Path, **more: int) -> list[Path]:
    return settle_all(root, lambda _: None, time.time_ns() + 10**9, **more)


def test_a_missing_sidecar_is_written_once(tmp_path: Path, channel: Channel) -> None:
    path = _file(tmp_path, channel, "success")
    assert settle_all(tmp_path, lambda _: None, 0) == []
    assert _settle(tmp_path) == [path] and _settle(tmp_path) == []
    sidecar = read_sidecar(sidecar_path(path))
    assert sidecar is not None and sidecar.word.verdict == "success"
    assert sidecar.files[0].sha256 and check_files(path.parent, sidecar) == []


def test_the_newest_come_first_and_no_more_than_the_limit(tmp_path: Path, channel: Channel) -> None:
    ids = [new_episode_id(time.time_ns() + k * 10**9) for k in range(3)]
    paths = [_file(tmp_path, channel, episode_id=name) for name in ids]
    assert _settle(tmp_path, limit=2) == [paths[2], paths[1]]


@pytest.mark.parametrize("moved", ["nothing", "sidecar"])
def test_a_discarded_episode_goes_to_the_trash(tmp_path: Path, channel: Channel, moved: str) -> None:
    path = _file(tmp_path, channel, DISCARDED)
    if moved == "sidecar":
        write_recovered_sidecar(path)
        there = sidecar_path(tmp_path / TRASH / path.relative_to(tmp_path))
        there.parent.mkdir(parents=True)
        os.rename(sidecar_path(path), there)
    assert _settle(tmp_path) == [path]
    target = tmp_path / TRASH / path.relative_to(tmp_path)
    assert target.exists() and sidecar_path(target).exists() and not path.exists()
    assert _settle(tmp_path) == []


def test_the_word_of_the_first_part_holds_for_a_recovered_later_one(tmp_path: Path, channel: Channel) -> None:
    first = _file(tmp_path, channel, "failure")
    later = _file(tmp_path, channel, part=2, episode_id=first.stem)
    write_recovered_sidecar(later)
    sidecar = read_sidecar(sidecar_path(first))
    assert sidecar is not None and sidecar.word.verdict == "failure"
    assert [file.name for file in sidecar.files] == [first.name, later.name]


def test_the_trash_is_kept_from_the_discard_on_and_survives_a_file_that_stays(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [_file(tmp_path, channel, DISCARDED) for _ in range(2)]
    for path in paths:
        os.utime(path, (1.0, 1.0))
    _settle(tmp_path)
    assert purge_trash(tmp_path, 1.0) == []
    trash = sorted((tmp_path / TRASH).rglob("*.mcap"))
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == trash[0]:
            raise PermissionError(str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert purge_trash(tmp_path, -1.0) == [trash[1]]
