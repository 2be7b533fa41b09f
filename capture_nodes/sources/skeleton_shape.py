"""Arms, legs and head of a skeleton by its shape alone, for one whose joints have unknown names.

Two branches of one joint are a pair where they mirror each other at rest: apart along one axis of the file,
alike along the others. The pair nearest to the root is the legs, the one farthest from it the
arms (one pair alone is the arms). In a limb the two longest bones in a row are the upper and the lower one.
The head is the last joint of the longest branch of the chest that is in no pair. Forward is where the feet
point; without toes the file's third axis, as BVH has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np

from capture_nodes.sources.bvh_file import BvhFile
from retargeting.frames import Array

# Of the size of the skeleton: how far from mirrored two limbs may be, and the shortest that is one.
_MIRRORED, _SHORTEST = 0.03, 0.2
# A bone shorter than this is none: some skeletons have several joints at one place.
_BONE = 1e-3
# No joint of a body has more.
_MOST_BRANCHES = 20


def limbs_by_shape(file: BvhFile, rest: Array) -> dict[str, int] | None:
    """Joint indices by body point, None where the shape does not tell; `rest` ``(joints, 3)`` positions."""
    size = float(np.ptp(rest, axis=0).max())
    if not size > 0.0:
        return None
    pairs = list(_pairs(file, rest, size))
    if not pairs:
        return None
    # Nearest to the root first; of pairs that hang on one joint the longer ones.
    pairs.sort(key=lambda pair: (len(_way_up(file, pair[0])), -pair[1][2]))
    arms = pairs[-1]
    legs = pairs[0] if pairs[0][0] != arms[0] else None
    left = _left(file, rest, arms, legs, size)
    found: dict[str, int] = {}
    parts = ((arms, ("shoulder", "elbow", "wrist")), (legs, ("hip", "knee", "ankle")))
    for pair_or_none, names in parts:
        if pair_or_none is None:
            continue
        for branch in pair_or_none[1][:2]:
            joints = _bones(rest, branch, size)
            if joints is None:
                if names[0] == "shoulder":
                    return None
                continue
            side = "left" if (rest[joints[-1]] - rest[pair_or_none[0]]) @ left > 0.0 else "right"
            found |= {f"{side}_{name}": joint for name, joint in zip(names, joints, strict=True)}
    if len([name for name in found if name.endswith("wrist")]) < 2:
        return None
    head = _head(file, rest, arms)
    if head is not None:
        found["head"] = head
    return found


# A joint, and two branches of it with their length.
_Pair = tuple[int, tuple[list[int], list[int], float]]


def _pairs(file: BvhFile, rest: Array, size: float) -> Iterator[_Pair]:
    for joint in range(len(file.joints)):
        children = list(file.children(joint))
        if len(children) > _MOST_BRANCHES:
            continue
        branches = [_longest(file, rest, child) for child in children]
        # Fingers and toes tell nothing: by where the lower bones end.
        limbs = [(branch, bones) for branch in branches if (bones := _bones(rest, branch, size)) is not None]
        for (one, one_bones), (other, other_bones) in combinations(limbs, 2):
            a, b = rest[one_bones[2]] - rest[joint], rest[other_bones[2]] - rest[joint]
            length = min(_length(rest, one), _length(rest, other))
            axis = int(np.argmax(np.abs(a - b)))
            mirrored = b.copy()
            mirrored[axis] = -mirrored[axis]
            apart = abs(a[axis] - b[axis]) > _MIRRORED * size
            if apart and length > _SHORTEST * size and np.linalg.norm(a - mirrored) < _MIRRORED * size:
                yield joint, (one, other, length)


def _longest(file: BvhFile, rest: Array, joint: int) -> list[int]:
    """The joints from `joint` down its longest way, end sites included."""
    # From the leaves up, without recursion: a stranger's skeleton may be as deep as it is long.
    best: dict[int, tuple[float, int]] = {}
    for index in range(len(file.joints) - 1, joint, -1):
        parent = file.joints[index].parent
        reach = best.get(index, (0.0, -1))[0] + float(np.linalg.norm(rest[index] - rest[parent]))
        if reach > best.get(parent, (-1.0, -1))[0]:
            best[parent] = (reach, index)
    chain = [joint]
    while chain[-1] in best:
        chain.append(best[chain[-1]][1])
    return chain


def _length(rest: Array, chain: list[int]) -> float:
    return float(np.linalg.norm(np.diff(rest[chain], axis=0), axis=1).sum())


def _bones(rest: Array, chain: list[int], size: float) -> tuple[int, int, int] | None:
    """Where the two longest bones in a row begin, meet and end; None where there are not two."""
    lengths = np.linalg.norm(np.diff(rest[chain], axis=0), axis=1)
    real = [k for k, length in enumerate(lengths) if length > _BONE * size]
    if len(real) < 2:
        return None
    first, second = max(pairwise(real), key=lambda two: lengths[two[0]] + lengths[two[1]])
    return chain[first], chain[second], chain[second + 1]


def _left(file: BvhFile, rest: Array, arms: _Pair, legs: _Pair | None, size: float) -> Array:
    """The direction to the trainer's left."""
    one, other = (rest[branch[-1]] for branch in arms[1][:2])
    across = one - other
    forward = np.array([0.0, 0.0, 1.0])
    up = rest[arms[0]] - rest[0 if legs is None else legs[0]]
    if np.linalg.norm(up) < _BONE * size:
        up = np.array([0.0, 1.0, 0.0])
    up = up / np.linalg.norm(up)
    if legs is not None:
        feet = [bones for branch in legs[1][:2] if (bones := _bones(rest, branch, size)) is not None]
        toes = [rest[branch[-1]] - rest[bones[-1]] for branch, bones in zip(legs[1][:2], feet, strict=False)]
        ahead = np.sum([toe - (toe @ up) * up for toe in toes], axis=0) if toes else np.zeros(3)
        if np.linalg.norm(ahead) > 0.02 * size:
            forward = ahead
    left: Array = np.cross(up, forward)
    sign = 1.0 if across @ left > 0.0 else -1.0
    result: Array = sign * across
    return result


def _head(file: BvhFile, rest: Array, arms: _Pair) -> int | None:
    chest, (one, other, _) = arms
    others = [
        _longest(file, rest, child) for child in file.children(chest) if child not in (one[0], other[0])
    ]
    if not others:
        return None
    chain = [j for j in max(others, key=lambda way: _length(rest, way)) if not file.joints[j].is_end]
    return chain[-1] if chain else None


def _way_up(file: BvhFile, joint: int) -> list[int]:
    way = [joint]
    while file.joints[way[-1]].parent >= 0:
        way.append(file.joints[way[-1]].parent)
    return way
