"""Timing and modes of the state machine around the solver, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from retargeting.bounds import out_of_bounds
from retargeting.deadman import DeadmanParameters
from retargeting.errors import RetargetingError
from retargeting.input_filter import InputFilterParameters
from retargeting.mapping_settings import MappingSettings


class EngageMode(Enum):
    """How trainer and robot are joined when an arm engages.

    ABSOLUTE: the robot's hand goes softly to where the trainer's is. RELATIVE: both stay where they
    are, and the robot's hand repeats how the trainer's moves from there (a clutch).
    """

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True)
class RetargeterParameters:
    """Timing of the state machine. The soft approach goes at most at `approach_m_s` on average.

    A wrist that moves between two frames by more than `jump_m` and faster than `jump_m_s`, or turns by
    more than `jump_rad` and faster than `jump_rad_s`, did not move: its tracking jumped. A wrist that is not
    tracked for `lost_s` makes its arm hold; where all are for `reacquire_s`, a new engage is needed.
    """

    rate_hz: float = 200.0
    stale_s: float = 0.1
    approach_m_s: float = 0.4
    approach_rad_s: float = 1.0
    shortest_approach_s: float = 0.5
    size_frames: int = 30
    # A robot may lag for a moment (a contact, a fast swing); longer means that it does not follow.
    following_error_time_s: float = 0.25
    jump_m: float = 0.15
    jump_m_s: float = 8.0
    jump_rad: float = 0.8
    jump_rad_s: float = 30.0
    lost_s: float = 0.05
    reacquire_s: float = 2.0
    engage_mode: str = "absolute"
    deadman: DeadmanParameters = field(default_factory=DeadmanParameters)
    input_filter: InputFilterParameters = field(default_factory=InputFilterParameters)
    mapping: MappingSettings = field(default_factory=MappingSettings)

    def __post_init__(self) -> None:
        bounds = {
            "rate_hz": (20.0, 1000.0),
            "stale_s": (0.02, 2.0),
            "approach_m_s": (0.01, 5.0),
            "approach_rad_s": (0.01, 10.0),
            "shortest_approach_s": (0.05, 10.0),
            "size_frames": (1, 10_000),
            "following_error_time_s": (0.0, 5.0),
            "jump_m": (0.0, 10.0),
            "jump_m_s": (0.0, 1000.0),
            "jump_rad": (0.0, 4.0),
            "jump_rad_s": (0.0, 1000.0),
            "lost_s": (0.0, 1.0),
            "reacquire_s": (0.0, 60.0),
        }
        problems = out_of_bounds(self, bounds, "parameter")
        modes = [mode.value for mode in EngageMode]
        if self.engage_mode not in modes:
            problems.append(
                f"parameter engage_mode: {self.engage_mode!r}; one of {', '.join(modes)} is expected"
            )
        if problems:
            raise RetargetingError("\n".join(problems))
