"""BVH files made by the test, with forward kinematics computed by scipy, through the source."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from capture_nodes.sources.bvh_file import BvhError, read_bvh
from capture_nodes.sources.source import SourceError
from retargeting.frames import rotation_matrix_from_quaternion

# BVH (x left, y up, z forward) to trainer (x forward, y left, z up), written out independently.
TO_TRAINER = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


@dataclass
class Joint:
    name: str
    offset: tuple[float, float, float]
    children: list[Joint] = field(default_factory=list)
    order: str = "ZXY"
    end: tuple[float, float, float] | None = None
    position_channels: bool = False


ARMS_OUT = {"left": np.array([1.0, 0, 0]), "right": np.array([-1.0, 0, 0])}
ARMS_DOWN = {"left": np.array([0.0, -1, 0]), "right": np.array([0.0, -1, 0])}

CMU = {
    "pelvis": "Hips", "chest": "Spine1", "head": "Head", "collar": "{Side}Shoulder", "shoulder": "{Side}Arm",
    "elbow": "{Side}ForeArm", "wrist": "{Side}Hand", "hip": "{Side}UpLeg", "knee": "{Side}Leg",
    "ankle": "{Side}Foot",
}  # fmt: skip
NAMINGS = {
    "cmu": CMU,
    "mixamo": {part: "mixamorig:" + name for part, name in CMU.items()},
    "motionbuilder": {part: "Character1_" + name for part, name in CMU.items()},
    "smpl": {
        **CMU, "pelvis": "pelvis", "chest": "spine3", "head": "head", "collar": "{side}_collar",
        "shoulder": "{side}_shoulder", "elbow": "{side}_elbow", "wrist": "{side}_wrist", "hip": "{side}_hip",
        "knee": "{side}_knee", "ankle": "{side}_ankle",
    },
    "biovision": {
        **CMU, "collar": "{Side}Collar", "shoulder": "{Side}UpArm", "elbow": "{Side}LowArm",
        "hip": "{Side}UpLeg", "knee": "{Side}LowLeg",
    },
    "poser": {
        **CMU, "pelvis": "hip", "chest": "chest", "head": "head", "collar": "{s}Collar",
        "shoulder": "{s}Shldr",
        "elbow": "{s}ForeArm", "wrist": "{s}Hand", "hip": "{s}Thigh", "knee": "{s}Shin", "ankle": "{s}Foot",
    },
    "unity": {
        **CMU, "shoulder": "{Side}UpperArm", "elbow": "{Side}LowerArm", "hip": "{Side}UpperLeg",
        "knee": "{Side}LowerLeg",
    },
    "unreal": {
        **CMU, "pelvis": "pelvis", "chest": "spine_03", "head": "head", "collar": "clavicle_{s}",
        "shoulder": "upperarm_{s}", "elbow": "lowerarm_{s}", "wrist": "hand_{s}", "hip": "thigh_{s}",
        "knee": "calf_{s}", "ankle": "foot_{s}",
    },
    "biped": {
        **CMU, "pelvis": "Bip01 Pelvis", "chest": "Bip01 Spine1", "head": "Bip01 Head",
        "collar": "Bip01 {S} Clavicle", "shoulder": "Bip01 {S} UpperArm", "elbow": "Bip01 {S} Forearm",
        "wrist": "Bip01 {S} Hand", "hip": "Bip01 {S} Thigh", "knee": "Bip01 {S} Calf",
        "ankle": "Bip01 {S} Foot",
    },
    "asf": {
        **CMU, "pelvis": "root", "chest": "thorax", "head": "head", "collar": "{s}clavicle",
        "shoulder": "{s}humerus", "elbow": "{s}radius", "wrist": "{s}wrist", "hip": "{s}femur",
        "knee": "{s}tibia", "ankle": "{s}foot",
    },
}  # fmt: skip


def person(arms=ARMS_OUT, names=None, unit_m=0.01, legs=True):
    """A 1.7 m skeleton in BVH axes, in units of `unit_m`; returns the root and body point -> joint name."""
    names = names or CMU
    called: dict[str, str] = {}

    def name(part, side=""):
        words = {"side": side, "Side": side.capitalize(), "s": side[:1], "S": side[:1].upper()}
        called[f"{side}_{part}".lstrip("_")] = names[part].format(**words)
        return called[f"{side}_{part}".lstrip("_")]

    def at(*metres):
        return tuple(float(v) / unit_m for v in metres)

    head = Joint(name("head"), at(0, 0.25, 0), end=at(0, 0.2, 0))
    chest = Joint(name("chest"), at(0, 0.3, 0), [head])
    root = Joint(name("pelvis"), at(0, 0, 0), [chest])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        wrist = Joint(name("wrist", side), at(*(0.25 * arms[side])), end=at(*(0.1 * arms[side])))
        elbow = Joint(name("elbow", side), at(*(0.28 * arms[side])), [wrist])
        shoulder = Joint(name("shoulder", side), at(0.12 * sign, 0.02, 0), [elbow])
        chest.children.append(Joint(name("collar", side), at(0.05 * sign, 0.15, 0), [shoulder]))
        if legs:
            ankle = Joint(name("ankle", side), at(0, -0.4, 0), end=at(0, -0.06, 0.15))
            knee = Joint(name("knee", side), at(0, -0.42, 0), [ankle])
            root.children.append(Joint(name("hip", side), at(0.09 * sign, -0.05, 0), [knee]))
    return root, called


def walk(joint):
    yield joint
    for child in joint.children:
        yield from walk(child)


def write_bvh(path, root, angles_deg, root_positions, frame_time=1 / 60):
    """`angles_deg`: joint name -> (frames, 3) about the axes of `joint.order`."""
    lines = ["HIERARCHY"]

    def header(joint, depth):
        indent = "\t" * depth
        lines.append(f"{indent}{'JOINT' if depth else 'ROOT'} {joint.name}")
        lines.append(indent + "{")
        lines.append(f"{indent}\tOFFSET " + " ".join(repr(v) for v in joint.offset))
        turns = [f"{axis}rotation" for axis in joint.order]
        moves = ["Xposition", "Yposition", "Zposition"] if depth == 0 or joint.position_channels else []
        lines.append(f"{indent}\tCHANNELS {len(turns) + len(moves)} " + " ".join(moves + turns))
        for child in joint.children:
            header(child, depth + 1)
        if joint.end is not None:
            lines.extend([f"{indent}\tEnd Site", indent + "\t{"])
            lines.append(f"{indent}\t\tOFFSET " + " ".join(repr(v) for v in joint.end))
            lines.append(indent + "\t}")
        lines.append(indent + "}")

    header(root, 0)
    frames = len(root_positions)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {frame_time!r}"]
    for n in range(frames):
        values = []
        for joint in walk(root):
            if joint is root:
                values += list(root_positions[n])
            elif joint.position_channels:
                values += list(joint.offset)
            values += list(angles_deg.get(joint.name, np.zeros((frames, 3)))[n][: len(joint.order)])
        lines.append(" ".join(repr(float(v)) for v in values))
    path.write_text("\n".join(lines) + "\n")
    return path


def known_kinematics(root, angles_deg, root_positions):
    """Positions (frames, 3) and scipy rotations per joint name, in the file's axes and units."""
    frames = len(root_positions)
    found = {}

    def descend(joint, position, rotation):
        angles = angles_deg.get(joint.name, np.zeros((frames, 3)))[:, : len(joint.order)]
        local = (
            Rotation.from_euler(joint.order, angles, degrees=True)
            if joint.order
            else Rotation.identity(frames)
        )
        rotation = rotation * local
        found[joint.name] = (position, rotation)
        for child in joint.children:
            descend(child, position + rotation.apply(child.offset), rotation)

    descend(root, np.asarray(root_positions), Rotation.identity(frames))
    return found


