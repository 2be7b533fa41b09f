"""What `ros2 bag` reads beside the messages: the `rosbag2` record in a file.

The format is that of rosbag2 (`rosbag2_storage/yaml.hpp`), in version 8: the last whose QoS is a text, which
is how the channels of a file have it; rosbag2 of Jazzy and newer read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

ROSBAG2_RECORD = "rosbag2"
# What Foxglove reads a recording's device and idempotency key from.
FOXGLOVE_RECORD = "foxglove"

_VERSION = 8
_SERIALIZATION = "cdr"
# Keys of a channel's metadata, as rosbag2 names them.
OFFERED_QOS = "offered_qos_profiles"
TYPE_HASH = "topic_type_hash"


@dataclass(frozen=True)
class BagTopic:
    """`metadata`: of the channel, with `offered_qos_profiles` and `topic_type_hash` where known."""

    name: str
    type_name: str
    messages: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class BagFile:
    """One file of a bag; `first_ns`, `last_ns`: its earliest and latest log time, 0 where it is empty."""

    name: str
    first_ns: int
    last_ns: int
    messages: int
    topics: tuple[BagTopic, ...]


def rosbag2_record(file: BagFile, ros_distro: str = "unknown") -> dict[str, str]:
    """The metadata record named `rosbag2` for a file that stands alone."""
    return {"serialized_metadata": _yaml(_information(file, ros_distro))}


def foxglove_record(device: str, key: str) -> dict[str, str]:
    """The metadata record named `foxglove`: whose recording it is; the key makes uploads idempotent."""
    return {"deviceName": device, "key": key}


def _information(file: BagFile, ros_distro: str) -> dict[str, object]:
    start, length = (
        {"nanoseconds_since_epoch": file.first_ns},
        {"nanoseconds": file.last_ns - file.first_ns},
    )
    return {
        "version": _VERSION,
        "storage_identifier": "mcap",
        "duration": length,
        "starting_time": start,
        "message_count": file.messages,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type_name,
                    "serialization_format": _SERIALIZATION,
                    "offered_qos_profiles": topic.metadata.get(OFFERED_QOS, ""),
                    "type_description_hash": topic.metadata.get(TYPE_HASH, ""),
                },
                "message_count": topic.messages,
            }
            for topic in file.topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.name],
        "files": [
            {
                "path": file.name,
                "starting_time": dict(start),
                "duration": dict(length),
                "message_count": file.messages,
            }
        ],
        "custom_data": None,
        "ros_distro": ros_distro,
    }


def _yaml(value: Mapping[str, object]) -> str:
    # The C emitter where the package has it: a file is not finished before this is written.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(dict(value), Dumper=dumper, sort_keys=False, width=1000, allow_unicode=True)
    return text
