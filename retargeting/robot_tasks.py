"""What is asked of a robot: its wrists' poses, its head's orientation, its elbows' directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.frames import pose_compose, rotation_matrix_from_quaternion
from retargeting.kinematics import build_tree
from retargeting.robot_model import RobotModel
from retargeting.solver_parameters import SolverParameters
from retargeting.tasks import TaskArrays, TaskLayout

Array = NDArray[np.float64]

POSE_SITES = ("left_wrist", "right_wrist", "head")


def robot_tasks(model: RobotModel, parameters: SolverParameters) -> TaskLayout:
    """Tasks of a robot: wrists, head and elbows over its chains' joints."""
    description = model.description
    names = model.joint_names[: model.body_count]
    sites = [name for name in description.sites]
    tree, body_of = build_tree(
        model.urdf, names, model.locked_positions, keep=[description.sites[name].link for name in sites]
    )

    def place(site: str) -> tuple[int, Array, Array]:
        link_body, link_pose = body_of[description.sites[site].link]
        pose = pose_compose(link_pose, description.sites[site].pose)
        return tree.index(link_body), pose[:3], rotation_matrix_from_quaternion(pose[3:])

    root = (0, np.zeros(3), np.eye(3))
    places = [place(site) if site in sites else root for site in POSE_SITES]
    has_head = bool(description.chains["head"]) and "head" in sites
    position_weights = [parameters.position_weight * (site in sites) for site in POSE_SITES[:2]]
    orientation_weights = [parameters.orientation_weight_m_rad * (site in sites) for site in POSE_SITES[:2]]
    pairs = [
        (place(f"{side}_shoulder"), place(f"{side}_elbow"))
        if f"{side}_shoulder" in sites and f"{side}_elbow" in sites
        else (root, root)
        for side in SIDES
    ]
    waist = set(description.chains["waist"])
    has_elbow = np.array([b[0] > 0 for _, b in pairs])
    arrays = TaskArrays(
        site_bodies=np.array([p[0] for p in places], dtype=np.int64),
        site_positions=np.array([p[1] for p in places]),
        site_rotations=np.array([p[2] for p in places]),
        position_weights=np.array([*position_weights, 0.0]),
        orientation_weights=np.array(
            [*orientation_weights, parameters.head_orientation_weight_m_rad if has_head else 0.0]
        ),
        from_bodies=np.array([a[0] for a, _ in pairs], dtype=np.int64),
        from_positions=np.array([a[1] for a, _ in pairs]),
        to_bodies=np.array([b[0] for _, b in pairs], dtype=np.int64),
        to_positions=np.array([b[1] for _, b in pairs]),
        direction_weights=np.where(has_elbow, parameters.elbow_weight_m, 0.0),
        posture_weights=np.array(
            [
                parameters.waist_posture_weight_m_rad if name in waist else parameters.posture_weight_m_rad
                for name in names
            ]
        ),
        posture=model.neutral[: model.body_count].copy(),
        trunk=np.array([name in waist for name in names]),
    )
    return TaskLayout(tree, arrays)
