"""Trainer source `bvh`: a motion-capture file played in real time.

The whole motion is worked out on opening: forward kinematics of every frame, turned into body points
in the `trainer` frame. Joint rotations are interpolated (slerp) to at least `_DENSE_RATE_HZ` before
the forward kinematics, so that bones keep their lengths between the frames of slow recordings.
How the points are found and placed: `capture_nodes.sources.bvh_motion`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.sources.bvh_file import read_bvh
from capture_nodes.sources.bvh_motion import UP_AXES, BodyMotion, is_up_axis
from capture_nodes.sources.pose_track import PoseTrack
from capture_nodes.sources.skeleton import read_skeleton, scale_of
from capture_nodes.sources.source import SourceError

_DENSE_RATE_HZ = 240.0
_MOST_SAMPLES = 150_000  # about 130 MB of poses; longer files keep their own rate


@dataclass(frozen=True)
class BvhParameters:
    """What to play and how to read it; raises `SourceError` with every problem.

    `scale_m_per_unit`: metres per file unit, `None` finds it. `up_axis`: the file's upward axis (its
    plus sign may be left out), `auto` takes the axis the trainer's head is above the feet along.
    """

    motion: Path
    scale_m_per_unit: float | None = None
    loop: bool = False
    up_axis: str = "auto"

    def __post_init__(self) -> None:
        problems = []
        if not str(self.motion) or str(self.motion) == ".":
            problems.append("source:=bvh needs motion:=<a .bvh file>")
        elif not self.motion.is_file():
            problems.append(f"motion:={self.motion}: there is no such file")
        scale = self.scale_m_per_unit
        if scale is not None and not (math.isfinite(scale) and 1e-6 <= scale <= 1e3):
            problems.append(f"scale:={scale:g}: metres per unit, 1e-6..1000, is expected (0 finds it)")
        if not is_up_axis(self.up_axis):
            problems.append(f"up_axis:={self.up_axis!r}: one of {', '.join(UP_AXES)} is expected")
        if problems:
            raise SourceError(*problems)


class BvhSource(PoseTrack):
    """A BVH file as a trainer. Raises `SourceError` (with line and reason for a malformed file)."""

    def __init__(self, parameters: BvhParameters) -> None:
        file = read_bvh(parameters.motion)
        skeleton = read_skeleton(file)
        scale, decision = scale_of(skeleton, file.path, parameters.scale_m_per_unit)
        self._skeleton = skeleton
        frames = len(file.values)
        factor = max(1, math.ceil(_DENSE_RATE_HZ * file.frame_time_s - 1e-6))
        if frames * factor > _MOST_SAMPLES:
            factor = 1
        motion = BodyMotion(file, skeleton, factor)
        up, up_note = motion.up(parameters.up_axis)
        placement = motion.placement(up, scale)
        poses = motion.in_trainer(placement)
        super().__init__(tuple(skeleton.joints), poses, factor / file.frame_time_s, loop=parameters.loop)
        named = (f"{point}={file.joints[joint].name}" for point, joint in skeleton.joints.items())
        rate_hz = 1.0 / file.frame_time_s
        self._report = {
            "motion": f"{Path(file.path).name}: {frames} frames at {rate_hz:.4g} Hz, {self.duration_s:.2f} s",
            "scale": decision,
            "up": up_note,
            "floor": placement.note,
            "joints": ", ".join(named),
            **skeleton.notes,
        }

    @property
    def report(self) -> Mapping[str, str]:
        return self._report
