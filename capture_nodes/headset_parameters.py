"""What may be said to the headset node, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass

from capture_nodes.errors import CaptureError
from capture_nodes.scripted_task import HAND_RPY_RAD, NOT_SAID, TaskParameters
from capture_nodes.sources.registry import SourceOptions

_STARTS = ("auto", "service")
RATE_BOUNDS_HZ = (10.0, 250.0)


@dataclass(frozen=True)
class HeadsetParameters:
    """source: where the motion comes from (`capture_nodes.sources.registry`); motion: its file; scale:
    metres per file unit (0 finds it); up_axis of the file; loop; stature_m of the scripted person; start:
    `auto` plays at once, `service` waits for ~/play; address: of a live source, whose frames come at a rate
    of their own; robot: with source:=script, the robot whose object is picked and placed. The
    remaining ones are those of `TaskParameters`.
    """

    source: str = "script"
    motion: str = ""
    scale: float = 0.0
    up_axis: str = "auto"
    loop: bool = False
    stature_m: float = 1.75
    address: str = ""
    rate_hz: float = 90.0
    start: str = "auto"
    robot: str = ""
    scene: str = ""
    object: str = ""
    goal_m: tuple[float, ...] = NOT_SAID
    side: str = "auto"
    hand_rpy_rad: tuple[float, ...] = HAND_RPY_RAD
    grasp_offset_m: tuple[float, ...] = NOT_SAID
    grasp_above_m: float = 0.01
    task_duration_s: float = 12.0
    seed: int = -1

    def __post_init__(self) -> None:
        problems = []
        low, high = RATE_BOUNDS_HZ
        if not low <= self.rate_hz <= high:
            problems.append(f"rate_hz:={self.rate_hz:g}: {low:g}..{high:g} Hz is expected")
        if self.start not in _STARTS:
            problems.append(f"start:={self.start}: one of {', '.join(_STARTS)} is expected")
        if self.side not in ("auto", "left", "right"):
            problems.append(f"side:={self.side}: one of auto, left, right is expected")
        if self.loop and (self.start == "service" or self.follows_object):
            problems.append("loop:=true needs start:=auto and a motion known beforehand: ~/play plays once")
        for name in ("goal_m", "hand_rpy_rad", "grasp_offset_m"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(value, float | int) for value in values):
                problems.append(f"{name}:={list(values)}: 3 numbers are expected")
        if problems:
            raise CaptureError("\n".join(problems))

    @property
    def follows_object(self) -> bool:
        return self.source == "script" and self.robot != ""

    @property
    def source_options(self) -> SourceOptions:
        return SourceOptions(self.motion, self.scale, self.loop, self.up_axis, self.stature_m, self.address)

    @property
    def task_parameters(self) -> TaskParameters:
        return TaskParameters(
            scene=self.scene,
            object_name=self.object,
            goal_m=self.goal_m,
            side=self.side,
            hand_rpy_rad=self.hand_rpy_rad,
            grasp_offset_m=self.grasp_offset_m,
            grasp_above_m=self.grasp_above_m,
            duration_s=self.task_duration_s,
            seed=self.seed,
        )
