"""Trainers whose plug can be pulled: a headset's page, and a suit's software as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp
import numpy as np

from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.webxr_wire import WireFrame
from retargeting.motion_frame import Axis, Button

TIMEOUT_S = 60.0
# Both swing the left hand by so much about its middle; 0.45 m/s at most.
SWING_M, SWING_HZ = 0.12, 0.6
# Arms ahead, palms down, by the words of OpenXR's specification on grips.
_PALM_DOWN = {"left": (-0.5, 0.5, -0.5, -0.5), "right": (0.5, 0.5, 0.5, -0.5)}
_NAMES = ("head", "left_grip", "right_grip")
_PERIOD_S = 1 / 90


class Page:
    """A headset with controllers on the wire, in a thread of its own; its clock is the steady one.

    `squeeze`: of both grips; `frozen`: as a page whose scripts do not run, it neither sends nor answers;
    `poses_nan`: what is sent of them is no number.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.squeeze = 0.0
        self.moves = self.frozen = self.poses_nan = False
        self._knows_clock = False
        self._socket: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session = self._do(self._make_session())
        self.connect()

    async def _make_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def connect(self) -> None:
        self._do(self._connect())

    async def _connect(self) -> None:
        self._knows_clock = False
        self._socket = await self._session.ws_connect(f"{self._url}/socket")
        hello = {"type": "hello", "version": wire.VERSION, "page": "a-page-in-a-test", "device": "a test"}
        await self._socket.send_json(hello)
        self._tasks = [asyncio.create_task(work) for work in (self._send(), self._read(self._socket))]

    def abort(self) -> float:
        """As when its tab is gone: no word of parting; the time of it (s, of `time.time`)."""
        return float(self._do(self._abort()))

    async def _abort(self) -> float:
        for task in self._tasks:
            task.cancel()
        self._socket._response.connection.transport.abort()
        return time.time()

    async def _send(self) -> None:
        sequence, began_s = 0, time.monotonic()
        while True:
            await asyncio.sleep(_PERIOD_S)
            if self.frozen or not self._knows_clock:
                continue
            sequence += 1
            swing = math.sin(2.0 * math.pi * SWING_HZ * (time.monotonic() - began_s)) if self.moves else 0.0
            poses = np.array(
                [
                    (0.0, 1.6, 0.0, 0.0, 0.0, 0.0, 1.0),
                    (-0.2, 1.15 + SWING_M * swing, -0.4, *_PALM_DOWN["left"]),
                    (0.2, 1.15, -0.4, *_PALM_DOWN["right"]),
                ]
            )
            if self.poses_nan:
                poses[:] = math.nan
            axes = [0.0] * len(Axis)
            axes[Axis.LEFT_SQUEEZE] = axes[Axis.RIGHT_SQUEEZE] = self.squeeze
            frame = WireFrame(
                sequence, 1e3 * time.monotonic(), "visible", False, tuple(axes), (0,) * len(Button), _NAMES,
                poses,
            )  # fmt: skip
            with contextlib.suppress(ConnectionError):
                await self._socket.send_bytes(wire.encode_frame(frame))

    async def _read(self, socket: Any) -> None:
        async for message in socket:
            while self.frozen:
                await asyncio.sleep(_PERIOD_S)
            if message.type is not aiohttp.WSMsgType.BINARY:
                self._knows_clock = self._knows_clock or json.loads(message.data)["type"] == "clock"
            elif message.data[0] == wire.PING:
                number = int.from_bytes(message.data[4:8], "little")
                await socket.send_bytes(wire.encode_pong(number, 1e3 * time.monotonic()))

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()


class Suit:
    """What sends BVH, as a process that can be killed, stopped, and told to send no numbers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, str(self._port)], env=os.environ)

    def tell(self, said: signal.Signals) -> None:
        self._process.send_signal(said)
        if said is signal.SIGKILL:
            self._process.wait(TIMEOUT_S)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(TIMEOUT_S)


def _skeleton() -> str:
    def joint(name: str, offset: str, *children: str) -> str:
        inner = "".join(children) or "End Site\n{\nOFFSET 0 -7 16\n}\n"
        return f"JOINT {name}\n{{\nOFFSET {offset}\nCHANNELS 1 Zrotation\n{inner}}}\n"

    limbs = [joint("Head", "0 16 0")]
    legs = []
    for side, sign in (("Left", ""), ("Right", "-")):
        hand = joint(f"{side}Hand", f"{sign}25 0 0")
        limbs.append(joint(f"{side}Arm", f"{sign}17 11 0", joint(f"{side}ForeArm", f"{sign}28 0 0", hand)))
        foot = joint(f"{side}Foot", "0 -41 0")
        legs.append(joint(f"{side}UpLeg", f"{sign}9 -5 0", joint(f"{side}Leg", "0 -42 0", foot)))
    root = "ROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n"
    return f"HIERARCHY\n{root}{joint('Spine3', '0 36 0', *limbs)}{''.join(legs)}}}\nMOTION\n"


def _send_suit(port: int) -> None:
    """Whoever calls gets the skeleton and 100 frames a second, for ever; SIGUSR1: no numbers, or again."""
    no_numbers = False

    def toggle(_signal: int, _frame: object) -> None:
        nonlocal no_numbers
        no_numbers = not no_numbers

    signal.signal(signal.SIGUSR1, toggle)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(1)
        line, _ = server.accept()
        with line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.sendall(_skeleton().encode())
            began_s = time.monotonic()
            while True:
                time.sleep(0.01)
                # The left arm is 0.53 m long.
                swing = math.sin(2.0 * math.pi * SWING_HZ * (time.monotonic() - began_s))
                values = [0.0] * (3 + 14)
                values[1], values[5] = 95.0, math.degrees(SWING_M / 0.53) * swing
                if no_numbers:
                    values = [math.nan] * len(values)
                line.sendall((" ".join(map(repr, values)) + "||").encode())


if __name__ == "__main__":
    _send_suit(int(sys.argv[1]))
