"""A robot whose waist can bring its chest into its hips: those are kept apart, not left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_finer_pairs import LinkShapes, link_poses

from retargeting.collision_cache import collision_model
from retargeting.collision_pairs import CollisionModel
from retargeting.robot_model import RobotModel, load_robot

ROBOTS = Path(__file__).resolve().parents[2] / "robot_descriptions"
# Over three joints each: of the waist, and of the shoulder below the head.
BENT = [("chest", "l_hip_2"), ("chest", "r_hip_1"), ("chest", "r_hip_2"), ("chest", "r_upper_leg")]
RAISED = [("head", "r_upper_arm")]


@pytest.fixture(scope="module")
def icub() -> RobotModel:
    return load_robot(ROBOTS / "icub_reduced" / "robot.yaml")


@pytest.fixture(scope="module")
def collision(icub: RobotModel) -> CollisionModel:
    return collision_model(icub)


def test_links_that_rest_apart_are_kept_apart_though_the_joints_between_are_few(collision: CollisionModel):
    exempt = {frozenset(pair[:2]) for pair in collision.exempt_links()}
    kept = {frozenset(pair) for pair in collision.link_pairs()}
    for pair in [*BENT, *RAISED]:
        assert frozenset(pair) in kept and frozenset(pair) not in exempt, pair


def test_they_do_touch_and_their_capsules_never_say_more_than_the_true_distance(
    icub: RobotModel, collision: CollisionModel
):
    shapes, rng = LinkShapes(icub, collision), np.random.default_rng(5)
    pairs = {
        links: [k for k, names in enumerate(collision.link_pairs()) if set(names) == set(links)]
        for links in BENT
    }
    touching = 0
    for _ in range(60):
        q = rng.uniform(icub.lower, icub.upper)
        poses, distances = link_poses(icub, q), collision.distances(q)
        for links, own in pairs.items():
            true_m = shapes.distance(links, poses)
            touching += true_m <= 0.0
            if true_m < collision.margin_m:
                assert distances[own].min() <= true_m + 1e-6, links
    assert touching > 0