def motion(root, rng, frames=12, spread_deg=25.0):
    """Smooth random angles; the root stands at the first frame without turning."""
    times = np.linspace(0.0, 1.0, frames)[:, None]
    angles = {}
    for joint in walk(root):
        angles[joint.name] = spread_deg * np.sin(rng.uniform(1, 4, 3) * times + rng.uniform(0, 6, 3))
    angles[root.name] = angles[root.name] - angles[root.name][0]
    height = 100.0 * np.linalg.norm(root.children[0].offset) / 30.0
    return angles, np.array([3.0, height, -2.0]) + 5.0 * times * rng.normal(size=3)


def still(root, frames=3, height=92.0):
    return {}, np.tile([0.0, height, 0.0], (frames, 1))


def axes_of(source, point, elapsed_s=0.0):
    return rotation_matrix_from_quaternion(source.poses_at(elapsed_s)[source.names.index(point), 3:])


# ---- forward kinematics


@seed(20)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**31),
    st.lists(st.sampled_from(["".join(p) for p in itertools.permutations("XYZ")]), min_size=17, max_size=17),
    st.booleans(),
)
def test_positions_are_those_of_an_independent_forward_kinematics(tmp_path, number, orders, moving_joints):
    rng = np.random.default_rng(number)
    root, called = person()
    for joint, order in zip(walk(root), itertools.cycle(orders), strict=False):
        joint.order, joint.position_channels = order, moving_joints
    angles, positions = motion(root, rng)
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, angles, positions)))
    known = known_kinematics(root, angles, positions)
    # The way into `trainer` is one rigid transform: found here from the first frame by three points.
    point_names = [p for p in source.names]
    ours = np.array([source.poses_at(n / 60) for n in range(len(positions))])
    theirs = 0.01 * np.stack([known[called[p]][0] for p in point_names], axis=1)
    gaps_ours = np.linalg.norm(ours[:, :, None, :3] - ours[:, None, :, :3], axis=-1)
    gaps_theirs = np.linalg.norm(theirs[:, :, None] - theirs[:, None], axis=-1)
    np.testing.assert_allclose(gaps_ours, gaps_theirs, atol=1e-9)
    # Gravity aligned: heights differ by one constant; and everything by one yaw and shift.
    heights = ours[..., 2] - theirs[..., 1]
    np.testing.assert_allclose(heights, heights[0, 0], atol=1e-9)
    flat_ours, flat_theirs = ours[..., :2].reshape(-1, 2), theirs[..., [2, 0]].reshape(-1, 2)
    a = (flat_ours - flat_ours[0]) @ [1, 1j]
    b = (flat_theirs - flat_theirs[0]) @ [1, 1j]
    turn = np.vdot(b, a) / np.vdot(b, b)
    assert abs(turn) == pytest.approx(1.0)
    np.testing.assert_allclose(a, turn * b, atol=1e-9)
    # Rotations: from the first frame to any other, the point turns as its joint does.
    yaw = Rotation.from_euler("z", np.angle(turn))
    world = yaw * Rotation.from_matrix(TO_TRAINER)
    for index, point in enumerate(point_names):
        turned = Rotation.from_quat(ours[:, index, 3:]) * Rotation.from_quat(ours[0, index, 3:]).inv()
        expected = known[called[point]][1]
        expected = world * (expected * expected[0].inv()) * world.inv()
        assert (turned.inv() * expected).magnitude().max() < 1e-6


