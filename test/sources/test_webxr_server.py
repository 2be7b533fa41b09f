"""Who is let in, what is refused, and what stays up: the server with a plain socket client, no browser."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
import socket
import ssl
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: make prepare-test")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import aiohttp
from browser_headset import TIMEOUT_S, running_source, until

from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.pairing import COOKIE
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.webxr import WebxrParameters, WebxrSource, pairing_text
from capture_nodes.sources.webxr_server import BAD_HELLO, BUSY, REPLACED
from capture_nodes.sources.webxr_wire import WireFrame
from capture_nodes.stamp_clock import StampClock
from retargeting.motion_frame import Axis

HELLO = {"type": "hello", "version": wire.VERSION, "page": "page-number-one", "device": "a test"}
HEAD = np.array([[0.0, 1.6, 0.0, 0.0, 0.0, 0.0, 1.0]])


def frame(sequence, *, squeeze=0.0, visibility="visible", reset=False, poses=HEAD):
    axes = [0.0] * len(Axis)
    axes[Axis.RIGHT_SQUEEZE] = squeeze
    return wire.encode_frame(
        WireFrame(
            sequence, 1e3 * time.monotonic(), visibility, reset, tuple(axes), (0,) * 8,
            ("head",) * len(poses), poses,
        )
    )  # fmt: skip


class Page:
    """Speaks the page's side of the socket, with the station's own clock as its clock."""

    def __init__(self, socket):
        self.socket = socket
        self.taken = []
        self.texts = []
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._ponged = asyncio.Event()

    async def _read(self):
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                kind, number = message.data[0], int.from_bytes(message.data[4:8], "little")
                if kind == wire.PING:
                    await self.socket.send_bytes(wire.encode_pong(number, 1e3 * time.monotonic()))
                    self._ponged.set()
                elif kind == wire.FRAME_TAKEN:
                    self.taken.append(number)
            else:
                self.texts.append(json.loads(message.data))
        self.closed.set()

    async def ready(self):
        """Once the station knows the clock."""
        await asyncio.wait_for(self._ponged.wait(), TIMEOUT_S)
        await self.until(lambda: any(text["type"] == "clock" for text in self.texts))

    async def until(self, condition):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, "what was waited for did not come"
            await asyncio.sleep(0.005)

    async def press(self, publisher):
        """Let go and press until it is held: where frames were late, on a busy machine, it opens again."""
        deadline = time.monotonic() + TIMEOUT_S
        while held(publisher.frames)[-1:] != [1.0]:
            assert time.monotonic() < deadline, "nothing was held"
            for squeeze in (0.0, 1.0):
                count = len(publisher.frames)
                await self.send_next(squeeze=squeeze)
                await self.until(lambda count=count: len(publisher.frames) > count)

    async def send_next(self, **more):
        await self.send_frame(max(self.taken, default=0) + 1, **more)

    async def send_frame(self, sequence, **more):
        await self.socket.send_bytes(frame(sequence, **more))
        await self.until(lambda: sequence in self.taken)


async def connect(session, source, hello=HELLO, **more):
    socket = await session.ws_connect(f"http://127.0.0.1:{source.port}/socket", **more)
    await socket.send_json(hello)
    return Page(socket)


def run(work):
    return asyncio.run(asyncio.wait_for(work, 3 * TIMEOUT_S))


def test_who_is_not_paired_gets_nothing(tmp_path):
    """As another machine is treated: 401 for everything without the token, 403 for a wrong one."""
    with running_source(tmp_path, trusts_loopback=False) as (source, _):
        token = (tmp_path / "token").read_text().strip()
        base = f"http://127.0.0.1:{source.port}"

        async def work():
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                for path in ("/", "/main.js", "/socket", "/nothing", "/../token", "/favicon.ico", "/%00"):
                    async with session.get(base + path) as answer:
                        assert answer.status in (401, 403), path
                        assert token not in await answer.text()
                for method in ("post", "put", "delete", "options", "head"):
                    async with session.request(method, base) as answer:
                        assert answer.status in (401, 403), method
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{base}/socket")
                assert refused.value.status == 401
                for wrong in ("x" * 22, "", token[:-1], token + "a", "ä" * 22):
                    async with session.get(base, params={"token": wrong}) as answer:
                        assert answer.status == 403
                async with session.get(base, cookies={COOKIE: token}) as answer:
                    assert answer.status == 401, "the token is not the cookie"
                # The token opens once, and is then neither in the address nor in the cookie.
                jar.clear()
                async with session.get(base, params={"token": token}, allow_redirects=False) as answer:
                    assert (answer.status, answer.headers["Location"]) == (303, "/")
                    cookie = answer.headers["Set-Cookie"]
                    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and token not in cookie
                async with session.get(base) as answer:
                    assert answer.status == 200 and "<canvas" in await answer.text()
                async with session.get(f"{base}/main.js") as answer:
                    assert answer.status == 200 and answer.content_type == "text/javascript"
                page = await connect(session, source)
                await page.ready()

        run(work())


def request(head, *headers, end=b"\r\n\r\n"):
    return b"\r\n".join((head, b"Host: localhost", *headers, b"Connection: close")) + end


# What a scanner of ports sends, and what no browser would.
SCAN = {
    "plain": request(b"GET / HTTP/1.1"),
    "another Expect": request(b"GET / HTTP/1.1", b"Expect: foo"),
    "Expect on nothing": request(b"GET /a/b/c HTTP/1.1", b"Expect: foo"),
    "100-continue": request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5"),
    "100-continue to the socket": request(
        b"GET /socket HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5"
    ),
    "TLS to HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
    "no HTTP": b"SSH-2.0-scan\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": request(b"GET / HTTP/9.9"),
    "no host": b"GET / HTTP/1.0\r\n\r\n",
    "any": b"OPTIONS * HTTP/1.0\r\n\r\n",
    "proxy": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    "no such method": request(b"DANCE / HTTP/1.1"),
    "no URL": request(b"GET http://[::1 HTTP/1.1"),
    "above": request(b"GET /../../etc/passwd HTTP/1.1"),
    "long URL": request(b"GET /" + b"a" * 20_000 + b" HTTP/1.1"),
    "long header": request(b"GET / HTTP/1.1", b"X: " + b"a" * 20_000),
    "many headers": request(b"GET / HTTP/1.1", *[b"X-%d: y" % k for k in range(1000)]),
    "bad header": request(b"GET / HTTP/1.1", b"X y z"),
    "bad cookie": request(b"GET / HTTP/1.1", b"Cookie: a/b=c; =; \xff\xfe=\xff"),
    "bad token": request(b"GET /?token=%ff%fe%00 HTTP/1.1"),
    "bad length": request(b"POST / HTTP/1.1", b"Content-Length: -1"),
    "bad chunks": request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", end=b"\r\n\r\nzzz\r\nzzz\r\n"),
    "bad host": b"GET / HTTP/1.1\r\nHost: [::1\r\nConnection: close\r\n\r\n",
    "bad origin": request(b"GET / HTTP/1.1", b"Origin: http://[::1"),
    "half a socket": request(b"GET /socket HTTP/1.1", b"Upgrade: websocket"),
}


def answers(port, sent):
    """All that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as line:
        line.sendall(sent)
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := line.recv(65_536):
                parts.append(part)
        return b"".join(parts)


