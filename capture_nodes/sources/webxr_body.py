"""Axes of the body points that a browser tracks: which way its joints are turned, and by what that is known.

The draft of the WebXR Body Tracking Module says of a joint's axes only that -z runs along the bone and -y out
of the skin on the palm's side. The one browser that has the module (Meta's) builds it on the joints of
`XR_FB_body_tracking` and `XR_META_body_tracking_full_body`, which carry the same names, and whether it turns
them is written nowhere. Three conventions are known here, each as the joints' axes in a T-pose, palms down:

- `meta`: as the joints of those extensions lie. No text says so either; it is what Godot's OpenXR plugin (all
  joints) and UniVRM (trunk and arms) independently undo;
- `draft`: the draft's words. Of trunk and legs they leave the turn about the bone open: -y is taken to point
  ahead, as the palms do where the arms hang, and down out of the sole;
- `bd`: x right, y up, z back for all, as `XR_BD_body_tracking` has its joints of a T-pose.

Which one a browser follows is read off its bones: by each convention a joint's axes tell where the next joint
is. Where none tells, the axes are those found from the points' places (`body_axes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from capture_nodes.sources.body_axes import body_axes_from_positions
from capture_nodes.sources.webxr_wire import BODY_JOINTS
from retargeting.frames import (
    ROTATION_OPENXR_TO_TRAINER,
    Array,
    pose_to_trainer,
    quaternion_from_rotation_matrix,
    quaternion_multiply,
    rotate,
)

INFERRED, UNKNOWN = "inferred", "none"
# Mean cosine between the bones and where a joint's axes have them. A wrong convention is off by right angles;
# bones of a person are off their axes by some degrees, a bent back by some tens.
_FITS = 0.9
# A browser whose first frames fit nothing has no axes to give.
_TRIES = 200

_DIRECTIONS: Mapping[str, tuple[float, float, float]] = {
    "ahead": (1.0, 0.0, 0.0),
    "back": (-1.0, 0.0, 0.0),
    "left": (0.0, 1.0, 0.0),
    "right": (0.0, -1.0, 0.0),
    "up": (0.0, 0.0, 1.0),
    "down": (0.0, 0.0, -1.0),
}
# Where a joint's y and z point in the T-pose.
_PARTS = ("trunk", "left arm", "right arm", "left leg", "right leg", "left foot", "right foot")
_CONVENTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "meta": {
        "trunk": ("ahead", "right"),
        "left arm": ("ahead", "up"),
        "right arm": ("back", "down"),
        "left leg": ("back", "right"),
        "right leg": ("ahead", "right"),
        "left foot": ("up", "right"),
        "right foot": ("down", "right"),
    },
    "draft": {
        "trunk": ("back", "down"),
        "left arm": ("up", "right"),
        "right arm": ("up", "left"),
        "left leg": ("back", "up"),
        "right leg": ("back", "up"),
        "left foot": ("up", "back"),
        "right foot": ("up", "back"),
    },
    "bd": dict.fromkeys(_PARTS, ("up", "back")),
}
# Point, the one its bone leads to, and where that is in the point's axes.
_BONES = (
    ("pelvis", "chest", (0.0, 0.0, 1.0)),
    *(
        (f"{side}_{point}", f"{side}_{end}", along)
        for side in ("left", "right")
        for point, end, along in (
            ("shoulder", "elbow", (1.0, 0.0, 0.0)),
            ("elbow", "wrist", (1.0, 0.0, 0.0)),
            ("hip", "knee", (0.0, 0.0, -1.0)),
            ("knee", "ankle", (0.0, 0.0, -1.0)),
        )
    ),
)


def _part(point: str) -> str:
    side, _, part = point.partition("_")
    if part in ("shoulder", "elbow", "wrist"):
        return f"{side} arm"
    if part in ("hip", "knee"):
        return f"{side} leg"
    return f"{side} foot" if part == "ankle" else "trunk"


def t_pose_axes(point: str) -> Array:
    """Columns x, y, z of a body point in a T-pose that faces x: an arm's x runs out to its side."""
    side = {"left arm": "left", "right arm": "right"}.get(_part(point))
    if side is None:
        return np.eye(3)
    x, z = np.array(_DIRECTIONS[side]), np.array(_DIRECTIONS["up"])
    return np.stack([x, np.cross(z, x), z], axis=-1)


def joint_axes(convention: str, point: str) -> Array:
    """Columns x, y, z of the browser's joint in the same pose, in the trainer's axes."""
    y, z = (np.array(_DIRECTIONS[word]) for word in _CONVENTIONS[convention][_part(point)])
    return np.stack([np.cross(y, z), y, z], axis=-1)


def _own_turn(convention: str, point: str) -> Array:
    """The point's axes (xyzw) in those of its joint, both turned into the trainer's world."""
    in_trainer = joint_axes(convention, point) @ ROTATION_OPENXR_TO_TRAINER.T
    return quaternion_from_rotation_matrix(in_trainer.T @ t_pose_axes(point))


_OWN_TURNS = {name: {point: _own_turn(name, point) for point in BODY_JOINTS} for name in _CONVENTIONS}
CONVENTIONS = tuple(_CONVENTIONS)


class BodyAxes:
    """Poses of a browser's body, frame by frame; `convention`: the one it follows, or how else it is done."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Another browser may come: look again."""
        self.convention = UNKNOWN
        self._tries = 0
        self._turns: Array = np.zeros((0, 4))
        self._names: tuple[str, ...] = ()

    def poses(self, names: tuple[str, ...], body: Array) -> dict[str, Array]:
        """``(7,)`` in `trainer` by point, of joints ``(n, 7)`` in WebXR's world.

        A body's wrists are left out: they only tell where the forearms end.
        """
        if not names:
            return {}
        converted = pose_to_trainer(body, ROTATION_OPENXR_TO_TRAINER)
        if self.convention in (UNKNOWN, INFERRED) and self._tries < _TRIES:
            self._tries += 1
            self.convention = fitting_convention(names, converted) or INFERRED
        if self.convention == INFERRED:
            return body_axes_from_positions(dict(zip(names, converted[:, :3], strict=True)))
        if names != self._names:
            self._names, self._turns = names, _turns_of(self.convention, names)
        converted[:, 3:] = quaternion_multiply(converted[:, 3:], self._turns)
        return {
            name: pose for name, pose in zip(names, converted, strict=True) if not name.endswith("_wrist")
        }


def fitting_convention(names: Sequence[str], converted: Array) -> str | None:
    """The convention whose axes lie along the bones, None where none does; poses ``(n, 7)`` in `trainer`."""
    rows = {name: k for k, name in enumerate(names)}
    bones = [(rows[a], rows[b], along) for a, b, along in _BONES if a in rows and b in rows]
    if not bones:
        return None
    starts, ends = [a for a, _, _ in bones], [b for _, b, _ in bones]
    ways = converted[ends, :3] - converted[starts, :3]
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    ways = ways / np.maximum(lengths, 1e-3)
    along = np.array([of for _, _, of in bones])

    def fit(convention: str) -> float:
        axes = quaternion_multiply(converted[starts, 3:], _turns_of(convention, [names[k] for k in starts]))
        return float((rotate(axes, along) * ways).sum(axis=1).mean())

    best = max(CONVENTIONS, key=fit)
    return best if fit(best) >= _FITS else None


def _turns_of(convention: str, names: Sequence[str]) -> Array:
    """``(n, 4)``"""
    return np.array([_OWN_TURNS[convention][name] for name in names])
