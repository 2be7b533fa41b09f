"""What the load consists of: streams, their rates and histories, and the processes that publish them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capture_nodes.errors import CaptureError
from capture_nodes.topics import STREAM_HISTORY_S

ROBOT = "kestrel"
JOINTS, POINTS, TAXELS = 30, 60, 16
WIDTH, HEIGHT = 640, 480
FRAME_BYTES = 3 * WIDTH * HEIGHT
WRENCHES, TACTILES, CAMERAS = 4, 4, 3
JOINT_HZ, COMMAND_HZ, TACTILE_HZ, MOTION_HZ, CAMERA_HZ = 500.0, 200.0, 100.0, 90.0, 30.0
# Processes as a station has them: robot, retargeting, headset, cameras.
PARTS = ("robot", "commands", "trainer", "cameras")
# What must be lost last comes first.
PRIORITIES = ("joints and commands", "wrenches", "motion", "tactile", "cameras")
LARGEST_SCALE = 20.0

_PRIORITY_OF = {
    "joint_states": "joints and commands",
    "joint_commands": "joints and commands",
    "wrench": "wrenches",
    "tactile": "tactile",
    "motion": "motion",
    "camera": "cameras",
}


@dataclass(frozen=True)
class Histories:
    """Depths of the publishers. streams_s: seconds of a stream; control_s: of joint states and commands.

    camera_mb: at most so much of every camera. The defaults are what the nodes of the product have.
    """

    streams_s: float = STREAM_HISTORY_S
    control_s: float = STREAM_HISTORY_S
    camera_mb: float = 16.0


@dataclass(frozen=True)
class LoadStream:
    """One topic of the load. ``kind``: what it carries; ``pattern``: its key in `recorder.yaml`."""

    topic: str
    pattern: str
    type_name: str
    kind: str
    rate_hz: float
    part: str
    depth: int

    @property
    def priority(self) -> str:
        return _PRIORITY_OF[self.kind]


def priority_of(topic: str) -> str:
    """The row of the table that a topic of the load belongs to."""
    name = topic.removeprefix(f"/{ROBOT}/").removeprefix("/trainer/")
    return _PRIORITY_OF[name.split("/")[0]]


def plan_load(scale: float = 1.0, histories: Histories | None = None) -> tuple[LoadStream, ...]:
    """The load of the benchmark times ``scale``: rates, and for cameras (always at 30 Hz) their number.

    Raises `CaptureError` on a scale or a history that is out of bounds.
    """
    histories = histories or Histories()
    if not 0.05 <= scale <= LARGEST_SCALE:
        raise CaptureError(f"scale {scale:g} is given; 0.05 to {LARGEST_SCALE:g} is expected")
    for name in ("streams_s", "control_s"):
        if not 0.01 <= getattr(histories, name) <= 120.0:
            raise CaptureError(f"history {name} {getattr(histories, name):g} is given; 0.01 to 120 expected")

    def depth(rate_hz: float, history_s: float) -> int:
        # As `topics.stream_qos` has it.
        return max(10, round(rate_hz * history_s))

    def small(topic: str, pattern: str, type_name: str, kind: str, rate_hz: float, part: str) -> LoadStream:
        rate_hz *= scale
        control = _PRIORITY_OF[kind] == PRIORITIES[0]
        history_s = histories.control_s if control else histories.streams_s
        return LoadStream(topic, pattern, type_name, kind, rate_hz, part, depth(rate_hz, history_s))

    robot = f"/{ROBOT}"
    joint_state = "sensor_msgs/msg/JointState"
    image = "sensor_msgs/msg/Image"
    wrench = "geometry_msgs/msg/WrenchStamped"
    motion = "sensor_msgs/msg/MultiDOFJointState"
    streams = [
        small(f"{robot}/joint_states", "joint_states", joint_state, "joint_states", JOINT_HZ, "robot"),
        small(
            f"{robot}/joint_commands", "joint_commands", joint_state, "joint_commands", COMMAND_HZ, "commands"
        ),
        *(
            small(f"{robot}/wrench/site_{i}", "wrench/{site}", wrench, "wrench", JOINT_HZ, "robot")
            for i in range(WRENCHES)
        ),
        *(
            small(f"{robot}/tactile/site_{i}", "tactile/{site}", image, "tactile", TACTILE_HZ, "robot")
            for i in range(TACTILES)
        ),
        small("/trainer/motion", "/trainer/motion", motion, "motion", MOTION_HZ, "trainer"),
    ]
    frames = max(
        2, min(round(CAMERA_HZ * histories.streams_s), int(histories.camera_mb * 1e6) // FRAME_BYTES)
    )
    streams += [
        LoadStream(
            f"{robot}/camera/camera_{i}/image",
            "camera/{name}/image",
            image,
            "camera",
            CAMERA_HZ,
            "cameras",
            frames,
        )
        for i in range(max(1, round(CAMERAS * scale)))
    ]
    return tuple(streams)


def recorder_yaml(
    shipped: dict[str, Any], streams: tuple[LoadStream, ...], given: dict[str, Any], encoding: str = ""
) -> dict[str, Any]:
    """The shipped configuration with the load's topics and rates instead of a station's.

    ``given``: values by dotted key (`taking.poll_s`) that replace what is shipped. ``encoding`` goes to the
    cameras where it is not empty. Everything else stays: what is measured is what is shipped.
    """
    configuration: dict[str, Any] = {
        name: dict(section) if isinstance(section, dict) else section for name, section in shipped.items()
    }
    known = configuration["topics"]
    # The publishers' own counts come on it.
    topics: dict[str, Any] = {"/diagnostics": known["/diagnostics"]}
    for stream in streams:
        rule = dict(known[stream.pattern])
        rule["rate_hz"] = stream.rate_hz
        if encoding and stream.kind == "camera":
            rule["encoding"] = encoding
        topics[stream.pattern] = rule
    configuration["topics"] = topics
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        if not section or section == "topics":
            raise CaptureError(f"--set {key}: a key of a section such as taking.poll_s is expected")
        configuration.setdefault(section, {})[name] = value
    return configuration
