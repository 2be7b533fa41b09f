"""What both arms and the head are asked to do in every tick, each holding, approaching or following."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_target import ArmState, ArmTarget
from retargeting.body_points import SIDES
from retargeting.compiled import compiled
from retargeting.packed import bind, pack
from retargeting.pose_blend import smoothstep, split_poses
from retargeting.quaternions import angle_between
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_posture import RobotPosture
from retargeting.solver import SolverTargets
from retargeting.target_track import TargetTrack
from retargeting.trainer_to_robot import Targets

Array = NDArray[np.float64]

_HEAD_ROW = 2
# Looked at in every tick: an attribute of an `Enum` takes longer than a name.
_APPROACHING, _FOLLOWING = ArmState.APPROACHING, ArmState.FOLLOWING
_LOST, _RELEASED = ArmState.LOST, ArmState.RELEASED


class BodyArrays(NamedTuple):
    """All that `BodyTargets` asks for, as it is and as the solver takes it: poses ``(3, 7)``, directions
    ``(2, 3)``, openings ``(2,)``, waist ``(w,)``, positions ``(3, 3)``, rotations ``(3, 3, 3)``; waist_start
    ``(w,)``: where the waist began to approach."""

    poses: Array
    directions: Array
    openings: Array
    waist: Array
    positions: Array
    rotations: Array
    waist_start: Array


@compiled
def _show(packed, track, all_follow, waist_share):  # type: ignore[no-untyped-def]
    """Fill what follows from the track (a packed `Knot`) into packed `BodyArrays`.

    all_follow: whether arms, head and hands are where the track is; waist_share: how much (0..1) of its time
    to approach the waist has had.
    """
    body, now = packed.content, track.content
    if all_follow:
        body.poses[:] = now.poses
        body.directions[:] = now.directions
        body.openings[:] = now.openings
    if waist_share < 1.0:
        share = smoothstep(waist_share)
        for w in range(body.waist.shape[0]):
            body.waist[w] = body.waist_start[w] + share * (now.waist[w] - body.waist_start[w])
    else:
        body.waist[:] = now.waist
    split_poses(body.poses, body.positions, body.rotations)


class BodyTargets:
    """One from each engage to the next hold: every part holds at `start` until it is told to approach.

    poses ``(3, 7)`` in the order of `retargeting.solver.POSE_SITES`, directions ``(2, 3)`` of the
    elbows, openings ``(2,)`` of the hands, waist ``(w,)``, for_solver: the same as the solver takes it; all
    as of the last `move_to`.
    """

    def __init__(
        self,
        arms: dict[str, ArmTarget],
        has_head: bool,
        parameters: RetargeterParameters,
        start: RobotPosture,
        waist: Array,
        targets: Targets,
        stamp_ns: int,
        now_s: float,
    ) -> None:
        self.arms = arms
        self._has_head, self._parameters = has_head, parameters
        self.poses, self.directions = start.poses.copy(), start.directions.copy()
        self.openings = targets.openings.copy()
        self.waist = waist.copy()
        self.for_solver = SolverTargets(
            np.empty((len(self.poses), 3)), np.empty((len(self.poses), 3, 3)), self.directions, self.waist
        )
        self.track = TargetTrack(start.poses, self.openings, waist)
        self.track.add(targets, stamp_ns, now_s)
        self.track.skip_to_newest()
        self._rows = [(SIDES.index(side), arm) for side, arm in arms.items()]
        for k, arm in self._rows:
            arm.show_in(self.poses[k], self.directions[k])
        for side in arms:
            self.rest(side, start, ArmState.RELEASED, "not engaged")
        self._head = ArmTarget()
        self._head.show_in(self.poses[_HEAD_ROW], np.zeros(3))
        self._head.hold(start.poses[_HEAD_ROW], np.zeros(3), ArmState.RELEASED, "")
        self._parts = (*arms.values(), self._head)
        self._waist_start, self._waist_since_s, self._waist_takes_s = waist.copy(), now_s, 0.0
        arrays = BodyArrays(
            self.poses,
            self.directions,
            self.openings,
            self.waist,
            self.for_solver.positions,
            self.for_solver.rotations,
            self._waist_start,
        )
        self._show = bind(_show, (pack(arrays), self.track.packed_now), (True, 1.0))
        sites = [(f"{side}_wrist", SIDES.index(side)) for side in arms]
        self._sites = [*sites, ("head", _HEAD_ROW)] if has_head else sites
        self.approach_trunk(targets, now_s)

    def rest(self, side: str, posture: RobotPosture, state: ArmState, reason: str) -> None:
        """Let an arm hold as in `posture`."""
        k = SIDES.index(side)
        self.arms[side].hold(posture.poses[k], posture.directions[k], state, reason)

    def approach(self, side: str, targets: Targets, now_s: float, *, absolute: bool) -> None:
        """Lead an arm softly from the pose it was asked for last to where the trainer's wrist wants it.

        Not `absolute`: a clutch closes, and the wrist wants it where it is.
        """
        arm, wrist = self.arms[side], targets.wrists[side]
        if absolute:
            arm.part()
        else:
            arm.join(wrist, arm.pose)
        limits, wanted = self._parameters, arm.wanted(wrist)
        # A smoothstep's peak speed is 1.5 times its average.
        duration_s = max(
            limits.shortest_approach_s,
            float(np.linalg.norm(wanted[:3] - arm.pose[:3])) / limits.approach_m_s,
            angle_between(wanted[3:], arm.pose[3:]) / limits.approach_rad_s,
        )
        arm.approach(arm.pose, arm.direction, now_s, duration_s)

    def approach_trunk(self, targets: Targets, now_s: float) -> None:
        """Lead waist and head softly from where they were asked to be to where the trainer's are."""
        limits = self._parameters
        if targets.has_waist:
            turn_rad = float(np.abs(targets.waist - self.waist).max(initial=0.0))
            self._waist_start[:], self._waist_since_s = self.waist, now_s
            self._waist_takes_s = max(limits.shortest_approach_s, turn_rad / limits.approach_rad_s)
        if targets.head_rotation is None:
            return
        head = self._head
        angle_rad = angle_between(targets.head_rotation, head.pose[3:]) if self._has_head else 0.0
        duration_s = max(limits.shortest_approach_s, angle_rad / limits.approach_rad_s)
        head.approach(head.pose, np.zeros(3), now_s, duration_s)

    def trunk_turned_rad(self, targets: Targets) -> float:
        """By how much head or waist are turned since the frame before; 0 where that is not known."""
        turned_rad = 0.0
        if targets.has_waist:
            turned_rad = float(np.abs(targets.waist - self.track.newest_waist).max(initial=0.0))
        if targets.head_rotation is None or not self._has_head:
            return turned_rad
        head_rad = angle_between(targets.head_rotation, self.track.newest_poses[_HEAD_ROW, 3:])
        return max(turned_rad, float(head_rad))

    @property
    def approaching_until_s(self) -> float | None:
        """When the last of them has arrived; None where none is on its way."""
        approaching = (part.until_s for part in self._parts if part.state is ArmState.APPROACHING)
        return max(approaching, default=None)

    @property
    def is_approaching(self) -> bool:
        """Whether any of them is on its way."""
        # Not `any`, which takes four times as long for three of them; so below.
        approaching = False
        for part in self._parts:
            approaching = approaching or part.state is _APPROACHING
        return approaching

    def _all_follow(self) -> bool:
        """Whether every part is where the track is, and has arrived there."""
        follow = True
        for part in self._parts:
            follow = follow and part.state is _FOLLOWING and not part.has_offset
        return follow

    @property
    def has_lost(self) -> bool:
        """Whether an arm holds because its wrist is lost."""
        lost = False
        for _, arm in self._rows:
            lost = lost or arm.state is _LOST
        return lost

    def holding(self) -> list[str]:
        """The sides that do."""
        return [side for side, arm in self.arms.items() if arm.state is _LOST or arm.state is _RELEASED]

    def following(self) -> list[str]:
        """The sides that do not hold."""
        return [
            side for side, arm in self.arms.items() if arm.state is _FOLLOWING or arm.state is _APPROACHING
        ]

    def move_to(self, now_s: float) -> None:
        """Bring everything to the time `now_s` (steady clock). Where an arm holds, so does its hand."""
        track = self.track
        track.move_to(now_s)
        # Then what each would do is done for all at once.
        all_follow = self._all_follow()
        if not all_follow:
            for k, arm in self._rows:
                arm.move_to(now_s, track.poses[k], track.directions[k])
                if not arm.holds:
                    self.openings[k] = track.openings[k]
            self._head.move_to(now_s, track.poses[_HEAD_ROW], self._head.direction)
        # A tick's time may lie before that of the engage.
        since_s = max(0.0, now_s - self._waist_since_s)
        self._show(all_follow, since_s / self._waist_takes_s if since_s < self._waist_takes_s else 1.0)

    def by_site(self) -> dict[str, Array]:
        """Poses ``(7,)`` by site; of the head only the direction is asked for, its neck tells its place."""
        poses = self.poses.copy()
        return {site: poses[k] for site, k in self._sites}
