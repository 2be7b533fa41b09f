"""What is said of an episode stands beside its file, whenever it is said."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import EpisodeFields, SaidSoFar
from capture_nodes.recording.episode_words import write_recovered_sidecar
from capture_nodes.recording.mcap_file import ChannelDescription, LockedFile
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.recovery import recover_all
from capture_nodes.recording.sidecar import Sidecar, check_files, read_sidecar, sidecar_path
from capture_nodes.recording.stream import Stream

FIELDS = EpisodeFields(robot="kestrel", skill="lift", operator="ada")
GID = bytes(range(16))

Channel = Callable[[str, str], ChannelDescription]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    configuration = RecorderConfiguration(topics=(), min_free_bytes=0, pre_roll_s=0.0, post_roll_s=0.0)
    made = Recorder(tmp_path, configuration)
    yield made
    made.close()


def _until(recorder: Recorder, result: Future[Path]) -> Path:
    end_s = time.monotonic() + 10
    while not result.done() and time.monotonic() < end_s:
        with recorder.taking():
            recorder.pass_done()
    return result.result(timeout=1)


def _sidecar(path: Path, done: Callable[[Sidecar], bool] = lambda _: True) -> Sidecar:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        found = read_sidecar(sidecar_path(path))
        if found is not None and done(found):
            return found
    raise AssertionError(f"no such sidecar beside {path}")


def test_a_word_during_the_episode_is_in_its_record(recorder: Recorder) -> None:
    with pytest.raises(CaptureError, match="no episode has been recorded"):
        recorder.say("success")
    episode_id = recorder.start(FIELDS)
    assert recorder.say("failure", "slipped").result() == episode_id
    path = _until(recorder, recorder.stop())
    sidecar = _sidecar(path)
    assert (sidecar.id, sidecar.word.verdict, sidecar.word.reason) == (episode_id, "failure", "slipped")
    assert sidecar.episode["verdict"] == "failure" and sidecar.history == ()
    assert check_files(path.parent, sidecar) == []


def test_a_later_word_keeps_those_before_it(recorder: Recorder) -> None:
    recorder.start(FIELDS)
    path = _until(recorder, recorder.stop(verdict="success"))
    recorder.say("failure", "dropped it after all")
    sidecar = _sidecar(path, lambda found: found.word.verdict == "failure")
    assert [word.verdict for word in sidecar.history] == ["success"]
    assert sidecar.episode["verdict"] == "success" and check_files(path.parent, sidecar) == []
    with pytest.raises(CaptureError, match="'perhaps' is given"):
        recorder.say("perhaps")
    moved = _until(recorder, recorder.discard_last("not this one"))
    assert not path.exists() and not sidecar_path(path).exists()
    sidecar = _sidecar(moved, lambda found: found.word.verdict == "discard")
    assert [word.verdict for word in sidecar.history] == ["success", "failure"]


def test_a_recovered_episode_has_a_sidecar_too(recorder: Recorder, channel: Channel, tmp_path: Path) -> None:
    stream = recorder.streams.add(channel("/a", "std_msgs/msg/String"))
    episode_id = recorder.start(FIELDS)
    now_ns = time.time_ns()
    with recorder.taking():
        recorder.take(stream, bytes(12), now_ns, now_ns, 1, GID)
    active = Path(recorder.status().path + ".active")
    end_s = time.monotonic() + 10
    while recorder.status().bytes == 0 and time.monotonic() < end_s:
        pass
    cut = tmp_path / "elsewhere" / active.name
    cut.parent.mkdir()
    cut.write_bytes(active.read_bytes())
    (recovery,) = recover_all(cut.parent, lambda _: None)
    write_recovered_sidecar(recovery.path)
    sidecar = _sidecar(recovery.path)
    assert sidecar.id == episode_id and sidecar.episode["recovered"] == "true"
    assert check_files(cut.parent, sidecar) == []
    _until(recorder, recorder.stop())


def _refusing(monkeypatch: pytest.MonkeyPatch, suffix: str = ".tmp") -> None:
    """A disk that was mounted anew for reading only, for everything that is written beside a file."""
    for name in ("open", "unlink"):
        usual = getattr(Path, name)

        def refuse(path: Path, *given: Any, _usual: Any = usual, **more: Any) -> Any:
            if path.name.endswith(suffix):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return _usual(path, *given, **more)

        monkeypatch.setattr(Path, name, refuse)


def test_a_word_that_the_disk_does_not_take_is_refused(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.start(FIELDS)
    path = _until(recorder, recorder.stop())
    with monkeypatch.context() as read_only:
        _refusing(read_only)
        with pytest.raises(CaptureError, match=r"the word 'success' on .* is not kept: .*Read-only"):
            recorder.say("success").result(timeout=10)
    assert recorder.say("success").result(timeout=10) == path.stem
    assert _sidecar(path).word.verdict == "success"


def test_a_file_whose_sidecar_is_refused_is_complete_and_gets_it_with_the_next_word(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as read_only:
        _refusing(read_only)
        recorder.start(FIELDS)
        path = _until(recorder, recorder.stop())
    assert path.exists() and not sidecar_path(path).exists() and "cannot write" in recorder.notes[0]
    recorder.say("failure", "slipped").result(timeout=10)
    sidecar = _sidecar(path)
    assert sidecar.word.verdict == "failure" and check_files(path.parent, sidecar) == []
    with monkeypatch.context() as read_only:
        _refusing(read_only)
        assert ".trash" in recorder.discard_last().result(timeout=10).parts


@pytest.mark.parametrize("verdict", ["success", "discard"])
def test_a_word_on_an_episode_that_its_disk_ended_is_there_after_recovery(
    recorder: Recorder, channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    stream = recorder.streams.add(channel("/a", "std_msgs/msg/String"))
    recorder.start(FIELDS)
    now_ns = time.time_ns()
    with recorder.taking():
        recorder.take(stream, bytes(12), now_ns, now_ns, 1, GID)
    end_s = time.monotonic() + 10
    while recorder.status().bytes == 0 and time.monotonic() < end_s:
        pass
    with monkeypatch.context() as full:

        def refuse(_self: LockedFile, _data: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(LockedFile, "write", refuse)
        with recorder.taking():
            recorder.take(stream, bytes(12), now_ns, now_ns + 1, 2, GID)
        while not recorder.status().problem and time.monotonic() < end_s:
            pass
        with pytest.raises(CaptureError, match="ENOSPC"):
            _until(recorder, recorder.stop())
    if verdict == "discard":
        assert recorder.discard_last("cube fell").result(timeout=10).suffix == ".active"
    else:
        recorder.say(verdict, "cube fell").result(timeout=10)
    recorder.close()
    (recovery,) = recover_all(tmp_path, lambda _: None)
    write_recovered_sidecar(recovery.path)
    sidecar = _sidecar(recovery.path)
    assert (sidecar.word.verdict, sidecar.word.reason) == (verdict, "cube fell")
    assert sidecar.history == () and sidecar.episode["recovered"] == "true"
    assert check_files(recovery.path.parent, sidecar) == []


def test_what_was_said_before_a_kill_is_there_after_recovery(
    recorder: Recorder, channel: Channel, diagnostic_status: Callable[..., bytes], tmp_path: Path
) -> None:
    stream = recorder.streams.add(channel("/a", "std_msgs/msg/String"))
    states = recorder.streams.add(
        channel("/s", "diagnostic_msgs/msg/DiagnosticStatus"), role="retargeting_state"
    )

    def take(into: Stream, data: bytes, number: int) -> None:
        now_ns = time.time_ns()
        with recorder.taking():
            recorder.take(into, data, now_ns, now_ns, number, GID)

    take(states, diagnostic_status("retargeting", "open", {"left_clutch": "open"}), 1)
    recorder.start(FIELDS)
    take(stream, bytes(12), 1)
    take(states, diagnostic_status("retargeting", "engaged", {"left_clutch": "closed"}), 2)
    recorder.mark_moment("grasped")
    recorder.say("success", "first word")
    recorder.say("failure", "cube fell")
    recorder._writer.submit(lambda: None).result(timeout=10)
    active = Path(recorder.status().path + ".active")
    cut = tmp_path / "elsewhere" / active.name
    cut.parent.mkdir()
    cut.write_bytes(active.read_bytes())
    path = _until(recorder, recorder.stop())
    (recovery,) = recover_all(cut.parent, lambda _: None)
    write_recovered_sidecar(recovery.path)
    said, complete = _sidecar(recovery.path), _sidecar(path)
    assert (said.word.verdict, said.word.reason) == ("failure", "cube fell")
    assert len(json.loads(said.episode["clutch"])) == 2
    for key in ("verdict", "reason", "moments", "clutch"):
        assert said.episode[key] == complete.episode[key]


def test_damaged_records_of_what_was_said_say_nothing() -> None:
    said = SaidSoFar()
    for values in (
        {},
        {"kind": "word"},
        {"kind": "word", "verdict": "?"},
        {"kind": "moment", "moment": "[1]"},
    ):
        said.hear(values)
    said.hear({"kind": "clutch", "moment": '{"time_ns": "x", "label": 1}'})
    assert said == SaidSoFar()
