from __future__ import annotations

import importlib.metadata

import pytest

from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.simulation.scene import SceneDescription, load_scene
from retargeting.robot_model import RobotModel, load_robot


@pytest.fixture(scope="session")
def kestrel() -> RobotModel:
    return load_robot(robot_description_file("kestrel"))


@pytest.fixture(scope="session")
def g1() -> RobotModel:
    try:
        importlib.metadata.version("example-robot-data")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("example-robot-data is not installed, the g1 cannot be loaded")
    return load_robot(robot_description_file("g1"))


@pytest.fixture(params=["kestrel", "g1"])
def robot(request: pytest.FixtureRequest) -> RobotModel:
    model: RobotModel = request.getfixturevalue(request.param)
    return model


@pytest.fixture(scope="session")
def scene() -> SceneDescription:
    return load_scene(config_file("scene.yaml"))
