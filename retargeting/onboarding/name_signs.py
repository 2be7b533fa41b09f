"""What the names of joints and links say: body parts and sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Parts of words that makers use. Matched in lower case anywhere in a name, because `RARM_ELBOW`,
# `arml_elb1` and `LeftElbowPitch` share no separator.
WORDS = {
    "arm": ("shoulder", "elbow", "wrist", "arm", "hand", "palm", "_sho", "_elb", "_wri"),
    "shoulder": ("shoulder", "_sho_"),
    "leg": (
        "hip", "knee", "ankle", "ankel", "leg", "foot", "thigh", "calf", "shank", "toe",
        "haa", "hfe", "kfe", "wheel", "caster",
    ),
    "head": ("head", "neck", "eye", "cervical", "gaze"),
    "sensor": ("camera", "laser", "lidar", "velodyne", "hokuyo", "kinect", "realsense", "d435", "imu"),
    "finger": ("finger", "thumb", "gripper", "jaw", "claw", "hand"),
    # Not `middle` or `ring`: trunks have a middle.
    "digit": ("finger", "thumb", "index", "pinky", "metacarp"),
    "jaw": ("gripper", "jaw", "finger", "claw"),
    "sight": ("camera", "eye", "gaze", "sellion", "zed", "rgbd", "xtion", "kinect", "realsense", "optical"),
}  # fmt: skip
# Only `arml`, `handl`, `legr`: an l or r that ends another word says nothing (`wheel`, `finger`).
_SIDE_ENDING = re.compile(r"(?:arm|hand|leg|foot|shoulder|elbow|wrist)([lr])(?=[^a-z]|$)")


def count(kind: str, names: Iterable[str]) -> int:
    """How many of the names hold a word of `kind`."""
    return sum(any(word in name.lower() for word in WORDS[kind]) for name in names)


def side_of(names: Sequence[str]) -> str:
    """`left` or `right` where most names that carry a side agree on it, else ""."""
    votes = {"left": 0, "right": 0}
    for name in names:
        lower = name.lower()
        if ("left" in lower) != ("right" in lower):
            votes["left" if "left" in lower else "right"] += 2
        elif "left" in lower:
            # "left gripper, right finger": what is named first is the larger part.
            votes["left" if lower.index("left") < lower.index("right") else "right"] += 1
        elif found := _SIDE_ENDING.search(lower):
            votes["left" if found.group(1) == "l" else "right"] += 1
        elif letter := _letter(name):
            votes["left" if letter == "l" else "right"] += 1
    total = sum(votes.values())
    for side, weight in votes.items():
        if weight > 0.75 * total and weight >= min(2, len(names)):
            return side
    return ""


def _letter(name: str) -> str:
    """The l or r that stands for a side: alone between separators, or as a capital before a capital."""
    for word in re.split(r"[^A-Za-z0-9]+", name):
        if word.lower() in ("l", "r"):
            return word.lower()
    found = re.match(r"([LR])(?=[A-Z][a-z]|ARM|LEG|HAND)", name) or re.match(r"([lr])(?=arm|leg|hand)", name)
    return found.group(1).lower() if found else ""
