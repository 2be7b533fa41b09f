"""A PNG of what was inferred: the skeleton from the front and from the side, named points, reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from retargeting.frames import matrix_from_pose
from retargeting.onboarding.body import Body
from retargeting.onboarding.skeleton import Posture
from retargeting.onboarding.workspace import reachable_wrists

Array = NDArray[np.float64]

_INK, _GREY = "#222222", "#9a9a9a"
_SIDE_COLOURS = {"left": "#c0392b", "right": "#2471a3"}
_TRUNK_COLOUR, _HEAD_COLOUR = "#7d6608", "#6c3483"
# A direction of the view is divided into this many; the outermost wrist in each bounds the volume.
_BINS = 72


@dataclass(frozen=True)
class _View:
    """`across`, `upward` ``(3,)``: what the picture's x and y are in the root."""

    title: str
    across: Array
    upward: Array

    def flat(self, points: Array) -> Array:
        """Points ``(n, 3)`` in the picture ``(n, 2)``."""
        flat: Array = np.asarray(points) @ np.stack([self.across, self.upward], axis=1)
        return flat


def _outline(points: Array) -> Array:
    """A closed outline ``(k, 2)`` around flat points ``(n, 2)``: the outermost in each direction."""
    middle = np.median(points, axis=0)
    offsets = points - middle
    bins = ((np.arctan2(offsets[:, 1], offsets[:, 0]) + np.pi) / (2.0 * np.pi) * _BINS).astype(int) % _BINS
    radii = np.linalg.norm(offsets, axis=1)
    rows = [
        int(np.flatnonzero(bins == b)[np.argmax(radii[bins == b])]) for b in range(_BINS) if (bins == b).any()
    ]
    outline: Array = points[[*rows, rows[0]]]
    return outline


def _colours(body: Body) -> dict[str, str]:
    """Joint to the colour of the part it belongs to."""
    colours = dict.fromkeys(body.waist, _TRUNK_COLOUR) | dict.fromkeys(body.head_joints, _HEAD_COLOUR)
    for side, arm in body.arms.items():
        for joint in body.skeleton.subtree(arm.joints[0]):
            colours[joint] = _SIDE_COLOURS[side]
    return colours


def _draw_skeleton(ax: Any, view: _View, body: Body, posture: Posture) -> None:
    colours = _colours(body)
    skeleton = body.skeleton
    arm_joints = {joint for arm in body.arms.values() for joint in arm.joints}
    for joint in skeleton.joints:
        carrier = skeleton.carrier[joint]
        start = posture.origin(carrier) if carrier else posture.link_origin(skeleton.urdf.root)
        line = view.flat(np.stack([start, posture.origin(joint)]))
        colour = colours.get(joint, _GREY)
        thick = 2.6 if joint in arm_joints or joint in body.waist or joint in body.head_joints else 1.0
        ax.plot(line[:, 0], line[:, 1], color=colour, linewidth=thick, solid_capstyle="round", zorder=2)
        if thick > 1.0:
            ax.plot(*line[1], "o", color=colour, markersize=3.0, zorder=3)


def _spread(
    labels: list[tuple[float, float, str, str]], gap: float
) -> list[tuple[float, float, float, str, str]]:
    """Heights at which labels do not cover each other: (x, y, label height, text, colour)."""
    placed = []
    height = -np.inf
    for x, y, text, colour in sorted(labels, key=lambda label: label[1]):
        height = max(y, height + gap)
        placed.append((x, y, height, text, colour))
    shift = 0.5 * (placed[-1][2] - placed[-1][1]) if placed else 0.0
    return [(x, y, h - shift, text, colour) for x, y, h, text, colour in placed]


def _named_points(body: Body, posture: Posture) -> list[tuple[str, Array, str]]:
    points: list[tuple[str, Array, str]] = []
    if body.head is not None:
        points.append(("head", body.site_position(body.head, posture), _HEAD_COLOUR))
    for side, arm in body.arms.items():
        for part, site in (("shoulder", arm.shoulder), ("elbow", arm.elbow), ("wrist", arm.wrist)):
            if site is not None:
                text = f"{side} {part}"
                points.append((text, body.site_position(site, posture), _SIDE_COLOURS[side]))
    return points


