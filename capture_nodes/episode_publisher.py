"""The episode at hand, latched on `~/episode`: its state, size, losses, rates, and the disk it goes to."""

from __future__ import annotations

import json

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from capture_nodes.node_runtime import CaptureNode
from capture_nodes.recording.disk_watch import DiskWatch, DiskWord
from capture_nodes.recording.recorder import Recorder
from capture_nodes.topics import latched_qos

_LEVELS: dict[DiskWord, bytes] = {
    "ok": DiagnosticStatus.OK,
    "low": DiagnosticStatus.WARN,
    "unreachable": DiagnosticStatus.ERROR,
}


class EpisodePublisher:
    """`publish` tells the rates since it was last called."""

    def __init__(self, node: CaptureNode, recorder: Recorder, disk: DiskWatch) -> None:
        self._node, self._recorder, self._disk = node, recorder, disk
        self._disk_told = "ok"
        self._last_path = ""
        self._publisher = node.counting_publisher(DiagnosticStatus, "~/episode", latched_qos())
        self._last_received: dict[str, int] = {}
        self._last_ns = node.get_clock().now().nanoseconds

    def publish(self, last: str = "") -> None:
        """`last` is the file that was completed last, told from then on where no episode is at hand."""
        self._last_path = last or self._last_path
        status, disk = self._recorder.status(), self._disk.state()
        self._disk_told = disk.word
        values: dict[str, object] = {
            "id": status.id,
            "path": status.path or self._last_path,
            "duration_s": f"{status.duration_s:.3f}",
            "messages": status.messages,
            "lost": status.lost,
            "bytes": status.bytes,
            "backlog_bytes": status.backlog_bytes,
            "rates": json.dumps(self._rates()),
            "problem": status.problem,
            "disk": disk.problem or disk.word,
            "quality": status.quality,
            "quality_reasons": json.dumps(status.quality_reasons),
        }
        self._publisher.publish(
            DiagnosticStatus(
                level=_LEVELS["unreachable" if status.problem else disk.word],
                name=self._node.get_fully_qualified_name(),
                message=status.state,
                values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
            )
        )

    def disk_changed(self) -> bool:
        """Whether the disk has another state than was told last."""
        return self._disk.state().word != self._disk_told

    def _rates(self) -> dict[str, float]:
        now_ns = self._node.get_clock().now().nanoseconds
        received = self._recorder.received()
        seconds = max(1e-3, (now_ns - self._last_ns) / 1e9)
        rates = {
            topic: round((count - self._last_received.get(topic, 0)) / seconds, 1)
            for topic, count in received.items()
        }
        self._last_received, self._last_ns = received, now_ns
        return rates
