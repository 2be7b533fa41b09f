"""HTTP that tells a stranger nothing of itself: every request goes to one handler, we refuse what is none.

aiohttp's own application answers some requests before any handler is asked (`Expect:`, what is no HTTP),
names its version there, and logs a traceback for each: who scans the port learns what runs and fills the log.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# Answers a request that is none (status 400) or whose handler failed, given who sent it and the error.
Refuse = Callable[[str, int, BaseException | None], web.Response]

# A connection that asks for nothing is closed; what comes after a refused head is not read for longer.
_IDLE_S, _LINGERING_S = 60.0, 1.0


class HttpListener:
    """Used in a running loop: `open` binds or raises `OSError`, `close` ends all connections."""

    def __init__(self, handler: Handler, refuse: Refuse) -> None:
        self._connections = web.Server(handler)
        self._refuse = refuse
        self._listening: asyncio.Server | None = None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """The port that is listened at; 0 asks for any."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connection, host, port, ssl=tls)
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self, timeout_s: float) -> None:
        if self._listening is not None:
            self._listening.close()
        self._connections.pre_shutdown()
        await self._connections.shutdown(timeout_s)

    def _connection(self) -> _Connection:
        return _Connection(self._connections, self._refuse)


class _Connection(web.RequestHandler):
    def __init__(self, connections: web.Server, refuse: Refuse) -> None:
        super().__init__(
            connections,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGERING_S,
        )
        self._refuse = refuse

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = self._refuse(request.remote or "", status, exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **more: Any) -> None:
        """What fails outside of any handler: a body that cannot be read. The connection is closed then."""
        peer = self.peername
        self._refuse(str(peer[0]) if isinstance(peer, tuple) else "", 400, more.get("exc_info"))
