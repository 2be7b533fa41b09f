"""What a node's messages take and how a node ends, without a graph."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.serialization import deserialize_message, serialize_message

from capture_nodes.node_runtime import key_values


def test_any_text_can_be_told() -> None:
    """A file's name that is no UTF-8, or half a character out of somebody's JSON, is told with a `?`."""
    (pair,) = key_values({"file \udcff": "a\ud800b"})
    there = deserialize_message(serialize_message(pair), type(pair))
    assert (there.key, there.value) == ("file ?", "a?b")
    (pair,) = key_values({"größe": 5.0})
    assert (pair.key, pair.value) == ("größe", "5.0")
