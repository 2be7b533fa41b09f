from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retargeting import collision_cache
from retargeting.errors import InvalidConfiguration
from retargeting.robot_model import RobotModel, load_robot

# `driven_robot` is shared by the tests here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

REPOSITORY = Path(__file__).resolve().parents[2]
# What was described and tuned by hand; all others are `onboard`'s and have tests of their own.
ROBOTS = ("g1", "kestrel")


@pytest.fixture(scope="session", autouse=True)
def own_collision_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models are built, not what an earlier run kept, and the user's stay as they are."""
    folder = tmp_path_factory.mktemp("collision_models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collision_cache, "collision_folder", lambda: folder)
        yield


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
