"""Messages taken past rclpy are those that it gives, bit for bit; where that is not sure, it takes them."""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.context import Context  # noqa: E402
from rclpy.event_handler import SubscriptionEventCallbacks  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from std_msgs.msg import UInt8MultiArray  # noqa: E402

from capture_nodes import serialized_take  # noqa: E402
from capture_nodes.message_memory import MessageMemory  # noqa: E402
from capture_nodes.recording.recent_messages import Taken  # noqa: E402
from capture_nodes.serialized_take import (  # noqa: E402
    PIECE_BYTES,
    RclpyTake,
    RclTake,
    RclTaking,
    TakeRefused,
    opening_for,
)

DOMAIN = 86
TIMEOUT_S = 20.0
DEPTH = 400


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    made = rclpy.create_node("taking", context=context, start_parameter_services=False)
    yield made
    made.destroy_node()
    rclpy.try_shutdown(context=context)


def _subscription(node: Node, topic: str) -> Any:
    return node.create_subscription(
        UInt8MultiArray,
        topic,
        lambda _: None,
        QoSProfile(depth=DEPTH),
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        raw=True,
    )


def _wait(condition: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {TIMEOUT_S:g} s for {what}"


def _drain(take: Any, count: int) -> list[Taken]:
    found: list[Taken] = []

    def more() -> bool:
        while (taken := take.take()) is not None:
            found.append(taken)
        return len(found) >= count

    _wait(more, f"{count} messages")
    return found


def _plain(taken: Taken) -> tuple[Any, ...]:
    # Each reader has a received time of its own.
    return (bytes(taken[0]), taken[1], *taken[3:])


@pytest.mark.parametrize("shared", [True, False])
def test_every_message_of_every_size_is_what_rclpy_gives(node: Node, shared: bool) -> None:
    topic = f"/sizes_{shared}".lower()
    subscriptions = [_subscription(node, topic) for _ in range(2)]
    memory = MessageMemory()
    known = RclpyTake(subscriptions[0].handle, UInt8MultiArray)
    tried = RclTaking(memory)(subscriptions[1].handle, UInt8MultiArray, shared)
    publisher = node.create_publisher(UInt8MultiArray, topic, QoSProfile(depth=DEPTH))
    _wait(lambda: publisher.get_subscription_count() == 2, "both readers")
    choose = random.Random(1)
    sizes = (
        0,
        1,
        7,
        1000,
        PIECE_BYTES - 13,
        PIECE_BYTES - 12,
        PIECE_BYTES,
        5 * PIECE_BYTES,
        900_000,
        2_000_000,
    )
    expected: list[Taken] = []
    got: list[Taken] = []
    for _ in range(30):
        # Of one size for a while, as a camera is, then of any.
        burst = choose.choice([[choose.choice(sizes)] * 4, choose.sample(sizes, 3)])
        for size in burst:
            publisher.publish(UInt8MultiArray(data=choose.randbytes(size)))
        expected += _drain(known, len(burst))
        # All are held to the end: none may be written over by what comes later.
        got += _drain(tried, len(burst))
    assert list(map(_plain, got)) == list(map(_plain, expected))
    assert all(abs(mine[2] - theirs[2]) < TIMEOUT_S * 1e9 for mine, theirs in zip(got, expected, strict=True))
    assert any(isinstance(taken[0], memoryview) for taken in got) == shared
    assert known.take() is None and tried.take() is None
    idle = memory.idle_bytes
    del got[:]
    gc.collect()
    assert memory.idle_bytes > idle or not shared
    tried.close()
    for subscription in subscriptions:
        node.destroy_subscription(subscription)
    node.destroy_publisher(publisher)


def test_a_subscription_that_is_destroyed_meanwhile_lives_until_it_is_closed(node: Node) -> None:
    subscription = _subscription(node, "/destroyed")
    publisher = node.create_publisher(UInt8MultiArray, "/destroyed", QoSProfile(depth=DEPTH))
    _wait(lambda: publisher.get_subscription_count() == 1, "the reader")
    taking = RclTaking()(subscription.handle, UInt8MultiArray, True)
    publisher.publish(UInt8MultiArray(data=b"before"))
    node.destroy_subscription(subscription)
    ((data, *_),) = _drain(taking, 1)
    assert bytes(data).endswith(b"before")
    taking.close()
    taking.close()
    with pytest.raises(RuntimeError, match="closed"):
        taking.take()
    node.destroy_publisher(publisher)


def test_the_usual_way_here_is_past_rclpy(node: Node) -> None:
    opening, how = opening_for(node)
    assert how == "rcl" and isinstance(opening, RclTaking)


def _other_message(*_: Any) -> Any:
    class Other:
        def __init__(self, taking: RclTaking, handle: Any, shared: bool) -> None:
            self._true = RclTake(taking, handle, shared)

        def take(self) -> Any:
            taken = self._true.take()
            return None if taken is None else (taken[0], taken[1] + 1, *taken[2:])

        def close(self) -> None:
            self._true.close()

    return Other


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("_KNOWN_RCLPY", (3,), "rclpy .* is not known"),
        ("_KNOWN_MIDDLEWARE", "rmw_other", "rmw_fastrtps_cpp is not known"),
        ("RclTake", _other_message(), "another message"),
        ("_loaded", lambda name: (_ for _ in ()).throw(TakeRefused(f"{name} is not loaded")), "not loaded"),
    ],
)
def test_where_anything_is_not_as_known_rclpy_takes(
    node: Node, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, why: str
) -> None:
    monkeypatch.setattr(serialized_take, name, value)
    opening, how = opening_for(node)
    assert opening is RclpyTake and how.startswith("rclpy: ")
    assert re.search(why, how)
