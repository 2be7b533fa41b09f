"""One PNG that shows an episode at a glance.

From top to bottom, all over one time axis: what the cameras saw, the joints that moved most (commanded
and measured), the force at the wrists, the touch of the pads, the height of the objects. The middle of
each camera frame lies above its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from episodes.attached_model import AttachedModel, attached_model, has_model
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.grasp_check import OFF_TABLE_M, object_motion
from episodes.message_types import IMAGE, JOINT_STATE, POSE_STAMPED, WRENCH_STAMPED
from episodes.samples import JointSamples
from episodes.text_table import bytes_text, date_text
from episodes.video import cameras, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

WIDTH_IN = 15.0
DPI = 110
LEFT, RIGHT = 0.065, 0.865
FRAMES = 8
JOINTS = 6
# Okabe and Ito: told apart by every eye.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D5D5D", "#8C6D1F")
INK, FAINT = "#222222", "#8A8A8A"


@dataclass(frozen=True)
class _Row:
    """One strip of the picture: its height in inches and what draws it."""

    height_in: float
    kind: str
    topic: str = ""


def draw_picture(bag: Bag, output: Path | None = None) -> Path:
    """Write the picture of an episode, by default beside it as ``<file>.png``; returns its path.

    Raises `EpisodeError` where the file holds nothing to draw or the picture cannot be written.
    """
    from matplotlib import rc_context

    output = bag.path.with_suffix(".png") if output is None else output
    rows = _rows(bag)
    if not rows:
        raise EpisodeError(bag.path, "holds no camera, joint, force or touch to draw")
    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 11.0,
        "axes.edgecolor": "#BBBBBB",
        "axes.labelcolor": INK,
        "axes.titlesize": 11.5,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E9E9E9",
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
    with rc_context(style):
        figure = _draw(bag, rows)
        try:
            figure.savefig(output, dpi=DPI)
        except OSError as error:
            raise EpisodeError(output, f"cannot be written: {error.strerror}") from error
    return output


def _rows(bag: Bag) -> list[_Row]:
    try:
        robot = bag.robot
    except EpisodeError:
        return []
    rows = []
    columns_in = WIDTH_IN * (RIGHT - LEFT) / FRAMES
    for topic in _camera_topics(bag):
        rows.append(_Row(columns_in * 0.75, "camera", topic))
    for kind, height in (("joints", 2.7), ("force", 1.35), ("touch", 1.35), ("objects", 1.1)):
        if _has(bag, robot, kind):
            rows.append(_Row(height, kind))
    return rows


def _camera_topics(bag: Bag) -> list[str]:
    """Cameras by their base topic, the head's first."""
    return sorted(cameras(bag), key=lambda topic: ("/head" not in topic, topic))[:3]


def _has(bag: Bag, robot: str, kind: str) -> bool:
    wanted = {
        "joints": ("joint_", JOINT_STATE),
        "force": ("wrench/", WRENCH_STAMPED),
        "touch": ("tactile/", IMAGE),
        "objects": ("object/", POSE_STAMPED),
    }
    start, message_type = wanted[kind]
    return any(
        topic.startswith(f"/{robot}/{start}") and stream.type == message_type and stream.count > 1
        for topic, stream in bag.streams.items()
    )


def _draw(bag: Bag, rows: Sequence[_Row]) -> Figure:
    # Not pyplot: no window system, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    head_in, foot_in, gap_in, camera_gap_in = 0.78, 0.55, 0.40, 0.07
    gaps = [camera_gap_in if row.kind == "camera" else gap_in for row in rows]
    height = head_in + foot_in + sum(row.height_in for row in rows) + sum(gaps[:-1])
    # Room for the times under the last row of camera frames.
    cameras = [k for k, row in enumerate(rows) if row.kind == "camera"]
    if cameras and cameras[-1] + 1 < len(rows):
        gaps[cameras[-1]] = 0.50
        height += 0.50 - camera_gap_in
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    FigureCanvasAgg(figure)
    _draw_title(figure, bag, height)
    lifted = _lifted_span(bag)
    top = head_in
    plots = [row for row in rows if row.kind != "camera"]
    for k, row in enumerate(rows):
        bottom = 1.0 - (top + row.height_in) / height
        box = (LEFT, bottom, RIGHT - LEFT, row.height_in / height)
        if row.kind == "camera":
            _draw_camera(figure, bag, row, box, times=k == cameras[-1])
        else:
            axes = figure.add_axes(box)
            for begin, end in lifted:
                axes.axvspan(begin, end, color="#F4EFE1", zorder=0, linewidth=0)
            _DRAW[row.kind](axes, bag)
            axes.set_xlim(0.0, max(bag.length_s, 1e-3))
            if lifted and row is plots[0]:
                axes.text(
                    sum(lifted[0]) / 2.0, 1.01, "lifted", transform=axes.get_xaxis_transform(), ha="center",
                    va="bottom", color="#9A8550", fontsize=10.5,
                )  # fmt: skip
            axes.set_axisbelow(True)
            axes.tick_params(length=0, labelbottom=row is plots[-1])
            axes.yaxis.set_label_coords(-0.045, 0.5)
            if row is plots[-1]:
                axes.set_xlabel("time in s")
        top += row.height_in + gaps[k]
    return figure


