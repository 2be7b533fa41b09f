"""What may be said to the headset node, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass

from capture_nodes.errors import CaptureError
from capture_nodes.scripted_task import HAND_RPY_RAD, NOT_SAID, TaskParameters
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.registry import SourceOptions

_STARTS = ("auto", "service")
RATE_BOUNDS_HZ = (10.0, 250.0)
# Of `OpenXrParameters`, those that nothing else says.
OPENXR_SETTINGS = (
    "pinch_closed_m",
    "pinch_open_m",
    "pinch_press",
    "pinch_let_go",
    "fist_open_m",
    "fist_closed_m",
    "answer_s",
    "retry_first_s",
    "retry_longest_s",
)


@dataclass(frozen=True)
class HeadsetParameters:
    """source: where the motion comes from (`capture_nodes.sources.registry`); motion: its file; scale:
    metres per file unit (0 finds it); up_axis of the file; loop; stature_m of the scripted person; start:
    `auto` plays at once, `service` waits for ~/play; speed: of a recorded episode (source:=bag), times as
    fast as it was, 0: a frame for every ~/step; address: of a live source, whose frames come at a rate of
    their own; peers: who may send to it; skeleton: a file that names the joints of a suit; skill,
    instruction: the task as a live trainer is shown it; robot: with source:=script the one whose object is
    picked and placed, else the one a live trainer is shown; rate_hz: of a played motion, and how often an
    OpenXR runtime is asked; openxr_…: settings of `OpenXrParameters`. The remaining ones are those of
    `TaskParameters`.
    """

    source: str = "script"
    motion: str = ""
    scale: float = 0.0
    up_axis: str = "auto"
    loop: bool = False
    stature_m: float = 1.75
    speed: float = 1.0
    address: str = ""
    skill: str = ""
    instruction: str = ""
    peers: str = ""
    skeleton: str = ""
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
    openxr_pinch_closed_m: float = OpenXrParameters.pinch_closed_m
    openxr_pinch_open_m: float = OpenXrParameters.pinch_open_m
    openxr_pinch_press: float = OpenXrParameters.pinch_press
    openxr_pinch_let_go: float = OpenXrParameters.pinch_let_go
    openxr_fist_open_m: float = OpenXrParameters.fist_open_m
    openxr_fist_closed_m: float = OpenXrParameters.fist_closed_m
    openxr_answer_s: float = OpenXrParameters.answer_s
    openxr_retry_first_s: float = OpenXrParameters.retry_first_s
    openxr_retry_longest_s: float = OpenXrParameters.retry_longest_s

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
        return SourceOptions(
            motion=self.motion,
            scale=self.scale,
            loop=self.loop,
            up_axis=self.up_axis,
            stature_m=self.stature_m,
            address=self.address,
            speed=self.speed,
            peers=self.peers,
            skeleton=self.skeleton,
            rate_hz=self.rate_hz,
            openxr={name: getattr(self, f"openxr_{name}") for name in OPENXR_SETTINGS},
        )

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
