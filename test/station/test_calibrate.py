"""`station calibrate` with a made-up trainer instead of a device."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from capture_nodes import calibrate as module
from capture_nodes.calibrate import calibrate, lead
from retargeting.calibration import Calibration, CalibrationStep
from retargeting.motion_frame import MotionFrame
from retargeting.trainer_store import TrainerStore


class MadeUp:
    """A suit whose wearer does what is asked: `asked` says what."""

    def __init__(self, asked, bent_m: float = 0.0) -> None:
        self._asked, self._bent_m = asked, bent_m
        self._k = 0
        self.report = {"suit": "made up"}
        self.felt: list[tuple[str, float]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rumble(self, side: str, intensity: float) -> None:
        self.felt.append((side, intensity))

    def wait_frame(self, timeout_s: float) -> MotionFrame | None:
        self._k += 1
        step = self._asked()
        poses = {"head": np.array([0.0, 0.0, 1.64, 0.0, 0.0, 0.0, 1.0])}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            at = np.array([0.0, 0.19 * sign, 1.43])
            direction = {
                CalibrationStep.OUT: np.array([0.0, sign, 0.0]),
                CalibrationStep.FORWARD: np.array([1.0, 0.0, 0.0]),
            }.get(step, np.array([0.0, 0.0, -1.0]))
            at = at + 0.58 * direction
            if step is CalibrationStep.FORWARD:
                at = at + np.array([0.0, 0.0, -self._bent_m * sign])
            poses[f"{side}_wrist"] = np.array([*at, 0.0, 0.0, 0.0, 1.0])
        return MotionFrame(self._k, poses)


class Seen(MadeUp):
    """A headset: what it is shown is kept."""

    watched = True

    def __init__(self, asked, bent_m: float = 0.0) -> None:
        super().__init__(asked, bent_m)
        self.shown: list[dict[str, object]] = []

    def show(self, status) -> None:
        self.shown.append(status["calibration"])

    def show_picture(self, camera: str, captured_s: float, jpeg: bytes) -> None:
        raise AssertionError("there is no camera in a calibration")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch):
    """Calibrate with a made-up wearer, on a clock that runs by itself."""
    worn: list[MadeUp] = []

    def use(bent_m: float = 0.0, kind: type[MadeUp] = MadeUp) -> list[MadeUp]:
        calibrations: list[Calibration] = []

        class Watched(Calibration):
            def __init__(self) -> None:
                super().__init__()
                calibrations.append(self)

        ticks = iter(range(10**9))
        monkeypatch.setattr(module, "Calibration", Watched)

        def wear(*_: object) -> MadeUp:
            worn.append(kind(lambda: calibrations[0].step, bent_m))
            return worn[0]

        monkeypatch.setattr(module, "live_source", wear)
        monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks) / 300.0)
        return worn

    yield use
    assert time.monotonic() >= 0.0


def test_a_trainer_is_led_through_and_kept(made_up, tmp_path: Path, capsys) -> None:
    made_up()
    assert calibrate(["operator:=anna", "source:=mocap", f"trainer_folder:={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "1/5  Stand upright" in said and "4/5  Stretch both arms forward" in said
    size = TrainerStore(tmp_path).load("anna")
    assert size is not None and size.arm_m("left") == pytest.approx(0.58, abs=1e-3)
    kept = yaml.safe_load((tmp_path / "anna.calibration.yaml").read_text())
    assert kept["operator"] == "anna" and kept["source"] == "mocap"
    assert max(kept["residuals_m"]["left"].values()) < 0.005
    assert kept["shoulder_width_m"] == pytest.approx(0.38, abs=1e-3)


def test_a_bad_one_is_refused_and_nothing_is_kept(made_up, tmp_path: Path, capsys) -> None:
    made_up(bent_m=0.2)
    assert calibrate(["operator:=anna", "source:=mocap", f"trainer_folder:={tmp_path}"]) == 1
    assert "forward left: the hand was" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_headset_shows_each_step_and_what_came_of_it(made_up, tmp_path: Path) -> None:
    worn = made_up(kind=Seen)
    assert calibrate(["operator:=anna", "source:=mocap", f"trainer_folder:={tmp_path}"]) == 0
    *steps, outcome = worn[0].shown
    assert list(dict.fromkeys(said["name"] for said in steps)) == [
        "stand",
        "arms_down",
        "arms_out",
        "forward",
    ]
    assert [said["step"] for said in steps] == sorted(said["step"] for said in steps)
    assert {said["of"] for said in steps} == {5} and "forward" in steps[-1]["instruction"]
    assert all(0.0 <= said["held"] <= 1.0 and 0.0 <= said["left_s"] <= 1.0 for said in steps)
    assert max(said["held"] for said in steps) > 0.5
    assert outcome["outcome"] == "kept" and outcome["lines"][0].startswith("left arm 58.0 cm")
    # A tick for every step that was held, and nothing rumbles on.
    for side in ("left", "right"):
        felt = [intensity for at, intensity in worn[0].felt if at == side]
        assert sum(intensity > 0.0 for intensity in felt) == 4 and felt[-1] == 0.0


def test_a_headset_shows_why_one_is_refused(made_up, tmp_path: Path) -> None:
    worn = made_up(bent_m=0.2, kind=Seen)
    assert calibrate(["operator:=anna", "source:=mocap", f"trainer_folder:={tmp_path}"]) == 1
    outcome = worn[0].shown[-1]
    assert outcome["outcome"] == "refused" and "the hand was" in outcome["lines"][0]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "operator:=… is missing"),
        (["operator:=anna", "source:=mocap", "robot:=g1"], "argument 'robot:=g1'"),
        (["operator:=anna", "source:=mocap", "operator:=b"], "given twice"),
        (["operator:=anna", "source:=mocap", "scale:=big"], "scale:=big: a number is expected"),
        (["operator:=../anna", "source:=mocap"], "operator '../anna'"),
        (["operator:=anna", "source:=mocpa"], "Did you mean 'mocap'"),
        (["operator:=anna", "source:=mocap", "address:=udp://0.0.0.0:1"], "name who may send"),
        (["operator:=anna", "source:=bvh", "file:=/nowhere.bvh"], "there is no such file"),
    ],
)
def test_what_cannot_be_used_is_told(words: list[str], problem: str, tmp_path: Path, capsys) -> None:
    assert calibrate([*words, f"trainer_folder:={tmp_path}"]) == 2
    assert problem in capsys.readouterr().err


def test_hints_are_told_now_and_then() -> None:
    pose = np.array([0.0, 0.0, 1.6, 0.0, 0.0, 0.0, 1.0])
    frames = ((k / 10.0, MotionFrame(k + 1, {"head": pose})) for k in range(100))
    said = list(lead(Calibration(), frames))
    assert said == [
        "1/5  Stand upright and look straight ahead.",
        "     not tracked: left_wrist, right_wrist",
    ]