def test_a_scan_gets_nothing_but_401_and_403(tmp_path, caplog):
    """Also where no handler is asked: no version, no other status, and the log is not filled."""
    caplog.set_level(logging.INFO)
    with running_source(tmp_path, trusts_loopback=False) as (source, _):
        for _ in range(3):
            for name, sent in SCAN.items():
                came = answers(source.port, sent)
                statuses = re.findall(rb"HTTP/1\.[01] (\d{3})", came)
                assert set(statuses) <= {b"401", b"403"} and len(statuses) == 1, (name, came[:200])
                assert b"aiohttp" not in came.lower() and b"python" not in came.lower(), (name, came[:200])
        told = source.diagnostics()
        assert int(told["refused_requests"]) + int(told["refused_connections"]) >= 3 * len(SCAN)
    said = caplog.records
    assert 1 <= len(said) <= 10 and not any(record.exc_info for record in said)
    assert not any("\n" in record.getMessage() for record in said)


def test_headers_that_cannot_be_read_are_refused_on_this_machine_too(tmp_path, caplog):
    with running_source(tmp_path) as (source, _):
        for name in ("bad host", "bad origin", "no URL", "long URL", "long header", "bad header", "no HTTP"):
            assert answers(source.port, SCAN[name]).startswith((b"HTTP/1.1 403", b"HTTP/1.0 403")), name
        # Whoever is let in waits for no leave to go on.
        assert answers(source.port, SCAN["another Expect"]).startswith(b"HTTP/1.1 200")
    assert not any(record.exc_info for record in caplog.records)


def test_another_site_and_another_name_are_refused(tmp_path):
    with running_source(tmp_path) as (source, _):
        base = f"http://127.0.0.1:{source.port}"

        async def work():
            async with aiohttp.ClientSession() as session:
                for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
                    async with session.get(base, headers=headers) as answer:
                        assert answer.status == 403, headers
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{base}/socket", headers={"Origin": "http://evil.example"})
                assert refused.value.status == 403
                async with session.get(base) as answer:
                    policy = answer.headers["Content-Security-Policy"]
                    assert "default-src 'none'" in policy and "unsafe" not in policy
                async with session.get(f"{base}/..%2f..%2fetc%2fpasswd") as answer:
                    assert answer.status == 404

        run(work())


