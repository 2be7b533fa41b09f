from __future__ import annotations

import sys
from pathlib import Path

import pytest

from retargeting.errors import InvalidConfiguration
from retargeting.robot_model import RobotModel, load_robot

# `driven_robot` is shared by the tests here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

REPOSITORY = Path(__file__).resolve().parents[2]
# What was described and tuned by hand; all others are `onboard`'s and have tests of their own.
ROBOTS = ("g1", "kestrel")


def robot(name: str) -> RobotModel:
    try:
        return load_robot(REPOSITORY / "robot_descriptions" / name / "robot.yaml")
    except InvalidConfiguration as error:
        if "is not installed" in str(error):
            pytest.skip(f"robot {name}: {error}")
        raise


@pytest.fixture(params=ROBOTS, scope="session")
def model(request: pytest.FixtureRequest) -> RobotModel:
    return robot(request.param)


@pytest.fixture(scope="session")
def kestrel() -> RobotModel:
    return robot("kestrel")
