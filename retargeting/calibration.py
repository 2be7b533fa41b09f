"""Measuring a trainer by poses that they are asked to hold: stand, arms down, arms out, forward, pinch.

A pose counts once it has been held still for a moment. With the arm stretched down, out and forward
(unit vectors d_k, the horizontal ones by the line that the hands span when the arms are out), a side's
shoulder s and reach r are the least-squares solution of::

    wrist_k = s + r d_k        k = down, out, forward: 9 equations, 4 unknowns

and what is left of each pose is its residual: how far the hand was from where it belongs. Where shoulders and
elbows are tracked, their distances tell the bones; else the reach is divided as the average person's. A
calibration whose residuals are large, or whose arms differ, is refused with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.bounds import out_of_bounds
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, MotionFrame
from retargeting.trainer_size import FOREARM_SHARE, UPPER_ARM_SHARE, TrainerSize, measured_lengths

Array = NDArray[np.float64]


class CalibrationStep(Enum):
    STAND = "stand"
    DOWN = "arms_down"
    OUT = "arms_out"
    FORWARD = "forward"
    PINCH = "pinch"


STEPS = tuple(CalibrationStep)
INSTRUCTIONS: Mapping[CalibrationStep, str] = {
    CalibrationStep.STAND: "Stand upright and look straight ahead.",
    CalibrationStep.DOWN: "Let both arms hang down, stretched.",
    CalibrationStep.OUT: "Stretch both arms out to the sides, palms down, at shoulder height.",
    CalibrationStep.FORWARD: "Stretch both arms forward, parallel, at shoulder height.",
    CalibrationStep.PINCH: "Pinch thumb and index finger of both hands (or pull both triggers).",
}
# Of the height of the head (eyes): where a hanging and a raised wrist are, with room for every body.
_HANGING, _RAISED = (0.38, 0.66), (0.72, 1.05)
# Of the height of the head: the least that stretched hands are apart, or ahead; the most that forward ones
# are apart.
_SPAN, _AHEAD, _PARALLEL = 0.70, 0.28, 0.42
_PINCH_M, _TRIGGER = 0.03, 0.8
_STANDING_M = (0.9, 2.2)


@dataclass(frozen=True)
class CalibrationParameters:
    """hold_s: how long a pose is held; still_m: and how little head and hands move in it; timeout_s: for one
    pose; largest_residual_m, largest_difference_m (between the arms): above these it is refused.
    """

    hold_s: float = 1.0
    still_m: float = 0.03
    timeout_s: float = 30.0
    largest_residual_m: float = 0.08
    largest_difference_m: float = 0.05

    def __post_init__(self) -> None:
        bounds = {
            "hold_s": (0.1, 10.0),
            "still_m": (0.001, 0.2),
            "timeout_s": (1.0, 600.0),
            "largest_residual_m": (0.001, 0.5),
            "largest_difference_m": (0.001, 0.5),
        }
        if problems := out_of_bounds(self, bounds, "calibration"):
            raise RetargetingError("\n".join(problems))


@dataclass(frozen=True)
class CalibrationResult:
    """`residuals_m`: per side and pose; `pinch_m`: per side the distance of the tips while pinching, of
    tracked hands; `heading_rad`: where the trainer faced, about the vertical of `trainer`; `head_height_m`:
    standing; `bones`: how upper arms and forearms were told apart.
    """

    size: TrainerSize
    residuals_m: Mapping[str, Mapping[str, float]]
    pinch_m: Mapping[str, float]
    heading_rad: float
    head_height_m: float
    bones: str

    @property
    def largest_residual_m(self) -> float:
        return max(value for of_side in self.residuals_m.values() for value in of_side.values())


class Calibration:
    """Takes motion frames in and leads through the steps.

    `step`: the pose asked for, None when all were held; `hint`: what is missing for it, "" while it is held;
    `held`: 0..1 of the time it must be. Raises nothing on the way: `refusal` says why it ended early.
    """

    def __init__(self, parameters: CalibrationParameters | None = None) -> None:
        self.parameters = parameters or CalibrationParameters()
        self.step: CalibrationStep | None = STEPS[0]
        self.hint = "no motion yet"
        self.held = 0.0
        self.refusal = ""
        self._held: deque[tuple[float, MotionFrame]] = deque()
        # Of each held frame the places ``(3, 3)`` of `_POINTS`.
        self._places: deque[Array] = deque()
        self._since_s: float | None = None
        self._poses: dict[CalibrationStep, dict[str, Array]] = {}
        self._lengths: dict[str, list[float]] = {}
        self._pinch_m: dict[str, float] = {}

    @property
    def ended(self) -> bool:
        """Whether it takes no more frames."""
        return self.step is None or self.refusal != ""

    def observe(self, frame: MotionFrame, now_s: float) -> None:
        """Take a frame in that came at `now_s` (steady clock)."""
        if self.ended or self.step is None:
            return
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s > self.parameters.timeout_s:
            why = self.hint or "keep still"
            self.refusal = f"{self.step.value} was not held within {self.parameters.timeout_s:g} s: {why}"
            return
        self.hint = self._missing(self.step, frame)
        if self.hint:
            self._drop()
            return
        self._held.append((now_s, frame))
        self._places.append(np.array([frame.poses[point][:3] for point in _POINTS]))
        self._forget_what_moved()
        begun_s = self._held[0][0]
        self.held = min(1.0, (now_s - begun_s) / self.parameters.hold_s)
        if self.held >= 1.0 and len(self._held) > 1:
            self._keep(self.step)

    def _drop(self) -> None:
        self._held.clear()
        self._places.clear()
        self.held = 0.0

    def _forget_what_moved(self) -> None:
        """Leave the newest frames, in which nothing is farther from the last one than allowed."""
        moved = np.linalg.norm(np.array(self._places) - self._places[-1], axis=-1).max(axis=-1)
        far = np.flatnonzero(moved > self.parameters.still_m)
        if len(far):
            for _ in range(int(far[-1]) + 1):
                self._held.popleft()
                self._places.popleft()
            self.hint = "keep still"

    def _keep(self, step: CalibrationStep) -> None:
        frames = [frame for _, frame in self._held]
        self._poses[step] = {
            point: np.median([frame.poses[point][:3] for frame in frames], axis=0) for point in _POINTS
        }
        for frame in frames:
            if all(f"{side}_{part}" in frame.poses for side in SIDES for part in ("shoulder", "elbow")):
                for name, length in measured_lengths(frame).items():
                    self._lengths.setdefault(name, []).append(length)
        if step is CalibrationStep.PINCH:
            for side in SIDES:
                apart = [value for frame in frames if (value := _pinch_m(side, frame)) is not None]
                if apart:
                    self._pinch_m[side] = float(np.median(apart))
        following = STEPS.index(step) + 1
        self.step = STEPS[following] if following < len(STEPS) else None
        if self.step is CalibrationStep.PINCH and not _has_hands(frames[-1]):
            # Who wears a suit has neither tracked fingers nor triggers.
            self.step = None
        self._since_s = None
        self._drop()

    # ---- is it the pose

    def _missing(self, step: CalibrationStep, frame: MotionFrame) -> str:
        lost = [point for point in _POINTS if point not in frame.poses]
        if lost:
            held = any(f"{side}_grip" in frame.poses for side in SIDES)
            way_out = ": put the controllers down, bare hands are measured" if held else ""
            return f"not tracked: {', '.join(lost)}{way_out}"
        head = frame.poses["head"][:3]
        low, high = _STANDING_M
        if not low <= head[2] <= high:
            return f"the head is {head[2]:.2f} m above the floor, {low} .. {high} m is a person's who stands"
        wrists = {side: frame.poses[f"{side}_wrist"][:3] for side in SIDES}
        if step is CalibrationStep.STAND:
            return ""
        if step is CalibrationStep.PINCH:
            return _pinch_missing(frame)
        bounds = _HANGING if step is CalibrationStep.DOWN else _RAISED
        for side, wrist in wrists.items():
            share = float(wrist[2] / head[2])
            if not bounds[0] <= share <= bounds[1]:
                return f"{'raise' if share < bounds[0] else 'lower'} the {side} hand"
        apart_m = float(np.linalg.norm(wrists["left"][:2] - wrists["right"][:2]))
        if step is CalibrationStep.OUT and apart_m < _SPAN * head[2]:
            return "stretch the arms farther out to the sides"
        if step is CalibrationStep.FORWARD:
            middle = 0.5 * (wrists["left"] + wrists["right"])
            if apart_m > _PARALLEL * head[2]:
                return "bring the hands nearer together: arms parallel"
            if np.linalg.norm(middle[:2] - head[:2]) < _AHEAD * head[2]:
                return "stretch the arms farther forward"
        return ""

    # ---- what comes of it

    def result(self) -> CalibrationResult:
        """Raises `RetargetingError` where it was refused, has not ended, or is no good, with every reason."""
        if self.refusal or self.step is not None:
            raise RetargetingError(self.refusal or f"{self.step.value if self.step else ''}: not held yet")
        out = self._poses[CalibrationStep.OUT]
        across = (out["left_wrist"] - out["right_wrist"])[:2]
        left = np.array([*(across / np.linalg.norm(across)), 0.0])
        forward = np.array([left[1], -left[0], 0.0])
        ahead = self._poses[CalibrationStep.FORWARD]
        middle = 0.5 * (ahead["left_wrist"] + ahead["right_wrist"]) - ahead["head"]
        problems = []
        if middle @ forward <= 0.0:
            problems.append("the arms point backwards: left and right are exchanged")
        shoulders, reach, residuals = {}, {}, {}
        for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
            directions = {
                CalibrationStep.DOWN: np.array([0.0, 0.0, -1.0]),
                CalibrationStep.OUT: sign * left,
                CalibrationStep.FORWARD: forward,
            }
            wrists = {step: self._poses[step][f"{side}_wrist"] for step in directions}
            shoulders[side], reach[side], residuals[side] = _fit(wrists, directions)
        problems += self._problems(reach, residuals)
        if problems:
            raise RetargetingError("\n".join(problems))
        size, bones = self._size(shoulders, reach)
        return CalibrationResult(
            size=size,
            residuals_m=residuals,
            pinch_m=dict(self._pinch_m),
            heading_rad=float(np.arctan2(forward[1], forward[0])),
            head_height_m=float(self._poses[CalibrationStep.STAND]["head"][2]),
            bones=bones,
        )

    def _problems(
        self, reach: Mapping[str, float], residuals: Mapping[str, Mapping[str, float]]
    ) -> list[str]:
        limits = self.parameters
        problems = [
            f"{step} {side}: the hand was {value:.3f} m from where a stretched arm has it, at most "
            f"{limits.largest_residual_m:g} m is expected: stretch the arm, stand straight"
            for side, of_side in residuals.items()
            for step, value in of_side.items()
            if not value <= limits.largest_residual_m
        ]
        difference = abs(reach["left"] - reach["right"])
        if not difference <= limits.largest_difference_m:
            problems.append(
                f"the arms measure {reach['left']:.3f} m (left) and {reach['right']:.3f} m (right): at most "
                f"{limits.largest_difference_m:g} m apart is expected"
            )
        return problems

    def _size(self, shoulders: Mapping[str, Array], reach: Mapping[str, float]) -> tuple[TrainerSize, str]:
        """Raises `RetargetingError` where it is no person's."""
        upper, fore, bones = {}, {}, "the reach, divided as the average person's arm"
        for side in SIDES:
            tracked = self._lengths.get(f"{side}_upper_arm"), self._lengths.get(f"{side}_forearm")
            if tracked[0] and tracked[1]:
                upper[side], fore[side] = float(np.median(tracked[0])), float(np.median(tracked[1]))
                bones = "tracked shoulders and elbows"
            else:
                upper[side] = reach[side] * UPPER_ARM_SHARE / (UPPER_ARM_SHARE + FOREARM_SHARE)
                fore[side] = reach[side] - upper[side]
        height_m = float(0.5 * (shoulders["left"][2] + shoulders["right"][2]))
        width_m = float(np.linalg.norm((shoulders["left"] - shoulders["right"])[:2]))
        return TrainerSize(upper, fore, height_m, width_m), bones