def test_what_is_wrong_is_refused_and_the_line_stays_up(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    nan = np.full((1, 7), np.nan)
    wrong = [
        b"", b"\1", b"\0\1", b"\xff" * 50, frame(1)[:-3], frame(1) + b"more", frame(1, poses=nan),
        frame(1, poses=HEAD * 1e4), bytes([wire.FRAME, 9]) + bytes(60), b"\1\1" + bytes(20_000),
        "no json", "[]", "{}", '{"type": "dance"}', '{"type": "end", "reason": 5}', "[" * 1900,
        '{"type": "x", "y": "' + "z" * 5000 + '"}', bytes(65_537), bytes(1_000_000), "z" * 1_000_000,
    ]  # fmt: skip
    with running_source(tmp_path) as (source, publisher):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                await page.ready()
                await page.send_frame(1)
                for number, message in enumerate(wrong, start=2):
                    if isinstance(message, str):
                        await page.socket.send_str(message)
                    else:
                        await page.socket.send_bytes(message)
                    await page.send_frame(number)
                assert not page.socket.closed
                # What is far larger than anything of ours ends the line, not the server.
                await page.socket.send_bytes(bytes(1_200_000))
                await page.until(page.closed.is_set)
                again = await connect(session, source)
                await again.ready()
                await again.send_frame(1)

        run(work())
        told = source.diagnostics()
        assert int(told["refused_messages"]) >= len(wrong)
        assert all(np.isfinite(pose).all() for _, _, f in publisher.frames for pose in f.poses.values())
    # Rate-limited: a line per kind and some seconds, not one per message.
    assert 1 <= sum("message refused" in record.getMessage() for record in caplog.records) <= 5


@pytest.mark.parametrize(
    "first",
    [
        {**HELLO, "version": 2}, {**HELLO, "page": "short"}, {"type": "session"}, {**HELLO, "device": 5},
        {**HELLO, "page": None},
    ],
)  # fmt: skip
def test_a_bad_hello_is_turned_away(tmp_path, first):
    with running_source(tmp_path) as (source, _):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source, first)
                await page.until(page.closed.is_set)
                assert page.socket.close_code == BAD_HELLO

        run(work())
        assert not source.watched


def test_one_trainer_at_a_time_and_the_same_page_again(tmp_path):
    with running_source(tmp_path) as (source, _):

        async def work():
            async with aiohttp.ClientSession() as session:
                first = await connect(session, source)
                await first.ready()
                await first.send_frame(1)
                second = await connect(session, source, {**HELLO, "page": "page-number-two"})
                await second.until(second.closed.is_set)
                assert second.socket.close_code == BUSY
                await first.send_frame(2)
                # The same page, whose old socket may hang for long, takes its own place.
                third = await connect(session, source)
                await third.ready()
                await third.send_frame(1)
                await first.until(first.closed.is_set)
                assert first.socket.close_code == REPLACED

        run(work())


def test_a_page_that_is_replaced_hears_so_whatever_it_is_saying(tmp_path):
    """Else it would take the line for cut and connect again, and the two take turns for ever."""
    with running_source(tmp_path) as (source, _):

        async def talk(page):
            with contextlib.suppress(ConnectionError):
                while True:
                    await page.socket.send_bytes(wire.encode_pong(0, 1e3 * time.monotonic()))
                    await asyncio.sleep(0)

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                for _ in range(20):
                    talking = asyncio.create_task(talk(page))
                    former, page = page, await connect(session, source)
                    await former.until(former.closed.is_set)
                    talking.cancel()
                    assert former.socket.close_code == REPLACED

        run(work())


def held(frames):
    return [f.controls.axes[Axis.RIGHT_SQUEEZE] for _, _, f in frames]


def test_the_deadman_opens_with_the_line_and_stays_open_until_let_go(tmp_path):
    with running_source(tmp_path) as (source, publisher):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                await page.ready()
                # Held before anything was seen: it does not count.
                await page.send_next(squeeze=1.0)
                await page.until(lambda: len(publisher.frames) > 0)
                assert held(publisher.frames)[0] == 0.0
                await page.press(publisher)
                last_ns = publisher.newest.stamp_ns
                await page.socket.send_json({"type": "end", "reason": "hidden"})
                await page.until(lambda: held(publisher.frames)[-1:] == [0.0])
                assert publisher.newest.stamp_ns == last_ns, "no stamp is invented"
                assert set(publisher.newest.poses) == {"head"}
                count = len(publisher.frames)
                await page.send_next(squeeze=1.0)
                await page.send_next(squeeze=1.0)
                await page.until(lambda: len(publisher.frames) > count)
                assert set(held(publisher.frames[count:])) == {0.0}
                await page.press(publisher)
                await page.socket.close()

        run(work())
        until(lambda: held(publisher.frames)[-1] == 0.0, "open deadman")


