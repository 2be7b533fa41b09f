from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.errors import CaptureError
from capture_nodes.recording.sidecar import (
    PartFile,
    Sidecar,
    UnusableSidecar,
    Word,
    check_files,
    read_sidecar,
    sha256_of,
    sidecar_path,
    write_sidecar,
)

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
FILES = (PartFile("e.mcap", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),)


def _sidecar() -> Sidecar:
    return Sidecar("e", FILES, {"robot": "kestrel", "verdict": ""}, Word("", "", 5))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(reason=ANY_TEXT, by=ANY_TEXT, values=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=5))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, reason: str, by: str, values: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("s") / "e.json"
    first = Sidecar("e", FILES, values, Word("success", reason, 7, by))
    write_sidecar(path, first)
    assert read_sidecar(path) == first
    later = first.saying(Word("failure", reason, 9, by)).saying(Word("discard", "", 11))
    write_sidecar(path, later)
    assert read_sidecar(path) == later
    assert [word.verdict for word in (*later.history, later.word)] == ["success", "failure", "discard"]
    assert [p.name for p in path.parent.iterdir()] == ["e.json"]


def test_a_word_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(CaptureError, match="'maybe' is given; one of"):
        _sidecar().saying(Word("maybe", "", 1))


def test_a_missing_sidecar_is_no_error_and_a_foreign_one_a_clear_one(tmp_path: Path) -> None:
    path = sidecar_path(tmp_path / "e.mcap")
    assert path == tmp_path / "e.json" and read_sidecar(path) is None
    good = tmp_path / "good.json"
    write_sidecar(good, _sidecar())
    content = json.loads(good.read_text())
    for bad, said in (
        (b"\xff\xfe", "no JSON"),
        (b"[]", "an object is expected"),
        (b"{}", "sidecar_version is None"),
        (json.dumps({**content, "sidecar_version": 99}).encode(), "sidecar_version is 99"),
        (
            json.dumps({**content, "files": [{"name": "../x", "size": True}]}).encode(),
            "size is True.*sha256.*x",
        ),
        (json.dumps({**content, "episode": {"a": 1}, "history": 3}).encode(), "episode.*history"),
        (json.dumps({**content, "verdict": 4}).encode(), "verdict is 4"),
    ):
        path.write_bytes(bad)
        with pytest.raises(UnusableSidecar, match=said):
            read_sidecar(path)
        assert path.read_bytes() == bad
    path.unlink()
    path.mkdir()
    with pytest.raises(UnusableSidecar, match="directory"):
        read_sidecar(path)


def test_a_disk_that_refuses_leaves_the_old_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.json"
    write_sidecar(path, _sidecar())
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            with pytest.raises(CaptureError, match="No space left"):
                write_sidecar(path, _sidecar().saying(Word("success", "", 8)))
        assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["e.json"]


def test_files_are_checked_by_size_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    path.write_bytes(b"abc")
    assert sha256_of(path) == FILES[0].sha256
    assert check_files(tmp_path, _sidecar()) == []
    path.write_bytes(b"abd")
    assert "another SHA-256" in check_files(tmp_path, _sidecar())[0]
    path.write_bytes(b"abcd")
    assert "4 bytes, 3 were written" in check_files(tmp_path, _sidecar())[0]
    path.unlink()
    assert "cannot be read" in check_files(tmp_path, _sidecar())[0]
