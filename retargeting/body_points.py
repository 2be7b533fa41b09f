"""The named points of a trainer's body and the axes each of them carries.

Axes are defined by one neutral pose: standing upright, facing along the trainer frame's +x, both
arms stretched straight forward, palms down, fingers straight. In that pose *every* point's axes are
parallel to the trainer frame's (x forward, y left, z up). Hence for arms and hands x points along
the segment away from the body, and z out of the back of the hand; for head, chest and pelvis x is
where they face. Both sides use the same axes, nothing is mirrored.

The further hand joints are those of OpenXR ``XR_EXT_hand_tracking`` except its wrist.
"""

from __future__ import annotations

SIDES = ("left", "right")
CENTRAL_POINTS = ("head", "chest", "pelvis")
LIMB_POINTS = tuple(
    f"{side}_{part}" for side in SIDES for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
CONTROLLER_POINTS = tuple(f"{side}_{part}" for side in SIDES for part in ("grip", "aim"))
FINGERS = ("thumb", "index", "middle", "ring", "little")
_FINGER_JOINTS = ("metacarpal", "proximal", "intermediate", "distal", "tip")
HAND_JOINTS = (
    "palm",
    *(f"thumb_{joint}" for joint in _FINGER_JOINTS if joint != "intermediate"),
    *(f"{f}_{joint}" for f in FINGERS[1:] for joint in _FINGER_JOINTS),
)
HAND_POINTS = tuple(f"{side}_{joint}" for side in SIDES for joint in HAND_JOINTS)
BODY_POINTS = (*CENTRAL_POINTS, *LIMB_POINTS, *CONTROLLER_POINTS, *HAND_POINTS)
BODY_POINT_SET = frozenset(BODY_POINTS)
