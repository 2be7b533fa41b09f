"""The trainer sources by name, each with the parameters it takes.

A new source is one entry here; its module is imported when it is opened, so that a missing driver
of one source does not hinder the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.sources.source import SourceError, TrainerSource


@dataclass(frozen=True)
class SourceOptions:
    """What a user may say about a source, before the source itself has judged it.

    Zero and empty mean "not said": a ROS parameter has no other way to be absent.
    """

    motion: str = ""
    scale: float = 0.0
    loop: bool = False
    up_axis: str = "auto"
    stature_m: float = 1.75


SourceFactory = Callable[[SourceOptions], TrainerSource]


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

    if options.motion:
        raise SourceError(f"motion:={options.motion}: source:=script takes no file; source:=bvh does")
    if options.up_axis != "auto":
        raise SourceError(f"up_axis:={options.up_axis}: source:=script has no file to turn; source:=bvh does")
    return ScriptSource(reach_and_circle(Person.of_stature(options.stature_m)), loop=options.loop)


SOURCES: Mapping[str, SourceFactory] = {"bvh": _open_bvh, "script": _open_script}

# Nobody is in these: no deadman is held, and whom they show is not who is at the station.
PLAYED_SOURCES = frozenset({"bvh", "script"})


def open_source(name: str, options: SourceOptions) -> TrainerSource:
    """Open a source; raises `SourceError` with the choices or with everything wrong in its options."""
    factory = SOURCES.get(name)
    if factory is None:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SourceError(f"unknown source {name!r}.{hint} Known sources: {', '.join(SOURCES)}")
    return factory(options)
