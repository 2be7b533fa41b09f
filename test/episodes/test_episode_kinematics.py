"""Forward kinematics agree with an independent library, Jacobians with finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from episodes.errors import EpisodeError
from episodes.kinematics import (
    KinematicTree,
    Site,
    rotation_angle,
    rotation_from_quaternion,
    rotation_from_rpy,
    rotation_vector,
)


def tree_of(synthetic: Any) -> tuple[KinematicTree, str]:
    text = synthetic.attachments["robot.urdf"].decode()
    return KinematicTree(text), text


def test_places_agree_with_pinocchio(synthetic: Any, messages: Any) -> None:
    pinocchio = pytest.importorskip("pinocchio")
    tree, text = tree_of(synthetic)
    names = messages["names"]
    random = np.random.default_rng(3)
    q = random.uniform(-1.5, 1.5, (5, len(names)))
    model = pinocchio.buildModelFromXML(text, True)
    data = model.createData()
    placed = tree.place(list(tree.links), names, q)
    for k in range(len(q)):
        values = pinocchio.neutral(model)
        for name in model.names[1:]:
            joint = tree.joints[name]
            values[model.joints[model.getJointId(name)].idx_q] = (
                joint.offset + joint.multiplier * q[k, names.index(joint.source)]
                if joint.source != joint.name and model.nq == len(names) + 2
                else q[k, names.index(joint.source)]
            )
        pinocchio.framesForwardKinematics(model, data, values[: model.nq])
        for link in tree.links:
            at = data.oMf[model.getFrameId(link, pinocchio.FrameType.BODY)]
            np.testing.assert_allclose(placed[link].position[k], at.translation, atol=1e-12)
            np.testing.assert_allclose(placed[link].rotation[k], at.rotation, atol=1e-12)


def test_jacobians_agree_with_finite_differences(synthetic: Any, messages: Any) -> None:
    tree, _ = tree_of(synthetic)
    names = messages["names"]
    site = {"s": Site("right_finger_outer", rotation_from_rpy([0.1, 0.2, 0.3]), np.array([0.05, -0.02, 0.1]))}
    q = np.random.default_rng(4).uniform(-1.0, 1.0, (3, len(names)))
    _, jacobian = tree.jacobians(site, names, q)["s"]
    step = 1e-6
    for j in range(len(names)):
        ahead, back = q.copy(), q.copy()
        ahead[:, j] += step
        back[:, j] -= step
        a, b = tree.place_sites(site, names, ahead)["s"], tree.place_sites(site, names, back)["s"]
        np.testing.assert_allclose((a.position - b.position) / (2 * step), jacobian[:, :3, j], atol=1e-8)
        turn = rotation_vector(a.rotation @ np.swapaxes(b.rotation, -1, -2)) / (2 * step)
        np.testing.assert_allclose(turn, jacobian[:, 3:, j], atol=1e-8)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0, np.pi - 1e-7, np.pi])
def test_rotation_vectors_are_exact_at_every_angle(angle: float) -> None:
    axis = np.array([2.0, -1.0, 0.5])
    axis /= np.linalg.norm(axis)
    rotation = rotation_from_quaternion(np.array([*(np.sin(angle / 2) * axis), np.cos(angle / 2)])[None])
    assert rotation_angle(rotation)[0] == pytest.approx(angle, abs=2e-7)
    back = rotation_vector(rotation)[0]
    assert min(np.abs(back - angle * axis).max(), np.abs(back + angle * axis).max()) < 2e-7


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<robot>", "cannot be read"),
        ("", "cannot be read"),
        ('<robot name="r"><link name="a"/><link name="b"/></robot>', "no tree"),
        ('<robot name="r"><link name="a"/><joint name="j" type="fixed"/></robot>', "cannot be read"),
    ],
)
def test_what_is_no_urdf_is_refused(text: str, reason: str) -> None:
    with pytest.raises(EpisodeError, match=reason):
        KinematicTree(text)