def _draw_labels(ax: Any, view: _View, body: Body, posture: Posture, box: Array) -> None:
    """Names in a column on the side of the picture that each point is nearer to."""
    low, high = box
    middle, gap = 0.5 * (low[0] + high[0]), 0.05 * float(max(high - low))
    columns: dict[str, list[tuple[float, float, str, str]]] = {"left": [], "right": []}
    for text, point, colour in _named_points(body, posture):
        x, y = view.flat(point[None])[0]
        column = "left" if x < middle else "right"
        if len(body.arms) == 2 and view.title == "side":
            # From the side both arms lie behind each other.
            column = "left" if text.startswith("right") else "right"
        columns[column].append((float(x), float(y), text, colour))
    for column, labels in columns.items():
        edge = low[0] if column == "left" else high[0]
        outward = -0.04 if column == "left" else 0.04
        at = edge + outward * (high[0] - low[0])
        for x, y, height, text, colour in _spread(labels, gap):
            ax.plot([x, at], [y, height], color=colour, linewidth=0.6, alpha=0.7, zorder=4)
            ax.plot(x, y, "o", markersize=6.5, markerfacecolor="white", markeredgecolor=colour, zorder=5)
            ax.text(
                at, height, f" {text} ", color=colour, fontsize=8.5, va="center", zorder=6,
                ha="right" if column == "left" else "left",
            )  # fmt: skip


def _draw_wrist_axes(ax: Any, view: _View, body: Body, posture: Posture, length_m: float) -> None:
    """Where the fingers point, as arrows."""
    for side, arm in body.arms.items():
        wrist = body.site_position(arm.wrist, posture)
        rotation = posture.rotation(arm.wrist.link)
        x = rotation @ matrix_from_pose(arm.wrist.pose)[:3, 0]
        start, end = view.flat(np.stack([wrist, wrist + length_m * x]))
        ax.annotate(
            "", xy=end, xytext=start, zorder=6,
            arrowprops={"arrowstyle": "-|>", "color": _SIDE_COLOURS[side], "linewidth": 1.4},
        )  # fmt: skip


def draw_body(body: Body, title: str, file: Path, note: str = "") -> None:
    """Write the PNG `file` (its folder must exist)."""
    posture = body.neutral
    left = np.cross(body.up, body.forward)
    # Seen from the front the robot's left is on the right of the picture.
    views = (_View("front", left, body.up), _View("side", body.forward, body.up))
    reach = {side: reachable_wrists(body, side) for side in body.arms}
    figure = Figure(figsize=(13.0, 7.6), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for ax, view in zip(axes, views, strict=True):
        outlines = {side: _outline(view.flat(points)) for side, points in reach.items()}
        everything = [
            *outlines.values(),
            view.flat(np.array([posture.origin(joint) for joint in body.skeleton.joints])),
            view.flat(np.array([point for _, point, _ in _named_points(body, posture)])),
        ]
        stacked = np.concatenate(everything)
        box = np.stack([stacked.min(axis=0), stacked.max(axis=0)])
        # Names need room beside a narrow robot.
        missing = 0.5 * max(0.0, 0.6 * (box[1, 1] - box[0, 1]) - (box[1, 0] - box[0, 0]))
        box[:, 0] += np.array([-missing, missing])
        for side, outline in outlines.items():
            cloud = view.flat(reach[side])
            ax.fill(
                outline[:, 0], outline[:, 1], color=_SIDE_COLOURS[side], alpha=0.08, linewidth=0, zorder=0
            )
            ax.plot(*outline.T, color=_SIDE_COLOURS[side], linewidth=0.8, alpha=0.5, zorder=1)
            ax.plot(*cloud[::3].T, ",", color=_SIDE_COLOURS[side], alpha=0.25, zorder=1)
        _draw_skeleton(ax, view, body, posture)
        size = float(max(box[1] - box[0]))
        _draw_wrist_axes(ax, view, body, posture, 0.08 * size)
        _draw_labels(ax, view, body, posture, box)
        width = box[1, 0] - box[0, 0]
        ax.set_xlim(box[0, 0] - 0.34 * width, box[1, 0] + 0.34 * width)
        ax.set_aspect("equal")
        looks = "the robot's left is on the right" if view.title == "front" else "it faces to the right"
        ax.set_title(f"from the {view.title}: {looks}", fontsize=10, color=_INK)
        ax.set_xlabel("m", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.grid(visible=True, color="#eeeeee", linewidth=0.6)
        ax.set_axisbelow(True)
        for spine in ax.spines.values():
            spine.set_visible(False)
    figure.suptitle(title, fontsize=13, color=_INK)
    figure.text(
        0.5, 0.015,
        "circles: named points; arrows: where the fingers point; shaded: where the wrists can go "
        f"(waist still); brown: waist, purple: head{note}",
        ha="center", fontsize=8.5, color=_INK,
    )  # fmt: skip
    figure.subplots_adjust(left=0.05, right=0.98, top=0.89, bottom=0.10, wspace=0.12)
    figure.savefig(file)