def test_between_frames_joints_turn_evenly_and_bones_keep_their_length(tmp_path):
    root, _ = person()
    angles = {"LeftArm": np.array([[0.0, 0, 0], [60.0, 0, 0]])}  # 60 degrees in one slow frame
    file = write_bvh(tmp_path / "m.bvh", root, angles, np.tile([0, 92.0, 0], (2, 1)), frame_time=0.1)
    source = BvhSource(BvhParameters(file))
    elbow, wrist = source.names.index("left_elbow"), source.names.index("left_wrist")
    shoulder = source.names.index("left_shoulder")
    # 240 samples a second: 2.5 degrees each, whose sagitta is 0.28 m * 0.0436^2 / 8 = 67 um.
    for t in np.linspace(0.0, 0.1, 37):
        poses = source.poses_at(t)
        assert np.linalg.norm(poses[elbow, :3] - poses[shoulder, :3]) == pytest.approx(0.28, abs=7e-5)
        assert np.linalg.norm(poses[wrist, :3] - poses[elbow, :3]) == pytest.approx(0.25, abs=7e-5)
        turned = (
            Rotation.from_quat(poses[shoulder, 3:])
            * Rotation.from_quat(source.poses_at(0)[shoulder, 3:]).inv()
        )
        assert np.degrees(turned.magnitude()) == pytest.approx(600 * t, abs=1e-6)


