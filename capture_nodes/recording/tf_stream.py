"""The transform tree of a robot as `/tf` and `/tf_static` bytes, from its measured joints.

Viewers do not move a URDF by joint states alone, so the recorder writes the tree itself: one transform
per movable joint (child link in parent link) and ``trainer`` in the root link with every `/tf`, all that
never moves (fixed joints, camera and tactile frames) in `/tf_static`. Frames are ``<robot>/<link>``.

A frame has one parent: those that somebody else on the network publishes are left to them (`leave_out`).

A message is a prepared CDR template whose stamps and numbers are filled in by numpy: all joints at once,
no message objects.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.recording.cdr import ENCAPSULATION, JointSample
from retargeting.frames import (
    IDENTITY_POSE,
    pose_compose,
    quaternion_from_rotation_vector,
    quaternion_from_rpy,
    quaternion_normalized,
)
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

TF_TYPE = "tf2_msgs/msg/TFMessage"
TRAINER_FRAME = "trainer"

# A camera in robot.yaml looks along x with z up; its optical frame looks along z with y down (REP-103).
CAMERA_OPTICAL_IN_CAMERA: Array = np.concatenate(
    [np.zeros(3), quaternion_from_rpy([-np.pi / 2, 0.0, -np.pi / 2])]
)
CAMERA_OPTICAL_IN_CAMERA.setflags(write=False)


class TransformTemplate:
    """The CDR of a `tf2_msgs/TFMessage` with fixed frames; stamps and poses are filled in.

    ``frames`` are (parent frame, child frame) pairs; poses ``(n, 7)`` come in the same order.
    """

    def __init__(self, frames: Sequence[tuple[str, str]]) -> None:
        self.frames = tuple(frames)
        body = bytearray(struct.pack("<I", len(self.frames)))
        stamps, values = [], []
        for parent, child in self.frames:
            _pad(body, 4)
            stamps.append(len(body) // 4)
            body += bytes(8)
            _append_string(body, parent)
            _append_string(body, child)
            _pad(body, 8)
            values.append(len(body) // 8)
            body += bytes(56)
        self._size = len(body)
        # Padded to whole doubles so that one buffer can be seen as int32 and as float64.
        self._buffer = np.frombuffer(bytes(body) + bytes(-len(body) % 8), dtype=np.uint8).copy()
        # Signed, as `builtin_interfaces/Time` has its seconds: a stamp before 1970 is odd, and no error.
        self._words = self._buffer.view("<i4")
        self._doubles = self._buffer.view("<f8")
        self._stamp_index = np.array(stamps, dtype=np.intp)
        self._value_index = (np.array(values, dtype=np.intp)[:, None] + np.arange(7)).reshape(len(values), 7)

    def message(self, stamp_ns: int, poses: ArrayLike) -> bytes:
        """The message with every transform stamped ``stamp_ns``; poses ``(n, 7)``, metres, xyzw."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        self._words[self._stamp_index] = seconds
        self._words[self._stamp_index + 1] = nanoseconds
        self._doubles[self._value_index] = poses
        return ENCAPSULATION + bytes(self._buffer[: self._size])


def _pad(body: bytearray, size: int) -> None:
    body.extend(bytes(-len(body) % size))


def _append_string(body: bytearray, text: str) -> None:
    raw = text.encode("utf-8") + b"\0"
    _pad(body, 4)
    body += struct.pack("<I", len(raw)) + raw


