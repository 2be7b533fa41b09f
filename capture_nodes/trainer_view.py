"""What the trainer sees in the headset: the station's states and the robot's cameras, while somebody looks.

Subscribes only then, best effort and newest only; encodes in a process of its own, behind everything else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from capture_nodes import topics
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain
from capture_nodes.recording.camera_image import (
    COMPRESSED_IMAGE,
    IMAGE,
    UnusableImage,
    read_picture,
)
from capture_nodes.recording.jpeg_process import JpegProcess
from capture_nodes.sources.source import TrainerDisplay
from capture_nodes.sources.station_view import arm_reasons, episode_view, retargeting_view, with_reasons

_LOOK_PERIOD_S = 0.25
_PICTURE_PERIOD_S = 1.0 / 20.0
_QUALITY = 75
_NICENESS = 15
_KINDS = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage}


class TrainerView:
    """`look` is a timer of the node; `stop` ends the encoding thread."""

    def __init__(
        self, node: CaptureNode, display: TrainerDisplay, robot: str, cameras: Sequence[str]
    ) -> None:
        self._node, self._display = node, display
        self._namespace, self._cameras = f"/{robot}", tuple(cameras)
        self._subscriptions: list[Any] = []
        # Per camera that somebody publishes: message type and subscription; filled by `look` only.
        self._pictures: dict[str, tuple[Any, Any]] = {}
        self._group = DrainedGroup()
        self._retargeting: dict[str, object] = {}
        self._reasons: dict[str, str] = {}
        self._episode: tuple[str, dict[str, str]] = ("", {})
        self._session: dict[str, str] | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        node.create_timer(_LOOK_PERIOD_S, self.look)

    def look(self) -> None:
        """Subscribe when somebody has come, let go when they have left."""
        if self._display.watched and not self._subscriptions:
            self._begin()
        elif not self._display.watched and self._subscriptions:
            self.stop()
        if self._subscriptions:
            self._find_cameras()

    def _find_cameras(self) -> None:
        """Subscribe to what there is: a camera publishes images or compressed ones, and may come late."""
        for name in self._cameras:
            if name in self._pictures:
                continue
            topic = f"{self._namespace}/camera/{name}/image"
            types = {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}
            kind = next((_KINDS[known] for known in _KINDS if known in types), None)
            if kind is not None:
                subscription = self._node.create_subscription(
                    kind, topic, lambda _message: None, topics.newest_qos(), callback_group=self._group
                )
                self._pictures[name] = kind, subscription

    def _begin(self) -> None:
        def state(topic: str, take: Any) -> Any:
            return self._node.create_subscription(
                DiagnosticStatus, f"{self._namespace}/{topic}", take, topics.latched_qos()
            )

        self._subscriptions = [
            state(topics.RETARGETING_STATE, self._on_retargeting),
            state("recorder/episode", self._on_episode),
            state("session/state", self._on_session),
            self._node.create_subscription(
                DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, topics.newest_qos(10)
            ),
        ]
        self._ending = threading.Event()
        self._thread = self._node.start_thread("pictures", lambda: self._encode(self._ending))

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        for subscription in (*self._subscriptions, *(taken for _, taken in self._pictures.values())):
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._pictures = [], {}

    # ---- executor thread

    def _on_retargeting(self, message: DiagnosticStatus) -> None:
        self._retargeting = retargeting_view(message.message, _values(message))
        self._display.show(with_reasons(self._retargeting, self._reasons))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._namespace}/retargeting" and self._retargeting:
                self._reasons = arm_reasons(_values(status))
                self._display.show(with_reasons(self._retargeting, self._reasons))

    def _on_episode(self, message: DiagnosticStatus) -> None:
        self._episode = message.message, _values(message)
        self._display.show(episode_view(*self._episode, self._session))

    def _on_session(self, message: DiagnosticStatus) -> None:
        self._session = _values(message)
        self._display.show(episode_view(*self._episode, self._session))

    # ---- encoding thread

    def _encode(self, ending: threading.Event) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        complained: set[str] = set()
        encoder = JpegProcess()
        while not ending.wait(_PICTURE_PERIOD_S):
            for name, (kind, subscription) in list(self._pictures.items()):
                data = drain(subscription, kind, raw=True)
                if data is None:
                    continue
                try:
                    stamp_ns, jpeg = _jpeg(kind, data, encoder)
                    age_s = 1e-9 * (self._node.get_clock().now().nanoseconds - stamp_ns)
                    self._display.show_picture(name, time.monotonic() - age_s, jpeg)
                except UnusableImage as error:
                    if name not in complained:
                        self._node.get_logger().warning(f"camera {name} cannot be shown: {error}")
                    complained.add(name)
        encoder.close()


def _jpeg(kind: Any, data: bytes, encoder: JpegProcess) -> tuple[int, bytes]:
    """Stamp (ns) and picture; a JPEG goes on as it came. Raises `UnusableImage`."""
    if kind is Image:
        return encoder.encode(data, _QUALITY)
    picture = read_picture(data)
    if not picture.is_jpeg:
        raise UnusableImage(f"a compressed image of format {picture.image_format!r}; JPEG is shown")
    return picture.stamp_ns, picture.data


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}
