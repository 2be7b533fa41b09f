"""The station under `ros2 launch`: the scenarios of the graph tests, on a ROS 2 install.

They need `launch_testing` and an installed package (`colcon build`); where that is missing they are
skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

launch_testing = pytest.importorskip(
    "launch_testing", reason="launch_testing is not installed: these run on a ROS 2 install"
)
pytest.importorskip("launch_ros", reason="launch_ros is not installed: these run on a ROS 2 install")

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing.io_handler import ActiveIoHandler  # noqa: E402,F401

import launch  # noqa: E402

STATION = Path(__file__).resolve().parents[2] / "launch" / "station.launch.py"


def run_station(arguments: dict[str, str]) -> tuple[int, launch.LaunchService]:
    """Run the launch file to its end; answers launch's return code."""
    service = launch.LaunchService()
    service.include_launch_description(
        launch.LaunchDescription(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(str(STATION)), launch_arguments=list(arguments.items())
                )
            ]
        )
    )
    return service.run(), service


@pytest.mark.slow
def test_one_scripted_repetition(tmp_path: Path) -> None:
    code, _ = run_station({"root": str(tmp_path), "episodes": "1", "domain_id": "66"})
    assert code == 0
    files = sorted(tmp_path.rglob("*.mcap"))
    assert len(files) == 1 and not list(tmp_path.rglob("*.mcap.active"))


def test_an_unknown_robot_starts_nothing(tmp_path: Path) -> None:
    code, _ = run_station({"root": str(tmp_path), "robot": "nobody", "domain_id": "66"})
    assert code != 0
    assert list(tmp_path.rglob("*.mcap*")) == []


@pytest.mark.slow
def test_a_recorded_motion(tmp_path: Path) -> None:
    motions = Path(__file__).resolve().parents[3] / "shared" / "motions"
    files = sorted(motions.glob("*.bvh"))
    if not files:
        pytest.skip(f"no recorded motions in {motions}")
    values = {
        "root": str(tmp_path),
        "source": "bvh",
        "motion": str(files[0]),
        "episodes": "1",
        "domain_id": "66",
    }
    code, _ = run_station(values)
    assert code == 0
    assert len(list(tmp_path.rglob("*.mcap"))) == 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
