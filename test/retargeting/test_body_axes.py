"""`axes` of robot.yaml: a robot whose root points elsewhere is driven as the same robot turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import InvalidConfiguration
from retargeting.frames import pose_compose, pose_from_xyz_rpy, rotate
from retargeting.onboarding.synthetic_trainer import DURATION_S, synthetic_frame
from retargeting.robot_description import BodyAxes
from retargeting.robot_model import RobotModel, load_robot
from retargeting.trainer_size import measure_trainer
from retargeting.trainer_to_robot import TrainerToRobot, measure_robot

KESTREL = Path(__file__).resolve().parents[2] / "robot_descriptions" / "kestrel"
# The root's x points backwards and up is its -y: forward and up of the body in it.
TURN_RPY = (np.pi / 2, 0.0, np.pi / 2)


def described(folder: Path, axes: str, urdf: str = "kestrel.urdf") -> Path:
    text = (
        (KESTREL / "robot.yaml")
        .read_text("utf-8")
        .replace("urdf: {file: kestrel.urdf}", f"urdf: {{file: {urdf}}}")
    )
    file = folder / "robot.yaml"
    file.write_text(text + axes, "utf-8")
    return file


@pytest.fixture(scope="module")
def straight() -> RobotModel:
    return load_robot(KESTREL / "robot.yaml")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> RobotModel:
    folder = tmp_path_factory.mktemp("turned")
    roll, pitch, yaw = TURN_RPY
    base = (
        '<link name="mount"/><joint name="mounted" type="fixed"><parent link="mount"/><child link="pelvis"/>'
        f'<origin xyz="0 0 0" rpy="{roll} {pitch} {yaw}"/></joint></robot>'
    )
    text = (KESTREL / "kestrel.urdf").read_text("utf-8").replace("</robot>", base)
    (folder / "turned.urdf").write_text(text, "utf-8")
    turn = pose_from_xyz_rpy([0.0] * 3, TURN_RPY)
    forward, up = (np.round(rotate(turn[3:], axis), 9).tolist() for axis in ([1.0, 0, 0], [0, 0, 1.0]))
    return load_robot(described(folder, f"axes: {{forward: {forward}, up: {up}}}\n", "turned.urdf"))


@settings(derandomize=True, max_examples=25, deadline=None)
@given(time_s=st.floats(0.0, DURATION_S))
def test_targets_are_those_of_the_robot_turned(
    straight: RobotModel, turned: RobotModel, time_s: float
) -> None:
    frame = synthetic_frame(time_s, 1)
    size = measure_trainer(frame)
    body = measure_robot(straight, samples=50)
    turn = pose_from_xyz_rpy([0.0] * 3, TURN_RPY)
    plain = TrainerToRobot(straight, size, body).targets(frame)
    other = TrainerToRobot(turned, size, measure_robot(turned, samples=50))
    targets = other.targets(frame)
    for side, pose in plain.wrists.items():
        expected = pose_compose(turn, pose)
        np.testing.assert_allclose(targets.wrists[side][:3], expected[:3], atol=1e-6)
        assert abs(float(targets.wrists[side][3:] @ expected[3:])) == pytest.approx(1.0, abs=1e-9)
        np.testing.assert_allclose(
            targets.elbow_directions[side], rotate(turn[3:], plain.elbow_directions[side]), atol=1e-9
        )
        back = other.trainer_wrist_for(frame, side, targets.wrists[side])
        np.testing.assert_allclose(back[:3], frame.poses[f"{side}_wrist"][:3], atol=1e-9)
        assert abs(float(back[3:] @ frame.poses[f"{side}_wrist"][3:])) == pytest.approx(1.0, abs=1e-9)


def test_the_default_is_x_ahead_and_z_up() -> None:
    np.testing.assert_allclose(BodyAxes().rotation_body_to_root, [0.0, 0.0, 0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("axes: {forward: [2, 0, 0]}", "outside"),
        ("axes: {forward: [0.5, 0, 0]}", "length 1"),
        ("axes: {forward: [0, 0, 1]}", "not across forward"),
        ("axes: {forward: [1, 0]}", "list of 3 numbers"),
        ("axes: {ahead: [1, 0, 0]}", "unknown key"),
    ],
)
def test_bad_axes_are_problems(axes: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "kestrel.urdf").write_text((KESTREL / "kestrel.urdf").read_text("utf-8"), "utf-8")
    with pytest.raises(InvalidConfiguration, match=said):
        load_robot(described(tmp_path, axes + "\n"))
