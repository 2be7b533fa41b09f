"""Which joint of a BVH skeleton is which body point, how large it is, and the axes of each point.

**Names.** Joint names are compared without case, separators and the prefix all of them share
(`mixamorig:`, `Bip01 `, `Character1_`). The side is `left`/`right`/`l`/`r` before or after the part.
For a part with several names in one file (CMU's `LeftShoulder` is the collar bone, SMPL's is the
shoulder) the first of `_PARTS` that is there is meant. Chest and pelvis need no names: they are the
joints where the arms, and the legs and the trunk, meet. Joints may be given by name. Of a skeleton whose arms
have none of these names the limbs are found by its shape (`capture_nodes.sources.skeleton_shape`).

**Axes.** In the rest pose every BVH joint is parallel to the file's axes, so the axes a body point
has there (columns, in file coordinates) are a constant of that point. With F, L, U the directions
forward, left and up of the rest pose (from the shoulders and the trunk, snapped to the file's axes
within 30 degrees):

- head, chest, pelvis: x = F, y = L, z = U;
- shoulder, elbow: x along the upper arm, the forearm; z dorsal, that is, perpendicular to the bone
  in the frontal plane: ``F x bone`` on the left, ``bone x F`` on the right. A T-pose with palms down
  gives up, arms hanging with the palms at the thighs give outward. Arms that rest forward: up.
- wrist: x from the wrist to the mean of the finger bases (without the thumb; without fingers
  along the forearm); z by the same rule, or, where the skeleton has both an index and a little
  finger, out of the plane of the hand;
- hip, knee: z against the thigh, the shank; x forward;
- ankle: x along the horizontal part of the foot, z = U: the rest pose stands on its soles.

**Size.** Stature is estimated from the lengths of trunk and legs, the ankle's height being 0.039 of
it (Winter, Biomechanics and Motor Control, 2009). The unit is the one that makes it 1.2-2.3 m.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np

from capture_nodes.sources.bvh_file import BvhFile
from capture_nodes.sources.skeleton_shape import limbs_by_shape
from capture_nodes.sources.source import SourceError
from retargeting.body_points import BODY_POINTS, SIDES
from retargeting.frames import Array

# First match wins; the words after the side.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "shoulder": (
        "upperarm", "uparm", "shldr", "shldrbend", "humerus", "armupper", "arm", "shoulderjoint", "shoulder",
    ),
    "elbow": ("forearm", "forearmbend", "lowerarm", "lowarm", "armlower", "radius", "elbow"),
    "wrist": ("wrist", "hand"),
    "hip": ("upleg", "upperleg", "thigh", "thighbend", "femur", "legupper", "hip", "leg"),
    "knee": ("lowleg", "lowerleg", "shin", "calf", "tibia", "leglower", "knee", "leg"),
    "ankle": ("ankle", "foot"),
}  # fmt: skip
_HEAD = ("head", "skull")
_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_VENDOR_PREFIX = re.compile(r"^(mixamorig\d*|bip\d*|character\d+)(?=.)")
_SNAP_RAD = np.radians(30.0)

# Name, metres per unit. "ASF" is 0.45 inch a unit, left in many conversions of the CMU database.
UNITS: tuple[tuple[str, float], ...] = (
    ("metre", 1.0),
    ("ASF unit (1/0.45 inch)", 0.0254 / 0.45),
    ("inch", 0.0254),
    ("centimetre", 0.01),
    ("millimetre", 0.001),
)
ADULT_STATURE_M = (1.2, 2.3)
POSSIBLE_STATURE_M = (0.4, 2.7)
_ANKLE_OF_STATURE, _HIP_OF_STATURE = 0.039, 0.530


@dataclass(frozen=True)
class Skeleton:
    """Body points found in a file.

    `joints`: body point to joint index; `axes`: body point to the rotation matrix ``(3, 3)`` whose
    columns are its axes at rest, in file coordinates; `rest` ``(joints, 3)`` rest positions and
    `stature` in file units; `notes` say what was decided.
    """

    joints: Mapping[str, int]
    axes: Mapping[str, Array]
    rest: Array
    stature: float
    has_legs: bool
    notes: Mapping[str, str]


def read_skeleton(file: BvhFile, given: Mapping[str, str] | None = None) -> Skeleton:
    """Find the body points of a file; `given`: joints of body points by name, which then are not looked for.

    Raises `SourceError` listing every arm joint that is not there and the names the file has.
    """
    rest = np.zeros((len(file.joints), 3))
    for index, joint in enumerate(file.joints):
        rest[index] = np.array(joint.offset) + (rest[joint.parent] if joint.parent >= 0 else 0.0)
    joints, found = _body_points(file, rest, given or {})
    axes, notes = _rest_axes(file, joints, rest)
    has_legs = all(f"{side}_{part}" in joints for side in SIDES for part in _LEG)
    return Skeleton(joints, axes, rest, _stature(file, joints, rest, has_legs), has_legs, {**found, **notes})


def scale_of(skeleton: Skeleton, path: object, given: float | None) -> tuple[float, str]:
    """Metres per unit, as given or found, and the decision in words; raises `SourceError`."""
    found = next(
        ((n, s) for n, s in UNITS if ADULT_STATURE_M[0] <= skeleton.stature * s <= ADULT_STATURE_M[1]), None
    )
    if given is not None:
        stature_m = skeleton.stature * given
        if not POSSIBLE_STATURE_M[0] <= stature_m <= POSSIBLE_STATURE_M[1]:
            hint = f"; the file looks like {found[0]}s: scale {found[1]:.6g}" if found else ""
            raise SourceError(
                f"{path}: scale {given:g} m per unit makes the person {stature_m:.3g} m tall, "
                f"{POSSIBLE_STATURE_M[0]}..{POSSIBLE_STATURE_M[1]} m is possible{hint}"
            )
        return given, f"{given:g} m per unit as given: stature about {stature_m:.2f} m"
    if found is None:
        raise SourceError(
            f"{path}: the skeleton is about {skeleton.stature:.4g} units tall, which is no adult in any of "
            f"{', '.join(name for name, _ in UNITS)}; say how long a unit is with scale:=<metres per unit>"
        )
    name, scale = found
    return scale, f"{scale:.6g} m per unit ({name}, found): stature about {skeleton.stature * scale:.2f} m"


def _plain_names(file: BvhFile) -> dict[str, list[int]]:
    """Comparable name to the joints that have it."""
    names = {i: joint.name.rsplit(":", 1)[-1] for i, joint in enumerate(file.joints) if not joint.is_end}
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names.values(), strict=False))
    shared = "".join(letters[0] for letters in same) if len(names) > 1 else ""
    cut = max((shared.rfind(separator) for separator in "_. -"), default=-1) + 1
    plain: dict[str, list[int]] = {}
    for index, name in names.items():
        word = re.sub(r"[^a-z0-9]", "", name[cut:].lower())
        plain.setdefault(_VENDOR_PREFIX.sub("", word), []).append(index)
    return plain


def _sided(side: str, part: str) -> Iterator[str]:
    for word in (side, side[0]):
        yield word + part
        yield part + word


def _body_points(
    file: BvhFile, rest: Array, given: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    plain = _plain_names(file)
    by_name = {joint.name: index for index, joint in enumerate(file.joints) if not joint.is_end}
    listing = f"the file has: {', '.join(by_name)}"
    problems: list[str] = []
    joints: dict[str, int] = {}

    for point, name in given.items():
        if point not in BODY_POINTS:
            problems.append(f"{point}: there is no such body point")
        elif name in by_name:
            joints[point] = by_name[name]
        else:
            problems.append(f"{point} is given as {name!r}, which is no joint; {listing}")

    def look_up(point: str, candidates: Iterator[str]) -> None:
        if point in joints:
            return
        for candidate in candidates:
            matches = plain.get(candidate, [])
            if len(matches) > 1:
                lines = ", ".join(str(file.joints[m].line) for m in matches)
                problems.append(f"{point}: several joints are called {candidate!r} (lines {lines})")
            if matches:
                joints[point] = matches[0]
                return

    look_up("head", iter(_HEAD))
    for side in SIDES:
        for part, words in _PARTS.items():
            look_up(f"{side}_{part}", (name for word in words for name in _sided(side, word)))
    arms = [f"{side}_{part}" for side in SIDES for part in _ARM]
    found: dict[str, str] = {}
    if not problems and not any(point in joints for point in arms):
        limbs = limbs_by_shape(file, rest)
        if limbs is not None:
            joints = {**limbs, **joints}
            found["shape"] = (
                "no joint has a known name: arms, legs and sides are found by the skeleton's shape"
            )
    missing = [point for point in arms if point not in joints]
    for point in missing:
        side, part = point.split("_")
        problems.append(f"no joint for {point}: {side} + one of {', '.join(_PARTS[part])} is expected")
    for side in SIDES:
        for chain in (_ARM, _LEG):
            points = [f"{side}_{part}" for part in chain]
            for upper, lower in pairwise(points):
                if not (upper in joints and lower in joints):
                    continue
                if joints[upper] not in _ancestors(file, joints[lower])[1:]:
                    problems.append(
                        f"{lower} ({file.joints[joints[lower]].name!r}) does not hang below "
                        f"{upper} ({file.joints[joints[upper]].name!r})"
                    )
    if problems:
        if missing:
            problems.append(listing)
        raise SourceError(*(f"{file.path}: {problem}" for problem in problems))
    joints.setdefault("chest", _meeting(file, [joints["left_shoulder"], joints["right_shoulder"]]))
    hips = [joints[f"{side}_hip"] for side in SIDES if f"{side}_hip" in joints]
    joints.setdefault("pelvis", _meeting(file, [joints["chest"], *hips]) if hips else 0)
    if joints["pelvis"] == joints["chest"] and hips:
        raise SourceError(f"{file.path}: arms and legs meet in one joint: there is no trunk to move")
    return {point: joints[point] for point in BODY_POINTS if point in joints}, found


def _ancestors(file: BvhFile, joint: int) -> list[int]:
    chain = [joint]
    while file.joints[chain[-1]].parent >= 0:
        chain.append(file.joints[chain[-1]].parent)
    return chain


def _meeting(file: BvhFile, joints: list[int]) -> int:
    """The lowest joint above (or at) all of these."""
    shared = set.intersection(*(set(_ancestors(file, joint)) for joint in joints))
    return max(shared)  # parents come before their children


def _unit(vector: Array) -> Array:
    result: Array = vector / np.linalg.norm(vector)
    return result


def _frame(x: Array, z: Array) -> Array:
    """Rotation matrix with columns x (kept), y, z (made perpendicular to x)."""
    x = _unit(x)
    z = _unit(z - (z @ x) * x)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _rest_axes(
    file: BvhFile, joints: Mapping[str, int], rest: Array
) -> tuple[dict[str, Array], dict[str, str]]:
    size = float(np.ptp(rest, axis=0).max())

    def between(a: str, b: str) -> Array:
        bone: Array = rest[joints[b]] - rest[joints[a]]
        if np.linalg.norm(bone) <= 1e-6 * size:
            raise SourceError(f"{file.path}: {a} and {b} are at one place in the rest pose: no bone")
        return bone

    left = _unit(between("right_shoulder", "left_shoulder"))
    top = joints.get("head", joints["chest"])
    up = rest[top] - rest[joints["pelvis"]]
    up = up - (up @ left) * left
    if np.linalg.norm(up) <= 1e-3 * size:
        name = file.joints[top].name
        raise SourceError(f"{file.path}: the rest pose has no trunk: pelvis and {name!r} coincide")
    body = _snapped(_frame(np.cross(left, up), up))
    forward, up = body[:, 0], body[:, 2]
    axes = {point: body for point in ("head", "chest", "pelvis") if point in joints}
    notes: dict[str, str] = {}
    for side in SIDES:
        upper, fore = between(f"{side}_shoulder", f"{side}_elbow"), between(f"{side}_elbow", f"{side}_wrist")
        axes[f"{side}_shoulder"] = _frame(upper, _dorsal(side, upper, forward, up))
        axes[f"{side}_elbow"] = _frame(fore, _dorsal(side, fore, forward, up))
        hand, knuckles = _hand(file, joints[f"{side}_wrist"], rest, _unit(fore), size)
        normal = _dorsal(side, hand, forward, up)
        if knuckles is not None:
            # Palm down, thumbs inward: the little finger's side to the index's side is -y on the left.
            normal = np.cross(knuckles, hand) if side == "left" else np.cross(hand, knuckles)
            notes[f"{side}_wrist"] = "the back of the hand is taken from index and little finger"
        axes[f"{side}_wrist"] = _frame(hand, normal)
        axes.update(_leg_axes(file, side, joints, rest, body, size))
    return axes, notes


def _leg_axes(
    file: BvhFile, side: str, joints: Mapping[str, int], rest: Array, body: Array, size: float
) -> Iterator[tuple[str, Array]]:
    forward, up = body[:, 0], body[:, 2]
    for a, b in (("hip", "knee"), ("knee", "ankle")):
        if f"{side}_{a}" in joints:
            bone = -up
            if f"{side}_{b}" in joints:
                offset = rest[joints[f"{side}_{b}"]] - rest[joints[f"{side}_{a}"]]
                bone = offset if np.linalg.norm(offset) > 1e-6 * size else bone
            z = -_unit(bone)
            reference = forward if abs(z @ forward) < 0.9 else up
            x = _unit(reference - (reference @ z) * z)
            yield f"{side}_{a}", _frame(x, z)
    if f"{side}_ankle" in joints:
        ankle = joints[f"{side}_ankle"]
        toes = _reach(file, ankle, rest, size)
        foot = np.mean([rest[toe] for toe in toes], axis=0) - rest[ankle] if toes else forward
        foot = foot - (foot @ up) * up
        usable = np.linalg.norm(foot) > 0.01 * size and _unit(foot) @ forward > 0.5
        yield f"{side}_ankle", _frame(foot if usable else forward, up)


def _snapped(matrix: Array) -> Array:
    """The nearest rotation onto the file's axes where it is within 30 degrees, else the matrix itself."""
    nearest = np.zeros((3, 3))
    rows = np.argmax(np.abs(matrix), axis=0)
    nearest[rows, np.arange(3)] = np.sign(matrix[rows, np.arange(3)])
    if len(set(rows.tolist())) < 3:
        return matrix
    cosine = (np.trace(nearest.T @ matrix) - 1.0) / 2.0
    return nearest if cosine >= np.cos(_SNAP_RAD) and np.linalg.det(nearest) > 0 else matrix


