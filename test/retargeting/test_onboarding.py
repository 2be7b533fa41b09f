"""Laws of onboarding: names and the base's axes may be anything; geometry decides with them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import RetargetingError
from retargeting.frames import (
    matrix_from_pose,
    pose_from_xyz_rpy,
    quaternion_from_rotation_vector,
    rotation_matrix_from_quaternion,
)
from retargeting.onboarding.body import Body, infer_body
from retargeting.onboarding.evidence import Vote, decide
from retargeting.onboarding.name_signs import side_of
from retargeting.onboarding.robot_yaml_writer import rpy_from_rotation
from retargeting.onboarding.skeleton import build_skeleton, rounded_inside, travel
from retargeting.onboarding.workspace import reachable_wrists
from retargeting.robot_model import load_robot
from retargeting.urdf import Joint, load_urdf

KESTREL = Path(__file__).resolve().parents[2] / "robot_descriptions" / "kestrel"


def body_of(text: str, folder: Path) -> Body:
    file = folder / "robot.urdf"
    file.write_text(text, encoding="utf-8")
    return infer_body(load_urdf(file), find_posture=False)


def kestrel_text() -> str:
    return (KESTREL / "kestrel.urdf").read_text(encoding="utf-8")


def turned(text: str, yaw_rad: float) -> str:
    """The robot on a new root, turned about its z."""
    base = (
        '<link name="new_root"/><joint name="mount" type="fixed"><parent link="new_root"/>'
        f'<child link="{load_urdf(KESTREL / "kestrel.urdf").root}"/>'
        f'<origin xyz="0 0 0" rpy="0 0 {yaw_rad}"/></joint></robot>'
    )
    return text.replace("</robot>", base)


def anonymous(text: str) -> str:
    """Joints and links by number, as some makers do."""
    root = ElementTree.fromstring(text)
    names: dict[str, str] = {}
    for kind in ("link", "joint"):
        for k, element in enumerate(root.findall(kind)):
            names[f"{kind} {element.get('name')}"] = f"{kind}{k}"
    for joint in root.findall("joint"):
        joint.set("name", names[f"joint {joint.get('name')}"])
        for tag in ("parent", "child"):
            element = joint.find(tag)
            assert element is not None
            element.set("link", names[f"link {element.get('link')}"])
        mimic = joint.find("mimic")
        if mimic is not None:
            mimic.set("joint", names[f"joint {mimic.get('joint')}"])
    for link in root.findall("link"):
        link.set("name", names[f"link {link.get('name')}"])
    return ElementTree.tostring(root, encoding="unicode")


def numbered(name: str) -> str:
    """The number that `anonymous` gives a joint of kestrel."""
    root = ElementTree.fromstring(kestrel_text())
    return f"joint{[joint.get('name') for joint in root.findall('joint')].index(name)}"


@pytest.fixture(scope="module")
def kestrel_body() -> Body:
    return infer_body(load_urdf(KESTREL / "kestrel.urdf"))


def test_our_own_robot_is_found_as_it_was_described_by_hand(kestrel_body: Body) -> None:
    model = load_robot(KESTREL / "robot.yaml")
    chains = model.description.chains
    assert kestrel_body.waist == chains["waist"]
    assert kestrel_body.head_joints == chains["head"]
    for side in ("left", "right"):
        arm = kestrel_body.arms[side]
        assert arm.joints == chains[f"{side}_arm"]
        positions = model.neutral_positions()
        posture = kestrel_body.skeleton.posture(positions)
        for part, site, allowed_m in (
            ("shoulder", arm.shoulder, 0.02),
            ("elbow", arm.elbow, 0.02),
            ("wrist", arm.wrist, 0.005),
        ):
            assert site is not None
            wanted = model.site_pose(f"{side}_{part}", positions)
            found = kestrel_body.site_position(site, posture)
            assert np.linalg.norm(found - wanted[:3]) < allowed_m, part
        wanted = rotation_matrix_from_quaternion(model.site_pose(f"{side}_wrist", positions)[3:])
        found = posture.rotation(arm.wrist.link) @ matrix_from_pose(arm.wrist.pose)[:3, :3]
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        (joint,) = arm.hand.joints
        ends = model.description.grippers[side].joints[joint]
        assert arm.hand.joints[joint] == pytest.approx((ends.closed, ends.open), abs=1e-3)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_robot_may_face_along_any_axis_of_its_root(quarter: int, tmp_path: Path) -> None:
    yaw = quarter * np.pi / 2
    body = body_of(turned(kestrel_text(), yaw), tmp_path)
    np.testing.assert_allclose(body.forward, [np.cos(yaw), np.sin(yaw), 0.0], atol=1e-9)
    assert body.arms["left"].joints[0].startswith("left")


@pytest.mark.parametrize("quarter", [0, 2])
def test_names_may_say_nothing(quarter: int, tmp_path: Path) -> None:
    """Arms, elbows, wrists, head and waist by geometry alone; which of them is left needs where it faces."""
    yaw = quarter * np.pi / 2
    body = body_of(anonymous(turned(kestrel_text(), yaw)), tmp_path)
    first = {side: numbered(f"{side}_shoulder_pitch") for side in ("left", "right")}
    by_first = {arm.joints[0]: arm for arm in body.arms.values()}
    assert set(by_first) == set(first.values())
    for side in ("left", "right"):
        arm = by_first[first[side]]
        assert arm.elbow_joint == numbered(f"{side}_elbow_pitch")
        assert arm.joints[-1] == numbered(f"{side}_wrist_roll")
        assert arm.hand.kind == "gripper"
    assert body.waist == (numbered("waist_yaw"), numbered("waist_pitch"))
    assert body.head_joints == (numbered("head_yaw"), numbered("head_pitch"))
    np.testing.assert_allclose(body.forward, [np.cos(yaw), 0.0, 0.0], atol=1e-9)
    assert body.arms["left"].joints[0] == first["left"]


def test_sides_that_names_and_geometry_disagree_on_are_not_sure(tmp_path: Path) -> None:
    """Left and right swapped in the names of a robot that bends and nods ahead."""
    swapped = re.sub(
        "left|right", lambda match: {"left": "right", "right": "left"}[match.group()], kestrel_text()
    )
    body = body_of(swapped, tmp_path)
    facing = next(finding for finding in body.findings if finding.what.startswith("it faces"))
    assert not facing.sure


def test_the_neutral_posture_is_inside_the_limits_with_the_hands_ahead(kestrel_body: Body) -> None:
    joints = kestrel_body.skeleton.urdf.joints
    for name, value in kestrel_body.neutral_posture.items():
        assert joints[name].lower <= value <= joints[name].upper
    for arm in kestrel_body.arms.values():
        wrist = kestrel_body.site_position(arm.wrist, kestrel_body.neutral)
        shoulder = kestrel_body.site_position(arm.shoulder, kestrel_body.neutral)
        assert float((wrist - shoulder) @ kestrel_body.forward) > 0.4 * arm.length_m
        assert float((wrist - shoulder) @ kestrel_body.up) < 0.0


def test_no_reachable_wrist_is_farther_than_the_arm_is_long(kestrel_body: Body) -> None:
    for side, arm in kestrel_body.arms.items():
        points = reachable_wrists(kestrel_body, side, samples=300)
        shoulder = kestrel_body.site_position(arm.shoulder, kestrel_body.neutral)
        assert np.linalg.norm(points - shoulder, axis=1).max() <= arm.length_m * 1.02


def test_a_robot_without_arms_is_refused_with_what_was_found(tmp_path: Path) -> None:
    links = "".join(f'<link name="l{k}"/>' for k in range(3))
    joints = "".join(
        f'<joint name="wheel{k}" type="continuous"><parent link="l0"/><child link="l{k}"/></joint>'
        for k in (1, 2)
    )
    with pytest.raises(RetargetingError, match=r"no arm was found.*wheel1"):
        body_of(f'<robot name="cart">{links}{joints}</robot>', tmp_path)


def test_a_robot_of_one_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetargetingError, match="no arm was found"):
        body_of('<robot name="stone"><link name="stone"/></robot>', tmp_path)


@pytest.mark.parametrize(
    ("names", "side"),
    [
        (("left_s0", "left_s1"), "left"),
        (("LShoulderPitch", "LElbowYaw"), "left"),
        (("RARM_SHOULDER_P", "RARM_ELBOW"), "right"),
        (("arml_sho1_joint", "handl_finger_index1_joint"), "left"),
        (("J_arm_r_01", "J_arm_r_02"), "right"),
        (("gripper_left_outer_finger_right_joint", "arm_left_1_joint"), "left"),
        (("wheel", "finger", "roller"), ""),
        (("joint1", "joint2"), ""),
        (("left_a", "right_b"), ""),
    ],
)
def test_sides_in_names(names: tuple[str, ...], side: str) -> None:
    assert side_of(names) == side


def test_one_sign_alone_is_not_sure() -> None:
    assert decide([Vote("a", 1.0, "x")], {"a": 0, "b": 0}) == ("a", "x", False)
    assert decide([Vote("a", 4.0, "x"), Vote("b", 1.0, "y")], {"a": 0, "b": 0})[2]
    assert not decide([Vote("a", 4.0, "x"), Vote("b", 2.0, "y")], {"a": 0, "b": 0})[2]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3))
def test_rpy_is_the_rotation_it_was_read_from(vector: list[float]) -> None:
    rotation = rotation_matrix_from_quaternion(quaternion_from_rotation_vector(vector))
    again = matrix_from_pose(pose_from_xyz_rpy([0.0] * 3, rpy_from_rotation(rotation)))[:3, :3]
    np.testing.assert_allclose(again, rotation, atol=1e-7)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.floats(-3.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 1.0))
def test_rounding_never_leaves_the_limits(lower: float, span: float, share: float) -> None:
    joint = Joint(
        "j", "revolute", "a", "b", np.zeros(7), np.array([1.0, 0, 0]), lower, lower + max(span, 1e-3)
    )
    value = joint.lower + share * (joint.upper - joint.lower)
    rounded = rounded_inside(joint, min(max(value, joint.lower), joint.upper))
    assert joint.lower <= rounded <= joint.upper
    assert abs(rounded - value) <= 2e-4


def test_a_skeleton_places_links_as_the_model_does(kestrel_body: Body) -> None:
    """Against the model's own forward kinematics, at a random posture."""
    model = load_robot(KESTREL / "robot.yaml")
    skeleton = build_skeleton(model.urdf)
    rng = np.random.default_rng(3)
    positions = {
        name: float(rng.uniform(*travel(model.urdf.joints[name]))) for name in model.movable_joint_names
    }
    poses, posture = model.link_poses(positions), skeleton.posture(positions)
    for link, pose in poses.items():
        np.testing.assert_allclose(posture.link_pose(link)[:3], pose[:3], atol=1e-12)


def test_a_hand_alone_is_said_to_be_one(tmp_path: Path) -> None:
    """Three short chains on a palm, named as fingers are and not named at all."""
    for stem in ("finger", "joint_"):
        parts = ['<link name="palm"/>']
        for k in range(3):
            before = "palm"
            for part in range(3):
                link = f"{stem}{k}{part}_link"
                parts.append(
                    f'<link name="{link}"/><joint name="{stem}{k}{part}" type="revolute">'
                    f'<parent link="{before}"/><child link="{link}"/><axis xyz="0 1 0"/>'
                    f'<origin xyz="0.04 {0.02 * k if part == 0 else 0} 0"/>'
                    '<limit lower="0" upper="1.5" effort="1" velocity="1"/></joint>'
                )
                before = link
        with pytest.raises(RetargetingError, match="a hand alone"):
            body_of(f'<robot name="hand">{"".join(parts)}</robot>', tmp_path)
