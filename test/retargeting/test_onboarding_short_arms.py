"""What made-up robots tell of arms that end early, nameless thumbs, and heads in odd places.

Each is the least of a robot that was once got wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retargeting.onboarding.body import Body, infer_body
from retargeting.onboarding.finger_pads import find_pad
from retargeting.onboarding.skeleton import build_skeleton
from retargeting.urdf import load_urdf

UP, AHEAD, LEFT = "0 0 1", "1 0 0", "0 1 0"


class Made:
    """A URDF that grows joint by joint."""

    def __init__(self) -> None:
        self.parts = ['<link name="base"/>']

    def joint(
        self,
        name: str,
        parent: str,
        xyz: str,
        axis: str = "",
        limits: tuple[float, float] = (-1.5, 1.5),
        body: str = "",
        kind: str = "revolute",
    ) -> str:
        """A joint (fixed without an axis) and its link, named after it."""
        link = f"{name}_link"
        moves = (
            f'<axis xyz="{axis}"/><limit lower="{limits[0]}" upper="{limits[1]}" effort="1" velocity="1"/>'
        )
        self.parts.append(
            f'<link name="{link}">{body}</link><joint name="{name}" type="{kind if axis else "fixed"}">'
            f'<parent link="{parent}"/><child link="{link}"/><origin xyz="{xyz}"/>'
            f"{moves if axis else ''}</joint>"
        )
        return link

    def body(self, folder: Path) -> Body:
        file = folder / "made.urdf"
        file.write_text(f'<robot name="made">{"".join(self.parts)}</robot>', "utf-8")
        return infer_body(load_urdf(file), find_posture=False)


def box(xyz: str, size: str) -> str:
    return f'<collision><origin xyz="{xyz}"/><geometry><box size="{size}"/></geometry></collision>'


def shoulder(made: Made, side: str, scale: float = 1.0) -> str:
    """Pitch, roll and yaw at the left or right of the base; the upper arm hangs down."""
    y = scale * (0.2 if side == "left" else -0.2)
    link = made.joint(f"{side}_shoulder_pitch", "base", f"0 {y} {scale * 0.4}", LEFT)
    link = made.joint(f"{side}_shoulder_roll", link, "0 0 0", AHEAD)
    return made.joint(f"{side}_shoulder_yaw", link, f"0 0 {-0.1 * scale}", UP)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_an_arm_may_end_in_its_elbow(scale: float, tmp_path: Path) -> None:
    made = Made()
    for side in ("left", "right"):
        link = shoulder(made, side, scale)
        forearm = box(f"{0.12 * scale} 0 0", f"{0.24 * scale} {0.05 * scale} {0.05 * scale}")
        made.joint(f"{side}_elbow", link, f"0 0 {-0.2 * scale}", LEFT, (-2.0, 0.0), forearm)
    body = made.body(tmp_path)
    for side, arm in body.arms.items():
        assert arm.elbow_joint == arm.joints[-1] == f"{side}_elbow"
        wrist = body.site_position(arm.wrist, body.neutral)
        elbow = body.skeleton.rest.origin(f"{side}_elbow")
        # On the forearm, nearer to its end than to the elbow, and the hand points along it.
        assert 0.5 * 0.24 * scale < wrist[0] - elbow[0] < 0.24 * scale
        np.testing.assert_allclose(arm.hand.pointing, [1.0, 0.0, 0.0], atol=0.2)
    assert any("no joint follows the elbow" in f.why and not f.sure for f in body.findings)


def test_where_only_a_roll_follows_the_elbow_the_wrist_is_at_the_roll(tmp_path: Path) -> None:
    made = Made()
    for side in ("left", "right"):
        elbow = made.joint(f"{side}_elbow", shoulder(made, side), "0 0 -0.2", LEFT, (-2.0, 0.0))
        made.joint(f"{side}_wrist_roll", elbow, "0.2 0 0", AHEAD, body=box("0.05 0 0", "0.1 0.04 0.02"))
    body = made.body(tmp_path)
    for side, arm in body.arms.items():
        assert arm.elbow_joint == f"{side}_elbow"
        wrist = body.site_position(arm.wrist, body.neutral)
        np.testing.assert_allclose(wrist, body.skeleton.rest.origin(f"{side}_wrist_roll"), atol=1e-6)


def test_a_single_arm_that_carries_a_screen_begins_at_its_first_joint(tmp_path: Path) -> None:
    made = Made()
    link = made.joint("j0", "base", "0 0 0.1", UP)
    made.joint("head_pan", link, "0 0 0.3", UP)
    for k, (xyz, axis) in enumerate(
        (("0.08 0 0.2", LEFT), ("0.1 0 0", AHEAD), ("0.3 0 0", LEFT), ("0.1 0 0", AHEAD), ("0.3 0 0", LEFT)),
        start=1,
    ):
        link = made.joint(f"j{k}", link, xyz, axis)
    body = made.body(tmp_path)
    assert body.waist == ()
    assert next(iter(body.arms.values())).joints == tuple(f"j{k}" for k in range(6))


def test_a_head_may_be_nameless_beside_named_arms(tmp_path: Path) -> None:
    made = Made()
    for side in ("left", "right"):
        elbow = made.joint(f"{side}_elbow", shoulder(made, side), "0 0 -0.2", LEFT, (-2.0, 0.0))
        made.joint(f"{side}_wrist", elbow, "0.2 0 0", AHEAD)
    made.joint("tilt", made.joint("pan", "base", "0 0 0.5", UP), "0 0 0.05", LEFT)
    assert made.body(tmp_path).head_joints == ("pan", "tilt")


def hand(made: Made, palm: str) -> None:
    """Four fingers ahead that bend down, and a thumb that bends across them; by number, without names."""
    for k in range(4):
        link = made.joint(f"d{k}a", palm, f"0.08 {0.03 - 0.02 * k} 0", LEFT, (0.0, 1.5))
        made.joint(f"d{k}b", link, "0.04 0 0", LEFT, (0.0, 1.5), box("0.015 0 0", "0.03 0.012 0.012"))
    link = made.joint("d4a", palm, "0.02 0.04 0", AHEAD, (0.0, 1.5))
    made.joint("d4b", link, "0 0.03 0", UP, (-1.5, 0.0), box("0 0.015 0", "0.012 0.03 0.012"))


def test_of_nameless_fingers_the_one_that_bends_across_is_the_thumb(tmp_path: Path) -> None:
    made = Made()
    link = made.joint("j0", "base", "0 0 0.1", UP)
    for k, (xyz, axis) in enumerate(
        (("0 0 0.2", LEFT), ("0.3 0 0", LEFT), ("0.25 0 0", AHEAD), ("0 0 0", LEFT), ("0 0 0", AHEAD)),
        start=1,
    ):
        link = made.joint(f"j{k}", link, xyz, axis)
    hand(made, link)
    body = made.body(tmp_path)
    ((side, arm),) = body.arms.items()
    # Its thumb is to the left of a palm that faces down.
    assert side == "right"
    assert {tip.name: tip.joint for tip in arm.hand.tips} == {
        "thumb": "d4b",
        "index": "d0b",
        "middle": "d1b",
        "ring": "d2b",
        "little": "d3b",
    }
    for tip in arm.hand.tips:
        assert tip.pad.measured
        assert tip.pad.radius_m == pytest.approx(0.006)


def test_a_pad_is_a_sphere_inside_the_end_of_the_finger(tmp_path: Path) -> None:
    made = Made()
    link = made.joint("a", "base", "0 0 0", LEFT)
    made.joint("b", link, "0.04 0 0", LEFT, body=box("0.02 0 0.002", "0.04 0.02 0.01"))
    file = tmp_path / "finger.urdf"
    file.write_text(f'<robot name="made">{"".join(made.parts)}</robot>', "utf-8")
    pad = find_pad(build_skeleton(load_urdf(file)), "b")
    assert pad.radius_m == pytest.approx(0.005, abs=1e-4)
    # The finger points a little up to where its end is.
    np.testing.assert_allclose(pad.position, [0.035, 0.0, 0.002], atol=1e-3)


def test_a_missing_mesh_says_nothing_about_a_fingers_end(tmp_path: Path) -> None:
    made = Made()
    link = made.joint("a", "base", "0 0 0", LEFT)
    astray = '<visual><origin xyz="0.5 -0.6 0"/><geometry><mesh filename="none.stl"/></geometry></visual>'
    made.joint("b", link, "0.04 0 0", LEFT, body=astray)
    file = tmp_path / "finger.urdf"
    file.write_text(f'<robot name="made">{"".join(made.parts)}</robot>', "utf-8")
    pad = find_pad(build_skeleton(load_urdf(file)), "b")
    assert not pad.measured
    np.testing.assert_allclose(pad.position, [0.032, 0.0, 0.0], atol=1e-9)


def test_a_finger_that_bends_inside_the_palm_too_names_its_knuckle(tmp_path: Path) -> None:
    made = Made()
    link = made.joint("left_arm0", "base", "0 0 0.1", UP)
    for k, (xyz, axis) in enumerate(
        (("0 0 0.2", LEFT), ("0.3 0 0", LEFT), ("0.25 0 0", AHEAD), ("0 0 0", LEFT), ("0 0 0", AHEAD)),
        start=1,
    ):
        link = made.joint(f"left_arm{k}", link, xyz, axis)
    for k, finger in enumerate(("index", "middle", "ring", "little")):
        start, xyz = link, f"0.09 {0.03 - 0.02 * k} 0"
        if finger == "little":
            start, xyz = made.joint("little_palm", link, "0.03 -0.03 0", UP, (0.0, 0.3)), "0.06 0 0"
        start = made.joint(f"{finger}_a", start, xyz, LEFT, (0.0, 1.5))
        made.joint(f"{finger}_b", start, "0.04 0 0", LEFT, (0.0, 1.5), box("0.01 0 0", "0.03 0.01 0.01"))
    tips = {tip.name: tip for arm in made.body(tmp_path).arms.values() for tip in arm.hand.tips}
    assert tips["little"].base == "little_a_link"
    assert tips["index"].base == ""
