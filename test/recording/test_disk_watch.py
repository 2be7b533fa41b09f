"""The disk is told to be low before it is full, and to hang where it does not answer."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture_nodes.recording import disk_watch
from capture_nodes.recording.disk_watch import DiskState, DiskWatch
from capture_nodes.recording.mcap_file import EpisodeFile, FileProblem


def _until(watch: DiskWatch, done: Callable[[DiskState], bool]) -> DiskState:
    end_s = time.monotonic() + 10
    while not done(watch.state()) and time.monotonic() < end_s:
        threading.Event().wait(0.01)
    return watch.state()


@pytest.mark.parametrize(("warn_bytes", "word"), [(0, "ok"), (1 << 60, "low")])
def test_a_disk_with_less_than_the_limit_is_low(tmp_path: Path, warn_bytes: int, word: str) -> None:
    watch = DiskWatch(tmp_path / "not" / "there" / "yet", warn_bytes, period_s=0.01)
    state = _until(watch, lambda s: s.free_bytes is not None)
    assert state.word == word and state.free_bytes is not None
    assert ("make room soon" in state.problem) == (word == "low")
    watch.stop()


def test_a_disk_that_fails_or_hangs_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def hang(_: Path) -> int:
        gate.wait(10)
        raise FileProblem("no such device", tmp_path)

    monkeypatch.setattr(disk_watch, "free_bytes", hang)
    monkeypatch.setattr(disk_watch, "_ANSWER_S", 0.05)
    watch = DiskWatch(tmp_path, 0, period_s=0.01)
    assert "has not answered" in _until(watch, lambda s: s.word == "unreachable").problem
    gate.set()
    assert _until(watch, lambda s: s.problem == "no such device").word == "unreachable"
    watch.stop()


def test_a_mount_that_vanishes_and_comes_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What any look at it raises then is no `FileProblem`."""

    def gone(path: Path, *_: object, **__: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as vanished:
        vanished.setattr(Path, "exists", gone)
        watch = DiskWatch(tmp_path, 0, period_s=0.01)
        assert "Input/output error" in _until(watch, lambda s: s.problem != "").problem
        with pytest.raises(FileProblem, match="cannot record into"):
            EpisodeFile(tmp_path / "e.mcap").open()
    assert _until(watch, lambda s: s.free_bytes is not None).word == "ok"
    with monkeypatch.context() as broken:
        broken.setattr(disk_watch, "free_bytes", gone)
        assert _until(watch, lambda s: s.problem != "").word == "unreachable"
    assert _until(watch, lambda s: s.problem == "").word == "ok"
    watch.stop()
