"""Messages as bytes, without rclpy: serialized by rosbags, an implementation nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.message_schemas import ament_prefixes, schema_text
from retargeting.robot_model import RobotModel, load_robot

REPOSITORY = Path(__file__).resolve().parents[2]
QOS = "\n".join(
    [
        "- history: keep_last",
        "  depth: 10",
        "  reliability: reliable",
        "  durability: volatile",
        "  deadline: {sec: 9223372036, nsec: 854775807}",
        "  lifespan: {sec: 9223372036, nsec: 854775807}",
        "  liveliness: automatic",
        "  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}",
        "  avoid_ros_namespace_conventions: false",
    ]
)


@pytest.fixture(scope="session")
def prefixes() -> list[Path]:
    return ament_prefixes()


@pytest.fixture(scope="session")
def channel(prefixes: list[Path]) -> Callable[[str, str], ChannelDescription]:
    def make(topic: str, type_name: str) -> ChannelDescription:
        return ChannelDescription(
            topic, type_name, schema_text(type_name, prefixes), {"offered_qos_profiles": QOS}
        )

    return make


@pytest.fixture(scope="session")
def joint_state() -> Callable[..., bytes]:
    """CDR of a JointState: ``joint_state(stamp_ns, names, positions)``."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(stamp_ns: int, names: list[str], positions: list[float], frame_id: str = "") -> bytes:
        values = np.array(positions, dtype=np.float64)
        message = types["sensor_msgs/msg/JointState"](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](
                    sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000
                ),
                frame_id=frame_id,
            ),
            name=names,
            position=values,
            velocity=np.zeros(len(values)),
            effort=np.zeros(len(values)),
        )
        return bytes(store.serialize_cdr(message, "sensor_msgs/msg/JointState"))

    return make


@pytest.fixture(scope="session")
def diagnostic_status() -> Callable[..., bytes]:
    """CDR of a DiagnosticStatus: ``diagnostic_status(name, message, values)``."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(name: str, message: str, values: dict[str, str]) -> bytes:
        key_value = types["diagnostic_msgs/msg/KeyValue"]
        status = types["diagnostic_msgs/msg/DiagnosticStatus"](
            level=0,
            name=name,
            message=message,
            hardware_id="",
            values=[key_value(key=key, value=value) for key, value in values.items()],
        )
        return bytes(store.serialize_cdr(status, "diagnostic_msgs/msg/DiagnosticStatus"))

    return make


@pytest.fixture(scope="session")
def final_counts() -> Callable[..., bytes]:
    """CDR of the DiagnosticArray in which a node reports its counts."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(node: str, counts: dict[str, str], kind: str = "final") -> bytes:
        key_value = types["diagnostic_msgs/msg/KeyValue"]
        array = types["diagnostic_msgs/msg/DiagnosticArray"](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), frame_id=""
            ),
            status=[
                types["diagnostic_msgs/msg/DiagnosticStatus"](
                    level=0,
                    name=f"{node}: published",
                    message="",
                    hardware_id=kind,
                    values=[key_value(key=key, value=value) for key, value in counts.items()],
                )
            ],
        )
        return bytes(store.serialize_cdr(array, "diagnostic_msgs/msg/DiagnosticArray"))

    return make


@pytest.fixture(scope="session")
def image_message() -> Callable[..., bytes]:
    """CDR of an Image: ``image_message(pixels, encoding, stamp_ns, …)``, rows filled up by ``padding``."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(
        pixels: np.ndarray,
        encoding: str = "rgb8",
        stamp_ns: int = 0,
        frame_id: str = "camera_optical",
        padding: int = 0,
        little_endian: bool = True,
    ) -> bytes:
        height, width = pixels.shape[:2]
        rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
        # What pads a row is of no picture: a value that would show.
        rows = np.hstack([rows, np.full((height, padding), 173, dtype=np.uint8)])
        message = types["sensor_msgs/msg/Image"](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](
                    sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000
                ),
                frame_id=frame_id,
            ),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=rows.reshape(-1),
        )
        return bytes(store.serialize_cdr(message, "sensor_msgs/msg/Image", little_endian=little_endian))

    return make


@pytest.fixture(scope="session")
def kestrel() -> RobotModel:
    return load_robot(REPOSITORY / "robot_descriptions" / "kestrel" / "robot.yaml")


@pytest.fixture(scope="session")
def simulation_diagnostics() -> Callable[[str, str], bytes]:
    """CDR of the DiagnosticArray of a simulated robot: ``simulation_diagnostics(node, factor)``."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(node: str, factor: str) -> bytes:
        array = types["diagnostic_msgs/msg/DiagnosticArray"](
            header=types["std_msgs/msg/Header"](
                stamp=types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), frame_id=""
            ),
            status=[
                types["diagnostic_msgs/msg/DiagnosticStatus"](
                    level=0,
                    name=node,
                    message="",
                    hardware_id="",
                    values=[types["diagnostic_msgs/msg/KeyValue"](key="real_time_factor", value=factor)],
                )
            ],
        )
        return bytes(store.serialize_cdr(array, "diagnostic_msgs/msg/DiagnosticArray"))

    return make
