"""Whether motion and measured joints are fresh and the robot follows: reasons to hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.packed import bind
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

# By how much a joint may be measured outside its limits when a robot engages: its first command is at the
# limit. At the default velocity cap that is one tick's way.
_OUTSIDE_RAD, _OUTSIDE_M = 0.03, 0.0025
# By how much gravity may hold a joint off its command at rest.
_AT_REST_RAD, _AT_REST_M = 0.1, 0.02


@compiled
def _farthest(measured, commanded, turn, cap, count):  # type: ignore[no-untyped-def]
    """Of the first `count` joints the one that is farthest from its command, and by how many of its caps.

    turn ``(n,)``: after what a joint is where it was (0: never); cap ``(n,)``: how far it may be.
    """
    worst, error = 0, 0.0
    for i in range(count):
        distance = abs(measured[i] - commanded[i])
        if turn[i] > 0.0:
            distance = abs(distance - turn[i] * np.rint(distance / turn[i]))
        distance /= cap[i]
        # Not `distance > error`: one that is no number is farther than any.
        if not distance <= error:
            worst, error = i, distance
    return worst, error


@compiled
def _take(heard, measured):  # type: ignore[no-untyped-def]
    """Copy what was heard where all of it is finite; whether it is."""
    for i in range(heard.shape[0]):
        if not np.isfinite(heard[i]):
            return False
    measured[:] = heard
    return True


class InputWatch:
    """Remembers when what came in. Times are of the steady clock.

    measured ``(n,)``: filled anew each time; None until every commanded joint was heard of.
    """

    def __init__(self, model: RobotModel, parameters: RetargeterParameters) -> None:
        self._model, self._names = model, model.joint_names
        self._parameters = parameters
        self.measured: Array | None = None
        count = len(self._names)
        self._heard, self._measured = np.zeros(count), np.zeros(count)
        self._positions_of = itemgetter(*self._names)
        self._take = bind(_take, (self._heard, self._measured))
        # Their encoders may begin anew after a turn; commands go on counting.
        slides = np.array([model.urdf.joints[name].kind == "prismatic" for name in self._names])
        self._turn = 2.0 * np.pi * (~slides & np.isinf(model.lower) & np.isinf(model.upper))
        self._units = np.where(slides, "m", "rad").tolist()
        self._may_be_outside = np.where(slides, _OUTSIDE_M, _OUTSIDE_RAD)
        self._at_rest = np.where(slides, _AT_REST_M, _AT_REST_RAD)
        safety = model.description.safety
        self._cap = np.where(slides, safety.following_error_m, safety.following_error_rad)
        self._commanded: Array | None = None
        # When each joint was heard of alone, all of them in one message, and the one that is oldest.
        self._joint_s, self._whole_s, self._measured_s = np.full(count, -math.inf), -math.inf, -math.inf
        self._motion_s = -math.inf
        self._lagging_since_s: float | None = None

    def saw_motion(self, now_s: float) -> None:
        self._motion_s = now_s

    def observe_joints(self, positions: Mapping[str, float], now_s: float) -> None:
        """Take measured joints in, all or some; raises `RetargetingError` where one is not finite."""
        try:
            self._heard[:] = self._positions_of(positions)
        except KeyError:
            self._observe_some(positions, now_s)
            return
        if not self._take():
            raise RetargetingError("joint_states hold a non-finite position")
        self.measured, self._measured_s, self._whole_s = self._measured, now_s, now_s

    def _observe_some(self, positions: Mapping[str, float], now_s: float) -> None:
        """A robot of several drivers tells its joints in parts."""
        heard = [(k, positions[name]) for k, name in enumerate(self._names) if name in positions]
        if not all(math.isfinite(position) for _, position in heard):
            raise RetargetingError("joint_states hold a non-finite position")
        for k, position in heard:
            self._measured[k], self._joint_s[k] = position, now_s
        np.maximum(self._joint_s, self._whole_s, out=self._joint_s)
        self._measured_s = float(self._joint_s.min())
        if self._measured_s > -math.inf:
            self.measured = self._measured

    @property
    def _of_oldest(self) -> str:
        """Whose joint states are the oldest, where they come in parts."""
        in_parts = self._measured_s != self._whole_s
        return f" of {self._names[int(self._joint_s.argmin())]}" if in_parts else ""

    def measured_near(self, positions: Array) -> Array | None:
        """The measured joints ``(n,)``, endless ones at the turn nearest to `positions` ``(n,)``."""
        if self.measured is None:
            return None
        turns = np.zeros(len(self._turn))
        away = positions - self.measured
        np.divide(away, self._turn, out=turns, where=self._turn > 0.0)
        return np.asarray(self.measured + self._turn * np.rint(turns))

    def outside(self, least: float | None = None) -> tuple[str, ...]:
        """Joints that are measured outside their limits, in words.

        By more than `least` (rad, m); None: by more than a start may be outside, see `_OUTSIDE_RAD`.
        """
        if self.measured is None:
            return ()
        lower, upper = self._model.lower, self._model.upper
        beyond = np.abs(np.clip(self.measured, lower, upper) - self.measured)
        rows = np.flatnonzero(beyond > (self._may_be_outside if least is None else least))
        return tuple(self._outside(int(k), float(beyond[k])) for k in rows)

    def _outside(self, k: int, beyond: float) -> str:
        value, unit = float(self.measured[k]) if self.measured is not None else math.nan, self._units[k]
        lower, upper = float(self._model.lower[k]), float(self._model.upper[k])
        text = (
            f"{self._names[k]} is measured at {value:.3f} {unit}, {beyond:.3f} {unit} outside its limits "
            f"{lower:g} .. {upper:g}"
        )
        if unit == "rad" and abs(value) > 2.0 * math.pi and lower - 0.1 <= math.radians(value) <= upper + 0.1:
            return f"{text}; are joint_states in degrees? rad are expected"
        if unit == "m" and lower - 0.01 <= 1e-3 * value <= upper + 0.01:
            return f"{text}; are joint_states in millimetres? m are expected"
        return text

    def away(self, commanded: Array, now_s: float) -> Array | None:
        """How far ``(n,)`` the measured joints stand from their commands, by how many of what a robot at
        rest may; grippers 0, they stand away while they hold something. None where they are stale."""
        measured = self.measured_near(commanded)
        if measured is None or now_s - self._measured_s > self._parameters.stale_s:
            return None
        shares: Array = np.abs(measured - commanded) / self._at_rest
        shares[self._model.body_count :] = 0.0
        return shares

    def refusal(self, now_s: float) -> str | None:
        """Why these inputs allow no engage now."""
        if self.measured is None:
            unheard = np.isinf(self._joint_s)
            if unheard.all():
                return "no joint_states from the robot yet"
            return f"no joint_states of {self._names[int(np.argmax(unheard))]} from the robot yet"
        if now_s - self._measured_s > self._parameters.stale_s:
            return f"joint_states{self._of_oldest} are {now_s - self._measured_s:.2f} s old"
        if self._motion_s == -math.inf:
            return "no /trainer/motion yet"
        if now_s - self._motion_s > self._parameters.stale_s:
            return f"/trainer/motion is {now_s - self._motion_s:.2f} s old"
        return None

    def engaged(self) -> None:
        """Whatever the robot did before counts no more."""
        self._lagging_since_s = None

    def fault(self, commanded: Array, now_s: float) -> str | None:
        """Why a moving robot must hold; `commanded` ``(n,)`` is its last command."""
        age_s = now_s - self._motion_s
        if age_s > self._parameters.stale_s:
            return f"/trainer/motion is stale: the newest frame is {age_s * 1e3:.0f} ms old"
        if self.measured is None:
            return None
        age_s = now_s - self._measured_s
        if age_s > self._parameters.stale_s:
            return f"joint_states are stale: the newest{self._of_oldest} are {age_s * 1e3:.0f} ms old"
        if commanded is not self._commanded:
            fixed = self._measured, commanded, self._turn, self._cap, self._model.body_count
            self._farthest, self._commanded = bind(_farthest, fixed), commanded
        worst, caps = self._farthest()
        if caps <= 1.0:
            self._lagging_since_s = None
        elif self._lagging_since_s is None:
            self._lagging_since_s = now_s
        elif now_s - self._lagging_since_s > self._parameters.following_error_time_s:
            cap, unit = float(self._cap[worst]), self._units[worst]
            return (
                f"{self._names[worst]} is {caps * cap:.2f} {unit} away from its command, "
                f"over the cap of {cap:g} {unit}"
            )
        return None
