"""Every registered robot that `onboard` described is what `onboard` writes today; what is added says so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from retargeting.onboarding.body import infer_body
from retargeting.onboarding.cli import relative_origin
from retargeting.onboarding.robot_yaml_writer import HEADING, robot_yaml
from retargeting.onboarding.urdf_origin import find_origin
from retargeting.registered_robots import registered_robots
from retargeting.robot_description import load_robot_description
from retargeting.urdf import load_urdf

BY_HAND = "# Added by hand"
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
FOLDER = Path(__file__).resolve().parents[2] / "robot_descriptions"
ROBOTS = {robot.name: robot for robot in registered_robots(FOLDER)}
WRITTEN = [name for name in ROBOTS if HEADING in (FOLDER / name / "robot.yaml").read_text("utf-8")]


def test_all_but_our_own_and_one_were_written_by_onboard() -> None:
    assert set(ROBOTS) - set(WRITTEN) == {"g1", "kestrel"}


@pytest.mark.parametrize("name", WRITTEN)
def test_no_line_was_edited_by_hand(name: str) -> None:
    if not ROBOTS[name].usable:
        pytest.skip(f"{name}: {ROBOTS[name].state}")
    file = ROBOTS[name].file
    urdf_file = load_robot_description(file).urdf_file
    body = infer_body(load_urdf(urdf_file, tuple(urdf_file.resolve().parents)))
    text = robot_yaml(name, body, relative_origin(find_origin(urdf_file), file.parent))
    kept = file.read_text("utf-8").split(BY_HAND)[0]
    assert _words(text) == _words(kept)
    # Postures are searched for: another machine, or a better solver, ends a hair aside.
    np.testing.assert_allclose(_numbers(text), _numbers(kept), rtol=0.02, atol=0.02)
    assert yaml.safe_load(text)["name"] == name


def _words(text: str) -> list[str]:
    return NUMBER.split(text)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]
