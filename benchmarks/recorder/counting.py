"""The yardstick: a process that takes every message of the load as the recorder does, and only counts.

python -m benchmarks.recorder.counting --ros-args -p scale:=1.0 -p report:=FILE.json
"""

from __future__ import annotations

import gc
import importlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from benchmarks.recorder.load_plan import LoadStream, plan_load
from capture_nodes.node_runtime import CaptureNode, run_node
from capture_nodes.raw_subscription import raw_subscription
from capture_nodes.subscriptions import DEPTH_ON_CHANGE, NO_SEQUENCE
from capture_nodes.thread_priority import TAKING


@dataclass(frozen=True)
class CountingParameters:
    """scale: of the load; history_s: of the readers' queues; poll_s: pause between two rounds."""

    scale: float = 1.0
    history_s: float = 5.0
    poll_s: float = 0.005
    report: str = ""


class _Counts:
    """One publisher: the first number, and the last; what was received."""

    __slots__ = ("bytes", "first", "last", "received")

    def __init__(self, sequence: int) -> None:
        self.first = self.last = sequence
        self.received = self.bytes = 0


class _Reader:
    def __init__(self, stream: LoadStream, subscription: Any, message_type: type) -> None:
        self.stream = stream
        self.subscription = subscription
        self.handle = subscription.handle
        self.message_type = message_type
        self.counts: dict[bytes, _Counts] = {}


class CountingNode(CaptureNode):
    """Takes in one thread, from a node that no executor waits on, with the recorder's QoS."""

    def __init__(self) -> None:
        super().__init__("counting")
        self._settings = given = self.declare_from(CountingParameters)
        self._taking_node = Node(
            "counting_taking", use_global_arguments=False, enable_rosout=False, start_parameter_services=False
        )
        self._readers = [self._reader(stream) for stream in plan_load(given.scale)]
        self._ending = threading.Event()
        self._thread = self.start_thread("taking", self._take, TAKING)
        self.publish_state("ready")

    def _reader(self, stream: LoadStream) -> _Reader:
        package, _, short = stream.type_name.split("/")
        message_type = getattr(importlib.import_module(f"{package}.msg"), short)
        depth = max(DEPTH_ON_CHANGE, round(self._settings.history_s * stream.rate_hz))
        qos = QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
        subscription = raw_subscription(self._taking_node, message_type, stream.topic, qos)
        return _Reader(stream, subscription, message_type)

    def _take(self) -> None:
        gc.disable()
        while not self._ending.wait(self._settings.poll_s):
            for reader in self._readers:
                take, message_type, counts = reader.handle.take_message, reader.message_type, reader.counts
                while (taken := take(message_type, True)) is not None:
                    data, info = taken
                    gid, sequence = info["publisher_gid"]["data"], info["publication_sequence_number"]
                    publisher = counts.get(gid)
                    if publisher is None:
                        publisher = counts[gid] = _Counts(sequence)
                    publisher.received += 1
                    publisher.bytes += len(data)
                    if sequence > publisher.last:
                        publisher.last = sequence

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def finish(self) -> None:
        """As every node; the counts go to the file `report`."""
        super().finish()
        rows = []
        for reader in self._readers:
            for gid, counts in reader.counts.items():
                numbered = counts.first != NO_SEQUENCE
                rows.append(
                    {
                        "topic": reader.stream.topic,
                        "gid": gid.hex(),
                        "received": counts.received,
                        "bytes": counts.bytes,
                        "not_joined": counts.first - 1 if numbered else None,
                        "last_sequence": counts.last if numbered else None,
                    }
                )
            self._taking_node.destroy_subscription(reader.subscription)
        self._taking_node.destroy_node()
        if self._settings.report:
            Path(self._settings.report).write_text(json.dumps({"streams": rows}, indent=1) + "\n")


def main() -> None:
    """Entry point of the process."""
    run_node(CountingNode)


if __name__ == "__main__":
    main()