def test_fewer_channels_and_channels_in_any_case(tmp_path):
    root, _ = person()
    joints = {joint.name: joint for joint in walk(root)}
    joints["LeftForeArm"].order, joints["LeftHand"].order = "Y", ""
    angles = {"LeftForeArm": np.full((3, 3), -90.0)}
    file = write_bvh(tmp_path / "m.bvh", root, angles, still(root)[1])
    file.write_text(file.read_text().replace("Yrotation", "yRotation").replace("OFFSET", "Offset"))
    source = BvhSource(BvhParameters(file))
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    forearm = poses["left_wrist"][:3] - poses["left_elbow"][:3]
    np.testing.assert_allclose(forearm, [0.25, 0, 0], atol=1e-9)  # bent 90 degrees: forward


# ---- names


@pytest.mark.parametrize("naming", NAMINGS)
def test_usual_joint_names_are_found(tmp_path, naming):
    root, called = person(names=NAMINGS[naming])
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))
    found = dict(pair.split("=") for pair in source.report["joints"].split(", "))
    wanted = {point: name for point, name in called.items() if not point.endswith("collar")}
    assert found == wanted


def test_missing_joints_are_all_named(tmp_path):
    names = {**CMU, "wrist": "{Side}Paw", "elbow": "{Side}Bend"}
    root, _ = person(names=names)
    file = write_bvh(tmp_path / "m.bvh", root, *still(root))
    with pytest.raises(SourceError) as caught:
        BvhSource(BvhParameters(file))
    text = str(caught.value)
    for word in ("left_wrist", "right_wrist", "left_elbow", "right_elbow", "LeftPaw", str(file)):
        assert word in text


def test_joints_in_the_wrong_order_are_refused(tmp_path):
    root, _ = person(names={**CMU, "elbow": "{Side}Hand", "wrist": "{Side}ForeArm"})
    with pytest.raises(SourceError, match="does not hang below"):
        BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))


def test_a_skeleton_without_legs_has_fewer_points(tmp_path):
    root, _ = person(legs=False)
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))
    assert "left_hip" not in source.names and "left_wrist" in source.names
    pelvis = source.poses_at(0)[source.names.index("pelvis")]
    assert 0.6 < pelvis[2] < 1.1
    assert "no legs" in source.report["floor"]


# ---- axes


def test_a_t_pose_has_the_documented_axes(tmp_path):
    root, _ = person()
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))
    for point in ("head", "chest", "pelvis", "left_hip", "right_knee", "left_ankle", "right_ankle"):
        np.testing.assert_allclose(axes_of(source, point), np.eye(3), atol=1e-9, err_msg=point)
    # Arms out, palms down: x along the arm, z (the back of the hand) up; nothing mirrored.
    for part in ("shoulder", "elbow", "wrist"):
        left = Rotation.from_euler("z", 90, degrees=True).as_matrix()
        np.testing.assert_allclose(axes_of(source, f"left_{part}"), left, atol=1e-9)
        np.testing.assert_allclose(axes_of(source, f"right_{part}"), left.T, atol=1e-9)


def test_arms_hanging_at_rest_have_the_back_of_the_hand_outward(tmp_path):
    root, _ = person(arms=ARMS_DOWN)
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))
    for side, outward in (("left", [0, 1, 0]), ("right", [0, -1, 0])):
        for part in ("shoulder", "elbow", "wrist"):
            axes = axes_of(source, f"{side}_{part}")
            np.testing.assert_allclose(axes[:, 0], [0, 0, -1], atol=1e-9)
            np.testing.assert_allclose(axes[:, 2], outward, atol=1e-9)
            assert np.linalg.det(axes) == pytest.approx(1.0)


@pytest.mark.parametrize("arms", [ARMS_OUT, ARMS_DOWN], ids=["out", "down"])
def test_the_neutral_pose_makes_every_point_parallel_to_trainer(tmp_path, arms):
    """Arms brought straight forward, palms down, whatever the rest pose: the definition of the axes."""
    root, _ = person(arms=arms)
    joints = {joint.name: joint for joint in walk(root)}
    angles = {}
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        joint = joints[f"{side}Arm"]
        if arms is ARMS_OUT:
            joint.order, turn = "YXZ", (-90.0 * sign, 0.0, 0.0)
        else:
            # First raise forward (about x), then, in the arm's own axes, roll the palm down about the arm.
            joint.order, turn = "XYZ", (-90.0, -90.0 * sign, 0.0)
        angles[joint.name] = np.tile(turn, (3, 1))
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, angles, still(root)[1])))
    for point in source.names:
        np.testing.assert_allclose(axes_of(source, point), np.eye(3), atol=1e-9, err_msg=point)


