"""Robot hands to try: those that Python packages hold (skipped where not installed) and made-up ones."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import pytest
import trainer_hand

from retargeting.body_points import FINGERS
from retargeting.frames import quaternion_from_rotation_matrix
from retargeting.hand_model import build_robot_hand
from retargeting.robot_description import Finger, Gripper, GripperJoint, Site
from retargeting.urdf import load_urdf

ROBOT_DATA = "cmeel.prefix/share/example-robot-data/robots"
FOURIER = "fourier_robot_descriptions/assets/urdf"
AXES = {
    f"{sign}{axis}": s * np.eye(3)[i] for sign, s in (("+", 1), ("-", -1)) for i, axis in enumerate("xyz")
}


def _sides(package, file, wrist, axes, joints, fingers, radius, sides=("left", "right")):
    """Entries of both sides; `{S}` L or R, `{s}` left or right, `{l}` l or r in names."""
    found = {}
    for side in sides:
        words = {"S": side[0].upper(), "s": side, "l": side[0]}

        def fill(text, words=words):
            return re.sub(r"\{([Ssl])\}", lambda match: words[match[1]], text)

        found[side] = dict(
            package=package,
            file=fill(file),
            side=side,
            wrist=fill(wrist),
            axes=axes,
            joints=fill(joints),
            fingers={
                name: (fill(tip), xyz[side] if isinstance(xyz, dict) else xyz)
                for name, (tip, xyz) in fingers.items()
            },
            radius=radius,
        )
    return found


def _same_tips(pattern, names):
    return {finger: (pattern.replace("*", name), (0, 0, 0)) for finger, name in names.items()}


FIVE = {"thumb": "thumb", "index": "index", "middle": "middle", "ring": "ring", "little": "pinky"}
_ALLEGRO = dict(
    package="example-robot-data",
    wrist="palm_link",
    axes=("+z", "-x"),
    joints=r"joint_\d+\.0",
    radius=0.012,
)
HANDS = {
    # Of the left hand the index finger is that of joints 0-3 too: both are numbered from thumb to little.
    "allegro left": dict(
        **_ALLEGRO,
        file=f"{ROBOT_DATA}/allegro_hand_description/urdf/allegro_left_hand.urdf",
        side="left",
        fingers=_same_tips("link_*.0_tip", {"thumb": "15", "index": "3", "middle": "7", "ring": "11"}),
    ),
    "allegro right": dict(
        **_ALLEGRO,
        file=f"{ROBOT_DATA}/allegro_hand_description/urdf/allegro_right_hand.urdf",
        side="right",
        fingers=_same_tips("link_*.0_tip", {"thumb": "15", "index": "3", "middle": "7", "ring": "11"}),
    ),
    "hey5 right": dict(
        package="example-robot-data",
        file=f"{ROBOT_DATA}/tiago_description/robots/tiago.urdf",
        side="right",
        wrist="hand_palm_link",
        axes=("+x", "-y"),
        joints=r"hand_(thumb|index|middle|ring|little)_(abd|virtual_\d|flex_\d)_joint",
        fingers={
            "thumb": ("hand_thumb_flex_2_link", (0.02, 0, 0)),
            **{f: (f"hand_{f}_flex_3_link", (0.015, 0, 0)) for f in ("index", "middle", "ring", "little")},
        },
        radius=0.008,
    ),
}
for _name, _entries in {
    "g1": _sides(
        "example-robot-data",
        f"{ROBOT_DATA}/g1_description/urdf/g1_29dof_with_hand_rev_1_0.urdf",
        "{s}_wrist_yaw_link",
        {"left": ("+x", "+y"), "right": ("+x", "-y")},
        r"{s}_hand_.*_joint",
        {
            "thumb": ("{s}_hand_thumb_2_link", {"left": (0, -0.04, 0), "right": (0, 0.04, 0)}),
            "index": ("{s}_hand_index_1_link", (0.04, 0, 0)),
            "middle": ("{s}_hand_middle_1_link", (0.04, 0, 0)),
        },
        0.009,
    ),
    "romeo": _sides(
        "example-robot-data",
        f"{ROBOT_DATA}/romeo_description/urdf/romeo.urdf",
        "{l}_wrist",
        ("+x", "+z"),
        r"{S}Hand",
        {
            "thumb": ("{S}Thumb3Link", (0.018, 0, 0)),
            "index": ("{S}Finger31Link", (0.018, 0, 0)),
            "middle": ("{S}Finger23Link", (0.018, 0, 0)),
            "ring": ("{S}Finger13Link", (0.018, 0, 0)),
        },
        0.008,
    ),
    "fourier12": _sides(
        "fourier-robot-descriptions",
        f"{FOURIER}/fourier_{{s}}_hand_12dof.urdf",
        "{S}_hand_base_link",
        {"left": ("-z", "+y"), "right": ("-z", "-y")},
        r".*",
        _same_tips("{S}_*_tip_link", FIVE),
        0.007,
    ),
    "fourier6": _sides(
        "fourier-robot-descriptions",
        f"{FOURIER}/fourier_{{s}}_hand_6dof.urdf",
        "{S}_hand_base_link",
        {"left": ("-z", "+y"), "right": ("-z", "-y")},
        r".*",
        _same_tips("{S}_*_tip_link", FIVE),
        0.007,
    ),
    "inspire": _sides(
        "fourier-robot-descriptions",
        f"{FOURIER}/inspire_{{s}}_hand.urdf",
        "{S}_hand_base_link",
        {"left": ("-z", "+y"), "right": ("-z", "-y")},
        r".*",
        _same_tips("{S}_*_tip", FIVE),
        0.007,
    ),
    "f5d6": _sides(
        "dexmate-urdf",
        "dexmate_urdf/robots/hands/f5d6_hand/f5d6_{s}.urdf",
        "{S}_hand_base",
        ("-x", "+z"),
        r".*",
        _same_tips("{S}_*_tip", {"thumb": "th", "index": "ff", "middle": "mf", "ring": "rf", "little": "lf"}),
        0.007,
    ),
    "icub_mk3": _sides(
        "icub-models",
        "../../../share/iCub/robots/left_hand_mk3/model.urdf",
        "l_hand_palm_link",
        ("+x", "+z"),
        r".*",
        {
            "thumb": ("l_hand_thumb_fingertip_link", (0.018, 0, 0)),
            "index": ("l_hand_index_fingertip_link", (0.018, 0, 0)),
            "middle": ("l_hand_medium_fingertip_link", (0.018, 0, 0)),
            "little": ("l_hand_pinky_fingertip_link", (0.018, 0, 0)),
        },
        0.007,
        sides=("left",),
    ),
}.items():
    for _side, _entry in _entries.items():
        HANDS[f"{_name} {_side}"] = _entry


def _site(link, along, back):
    x, z = AXES[along], AXES[back]
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    return Site(link, np.concatenate([np.zeros(3), quaternion_from_rotation_matrix(rotation)]))


def _gripper(urdf, pattern, open_at_limit=False):
    """Every joint of its own that matches; closed towards the farther limit, open at 0 or the other limit."""
    joints = {}
    for joint in urdf.joints.values():
        if joint.kind == "fixed" or joint.mimic is not None or not re.fullmatch(pattern, joint.name):
            continue
        low, high = max(joint.lower, -np.pi), min(joint.upper, np.pi)
        closed = 0.8 * (high if high >= -low else low)
        opened = (low if high >= -low else high) if open_at_limit else min(max(0.0, low), high)
        joints[joint.name] = GripperJoint(closed, opened)
    return Gripper(joints)


def load_hand(name):
    """The `RobotHand` of a name in `HANDS`; skips the test where its package is not installed."""
    entry = HANDS[name]
    try:
        distribution = importlib.metadata.distribution(entry["package"])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name}: the Python package {entry['package']} is not installed")
    path = Path(str(distribution.locate_file(entry["file"])))
    if not path.is_file():
        pytest.skip(f"{name}: {entry['package']} {distribution.version} holds no {path.name}")
    urdf = load_urdf(path, tuple(path.parents))
    axes = entry["axes"]
    axes = axes[entry["side"]] if isinstance(axes, dict) else axes
    fingers = {
        f: Finger(tip, np.array(xyz, float), entry["radius"]) for f, (tip, xyz) in entry["fingers"].items()
    }
    gripper = _gripper(urdf, entry["joints"], "f5d6" in name)
    return build_robot_hand(urdf, entry["side"], gripper, fingers, _site(entry["wrist"], *axes), {})


# ---- made-up hands

# Which joints of a finger are there by how many joints it has; the other bending joints mimic the knuckle.
_OWN = {
    1: ("flexion",),
    2: ("flexion", "middle"),
    3: ("abduction", "flexion", "middle"),
    4: ("abduction", "flexion", "middle", "distal"),
    5: ("metacarpal", "abduction", "flexion", "middle", "distal"),
}


def made_urdf(side, counts, scale=1.0, shared=False):
    """URDF text of a hand like the trainer's, `scale` times as large.

    counts: joints per finger (`_OWN`); 0 leaves the finger out. shared: the fingers (not the thumb) all
    mimic the first one's knuckle.
    """
    mirror = 1.0 if side == "right" else -1.0
    lines = ['<robot name="made"><link name="palm"/>']

    def joint(name, parent, child, xyz, rpy, axis, limits, mimic=None):
        lines.append(
            f'<link name="{child}"/><joint name="{name}" type="{"revolute" if limits else "fixed"}">'
            f'<parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{xyz[0]} {xyz[1]} {xyz[2]}" rpy="{rpy[0]} {rpy[1]} {rpy[2]}"/>'
            + (f'<axis xyz="{axis}"/>' if limits else "")
            + (f'<limit lower="{limits[0]}" upper="{limits[1]}" velocity="6"/>' if limits else "")
            + (f'<mimic joint="{mimic}"/>' if mimic else "")
            + "</joint>"
        )

    leader = ""
    for f, finger in enumerate(FINGERS):
        if not counts[f]:
            continue
        own = _OWN[counts[f]]
        rotation = np.eye(3)
        if f == 0:
            rotation = trainer_hand._thumb_axes()
            if side == "left":
                # A mirrored frame is left-handed; turning its y back keeps y the bending axis.
                flip = np.diag([1.0, -1.0, 1.0])
                rotation = flip @ rotation @ flip
        pitch = -np.arcsin(rotation[2, 0])
        rpy = (
            np.arctan2(rotation[2, 1], rotation[2, 2]),
            pitch,
            np.arctan2(rotation[1, 0], rotation[0, 0]),
        )
        lower, upper = trainer_hand.LOWER[f], trainer_hand.UPPER[f]
        bones = scale * trainer_hand.BONES[f]
        parent = "palm"
        where = scale * trainer_hand.BASES[f] * [1.0, mirror, 1.0]
        if "metacarpal" in own:
            joint(f"{finger}_metacarpal", parent, f"{finger}_hand", (0, 0, 0), (0, 0, 0), "0 1 0", (0, 0.2))
            parent = f"{finger}_hand"
        joint(f"{finger}_mount", parent, f"{finger}_base", where, rpy, "", None)
        parent = f"{finger}_base"
        if "abduction" in own:
            joint(
                f"{finger}_abduction", parent, f"{finger}_side", (0, 0, 0), (0, 0, 0), f"0 0 {mirror}",
                (lower[1], upper[1]),
            )  # fmt: skip
            parent = f"{finger}_side"
        for part, bone, limit in (("flexion", 0.0, 0), ("middle", bones[0], 2), ("distal", bones[1], 3)):
            follows = None if part in own else f"{finger}_flexion"
            if shared and f > 0 and leader:
                follows = leader
            joint(
                f"{finger}_{part}", parent, f"{finger}_{part}_link", (bone, 0, 0), (0, 0, 0), "0 1 0",
                (lower[limit], upper[limit]), follows,
            )  # fmt: skip
            if f > 0 and not leader and part == "flexion":
                leader = f"{finger}_flexion"
            parent = f"{finger}_{part}_link"
    return "\n".join([*lines, "</robot>"])


def made_hand(folder, side="right", counts=(4, 4, 4, 4, 4), scale=1.0, shared=False, radius=0.006):
    """A `RobotHand` from `made_urdf`, written to `folder`."""
    path = folder / "made.urdf"
    path.write_text(made_urdf(side, counts, scale, shared))
    urdf = load_urdf(path)
    fingers = {
        finger: Finger(
            f"{finger}_distal_link",
            scale * np.array([trainer_hand.BONES[f, 2], 0, 0]),
            radius,
            # A finger that already bends inside the palm must say where its knuckle is.
            f"{finger}_side" if counts[f] == 5 else "",
        )
        for f, finger in enumerate(FINGERS)
        if counts[f]
    }
    return build_robot_hand(urdf, side, _gripper(urdf, ".*"), fingers, _site("palm", "+x", "+z"), {})


def made_robot(folder, side="right", counts=(4, 4, 4, 4, 4), name="made", hands=True):
    """The file `robot.yaml` of a robot with one arm joint and the hand of `made_urdf`."""
    body = (
        '<robot name="made"><link name="base"/><link name="palm"/><joint name="arm" type="revolute">'
        '<parent link="base"/><child link="palm"/><origin xyz="0.2 0 1" rpy="0.3 -0.2 0.5"/>'
        '<axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="2"/></joint>'
    )
    text = made_urdf(side, counts).replace('<robot name="made"><link name="palm"/>', body)
    (folder / "made.urdf").write_text(text)
    gripper = _gripper(load_urdf(folder / "made.urdf"), "(thumb|index|middle|ring|little)_.*")
    lines = [
        f"name: {name}",
        "urdf: {file: made.urdf}",
        "base_link: base",
        f"chains: {{{side}_arm: [arm]}}",
        f"sites: {{{side}_shoulder: {{link: base}}, {side}_wrist: {{link: palm}}}}",
        f"grippers:\n  {side}:\n    joints:",
    ]
    for joint, ends in gripper.joints.items():
        lines.append(f"      {joint}: {{closed: {ends.closed}, open: {ends.open}}}")
    if hands:
        lines.append(f"hands:\n  {side}:")
        for f, finger in enumerate(FINGERS):
            if counts[f]:
                bone = trainer_hand.BONES[f, 2]
                lines.append(
                    f"    {finger}: {{tip: {finger}_distal_link, xyz_m: [{bone}, 0, 0], pad_radius_m: 0.006}}"
                )
    file = folder / "robot.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file
