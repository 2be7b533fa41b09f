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
def _farthest(measured, commanded, count):  # type: ignore[no-untyped-def]
    """Of the first `count` joints the one that is farthest from its command, and by how much."""
    worst, error = 0, 0.0
    for i in range(count):
        # Not `distance > error`: one that is no number is farther than any.
        distance = abs(measured[i] - commanded[i])
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
        self._following_error_rad = model.description.safety.following_error_rad
        self.measured: Array | None = None
        count = len(self._names)
        self._heard, self._measured = np.zeros(count), np.zeros(count)
        self._positions_of = itemgetter(*self._names)
        self._take = bind(_take, (self._heard, self._measured))
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
            fixed = self._measured, commanded, self._model.body_count
            self._farthest, self._commanded = bind(_farthest, fixed), commanded
        worst, error_rad = self._farthest()
        cap = self._following_error_rad
        if error_rad <= cap:
            self._lagging_since_s = None
        elif self._lagging_since_s is None:
            self._lagging_since_s = now_s
        elif now_s - self._lagging_since_s > self._parameters.following_error_time_s:
            return (
                f"{self._model.joint_names[worst]} is {error_rad:.2f} rad away from its command, "
                f"over the cap of {cap:g} rad"
            )
        return None
