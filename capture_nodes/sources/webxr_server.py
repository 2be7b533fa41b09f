"""The server of the headset's page: one port, the page over HTTP(S), everything else over one socket.

Runs in a thread of its own. Who comes from another machine needs the pairing token, else there is nothing but
401 and 403. One trainer at a time; what a page sends wrong is refused and counted, and the line stays up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.http_listener import HttpListener
from capture_nodes.sources.pairing import COOKIE, Pairing
from capture_nodes.sources.round_trip_clock import RoundTripClock
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.webxr_wire import WireError

# Close codes of our own; the page tells what they mean.
BUSY, REPLACED, SILENT, BAD_HELLO = 4001, 4002, 4003, 4004
# What is larger is refused; from the second bound on the line is cut, as it is not even read to its end.
_LARGEST_MESSAGE_BYTES, _CUT_MESSAGE_BYTES = 65_536, 1 << 20
_LARGEST_TEXT = 2_000
_HELLO_TIMEOUT_S = 5.0
_FIRST_PINGS, _FIRST_PING_PERIOD_S, _PING_PERIOD_S = 10, 0.02, 0.1
# A page that answers no ping for this long is gone, whatever its socket says.
_SILENT_S = 3.0
_STATUS_PERIOD_S = 0.1
_START_TIMEOUT_S, _CLOSING_S = 10.0, 1.0
_LOG_PERIOD_S = 5.0
# Scripts and styles of ours only; isolation gives the page a clock of 5 µs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "xr-spatial-tracking=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # Not which versions run here.
    "Server": "station",
}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Receiver(Protocol):
    """Who takes what the page sends; called by the server's thread."""

    def on_frame(self, frame: wire.WireFrame, clock: RoundTripClock, arrived_s: float, size: int) -> None: ...

    def on_interruption(self, reason: str) -> None: ...


@dataclass
class Line:
    """The connection to a trainer's page. Used by the server's thread only."""

    socket: web.WebSocketResponse
    page: str
    device: str
    clock: RoundTripClock = field(default_factory=RoundTripClock)
    asked_s: dict[int, float] = field(default_factory=dict)
    heard_s: float = field(default_factory=time.monotonic)
    next_ping: int = 1
    pictures_sent: int = 0
    pictures_shown: int = 0
    mode: str = "no session"
    ending: tuple[int, bytes] | None = None
    """Code and reason that the page is to hear as the last thing."""
    listening: asyncio.Task[None] | None = None

    def end(self, code: int, reason: bytes) -> None:
        """Hear no more of it. Its own task says why: two readers of one socket would cut each other off."""
        self.ending = (code, reason)
        if self.listening is not None:
            self.listening.cancel()