def _draw_title(figure: Figure, bag: Bag, height: float) -> None:
    episode = bag.episode
    parts = [str(episode[key]) for key in ("skill", "robot", "source") if episode.get(key)]
    figure.text(
        LEFT,
        1.0 - 0.27 / height,
        "  ·  ".join(parts) or bag.path.name,
        fontsize=16,
        fontweight="bold",
        va="center",
    )
    lost = [stream.counts.lost for stream in bag.streams.values() if stream.counts.lost is not None]
    facts = [
        date_text(bag.start_ns),
        f"{bag.length_s:.1f} s",
        f"{sum(stream.count for stream in bag.streams.values()):,} messages".replace(",", "\u2009"),
        f"{sum(lost)} lost" if lost else "",
        bytes_text(bag.size_bytes),
        str(episode.get("id", bag.path.name)),
    ]
    figure.text(
        LEFT,
        1.0 - 0.56 / height,
        "   ".join(fact for fact in facts if fact),
        fontsize=11,
        color=FAINT,
        va="center",
    )


def _seconds(bag: Bag, stamp_ns: IntArray) -> Array:
    return (stamp_ns - bag.start_ns).astype(np.float64) * 1e-9


def _draw_camera(
    figure: Figure, bag: Bag, row: _Row, box: tuple[float, float, float, float], times: bool
) -> None:
    shown = _nearest_frames(bag, cameras(bag)[row.topic])
    left, bottom, width, height = box
    name = row.topic.split("/camera/", 1)[-1].removesuffix("/image")
    for k, found in enumerate(shown):
        axes = figure.add_axes((left + width * k / FRAMES, bottom, width / FRAMES, height))
        axes.set_axis_off()
        if found is None:
            continue
        second, pixels = found
        axes.imshow(pixels, aspect="equal", interpolation="antialiased")
        # A hair of white between neighbours.
        axes.set_xlim(-0.5 - 0.008 * pixels.shape[1], pixels.shape[1] * 1.008 - 0.5)
        if times:
            axes.text(
                0.5, -0.05, f"{second:.1f} s", transform=axes.transAxes, ha="center", va="top",
                color=FAINT, fontsize=10.5,
            )  # fmt: skip
    figure.text(left + width + 0.008, bottom + height / 2.0, f"{name}\ncamera", va="center", fontsize=11)


def _nearest_frames(bag: Bag, topics: Sequence[str]) -> list[tuple[float, NDArray[np.uint8]] | None]:
    """(seconds, pixels) nearest to the middle of each of `FRAMES` spans, whichever topic has it."""
    seconds = {topic: _seconds(bag, bag.streams[topic].times_ns) for topic in topics}
    chosen: list[tuple[str, int]] = []
    for moment in (np.arange(FRAMES) + 0.5) * bag.length_s / FRAMES:
        away = {topic: np.abs(times - moment) for topic, times in seconds.items()}
        topic = min(topics, key=lambda name: float(away[name].min()))
        index = int(np.argmin(away[topic]))
        chosen.append((topic, index if away[topic][index] <= bag.length_s / FRAMES else -1))
    found = {
        topic: pictures(bag, topic, [index for name, index in chosen if name == topic and index >= 0])
        for topic in topics
    }
    return [
        (float(seconds[topic][index]), found[topic][index]) if index in found[topic] else None
        for topic, index in chosen
    ]


