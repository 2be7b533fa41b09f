"""`episodes retarget` as people run it: exit codes, resuming, Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capture_nodes.retarget_episodes import _jobs, _parser, main
from capture_nodes.sources.person import Person
from capture_nodes.sources.script import ScriptSource, reach_and_circle
from episodes.cli import _parser as verbs
from retargeting.motion_frame import MotionFrame

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


def trainer(seconds: float) -> list[MotionFrame]:
    source = ScriptSource(reach_and_circle(Person()))
    return [source.frame_at(k / 90, 10**18 + round(k / 90 * 1e9)) for k in range(round(90 * seconds))]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "episodes", "retarget", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S
    )


def outcomes(result: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, object]]:
    return {(Path(o["file"]).name, o["robot"]): o for o in json.loads(result.stdout)["outcomes"]}


def test_every_file_on_every_robot_once(record_trainer, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    for k in range(2):
        record_trainer(
            recorded / f"{k}.mcap", trainer(2.0), episode_id=f"019aa5a5-0000-7000-8000-00000000000{k}"
        )
    broken = recorded / "broken.mcap"
    broken.write_bytes((recorded / "0.mcap").read_bytes()[:3000])
    out = recorded / "out"
    first = run(recorded, "--robots", "kestrel", "--out", out, "--json", "--jobs", "1")
    assert first.returncode == 2, first.stderr
    found = outcomes(first)
    assert found["broken.mcap", "kestrel"]["state"] == "failed"
    assert "damaged" in found["broken.mcap", "kestrel"]["reason"] and "damaged" in first.stderr
    made = [found[f"{k}.mcap", "kestrel"] for k in range(2)]
    assert [o["state"] for o in made] == ["made", "made"]
    assert all(Path(o["output"]).is_file() and o["figures"]["commands"] > 300 for o in made)
    assert json.loads(first.stdout)["times_real_time_per_core"] > 0.0

    broken.unlink()
    # What was made lies in the same folder now, and is not a demonstration.
    again = run(recorded, "--robots", "kestrel", "--out", out, "--json", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert sorted(o["state"] for o in outcomes(again).values()) == ["done", "done", "left_out", "left_out"]
    check = subprocess.run(
        [sys.executable, "-m", "episodes", "check", "--only", "limits", str(out)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert check.returncode == 0 and "2 of 2 episodes passed" in check.stdout


def test_ctrl_c_leaves_no_half_file_and_the_next_run_goes_on(record_trainer, tmp_path: Path) -> None:
    # Long ones: none may be made before this process is back at work on a busy machine.
    for k in range(2):
        record_trainer(
            tmp_path / f"{k}.mcap", trainer(60.0), episode_id=f"019aa5a5-0000-7000-8000-00000000000{k}"
        )
    out = tmp_path / "out"
    words = (*(tmp_path / f"{k}.mcap" for k in range(2)), "--robots", "kestrel", "--out", out, "--jobs", "1")
    process = subprocess.Popen(
        command(*words, "--json"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not list(out.rglob("*.mcap.active")):
        assert process.poll() is None and time.monotonic() < deadline
    # As a terminal does it: to everyone of the group.
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130 and "Traceback" not in stderr, stderr
    assert list(out.rglob("*.active")) == []
    states = [outcome["state"] for outcome in json.loads(stdout)["outcomes"]]
    assert "interrupted" in states
    again = run(*words, "--json")
    assert again.returncode == 0, again.stderr
    assert sorted(o["state"] for o in outcomes(again).values()) == sorted(
        "done" if state == "made" else "made" for state in states
    )


def test_what_cannot_be_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for words, expected in (
        ((tmp_path / "empty", "--robots", "kestrel"), "holds no episode"),
        ((tmp_path / "a.mcap", "--robots", "kestrl"), "Did you mean 'kestrel'"),
        ((tmp_path / "a.mcap", "--robots", ","), "names separated by commas"),
        ((tmp_path / "a.mcap", "--robots", "kestrel", "--rate", "5"), "rate_hz"),
        ((tmp_path / "a.mcap", "--robots", "kestrel", "--mapping", tmp_path / "no.yaml"), "no.yaml"),
        ((tmp_path / "a.mcap", "--robots", "kestrel", "--jobs", "-1"), "--jobs -1"),
    ):
        assert main([str(word) for word in (*words, "--out", tmp_path / "out")]) == 2
        assert expected in capsys.readouterr().err, words


def test_jobs_name_every_pair_once() -> None:
    files = [(Path(f"{k}.mcap"), False) for k in range(19)]
    for robots, workers in ((["a"], 1), (["a", "b", "c"], 2), (["a"], 64)):
        pairs = [(job.robot, file) for job in _jobs(robots, files, workers) for file in job.files]
        assert sorted(pairs) == sorted((robot, file) for robot in robots for file, _ in files)
    assert len(list(_jobs(["a"], files[:2], 2))) == 2


def test_the_verb_is_told_by_the_command() -> None:
    assert "retarget" in verbs().format_help() and "--robots" in _parser().format_help()


def test_workers_end_with_a_killed_parent_and_the_next_run_clears_up(record_trainer, tmp_path: Path) -> None:
    file = record_trainer(tmp_path / "one.mcap", trainer(8.0))
    out = tmp_path / "out"
    words = (file, "--robots", "kestrel", "--out", out, "--jobs", "1")
    process = subprocess.Popen(
        command(*words), cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not (active := list(out.rglob("*.mcap.active"))):
        assert process.poll() is None and time.monotonic() < deadline
    process.kill()
    process.wait()
    # The lock of the half file goes with the worker.
    while active[0].exists():
        with contextlib.suppress(BlockingIOError, FileNotFoundError), active[0].open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        assert time.monotonic() < deadline, "the worker goes on"
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert list(out.rglob("*.active")) == [] and len(list(out.rglob("*.mcap"))) == 1
