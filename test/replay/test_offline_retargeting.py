"""A recorded trainer on a robot without waiting: limits, determinism, the recorded deadman; and its file."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.offline_retargeting import OfflineRetargeting
from capture_nodes.recording.mcap_file import EpisodeFile
from capture_nodes.recording.sidecar import read_sidecar, sidecar_path
from capture_nodes.recording.trainer_recording import file_sha256, read_recording_head, read_trainer_recording
from capture_nodes.resources import robot_description_file
from capture_nodes.retargeted_episode import (
    Interrupted,
    NotAsWritten,
    Target,
    is_done,
    recorded_settings,
    write_retargeted,
)
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.sources.person import Person
from capture_nodes.sources.script import ScriptSource, reach_and_circle
from episodes.bag import read_bag
from episodes.check import CheckOptions, check_bag
from retargeting.motion_frame import Axis, Controls, MotionFrame
from retargeting.retargeter import Retargeter, State
from retargeting.robot_model import load_robot

START_NS = 1_790_000_000_000_000_000
MODEL = load_robot(robot_description_file("kestrel"))


def trainer(seconds: float, squeezed: tuple[float, float] | None = None) -> list[MotionFrame]:
    """A scripted person at 90 Hz; `squeezed`: from when to when both grips are held."""
    source = ScriptSource(reach_and_circle(Person()))
    frames = []
    for k in range(round(90 * seconds)):
        axes = [0.0] * len(Axis)
        if squeezed is not None and squeezed[0] <= k / 90 < squeezed[1]:
            axes[Axis.LEFT_SQUEEZE] = axes[Axis.RIGHT_SQUEEZE] = 1.0
        frame = source.frame_at(k / 90, START_NS + round(k / 90 * 1e9))
        frames.append(dataclasses.replace(frame, controls=Controls(tuple(axes))))
    return frames


def offline(**said) -> OfflineRetargeting:
    parameters = RetargetingParameters(robot="kestrel", **said)
    return OfflineRetargeting(
        Retargeter(MODEL, parameters.retargeter_parameters(), parameters.solver_parameters)
    )


def states(ticks) -> list[State]:
    found = [tick.change.state for tick in ticks if tick.change is not None]
    return [state for k, state in enumerate(found) if k == 0 or state is not found[k - 1]]


def test_the_same_frames_give_the_same_commands() -> None:
    frames = trainer(3.0)
    first, second = (list(offline().run(frames)) for _ in range(2))
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.stamp_ns == other.stamp_ns and (one.command is None) == (other.command is None)
        if one.command is not None:
            np.testing.assert_array_equal(one.command.positions, other.command.positions)
    assert np.diff([tick.stamp_ns for tick in first]).tolist() == [5_000_000] * (len(first) - 1)
    assert states(first) == [State.IDLE, State.ENGAGING, State.TRACKING, State.HOLDING]
    # It ends at rest, soon after the last frame.
    assert first[-1].is_last and not first[-1].command.velocities.any()
    assert 0.0 <= (first[-1].stamp_ns - frames[-1].stamp_ns) * 1e-9 < 0.5


def test_after_a_gap_the_arms_are_engaged_again() -> None:
    frames = trainer(4.0)
    held = [frame for frame in frames if not 2.0 <= (frame.stamp_ns - START_NS) * 1e-9 < 2.5]
    run = offline()
    ticks = list(run.run(held))
    assert run.engagements == 2
    assert states(ticks)[:4] == [State.IDLE, State.ENGAGING, State.TRACKING, State.HOLDING]
    assert states(ticks)[4] is State.ENGAGING


def test_the_recorded_deadman_counts_where_it_is_asked_to() -> None:
    frames = trainer(4.0, squeezed=(1.0, 3.0))
    run = offline(deadman="squeeze")
    ticks = list(run.run(frames))
    begun = next(tick.stamp_ns for tick in ticks if tick.command is not None)
    assert (begun - START_NS) * 1e-9 == pytest.approx(1.0, abs=0.02)
    caused = [tick.stamp_ns for tick in ticks if tick.command and tick.command.cause_stamp_ns is not None]
    assert (caused[-1] - START_NS) * 1e-9 == pytest.approx(3.0, abs=0.02)
    assert run.engagements == 0


@pytest.fixture(scope="module")
def make_target(record_trainer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    file = record_trainer(folder / "one.mcap", trainer(3.0), robot="g1", station={"deadman": "off"})

    def make(root: Path, **said) -> Target:
        head = read_recording_head(file)
        parameters = RetargetingParameters(robot="kestrel", **{**recorded_settings(head), **said})
        yaml = robot_description_file("kestrel").read_bytes()
        return Target(head, file_sha256(file), MODEL, yaml, parameters, root)

    return make


def write(target: Target, ask=lambda share: True) -> dict[str, object]:
    return write_retargeted(target, read_trainer_recording(target.head.path), ask)


def test_the_file_holds_trainer_commands_and_where_they_come_from(make_target, tmp_path: Path) -> None:
    target = make_target(tmp_path)
    assert not is_done(target)
    figures = write(target)
    assert is_done(target)
    bag = read_bag(target.path)
    report = check_bag(bag, CheckOptions(checks=("limits", "frames", "streams")))
    problems = {result.name: result.problems for result in report.results}
    assert problems["limits"] == () and problems["frames"] == ()
    assert bag.stream("/kestrel/joint_commands").count == figures["commands"] > 500
    assert {"/kestrel/target/left_wrist", "/kestrel/command_cause", "/tf"} <= set(bag.streams)
    assert bag.stream("/kestrel/robot_description").count == 1
    assert {"robot.urdf", "robot.yaml"} <= set(bag.attachments)
    # What the trainer did is there as it was.
    recorded = read_trainer_recording(target.head.path).messages
    again = read_trainer_recording(target.path).messages
    assert [(m.channel, m.data, m.log_ns, m.sequence) for m in again] == [
        (m.channel, m.data, m.log_ns, m.sequence) for m in recorded
    ]
    said = bag.episode["retargeted"]
    assert (said["from_robot"], said["from_sha256"]) == ("g1", target.sha256)
    assert said["from_id"] == target.head.episode["id"] and said["settings"]["rate_hz"] == 200.0
    assert bag.episode["robot"] == "kestrel" and bag.episode["skill"] == "wave"
    assert target.path.parent.parent == tmp_path / "kestrel" / "wave"
    assert bag.episode["id"] == target.path.stem and target.id[14] == "8"


def test_the_same_input_gives_the_same_file(make_target, tmp_path: Path) -> None:
    one, other = make_target(tmp_path / "a"), make_target(tmp_path / "b")
    write(one)
    write(other)
    assert one.path.name == other.path.name and one.path.read_bytes() == other.path.read_bytes()
    assert sidecar_path(one.path).read_bytes() == sidecar_path(other.path).read_bytes()
    assert make_target(tmp_path, engage_mode="relative").id != one.id


def test_what_is_done_is_verified_and_never_overwritten(make_target, tmp_path: Path) -> None:
    target = make_target(tmp_path)
    write(target)
    whole = target.path.read_bytes()
    beside = sidecar_path(target.path)
    beside.unlink()
    # Killed between the file and its sidecar.
    assert is_done(target) and read_sidecar(beside).files[0].size == len(whole)
    target.path.write_bytes(whole[:-9] + b"\x00" + whole[-8:])
    with pytest.raises(NotAsWritten, match="not overwritten"):
        is_done(target)
    target.path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    with pytest.raises(NotAsWritten, match="another SHA-256"):
        is_done(target)
    target.path.write_bytes(b"something else")
    with pytest.raises(NotAsWritten, match="no episode"):
        is_done(target)
    with pytest.raises(Exception, match="exists already and is not overwritten"):
        write(target)
    assert target.path.read_bytes() == b"something else"


def test_an_interruption_leaves_nothing(make_target, tmp_path: Path) -> None:
    target = make_target(tmp_path)
    shares: list[float] = []

    def ask(share: float) -> bool:
        shares.append(share)
        return share < 0.5

    with pytest.raises(Interrupted):
        write(target, ask)
    assert 0.5 <= shares[-1] < 0.7 and shares == sorted(shares)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_run_left_is_made_anew_and_a_live_one_is_waited_for(
    make_target, tmp_path: Path
) -> None:
    target = make_target(tmp_path)
    file = EpisodeFile(target.path)
    file.open()
    with pytest.raises(NotAsWritten, match="being written by another run"):
        write(target)
    file.abandon()
    assert file.active_path.exists()
    write(target)
    assert is_done(target) and not file.active_path.exists()
    with file.path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_settings_are_those_of_the_recording(record_trainer, tmp_path: Path) -> None:
    station = {
        "deadman": "squeeze",
        "engage_mode": "relative",
        "stale_s": 0.2,
        "robot": "g1",
        "deadman_button": 3,
    }
    file = record_trainer(tmp_path / "one.mcap", trainer(0.1), station=station)
    assert recorded_settings(read_recording_head(file)) == {
        "deadman": "squeeze",
        "engage_mode": "relative",
        "stale_s": 0.2,
    }
    assert json.dumps(station)
