"""The benchmark itself, short and small, over real DDS; and what it says to arguments it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from benchmarks.recorder.__main__ import main
from benchmarks.recorder.load_plan import PARTS, PRIORITIES

DOMAIN = 61


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0.2"], "--seconds 0.2: at least 1"),
        (["--scale", "100"], "scale 100"),
        (["--set", "taking.poll_s"], "NAME=VALUE"),
        (["--set", "poll_s=1"], "--set poll_s"),
        (["--kill", "--freeze", "1"], "--kill is for"),
        (["--history-s", "0"], "history streams_s 0"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["--runs", "recorder", "--domain", str(DOMAIN), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_short_run_gives_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    arguments = ["--runs", "counting", "recorder+counting", "--seconds", "8", "--scale", "0.2"]
    arguments += [
        "--domain",
        str(DOMAIN),
        "--root",
        str(tmp_path),
        "--json",
        str(file),
        "--figure",
        str(picture),
    ]
    main(arguments)
    said = capsys.readouterr().out
    counting, recorder = json.loads(file.read_text())["runs"]
    for found in (counting, recorder):
        assert found["problems"] == [], said
        assert found["cpu"]["cpu_s"] > 0.0
        assert set(found["load"]) == set(PARTS)
        assert set(found["lost_by_priority"]) == set(PRIORITIES)
        assert found["rates"]["messages_hz"] > 100.0
        assert "taking" in found["cpu"]["cores_by_thread"]
    for row in recorder["balance"]:
        assert row["in_file"] == row["written"] > 0
    assert recorder["file"]["bytes"] > 0
    assert 0.0 < recorder["latency_s"]["all"]["median"] <= recorder["latency_s"]["all"]["largest"]
    assert recorder["stop"]["named_s"] > 0.0
    assert recorder["cores_of"]["counting"] > 0.0
    assert "joints and commands" in said
    assert picture.stat().st_size > 1000
    # What was recorded is not left behind.
    assert {path.name for path in tmp_path.iterdir()} == {file.name, picture.name}
