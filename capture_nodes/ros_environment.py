"""The environment that ROS needs where it was installed as wheels, set by the program itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from capture_nodes.resources import config_file


def wheel_prefix() -> Path | None:
    """The virtual environment that holds ROS as wheels, or None on a ROS install."""
    prefix = Path(sys.prefix)
    return prefix if (prefix / "share" / "ament_index" / "resource_index").is_dir() else None


def ros_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to `environment` so that rclpy starts; what is set already is kept."""
    added: dict[str, str] = {}
    prefix = wheel_prefix()
    if prefix is not None:
        paths = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        if str(prefix) not in paths:
            added["AMENT_PREFIX_PATH"] = os.pathsep.join([*paths, str(prefix)])
        if "RMW_IMPLEMENTATION" not in environment:
            added["RMW_IMPLEMENTATION"] = "rmw_fastrtps_cpp"
    if "ROS_AUTOMATIC_DISCOVERY_RANGE" not in environment:
        added["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return added


def station_environment(environment: Mapping[str, str], domain_id: int) -> dict[str, str]:
    """Variables of all processes of one station, on top of `environment`."""
    added = ros_environment(environment)
    added["ROS_DOMAIN_ID"] = str(domain_id)
    if (
        "FASTDDS_DEFAULT_PROFILES_FILE" not in environment
        and "FASTRTPS_DEFAULT_PROFILES_FILE" not in environment
    ):
        added["FASTDDS_DEFAULT_PROFILES_FILE"] = str(config_file("fastdds.xml"))
    defaults = {
        # Camera buffers stay in the heap instead of being mapped and zeroed for every picture.
        "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
        "MALLOC_ARENA_MAX": "2",
        # One thread each: the matrices are small, and the processes share few cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    added |= {name: value for name, value in defaults.items() if name not in environment}
    return added


def prepare_ros_environment() -> None:
    """Apply `ros_environment` to this process; call it before `rclpy.init`."""
    os.environ.update(ros_environment(os.environ))