class Complaints:
    """Warnings of what was refused: at most one of a kind in `_LOG_PERIOD_S`, with how many there were."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("webxr")
        self._last_s: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def say(self, kind: str, text: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        now_s = time.monotonic()
        if now_s - self._last_s.get(kind, -_LOG_PERIOD_S) >= _LOG_PERIOD_S:
            self._last_s[kind] = now_s
            self._logger.warning("webxr: %s refused: %s (%d so far)", kind, text, self.counts[kind])


class WebxrServer:
    """`start` binds the port (`port` 0 takes any) or raises `SourceError`; `stop` ends all connections."""

    def __init__(
        self,
        page_folder: Path,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        pairing: Pairing,
        known_hosts: frozenset[str],
        receiver: Receiver,
        *,
        trusts_loopback: bool = True,
    ) -> None:
        self._page = _page_files(page_folder)
        self._host, self._asked_port, self._tls = host, port, tls
        self._pairing, self._known_hosts, self._receiver = pairing, known_hosts, receiver
        self._trusts_loopback = trusts_loopback
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="webxr", daemon=True)
        self._started = threading.Event()
        self._failure: Exception | None = None
        self._line: Line | None = None
        self._status: dict[str, Any] = {}
        self._status_changed = asyncio.Event()
        self._pictures: dict[str, tuple[float, bytes]] = {}
        self._ending = asyncio.Event()
        self.port = 0
        self.complaints = Complaints()

    # ---- any thread

    @property
    def connected(self) -> bool:
        return self._line is not None

    @property
    def device(self) -> str:
        line = self._line
        return "" if line is None else line.device

    @property
    def mode(self) -> str:
        line = self._line
        return "nobody connected" if line is None else line.mode

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise SourceError(f"the server of the headset's page did not start within {_START_TIMEOUT_S:g} s")
        if self._failure is not None:
            self._thread.join()
            raise SourceError(
                f"address:={self._host}:{self._asked_port}: cannot listen there: {self._failure}; "
                "another station may have the port, give another one"
            )

    def stop(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(timeout=5.0)

    def show(self, status: Mapping[str, Any]) -> None:
        """Merge into what the page shows of the station."""
        self._call(self._show, dict(status))

    def show_picture(self, camera: str, captured_s: float, jpeg: bytes) -> None:
        """The newest picture of a camera, in place of one that has not been sent yet."""
        self._call(self._show_picture, camera, captured_s, jpeg)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send at once to the page that is connected."""
        self._call(self._tell, json.dumps(message))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    # ---- the server's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            self._failure = error
        finally:
            self._end_tasks()
            self._loop.close()
            self._started.set()

    def _end_tasks(self) -> None:
        """What still waits for a body that never came, or for a page to close its side."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _serve(self) -> None:
        listener = HttpListener(self._answer, self._refuse)
        try:
            self.port = await listener.open(self._host, self._asked_port, self._tls)
            self._started.set()
            await self._ending.wait()
            if self._line is not None:
                self._line.end(WSCloseCode.GOING_AWAY, b"the station ends")
        finally:
            await listener.close(_CLOSING_S)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Lets in who is on this machine, or paired; a host name that is not ours is a rebound one."""
        try:
            refusal = self._refusal(request)
        except Exception as error:  # headers that cannot even be judged let nobody in
            refusal = 403, f"this request cannot be read ({type(error).__name__})"
        if refusal is not None:
            status, reason = refusal
            self.complaints.say("connection", f"{request.remote}: {reason}")
            if "text/html" in request.headers.get("Accept", ""):
                text, kind = _refusal_page(status, reason), "text/html"
            else:
                text, kind = f"{status}: {reason}\n", "text/plain"
            return web.Response(status=status, text=text, content_type=kind, headers=_HEADERS)
        try:
            response = await self._route(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    def _refuse(self, remote: str, status: int, error: BaseException | None) -> web.Response:
        """What is no request, or could not be answered: one line, and nothing of how it came about."""
        kind = type(error).__name__
        logging.getLogger("webxr").debug("webxr: %s: %s", remote, kind, exc_info=error)
        why = "it cannot be read" if status == 400 else "answering it failed"
        self.complaints.say("request", f"{remote}: {why} ({kind})")
        status = 403 if status == 400 else status
        return web.Response(status=status, text=f"{status}\n", headers=_HEADERS)

    def _refusal(self, request: web.BaseRequest) -> tuple[int, str] | None:
        local = False
        if self._trusts_loopback and request.remote is not None:
            with contextlib.suppress(ValueError):
                local = ip_address(request.remote).is_loopback
        token = request.query.get("token")
        if token is not None and not self._pairing.is_token(token):
            return 403, "wrong pairing token"
        paired = token is not None or self._pairing.is_cookie(request.cookies.get(COOKIE, ""))
        if not local and not paired:
            return 401, "this headset is not paired: open the address the station shows on its terminal"
        if not self._is_ours(request.host):
            return 403, "this station goes by another name"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            return 403, "another site's page may not come here"
        return None

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname
        return name is not None and name.lower() in self._known_hosts

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        if request.path == "/socket":
            return await self._socket(request)
        return self._index(request) if request.path == "/" else self._file(request.path.removeprefix("/"))

    def _index(self, request: web.BaseRequest) -> web.StreamResponse:
        if "token" in request.query:
            response = web.Response(status=303, headers={"Location": "/"})
            response.set_cookie(
                COOKIE,
                self._pairing.cookie,
                max_age=180 * 86_400,
                httponly=True,
                samesite="Strict",
                secure=self._tls is not None,
            )
            return response
        return self._file("index.html")

    def _file(self, name: str) -> web.Response:
        content = self._page.get(name)
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type=_TYPES[Path(name).suffix], charset="utf-8")

    # ---- the socket

    async def _socket(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            max_msg_size=_CUT_MESSAGE_BYTES, compress=False, autoping=True, timeout=1.0
        )
        socket.headers.update(_HEADERS)
        await socket.prepare(request)
        try:
            hello = await self._hello(socket)
        except (WireError, asyncio.TimeoutError) as error:
            said = str(error) or f"no hello within {_HELLO_TIMEOUT_S:g} s"
            self.complaints.say("page", f"{request.remote}: {said}")
            await socket.close(code=BAD_HELLO, message=said.encode()[:120])
            return socket
        line = Line(socket, hello["page"], hello["device"])
        former = self._line
        if former is not None:
            gone = time.monotonic() - former.heard_s > _SILENT_S
            if former.page != line.page and not gone:
                self.complaints.say("second trainer", f"{request.remote}: somebody is connected already")
                await socket.close(code=BUSY, message=b"somebody is connected already")
                return socket
            self._leave(former, "the page connected anew")
            former.end(REPLACED, b"the page connected anew")
        self._line = line
        line.listening = self._loop.create_task(self._listen(line))
        tasks = [self._loop.create_task(work) for work in (self._ask(line), self._inform(line))]
        try:
            await line.listening
        except asyncio.CancelledError:
            if line.ending is None:
                raise
        finally:
            for task in tasks:
                task.cancel()
            self._leave(line, "the line was cut")
        if line.ending is not None:
            code, reason = line.ending
            with contextlib.suppress(ConnectionError, RuntimeError):
                await socket.close(code=code, message=reason)
        return socket

    async def _hello(self, socket: web.WebSocketResponse) -> dict[str, str]:
        message = await asyncio.wait_for(socket.receive(), _HELLO_TIMEOUT_S)
        if message.type is not WSMsgType.TEXT:
            raise WireError("a hello is expected first")
        hello = _object(message.data)
        if hello.get("type") != "hello" or hello.get("version") != wire.VERSION:
            raise WireError(f"a hello of version {wire.VERSION} is expected first: reload the page")
        page, device = hello.get("page"), hello.get("device")
        if not isinstance(page, str) or not 8 <= len(page) <= 64 or not isinstance(device, str):
            raise WireError("a hello with page and device is expected")
        return {"page": page, "device": _printable(device[:200])}

    def _leave(self, line: Line, reason: str) -> None:
        if self._line is line:
            self._line = None
            self._receiver.on_interruption(reason)

    async def _listen(self, line: Line) -> None:
        async for message in line.socket:
            arrived_s = time.monotonic()
            line.heard_s = arrived_s
            try:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    _check_size(message.data)
                if message.type is WSMsgType.BINARY:
                    await self._take(line, message.data, arrived_s)
                elif message.type is WSMsgType.TEXT:
                    self._take_text(line, message.data)
                else:
                    self.complaints.say("message", f"the line ends with {message.data!r}")
                    return
            except WireError as error:
                self.complaints.say("message", str(error))
            except ConnectionError:
                return
        if line.socket.close_code == WSCloseCode.MESSAGE_TOO_BIG:
            self.complaints.say("message", f"more than {_CUT_MESSAGE_BYTES} bytes: the line was cut")

    async def _take(self, line: Line, data: bytes, arrived_s: float) -> None:
        kind = wire.message_kind(data)
        if kind == wire.FRAME:
            frame = wire.decode_frame(data)
            self._receiver.on_frame(frame, line.clock, arrived_s, len(data))
            await line.socket.send_bytes(wire.encode_frame_taken(frame.sequence))
        elif kind == wire.PONG:
            number, page_ms = wire.decode_pong(data)
            asked_s = line.asked_s.pop(number, None)
            if asked_s is not None:
                line.clock.take(asked_s, 1e-3 * page_ms, arrived_s)
        else:
            line.pictures_shown = min(wire.decode_picture_shown(data), line.pictures_sent)
            self._wake()

    def _take_text(self, line: Line, text: str) -> None:
        message = _object(text)
        if message.get("type") == "session" and isinstance(message.get("mode"), str):
            line.mode = _printable(message["mode"][:40])
        elif message.get("type") == "end" and isinstance(message.get("reason"), str):
            line.mode = "no session"
            self._receiver.on_interruption(_printable(message["reason"][:80]))
        else:
            raise WireError(f"text message of type {str(message.get('type'))[:40]!r} is unknown")

    async def _ask(self, line: Line) -> None:
        """Ask for the page's clock again and again, quickly at first."""
        with contextlib.suppress(ConnectionError):
            while True:
                now_s = time.monotonic()
                if now_s - line.heard_s > _SILENT_S:
                    self.complaints.say("page", f"no answer for {_SILENT_S:g} s")
                    self._leave(line, "the page does not answer")
                    line.end(SILENT, b"the page did not answer")
                    return
                number, line.next_ping = line.next_ping, line.next_ping + 1
                line.asked_s[number] = now_s
                line.asked_s.pop(number - 100, None)
                await line.socket.send_bytes(wire.encode_ping(number))
                first = number <= _FIRST_PINGS
                await asyncio.sleep(_FIRST_PING_PERIOD_S if first else _PING_PERIOD_S)

    async def _inform(self, line: Line) -> None:
        """The station's state and pictures, as soon as they change and the page has shown the last one."""
        told = ""
        told_s = 0.0
        with contextlib.suppress(ConnectionError):
            while True:
                if self._pictures and line.pictures_shown == line.pictures_sent:
                    camera = next(iter(self._pictures))
                    captured_s, jpeg = self._pictures.pop(camera)
                    line.pictures_sent += 1
                    await line.socket.send_bytes(
                        wire.encode_picture(camera, line.pictures_sent, captured_s, jpeg)
                    )
                now_s = time.monotonic()
                text = json.dumps({"type": "status", **self._status})
                # The offset is told with it now and then, for the latencies that the page shows.
                if line.clock.known and (text != told or now_s - told_s > 1.0):
                    told, told_s = text, now_s
                    await line.socket.send_str(text)
                    await line.socket.send_str(
                        json.dumps(
                            {
                                "type": "clock",
                                "offset_ms": 1e3 * line.clock.offset_s,
                                "uncertainty_ms": 1e3 * line.clock.uncertainty_s(now_s),
                                "round_trip_ms": 1e3 * line.clock.round_trip_s,
                            }
                        )
                    )
                self._status_changed.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._status_changed.wait(), _STATUS_PERIOD_S)

    def _show(self, status: dict[str, Any]) -> None:
        self._status |= status
        self._wake()

    def _show_picture(self, camera: str, captured_s: float, jpeg: bytes) -> None:
        if self._line is None:
            self._pictures.clear()
            return
        # Its turn stays where it was, so that all cameras come in turn.
        self._pictures[camera] = (captured_s, jpeg)
        self._wake()

    def _tell(self, text: str) -> None:
        line = self._line
        if line is not None and not line.socket.closed:
            self._loop.create_task(_send(line.socket, text))

    def _wake(self) -> None:
        self._status_changed.set()


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_str(text)


