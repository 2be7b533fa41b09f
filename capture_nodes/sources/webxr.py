"""Trainer source `webxr`: a headset's own browser, with nothing installed on it (docs/webxr.md).

The page is served by the station; it sends every XR frame over one socket. Frames are stamped with the time
the headset gave them, brought to the station's clock by round trips.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from capture_nodes.resources import user_folder
from capture_nodes.sources.host_names import host_addresses, host_names
from capture_nodes.sources.newest_frame import NewestFrame
from capture_nodes.sources.pairing import Pairing, load_pairing
from capture_nodes.sources.round_trip_clock import RoundTripClock
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.webxr_motion import WebxrMotion
from capture_nodes.sources.webxr_wire import WireFrame
from capture_nodes.stamp_clock import StampClock
from retargeting.body_points import SIDES
from retargeting.motion_frame import MotionFrame

PAGE_FOLDER = Path(__file__).resolve().parents[1] / "web"
DEFAULT_ADDRESS = "127.0.0.1:8443"
# Frames stay away for longer than this: the deadman opens, and what is held has to be pressed again.
_SILENCE_S = 0.1
_RATE_WINDOW = 128


@dataclass(frozen=True)
class WebxrParameters:
    """address: `host:port` to listen at. A loopback one is for browsers on this machine and headsets on its
    cable, in plain HTTP; any other (`0.0.0.0:8443`) has HTTPS and needs pairing. `https://127.0.0.1:8443`
    asks for HTTPS on loopback too. folder: where certificate and token are kept.
    """

    address: str = DEFAULT_ADDRESS
    folder: Path | None = None
    trusts_loopback: bool = True

    def __post_init__(self) -> None:
        parts = self._parts
        try:
            port = parts.port
        except ValueError:
            port = None
        host = parts.hostname
        if host is None or port is None or parts.scheme not in ("", "https") or parts.path not in ("", "/"):
            raise SourceError(
                f"address:={self.address}: host:port is expected, as in {DEFAULT_ADDRESS}, or 0.0.0.0:8443 "
                "for headsets in the network"
            )
        try:
            ip_address(host)
        except ValueError:
            if host != "localhost":
                raise SourceError(
                    f"address:={self.address}: the address of an interface is expected before the port: "
                    "127.0.0.1, 0.0.0.0 (all), ::1 …"
                ) from None

    @property
    def _parts(self) -> Any:
        return urlsplit(self.address if "//" in self.address else f"//{self.address}")

    @property
    def host(self) -> str:
        return str(self._parts.hostname)

    @property
    def port(self) -> int:
        return int(self._parts.port)

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ip_address(self.host).is_loopback

    @property
    def tls(self) -> bool:
        return not self.is_loopback or self._parts.scheme == "https"

    @property
    def path(self) -> Path:
        return self.folder or user_folder() / "webxr"


class WebxrSource:
    """The page's frames as a live source; also the display that the trainer sees the station on."""

    def __init__(self, parameters: WebxrParameters, stamps: StampClock) -> None:
        try:
            from capture_nodes.sources import webxr_server
        except ImportError as error:
            raise SourceError(f"source:=webxr needs aiohttp: {error}; pip install aiohttp") from None
        self._server_module = webxr_server
        self._parameters, self._stamps = parameters, stamps
        self._frames = NewestFrame()
        self._lock = threading.Lock()
        self._motion = WebxrMotion()
        self._figures = _Figures()
        self._last_device_s = self._last_arrived_s = -math.inf
        self._server: Any = None
        self._report: dict[str, str] = {}
        self._interruption = ""

    # ---- opening

    def __enter__(self) -> WebxrSource:
        parameters = self._parameters
        pairing = load_pairing(parameters.path)
        names, addresses = host_names(), host_addresses()
        context = None
        if parameters.tls:
            try:
                from capture_nodes.sources import station_certificate as certificates

                certificate, key = certificates.station_certificate(parameters.path, names, addresses)
                context = certificates.server_context(certificate, key)
                self._report["certificate"] = (
                    f"{certificate}, SHA-256 {certificates.fingerprint(certificate)}"
                )
            except ImportError as error:
                raise SourceError(f"HTTPS needs cryptography: {error}; pip install cryptography") from None
        known = frozenset((*names, *map(str, addresses), parameters.host))
        server = self._server_module.WebxrServer(
            PAGE_FOLDER,
            parameters.host,
            parameters.port,
            context,
            pairing,
            known,
            self,
            trusts_loopback=parameters.trusts_loopback,
        )
        server.start()
        self._server = server
        self._report["page"] = ", ".join(page_addresses(parameters, server.port))
        if not parameters.is_loopback:
            self._report["pairing"] = (
                f"token in {parameters.path / 'token'}, shown by the station on its terminal"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def report(self) -> Mapping[str, str]:
        return self._report

    @property
    def port(self) -> int:
        return int(self._server.port)

    # ---- the frame thread

    def wait_frame(self, timeout_s: float) -> MotionFrame | None:
        frame = self._frames.take(timeout_s)
        if frame is None and time.monotonic() - self._last_arrived_s > _SILENCE_S:
            with self._lock:
                # A frame may have come in the meantime.
                if time.monotonic() - self._last_arrived_s > _SILENCE_S:
                    frame = self._motion.interrupt()
                    if frame is not None:
                        self._interruption = "no frames came"
        return frame

    # ---- the server's thread

    def on_frame(self, wire: WireFrame, clock: RoundTripClock, arrived_s: float, size: int) -> None:
        if not clock.known:
            return
        device_s = min(arrived_s, clock.steady_s(1e-3 * wire.device_ms))
        with self._lock:
            # A stamp is later than the one before, also where the clock is known better now.
            device_s = max(device_s, self._last_device_s + 1e-6)
            if arrived_s - self._last_arrived_s > _SILENCE_S:
                self._motion.interrupt()
            self._last_device_s, self._last_arrived_s = device_s, arrived_s
            self._figures.take(wire.sequence, device_s, arrived_s, size, clock)
            frame = self._motion.frame(wire, self._stamps.stamp(device_s), device_s)
        if frame is not None:
            self._frames.put(frame)

    def on_interruption(self, reason: str) -> None:
        with self._lock:
            frame = self._motion.interrupt()
            self._motion.forget_device()
            self._interruption = reason
            self._figures.restart()
        if frame is not None:
            self._frames.put(frame)

    # ---- any thread

    def rumble(self, side: str, intensity: float) -> None:
        if side in SIDES:
            self._server.tell({"type": "rumble", "side": side, "intensity": round(intensity, 3)})

    @property
    def watched(self) -> bool:
        """Whether somebody sees what is shown."""
        return self._server is not None and bool(self._server.connected)

    def show(self, status: Mapping[str, object]) -> None:
        self._server.show(status)

    def show_picture(self, camera: str, captured_s: float, jpeg: bytes) -> None:
        self._server.show_picture(camera, captured_s, jpeg)

    def diagnostics(self) -> Mapping[str, object]:
        server = self._server
        if server is None:
            return {"device": "not opened"}
        with self._lock:
            figures = self._figures.told(time.monotonic())
            interruption, body_axes = self._interruption, self._motion.body_axes
        refused = {
            f"refused_{kind.replace(' ', '_')}s": n for kind, n in dict(server.complaints.counts).items()
        }
        return {
            "device": server.device or "none",
            "session": server.mode,
            "last_interruption": interruption or "none",
            "body_axes": body_axes,
            **figures,
            "replaced_frames": self._frames.replaced,
            **refused,
        }


class _Figures:
    """Rates, gaps, ages and the clock of the frames that came."""

    def __init__(self) -> None:
        self._received = self._gaps = self._bytes = 0
        self._sequence: int | None = None
        self._device_s: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._age_s: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._clock: RoundTripClock | None = None

    def take(
        self, sequence: int, device_s: float, arrived_s: float, size: int, clock: RoundTripClock
    ) -> None:
        if self._sequence is not None:
            self._gaps += max(0, sequence - self._sequence - 1)
        self._sequence, self._clock, self._bytes = sequence, clock, size
        self._received += 1
        self._device_s.append(device_s)
        self._age_s.append(arrived_s - device_s)

    def restart(self) -> None:
        """What comes next is numbered anew."""
        self._sequence = self._clock = None
        self._device_s.clear()

    def told(self, now_s: float) -> dict[str, object]:
        values: dict[str, object] = {
            "received_frames": self._received,
            "sequence_gaps": self._gaps,
            "frame_bytes": self._bytes,
        }
        if len(self._device_s) > 1:
            span_s = self._device_s[-1] - self._device_s[0]
            values["frame_rate_hz"] = f"{(len(self._device_s) - 1) / max(span_s, 1e-6):.1f}"
        if self._age_s:
            ages = sorted(self._age_s)
            values["frame_age_ms"] = f"{1e3 * ages[len(ages) // 2]:.2f}"
            values["oldest_frame_ms"] = f"{1e3 * ages[-1]:.2f}"
        if self._clock is not None and self._clock.known:
            values["clock_offset_s"] = f"{self._clock.offset_s:.6f}"
            values["clock_uncertainty_ms"] = f"{1e3 * self._clock.uncertainty_s(now_s):.3f}"
            values["round_trip_ms"] = f"{1e3 * self._clock.round_trip_s:.3f}"
        return values


def page_addresses(parameters: WebxrParameters, port: int) -> list[str]:
    """Where the page is, as a browser is told; other machines' addresses first where they may come."""
    scheme = "https" if parameters.tls else "http"
    hosts = [parameters.host]
    if parameters.host in ("0.0.0.0", "::"):
        hosts = [str(a) for a in host_addresses() if not a.is_loopback] or ["localhost"]
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]


def pairing_text(parameters: WebxrParameters) -> str:
    """For the terminal: where to point the headset's browser, with the token and as a QR code; never logged.

    Raises `SourceError` where the token's folder cannot be used.
    """
    pairing: Pairing = load_pairing(parameters.path)
    addresses = page_addresses(parameters, parameters.port)
    if parameters.is_loopback and parameters.trusts_loopback:
        return f"headset: open {addresses[0]} in a browser of this machine (adb reverse for a cable)"
    lines = ["headset: open one of these in its browser; it asks once whether the certificate is trusted"]
    lines += [f"  {pairing.url(address)}" for address in addresses]
    try:
        import io

        import segno

        code = io.StringIO()
        segno.make(pairing.url(addresses[0]), micro=False).terminal(out=code, compact=True)
        lines.append(code.getvalue())
    except ImportError:
        lines.append("(pip install segno shows this as a QR code)")
    return "\n".join(lines)
