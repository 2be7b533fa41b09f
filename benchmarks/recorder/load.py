"""One process of the load: publishes ready CDR bytes at fixed rates and gives its own final counts.

python -m benchmarks.recorder.load --ros-args -p part:=robot -p report:=FILE.json
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from benchmarks.recorder.camera_frames import camera_frames, forth_and_back
from benchmarks.recorder.load_plan import (
    HEIGHT,
    JOINTS,
    PARTS,
    POINTS,
    ROBOT,
    TAXELS,
    WIDTH,
    Histories,
    LoadStream,
    plan_load,
)
from capture_nodes.cdr_template import (
    CdrTemplate,
    image_template,
    joint_command_template,
    joint_state_template,
    wrench_template,
)
from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, CountingPublisher, run_node
from capture_nodes.resources import robot_description_file
from capture_nodes.simulation.pacing import TickPacer
from capture_nodes.thread_priority import COMMANDS, MOTION, PHYSICS, PICTURES
from capture_nodes.topics import STREAM_HISTORY_S
from retargeting.robot_model import load_robot

_PRIORITIES = {"robot": PHYSICS, "commands": COMMANDS, "trainer": MOTION, "cameras": PICTURES}
_READERS_TIMEOUT_S = 60.0
# Between the moment a publisher has found its readers and the one in which they have surely found it.
_JOINING_S = 0.5

Message = Callable[[int, int], bytes]


@dataclass(frozen=True)
class LoadParameters:
    """part: which of the processes; scale, histories: see `load_plan`; readers: how many of every topic are
    waited for before the first message; report: the JSON file of the final counts, beside it `.npz` ticks."""

    part: str = "robot"
    scale: float = 1.0
    streams_history_s: float = STREAM_HISTORY_S
    control_history_s: float = STREAM_HISTORY_S
    camera_history_mb: float = 16.0
    readers: int = 1
    report: str = ""

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise CaptureError(
                f"parameter part: {self.part!r} is given; one of {', '.join(PARTS)} is expected"
            )


def joint_names() -> list[str]:
    """The robot's own, filled up to the load's number."""
    names = list(load_robot(robot_description_file(ROBOT)).movable_joint_names)[:JOINTS]
    return names + [f"further_joint_{i:02d}" for i in range(JOINTS - len(names))]


def motion_template(points: int) -> CdrTemplate:
    """`sensor_msgs/MultiDOFJointState` with field transforms: of every point x y z qx qy qz qw."""
    names = [f"left_point_{i:02d}" for i in range(points)]
    template = CdrTemplate("trainer").strings(names).unsigned(points)
    return template.doubles("transforms", 7 * points, sequence=False).unsigned(0).unsigned(0)


def message_maker(stream: LoadStream) -> Message:
    """What makes a message of a stream from its number and stamp (ns)."""
    if stream.kind == "camera":
        return _camera_maker(int(stream.topic.split("_")[-1].split("/")[0]))
    random = np.random.default_rng(len(stream.topic))
    # Numbers that change with every message, without a random generator's cost in every tick.
    noise = random.normal(0.0, 0.01, 4096 + 7 * POINTS)
    fields: dict[str, int]
    if stream.kind == "joint_states":
        template = joint_state_template("", joint_names())
        fields = {"position": JOINTS, "velocity": JOINTS, "effort": JOINTS}
    elif stream.kind == "joint_commands":
        template, fields = joint_command_template(joint_names()), {"position": JOINTS, "velocity": JOINTS}
    elif stream.kind == "wrench":
        template, fields = wrench_template(stream.topic.rsplit("/", 1)[-1]), {"wrench": 6}
    elif stream.kind == "motion":
        template, fields = motion_template(POINTS), {"transforms": 7 * POINTS}
    else:
        template = image_template(stream.topic.rsplit("/", 1)[-1], TAXELS, TAXELS, "32FC1", 4)
        taxels = np.abs(random.normal(0.0, 800.0, 4 * TAXELS * TAXELS)).astype(np.float32).view(np.uint8)

        def tactile(number: int, stamp_ns: int) -> bytes:
            template.set_stamp(stamp_ns)
            begin = 4 * (number * 7 % (3 * TAXELS * TAXELS))
            template.set("data", taxels[begin : begin + 4 * TAXELS * TAXELS])
            return bytes(template)

        return tactile

    def make(number: int, stamp_ns: int) -> bytes:
        template.set_stamp(stamp_ns)
        begin = number * 31 % 4096
        for name, count in fields.items():
            template.set(name, noise[begin : begin + count])
        return bytes(template)

    return make


_prepared_frames: list[CdrTemplate] = []


def _camera_maker(camera: int) -> Message:
    # All cameras see the same frames, each begins elsewhere: what they cost does not depend on it.
    if not _prepared_frames:
        for frame in camera_frames(WIDTH, HEIGHT):
            template = image_template("camera_optical", HEIGHT, WIDTH, "rgb8", 3)
            template.set("data", frame.reshape(-1))
            _prepared_frames.append(template)

    def make(number: int, stamp_ns: int) -> bytes:
        template = _prepared_frames[forth_and_back(number + 11 * camera, len(_prepared_frames))]
        template.set_stamp(stamp_ns)
        return bytes(template)

    return make


@dataclass
class _Running:
    """A stream in the rhythm of its process: published in every tick with ``tick % every == phase``."""

    stream: LoadStream
    publisher: CountingPublisher
    make: Message
    every: int
    phase: int
    bytes: int = 0


class LoadNode(CaptureNode):
    """See the module. `~/state` says `publishing` once every topic has its readers."""

    def __init__(self) -> None:
        super().__init__("load")
        self._settings = given = self.declare_from(LoadParameters)
        histories = Histories(given.streams_history_s, given.control_history_s, given.camera_history_mb)
        streams = [s for s in plan_load(given.scale, histories) if s.part == given.part]
        # Cameras take turns, so that no two pictures come at once; the others share the fastest one's tick.
        turns = len(streams) if given.part == "cameras" else 1
        self._rate_hz = turns * max(stream.rate_hz for stream in streams)
        self._running = [
            _Running(
                stream,
                self.counting_publisher(_message_type(stream.type_name), stream.topic, _qos(stream.depth)),
                message_maker(stream),
                round(self._rate_hz / stream.rate_hz),
                number if turns > 1 else 0,
            )
            for number, stream in enumerate(streams)
        ]
        # Due, late by, taken by publishing (s, steady clock); one entry per tick.
        self._ticks = array("d")
        self._pacer = TickPacer(1.0 / self._rate_hz)
        self._ending = threading.Event()
        self._thread = self.start_thread("publishing", self._run, _PRIORITIES[given.part])

    def _run(self) -> None:
        if not self._readers_are_there():
            return
        self.publish_state("publishing", {"rate_hz": self._rate_hz})
        tick = 0
        while not self._ending.is_set():
            due_s = self._pacer.wait()
            begun_s = time.monotonic()
            stamp_ns = time.time_ns() - round((begun_s - due_s) * 1e9)
            for running in self._running:
                if tick % running.every == running.phase:
                    message = running.make(tick // running.every, stamp_ns)
                    running.bytes += len(message)
                    running.publisher.publish(message)
            self._ticks.extend((due_s, begun_s - due_s, time.monotonic() - begun_s))
            tick += 1

    def _readers_are_there(self) -> bool:
        deadline_s = time.monotonic() + _READERS_TIMEOUT_S
        publishers = [running.publisher for running in self._running]
        while missing := [p.topic for p in publishers if p.subscription_count < self._settings.readers]:
            if time.monotonic() > deadline_s:
                raise CaptureError(f"no reader within {_READERS_TIMEOUT_S:g} s of {', '.join(missing)}")
            if self._ending.wait(0.05):
                return False
        return not self._ending.wait(_JOINING_S)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(timeout=5.0)

    def finish(self) -> None:
        """As every node; the final counts also go to the file `report`."""
        super().finish()
        if self._settings.report:
            path = Path(self._settings.report)
            path.write_text(json.dumps(self._report(), indent=1) + "\n", encoding="utf-8")
            np.savez(path.with_suffix(".npz"), ticks=np.array(self._ticks).reshape(-1, 3))

    def _report(self) -> dict[str, Any]:
        return {
            "part": self._settings.part,
            "rate_hz": self._rate_hz,
            "late_ticks": self._pacer.late_ticks,
            "skipped_s": self._pacer.skipped_s,
            "real_time_priority": self.real_time_priority,
            "streams": [
                {
                    "topic": running.publisher.topic,
                    "gid": running.publisher.gid,
                    "published": running.publisher.count,
                    "bytes": running.bytes,
                    "depth": running.stream.depth,
                }
                for running in self._running
            ],
        }


def _qos(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def _message_type(type_name: str) -> type:
    package, _, short = type_name.split("/")
    found: type = getattr(importlib.import_module(f"{package}.msg"), short)
    return found


def main() -> None:
    """Entry point of the process."""
    run_node(LoadNode)


if __name__ == "__main__":
    main()
