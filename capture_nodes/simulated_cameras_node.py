"""Node `simulated_cameras`: draws what the simulated robot's cameras see, in a process of its own."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState

from capture_nodes import topics
from capture_nodes.cdr_template import camera_info_template, image_template
from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain, run_node
from capture_nodes.resources import robot_description_file, scene_file
from capture_nodes.simulation.pacing import TickPacer
from capture_nodes.simulation.rendering import CameraRenderer, camera_matrix, choose_graphics
from capture_nodes.simulation.scene import layout_scene, load_scene
from capture_nodes.thread_priority import PICTURES, prefer_thread
from retargeting.robot_model import load_robot

# Images kept for a stalled reader; a second of them.
_HISTORY_BYTES = 16_000_000
_NICENESS = 10


@dataclass(frozen=True)
class Parameters:
    """robot: name or path of a robot.yaml; width, height, rate_hz of every camera, 0 = as in robot.yaml
    (320 x 240 at 30 Hz unless it says otherwise); scene: path of a scene file, "" = config/scene.yaml."""

    robot: str = "kestrel"
    width: int = 0
    height: int = 0
    rate_hz: float = 0.0
    scene: str = ""


class SimulatedCamerasNode(CaptureNode):
    """Poses a copy of the scene by `joint_states` and `object/*/pose` and draws it at a fixed rate.

    Stamps are those of the joint state that is shown, or, where none came since the last picture,
    the ROS time of drawing; they always increase. Before the first joint state nothing is published.
    """

    def __init__(self) -> None:
        super().__init__("simulated_cameras")
        parameters = self.declare_from(Parameters)
        model = load_robot(robot_description_file(parameters.robot))
        cameras = model.description.cameras
        if not cameras:
            raise CaptureError(f"{model.description.file}: sensors.cameras: robot {model.name} has no camera")
        for name, low, high in (("width", 16, 4096), ("height", 16, 4096), ("rate_hz", 1.0, 240.0)):
            value = getattr(parameters, name)
            if value and not low <= value <= high:
                raise CaptureError(
                    f"parameter {name}: {value} is outside {low} .. {high} (0 = as in robot.yaml)"
                )
        choose_graphics()
        from capture_nodes.simulation.physics_model import build_physics

        scene = load_scene(scene_file(parameters.scene))
        self._physics = build_physics(model, layout_scene(model, scene))
        self._sizes = {
            name: (parameters.width or camera.width, parameters.height or camera.height)
            for name, camera in cameras.items()
        }
        self._rate_hz = parameters.rate_hz or model.description.camera_rate_hz
        self._streams = {}
        for name, camera in cameras.items():
            width, height = self._sizes[name]
            frame = f"{model.name}/{name}_camera_optical"
            depth = max(2, min(round(self._rate_hz), _HISTORY_BYTES // (3 * width * height)))
            qos = QoSProfile(
                depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
            )
            info = camera_info_template(frame, height, width)
            matrix = camera_matrix(width, height, camera.horizontal_fov_rad)
            info.set("k", matrix.reshape(-1))
            info.set("r", np.eye(3).reshape(-1))
            info.set("p", np.hstack([matrix, np.zeros((3, 1))]).reshape(-1))
            self._streams[name] = (
                self.counting_publisher(Image, f"camera/{name}/image", qos),
                image_template(frame, height, width, "rgb8", 3),
                self.counting_publisher(
                    CameraInfo, f"camera/{name}/camera_info", topics.stream_qos(self._rate_hz)
                ),
                info,
            )
        group = DrainedGroup()
        self._joint_states = self.create_subscription(
            JointState, topics.JOINT_STATES, lambda _: None, topics.newest_qos(), callback_group=group
        )
        self._objects = {
            name: self.create_subscription(
                PoseStamped, f"object/{name}/pose", lambda _: None, topics.newest_qos(), callback_group=group
            )
            for name in self._physics.object_qpos
        }
        self._last_stamp_ns = 0
        self.drawing_s = 0.0
        self.pictures = 0
        self._pacer = TickPacer(1.0 / self._rate_hz)
        self._ending = threading.Event()
        self._ready = threading.Event()
        self._failure: CaptureError | None = None
        self._thread = self.start_thread("drawing", self._run)
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        self.publish_state("ready", {"cameras": " ".join(cameras), "rate_hz": self._rate_hz})

    def _run(self) -> None:
        # A graphics context belongs to the thread that made it.
        try:
            sizes = set(self._sizes.values())
            renderers = {size: CameraRenderer(self._physics, *size) for size in sorted(sizes)}
            for renderer in renderers.values():
                renderer.pose({}, {})
                for name in self._sizes:
                    renderer.render(name)
        except CaptureError as error:
            self._failure = error
            return
        except Exception as error:  # graphics drivers fail in many ways; the constructor waits for us
            self._failure = CaptureError(f"the cameras cannot draw: {error!r}")
            return
        finally:
            self._ready.set()
        try:
            self._draw(renderers)
        finally:
            for renderer in renderers.values():
                renderer.close()

    def _draw(self, renderers: dict[tuple[int, int], CameraRenderer]) -> None:
        # Pictures have a rate to keep too, but they can wait, and the robot cannot.
        if not prefer_thread(PICTURES):
            os.nice(_NICENESS)
        started = False
        while not self._ending.is_set():
            self._pacer.wait()
            joints = drain(self._joint_states, JointState)
            started = started or joints is not None
            if not started:
                continue
            begun_s = time.monotonic()
            positions = {} if joints is None else dict(zip(joints.name, joints.position, strict=True))
            objects = {
                name: _pose(message)
                for name, subscription in self._objects.items()
                if (message := drain(subscription, PoseStamped)) is not None
            }
            stamp_ns = self.get_clock().now().nanoseconds
            if joints is not None:
                stamp_ns = joints.header.stamp.sec * 1_000_000_000 + joints.header.stamp.nanosec
            stamp_ns = max(stamp_ns, self._last_stamp_ns + 1)
            self._last_stamp_ns = stamp_ns
            for renderer in renderers.values():
                renderer.pose(positions, objects)
            for name, (images, image, infos, info) in self._streams.items():
                picture = renderers[self._sizes[name]].render(name)
                image.set_stamp(stamp_ns)
                image.set("data", picture.reshape(-1))
                images.publish(bytes(image))
                info.set_stamp(stamp_ns)
                infos.publish(bytes(info))
            self.drawing_s += time.monotonic() - begun_s
            self.pictures += 1

    def diagnostics(self) -> dict[str, object]:
        mean_ms = 1e3 * self.drawing_s / max(1, self.pictures)
        return {"drawing_ms": f"{mean_ms:.2f}", "late_pictures": self._pacer.late_ticks}

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(timeout=2.0)


def _pose(message: PoseStamped) -> np.ndarray:
    p, q = message.pose.position, message.pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def main() -> None:
    """Entry point of the node."""
    run_node(SimulatedCamerasNode)


if __name__ == "__main__":
    main()