def _dorsal(side: str, bone: Array, forward: Array, up: Array) -> Array:
    if abs(_unit(bone) @ forward) > np.cos(np.pi / 4):
        return up
    return np.cross(forward, bone) if side == "left" else np.cross(bone, forward)


def _reach(file: BvhFile, joint: int, rest: Array, size: float) -> list[int]:
    """The nearest joints below that are at another place."""
    found: list[int] = []
    for child in file.children(joint):
        apart = np.linalg.norm(rest[child] - rest[joint]) > 1e-6 * size
        found.extend([child] if apart else _reach(file, child, rest, size))
    return found


def _hand(file: BvhFile, wrist: int, rest: Array, forearm: Array, size: float) -> tuple[Array, Array | None]:
    """Direction of the hand, and from the little finger's to the index finger's base where both are there."""
    reached = _reach(file, wrist, rest, size)
    bases = [base for base in reached if "thumb" not in file.joints[base].name.lower()]
    if not bases:
        return forearm, None
    hand = np.mean([_unit(rest[base] - rest[wrist]) for base in bases], axis=0)
    if np.linalg.norm(hand) < 0.5 or _unit(hand) @ forearm < 0.5:
        return forearm, None
    hand = _unit(hand)
    named = {file.joints[base].name.lower(): base for base in bases}
    index = next((base for name, base in named.items() if "index" in name), None)
    little = next((base for name, base in named.items() if "pinky" in name or "little" in name), None)
    if index is None or little is None:
        return hand, None
    knuckles = rest[index] - rest[little]
    if np.linalg.norm(np.cross(hand, knuckles)) < 0.5 * np.linalg.norm(knuckles) or not knuckles.any():
        return hand, None
    return hand, knuckles


def _stature(file: BvhFile, joints: Mapping[str, int], rest: Array, has_legs: bool) -> float:
    """Body height in file units, from the lengths of the bones (the rest pose need not stand upright)."""

    def length(top: int, bottom: int) -> float:
        chain = _ancestors(file, bottom)
        return sum(float(np.linalg.norm(file.joints[j].offset)) for j in chain[: chain.index(top)])

    crown = joints.get("head", joints["chest"])
    trunk = length(joints["pelvis"], crown)
    skull = [rest[end] - rest[crown] for end in file.children(crown)]
    trunk += max((float(np.linalg.norm(v)) for v in skull), default=0.0) if "head" in joints else 0.0
    if not has_legs:
        return trunk / (1.0 - _HIP_OF_STATURE)
    legs = [length(joints[f"{side}_hip"], joints[f"{side}_ankle"]) for side in SIDES]
    hips = np.mean([rest[joints[f"{side}_hip"]] for side in SIDES], axis=0) - rest[joints["pelvis"]]
    up = _unit(rest[crown] - rest[joints["pelvis"]])
    drop = max(0.0, -float(hips @ up))
    return (trunk + drop + float(np.mean(legs))) / (1.0 - _ANKLE_OF_STATURE)
