"""Generated skeletons: whatever names, units, axes, proportions and channel orders, the same body points."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from capture_nodes.sources.bvh_file import read_bvh
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.suit_body import SuitBody
from capture_nodes.sources.suit_skeleton import SuitSkeleton, load_suit_skeleton

SIDES = (("left", 1.0), ("right", -1.0))
ORDERS = ["".join(order) for order in itertools.permutations("XYZ")]
# A rotation from BVH's axes (x left, y up, z forward) to those of the file, by its upward axis.
TURNS = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "x": np.array([[0, 1.0, 0], [-1.0, 0, 0], [0, 0, 1.0]]),
}
NAMINGS = {
    "axis neuron": {
        "pelvis": "Hips", "spine": "Spine", "chest": "Spine3", "neck": "Neck", "head": "Head",
        "collar": "{Side}Shoulder", "shoulder": "{Side}Arm", "elbow": "{Side}ForeArm", "wrist": "{Side}Hand",
        "finger": "{Side}HandIndex{n}", "hip": "{Side}UpLeg", "knee": "{Side}Leg", "ankle": "{Side}Foot",
        "toe": "{Side}Toe",
    },
    "mvn": {
        "pelvis": "Pelvis", "spine": "L5", "chest": "T8", "neck": "Neck", "head": "Head",
        "collar": "{Side}Collar", "shoulder": "{Side}UpperArm", "elbow": "{Side}Forearm",
        "wrist": "{Side}Hand", "finger": "{Side}Finger{n}", "hip": "{Side}UpperLeg", "knee": "{Side}LowerLeg",
        "ankle": "{Side}Foot", "toe": "{Side}Toe",
    },
    "unknown": None,
}  # fmt: skip


@dataclass
class Joint:
    part: str
    side: str
    offset: np.ndarray
    order: str
    children: list[Joint] = field(default_factory=list)
    end: np.ndarray | None = None
    name: str = ""


@dataclass
class Person:
    root: Joint
    unit_m: float
    naming: str
    # Positions in BVH's axes, metres, by body point.
    truth: dict[str, np.ndarray]
    names: dict[str, str]


@st.composite
def people(draw) -> Person:
    scale = draw(st.floats(0.82, 1.15))
    unit_m = draw(st.sampled_from([1.0, 0.01, 0.0254]))
    naming = draw(st.sampled_from(sorted(NAMINGS)))
    turn = TURNS[draw(st.sampled_from(sorted(TURNS) if naming != "unknown" else ["y"]))]
    down = draw(st.booleans())
    has_fingers, has_collar = draw(st.booleans()), draw(st.booleans())
    spines = draw(st.integers(1, 3))
    truth: dict[str, np.ndarray] = {}

    def joint(part: str, side: str, at: np.ndarray, parent_at: np.ndarray) -> Joint:
        point = f"{side}_{part}".lstrip("_")
        truth[point] = at
        return Joint(part, side, at - parent_at, draw(st.sampled_from(ORDERS)))

    def v(*values: float) -> np.ndarray:
        return scale * np.array(values)

    pelvis_at = v(0.0, 0.95, 0.0)
    root = joint("pelvis", "", pelvis_at, np.zeros(3))
    trunk, at = root, pelvis_at
    for k in range(spines):
        up = at + v(0.0, 0.36 / spines, 0.0)
        part = "chest" if k == spines - 1 else f"spine{k}"
        child = joint(part, "", up, at)
        trunk.children.append(child)
        trunk, at = child, up
    branches = []
    neck_at = at + v(0.0, 0.16, 0.0)
    head = joint("head", "", neck_at, at)
    head.end = v(0.0, 0.2, 0.0)
    branches.append(head)
    for side, sign in SIDES:
        parent_at, parent = at, None
        if has_collar:
            collar_at = at + v(0.03 * sign, 0.1, 0.0)
            parent = joint("collar", side, collar_at, at)
            branches.append(parent)
            parent_at = collar_at
        arm = np.array([0.0, -1.0, 0.0]) if down else np.array([sign, 0.0, 0.0])
        shoulder_at = at + v(0.17 * sign, 0.11, 0.0)
        shoulder = joint("shoulder", side, shoulder_at, parent_at)
        (branches if parent is None else parent.children).append(shoulder)
        elbow = joint("elbow", side, shoulder_at + scale * 0.28 * arm, shoulder_at)
        shoulder.children.append(elbow)
        elbow_at = truth[f"{side}_elbow"]
        wrist = joint("wrist", side, elbow_at + scale * 0.25 * arm, elbow_at)
        elbow.children.append(wrist)
        if has_fingers:
            for finger in range(draw(st.integers(1, 4))):
                offset = scale * (0.08 * arm + np.array([0.0, 0.0, 0.02 * (finger - 1)]))
                wrist.children.append(
                    Joint("finger", side, offset, "ZXY", end=scale * 0.03 * arm, name=str(finger))
                )
        else:
            wrist.end = scale * 0.09 * arm
        hip_at = pelvis_at + v(0.09 * sign, -0.05, 0.0)
        hip = joint("hip", side, hip_at, pelvis_at)
        root.children.append(hip)
        knee = joint("knee", side, hip_at + v(0.0, -0.42, 0.0), hip_at)
        hip.children.append(knee)
        knee_at = truth[f"{side}_knee"]
        ankle = joint("ankle", side, knee_at + v(0.0, -0.41, 0.0), knee_at)
        knee.children.append(ankle)
        ankle.end = v(0.0, -0.07, 0.16)
    trunk.children = draw(st.permutations(branches))
    root.children = draw(st.permutations(root.children))
    names: dict[str, str] = {}
    _name(root, naming, names, itertools.count())
    for one in _walk(root):
        one.offset = turn @ one.offset / unit_m
        one.end = None if one.end is None else turn @ one.end / unit_m
    return Person(root, unit_m, naming, truth, names)


def _walk(joint: Joint):
    yield joint
    for child in joint.children:
        yield from _walk(child)


def _name(root: Joint, naming: str, names: dict[str, str], counter) -> None:
    for joint in _walk(root):
        scheme = NAMINGS[naming]
        if scheme is None:
            name = f"bone{next(counter)}"
        else:
            word = scheme["spine" if joint.part.startswith("spine") else joint.part]
            name = word.format(Side=joint.side.capitalize(), n=joint.name)
            if joint.part.startswith("spine"):
                name += joint.part[-1] + "b"
        joint.name = name
        names[f"{joint.side}_{joint.part}".lstrip("_")] = name


def write(person: Person, path: Path) -> Path:
    lines = ["HIERARCHY"]
    values: list[float] = []

    def put(joint: Joint, depth: int) -> None:
        lines.append(f"{'JOINT' if depth else 'ROOT'} {joint.name}")
        lines.append("{")
        lines.append("OFFSET " + " ".join(repr(float(v)) for v in joint.offset))
        moves = "Xposition Yposition Zposition " if depth == 0 else ""
        turns = " ".join(f"{axis}rotation" for axis in joint.order)
        lines.append(f"CHANNELS {6 if depth == 0 else 3} {moves}{turns}")
        values.extend(([float(v) for v in joint.offset] if depth == 0 else []) + [0.0, 0.0, 0.0])
        for child in joint.children:
            put(child, depth + 1)
        if joint.end is not None:
            lines.append("End Site {")
            lines.append("OFFSET " + " ".join(repr(float(v)) for v in joint.end))
            lines.append("}")
        lines.append("}")

    put(person.root, 0)
    lines += ["MOTION", "Frames: 1", "Frame Time: 0.01", " ".join(map(repr, values))]
    path.write_text("\n".join(lines) + "\n")
    return path


POINTS = ["head", "chest", "pelvis"] + [
    f"{side}_{part}" for side, _ in SIDES for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


@seed(3)
@settings(max_examples=120, derandomize=True)
@given(person=people())
def test_every_point_is_found_and_where_it_is(tmp_path_factory, person: Person) -> None:
    file = read_bvh(write(person, tmp_path_factory.mktemp("suit") / "one.bvh"))
    body = SuitBody("suit", file.joints, file.values[0], SuitSkeleton())
    found = dict(pair.split("=") for pair in body.report["joints"].split(", "))
    assert found == {point: person.names[point] for point in POINTS}
    assert f"{person.unit_m:.6g} m per unit" in body.report["scale"]
    poses = body.poses(file.values[0])
    pelvis = person.truth["pelvis"]
    # The feet's lowest point: the toes, which are 0.07 m (times the scale) below the ankles.
    scale = pelvis[1] / 0.95
    floor = person.truth["left_ankle"][1] - 0.07 * scale
    for point in POINTS:
        x, y, z = person.truth[point] - np.array([pelvis[0], floor, pelvis[2]])
        np.testing.assert_allclose(poses[point][:3], [z, x, y], atol=1e-6, err_msg=point)
        assert np.linalg.norm(poses[point][3:]) == pytest.approx(1.0)


def test_joints_that_are_given_win(tmp_path: Path) -> None:
    person = _plain()
    path = write(person, tmp_path / "one.bvh")
    file = read_bvh(path)
    said = tmp_path / "suit.yaml"
    said.write_text("joints: {left_wrist: LeftForeArm2}\n")
    with pytest.raises(SourceError, match="left_wrist is given as 'LeftForeArm2', which is no joint"):
        SuitBody("suit", file.joints, file.values[0], load_suit_skeleton(said))
    for joint in _walk(person.root):
        joint.name = f"xx_{joint.name}_left_arm_hand_xx" if joint.part != "pelvis" else "Hips"
    file = read_bvh(write(person, path))
    names = {point: f"xx_{name}_left_arm_hand_xx" for point, name in person.names.items() if point in POINTS}
    names["pelvis"] = "Hips"
    lines = "".join(f"  {point}: {name}\n" for point, name in names.items())
    said.write_text(f"up_axis: y\nscale_m_per_unit: 0.01\njoints:\n{lines}")
    body = SuitBody("suit", file.joints, file.values[0], load_suit_skeleton(said))
    assert dict(pair.split("=") for pair in body.report["joints"].split(", ")) == names


def _plain() -> Person:
    """A person as Axis Neuron names it, in cm."""
    root = Joint("pelvis", "", np.array([0.0, 95.0, 0.0]), "YXZ", name="Hips")
    chest = Joint("chest", "", np.array([0.0, 36.0, 0.0]), "YXZ", name="Spine3")
    head = Joint("head", "", np.array([0.0, 16.0, 0.0]), "YXZ", end=np.array([0.0, 20.0, 0.0]), name="Head")
    root.children.append(chest)
    chest.children.append(head)
    names = {"pelvis": "Hips", "chest": "Spine3", "head": "Head"}
    for side, sign in SIDES:
        word = side.capitalize()
        parts = (
            (chest, ("shoulder", "Arm", (17.0 * sign, 11.0, 0.0)), ("elbow", "ForeArm", (28.0 * sign, 0, 0)),
             ("wrist", "Hand", (25.0 * sign, 0, 0))),
            (root, ("hip", "UpLeg", (9.0 * sign, -5.0, 0.0)), ("knee", "Leg", (0, -42.0, 0)),
             ("ankle", "Foot", (0, -41.0, 0))),
        )  # fmt: skip
        for parent, *chain in parts:
            for part, name, offset in chain:
                joint = Joint(part, side, np.array(offset, dtype=float), "YXZ", name=word + name)
                parent.children.append(joint)
                names[f"{side}_{part}"] = joint.name
                parent = joint
            parent.end = np.array([9.0 * sign, 0.0, 0.0] if chain[0][0] == "shoulder" else [0.0, -7.0, 16.0])
    return Person(root, 0.01, "axis neuron", {}, names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("joints: [a]", "body points and names of joints are expected"),
        ("joints: {left_paw: a}", "there is no body point 'left_paw'"),
        ("limbs: 4", "unknown key 'limbs'; known: joints, hierarchy"),
        ("up_axis: w", "up_axis: 'w'; one of auto"),
        ("scale_m_per_unit: big", "scale_m_per_unit: 'big'; 1e-6..1000 is expected"),
        ("scale_m_per_unit: true", "1e-6..1000 is expected"),
        ("hierarchy: none.bvh", "none.bvh"),
        ("- 1", "keys and values are expected"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_skeleton_file(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "suit.yaml"
    path.write_text(text)
    with pytest.raises(SourceError) as caught:
        load_suit_skeleton(path)
    assert problem in str(caught.value) and str(path) in str(caught.value)


def test_a_skeleton_file_may_say_nothing_or_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "suit.yaml"
    path.write_text("up_axis: y\n")
    assert load_suit_skeleton(path) == SuitSkeleton(up_axis="y")
    path.write_text("")
    assert load_suit_skeleton(path) == SuitSkeleton()
    with pytest.raises(SourceError, match="cannot be read"):
        load_suit_skeleton(tmp_path / "none.yaml")
