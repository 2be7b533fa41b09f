"""What `onboard` finds on robots of others, against labels that were written by eye."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from retargeting.errors import InvalidConfiguration
from retargeting.onboarding.body import Body, infer_body
from retargeting.onboarding.robot_yaml_writer import HEADING
from retargeting.urdf import load_urdf

HERE = Path(__file__).resolve().parent
DESCRIPTIONS = HERE.parents[1] / "robot_descriptions"
LABELS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "onboarding_labels.yaml").read_text("utf-8"))
# Described by hand before there was an onboard.
BY_HAND = {"g1", "kestrel"}


@cache
def urdf_files(package: str) -> tuple[Path, ...]:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return ()
    files = distribution.files or []
    return tuple(
        Path(str(distribution.locate_file(file))).resolve() for file in files if file.suffix == ".urdf"
    )


@cache
def inferred(name: str) -> Body:
    label = LABELS[name]
    files = urdf_files(label["package"])
    if not files:
        pytest.skip(f"{name}: the package {label['package']} is not installed")
    found = [file for file in files if f"/{file.as_posix()}".endswith(f"/{label['file']}")]
    assert found, f"{label['package']} holds no {label['file']}"
    try:
        urdf = load_urdf(found[0], tuple(found[0].parents))
    except InvalidConfiguration as error:
        pytest.skip(f"{name}: the URDF is refused: {error.problems[0]}")
    return infer_body(urdf, find_posture=False)


@pytest.mark.parametrize("name", LABELS)
def test_facing_and_sides_are_as_labelled(name: str) -> None:
    body, label = inferred(name), LABELS[name]
    if label["forward"] is not None:
        np.testing.assert_allclose(body.forward, label["forward"], atol=0.02)
    np.testing.assert_allclose(body.up, label.get("up", [0, 0, 1]), atol=0.02)
    assert set(body.arms) == set(label["arms"])


@pytest.mark.parametrize("name", LABELS)
def test_shoulders_elbows_and_wrists_are_as_labelled(name: str) -> None:
    body, label = inferred(name), LABELS[name]
    joints = body.skeleton.urdf.joints
    for side, expected in label["arms"].items():
        arm = body.arms[side]
        found = {"first": arm.joints[0], "elbow": arm.elbow_joint, "last": arm.joints[-1]}
        assert found == expected
        assert arm.wrist.link == joints[expected["last"]].child
        if expected["elbow"] is not None:
            assert arm.elbow is not None and arm.elbow.link == joints[expected["elbow"]].child


@pytest.mark.parametrize("name", LABELS)
def test_waist_and_head_are_as_labelled(name: str) -> None:
    body, label = inferred(name), LABELS[name]
    assert list(body.waist) == label["waist"]
    if "head" in label:
        assert list(body.head_joints) == label["head"]


@pytest.mark.parametrize("name", LABELS)
def test_hands_are_as_labelled(name: str) -> None:
    body, label = inferred(name), LABELS[name]
    for arm in body.arms.values():
        assert arm.hand.kind == label["hand"]
        if label["hand"] == "fingers":
            assert len(arm.hand.tips) == label["fingers"]
        for joint, (closed, opened) in arm.hand.joints.items():
            entry = body.skeleton.urdf.joints[joint]
            assert entry.mimic is None
            assert all(entry.lower <= value <= entry.upper for value in (closed, opened))


@pytest.mark.parametrize("name", LABELS)
def test_the_hand_frame_is_right_handed_and_on_the_last_axis(name: str) -> None:
    body = inferred(name)
    rest = body.neutral
    for arm in body.arms.values():
        last = arm.joints[-1]
        if body.skeleton.urdf.joints[last].kind == "prismatic":
            continue
        wrist = body.site_position(arm.wrist, rest)
        off = np.cross(wrist - rest.origin(last), rest.axis(last))
        assert np.linalg.norm(off) < 1e-3
        assert abs(float(np.linalg.norm(arm.wrist.pose[3:])) - 1.0) < 1e-9


def test_robots_were_held_out() -> None:
    """Robots that nothing was tuned on stay among the labels."""
    assert sum(bool(label.get("held_out")) for label in LABELS.values()) >= 4


REGISTERED = sorted(path.parent.name for path in DESCRIPTIONS.glob("*/robot.yaml"))


@pytest.mark.parametrize("name", [name for name in REGISTERED if name not in BY_HAND])
def test_every_registered_robot_is_as_labelled_and_untouched(name: str) -> None:
    """The files themselves, whether or not their package is installed."""
    text = (DESCRIPTIONS / name / "robot.yaml").read_text("utf-8")
    assert HEADING in text
    content, label = yaml.safe_load(text), LABELS[name]
    assert content["name"] == name
    assert content["chains"]["waist"] == label["waist"]
    for side in ("left", "right"):
        chain, expected = content["chains"][f"{side}_arm"], label["arms"].get(side)
        assert bool(chain) == (expected is not None)
        if expected is None:
            continue
        assert (chain[0], chain[-1]) == (expected["first"], expected["last"])
        assert f"{side}_wrist" in content["sites"]
        assert (f"{side}_elbow" in content["sites"]) == (expected["elbow"] is not None)
        assert (side in content.get("grippers", {})) == (label["hand"] != "none")
    if label["forward"] is not None:
        forward = content.get("axes", {}).get("forward", [1, 0, 0])
        np.testing.assert_allclose(forward, label["forward"], atol=0.02)
