"""What the retargeter is fed in every tick: emergency stop, trainer's motion and controls, joints, forces."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState, Joy, MultiDOFJointState

from capture_nodes import topics
from capture_nodes.emergency_stop import EmergencyStopListener
from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain
from capture_nodes.recording.cdr import CdrReader, JointStateReader
from capture_nodes.recording.motion_cdr import MotionReader, read_controls
from capture_nodes.recording.tf_stream import TRAINER_FRAME
from retargeting.errors import InvalidMotion, RetargetingError
from retargeting.motion_frame import Controls, MotionFrame
from retargeting.retargeter import Retargeter

# A frame from farther in the future than a late tick explains has another clock.
_LARGEST_LEAD_S = 0.1
# A force sensor that says nothing for this long (s) watches over nothing.
_SILENT_S = 1.0
# A stalled tick, or a robot of several drivers, finds several: all of them count.
_JOINT_STATES_KEPT = 16


class RetargetingInputs:
    """Subscriptions of `node` that the tick's thread drains into `retargeter`.

    `controls` are the trainer's newest; what is older than the retargeter's `stale_s` is let go.
    `rejected` counts the inputs that could not be used; `silent_wrenches` are the sensors that nothing was
    heard of for `_SILENT_S`, or ever.
    """

    def __init__(self, node: CaptureNode, retargeter: Retargeter) -> None:
        self._retargeter = retargeter
        self._logger = node.get_logger()
        group = DrainedGroup()
        newest = topics.newest_qos()

        def drained(kind: type, topic: str, qos: QoSProfile = newest) -> Any:
            return node.create_subscription(kind, topic, lambda _message: None, qos, callback_group=group)

        self._motion = drained(MultiDOFJointState, topics.MOTION)
        self._buttons = drained(Joy, topics.BUTTONS)
        self._joint_states = drained(JointState, topics.JOINT_STATES, topics.newest_qos(_JOINT_STATES_KEPT))
        self._wrenches = {
            name: drained(WrenchStamped, f"wrench/{name}") for name in retargeter.model.description.wrenches
        }
        self._emergency_stop = EmergencyStopListener(node, group)
        self._wrench_s: dict[str, float | None] = dict.fromkeys(self._wrenches)
        self._told_silent: set[str] = set()
        self._takers: tuple[Callable[[int, int], None], ...] = (
            self._take_controls,
            self._take_motion,
            self._take_joints,
            *(partial(self._take_wrench, name) for name in self._wrenches),
        )
        self._joint_reader, self._motion_reader = JointStateReader(), MotionReader()
        self._early_frames: list[MotionFrame] = []
        self._controls_s: float | None = None
        self.controls = Controls()
        self.rejected = 0

    @property
    def silent_wrenches(self) -> list[str]:
        now_s = time.monotonic()
        heard_s = self._wrench_s.items()
        return [name for name, then_s in heard_s if then_s is None or now_s - then_s > _SILENT_S]

    def take(self, stamp_ns: int, clock_ns: int) -> None:
        """Everything that has come until the tick stamped `stamp_ns`, due at `clock_ns` of the ROS clock.

        The two differ for a while after the clock was set back.
        """
        if (stop := self._emergency_stop.take()) is not None:
            self._retargeter.set_emergency_stop(stop)
        # Each by itself: a bad one never keeps the others from being heard.
        for take in self._takers:
            try:
                take(stamp_ns, clock_ns)
            except (CaptureError, RetargetingError) as error:
                # Without good input the arms hold.
                self.rejected += 1
                self._logger.warning(f"input refused: {error}", throttle_duration_sec=1.0)

    def _take_controls(self, _stamp_ns: int, _clock_ns: int) -> None:
        data = drain(self._buttons, Joy, raw=True)
        try:
            if data is not None:
                _, self.controls = read_controls(data)
                self._controls_s = time.monotonic()
        finally:
            # Also where what comes cannot be read.
            self._let_go_of_stale_controls()
            self._retargeter.observe_controls(self.controls)

    def _let_go_of_stale_controls(self) -> None:
        stale_s = self._retargeter.parameters.stale_s
        if self._controls_s is not None and time.monotonic() - self._controls_s > stale_s:
            # Nobody knows any more whether the deadman is held; but no hand opens for that.
            self.controls, self._controls_s = self.controls.let_go(), None

    def _take_motion(self, stamp_ns: int, clock_ns: int) -> None:
        # A tick that comes late may find a frame from after its stamp: the cause of a later one.
        due = [frame for frame in self._early_frames if frame.stamp_ns <= stamp_ns]
        self._early_frames = [frame for frame in self._early_frames if frame.stamp_ns > stamp_ns]
        for frame in due:
            self._retargeter.observe_motion(frame, time.monotonic())
        if (data := drain(self._motion, MultiDOFJointState, raw=True)) is None:
            return
        # Read after the taking: a time before the frame came would be that of a quicker network.
        now_s = time.monotonic()
        sample = self._motion_reader.read(data)
        if sample.frame_id != TRAINER_FRAME:
            raise InvalidMotion(
                f"/trainer/motion is in the frame {sample.frame_id!r}, {TRAINER_FRAME!r} is expected: "
                "on the floor under the trainer, x forward, z up"
            )
        frame = MotionFrame(sample.stamp_ns, sample.poses, self.controls)
        # Sources stamp by the clock or, on a schedule, as we do.
        ahead_s = (frame.stamp_ns - max(stamp_ns, clock_ns)) * 1e-9
        if ahead_s > _LARGEST_LEAD_S:
            raise InvalidMotion(
                f"/trainer/motion is stamped {ahead_s:.3f} s ahead of this machine's clock, "
                f"{_LARGEST_LEAD_S} s are allowed: set the clocks by one another"
            )
        stale_s = self._retargeter.parameters.stale_s
        late_s = (min(stamp_ns, clock_ns) - frame.stamp_ns) * 1e-9
        if late_s > stale_s:
            raise InvalidMotion(
                f"/trainer/motion came {late_s:.3f} s after its stamp, and motion older than "
                f"stale_s:={stale_s:g} is not followed: look at the headset's network and clock"
            )
        if frame.stamp_ns > stamp_ns:
            self._early_frames.append(frame)
        else:
            self._retargeter.observe_motion(frame, now_s)

    def _take_joints(self, _stamp_ns: int, _clock_ns: int) -> None:
        while (taken := self._joint_states.handle.take_message(JointState, True)) is not None:
            sample = self._joint_reader.read(taken[0])
            positions = dict(zip(sample.names, sample.positions.tolist(), strict=True))
            self._retargeter.observe_joints(positions, time.monotonic())

    def _take_wrench(self, name: str, _stamp_ns: int, _clock_ns: int) -> None:
        now_s, heard_s = time.monotonic(), self._wrench_s[name]
        if (data := drain(self._wrenches[name], WrenchStamped, raw=True)) is not None:
            force_n = force_of(data)
            self._wrench_s[name] = now_s
            self._told_silent.discard(name)
            self._retargeter.observe_wrench(name, force_n)
        elif heard_s is not None and now_s - heard_s > _SILENT_S and name not in self._told_silent:
            self._told_silent.add(name)
            self._logger.warning(
                f"wrench/{name} has said nothing for {_SILENT_S:g} s: nobody sees any more how hard it pushes"
            )


def force_of(data: bytes) -> float:
    """Norm (N) of the force of a serialized `geometry_msgs/WrenchStamped`. Raises `MalformedMessage`."""
    reader = CdrReader(data)
    reader.stamp_ns()
    reader.string()
    return float(np.linalg.norm(reader.float64_values(6)[:3]))
