"""The environment that ROS needs where it was installed as wheels, set by the program itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from capture_nodes.resources import config_file

PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"
_FORMER_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
STATION_PROFILES, PICTURE_PROFILES = "fastdds.xml", "fastdds_cameras.xml"
_RANGE, _PEERS = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS"
_HERE, _AS_PROFILES = "LOCALHOST", "SYSTEM_DEFAULT"
_RMW, _FAST_DDS = "RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"


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
        if _RMW not in environment:
            added[_RMW] = _FAST_DDS
    if _RANGE not in environment:
        added[_RANGE] = _HERE
    return added


def station_environment(environment: Mapping[str, str], domain_id: int) -> dict[str, str]:
    """Variables of all processes of one station, on top of `environment`."""
    added = ros_environment(environment)
    added["ROS_DOMAIN_ID"] = str(domain_id)
    added |= _transport(environment, STATION_PROFILES)
    if _RMW not in {**environment, **added} and _finds_fast_dds(environment):
        # Named, so that it is sure who reads the profiles.
        added[_RMW] = _FAST_DDS
    by_profiles = PROFILES in added and {**environment, **added}.get(_RMW, "").startswith("rmw_fastrtps")
    # Other peers are known to ROS only.
    if (
        by_profiles
        and not environment.get(_PEERS)
        and environment.get(_RANGE, _HERE) in (_HERE, _AS_PROFILES)
    ):
        # With LOCALHOST rmw_fastrtps adds shared memory of its own. Our profiles find this machine only.
        added[_RANGE] = _AS_PROFILES
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


def picture_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Of a process that exchanges pictures and controls no robot, on top of `station_environment`."""
    return _transport(environment, PICTURE_PROFILES)


def _transport(environment: Mapping[str, str], profiles: str) -> dict[str, str]:
    ours = {str(config_file(name)) for name in (STATION_PROFILES, PICTURE_PROFILES)}
    given = environment.get(PROFILES, environment.get(_FORMER_PROFILES))
    # A station that is started from within the environment of another has its own all the same.
    return {PROFILES: str(config_file(profiles))} if given is None or given in ours else {}


def _finds_fast_dds(environment: Mapping[str, str]) -> bool:
    paths = environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    index = Path("share", "ament_index", "resource_index", "packages", _FAST_DDS)
    return any((Path(path) / index).is_file() for path in paths if path)


def prepare_ros_environment() -> None:
    """Apply `ros_environment` to this process; call it before `rclpy.init`."""
    os.environ.update(ros_environment(os.environ))
