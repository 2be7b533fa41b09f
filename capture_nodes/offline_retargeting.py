"""A recorded trainer retargeted without a robot and without waiting: tick by tick as the node would.

The robot is one that does what it is told: its joints are measured where the last command put them, and at
the start in its neutral posture. Ticks lie `1 / rate_hz` apart from the first frame's stamp on; a frame is
seen by the first tick that is not before it. Engaged is as soon as that is possible, again after a gap made
the arms hold; where the deadman of the recording counts, it engages by itself. After the last frame the arms
brake to a standstill. Nothing depends on a clock: the same frames give the same commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from capture_nodes.retargeting_report import Joining, joining
from retargeting.applied_command import AppliedCommand
from retargeting.deadman import DeadmanMode
from retargeting.errors import RetargetingError
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter, State

# From 6 rad/s at 30 rad/s² it takes 0.2 s.
_LONGEST_BRAKING_S = 2.0


class OfflineTick(NamedTuple):
    """`change`: the retargeter's state where it is another than in the tick before; None in `command`: not
    engaged yet.
    """

    stamp_ns: int
    command: AppliedCommand | None
    change: Joining | None
    is_last: bool


class OfflineRetargeting:
    """`refused_frames`: that the retargeter could not take; `engagements`: how often it was engaged here."""

    def __init__(self, retargeter: Retargeter) -> None:
        self.retargeter = retargeter
        self.refused_frames = 0
        self.engagements = 0
        self._engages = retargeter.deadman.mode is DeadmanMode.OFF

    def run(self, frames: Sequence[MotionFrame]) -> Iterator[OfflineTick]:
        """Every tick from the first frame to the standstill after the last one."""
        retargeter = self.retargeter
        period_ns = round(1e9 / retargeter.parameters.rate_hz)
        start_ns, end_ns = frames[0].stamp_ns, frames[-1].stamp_ns
        names = retargeter.model.joint_names
        positions = retargeter.model.neutral_positions()
        last: Joining | None = None
        place = 0
        stamp_ns = start_ns
        while True:
            now_s = (stamp_ns - start_ns) * 1e-9
            while place < len(frames) and frames[place].stamp_ns <= stamp_ns:
                self._observe(frames[place], now_s)
                place += 1
            retargeter.observe_joints(positions, now_s)
            if stamp_ns <= end_ns:
                self._engage(now_s)
            else:
                retargeter.release()
            command = retargeter.tick(stamp_ns, now_s)
            if command is not None:
                positions = dict(zip(names, command.positions.tolist(), strict=True))
            state = joining(retargeter)
            moves = command is not None and bool(command.velocities.any())
            is_last = stamp_ns > end_ns and (not moves or stamp_ns > end_ns + _LONGEST_BRAKING_S * 1e9)
            yield OfflineTick(stamp_ns, command, state if state != last else None, is_last)
            if is_last:
                return
            last = state
            stamp_ns += period_ns

    def _observe(self, frame: MotionFrame, now_s: float) -> None:
        try:
            self.retargeter.observe_motion(frame, now_s)
        except RetargetingError:
            # As the node does: without good input the arms hold.
            self.refused_frames += 1

    def _engage(self, now_s: float) -> None:
        waits = self._engages and self.retargeter.state in (State.IDLE, State.HOLDING)
        if waits and self.retargeter.refusal(now_s) is None:
            self.retargeter.engage(now_s)
            self.engagements += 1
