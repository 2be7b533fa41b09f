"""Does everything in a bag hang in one tree of frames, at every time?

Every robot link, the `trainer` frame and every `frame_id` of a message must lead to one root at the time
of each of its messages (links: at the times of all stamped messages): every transform on the way is
static, or two recorded ones bracket the time, as a viewer needs to interpolate. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.attached_model import attached_model, has_model
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.kinematics import rotation_from_quaternion, rotation_vector
from episodes.result import CheckResult, listed
from episodes.samples import TransformSamples

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

NAME = "frames"
TRAINER = "trainer"
# Messages of these types mean nothing without the frame they are in.
GEOMETRIC_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/WrenchStamped",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/MultiDOFJointState",
)


@dataclass(frozen=True)
class FrameBounds:
    """`bracket_s`: how far apart the two transforms around a time may be.

    `edge_s`: messages this much before the first or after the last transform are forgiven (and counted).
    """

    bracket_s: float = 0.1
    edge_s: float = 0.0


@dataclass(frozen=True)
class _Edge:
    """How a child hangs on its parent. `stamp_ns` is None for a static transform."""

    parent: str
    stamp_ns: IntArray | None
    pose: Array


@dataclass(frozen=True)
class Resolution:
    """Of one frame at many times: how many cannot be resolved and why (the first reason met)."""

    root: str
    unresolved: int
    at_edges: int
    reason: str


class FrameTree:
    """All transforms of a bag; `problems` lists what is wrong with the tree itself."""

    def __init__(self, static: Sequence[TransformSamples], dynamic: Sequence[TransformSamples]) -> None:
        self.problems: list[str] = []
        self._edges: dict[str, _Edge] = {}
        for samples in static:
            # A later static transform replaces an earlier one, for all times.
            self._add(samples.child, _Edge(samples.parent, None, samples.pose[-1:]), "/tf_static")
        for samples in dynamic:
            order = np.argsort(samples.stamp_ns, kind="stable")
            self._add(
                samples.child, _Edge(samples.parent, samples.stamp_ns[order], samples.pose[order]), "/tf"
            )
        for samples in (*static, *dynamic):
            if not np.isfinite(samples.pose).all():
                self.problems.append(f"transform {samples.parent} -> {samples.child} is not finite")
            norm = np.linalg.norm(samples.pose[:, 3:], axis=1)
            if np.any(np.abs(norm - 1.0) > 1e-3):
                self.problems.append(
                    f"transform {samples.parent} -> {samples.child} has a quaternion not of norm 1"
                )

    def _add(self, child: str, edge: _Edge, topic: str) -> None:
        there = self._edges.get(child)
        if there is not None:
            kind = "two parents" if there.parent != edge.parent else "a static and a moving transform"
            self.problems.append(
                f"frame {child!r} has {kind}: {there.parent!r} and {edge.parent!r} ({topic})"
            )
            return
        self._edges[child] = edge

    @property
    def frames(self) -> frozenset[str]:
        return frozenset(self._edges) | {edge.parent for edge in self._edges.values()}

    def _way(self, frame: str) -> tuple[str, list[tuple[str, _Edge]]] | None:
        """The root above a frame and the transforms on the way, or None on a loop."""
        way: list[tuple[str, _Edge]] = []
        while frame in self._edges:
            if len(way) > len(self._edges):
                return None
            way.append((frame, self._edges[frame]))
            frame = self._edges[frame].parent
        return frame, way

    def resolve(self, frame: str, times_ns: IntArray, bounds: FrameBounds) -> Resolution:
        """Whether `frame` leads to a root at every time."""
        if frame not in self.frames:
            return Resolution("", len(times_ns), 0, "is in no transform")
        found = self._way(frame)
        if found is None:
            return Resolution("", len(times_ns), 0, "hangs on a loop of transforms")
        root, way = found
        failed = np.zeros(len(times_ns), dtype=bool)
        at_edge = np.zeros(len(times_ns), dtype=bool)
        reason = ""
        checked: set[int] = set()
        for child, edge in way:
            stamps = edge.stamp_ns
            if stamps is None or id(stamps) in checked:
                continue
            checked.add(id(stamps))
            before, after = stamps[0] - times_ns, times_ns - stamps[-1]
            outside = np.maximum(before, after)
            edge_ns = int(bounds.edge_s * 1e9)
            right = np.clip(np.searchsorted(stamps, times_ns, side="left"), 0, len(stamps) - 1)
            left = np.clip(right - 1, 0, len(stamps) - 1)
            exact = stamps[right] == times_ns
            wide = ~exact & (outside <= 0) & (stamps[right] - stamps[left] > int(bounds.bracket_s * 1e9))
            beyond = outside > edge_ns
            at_edge |= (outside > 0) & ~beyond
            bad = beyond | wide
            if np.any(bad & ~failed) and not reason:
                reason = _reason(edge.parent, child, outside, wide, beyond)
            failed |= bad
        return Resolution(
            root, int(np.count_nonzero(failed)), int(np.count_nonzero(at_edge & ~failed)), reason
        )

    def transform(self, frame: str, time_ns: int) -> tuple[Array, Array]:
        """Rotation ``(3, 3)`` and position ``(3,)`` of a frame in its root, interpolated (for a picture)."""
        found = self._way(frame)
        if found is None:
            raise EpisodeError(None, f"frame {frame!r} hangs on a loop of transforms")
        rotation, position = np.eye(3), np.zeros(3)
        for _, edge in found[1]:
            here_rotation, here_position = _interpolated(edge, time_ns)
            position = here_position + here_rotation @ position
            rotation = here_rotation @ rotation
        return rotation, position


def _interpolated(edge: _Edge, time_ns: int) -> tuple[Array, Array]:
    rotation = rotation_from_quaternion(edge.pose[:, 3:]) if len(edge.pose) == 1 else None
    if rotation is not None or edge.stamp_ns is None:
        return rotation_from_quaternion(edge.pose[-1:, 3:])[0], edge.pose[-1, :3]
    right = int(np.clip(np.searchsorted(edge.stamp_ns, time_ns), 1, len(edge.stamp_ns) - 1))
    begin, end = edge.stamp_ns[right - 1], edge.stamp_ns[right]
    share = float(np.clip((time_ns - begin) / max(1, end - begin), 0.0, 1.0))
    first, second = rotation_from_quaternion(edge.pose[right - 1 : right + 1, 3:])
    turn = share * rotation_vector(first.T @ second)
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle if angle > 1e-12 else np.zeros(3)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    step = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    position = (1.0 - share) * edge.pose[right - 1, :3] + share * edge.pose[right, :3]
    return first @ step, position


def _reason(
    parent: str, child: str, outside: IntArray, wide: NDArray[np.bool_], beyond: NDArray[np.bool_]
) -> str:
    if np.any(beyond):
        furthest = float(outside.max()) * 1e-6
        return f"{parent} -> {child} was not recorded around its time (up to {furthest:.1f} ms outside)"
    return f"{parent} -> {child} has gaps at {int(np.count_nonzero(wide))} times"


def frame_tree(bag: Bag) -> FrameTree:
    """The recorded tree. Raises `EpisodeError` where there are no transforms."""
    static = bag.transforms("/tf_static") if "/tf_static" in bag.streams else []
    dynamic = bag.transforms("/tf") if "/tf" in bag.streams else []
    if not static and not dynamic:
        raise EpisodeError(bag.path, "holds no transforms (/tf, /tf_static)")
    return FrameTree(static, dynamic)


def _all_times(bag: Bag) -> IntArray:
    stamps = [s.stamp_ns for s in bag.streams.values() if s.stamp_ns is not None and s.frame_ids != ("",)]
    return np.unique(np.concatenate(stamps)) if stamps else np.empty(0, dtype=np.int64)


def check_frames(bag: Bag, bounds: FrameBounds | None = None) -> CheckResult:
    """The frame check of an episode. Raises `EpisodeError` where transforms cannot be read."""
    bounds = FrameBounds() if bounds is None else bounds
    try:
        tree = frame_tree(bag)
    except EpisodeError as error:
        if "holds no transforms" not in error.message:
            raise
        return CheckResult(NAME, (error.message,))
    problems = list(tree.problems)
    uses: dict[str, list[IntArray]] = {}
    users: dict[str, list[str]] = {}
    for topic, stream in bag.streams.items():
        if stream.stamp_ns is None:
            continue
        for index, frame in enumerate(stream.frame_ids):
            if frame:
                uses.setdefault(frame, []).append(stream.stamp_ns[stream.frame_index == index])
                users.setdefault(frame, []).append(topic)
            elif stream.type in GEOMETRIC_TYPES:
                count = int(np.count_nonzero(stream.frame_index == index))
                problems.append(f"{topic}: {count} messages without a frame_id")

    every = _all_times(bag)
    links = []
    if has_model(bag):
        links = [f"{bag.robot}/{link}" for link in attached_model(bag).tree.links]
    trainer = [TRAINER] if any(topic.startswith("/trainer/") for topic in bag.streams) else []
    wanted: Mapping[str, IntArray] = {
        **{frame: np.concatenate(times) for frame, times in uses.items()},
        **dict.fromkeys([*links, *trainer], every),
    }
    roots: dict[str, list[str]] = {}
    unused: list[tuple[str, Resolution]] = []
    edges = 0
    figures: dict[str, Any] = {}
    for frame, times in sorted(wanted.items()):
        found = tree.resolve(frame, times, bounds)
        edges += found.at_edges
        if found.root:
            roots.setdefault(found.root, []).append(frame)
        figures[frame] = {"root": found.root, "times": len(times), "unresolved": found.unresolved}
        if found.unresolved and frame in users:
            problems.append(
                f"frame {frame!r} (used by {listed(users[frame], 3)}): {found.unresolved} of {len(times)} "
                f"times do not resolve: {found.reason}"
            )
        elif found.unresolved:
            unused.append((frame, found))
    if unused:
        worst_frame, worst = max(unused, key=lambda entry: entry[1].unresolved)
        problems.append(
            f"{listed([repr(frame) for frame, _ in unused], 3)}: up to {worst.unresolved} of {len(every)} "
            f"times do not resolve; {worst_frame!r}: {worst.reason}"
        )
    if len(roots) > 1:
        shown = [f"{root!r} ({listed(frames, 3)})" for root, frames in sorted(roots.items())]
        problems.append(f"{len(roots)} roots instead of one: {'; '.join(shown)}")
    notes = (f"{edges} times lie up to {bounds.edge_s:g} s outside the transforms",) if edges else ()
    return CheckResult(
        NAME,
        tuple(problems),
        {"roots": sorted(roots), "links": len(links), "times": len(every), "frames": figures},
        notes,
    )
