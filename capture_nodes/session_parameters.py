"""What may be said to the session node, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass

from capture_nodes.errors import CaptureError


@dataclass(frozen=True)
class SessionParameters:
    """`timeout_s` is for one repetition, `ready_timeout_s` for the other nodes to answer at all.

    A repetition in which the robot goes to a hold is tried `attempts` times. `cameras`: the simulated
    cameras are waited for too. `trainer_starts`: each repetition waits for the trainer's menu sign.
    """

    robot: str = "kestrel"
    cameras: bool = False
    trainer_starts: bool = False
    episodes: int = 1
    attempts: int = 3
    timeout_s: float = 300.0
    ready_timeout_s: float = 60.0
    answer_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        for name in ("episodes", "attempts"):
            if getattr(self, name) < 1:
                problems.append(f"parameter {name}: {getattr(self, name)} is given; 1 or more is expected")
        for name in ("timeout_s", "ready_timeout_s", "answer_timeout_s"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                problems.append(f"parameter {name}: {value} is given; a finite time above 0 is expected")
        if problems:
            raise CaptureError("\n".join(problems))
