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

    measured ``(n,)``: filled anew each time; None before the first.
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
        safety = model.description.safety
        self._cap = np.where(slides, safety.following_error_m, safety.following_error_rad)
        self._commanded: Array | None = None
        self._measured_s = -math.inf
        self._motion_s = -math.inf
        self._lagging_since_s: float | None = None

    def saw_motion(self, now_s: float) -> None:
        self._motion_s = now_s

    def observe_joints(self, positions: Mapping[str, float], now_s: float) -> None:
        """Take the measured joints in; raises `RetargetingError` where one is missing or not finite."""
        try:
            self._heard[:] = self._positions_of(positions)
        except KeyError as error:
            raise RetargetingError(
                f"joint_states lack the joint {error.args[0]!r} of {self._model.name}"
            ) from error
        if not self._take():
            raise RetargetingError("joint_states hold a non-finite position")
        self.measured, self._measured_s = self._measured, now_s

    def measured_near(self, positions: Array) -> Array | None:
        """The measured joints ``(n,)``, endless ones at the turn nearest to `positions` ``(n,)``."""
        if self.measured is None:
            return None
        turns = np.zeros(len(self._turn))
        away = positions - self.measured
        np.divide(away, self._turn, out=turns, where=self._turn > 0.0)
        return np.asarray(self.measured + self._turn * np.rint(turns))

    def refusal(self, now_s: float) -> str | None:
        """Why these inputs allow no engage now."""
        if self.measured is None:
            return "no joint_states from the robot yet"
        if now_s - self._measured_s > self._parameters.stale_s:
            return f"joint_states are {now_s - self._measured_s:.2f} s old"
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
            return f"joint_states are stale: the newest are {age_s * 1e3:.0f} ms old"
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