def _refusal_page(status: int, reason: str) -> str:
    """Large enough to be read in a headset; it needs no file, which who is refused does not get."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Teleoperation</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="dark"></head>'
        f"<body><h1>This headset may not come in.</h1><h2>{status}: {escape(reason)}</h2></body></html>\n"
    )


def _check_size(message: bytes | str) -> None:
    if len(message) > _LARGEST_MESSAGE_BYTES:
        raise WireError(f"message of {len(message)} bytes: at most {_LARGEST_MESSAGE_BYTES} are expected")


def _printable(text: str) -> str:
    """Without what no message and no terminal takes: half characters, controls."""
    return "".join(c for c in text if c.isprintable())


def _object(text: str) -> dict[str, Any]:
    if len(text) > _LARGEST_TEXT:
        raise WireError(f"text message of {len(text)} letters: at most {_LARGEST_TEXT} are expected")
    try:
        value = json.loads(text)
    except ValueError:
        raise WireError("text message that is no JSON") from None
    except RecursionError:
        raise WireError("text message that is nested too deeply") from None
    if not isinstance(value, dict):
        raise WireError("text message: an object is expected")
    return value


def _page_files(folder: Path) -> dict[str, bytes]:
    """All files of the page by name: read once, so that no request reaches the disk."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _TYPES}
    if "index.html" not in files:
        raise SourceError(f"the headset's page is missing from {folder}: install the package again")
    return files