_POINTS = ("head", "left_wrist", "right_wrist")


def _fit(
    wrists: Mapping[CalibrationStep, Array], directions: Mapping[CalibrationStep, Array]
) -> tuple[Array, float, dict[str, float]]:
    """Shoulder ``(3,)``, reach and the distance left in each pose (m)."""
    rows = [np.hstack([np.eye(3), direction[:, None]]) for direction in directions.values()]
    places = np.concatenate([wrists[step] for step in directions])
    solution = np.linalg.lstsq(np.vstack(rows), places, rcond=None)[0]
    left = (places - np.vstack(rows) @ solution).reshape(-1, 3)
    residuals = {step.value: float(np.linalg.norm(rest)) for step, rest in zip(directions, left, strict=True)}
    return solution[:3], float(solution[3]), residuals


def _pinch_m(side: str, frame: MotionFrame) -> float | None:
    tips = [frame.poses.get(f"{side}_{finger}_tip") for finger in ("thumb", "index")]
    if tips[0] is None or tips[1] is None:
        return None
    return float(np.linalg.norm(tips[0][:3] - tips[1][:3]))


def _has_hands(frame: MotionFrame) -> bool:
    controllers = any(f"{side}_{part}" in frame.poses for side in SIDES for part in ("grip", "aim"))
    return controllers or any(_pinch_m(side, frame) is not None for side in SIDES)


def _pinch_missing(frame: MotionFrame) -> str:
    for side in SIDES:
        apart_m = _pinch_m(side, frame)
        pulled = frame.controls.axes[Axis[f"{side.upper()}_TRIGGER"]] > _TRIGGER
        if not pulled and not (apart_m is not None and apart_m < _PINCH_M):
            return f"pinch with the {side} hand"
    return ""
