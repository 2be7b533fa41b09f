"""Which inputs of which controllers do what: bindings suggested to the runtime.

Paths are those of the OpenXR specification's interaction profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from retargeting.body_points import SIDES

POSE_ACTIONS = ("grip", "aim")
FLOAT_ACTIONS = ("trigger", "squeeze", "stick_x", "stick_y", "pinch", "grasp")
BOOLEAN_ACTIONS = ("primary", "secondary", "stick", "menu", "pinch_ready", "grasp_ready")
HAPTIC_ACTION = "haptic"


@dataclass(frozen=True)
class Profile:
    """inputs: component path of each action, one for both hands or (left, right) with "" for none.

    needs: the extension without which the path is unknown, and the OpenXR 1.x that made it core.
    """

    name: str
    path: str
    inputs: Mapping[str, str | tuple[str, str]]
    needs: str = ""
    core_since: int = 0
    haptics: bool = True
    bare_hands: bool = False
    all_inputs: Mapping[str, str | tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        whole: dict[str, str | tuple[str, str]] = {
            "grip": "input/grip/pose",
            "aim": "input/aim/pose",
            **self.inputs,
        }
        if self.haptics:
            whole[HAPTIC_ACTION] = "output/haptic"
        object.__setattr__(self, "all_inputs", whole)

    def bindings(self) -> list[tuple[str, str]]:
        """Every (action, whole path) of both hands."""
        found = []
        for action, component in self.all_inputs.items():
            for k, side in enumerate(SIDES):
                path = component if isinstance(component, str) else component[k]
                if path:
                    found.append((action, f"/user/hand/{side}/{path}"))
        return found


_STICK = {
    "stick_x": "input/thumbstick/x",
    "stick_y": "input/thumbstick/y",
    "stick": "input/thumbstick/click",
}
_LETTERS = {
    "primary": ("input/x/click", "input/a/click"),
    "secondary": ("input/y/click", "input/b/click"),
}
_TRIGGER = {"trigger": "input/trigger/value"}
_LEFT_MENU = {"menu": ("input/menu/click", "")}

PROFILES: tuple[Profile, ...] = (
    Profile(
        "touch",
        "/interaction_profiles/oculus/touch_controller",
        {**_TRIGGER, "squeeze": "input/squeeze/value", **_STICK, **_LETTERS, **_LEFT_MENU},
    ),
    Profile(
        "index",
        "/interaction_profiles/valve/index_controller",
        # Its squeeze/value is already 1 in a hand that merely lies around it: a deadman has to be pressed.
        {
            **_TRIGGER,
            "squeeze": "input/squeeze/force",
            **_STICK,
            "primary": "input/a/click",
            "secondary": "input/b/click",
        },
    ),
    Profile(
        "vive",
        "/interaction_profiles/htc/vive_controller",
        {
            **_TRIGGER,
            "squeeze": "input/squeeze/click",
            "stick_x": "input/trackpad/x",
            "stick_y": "input/trackpad/y",
            "stick": "input/trackpad/click",
            "menu": "input/menu/click",
        },
    ),
    Profile(
        "pico 4",
        "/interaction_profiles/bytedance/pico4_controller",
        {**_TRIGGER, "squeeze": "input/squeeze/value", **_STICK, **_LETTERS, **_LEFT_MENU},
        needs="XR_BD_controller_interaction",
        core_since=1,
    ),
    Profile(
        "pico neo 3",
        "/interaction_profiles/bytedance/pico_neo3_controller",
        {
            **_TRIGGER,
            "squeeze": "input/squeeze/value",
            **_STICK,
            **_LETTERS,
            "menu": "input/menu/click",
        },
        needs="XR_BD_controller_interaction",
        core_since=1,
    ),
    Profile(
        "hands",
        "/interaction_profiles/ext/hand_interaction_ext",
        {
            "pinch": "input/pinch_ext/value",
            "pinch_ready": "input/pinch_ext/ready_ext",
            "grasp": "input/grasp_ext/value",
            "grasp_ready": "input/grasp_ext/ready_ext",
        },
        needs="XR_EXT_hand_interaction",
        haptics=False,
        bare_hands=True,
    ),
    Profile(
        "simple",
        "/interaction_profiles/khr/simple_controller",
        # One button: without a deadman nothing moves at all, so it is that.
        {"squeeze": "input/select/click", "menu": "input/menu/click"},
    ),
)


def offered_profiles(extensions: frozenset[str], minor_version: int) -> tuple[Profile, ...]:
    """Those that an instance of OpenXR 1.`minor_version` with these extensions can know."""
    return tuple(
        profile
        for profile in PROFILES
        if not profile.needs
        or profile.needs in extensions
        or (profile.core_since and minor_version >= profile.core_since)
    )
