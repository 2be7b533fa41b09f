"""The retargeter's state in words: for its latched state, and for `/diagnostics`."""

from __future__ import annotations

from typing import NamedTuple

from retargeting.arm_target import ArmState
from retargeting.retargeter import Retargeter, State
from retargeting.retargeter_parameters import EngageMode


class Joining(NamedTuple):
    """What the latched state tells, to be compared in every tick; arms: each side and its clutch."""

    state: State
    reason: str
    arms: tuple[tuple[str, ArmState], ...]
    engage_mode: EngageMode


def joining(retargeter: Retargeter) -> Joining:
    arms = tuple((side, arm.state) for side, arm in retargeter.arms.items())
    return Joining(retargeter.state, retargeter.reason, arms, retargeter.engage_mode)


def clutches(now: Joining) -> dict[str, object]:
    """Per arm whether it follows, and how trainer and robot are joined."""
    values: dict[str, object] = {f"{side}_clutch": state.value for side, state in now.arms}
    values["engage_mode"] = now.engage_mode.value
    return values


def mapping(retargeter: Retargeter) -> dict[str, object]:
    """Where the trainer stands in the robot's root (x y z qx qy qz qw) and the scale of each arm."""
    values: dict[str, object] = {"robot": retargeter.model.name}
    transform = retargeter.transform_trainer_to_robot
    if transform is not None:
        values["transform_trainer_to_base"] = " ".join(repr(float(v)) for v in transform)
    if retargeter.mapping is not None:
        values |= {f"{side}_scale": f"{scale:.4f}" for side, scale in retargeter.mapping.scale.items()}
    return values


def health(retargeter: Retargeter) -> dict[str, object]:
    """State, arms, and counts since the start."""
    values: dict[str, object] = {"state": retargeter.state.value, "reason": retargeter.reason}
    values |= clutches(joining(retargeter))
    for side, arm in retargeter.arms.items():
        if arm.holds:
            values[f"{side}_holds"] = arm.reason
    values["deadman"] = retargeter.deadman.mode.value
    values |= {f"{side}_deadman_held": retargeter.deadman.held[side] for side in retargeter.arms}
    values["late_ticks"] = retargeter.late_ticks
    values["forced_exceptions"] = retargeter.forced_exceptions
    values["doubted_samples"] = retargeter.trainer.input.filter.doubted_samples
    values["tracking_jumps"] = retargeter.trainer.input.filter.jumps
    return values
