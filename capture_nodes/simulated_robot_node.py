"""Node `simulated_robot`: joint commands in; joints, wrenches, tactile pads and object poses out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from capture_nodes import topics
from capture_nodes.cdr_template import (
    CdrTemplate,
    image_template,
    joint_state_template,
    pose_template,
    wrench_template,
)
from capture_nodes.emergency_stop import EmergencyStopListener
from capture_nodes.node_runtime import CaptureNode, CountingPublisher, DrainedGroup, run_node
from capture_nodes.resources import robot_description_file, scene_file
from capture_nodes.simulation.pacing import TickPacer
from capture_nodes.simulation.scene import load_scene
from capture_nodes.simulation.simulated_robot import TICK_RATE_HZ, RobotSample, SimulatedRobot
from capture_nodes.stamp_clock import StampClock
from capture_nodes.thread_priority import PHYSICS
from retargeting.robot_model import load_robot

Stream = tuple[CountingPublisher, CdrTemplate]

_TACTILE_RATE_HZ = 100
_OBJECT_RATE_HZ = 100
_LOWEST_REAL_TIME_FACTOR = 0.99
# All that came since the last tick are played back.
_COMMANDS_KEPT = 16


@dataclass(frozen=True)
class Parameters:
    """robot: name or path of a robot.yaml; seed >= 0 draws the objects' places at every reset;
    command_timeout_s: age of a command at which the robot brakes and holds, 0 = as in robot.yaml;
    scene: path of a scene file, "" = config/scene.yaml."""

    robot: str = "kestrel"
    seed: int = -1
    command_timeout_s: float = 0.0
    scene: str = ""


class SimulatedRobotNode(CaptureNode):
    """The physics run in a thread of their own; commands are taken and data published in its ticks.

    A stamp is the ROS time at which its tick was due (`StampClock`), so stamps are evenly spaced.
    """

    def __init__(self) -> None:
        super().__init__("simulated_robot")
        parameters = self.declare_from(Parameters)
        model = load_robot(robot_description_file(parameters.robot))
        timeout_s = parameters.command_timeout_s or model.description.safety.command_timeout_s
        scene = load_scene(scene_file(parameters.scene))
        self._robot = SimulatedRobot(model, scene, seed=parameters.seed, command_timeout_s=timeout_s)
        root = f"{model.name}/{model.urdf.root}"
        description = model.description

        def publisher(kind: type, topic: str, rate_hz: float) -> CountingPublisher:
            return self.counting_publisher(kind, topic, topics.stream_qos(rate_hz))

        self._joints = (
            publisher(JointState, topics.JOINT_STATES, TICK_RATE_HZ),
            joint_state_template(root, self._robot.joint_names),
        )
        self._wrenches = {
            name: (
                publisher(WrenchStamped, f"wrench/{name}", TICK_RATE_HZ),
                wrench_template(f"{model.name}/{sensor.link}"),
            )
            for name, sensor in description.wrenches.items()
        }
        self._tactile = {
            name: (
                publisher(Image, f"tactile/{name}", _TACTILE_RATE_HZ),
                image_template(f"{model.name}/{name}_tactile", pad.rows, pad.columns, "32FC1", 4),
            )
            for name, pad in description.tactile.items()
        }
        self._objects = {
            name: (publisher(PoseStamped, f"object/{name}/pose", _OBJECT_RATE_HZ), pose_template(root))
            for name in self._robot.physics.object_qpos
        }
        self._description = self.create_publisher(String, topics.ROBOT_DESCRIPTION, topics.latched_qos())
        self._description.publish(String(data=model.urdf.text))
        group = DrainedGroup()
        self._commands = self.create_subscription(
            JointState,
            topics.JOINT_COMMANDS,
            lambda _: None,
            topics.newest_qos(_COMMANDS_KEPT),
            callback_group=group,
        )
        self._emergency_stop = EmergencyStopListener(self, group)
        self.create_service(Trigger, "~/reset_scene", self._on_reset)
        self._pacer = TickPacer(1.0 / TICK_RATE_HZ)
        self._stamps = StampClock(lambda: self.get_clock().now().nanoseconds)
        self._lowest_factor = 1.0
        self._published_state = ""
        self._ending = threading.Event()
        self._thread = self.start_thread("physics", self._run, PHYSICS)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._robot.reset_scene(timeout_s=1.0):
            response.message = "the physics did not answer within 1 s"
            return response
        response.success = True
        response.message = "; ".join(
            f"{name}: " + " ".join(f"{value:.4f}" for value in pose[:3])
            for name, pose in self._robot.start_poses.items()
        )
        return response

    def _run(self) -> None:
        while not self._ending.is_set():
            due_s = self._pacer.wait()
            stamp_ns = self._stamps.stamp(due_s)
            self._take_inputs()
            self._publish(stamp_ns, self._robot.tick(due_s))
            if self._robot.state != self._published_state:
                self._publish_change()

    def _take_inputs(self) -> None:
        if (stop := self._emergency_stop.take()) is not None:
            self._robot.set_emergency_stop(stop)
        while (taken := self._commands.handle.take_message(JointState, False)) is not None:
            command = taken[0]
            stamp = command.header.stamp
            refusal = self._robot.offer_command(
                command.name,
                command.position,
                command.velocity,
                # Read after the taking: a time before the command came would be that of a quicker network.
                time.monotonic(),
                stamp.sec * 1_000_000_000 + stamp.nanosec,
            )
            if refusal:
                self.get_logger().warning(f"command refused: {refusal}", throttle_duration_sec=1.0)

    def _publish(self, stamp_ns: int, sample: RobotSample) -> None:
        _, template = self._joints
        template.set("velocity", sample.velocities)
        template.set("effort", sample.efforts)
        _send(self._joints, stamp_ns, "position", sample.positions)
        for name, stream in self._wrenches.items():
            _send(stream, stamp_ns, "wrench", sample.wrenches[name])
        ticks = self._pacer.ticks
        if ticks % (TICK_RATE_HZ // _TACTILE_RATE_HZ) == 0:
            for name, pressures in self._robot.tactile().items():
                _send(self._tactile[name], stamp_ns, "data", pressures.astype("<f4").reshape(-1).view("u1"))
        # In the other tick than the pads, so that both take about the same time.
        if ticks % (TICK_RATE_HZ // _OBJECT_RATE_HZ) == 1:
            for name, stream in self._objects.items():
                _send(stream, stamp_ns, "pose", sample.object_poses[name])

    def _publish_change(self) -> None:
        robot = self._robot
        self._published_state = robot.state
        layout = robot.physics.layout
        values = {
            "robot": robot.robot.name,
            "goal_object": layout.scene.goal_object,
            "goal_xyz_m": " ".join(f"{value:.4f}" for value in robot.goal_pose[:3]),
            "table_top_z_m": f"{layout.table_top_z_m:.4f}",
            "floor_z_m": f"{layout.floor_z_m:.4f}",
        }
        level = DiagnosticStatus.OK if robot.state == "ready" else DiagnosticStatus.WARN
        self.publish_state(robot.state, values, level)

    def diagnostics(self) -> dict[str, object]:
        factor = self._pacer.real_time_factor
        self._lowest_factor = min(self._lowest_factor, factor)
        follower = self._robot.follower
        return {
            "real_time_factor": f"{factor:.4f}",
            "lowest_real_time_factor": f"{self._lowest_factor:.4f}",
            "real_time": self._lowest_factor >= _LOWEST_REAL_TIME_FACTOR,
            "late_ticks": self._pacer.late_ticks,
            "skipped_s": f"{self._pacer.skipped_s:.4f}",
            "commands_accepted": follower.accepted,
            "last_refusal": follower.last_refusal,
        } | {f"commands_refused_{kind.replace(' ', '_')}": n for kind, n in follower.refusals.items()}

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(timeout=2.0)


def _send(stream: Stream, stamp_ns: int, field: str, values: np.ndarray) -> None:
    publisher, template = stream
    template.set_stamp(stamp_ns)
    template.set(field, values)
    publisher.publish(bytes(template))


def main() -> None:
    """Entry point of the node."""
    run_node(SimulatedRobotNode)


if __name__ == "__main__":
    main()