def test_the_hand_plane_is_taken_from_its_fingers_where_there_are_any(tmp_path):
    root, _ = person()
    for joint in walk(root):
        if joint.name.endswith("Hand"):
            side, sign = joint.name[:-4], 1.0 if joint.name.startswith("Left") else -1.0
            joint.end = None
            # Palms forward: index above, little finger below, back of the hand backwards.
            joint.children = [
                Joint(f"{side}HandIndex1", (9.0 * sign, 3.0, 0), end=(3.0 * sign, 0, 0)),
                Joint(f"{side}HandPinky1", (9.0 * sign, -3.0, 0), end=(3.0 * sign, 0, 0)),
                Joint(f"{side}HandThumb1", (2.0 * sign, 3.0, 2.0), end=(1.0 * sign, 1.0, 0)),
            ]
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root))))
    for side, y in (("left", 1.0), ("right", -1.0)):
        axes = axes_of(source, f"{side}_wrist")
        np.testing.assert_allclose(axes[:, 0], [0, y, 0], atol=1e-9)
        np.testing.assert_allclose(axes[:, 2], [-1, 0, 0], atol=1e-9)


# ---- the way into `trainer`


@pytest.mark.parametrize("yaw_deg", [0.0, 37.0, 120.0, -90.0, 180.0])
def test_the_first_frame_stands_on_the_floor_at_the_origin_facing_x(tmp_path, yaw_deg):
    root, _ = person()
    root.order = "YXZ"
    angles = {"Hips": np.tile([yaw_deg, 0.0, 0.0], (3, 1))}
    positions = np.tile([120.0, 250.0, -70.0], (3, 1))
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, angles, positions)))
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    np.testing.assert_allclose(poses["pelvis"], [0, 0, 0.93, 0, 0, 0, 1], atol=1e-9)
    assert poses["left_ankle"][2] == pytest.approx(0.06)
    assert poses["left_shoulder"][1] > 0.1 > -0.1 > poses["right_shoulder"][1]


@pytest.mark.parametrize("unit_m", [1.0, 0.01, 0.001, 0.0254, 0.0254 / 0.45])
def test_the_unit_is_found(tmp_path, unit_m):
    root, _ = person(unit_m=unit_m)
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, *still(root, height=0.92 / unit_m))))
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    assert np.linalg.norm(poses["left_elbow"][:3] - poses["left_shoulder"][:3]) == pytest.approx(0.28)
    assert "found" in source.report["scale"] and f"{unit_m:.6g} m per unit" in source.report["scale"]


def test_a_given_scale_is_used_and_an_impossible_one_is_refused(tmp_path):
    root, _ = person()
    file = write_bvh(tmp_path / "m.bvh", root, *still(root))
    source = BvhSource(BvhParameters(file, scale_m_per_unit=0.012))
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    assert np.linalg.norm(poses["left_elbow"][:3] - poses["left_shoulder"][:3]) == pytest.approx(0.336)
    with pytest.raises(SourceError, match=r"1\d\d m tall.*centimetres: scale 0\.01"):
        BvhSource(BvhParameters(file, scale_m_per_unit=1.0))


def test_a_skeleton_of_no_known_unit_asks_for_the_scale(tmp_path):
    root, _ = person(unit_m=0.2)
    file = write_bvh(tmp_path / "m.bvh", root, *still(root, height=4.6))
    with pytest.raises(SourceError, match="scale:=<metres per unit>"):
        BvhSource(BvhParameters(file))
    assert BvhSource(BvhParameters(file, scale_m_per_unit=0.2)).duration_s > 0