def _legend(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    options: dict[str, Any] = {
        "loc": "center left", "bbox_to_anchor": (1.005, 0.5), "borderaxespad": 0.0, "handlelength": 1.3,
        "handletextpad": 0.5, "labelspacing": 0.35, "fontsize": 10.5,
    }  # fmt: skip
    if handles is None:
        axes.legend(**options)
    else:
        axes.legend(handles=handles, **options)


def _draw_joints(axes: Axes, bag: Bag) -> None:
    from matplotlib.lines import Line2D

    commanded = _joints(bag, "joint_commands")
    measured = _joints(bag, "joint_states")
    shown = commanded if commanded is not None else measured
    if shown is None:
        return
    model = _model(bag)
    turning = [
        k
        for k, name in enumerate(shown.names)
        if model is None or name not in model.tree.joints or model.tree.joints[name].kind != "prismatic"
    ]
    ranges = {k: float(np.ptp(shown.position[:, k])) for k in turning}
    chosen = sorted(sorted(ranges, key=lambda k: -ranges[k])[:JOINTS])
    handles = []
    for colour, k in zip(COLOURS, chosen, strict=False):
        name = shown.names[k]
        if measured is not None and name in measured.names:
            column = measured.position[:, measured.names.index(name)]
            axes.plot(_seconds(bag, measured.stamp_ns), column, color=colour, linewidth=1.7)
        if commanded is not None:
            axes.plot(
                _seconds(bag, commanded.stamp_ns), commanded.position[:, k], color=INK, linewidth=1.0,
                linestyle=(0, (3, 2)), alpha=0.85,
            )  # fmt: skip
        handles.append(Line2D([], [], color=colour, label=name.replace("_", " ")))
    if commanded is not None and measured is not None:
        handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (3, 2)), label="commanded"))
    axes.set_ylabel("joints in rad")
    _legend(axes, handles)


def _joints(bag: Bag, name: str) -> JointSamples | None:
    topic = bag.topic(name)
    if topic not in bag.streams or bag.streams[topic].count < 2:
        return None
    return bag.joints(topic)


def _model(bag: Bag) -> AttachedModel | None:
    return attached_model(bag) if has_model(bag) else None


def _draw_force(axes: Axes, bag: Bag) -> None:
    for colour, (name, topic) in zip(
        COLOURS, bag.robot_topics("wrench", WRENCH_STAMPED).items(), strict=False
    ):
        samples = bag.wrenches(topic)
        force = np.linalg.norm(samples.wrench[:, :3], axis=1)
        axes.plot(
            _seconds(bag, samples.stamp_ns), force, color=colour, linewidth=1.3, label=name.replace("_", " ")
        )
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("force in N")
    _legend(axes)


def _draw_touch(axes: Axes, bag: Bag) -> None:
    model = _model(bag)
    unit = "N" if model is not None else "Pa"
    colours = iter(COLOURS)
    for name, topic in bag.robot_topics("tactile", IMAGE).items():
        samples = bag.tactile(topic)
        total = samples.pressure_pa.sum(axis=(1, 2))
        if model is not None and name in model.pads:
            total = total * model.pads[name].taxel_area_m2
        seconds, colour = _seconds(bag, samples.stamp_ns), next(colours, FAINT)
        axes.fill_between(seconds, total, color=colour, alpha=0.12, linewidth=0)
        axes.plot(seconds, total, color=colour, linewidth=1.3, label=name.replace("_", " "))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(f"touch in {unit}")
    _legend(axes)


def _draw_objects(axes: Axes, bag: Bag) -> None:
    for colour, (name, topic) in zip(COLOURS, _object_topics(bag).items(), strict=False):
        samples = bag.poses(topic)
        height = 100.0 * (samples.pose[:, 2] - samples.pose[0, 2])
        axes.plot(_seconds(bag, samples.stamp_ns), height, color=colour, label=name.replace("_", " "))
    axes.set_ylabel("lift in cm")
    _legend(axes)


def _object_topics(bag: Bag) -> dict[str, str]:
    start = bag.topic("object") + "/"
    return {
        topic.removeprefix(start).removesuffix("/pose"): topic
        for topic, stream in bag.streams.items()
        if topic.startswith(start) and stream.type == POSE_STAMPED and stream.count > 1
    }


def _lifted_span(bag: Bag) -> list[tuple[float, float]]:
    """When any object was off its place, as seconds: shaded in every strip."""
    spans = []
    for name, topic in _object_topics(bag).items():
        motion = object_motion(name, bag.poses(topic))
        if motion.lift_m <= OFF_TABLE_M:
            continue
        seconds = _seconds(bag, motion.samples.stamp_ns)[motion.lifted]
        spans.append((float(seconds[0]), float(seconds[-1])))
    return spans


_DRAW = {"joints": _draw_joints, "force": _draw_force, "touch": _draw_touch, "objects": _draw_objects}
