"""A robot in simulation: takes commands, steps the physics, gives what its sensors measure."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.command_follower import CommandFollower, FollowerState
from capture_nodes.simulation.physics_model import PHYSICS_STEP_S, PhysicsModel, build_physics
from capture_nodes.simulation.scene import SceneDescription, layout_scene
from capture_nodes.simulation.tactile import TactilePads
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

TICK_RATE_HZ = 200
STEPS_PER_TICK = round(1.0 / (TICK_RATE_HZ * PHYSICS_STEP_S))
_WRENCH = ("force", "torque")


@dataclass(frozen=True)
class RobotSample:
    """What the robot measures at the end of a tick.

    `positions`, `velocities`, `efforts` ``(n,)`` are of `SimulatedRobot.joint_names` (rad, rad/s,
    N m; prismatic m, m/s, N). `wrenches` ``(6,)`` are force (N) and torque (N m, about the link's
    origin) in the sensor link's frame: the load that the link and all it carries put on the robot's
    arm, weight included, so a hand at rest reads its own weight pointing down. They are means
    over the tick. `object_poses` ``(7,)`` are in the root link's frame.
    """

    time_s: float
    positions: Array
    velocities: Array
    efforts: Array
    wrenches: dict[str, Array]
    object_poses: dict[str, Array]


class SimulatedRobot:
    """Physics of one robot and its scene, advanced in ticks of 1/200 s.

    `seed` >= 0 draws the objects' start positions anew at every reset, reproducibly; below 0 they
    are the nominal ones. Commands may be offered and the stop set from another thread than the one
    that ticks. Raises `CaptureError` or `RetargetingError` where the robot cannot be built.
    """

    def __init__(
        self, robot: RobotModel, scene: SceneDescription, *, seed: int = -1, command_timeout_s: float = 0.1
    ) -> None:
        if not 0.0 < command_timeout_s <= 10.0:
            raise CaptureError(f"command_timeout_s: {command_timeout_s} is outside 0 .. 10 s")
        self.robot = robot
        self.physics: PhysicsModel = build_physics(robot, layout_scene(robot, scene))
        self.model = self.physics.mj_model
        self.data = mujoco.MjData(self.model)
        self.pads = TactilePads(self.model, robot.description.tactile)
        self.joint_names = tuple(joint.name for joint in self.physics.joints)
        self._generator = np.random.default_rng(seed) if seed >= 0 else None
        self._lock = threading.Lock()
        self._reset_wanted = False
        self._reset_done = threading.Event()
        self.start_poses: dict[str, Array] = {}
        joints = self.physics.joints
        self._qpos = np.array([joint.qpos for joint in joints])
        self._dof = np.array([joint.dof for joint in joints])
        self._actuator = np.array([joint.actuator for joint in joints])
        self._stiffness = np.array([joint.stiffness for joint in joints])
        self._commanded = np.array([self.joint_names.index(name) for name in robot.joint_names])
        self._commanded_dof = self._dof[self._commanded]
        damping_s = np.array([joint.damping / joint.stiffness for joint in joints])
        self._commanded_damping_s = damping_s[self._commanded]
        held = np.array([robot.neutral_position(name) for name in self.joint_names])
        # Of every physics step of a tick; joints that are not commanded are held.
        self._set_points = np.tile(held, (STEPS_PER_TICK, 1))
        self._accelerations = np.zeros((STEPS_PER_TICK, self.model.nv))
        self._wrench_places = {
            name: np.array([self.model.sensor(f"{name}_{part}").adr[0] + np.arange(3) for part in _WRENCH])
            .astype(np.intp)
            .ravel()
            for name in robot.description.wrenches
        }
        self._feed_forward = np.zeros(self.model.nv)
        is_gripper = np.arange(len(robot.joint_names)) >= robot.body_count
        self.follower = CommandFollower(
            robot.joint_names,
            robot.lower,
            robot.upper,
            robot.velocity,
            robot.acceleration,
            robot.neutral,
            is_gripper,
            command_timeout_s,
        )
        self.physics.set_joint_positions(self.data, robot.neutral_positions())
        self._place_objects()
        mujoco.mj_forward(self.model, self.data)

    @property
    def state(self) -> FollowerState:
        return self.follower.state

    @property
    def goal_pose(self) -> Array:
        """Where the goal's object should be put ``(7,)``, root link frame."""
        return self.physics.layout.goal_pose

    def offer_command(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float] | None,
        now_s: float,
        stamp_ns: int = 0,
    ) -> str:
        """Hand in a command (see `CommandFollower.offer`); returns why it was refused, or ""."""
        with self._lock:
            return self.follower.offer(names, positions, velocities, now_s, stamp_ns)

    def set_emergency_stop(self, stopped: bool) -> None:
        with self._lock:
            self.follower.set_emergency_stop(stopped)

    def reset_scene(self, timeout_s: float = 0.0) -> bool:
        """Put the objects back to their start at the next tick; says whether that came within `timeout_s`."""
        self._reset_done.clear()
        with self._lock:
            self._reset_wanted = True
        return self._reset_done.wait(timeout_s) if timeout_s > 0.0 else True

    def _place_objects(self) -> None:
        self.start_poses = self.physics.layout.start_poses(self._generator)
        for name, pose in self.start_poses.items():
            self.physics.set_object_pose(self.data, name, pose)
            dof = self.physics.object_dof[name]
            self.data.qvel[dof : dof + 6] = 0.0

    def tick(self, now_s: float) -> RobotSample:
        """Advance by 1/200 s from `now_s`, the steady time at which this tick is due."""
        with self._lock:
            reference = self.follower.advance(now_s, PHYSICS_STEP_S, STEPS_PER_TICK)
            reset, self._reset_wanted = self._reset_wanted, False
        if reset:
            self._place_objects()
            self._reset_done.set()
        model, data = self.model, self.data
        # A position servo with velocity feed-forward, written as one set point.
        self._set_points[:, self._commanded] = (
            reference.positions + self._commanded_damping_s * reference.velocities
        )
        self._accelerations[:, self._commanded_dof] = reference.accelerations
        sensors = np.zeros(model.nsensordata)
        for step in range(STEPS_PER_TICK):
            mujoco.mj_mulM(model, data, self._feed_forward, self._accelerations[step])
            data.ctrl[self._actuator] = (
                self._set_points[step] + self._feed_forward[self._dof] / self._stiffness
            )
            mujoco.mj_step(model, data)
            sensors += data.sensordata
        return self._sample(sensors / STEPS_PER_TICK)

    def _sample(self, sensors: Array) -> RobotSample:
        """What the robot measures; ``sensors`` are the mean values of MuJoCo's sensors over the tick."""
        data = self.data
        # MuJoCo gives what the parent does to the link; the load is its opposite.
        wrenches = {name: -sensors[places] for name, places in self._wrench_places.items()}
        return RobotSample(
            float(data.time),
            data.qpos[self._qpos],
            data.qvel[self._dof],
            data.qfrc_actuator[self._dof],
            wrenches,
            {name: self.physics.object_pose(data, name) for name in self.physics.object_qpos},
        )

    def tactile(self) -> dict[str, NDArray[np.float32]]:
        """Pressure images (Pa) of every pad at the end of the last tick."""
        return self.pads.read(self.data)
