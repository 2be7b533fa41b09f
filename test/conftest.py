"""What all tests need: ROS usable from the wheels, no network beyond this machine, patience."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from capture_nodes.ros_environment import prepare_ros_environment

prepare_ros_environment()

# A machine that others load is slow at drawing examples; that says nothing of the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def trainer_bytes() -> Callable[[Any, str], tuple[bytes, bytes]]:
    """CDR of `/trainer/motion` and `/trainer/buttons` of a motion frame, by rosbags' serializer."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def make(frame: Any, frame_id: str = "trainer") -> tuple[bytes, bytes]:
        stamp = types["builtin_interfaces/msg/Time"](
            sec=frame.stamp_ns // 1_000_000_000, nanosec=frame.stamp_ns % 1_000_000_000
        )
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
        transforms = []
        for x, y, z, qx, qy, qz, qw in (pose.tolist() for pose in frame.poses.values()):
            translation = types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z)
            rotation = types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw)
            transforms.append(
                types["geometry_msgs/msg/Transform"](translation=translation, rotation=rotation)
            )
        motion = types["sensor_msgs/msg/MultiDOFJointState"](
            header=header, joint_names=list(frame.poses), transforms=transforms, twist=[], wrench=[]
        )
        joy = types["sensor_msgs/msg/Joy"](
            header=header,
            axes=np.array(frame.controls.axes, dtype=np.float32),
            buttons=np.array(frame.controls.buttons, dtype=np.int32),
        )
        return (
            bytes(store.serialize_cdr(motion, "sensor_msgs/msg/MultiDOFJointState")),
            bytes(store.serialize_cdr(joy, "sensor_msgs/msg/Joy")),
        )

    return make


@pytest.fixture(scope="session")
def record_trainer(trainer_bytes: Callable[..., tuple[bytes, bytes]]) -> Callable[..., Path]:
    """Write an episode as the recorder does, with nothing but a trainer in it: `frames`."""
    from capture_nodes.recording.episode_parts import EpisodeParts, SplitLimits
    from capture_nodes.recording.episode_record import EpisodeFields, closing_record, opening_record
    from capture_nodes.recording.mcap_file import Attachment, ChannelDescription
    from capture_nodes.recording.message_schemas import ament_prefixes, schema_text

    prefixes = ament_prefixes()

    def channel(topic: str, kind: str) -> ChannelDescription:
        return ChannelDescription(topic, kind, schema_text(kind, prefixes))

    def write(
        path: Path,
        frames: Sequence[Any],
        *,
        topic: str = "/trainer/motion",
        frame_id: str = "trainer",
        station: Mapping[str, object] | None = None,
        split_bytes: int | None = None,
        finish: bool = True,
        robot: str = "kestrel",
        episode_id: str = "019aa5a5-0000-7000-8000-000000000001",
    ) -> Path:
        file = EpisodeParts(path, limits=SplitLimits(max_bytes=split_bytes))
        file.open()
        start_ns = frames[0].stamp_ns if frames else 1
        opening = opening_record(EpisodeFields(robot, "wave", source="script"), episode_id, start_ns)
        if station is not None:
            said = json.dumps(station).encode()
            file.attach(Attachment("station.json", "application/json", said), start_ns)
        for sequence, frame in enumerate(frames):
            motion, buttons = trainer_bytes(frame, frame_id)
            log_ns = frame.stamp_ns + 1000
            kind = "sensor_msgs/msg/MultiDOFJointState"
            file.write(channel(topic, kind), log_ns, frame.stamp_ns, sequence, motion)
            joy = channel("/trainer/buttons", "sensor_msgs/msg/Joy")
            file.write(joy, log_ns, frame.stamp_ns, sequence, buttons)
        if not finish:
            file.flush()
            file.abandon()
            return file.active_path
        end_ns = frames[-1].stamp_ns if frames else 1
        file.add_metadata("episode", closing_record(opening, start_ns=start_ns, end_ns=end_ns, topics={}))
        row = {"topic": "/trainer/motion", "expected_hz": 90.0}
        file.add_metadata("streams", {"/trainer/motion test": json.dumps(row)})
        return file.finish()

    return write
