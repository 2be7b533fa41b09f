"""The `station` command as a user starts it: real nodes, real DDS, one repetition."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOTIONS = ROOT.parent / "shared" / "motions"
DOMAIN = 65
TIMEOUT_S = 240.0


class Station:
    """A running `station` command; its output is read as it comes."""

    def __init__(self, root: Path, *words: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        arguments = [f"root:={root}", f"domain_id:={DOMAIN}", "camera_width:=64", "camera_height:=48", *words]
        self.root = root
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capture_nodes.station", *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.deadline = time.monotonic() + TIMEOUT_S

    def lines(self) -> Iterator[str]:
        stream = self.process.stdout
        for line in stream if stream is not None else ():
            self.text += line
            yield line

    def read_until(self, wanted: str) -> None:
        """Read on until a line holds `wanted`; the station's own time limits end a wait in vain."""
        for line in self.lines():
            if wanted in line:
                return
        pytest.fail(f"{wanted!r} was never said:\n{self.text}")

    def end(self) -> int:
        for _ in self.lines():
            if time.monotonic() > self.deadline:
                self.process.kill()
                pytest.fail(f"the station did not end within {TIMEOUT_S:g} s:\n{self.text}")
        return self.process.wait(timeout=30.0)

    def pid_of(self, module: str) -> int:
        """Of a node of this station: its command line names our folder or our domain's environment."""
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    words = (process / "cmdline").read_text().split("\0")
                    environment = (process / "environ").read_text().split("\0")
                except OSError:
                    continue
                if module in words and f"ROS_DOMAIN_ID={DOMAIN}" in environment:
                    return int(process.name)
        raise AssertionError(f"no process runs {module}")

    def episodes(self) -> list[Path]:
        return sorted(self.root.rglob("*.mcap"))

    def leftovers(self) -> list[str]:
        """Node processes of our domain that are still there."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    words = (process / "cmdline").read_text()
                    environment = (process / "environ").read_text().split("\0")
                except OSError:
                    continue
                if "capture_nodes." in words and f"ROS_DOMAIN_ID={DOMAIN}" in environment:
                    found.append(words)
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    stations: list[Station] = []

    def begin(*words: str) -> Station:
        stations.append(Station(tmp_path, *words))
        return stations[-1]

    yield begin
    for station in stations:
        if station.process.poll() is None:
            station.process.send_signal(signal.SIGINT)
            station.process.communicate(timeout=60.0)


def check_recorded(station: Station, code: int) -> None:
    """One complete file, nothing lost, nothing left running; a limit broken would have been said."""
    assert code == 0, station.text
    (file,) = station.episodes()
    assert not list(station.root.rglob("*.mcap.active"))
    (report_file,) = station.root.glob(".station/report_domain_*.json")
    report = json.loads(report_file.read_text())
    assert report["lost_in_episodes"] == 0
    assert report["received"] > 1000
    assert str(file) in station.text or file.name in station.text
    assert station.leftovers() == []


def test_one_scripted_repetition(start: Callable[..., Station]) -> None:
    station = start("source:=script", "episodes:=1")
    check_recorded(station, station.end())


@pytest.mark.skipif(not list(MOTIONS.glob("*.bvh")), reason=f"no recorded motions in {MOTIONS}")
def test_one_recorded_motion(start: Callable[..., Station]) -> None:
    motion = min(MOTIONS.glob("*.bvh"), key=lambda path: path.stat().st_size)
    station = start("source:=bvh", f"motion:={motion}", "episodes:=1")
    check_recorded(station, station.end())


def test_interrupt_completes_the_episode_at_hand(start: Callable[..., Station]) -> None:
    station = start("episodes:=1")
    station.read_until("recording 3")
    station.process.send_signal(signal.SIGINT)
    assert station.end() == 130, station.text
    assert "interrupted" in station.text
    assert len(station.episodes()) == 1
    assert station.leftovers() == []


@pytest.mark.parametrize("name", ["retargeting", "simulated_robot"])
def test_a_killed_node_is_named_and_the_episode_survives(start: Callable[..., Station], name: str) -> None:
    station = start("episodes:=1")
    station.read_until("recording")
    station.read_until("recording")
    os.kill(station.pid_of(f"capture_nodes.{name}_node"), signal.SIGKILL)
    assert station.end() == 3, station.text
    assert f"{name} was killed by SIGKILL" in station.text
    assert len(station.episodes()) == 1
    assert station.leftovers() == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["robot:=nobody"], "unknown robot 'nobody'"),
        (["root:=/proc/nowhere"], "the folder cannot be written"),
        (["source:=bvh", "motion:=/nowhere.bvh"], "no such file"),
        (["episodes=3"], "name:=value is expected, as in episodes:=3"),
    ],
)
def test_one_clear_message_for_a_bad_argument(tmp_path: Path, words: list[str], expected: str) -> None:
    given = words if any(word.startswith("root") for word in words) else [f"root:={tmp_path}", *words]
    result = subprocess.run(
        [sys.executable, "-m", "capture_nodes.station", *given],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_second_station_on_the_domain_is_refused(start: Callable[..., Station], tmp_path: Path) -> None:
    first = start("episodes:=0", "cameras:=false")
    first.read_until("are ready")
    second = Station(tmp_path, "episodes:=1")
    assert second.end() == 2
    assert (
        f"domain {DOMAIN} is taken by another station (process {first.process.pid}, robot kestrel)"
        in second.text
    )
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130, first.text
