"""robot.yaml: what ships loads; what is wrong is listed whole, with file, key and the way out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from retargeting.errors import InvalidConfiguration
from retargeting.robot_description import MobileBase
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
            "left: {joints: {left_finger_inner: {closed: 0.0, open: 0.05}}}",
            "left: {}",
            "grippers.left.joints: at",
        ),
        (
            "left_finger_inner: {closed: 0.0, open: 0.05}",
            "",
            "grippers.left.joints: at least one joint is expected; a hand without joints is no gripper",
        ),
        (
            "left_wrist: {link: left_hand,",
            "left_wrist: {link: right_hand,",
            "sites.left_wrist.link: 'right_hand' is not carried by 'left_wrist_roll', the last joint of",
        ),
        (
            "left_wrist: {link: left_hand,",
            "left_wrist: {link: pelvis,",
            "name 'left_hand' or a link beyond it",
        ),
        (
            "left_shoulder: {link: left_upper_arm",
            "left_shoulder: {link: left_hand",
            "sites.left_shoulder.link: 'left_hand' is carried by 7 joints of the arm, a shoulder by 6",
        ),
        (
            "left_shoulder: {link: left_upper_arm",
            "left_shoulder: {link: right_upper_arm",
            "sites.left_shoulder.link: 'right_upper_arm' is carried by the other arm",
        ),
        (
            "left_elbow: {link: left_forearm",
            "left_elbow: {link: left_upper_arm",
            "sites.left_elbow: is the same point of 'left_upper_arm' as left_shoulder",
        ),
        (
            "urdf: {file: kestrel.urdf}",
            "urdf: {package: no-such-package, file: x.urdf}",
            "pip install no-such-package",
        ),
        ("chains:", "chains: [", "not valid YAML"),
        ("rows: 6", "rows: many", "a finite number is expected"),
        ("rows: 6", "rows: -6", "outside 1 .. 256"),
        ("sensors:", "simulation: {shapes: capsules}\nsensors:", "simulation.shapes: unknown key"),
        ("sensors:", "simulation: {fixed_link: pelvis}\nsensors:", "simulation.fixed_link: unknown key"),
        (
            "name: kestrel",
            "name: kestrel-2",
            "name: 'kestrel-2' cannot name a topic: letters, digits and '_'",
        ),
        ("name: kestrel", "name: 2kestrel", "name: '2kestrel' cannot name a topic"),
        ("name: kestrel", "name: trainer", "name: 'trainer' is where the trainer's own topics are"),
        ("left_wrist: {link: left_hand}", "left wrist: {link: left_hand}", "sensors.wrenches.left wrist: "),
        ("left_inner:", "left/inner:", "sensors.tactile.left/inner: 'left/inner' cannot name a topic"),
        (
            "head: {link: head, xyz_m: [0.095",
            "3d: {link: head, xyz_m: [0.095",
            "sensors.cameras.3d: '3d' cannot",
        ),
        (
            "left: {joints: {left_finger_inner:",
            "left: {joints: {left_elbow_pitch: {closed: -1, open: 0}, left_finger_inner:",
            "grippers.left.joints.left_elbow_pitch: the joint is already in chains.left_arm",
        ),
        (
            "right: {joints: {right_finger_inner: {",
            "right: {joints: {left_finger_inner: {closed: 0, open: 0.05}, right_finger_inner: {",
            "grippers.right.joints.left_finger_inner: the joint is already in grippers.left",
        ),
        (
            "  left_shoulder: {link: left_upper_arm, rpy_rad: [0, 1.5707963, 0]}\n",
            "",
            "left_arm is given but the site left_shoulder is not",
        ),
        ("horizontal_fov_rad: 1.4", "horizontal_fov_rad: 80", "is it in degrees?"),
        (
            "sensors:",
            "command_interface: {kind: velocity}\nsensors:",
            "kind: 'velocity' is none of joint_state",
        ),
        (
            "sensors:",
            "command_interface: {kind: joint_trajectory}\nsensors:",
            "kind joint_trajectory needs at least one controller",
        ),
        (
            "sensors:",
            "command_interface: {controllers: {a: {topic: a/commands, joints: [waist_pitch]}}}\nsensors:",
            "kind joint_state has no controllers",
        ),
        (
            "sensors:",
            "command_interface: {kind: float64_multi_array, controllers: "
            "{a: {topic: a/commands, joints: [waist_pich]}}}\nsensors:",
            "joint 'waist_pich' is in no chain and no gripper",
        ),
        (
            "sensors:",
            "command_interface: {kind: float64_multi_array, controllers: {a: {topic: a/commands, "
            "joints: [waist_pitch]}, b: {topic: b/commands, joints: [waist_pitch]}}}\nsensors:",
            "controllers.b.joints: joint 'waist_pitch' is already in a",
        ),
        (
            "sensors:",
            "command_interface: {kind: float64_multi_array, controllers: "
            "{a: {topic: a-b/commands, joints: [waist_pitch]}}}\nsensors:",
            "controllers.a.topic: 'a-b' cannot name a topic",
        ),
        ("sensors:", "base: {topic: cmd-vel}\nsensors:", "base.topic: 'cmd-vel' cannot name a topic"),
        ("sensors:", "base: {linear: 1}\nsensors:", "base.linear: unknown key; did you mean 'linear_m_s'?"),
        ("sensors:", "base: {linear_m_s: 30}\nsensors:", "base.linear_m_s: 30 is outside 0.01 .. 3"),
        ("sensors:", "base: {angular_rad_s: 45}\nsensors:", "is it in degrees?"),
        ("sensors:", "base: cmd_vel\nsensors:", "base: a mapping of keys to values is expected"),
        (
            "sensors:",
            "base: {topic: w/commands}\ncommand_interface: {kind: float64_multi_array, controllers: "
            "{a: {topic: w/commands, joints: [waist_pitch]}}}\nsensors:",
            "base.topic: 'w/commands' is also command_interface.controllers.a.topic",
        ),
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


def test_a_base_is_driven_only_where_it_is_named(folder):
    assert load_robot(folder / "robot.yaml").description.base is None
    file = folder / "robot.yaml"
    text = file.read_text()
    file.write_text(f"{text}base: {{}}\n")
    assert load_robot(file).description.base == MobileBase()
    file.write_text(f"{text}base: {{topic: /wheels/cmd_vel, lateral_m_s: 0.3}}\n")
    assert load_robot(file).description.base == MobileBase("/wheels/cmd_vel", lateral_m_s=0.3)


def test_a_lower_cap_needs_its_reason(folder):
    text = refused(folder, "sensors:", "limits: {joints: {waist_yaw: {velocity: 1.0}}}\nsensors:")
    assert "limits.joints.waist_yaw.reason" in text


@pytest.mark.parametrize(
    ("cap", "usual"),
    [
        ("velocity_rad_s: 8", "velocity_rad_s 8 is above 6"),
        ("acceleration_rad_s2: 31", "acceleration_rad_s2 31 is above 30"),
        ("velocity_m_s: 0.6", "velocity_m_s 0.6 is above 0.5"),
        ("acceleration_m_s2: 6", "acceleration_m_s2 6 is above 5"),
    ],
)
def test_a_raised_cap_of_all_joints_needs_its_reason(folder, cap, usual):
    text = refused(folder, "sensors:", f"limits: {{{cap}}}\nsensors:")
    assert "limits.reason" in text and usual in text
    file = folder / "robot.yaml"
    file.write_text(file.read_text().replace(cap, f"{cap}, reason: measured on the real robot", 1))
    assert load_robot(file).description.limits.reason == "measured on the real robot"


def test_lower_caps_of_all_joints_need_no_reason(folder):
    file = folder / "robot.yaml"
    file.write_text(file.read_text().replace("sensors:", "limits: {velocity_rad_s: 2}\nsensors:", 1))
    assert load_robot(file).velocity.max() <= 2.0


RANGE = "limits: {joints: {left_elbow_pitch: {lower: -2, upper: -0.5, reason: a sleeve is in the way}}}\n"


def test_a_range_of_robot_yaml_narrows_the_urdfs(folder):
    file = folder / "robot.yaml"
    file.write_text(file.read_text() + RANGE)
    model = load_robot(file)
    i = model.joint_names.index("left_elbow_pitch")
    assert (model.lower[i], model.upper[i]) == (-2.0, -0.5)
    # Whoever reads the URDF's joints (simulation, the arms' length) sees the same range.
    assert model.urdf.joints["left_elbow_pitch"].upper == -0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("upper: -0.5", "upper: 3", "-2 .. 3 leaves the URDF's"),
        ("lower: -2", "lower: -2.6", "leaves the URDF's"),
        ("upper: -0.5", "upper: -2", "lower -2 must be below upper -2"),
        ("upper: -0.5", "upper: -60", "is it in degrees?"),
        ("upper: -0.5", "upper: .nan", "a finite number is expected"),
        ("reason: a sleeve is in the way", "", "limits.joints.left_elbow_pitch.reason: text is expected"),
        ("left_elbow_pitch", "left_elbow_pich", "joint 'left_elbow_pich' is not in kestrel.urdf"),
        ("upper: -0.5", "upper: -1.8", "left_elbow_pitch: -1.7 is outside the limits -2 .. -1.8"),
    ],
)  # fmt: skip
def test_a_range_that_cannot_be_is_refused(folder, old, new, message):
    file = folder / "robot.yaml"
    file.write_text(file.read_text() + RANGE.replace(old, new))
    with pytest.raises(InvalidConfiguration) as caught:
        load_robot(file)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["continuous", "revolute"])
def test_a_range_that_the_urdf_leaves_open_is_stated_in_robot_yaml(folder, kind):
    """Also where the URDF's velocity limit is a placeholder: the default cap stands in for it."""
    urdf, file = folder / "kestrel.urdf", folder / "robot.yaml"
    text = urdf.read_text()
    start = text.index('<joint name="left_elbow_pitch"')
    end = text.index("</joint>", start)
    joint = re.sub(r"<limit[^>]*>", '<limit velocity="1000" effort="1"/>', text[start:end])
    joint = joint.replace('"revolute"', f'"{kind}"')
    urdf.write_text(text[:start] + joint + text[end:])
    file.write_text(file.read_text() + RANGE)
    model = load_robot(file)
    i = model.joint_names.index("left_elbow_pitch")
    assert (model.lower[i], model.upper[i], model.velocity[i]) == (-2.0, -0.5, 6.0)
    file.write_text(file.read_text().replace("upper: -0.5,", "upper: -0.5, velocity: 2,"))
    assert load_robot(file).velocity[i] == 2.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file: kestrel.urdf", "file: kestrel.urdf, package_paths: [none]", "none is no folder"),
        ("file: kestrel.urdf", "file: kestrel.urdf, package_paths: none", "a list of names is expected"),
        ("file: kestrel.urdf", "file: kestrel.urdf, xacro_arguments: 3", "a mapping of keys to values"),
        ("file: kestrel.urdf", "file: package://none/kestrel.urdf", "does not exist"),
        ("file: kestrel.urdf", "file: kestrel.urdf, package: kestrl", "no ROS package of that name"),
        ("file: kestrel.urdf", "file: kestrel.urdf, packages: x", "did you mean 'package"),
    ],
)
def test_a_urdf_that_is_not_found_is_named(folder, old, new, message):
    assert message in refused(folder, old, new)


@pytest.mark.parametrize(
    "urdf",
    [
        "{file: 'package://kestrel_description/urdf/kestrel.urdf', package_paths: [../packages]}",
        "{package: kestrel_description, file: urdf/kestrel.urdf, package_paths: [../packages]}",
        "{package: kestrel_description, file: urdf/kestrel.urdf}",
    ],
)
def test_the_urdf_may_lie_in_a_ros_package(folder, tmp_path, monkeypatch, urdf):
    place = tmp_path / "packages" / "kestrel_description" / "urdf"
    if "package_paths" not in urdf:
        place = tmp_path / "prefix" / "share" / "kestrel_description" / "urdf"
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    place.mkdir(parents=True)
    shutil.move(folder / "kestrel.urdf", place)
    file = folder / "robot.yaml"
    file.write_text(file.read_text().replace("{file: kestrel.urdf}", urdf))
    assert load_robot(file).urdf.path.resolve() == (place / "kestrel.urdf").resolve()
