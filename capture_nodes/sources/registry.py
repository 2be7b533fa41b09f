"""The trainer sources by name, each with the parameters it takes.

A new source is one entry here; its module is imported when it is opened, so that a missing driver
of one source does not hinder the others. `SOURCES` are played, `LIVE_SOURCES` are worn by somebody.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capture_nodes.sources.source import LiveSource, SourceError, TrainerSource
from capture_nodes.stamp_clock import StampClock


@dataclass(frozen=True)
class SourceOptions:
    """What a user may say about a source, before the source itself has judged it.

    Zero and empty mean "not said": a ROS parameter has no other way to be absent. address (`host:port`):
    where a live source listens, or whom it calls; peers: who may send to it; skeleton: a file that names its
    joints. speed: of a recording, 0 is step by step. rate_hz: how often a source is asked that has no rate of
    its own; openxr: settings of `OpenXrParameters`.
    """

    motion: str = ""
    scale: float = 0.0
    loop: bool = False
    up_axis: str = "auto"
    stature_m: float = 1.75
    address: str = ""
    speed: float = 1.0
    peers: str = ""
    skeleton: str = ""
    rate_hz: float = 90.0
    openxr: Mapping[str, float] = field(default_factory=dict)


SourceFactory = Callable[[SourceOptions], TrainerSource]
LiveFactory = Callable[[SourceOptions, StampClock], LiveSource]


def _open_bvh(options: SourceOptions) -> TrainerSource:
    from capture_nodes.sources.bvh import BvhParameters, BvhSource

    return BvhSource(
        BvhParameters(
            motion=Path(options.motion),
            scale_m_per_unit=options.scale if options.scale != 0.0 else None,
            loop=options.loop,
            up_axis=options.up_axis,
        )
    )


def _open_script(options: SourceOptions) -> TrainerSource:
    from capture_nodes.sources.person import Person
    from capture_nodes.sources.script import ScriptSource, reach_and_circle

    _takes_no_file("script", options)
    return ScriptSource(reach_and_circle(Person.of_stature(options.stature_m)), loop=options.loop)


def _open_bag(options: SourceOptions) -> TrainerSource:
    from capture_nodes.sources.bag import BagParameters, BagSource

    if options.scale != 0.0 or options.up_axis != "auto":
        raise SourceError("scale, up_axis: an episode is in metres with z up; only source:=bvh takes them")
    return BagSource(BagParameters(Path(options.motion), options.speed, options.loop))


SOURCES: Mapping[str, SourceFactory] = {"bvh": _open_bvh, "script": _open_script, "bag": _open_bag}


def _make_mocap(options: SourceOptions, stamps: StampClock) -> LiveSource:
    from capture_nodes.sources.mocap import MocapSource, mocap_parameters

    if options.motion:
        raise SourceError(f"motion:={options.motion}: source:=mocap takes no file; source:=bvh does")
    parameters = mocap_parameters(
        options.address, options.peers, options.skeleton, options.scale, options.up_axis
    )
    return MocapSource(parameters, stamps.stamp)


def _make_webxr(options: SourceOptions, stamps: StampClock) -> LiveSource:
    from capture_nodes.sources.webxr import DEFAULT_ADDRESS, WebxrParameters, WebxrSource

    _takes_no_file("webxr", options)
    return WebxrSource(WebxrParameters(options.address or DEFAULT_ADDRESS), stamps)


def _make_openxr(options: SourceOptions, stamps: StampClock) -> LiveSource:
    from capture_nodes.sources.openxr.live import OpenXrSource
    from capture_nodes.sources.openxr.parameters import OpenXrParameters

    problems = []
    if options.motion:
        problems.append(f"motion:={options.motion}: source:=openxr takes no file; source:=bvh does")
    if options.address:
        problems.append(
            f"address:={options.address}: source:=openxr asks this machine's OpenXR runtime; XR_RUNTIME_JSON "
            "names another one"
        )
    try:
        parameters = OpenXrParameters(rate_hz=options.rate_hz, stature_m=options.stature_m, **options.openxr)
    except SourceError as error:
        raise SourceError(*problems, *error.problems) from None
    if problems:
        raise SourceError(*problems)
    return OpenXrSource(parameters, stamps)


def _takes_no_file(name: str, options: SourceOptions) -> None:
    if options.motion:
        raise SourceError(f"motion:={options.motion}: source:={name} takes no file; source:=bvh does")
    if options.up_axis != "auto":
        raise SourceError(f"up_axis:={options.up_axis}: source:={name} has no file to turn; source:=bvh does")


LIVE_SOURCES: Mapping[str, LiveFactory] = {
    "openxr": _make_openxr,
    "webxr": _make_webxr,
    "mocap": _make_mocap,
}

# Who wears these has nothing in their hands to hold.
EMPTY_HANDED_SOURCES = frozenset({"mocap"})

# Nobody is in these: no deadman is held, and whom they show is not who is at the station.
PLAYED_SOURCES = frozenset({"bvh", "script", "bag"})


def known_sources() -> tuple[str, ...]:
    return (*SOURCES, *LIVE_SOURCES)


def open_source(name: str, options: SourceOptions) -> TrainerSource:
    """Open a played source; raises `SourceError` with the choices or everything wrong in its options."""
    factory = SOURCES.get(name)
    if factory is None:
        raise _unknown(name)
    if options.address:
        raise SourceError(f"address:={options.address}: source:={name} has no line to anybody")
    if options.speed != 1.0 and name != "bag":
        raise SourceError(f"speed:={options.speed:g}: only source:=bag has a speed")
    return factory(options)


def live_source(name: str, options: SourceOptions, stamps: StampClock) -> LiveSource:
    """A live source, whose device is opened by entering it. Raises `SourceError` as `open_source` does."""
    factory = LIVE_SOURCES.get(name)
    if factory is None:
        raise _unknown(name)
    if options.speed != 1.0:
        raise SourceError(f"speed:={options.speed:g}: only source:=bag has a speed")
    if name != "mocap" and (options.peers or options.skeleton):
        raise SourceError(f"peers, skeleton: only source:=mocap takes them, not source:={name}")
    return factory(options, stamps)


def check_source(name: str, options: SourceOptions) -> None:
    """Whether a source can be used as asked, without touching a device. Raises `SourceError`."""
    if name in LIVE_SOURCES:
        live_source(name, options, StampClock(time.time_ns))
    else:
        open_source(name, options)


def _unknown(name: str) -> SourceError:
    near = difflib.get_close_matches(name, known_sources(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SourceError(f"unknown source {name!r}.{hint} Known sources: {', '.join(known_sources())}")
