"""robot.yaml: what ships loads; what is wrong is listed whole, with file, key and the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from retargeting.errors import InvalidConfiguration
from retargeting.robot_model import RobotModel, load_robot

KESTREL = Path(__file__).resolve().parents[2] / "robot_descriptions" / "kestrel"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(KESTREL, tmp_path / "kestrel")
    return tmp_path / "kestrel"


def refused(folder: Path, old: str, new: str) -> str:
    file = folder / "robot.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidConfiguration) as caught:
        load_robot(file)
    assert "robot.yaml" in str(caught.value) or ".urdf" in str(caught.value)
    return str(caught.value)


def test_every_robot_that_ships_is_usable(model: RobotModel):
    assert (model.lower < model.upper).all()
    assert (model.neutral >= model.lower).all() and (model.neutral <= model.upper).all()
    assert (model.velocity > 0).all() and (model.velocity <= 6.0).all()
    assert (model.acceleration <= 30.0).all()
    for side in ("left", "right"):
        pose = model.site_pose(f"{side}_wrist", model.neutral_positions())
        assert np.isfinite(pose).all()
        # The two hands lie on their own sides, in front.
        assert pose[1] > 0.0 if side == "left" else pose[1] < 0.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("link: left_hand,", "link: left_hnd,", "link 'left_hnd' is not in kestrel.urdf"),
        ("left_elbow_pitch: -1.7", "left_elbow_pitch: -97", "is it in degrees?"),
        ("closed: 0.0", "closed: 45", "is it in degrees or millimetres?"),
        ("waist_pitch]", "waist_pich]", "joint 'waist_pich' is not in"),
        ("base_link: pelvis", "base_lnk: pelvis", "did you mean 'base_link'?"),
        ("file: kestrel.urdf", "file: kestrl.urdf", "does not exist"),
        (
            "urdf: {file: kestrel.urdf}",
            "urdf: {package: no-such-package, file: x.urdf}",
            "pip install no-such-package",
        ),
        ("chains:", "chains: [", "not valid YAML"),
        ("rows: 6", "rows: many", "a finite number is expected"),
        ("rows: 6", "rows: -6", "outside 1 .. 256"),
        ("shapes: urdf", "shapes: meshes", "none of urdf, capsules"),
        ("horizontal_fov_rad: 1.4", "horizontal_fov_rad: 80", "is it in degrees?"),
    ],
)
def test_a_mistake_gives_one_clear_line(folder, old, new, message):
    text = refused(folder, old, new)
    assert message in text
    assert "Traceback" not in text


def test_all_mistakes_are_listed_at_once(folder):
    file = folder / "robot.yaml"
    file.write_text(file.read_text().replace("closed: 0.0", "closed: 45").replace("rows: 6", "rows: 0"))
    with pytest.raises(InvalidConfiguration) as caught:
        load_robot(file)
    assert len(caught.value.problems) == 6


def test_a_lower_cap_needs_its_reason(folder):
    text = refused(folder, "simulation:", "limits: {joints: {waist_yaw: {velocity: 1.0}}}\nsimulation:")
    assert "limits.joints.waist_yaw.reason" in text
