"""Stands in for any node of a station: tells its state, and behaves well or badly as it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from capture_nodes.topics import latched_qos

# Of a station.
PROCESSES = 6


class FakeNode(Node):
    def __init__(self) -> None:
        super().__init__("fake")
        self.behaviour = str(self.declare_parameter("behaviour", "good").value)
        self.journal = Path(str(self.declare_parameter("journal", "").value))
        self.report = str(self.declare_parameter("report_path", "").value)
        self.publisher = self.create_publisher(DiagnosticStatus, "~/state", latched_qos())

    def tell(self, word: str, **values: str) -> None:
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        self.publisher.publish(DiagnosticStatus(message=word, values=pairs))

    def all_have_started(self) -> bool:
        """And so listen to signals."""
        return self.journal.read_text(encoding="utf-8").count(" started ") == PROCESSES

    def write(self, what: str) -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(f"{self.get_name()} {what} {os.getpid()}\n")


def main() -> None:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = FakeNode()
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopping.append(number))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.write("started")
    behaviour = node.behaviour
    if behaviour == "stubborn":
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    if behaviour == "bad_configuration":
        print(
            f"{node.get_name()}: error: parameter colour: 'green' is given; red is expected", file=sys.stderr
        )
        sys.exit(2)
    if behaviour != "silent":
        node.tell("running" if node.get_name() == "session" else "ready", episode="0", episodes="2")
    started = time.monotonic()
    told = False
    while True:
        executor.spin_once(timeout_sec=0.05)
        # A station listens by then; what a node does next must reach it.
        seen = node.publisher.get_subscription_count() > 0 and time.monotonic() - started > 0.5
        if seen and behaviour == "dies" and node.all_have_started():
            os.kill(os.getpid(), signal.SIGKILL)
        if seen and not told and behaviour in ("finishes", "fails"):
            told = True
            node.tell(
                "finished" if behaviour == "finishes" else "failed",
                reason="the headset fell off",
                episode="2",
            )
        if stopping and behaviour != "stubborn":
            break
        if behaviour == "stubborn" and signal.SIGTERM in stopping:
            stopping.clear()
    if node.report:
        Path(node.report).write_text(
            json.dumps(
                {
                    "published": 10,
                    "received": 10,
                    "lost": int(behaviour == "loses"),
                    "lost_in_episodes": int(behaviour == "loses"),
                    "episodes": [],
                }
            )
        )
    node.write("ended")
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
