"""How the taking thread takes one serialized message from a subscription's handle.

rclpy's `take_message` copies every message into a fresh `bytes`, and builds two dicts for what is known of
it. `RclTake` calls the function below it, `rcl_take_serialized_message`: a camera frame goes straight into
memory that is used again (`MessageMemory`), which costs a third, and a small message costs a quarter less. It
relies on two C structures, which ROS 2 Jazzy and Kilted share; where anything is not as known, or a trial
does not give what rclpy gives, messages are taken by rclpy (`RclpyTake`). Either way they are the same.

`rmw_message_info_t`: source time, received time (int64 ns), the publisher's number, the reader's (uint64),
gid (a pointer, 16 bytes), a bool; 64 bytes. `rcutils_uint8_array_t`: pointer, length, capacity, allocator
(5 pointers); 64 bytes. A middleware enlarges the array by its allocator, which is the default one: `realloc`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Callable
from ctypes import string_at
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import UInt8MultiArray

from capture_nodes.message_memory import MessageMemory
from capture_nodes.raw_subscription import raw_subscription
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.recent_messages import Taken

# What the middleware says where it numbers nothing.
NO_SEQUENCE = (1 << 64) - 1
# From this size a message goes into memory of its own, once its topic has shown such a one.
PIECE_BYTES = 32 * 1024

_NO_GID = bytes(16)
_KNOWN_RCLPY = (7, 9)
_KNOWN_MIDDLEWARE = "rmw_fastrtps_cpp"
_NOTHING_THERE = 401
_TRIAL_S = 3.0
# The message's info; then the array: address, length, capacity.
_BLOCK = struct.Struct("=qqQ8x8x16s8xQQQ")
_ARRAY = struct.Struct("=QQQ")
_INFO_BYTES = 64


class TakeRefused(Exception):
    """Messages cannot be taken past rclpy here; the text says why."""


class HandleTake(Protocol):
    """One subscription. `take` gives its next message, None where there is none; `close` ends it."""

    @property
    def take(self) -> Callable[[], Taken | None]: ...

    def close(self) -> None: ...


Opening: TypeAlias = Callable[[Any, type, bool], HandleTake]


class RclpyTake:
    """One subscription by rclpy."""

    def __init__(self, handle: Any, message_type: type, shared: bool = False) -> None:
        self._handle, self._type = handle, message_type

    def take(self) -> Taken | None:
        taken = self._handle.take_message(self._type, True)
        if taken is None:
            return None
        data, info = taken
        sequence = info["publication_sequence_number"]
        if sequence == NO_SEQUENCE:
            sequence = None
        gid = info["publisher_gid"]["data"] if "publisher_gid" in info else _NO_GID
        return data, info["source_timestamp"], info["received_timestamp"], sequence, gid

    def close(self) -> None:
        pass


class RclFunctions:
    """The functions of the C library that rclpy itself has loaded. Raises `TakeRefused`."""

    def __init__(self) -> None:
        _check_versions()
        rcl = _loaded("librcl.so")
        rcutils = _loaded("librcutils.so")
        try:
            # Keeps the interpreter, as rclpy does: nothing here waits, and getting it back would.
            self.take = rcl.rcl_take_serialized_message
            allocator = rcutils.rcutils_get_default_allocator
            self._error_text = rcutils.rcutils_get_error_string
            self._reset_error = rcutils.rcutils_reset_error
        except AttributeError as error:
            raise TakeRefused(str(error)) from error
        self.take.argtypes = (ctypes.c_void_p,) * 4
        self.take.restype = ctypes.c_int32
        self._error_text.argtypes, self._error_text.restype = (), _ErrorText
        self._reset_error.argtypes, self._reset_error.restype = (), None
        allocator.argtypes, allocator.restype = (), _Allocator
        self.allocator = bytes(allocator())

    def check(self, result: int) -> None:
        """Raises `RuntimeError` where ``result`` is more than that there is no message."""
        if result != _NOTHING_THERE:
            text = self._error_text().text.decode("utf-8", "replace")
            self._reset_error()
            raise RuntimeError(f"taking a message failed ({result}): {text}")


class _Allocator(ctypes.Structure):
    _fields_ = [(f"pointer_{k}", ctypes.c_void_p) for k in range(5)]


class _ErrorText(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 1024)]


class RclTaking:
    """Opens the handles of one taking thread, which share the place that messages are taken into first.

    Raises `TakeRefused` where the C library is not as known.
    """

    def __init__(self, memory: MessageMemory | None = None) -> None:
        self.rcl = RclFunctions()
        self.memory = MessageMemory() if memory is None else memory
        self.block = _block(self.rcl, *self.memory.lend(PIECE_BYTES))

    def __call__(self, handle: Any, message_type: type, shared: bool) -> HandleTake:
        return RclTake(self, handle, shared)


class RclTake:
    """One subscription by `rcl_take_serialized_message`.

    shared: whether large messages may stay in shared memory (`MessageMemory`); False gives `bytes` always.
    """

    def __init__(self, taking: RclTaking, handle: Any, shared: bool) -> None:
        # Inside it, the handle is not destroyed, whoever asks for that.
        handle.__enter__()
        self._handle = handle
        self._large = _LargeTake(taking, int(handle.pointer))
        self.take = self._small = _small_take(taking, int(handle.pointer), self._grown if shared else None)

    def _grown(self, size: int) -> None:
        """A message was large: from now on each goes into a piece of its own."""
        self._large.usual = size
        self.take = self._take_large

    def _take_large(self) -> Taken | None:
        taken = self._large.take()
        if taken is not None and len(taken[0]) < PIECE_BYTES:
            self.take = self._small
        return taken

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self.take = _closed
            self._large.close()
            handle.__exit__(None, None, None)


def _closed() -> Taken | None:
    raise RuntimeError("a subscription that is closed is taken from")


def _block(rcl: RclFunctions, address: int, capacity: int) -> bytearray:
    return bytearray(_INFO_BYTES) + _ARRAY.pack(address, 0, capacity) + rcl.allocator


def _small_take(
    taking: RclTaking, pointer: int, grown: Callable[[int], None] | None
) -> Callable[[], Taken | None]:
    """A function over local names only: it is called thousands of times a second. Gives `bytes`."""
    rcl, block = taking.rcl, taking.block
    rcl_take, unpack = rcl.take, _BLOCK.unpack_from
    info = _address(block)
    array = info + _INFO_BYTES

    def take() -> Taken | None:
        result = rcl_take(pointer, array, info, None)
        if result:
            rcl.check(result)
            return None
        source_ns, received_ns, sequence, gid, address, size, _ = unpack(block)
        data = string_at(address, size)
        if size >= PIECE_BYTES and grown is not None:
            grown(size)
        return data, source_ns, received_ns, None if sequence == NO_SEQUENCE else sequence, gid

    return take


class _LargeTake:
    """Takes messages into pieces that are lent beforehand, of the size that the last one had."""

    def __init__(self, taking: RclTaking, pointer: int) -> None:
        self._rcl, self._memory, self._pointer = taking.rcl, taking.memory, pointer
        self._rcl_take = taking.rcl.take
        self._block = _block(taking.rcl, 0, 0)
        self._info = _address(self._block)
        self._array = self._info + _INFO_BYTES
        self._lent = False
        self.usual = 0

    def take(self) -> Taken | None:
        block = self._block
        if not self._lent:
            address, capacity = self._memory.lend(self.usual)
            _ARRAY.pack_into(block, _INFO_BYTES, address, 0, capacity)
            self._lent = True
        result = self._rcl_take(self._pointer, self._array, self._info, None)
        if result:
            self._rcl.check(result)
            return None
        source_ns, received_ns, sequence, gid, address, size, capacity = _BLOCK.unpack_from(block)
        data: Buffer
        if size >= PIECE_BYTES:
            self._lent = False
            self.usual = size
            data = self._memory.keep(address, capacity, size)
        else:
            data = string_at(address, size)
        return data, source_ns, received_ns, None if sequence == NO_SEQUENCE else sequence, gid

    def close(self) -> None:
        if self._lent:
            self._lent = False
            address, _, capacity = _ARRAY.unpack_from(self._block, _INFO_BYTES)
            self._memory.put_back(address, capacity)


def _address(block: bytearray) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(block))


def _check_versions() -> None:
    try:
        rclpy_version = version("rclpy")
    except PackageNotFoundError as error:
        raise TakeRefused("the version of rclpy is not known") from error
    if int(rclpy_version.split(".")[0]) not in _KNOWN_RCLPY:
        raise TakeRefused(f"rclpy {rclpy_version} is not known")
    middleware = rclpy.get_rmw_implementation_identifier()
    if middleware != _KNOWN_MIDDLEWARE:
        raise TakeRefused(f"{middleware} is not known")
    if struct.calcsize("P") != 8:
        raise TakeRefused("not a 64 bit machine")


def _loaded(name: str) -> ctypes.PyDLL:
    """The library of that name that this process has loaded, and no other."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.partition("/")[2]
        if path.rsplit("/", 1)[-1] == name:
            try:
                return ctypes.PyDLL("/" + path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            except OSError as error:
                raise TakeRefused(str(error)) from error
    raise TakeRefused(f"{name} is not loaded")


def opening_for(node: Node) -> tuple[Opening, str]:
    """How messages are to be taken by ``node``, which nobody spins, and in words how that is (for the log).

    By rcl, if a trial on a topic of its own gives bit for bit what rclpy gives, else by rclpy.
    """
    try:
        taking = RclTaking()
        _try(node, taking)
    except TakeRefused as refused:
        return RclpyTake, f"rclpy: {refused}"
    return taking, "rcl"


def _try(node: Node, taking: RclTaking) -> None:
    """Raises `TakeRefused` where the two ways do not give the same."""
    topic, qos = f"{node.get_name()}/_taking_trial", QoSProfile(depth=10)
    publisher = node.create_publisher(UInt8MultiArray, topic, qos)
    subscriptions = [raw_subscription(node, UInt8MultiArray, topic, qos) for _ in range(2)]
    known = RclpyTake(subscriptions[0].handle, UInt8MultiArray)
    tried = taking(subscriptions[1].handle, UInt8MultiArray, True)
    try:
        deadline_s = time.monotonic() + _TRIAL_S
        _until(lambda: publisher.get_subscription_count() >= len(subscriptions), deadline_s)
        # Small; larger than the place for it; large and known to be; larger yet; small again.
        for length in (9, 3 * PIECE_BYTES, 3 * PIECE_BYTES, 9 * PIECE_BYTES + 1, 5, 3):
            message = UInt8MultiArray(data=os.urandom(length))
            publisher.publish(message)
            expected, got = _next(known, deadline_s), _next(tried, deadline_s)
            # Each reader has a received time of its own.
            if (bytes(got[0]), got[1], *got[3:]) != (bytes(expected[0]), expected[1], *expected[3:]):
                raise TakeRefused("a trial gave another message than rclpy")
            if abs(got[2] - expected[2]) > _TRIAL_S * 1e9 or bytes(message.data) not in bytes(got[0]):
                raise TakeRefused("a trial gave another message than was published")
    finally:
        tried.close()
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)


def _next(source: HandleTake, deadline_s: float) -> Taken:
    found: list[Taken] = []

    def look() -> bool:
        taken = source.take()
        if taken is not None:
            found.append(taken)
        return bool(found)

    _until(look, deadline_s)
    return found[0]


def _until(condition: Callable[[], bool], deadline_s: float) -> None:
    while not condition():
        if time.monotonic() > deadline_s:
            raise TakeRefused(f"a trial message did not arrive within {_TRIAL_S:g} s")
        time.sleep(0.001)