@pytest.mark.parametrize(
    "more", [{"visibility": "visible-blurred"}, {"visibility": "hidden"}, {"reset": True}]
)
def test_what_the_session_says_opens_the_deadman(tmp_path, more):
    with running_source(tmp_path) as (source, publisher):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                await page.ready()
                await page.press(publisher)
                await page.send_next(squeeze=1.0, **more)
                await page.until(lambda: held(publisher.frames)[-1:] == [0.0])
                count = len(publisher.frames)
                await page.send_next(squeeze=1.0)
                await page.until(lambda: len(publisher.frames) > count)
                assert held(publisher.frames)[-1] == 0.0

        run(work())


def test_what_a_page_says_can_be_told_on(tmp_path):
    """Half a character, which JSON can say, has no bytes that a message could take it with."""
    with running_source(tmp_path) as (source, _):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source, {**HELLO, "device": "a\ud800\0 test"})
                await page.ready()
                await page.socket.send_json({"type": "session", "mode": "immersive\udfff\n"})
                await page.until(lambda: source.diagnostics()["session"] == "immersive")
                assert source.diagnostics()["device"] == "a test"
                await page.socket.send_json({"type": "end", "reason": "hidden\ud800\x1b" + "!" * 500})
                await page.until(lambda: str(source.diagnostics()["last_interruption"]).startswith("hidden!"))
                assert len(str(source.diagnostics()["last_interruption"])) <= 80

        run(work())


def test_a_page_that_freezes_lets_go(tmp_path):
    with running_source(tmp_path) as (source, publisher):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                await page.ready()
                await page.press(publisher)
                await page.until(lambda: held(publisher.frames)[-1] == 0.0)

        run(work())
        assert source.diagnostics()["last_interruption"] in ("no frames came", "the line was cut")


def test_stamps_are_the_device_s_time_and_increase(tmp_path):
    with running_source(tmp_path) as (source, publisher):

        async def work():
            async with aiohttp.ClientSession() as session:
                page = await connect(session, source)
                await page.ready()
                for sequence in range(1, 60):
                    await page.send_frame(sequence)

        run(work())
        live = [(now_ns, f.stamp_ns) for _, now_ns, f in publisher.frames[:-1]]
        stamps = [stamp for _, stamp in live]
        assert all(b >= a for a, b in itertools.pairwise(stamps))
        assert all(now - stamp > -2_000_000 for now, stamp in live)
        told = source.diagnostics()
        assert told["sequence_gaps"] == 0 and int(told["received_frames"]) == 59


def test_https_with_a_certificate_of_its_own(tmp_path):
    with running_source(tmp_path, "https://127.0.0.1:0") as (source, _):
        for name in ("certificate.pem", "key.pem", "token"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))

        async def work():
            async with aiohttp.ClientSession() as session:
                for host in ("127.0.0.1", "localhost"):
                    async with session.get(f"https://{host}:{source.port}/", ssl=context) as answer:
                        assert answer.status == 200
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"http://127.0.0.1:{source.port}/")

        run(work())
        assert source.report["page"].startswith("https://")


def test_no_secret_is_told(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with running_source(tmp_path, trusts_loopback=False) as (source, _):
        token = (tmp_path / "token").read_text().strip()

        async def work():
            async with aiohttp.ClientSession() as session:
                await session.get(f"http://127.0.0.1:{source.port}/", params={"token": token})
                await session.get(f"http://127.0.0.1:{source.port}/", params={"token": token + "x"})

        run(work())
        said = "".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
        assert token not in said + str(source.report) + str(dict(source.diagnostics()))
    # The terminal is the one place it is for.
    parameters = WebxrParameters("0.0.0.0:8443", folder=tmp_path)
    assert token in pairing_text(parameters)


@pytest.mark.parametrize(
    "address",
    ["", "8443", "host:port", "127.0.0.1", "127.0.0.1:99999", "headset.example:8443", "ftp://127.0.0.1:1"],
)
def test_a_bad_address_is_refused_with_an_example(address):
    with pytest.raises(SourceError, match="address:="):
        WebxrParameters(address)


def test_a_port_that_is_taken(tmp_path):
    with running_source(tmp_path) as (source, _):
        second = WebxrSource(
            WebxrParameters(f"127.0.0.1:{source.port}", folder=tmp_path), StampClock(time.time_ns)
        )
        with pytest.raises(SourceError, match="cannot listen"), second:
            pass


def test_other_machines_are_only_let_in_where_that_was_said():
    assert WebxrParameters().is_loopback and not WebxrParameters().tls
    public = WebxrParameters("0.0.0.0:8443")
    assert public.tls and not public.is_loopback
