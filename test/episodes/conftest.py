"""A synthetic episode of a small two-armed robot that tests take apart, and a writer for it.

Messages are serialized by `rosbags`, which shares no code with the reader under test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from episodes.kinematics import KinematicTree, Site
from retargeting.frames import quaternion_from_rotation_matrix, quaternion_from_rotation_vector

Array = NDArray[np.float64]
STORE = get_typestore(Stores.ROS2_JAZZY)
ROBOT = "toy"
START_NS = 1_700_000_000_000_000_000

ARM = (
    ("shoulder_pitch", "0 1 0", 0.0),
    ("shoulder_roll", "1 0 0", 0.0),
    ("shoulder_yaw", "0 0 1", 0.0),
    ("elbow_pitch", "0 1 0", 0.3),
    ("wrist_yaw", "0 0 1", 0.25),
    ("wrist_pitch", "0 1 0", 0.0),
    ("wrist_roll", "1 0 0", 0.0),
)


def toy_urdf() -> str:
    """Pelvis, two arms of seven joints stretched forward, one sliding finger with a mimic twin each."""
    links = ["pelvis"]
    joints = []

    def joint(name: str, kind: str, parent: str, child: str, xyz: str, axis: str, extra: str) -> None:
        links.append(child)
        joints.append(
            f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{xyz}" rpy="0 0 0"/><axis xyz="{axis}"/>{extra}</joint>'
        )

    for side, y in (("left", 0.2), ("right", -0.2)):
        parent, xyz = "pelvis", f"0 {y} 0.4"
        for part, axis, length in ARM:
            child = f"{side}_{part}_link"
            if length:
                xyz = f"{length} 0 0"
            limit = '<limit lower="-2" upper="2" velocity="8" effort="50"/>'
            joint(f"{side}_{part}", "revolute", parent, child, xyz, axis, limit)
            parent, xyz = child, "0 0 0"
        joint(f"{side}_hand_fixed", "fixed", parent, f"{side}_hand", "0.1 0 0", "1 0 0", "")
        slide = '<limit lower="0" upper="0.04" velocity="1" effort="50"/>'
        joint(
            f"{side}_finger", "prismatic", f"{side}_hand", f"{side}_finger_inner", "0 0.05 0", "0 -1 0", slide
        )
        mimic = slide + f'<mimic joint="{side}_finger" multiplier="1" offset="0"/>'
        joint(
            f"{side}_finger_twin",
            "prismatic",
            f"{side}_hand",
            f"{side}_finger_outer",
            "0 -0.05 0",
            "0 1 0",
            mimic,
        )
    body = "".join(f'<link name="{link}"/>' for link in links) + "".join(joints)
    return f'<?xml version="1.0"?><robot name="toy">{body}</robot>'


TOY_YAML = """
name: toy
urdf: {file: robot.urdf}
base_link: pelvis
chains:
  left_arm: [%LEFT%]
  right_arm: [%RIGHT%]
sites:
  left_wrist: {link: left_hand, xyz_m: [0.0, 0.0, 0.0], rpy_rad: [0.0, 0.0, 0.0]}
  right_wrist: {link: right_hand, xyz_m: [0.02, 0.0, 0.0], rpy_rad: [0.0, 0.3, 0.0]}
sensors:
  wrenches: {left_wrist: {link: left_hand}, right_wrist: {link: right_hand}}
  tactile:
    left_inner: {link: left_finger_inner, rows: 4, columns: 4, size_m: [0.02, 0.02]}
    right_inner: {link: right_finger_inner, rows: 4, columns: 4, size_m: [0.02, 0.02]}