@pytest.mark.parametrize("up_axis", ["auto", "z"])
def test_a_file_with_z_up(tmp_path, up_axis):
    """As such exporters write it: rest pose and motion turned as a whole, x stays x, y up becomes z up."""
    root, _ = person()
    for joint in walk(root):
        x, y, z = joint.offset
        joint.offset = (x, -z, y)
        if joint.end is not None:
            x, y, z = joint.end
            joint.end = (x, -z, y)
    file = write_bvh(tmp_path / "m.bvh", root, {}, np.tile([10.0, 20.0, 92.0], (3, 1)))
    source = BvhSource(BvhParameters(file, up_axis=up_axis))
    assert source.report["up"].startswith("z")
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    np.testing.assert_allclose(poses["pelvis"], [0, 0, 0.93, 0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(axes_of(source, "left_wrist")[:, 2], [0, 0, 1], atol=1e-9)


def test_a_rest_pose_with_another_up_axis_than_the_motion(tmp_path):
    """Converters leave a z-up skeleton and put the turn to y up into the root's rotation."""
    root, _ = person()
    for joint in walk(root):
        x, y, z = joint.offset
        joint.offset = (x, -z, y)
        if joint.end is not None:
            x, y, z = joint.end
            joint.end = (x, -z, y)
    root.order = "XYZ"
    angles = {"Hips": np.tile([-90.0, 0.0, 0.0], (3, 1))}
    source = BvhSource(BvhParameters(write_bvh(tmp_path / "m.bvh", root, angles, still(root)[1])))
    assert source.report["up"].startswith("y")
    poses = dict(zip(source.names, source.poses_at(0.0), strict=True))
    np.testing.assert_allclose(poses["pelvis"], [0, 0, 0.93, 0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(axes_of(source, "head"), np.eye(3), atol=1e-9)


# ---- playing


def test_it_holds_its_ends_or_loops(tmp_path):
    root, _ = person()
    angles, positions = motion(root, np.random.default_rng(3))
    file = write_bvh(tmp_path / "m.bvh", root, angles, positions)
    once, looped = BvhSource(BvhParameters(file)), BvhSource(BvhParameters(file, loop=True))
    assert once.duration_s == pytest.approx(11 / 60)
    np.testing.assert_array_equal(once.poses_at(-1.0), once.poses_at(0.0))
    np.testing.assert_array_equal(once.poses_at(100.0), once.poses_at(once.duration_s))
    np.testing.assert_allclose(looped.poses_at(2 * once.duration_s + 0.05), once.poses_at(0.05), atol=1e-9)
    frame = once.frame_at(0.05, 123)
    assert frame.stamp_ns == 123 and set(frame.poses) == set(once.names)


def test_a_single_frame_is_a_motion_without_length(tmp_path):
    root, _ = person()
    for loop in (False, True):
        file = write_bvh(tmp_path / "m.bvh", root, *still(root, frames=1))
        source = BvhSource(BvhParameters(file, loop=loop))
        assert source.duration_s == 0.0
        np.testing.assert_array_equal(source.poses_at(3.0), source.poses_at(0.0))


def test_a_long_file_is_the_same_across_chunks(tmp_path, monkeypatch):
    root, _ = person()
    angles, positions = motion(root, np.random.default_rng(4), frames=40)
    file = write_bvh(tmp_path / "m.bvh", root, angles, positions)
    whole = BvhSource(BvhParameters(file))
    for chunk in (1, 7, 39, 40):
        monkeypatch.setattr("capture_nodes.sources.bvh_motion._CHUNK_FRAMES", chunk)
        parts = BvhSource(BvhParameters(file))
        for t in np.linspace(0, whole.duration_s, 97):
            np.testing.assert_allclose(parts.poses_at(t), whole.poses_at(t), atol=1e-12)


def test_positions_written_as_differences_from_the_offsets(tmp_path):
    root, _ = person()
    for joint in walk(root):
        joint.position_channels = True
    file = write_bvh(tmp_path / "m.bvh", root, *still(root))
    absolute = BvhSource(BvhParameters(file)).poses_at(0.0)
    lines = file.read_text().splitlines()
    zeros = " ".join(["0", "92", "0"] + ["0"] * (len(lines[-1].split()) - 3))
    file.write_text("\n".join([*lines[:-3], zeros, zeros, zeros]))
    np.testing.assert_allclose(BvhSource(BvhParameters(file)).poses_at(0.0), absolute, atol=1e-9)


# ---- what is refused


def good_text(tmp_path):
    root, _ = person()
    return write_bvh(tmp_path / "good.bvh", root, *still(root)).read_text()


def replaced_once(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


MALFORMED = {
    "empty": (lambda t: "", "starts with HIERARCHY; found nothing"),
    "binary": (lambda t: "\x00\x01\x02" + t, "starts with HIERARCHY"),
    "no motion": (lambda t: t[: t.index("MOTION")], "without a MOTION section"),
    "no root": (lambda t: replaced_once(t, "ROOT", "JOINT"), "ROOT is expected; found 'JOINT'"),
    "second root": (lambda t: replaced_once(t, "MOTION", "ROOT Hips2\n{\n}\nMOTION"), "a second ROOT"),
    "no brace": (lambda t: replaced_once(t, "}\nMOTION", "MOTION"), "the hierarchy ends where"),
    "extra brace": (lambda t: replaced_once(t, "MOTION", "}\nMOTION"), "MOTION is expected after"),
    "unknown channel": (lambda t: replaced_once(t, "Zrotation", "Wrotation"), "unknown channel 'Wrotation'"),
    "double channel": (
        lambda t: replaced_once(t, "Zrotation Xrotation", "Zrotation Zrotation"),
        "listed twice",
    ),
    "channel count": (lambda t: replaced_once(t, "CHANNELS 3", "CHANNELS 7"), "CHANNELS 7"),
    "channels missing": (lambda t: replaced_once(t, "CHANNELS 3", "CHANNELS 4"), "unknown channel"),
    "offset word": (lambda t: replaced_once(t, "OFFSET 0.0", "OFFSET here"), "'here' is not a number"),
    "offset nan": (lambda t: replaced_once(t, "OFFSET 0.0", "OFFSET nan"), "not finite"),
    "offset comma": (lambda t: replaced_once(t, "OFFSET 0.0", "OFFSET 0,0"), "decimal comma"),
    "no frames": (lambda t: replaced_once(t, "Frames: 3", "Fames: 3"), "'Frames: <number>' is expected"),
    "zero frames": (lambda t: replaced_once(t, "Frames: 3", "Frames: 0"), "from 1 is expected"),
    "half a frame": (lambda t: replaced_once(t, "Frames: 3", "Frames: 2.5"), "from 1 is expected"),
    "huge count": (lambda t: replaced_once(t, "Frames: 3", "Frames: 999999999"), "ends after 3 of"),
    "too many": (lambda t: replaced_once(t, "Frames: 3", "Frames: 2"), "more frames than the 2"),
    "no time": (lambda t: replaced_once(t, "Frame Time:", "Frametime"), "'Frame Time: <number>' is expected"),
    "zero time": (lambda t: replaced_once(t, "Frame Time: ", "Frame Time: -"), "above 0"),
    "truncated": (lambda t: t[: t.rindex(" ")], "channels are expected"),
    "missing line": (lambda t: "\n".join(t.splitlines()[:-1]), "ends after 2 of 3"),
    "nan": (lambda t: t[: t.rindex(" ")] + " nan\n", "is 'nan', not finite"),
    "inf": (lambda t: t[: t.rindex(" ")] + " -inf\n", "is '-inf', not finite"),
    "word": (lambda t: t[: t.rindex(" ")] + " 1.2.3\n", "'1.2.3' is not a number"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_with_line_and_reason(tmp_path, case):
    change, reason = MALFORMED[case]
    file = tmp_path / "bad.bvh"
    file.write_text(change(good_text(tmp_path)))
    with pytest.raises(BvhError) as caught:
        read_bvh(file)
    assert reason in str(caught.value)
    assert f"{file}, line {caught.value.line}: " in str(caught.value)
    assert 1 <= caught.value.line <= max(1, len(file.read_text().splitlines()))


def test_the_line_of_an_error_is_the_line_in_the_file(tmp_path):
    lines = good_text(tmp_path).splitlines()
    file = tmp_path / "bad.bvh"
    for number, line in enumerate(lines, start=1):
        word = "OFFSET" if "OFFSET" in line else None
        if word is None and number <= lines.index("MOTION") + 3:
            continue
        bad = line.replace("OFFSET", "OFFSET x") if word else line + " x"
        file.write_text("\n".join([*lines[: number - 1], bad, *lines[number:]]))
        with pytest.raises(BvhError) as caught:
            read_bvh(file)
        assert caught.value.line == number


@seed(21)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_loads_or_is_refused_but_never_crashes(tmp_path, data):
    tokens = good_text(tmp_path).replace("\n", " \n ").split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(tokens) - 1))
        tokens[place] = data.draw(
            st.sampled_from(["", "{", "}", "nan", "1e999", "-1", "0", "1e300", "JOINT", "End", "MOTION", "\n",
                             "CHANNELS", "ROOT", "OFFSET", "Site", "LeftArm", "\ufffd", "6"])
        )  # fmt: skip
    file = tmp_path / "damaged.bvh"
    file.write_text(" ".join(tokens))
    try:
        source = BvhSource(BvhParameters(file))
    except SourceError:
        return
    source.frame_at(0.01, 1)  # a MotionFrame refuses anything that is not finite


def test_parameters_are_checked_together(tmp_path):
    with pytest.raises(SourceError) as caught:
        BvhParameters(tmp_path / "none.bvh", scale_m_per_unit=float("nan"), up_axis="w")
    assert len(caught.value.problems) == 3
    for word in ("none.bvh", "scale:=nan", "up_axis:='w'"):
        assert word in str(caught.value)


# ---- the recorded human motions


MOTIONS = Path(__file__).resolve().parents[2].parent / "shared" / "motions"
RECORDED = {"cmu_02_06_scoop_and_lift.bvh": 18.6, "cmu_02_10_wash_self.bvh": 22.0}


@pytest.fixture(params=RECORDED)
def recorded(request):
    file = MOTIONS / request.param
    if not file.is_file():
        pytest.skip(f"the recorded motion {file} is not there")
    started = time.perf_counter()
    source = BvhSource(BvhParameters(file))
    assert time.perf_counter() - started < 2.0  # about 0.25 s on an idle core
    return request.param, source


def test_recorded_motions_are_plausible(recorded):
    name, source = recorded
    assert source.duration_s == pytest.approx(RECORDED[name], abs=0.05)
    assert "0.01 m per unit (centimetre, found)" in source.report["scale"]
    assert "120 Hz" in source.report["motion"]
    times = np.arange(0.0, source.duration_s, 1 / 120)
    poses = np.array([source.poses_at(t) for t in times])
    at = {point: poses[:, i, :3] for i, point in enumerate(source.names)}
    bones = [(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in
             (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))]  # fmt: skip
    for a, b in bones:
        lengths = np.linalg.norm(at[a] - at[b], axis=-1)
        assert np.ptp(lengths) < 2e-4, (a, b)
        assert 0.15 < lengths[0] < 0.5
    speeds = {
        s: np.linalg.norm(np.diff(at[f"{s}_wrist"], axis=0), axis=-1).max() * 120 for s in ("left", "right")
    }
    assert 1.5 < max(speeds.values()) < 3.5  # the README says 3.2 m/s
    np.testing.assert_allclose(at["pelvis"][0, :2], 0.0, atol=1e-9)
    feet = np.minimum(at["left_ankle"][:, 2], at["right_ankle"][:, 2])
    assert feet.min() > -0.05 and np.median(feet) < 0.15
    assert 1.3 < at["head"][0, 2] < 1.7
    chest = source.names.index("chest")
    forward = rotation_matrix_from_quaternion(poses[0, chest, 3:])[:, 0]
    assert forward[0] > 0.8


def test_recorded_shoulder_points_follow_their_arms(recorded):
    """x of shoulder and elbow lies along the segment at all times: the axes are right, not only at rest."""
    _, source = recorded
    for t in np.linspace(0.0, source.duration_s, 50):
        poses = dict(zip(source.names, source.poses_at(t), strict=True))
        for side in ("left", "right"):
            for a, b in (("shoulder", "elbow"), ("elbow", "wrist")):
                start, end = poses[f"{side}_{a}"], poses[f"{side}_{b}"]
                bone = (end[:3] - start[:3]) / np.linalg.norm(end[:3] - start[:3])
                x = rotation_matrix_from_quaternion(start[3:])[:, 0]
                assert x @ bone > 0.9999


def test_a_frame_is_cheap(recorded, record_property):
    _, source = recorded
    times = np.random.default_rng(0).uniform(0, source.duration_s, 500)
    costs = []
    for t in times:
        started = time.perf_counter()
        source.frame_at(t, 1)
        costs.append(time.perf_counter() - started)
    median_us = 1e6 * float(np.median(costs))
    record_property("frame_at_median_us", round(median_us, 1))
    assert median_us < 1000.0  # 75 us on an idle core; the bound only catches a change of kind
