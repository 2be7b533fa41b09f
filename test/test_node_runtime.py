"""What a node's messages take and how a node ends, without a graph."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.serialization import deserialize_message, serialize_message

from capture_nodes.node_runtime import key_values

ROOT = Path(__file__).resolve().parents[1]
DOMAIN = 52
TIMEOUT_S = 60.0

# A node that has published once; what it puts on `/diagnostics` is printed too.
PROGRAM = """
import sys
from std_msgs.msg import String
from capture_nodes.node_runtime import CaptureNode, run_node

class Diagnostics:
    def __init__(self, publisher):
        self._publisher = publisher
    def publish(self, array):
        counts = array.status[0]
        print(counts.hardware_id, *[pair.value.split()[0] for pair in counts.values], flush=True)
        self._publisher.publish(array)
    def __getattr__(self, name):
        return getattr(self._publisher, name)

class Failing(CaptureNode):
    def __init__(self):
        super().__init__("failing")
        self._where = sys.argv[1]
        self._diagnostics = Diagnostics(self._diagnostics)
        self._words = self.counting_publisher(String, "~/words", 10)
        self.create_timer(0.05, self._on_timer)
        self._fail_in("constructor")
    def _fail_in(self, where):
        if where == self._where:
            raise KeyError("half a \\ud800 name\\nand a line")
    def _on_timer(self):
        self._words.publish(String(data="a word"))
        self._fail_in("callback")
        self.stop_requested = self._where == "stop"
    def diagnostics(self):
        self._fail_in("diagnostics")
        return {}
    def stop(self):
        self._fail_in("stop")

run_node(Failing)
"""


def ended_node(where: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)}
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, where, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("callback", "a callback failed"),
        ("diagnostics", "the diagnostics failed"),
        ("stop", "stopping failed"),
        ("constructor", "the start failed"),
    ],
)
def test_a_failure_that_nobody_foresaw_ends_the_node_in_a_line(where: str, what: str) -> None:
    ended = ended_node(where)
    assert ended.returncode == 1, ended.stderr
    said = [line for line in ended.stderr.splitlines() if what in line]
    assert said and all("KeyError" in line and "ud800 name" in line for line in said), ended.stderr
    assert "Traceback" not in ended.stderr
    if where == "constructor":
        return
    # Loss is measured against the final counts, whatever the node ended of.
    kind, count = ended.stdout.splitlines()[-1].split()
    assert kind == "final" and int(count) >= 1


def test_the_traceback_is_there_for_who_asks() -> None:
    ended = ended_node("callback", "--ros-args", "--log-level", "failing:=debug")
    assert ended.returncode == 1 and "in _on_timer" in ended.stderr


def test_any_text_can_be_told() -> None:
    """A file's name that is no UTF-8, or half a character out of somebody's JSON, is told with a `?`."""
    (pair,) = key_values({"file \udcff": "a\ud800b"})
    there = deserialize_message(serialize_message(pair), type(pair))
    assert (there.key, there.value) == ("file ?", "a?b")
    (pair,) = key_values({"größe": 5.0})
    assert (pair.key, pair.value) == ("größe", "5.0")