"""


def toy_yaml() -> str:
    text = TOY_YAML
    for side in ("left", "right"):
        text = text.replace(f"%{side.upper()}%", ", ".join(f"{side}_{part}" for part, _, _ in ARM))
    return text


SITES = {
    "left_wrist": Site("left_hand", np.eye(3), np.zeros(3)),
    "right_wrist": Site(
        "right_hand",
        np.array([[np.cos(0.3), 0.0, np.sin(0.3)], [0.0, 1.0, 0.0], [-np.sin(0.3), 0.0, np.cos(0.3)]]),
        np.array([0.02, 0.0, 0.0]),
    ),
}
NAMES = tuple(f"{side}_{part}" for side in ("left", "right") for part, _, _ in ARM)
NAMES = (*NAMES, "left_finger", "right_finger")


def make(message_type: str, /, **fields: Any) -> Any:
    return STORE.types[message_type](**fields)


def stamp(time_ns: int) -> Any:
    return make("builtin_interfaces/msg/Time", sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def header(time_ns: int, frame: str) -> Any:
    return make("std_msgs/msg/Header", stamp=stamp(time_ns), frame_id=frame)


def joint_state(time_ns: int, names: tuple[str, ...], position: Array, velocity: Array) -> Any:
    return make(
        "sensor_msgs/msg/JointState",
        header=header(time_ns, ""),
        name=list(names),
        position=np.ascontiguousarray(position, dtype=np.float64),
        velocity=np.ascontiguousarray(velocity, dtype=np.float64),
        effort=np.zeros(len(names)),
    )


def _pose(position: Array, xyzw: Array) -> Any:
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", **dict(zip("xyz", map(float, position), strict=True))),
        orientation=make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, xyzw), strict=True))),
    )


def pose_stamped(time_ns: int, frame: str, position: Array, xyzw: Array) -> Any:
    return make("geometry_msgs/msg/PoseStamped", header=header(time_ns, frame), pose=_pose(position, xyzw))


def _vector(values: Array) -> Any:
    return make("geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, values), strict=True)))


def wrench_stamped(time_ns: int, frame: str, force: Array) -> Any:
    wrench = make("geometry_msgs/msg/Wrench", force=_vector(force), torque=_vector(np.zeros(3)))
    return make("geometry_msgs/msg/WrenchStamped", header=header(time_ns, frame), wrench=wrench)


def image(time_ns: int, frame: str, pixels: NDArray[Any], encoding: str) -> Any:
    return make(
        "sensor_msgs/msg/Image",
        header=header(time_ns, frame),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def transform(time_ns: int, parent: str, child: str, position: Array, xyzw: Array) -> Any:
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(time_ns, parent),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=_vector(position),
            rotation=make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, xyzw), strict=True))),
        ),
    )


def tf_message(transforms: list[Any]) -> Any:
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def time_reference(time_ns: int, cause_ns: int) -> Any:
    return make(
        "sensor_msgs/msg/TimeReference",
        header=header(time_ns, ""),
        time_ref=stamp(cause_ns),
        source="trainer",
    )


@dataclass
class Sample:
    """One message: `time_ns` is its stamp and publish time; it is logged a millisecond later."""

    time_ns: int
    message: Any
    sequence: int


@dataclass
class SyntheticEpisode:
    """Topics to samples, freely changed by tests, and `write`."""

    topics: dict[str, list[Sample]] = field(default_factory=dict)
    episode: dict[str, str] | None = field(default_factory=dict)
    opening: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    log_delay_ns: int = 1_000_000

    def add(self, topic: str, time_ns: int, message: Any) -> None:
        samples = self.topics.setdefault(topic, [])
        samples.append(Sample(time_ns, message, len(samples) + 1))

    def replace(self, topic: str, change: Callable[[int, Any], Any]) -> None:
        """Replace every message of a topic by ``change(index, message)``."""
        for index, sample in enumerate(self.topics[topic]):
            sample.message = change(index, sample.message)

    def write(self, path: Path, compression: CompressionType = CompressionType.ZSTD) -> Path:
        with path.open("wb") as file:
            writer = Writer(file, chunk_size=256 * 1024, compression=compression)
            writer.start(profile="ros2", library="test")
            schemas: dict[str, int] = {}
            rows: list[tuple[int, int, Sample]] = []
            for topic, samples in self.topics.items():
                if not samples:
                    continue
                name = samples[0].message.__msgtype__
                if name not in schemas:
                    text, _ = STORE.generate_msgdef(name, ros_version=2)
                    schemas[name] = writer.register_schema(name, "ros2msg", text.encode())
                channel = writer.register_channel(topic, "cdr", schemas[name])
                rows += [(sample.time_ns, channel, sample) for sample in samples]
            for time_ns, channel, sample in sorted(rows, key=lambda row: row[0]):
                data = bytes(STORE.serialize_cdr(sample.message, sample.message.__msgtype__))
                writer.add_message(channel, time_ns + self.log_delay_ns, data, time_ns, sample.sequence)
            for name, content in self.attachments.items():
                writer.add_attachment(START_NS, START_NS, name, "text/plain", content)
            if self.opening:
                writer.add_metadata("episode_opening", self.opening)
            if self.episode is not None:
                writer.add_metadata("episode", self.episode)
                writer.add_metadata("streams", self._streams())
            writer.finish()
        return path

    def _streams(self) -> dict[str, str]:
        table = {}
        for topic, samples in self.topics.items():
            counts = {"published": len(samples), "received": len(samples), "written": len(samples), "lost": 0}
            gid = "0102"
            row = {"topic": topic, "gid": gid, "tail_known": True, "repeated": 0, **counts}
            if topic == "/tf":
                row["expected_hz"] = 200.0
            table[f"{topic} {gid}"] = json.dumps({**row, **self.counts.get(topic, {})})
        return table


def smooth(share: Array) -> Array:
    """Minimum jerk from 0 to 1."""
    s = np.clip(share, 0.0, 1.0)
    return 10 * s**3 - 15 * s**4 + 6 * s**5


def joint_path(seconds: Array, length_s: float) -> Array:
    """Joint positions ``(n, joints)``: a gentle reach with the right arm, fingers closing."""
    q = np.zeros((len(seconds), len(NAMES)))
    bump = smooth(seconds / (0.4 * length_s)) * smooth((length_s - seconds) / (0.4 * length_s))
    for k, name in enumerate(NAMES):
        if name.endswith("elbow_pitch"):
            q[:, k] = -0.6 + 0.2 * bump
        elif name == "right_shoulder_pitch":
            q[:, k] = 0.3 - 0.5 * bump
        elif name.endswith("finger"):
            q[:, k] = 0.02 * bump
        else:
            q[:, k] = 0.05 * (1 + k % 3) * bump
    return q


def tree_transforms(
    tree: KinematicTree, values: dict[str, float], static: bool
) -> list[tuple[str, str, Array, Array]]:
    """(parent, child, position, quaternion) of every fixed or every moving joint."""
    found = []
    for item in tree.joints.values():
        if item.moves == static:
            continue
        q = item.offset + item.multiplier * values.get(item.source, 0.0)
        position, turn = item.position, np.array([0.0, 0.0, 0.0, 1.0])
        if item.kind == "prismatic":
            position = position + q * item.axis
        elif item.moves:
            turn = quaternion_from_rotation_vector(q * item.axis)
        found.append((f"{ROBOT}/{item.parent}", f"{ROBOT}/{item.child}", position, turn))
    return found


def synthetic_episode(length_s: float = 2.0, seed: int = 0, images: bool = True) -> SyntheticEpisode:
    """A flawless episode: every check passes."""
    episode = SyntheticEpisode(
        episode={
            "id": "0190-toy",
            "robot": ROBOT,
            "skill": "pick",
            "source": "script",
            "operator": "test",
            "simulated": "true",
            "real_time_factor": "0.9991",
            "start_ns": str(START_NS),
            "end_ns": str(START_NS + int(length_s * 1e9)),
            "versions": json.dumps({"teleop_capture": "0.1.0"}),
            "goal_m": json.dumps([0.55, -0.3, 0.2]),
        },
        attachments={"robot.urdf": toy_urdf().encode(), "robot.yaml": toy_yaml().encode()},
    )
    tree = KinematicTree(toy_urdf())
    random = np.random.default_rng(seed)
    root = f"{ROBOT}/pelvis"

    def times(rate_hz: float) -> NDArray[np.int64]:
        count = int(length_s * rate_hz)
        return START_NS + np.round(np.arange(count) * 1e9 / rate_hz).astype(np.int64)

    ticks = times(200.0)
    seconds = (ticks - START_NS) * 1e-9
    q = joint_path(seconds, length_s)
    velocity = np.gradient(q, seconds, axis=0)
    measured = joint_path(np.maximum(0.0, seconds - 0.02), length_s)
    placed = tree.place_sites(SITES, NAMES, q)
    quaternions = {name: quaternion_from_rotation_matrix(at.rotation) for name, at in placed.items()}
    lifted = smooth((seconds - 0.3 * length_s) / (0.1 * length_s)) * smooth(
        (0.7 * length_s - seconds) / (0.1 * length_s)
    )
    touching = (seconds > 0.25 * length_s) & (seconds < 0.75 * length_s)
    hand = tree.place(["right_hand"], NAMES, measured)["right_hand"]

    episode.add(
        "/tf_static",
        int(ticks[0]),
        tf_message(
            [transform(int(ticks[0]), *item) for item in tree_transforms(tree, {}, True)]
            + [
                transform(
                    int(ticks[0]),
                    f"{ROBOT}/right_finger_inner",
                    f"{ROBOT}/right_inner_tactile",
                    np.zeros(3),
                    np.array([0.0, 0.0, 0.0, 1.0]),
                ),
                transform(
                    int(ticks[0]),
                    f"{ROBOT}/left_finger_inner",
                    f"{ROBOT}/left_inner_tactile",
                    np.zeros(3),
                    np.array([0.0, 0.0, 0.0, 1.0]),
                ),
                transform(
                    int(ticks[0]),
                    f"{ROBOT}/right_hand",
                    f"{ROBOT}/wrist_camera_optical",
                    np.zeros(3),
                    np.array([0.0, 0.0, 0.0, 1.0]),
                ),
            ]
        ),
    )
    for k, tick in enumerate(ticks):
        now = int(tick)
        episode.add(f"/{ROBOT}/joint_states", now, joint_state(now, NAMES, measured[k], velocity[k]))
        episode.add(f"/{ROBOT}/joint_commands", now, joint_state(now, NAMES, q[k], velocity[k]))
        episode.add(f"/{ROBOT}/command_cause", now, time_reference(now, now - 12_000_000))
        for name, at in placed.items():
            message = pose_stamped(now, root, at.position[k], quaternions[name][k])
            episode.add(f"/{ROBOT}/target/{name}", now, message)
        weight = np.array([0.0, 0.0, -3.0 * float(lifted[k] > 0.05)])
        force = hand.rotation[k].T @ (weight + np.array([0.0, 0.0, -5.0])) + random.normal(0.0, 0.05, 3)
        episode.add(f"/{ROBOT}/wrench/right_wrist", now, wrench_stamped(now, f"{ROBOT}/right_hand", force))
        values = dict(zip(NAMES, measured[k], strict=True))
        moving = [transform(now, *item) for item in tree_transforms(tree, values, False)]
        moving.append(
            transform(now, root, "trainer", np.array([-0.1, 0.0, -0.9]), np.array([0.0, 0.0, 0.0, 1.0]))
        )
        episode.add("/tf", now, tf_message(moving))
    for tick in times(100.0):
        now = int(tick)
        k = int(np.searchsorted(ticks, tick))
        for side in ("left", "right"):
            pressure = np.zeros((4, 4), np.float32)
            if side == "right" and touching[k]:
                pressure[1:3, 1:3] = 30_000.0
            frame = f"{ROBOT}/{side}_inner_tactile"
            episode.add(f"/{ROBOT}/tactile/{side}_inner", now, image(now, frame, pressure, "32FC1"))
        height = 0.2 + 0.12 * float(lifted[k])
        place = np.array([0.5 + 0.05 * seconds[k] / length_s, -0.3, height])
        if seconds[k] > 0.7 * length_s:
            place[0] = 0.545
        episode.add(
            f"/{ROBOT}/object/cube/pose", now, pose_stamped(now, root, place, np.array([0.0, 0.0, 0.0, 1.0]))
        )
    for tick in times(90.0):
        now = int(tick)
        episode.add(
            "/trainer/head",
            now,
            pose_stamped(now, "trainer", np.array([0.0, 0.0, 1.6]), np.array([0.0, 0.0, 0.0, 1.0])),
        )
    if images:
        grid = np.mgrid[0:120, 0:160]
        for index, tick in enumerate(times(30.0)):
            now = int(tick)
            pixels = np.stack([grid[0] * 2 % 256, grid[1] % 256, (grid[0] + 4 * index) % 256], axis=-1)
            message = image(now, f"{ROBOT}/wrist_camera_optical", pixels.astype(np.uint8), "rgb8")
            episode.add(f"/{ROBOT}/camera/wrist/image", now, message)
    return episode


@pytest.fixture
def synthetic() -> SyntheticEpisode:
    """A flawless two-second episode to take apart."""
    return synthetic_episode(images=False)


@pytest.fixture(scope="session")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A flawless episode with camera images, on disk."""
    yield synthetic_episode().write(tmp_path_factory.mktemp("episodes") / "good.mcap")


@pytest.fixture
def messages() -> Any:
    """The message makers of this module, for tests that inject their own."""
    return {
        "joint_state": joint_state,
        "pose_stamped": pose_stamped,
        "wrench_stamped": wrench_stamped,
        "image": image,
        "transform": transform,
        "tf_message": tf_message,
        "time_reference": time_reference,
        "names": NAMES,
        "start_ns": START_NS,
        "store": STORE,
        "synthetic_episode": synthetic_episode,
        "make": make,
    }
