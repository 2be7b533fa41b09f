"""Live source `mocap`: a motion-capture suit whose software sends BVH over TCP or UDP.

`tcp://host:port` calls the software (and calls again when the line drops), `tcp-listen://host:port` waits to
be called, `udp://host:port` takes datagrams. A thread of its own reads; nobody ever waits for it.

**Stamps.** A frame is stamped with the time it arrived. Where frames are numbered and the sender says how
long one takes, with number x frame time on the sender's clock, whose offset is that of the quickest frames
of the last seconds (`retargeting.clock_offset`): the network's jitter is then gone, its shortest delay stays.

**Strangers.** A socket that others can reach must name who may send (`peers:=`); a second sender is refused
while the first one speaks. What limits a line, a header and a skeleton is in `bvh_stream`; beyond
`MOST_FRAMES_HZ` frames are dropped and counted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from capture_nodes.sources.bvh_stream import BvhStream, StreamFrame, StreamHeader
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.suit_body import SuitBody
from capture_nodes.sources.suit_skeleton import SuitSkeleton, load_suit_skeleton
from retargeting.clock_offset import ClockOffset
from retargeting.errors import InvalidMotion
from retargeting.motion_frame import Controls, MotionFrame

USUAL_ADDRESS = "tcp://127.0.0.1:7001"
MOST_FRAMES_HZ = 500.0
ANYBODY = "any"
_ADDRESS = re.compile(r"^(?:(tcp|tcp-listen|udp)://)?(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5})$")
# How soon a stop is heard, and how long the first try to call again waits.
_TICK_S = 0.1
_CALLING_S, _AGAIN_S, _LONGEST_AGAIN_S = 2.0, 0.25, 2.0
# A sender that is silent for this long has given its place up; a line of ours is then dialled anew, later:
# software that is paused says nothing either.
_SILENT_S, _DIALLED_ANEW_S = 1.0, 5.0
# A sender whose machine is gone is found out by the system (s, s, number): nobody else may ever call.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))
_RECEIVED_BYTES = 1 << 16
# A number this far from the one before belongs to a sender that has begun anew.
_ANEW_FRAMES = 1000
_GAP_PERIODS = 1.5

StampOf = Callable[[float], int]


@dataclass(frozen=True)
class MocapParameters:
    """Where the stream comes from and how it is read; raises `SourceError` with every problem.

    address: `tcp://`, `tcp-listen://` or `udp://` and host:port (without: tcp); peers: addresses, separated
    by commas, that may send to a socket that waits, `any` for everyone; empty goes with a loopback address.
    """

    address: str = ""
    peers: str = ""
    skeleton: SuitSkeleton = field(default_factory=SuitSkeleton)

    def __post_init__(self) -> None:
        found = _ADDRESS.match(self.address or USUAL_ADDRESS)
        problems: list[str] = []
        if found is None or not 0 <= int(found.group(3)) <= 65535:
            raise SourceError(
                f"address:={self.address}: tcp://host:port, tcp-listen://host:port or udp://host:port "
                "is expected"
            )
        try:
            self.host.encode("idna")
        except UnicodeError:
            problems.append(f"address:={self.address}: {self.host!r} is no host's name")
        for peer in self.allowed or ():
            try:
                ipaddress.ip_address(peer)
            except ValueError:
                problems.append(f"peers:={self.peers}: {peer!r} is no address (or {ANYBODY})")
        if self.waits and not _is_loopback(self.host) and not self.peers:
            problems.append(
                f"address:={self.address}: anybody on the network could move the arms; name who may send "
                f"with peers:=<addresses> (or {ANYBODY}), or give a loopback address"
            )
        if problems:
            raise SourceError(*problems)

    @property
    def _parts(self) -> tuple[str, str, int]:
        found = _ADDRESS.match(self.address or USUAL_ADDRESS)
        if found is None:
            raise SourceError(f"address:={self.address}: host:port is expected")
        return found.group(1) or "tcp", found.group(2).strip("[]"), int(found.group(3))

    @property
    def kind(self) -> str:
        return self._parts[0]

    @property
    def host(self) -> str:
        return self._parts[1]

    @property
    def port(self) -> int:
        return self._parts[2]

    @property
    def waits(self) -> bool:
        """Whether others come to us."""
        return self.kind != "tcp"

    @property
    def allowed(self) -> frozenset[str] | None:
        """Who may send; None: everyone."""
        if self.peers == ANYBODY:
            return None
        return frozenset(peer.strip() for peer in self.peers.split(",") if peer.strip())

    def may_send(self, host: str) -> bool:
        allowed = self.allowed
        if allowed is None:
            return True
        return _plain(host) in map(_plain, allowed) if allowed else _is_loopback(_plain(host))


def mocap_parameters(address: str, peers: str, skeleton: str, scale: float, up_axis: str) -> MocapParameters:
    """Parameters from what a user said; `scale` 0 and `up_axis` auto leave it to the file or to be found."""
    said = load_suit_skeleton(Path(skeleton)) if skeleton else SuitSkeleton()
    found = SuitSkeleton(
        joints=said.joints,
        hierarchy=said.hierarchy,
        actor=said.actor,
        up_axis=up_axis if up_axis != "auto" else said.up_axis,
        scale_m_per_unit=scale if scale != 0.0 else said.scale_m_per_unit,
    )
    return MocapParameters(address, peers, found)


@dataclass
class _Figures:
    frames: int = 0
    gaps: int = 0
    missing_frames: int = 0
    late_frames: int = 0
    dropped_frames: int = 0
    unusable_frames: int = 0
    connections: int = 0
    refused_peers: int = 0
    largest_jitter_s: float = 0.0
    rate_hz: float = 0.0
    line: str = "not opened"
    problem: str = ""


class MocapSource:
    """See the module. `stamp_of` gives the stamp (ns) of a time on the steady clock, later at every call."""

    def __init__(
        self,
        parameters: MocapParameters,
        stamp_of: StampOf,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parameters, self._stamp_of, self._now_s = parameters, stamp_of, now_s
        self._name = f"{parameters.kind}://{parameters.host}:{parameters.port}"
        said = parameters.skeleton
        self._stream = BvhStream(self._name, said.hierarchy, said.actor)
        self._frames = _Timing()
        self._body: SuitBody | None = None
        self._header: StreamHeader | None = None
        # Why the skeleton at hand cannot be used: it is not tried again with every frame.
        self._refusal: SourceError | None = None
        self._figures = _Figures()
        self._fresh = threading.Condition()
        self._newest: MotionFrame | None = None
        self._last: MotionFrame | None = None
        self._stopped = threading.Event()
        self._server: socket.socket | None = None
        self._thread: threading.Thread | None = None

    # ---- any thread

    @property
    def report(self) -> Mapping[str, str]:
        return {"suit": f"BVH from {self._name}", **({} if self._body is None else self._body.report)}

    @property
    def bound_port(self) -> int:
        """The port it waits at, once opened (asked for as 0: one that is free)."""
        return 0 if self._server is None else int(self._server.getsockname()[1])

    def wait_frame(self, timeout_s: float) -> MotionFrame | None:
        with self._fresh:
            if self._newest is None:
                self._fresh.wait(timeout_s)
            frame, self._newest = self._newest, None
            return frame

    def rumble(self, side: str, intensity: float) -> None:
        """A suit has nothing to rumble with."""

    def diagnostics(self) -> Mapping[str, object]:
        figures, counts = self._figures, self._stream.counts
        return {
            "line": figures.line,
            "suit_frames": figures.frames,
            "suit_rate_hz": f"{figures.rate_hz:.1f}",
            "gaps": figures.gaps,
            "missing_frames": figures.missing_frames,
            "late_frames": figures.late_frames,
            "dropped_frames": figures.dropped_frames,
            "unusable_frames": figures.unusable_frames,
            "refused_lines": counts.refused_lines,
            "other_actors": counts.other_actors,
            "connections": figures.connections,
            "refused_peers": figures.refused_peers,
            "stamps": self._frames.words,
            "largest_jitter_ms": f"{figures.largest_jitter_s * 1e3:.1f}",
            "problem": figures.problem or counts.problem,
        }

    def __enter__(self) -> MocapSource:
        if self._parameters.waits:
            self._server = self._bind()
        self._thread = threading.Thread(target=self._run, name="mocap", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0 * _CALLING_S)
        if self._server is not None:
            self._server.close()

    # ---- the line (own thread)

    def _bind(self) -> socket.socket:
        said = self._parameters
        kind = socket.SOCK_DGRAM if said.kind == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in said.host else socket.AF_INET
        server = socket.socket(family, kind)
        try:
            if kind == socket.SOCK_STREAM:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((said.host, said.port))
            if kind == socket.SOCK_STREAM:
                server.listen(1)
            server.settimeout(_TICK_S)
        except OSError as error:
            server.close()
            raise SourceError(f"address:={self._name}: {error.strerror or error}") from error
        return server

    def _run(self) -> None:
        """Whatever goes wrong is told and tried again: without this thread a node would wait for good."""
        again_s = _AGAIN_S
        while not self._stopped.is_set():
            try:
                heard = self._hear_one()
            except Exception as error:
                self._tell_failure(error)
                heard = False
            if heard:
                again_s = _AGAIN_S
                continue
            self._stopped.wait(again_s)
            again_s = min(2.0 * again_s, _LONGEST_AGAIN_S)

    def _hear_one(self) -> bool:
        """One sender from coming to going, False where none could be reached."""
        if self._parameters.kind == "udp" and self._server is not None:
            self._take_datagrams(self._server)
            return True
        line = self._connect()
        if line is None:
            # Who waits to be called has waited already.
            return self._server is not None
        while line is not None:
            with contextlib.closing(line):
                line = self._take_stream(line)
            self._end_session()
        return True

    def _tell_failure(self, error: Exception) -> None:
        said = f"{self._name} failed: {type(error).__name__}: {error}"
        # Not every log takes half characters.
        figures, told = self._figures, said.encode("utf-8", "replace").decode("utf-8")
        if figures.problem != told:
            logging.getLogger("mocap").error("mocap: %s; it is tried again", told)
            logging.getLogger("mocap").debug("mocap: where", exc_info=error)
        figures.problem = told
        figures.line = "lost: it failed"
        self._end_session()

    def _connect(self) -> socket.socket | None:
        """The next line to a sender, None where there is none yet."""
        said, figures = self._parameters, self._figures
        try:
            if self._server is None:
                line = socket.create_connection((said.host, said.port), timeout=_CALLING_S)
            else:
                line, peer = self._server.accept()
                if not said.may_send(peer[0]):
                    figures.refused_peers += 1
                    figures.problem = f"{peer[0]} may not send here (peers:=)"
                    line.close()
                    return None
        except TimeoutError:
            figures.line = "waiting"
            return None
        except OSError as error:
            figures.line = f"waiting: {error.strerror or error}"
            return None
        return line

    def _take_stream(self, line: socket.socket) -> socket.socket | None:
        """Until the line ends; that of whoever takes its place, if somebody does."""
        line.settimeout(_TICK_S)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            line.setsockopt(socket.IPPROTO_TCP, option, value)
        figures = self._figures
        figures.connections += 1
        figures.line = "connected"
        self._begin_session()
        heard_s = self._now_s()
        while not self._stopped.is_set():
            silent_s = self._now_s() - heard_s
            if self._server is None and silent_s > _DIALLED_ANEW_S:
                figures.line = f"silent for {_DIALLED_ANEW_S:g} s: calling again"
                return None
            if silent_s > _SILENT_S:
                figures.line = f"silent for {_SILENT_S:g} s"
            if self._server is not None:
                successor = self._next_caller(self._server, may_come=silent_s > _SILENT_S)
                if successor is not None:
                    return successor
            try:
                data = line.recv(_RECEIVED_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                figures.line = f"lost: {error.strerror or error}"
                return None
            if not data:
                figures.line = "the sender hung up"
                return None
            heard_s = self._now_s()
            figures.line = "connected"
            self._take(data, heard_s)
        return None

    def _next_caller(self, server: socket.socket, *, may_come: bool) -> socket.socket | None:
        """Whoever else calls; turned away while somebody sends."""
        server.setblocking(False)
        try:
            other, peer = server.accept()
        except OSError:
            return None
        finally:
            server.settimeout(_TICK_S)
        if may_come and self._parameters.may_send(peer[0]):
            return other
        other.close()
        self._figures.refused_peers += 1
        return None

    def _take_datagrams(self, server: socket.socket) -> None:
        """Until the sender at hand falls silent."""
        sender: tuple[str, int] | None = None
        heard_s = -math.inf
        self._figures.line = "waiting"
        while not self._stopped.is_set():
            if sender is not None and self._now_s() - heard_s > _SILENT_S:
                self._figures.line = f"silent for {_SILENT_S:g} s"
                self._end_session()
                return
            try:
                data, address = server.recvfrom(_RECEIVED_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                self._figures.line = f"lost: {error.strerror or error}"
                self._stopped.wait(_TICK_S)
                continue
            peer = (str(address[0]), int(address[1]))
            if not self._parameters.may_send(peer[0]) or (sender is not None and peer != sender):
                self._figures.refused_peers += 1
                continue
            if sender is None:
                sender = peer
                self._figures.connections += 1
                self._figures.line = "connected"
                self._begin_session()
            heard_s = self._now_s()
            # A datagram ends what it holds.
            self._take(data + b"\n", heard_s)

    def _begin_session(self) -> None:
        self._stream.restart()
        self._frames.restart()

    def _end_session(self) -> None:
        """One last frame says that nothing is held any more."""
        if self._last is not None:
            self._give(MotionFrame(self._last.stamp_ns, self._last.poses, Controls()))
            self._last = None

    # ---- what came in (own thread)

    def _take(self, data: bytes, arrival_s: float) -> None:
        for found in self._stream.feed(data):
            if isinstance(found, StreamHeader):
                self._header, self._refusal = found, None
                if self._body is not None and self._body.joints != found.joints:
                    self._body = None
            else:
                self._take_frame(found, arrival_s)

    def _take_frame(self, frame: StreamFrame, arrival_s: float) -> None:
        figures, header = self._figures, self._header
        if header is None:
            return
        moment_s = self._frames.moment_s(frame.number, arrival_s, header.frame_time_s, figures)
        if moment_s is None:
            return
        try:
            if self._body is None:
                self._body = self._make_body(header, frame)
            poses = self._body.poses(frame.values)
            stamp_ns = self._stamp_of(moment_s)
            motion = MotionFrame(stamp_ns, poses)
        except (SourceError, InvalidMotion) as error:
            figures.unusable_frames += 1
            figures.problem = f"{self._name}, line {frame.line}: {error}"
            return
        figures.frames += 1
        figures.problem = ""
        self._last = motion
        self._give(motion)

    def _make_body(self, header: StreamHeader, frame: StreamFrame) -> SuitBody:
        """Raises `SourceError`, once and for all of the frames of a skeleton that cannot be used."""
        if self._refusal is not None:
            raise self._refusal
        try:
            return SuitBody(self._name, header.joints, frame.values, self._parameters.skeleton)
        except SourceError as error:
            self._refusal = error
            raise

    def _give(self, frame: MotionFrame) -> None:
        with self._fresh:
            self._newest = frame
            self._fresh.notify()


class _Timing:
    """When each frame was, from when it came and its number."""

    def __init__(self) -> None:
        self.words = "time of arrival"
        self.restart()

    def restart(self) -> None:
        """Another session: its numbers have nothing to do with those before."""
        self._offset = ClockOffset()
        self._number: int | None = None
        self._arrival_s = self._moment_s = -math.inf
        self._second_s, self._in_second = -math.inf, 0

    def moment_s(
        self, number: int | None, arrival_s: float, frame_time_s: float | None, figures: _Figures
    ) -> float | None:
        """Steady time of a frame; None for one that is not to be used: late, twice, or one too many."""
        if arrival_s - self._second_s >= 1.0:
            if math.isfinite(self._second_s):
                figures.rate_hz = self._in_second / (arrival_s - self._second_s)
            self._second_s, self._in_second = arrival_s, 0
        self._in_second += 1
        if self._in_second > MOST_FRAMES_HZ:
            figures.dropped_frames += 1
            return None
        if not self._is_next(number, arrival_s, frame_time_s, figures):
            figures.late_frames += 1
            return None
        self._number, self._arrival_s = number, arrival_s
        moment_s = arrival_s
        if number is not None and frame_time_s is not None:
            self.words = f"number x {frame_time_s * 1e3:.3g} ms, offset of the quickest"
            moment_s = min(arrival_s, self._offset.sent_s(number * frame_time_s, arrival_s))
            figures.largest_jitter_s = max(figures.largest_jitter_s, arrival_s - moment_s)
        else:
            self.words = "time of arrival"
        # Never back, whatever the numbers say.
        self._moment_s = max(moment_s, self._moment_s + 1e-6)
        return self._moment_s

    def _is_next(
        self, number: int | None, arrival_s: float, frame_time_s: float | None, figures: _Figures
    ) -> bool:
        if number is not None and self._number is not None:
            ahead = number - self._number
            if abs(ahead) > _ANEW_FRAMES:
                self._offset = ClockOffset()
                return True
            if ahead <= 0:
                return False
            figures.gaps += ahead > 1
            figures.missing_frames += ahead - 1
        elif frame_time_s is not None and math.isfinite(self._arrival_s):
            figures.gaps += arrival_s - self._arrival_s > _GAP_PERIODS * frame_time_s
        return True


def _plain(host: str) -> str:
    """One form of an address: an IPv4 one that came over an IPv6 socket is still that."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