class TfStream:
    """Turns joint samples of one robot into `/tf` messages and holds its `/tf_static`.

    Joints a sample does not name stay where they were last seen, at first in the neutral posture of
    `robot.yaml`. Mimic joints follow their leader.
    """

    def __init__(self, model: RobotModel) -> None:
        prefix = f"{model.name}/"
        tree, urdf, description = model.full_tree, model.urdf, model.description
        self.root_frame = prefix + urdf.root
        joint_above = {joint.child: joint for joint in urdf.joints.values()}
        rows = np.flatnonzero(tree.arrays.coordinates >= 0)
        movable = [joint_above[tree.names[row]] for row in rows]
        self._of_joint = tree.arrays.coordinates[rows]
        self._multipliers, self._offsets = tree.arrays.multipliers[rows], tree.arrays.biases[rows]
        self._axes, self._slides = tree.arrays.axes[rows], tree.arrays.prismatic[rows][:, None]
        self._at_zero = np.array([joint.pose for joint in movable]).reshape(-1, 7)
        self._coordinates = {name: i for i, name in enumerate(model.movable_joint_names)}
        self._positions = np.array(list(model.neutral_positions().values()))
        self._trainer: Array = IDENTITY_POSE
        self._names: tuple[str, ...] = ()
        self._from_sample = np.empty(0, dtype=np.intp)
        self._to_positions = np.empty(0, dtype=np.intp)
        self._moving = _Frames(
            [
                *((prefix + joint.parent, prefix + joint.child) for joint in movable),
                (self.root_frame, TRAINER_FRAME),
            ]
        )

        fixed = [
            (prefix + joint.parent, prefix + joint.child, joint.pose)
            for joint in urdf.joints_root_first()
            if joint.kind == "fixed"
        ]
        for name, camera in description.cameras.items():
            pose = pose_compose(camera.pose, CAMERA_OPTICAL_IN_CAMERA)
            fixed.append((prefix + camera.link, f"{prefix}{name}_camera_optical", pose))
        for name, pad in description.tactile.items():
            fixed.append((prefix + pad.link, f"{prefix}{name}_tactile", pad.pose))
        self._fixed = _Frames([(parent, child) for parent, child, _ in fixed])
        self._fixed_poses = np.array([pose for _, _, pose in fixed]).reshape(-1, 7)

    def leave_out(self, children: Collection[str]) -> None:
        """Write no transform of these child frames from now on: somebody else publishes them."""
        self._moving.leave_out(children)
        self._fixed.leave_out(children)

    def static_message(self, stamp_ns: int) -> bytes:
        """`/tf_static`, everything that never moves; empty where all of it is left to others."""
        return self._fixed.message(stamp_ns, self._fixed_poses)

    def set_trainer_transform(self, text: str) -> None:
        """Join the trainer frame: ``x y z qx qy qz qw`` of `transform_trainer_to_base`, metres, xyzw.

        Raises `CaptureError` on anything else; the former transform then stays.
        """
        try:
            values = np.array([float(word) for word in text.split()])
            if values.shape != (7,) or not np.isfinite(values).all():
                raise ValueError("7 finite numbers expected")
            values[3:] = quaternion_normalized(values[3:])
        except ValueError as error:
            message = f"transform_trainer_to_base is {text!r}: {error} (x y z qx qy qz qw)"
            raise CaptureError(message) from error
        self._trainer = values

    def message(self, sample: JointSample) -> bytes:
        """`/tf` at the sample's stamp: every movable joint and the trainer; empty where all is left out."""
        if sample.names is not self._names and sample.names != self._names:
            known = [i for i, name in enumerate(sample.names) if name in self._coordinates]
            self._from_sample = np.array(known, dtype=np.intp)
            self._to_positions = np.array([self._coordinates[sample.names[i]] for i in known], dtype=np.intp)
        self._names = sample.names
        measured = sample.positions[self._from_sample]
        # A driver that has no value yet sends NaN; a NaN in /tf would take the whole tree away.
        finite = np.isfinite(measured)
        self._positions[self._to_positions[finite]] = measured[finite]
        q = (self._multipliers * self._positions[self._of_joint] + self._offsets)[:, None]
        motion = np.concatenate(
            [
                np.where(self._slides, q * self._axes, 0.0),
                quaternion_from_rotation_vector(np.where(self._slides, 0.0, q * self._axes)),
            ],
            axis=1,
        )
        poses = np.concatenate([pose_compose(self._at_zero, motion), self._trainer[None, :]])
        return self._moving.message(sample.stamp_ns, poses)


class _Frames:
    """(parent, child) frames of one message, and which of them are written."""

    def __init__(self, frames: Sequence[tuple[str, str]]) -> None:
        self._all = tuple(frames)
        self._left_out: frozenset[str] = frozenset()
        self._children = frozenset(child for _, child in self._all)
        self._choose()

    def _choose(self) -> None:
        kept = [i for i, (_, child) in enumerate(self._all) if child not in self._left_out]
        self._kept = np.array(kept, dtype=np.intp)
        self._template = TransformTemplate([self._all[i] for i in kept])

    def leave_out(self, children: Collection[str]) -> None:
        more = self._children.intersection(children) - self._left_out
        if more:
            self._left_out |= more
            self._choose()

    def message(self, stamp_ns: int, poses: Array) -> bytes:
        """The message over poses ``(n, 7)`` of all frames; empty where none of them is written."""
        return self._template.message(stamp_ns, poses[self._kept]) if len(self._kept) else b""
