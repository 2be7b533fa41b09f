"""What the trainer holds: poses, triggers, sticks and buttons through OpenXR's action system, and haptics."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from capture_nodes.sources.openxr.driver import SESSION_NOT_FOCUSED, SUCCESS, Runtime, failure
from capture_nodes.sources.openxr.profiles import (
    BOOLEAN_ACTIONS,
    FLOAT_ACTIONS,
    HAPTIC_ACTION,
    POSE_ACTIONS,
    Profile,
    offered_profiles,
)
from retargeting.body_points import SIDES


@dataclass(frozen=True)
class Reading:
    """Of one hand: inputs by action (an action that is bound to nothing now is absent).

    profile: what it holds, "" where that is nothing; bare: the hand itself is the device.
    """

    profile: str
    bare: bool
    inputs: Mapping[str, float]

    @property
    def holds(self) -> bool:
        return self.profile != "" and not self.bare


_NOTHING = Reading("", False, {})


class _Read:
    """One action of one hand, and the structures that it is read with."""

    __slots__ = ("function", "info", "name", "state", "told")

    def __init__(self, name: str, function: Callable[..., int], info: Any, state: Any) -> None:
        self.name, self.function, self.state = name, function, state
        self.info, self.told = info, ctypes.byref(state)


class Controllers:
    """One action set for both hands. Raises `RuntimeFailed`.

    refused: profile and reason of every suggestion that the runtime did not take.
    """

    def __init__(self, runtime: Runtime, session: Any, extensions: frozenset[str], minor: int) -> None:
        self._runtime, self._session = runtime, session
        self._xr = runtime.xr
        self.refused: dict[str, str] = {}
        self.suggested: list[str] = []
        self._profiles: dict[int, Profile] = {}
        self._bound: dict[str, list[_Read]] = {side: [] for side in SIDES}
        self._held: dict[str, tuple[str, bool]] = dict.fromkeys(SIDES, ("", False))
        try:
            self._make(offered_profiles(extensions, minor))
        except (self._xr.XrException, ValueError) as error:
            raise failure("making actions", error) from error
        self._bind_functions()

    def _make(self, profiles: tuple[Profile, ...]) -> None:
        xr, instance = self._xr, self._runtime.instance
        self._side_paths = {side: xr.string_to_path(instance, f"/user/hand/{side}") for side in SIDES}
        self._set = xr.create_action_set(
            instance,
            xr.ActionSetCreateInfo(
                action_set_name="trainer", localized_action_set_name="Teleoperation", priority=0
            ),
        )
        kinds = {
            **dict.fromkeys(POSE_ACTIONS, xr.ActionType.POSE_INPUT),
            **dict.fromkeys(FLOAT_ACTIONS, xr.ActionType.FLOAT_INPUT),
            **dict.fromkeys(BOOLEAN_ACTIONS, xr.ActionType.BOOLEAN_INPUT),
            HAPTIC_ACTION: xr.ActionType.VIBRATION_OUTPUT,
        }
        paths = (xr.Path * len(SIDES))(*self._side_paths.values())
        self._actions = {
            name: xr.create_action(
                self._set,
                xr.ActionCreateInfo(
                    action_name=name,
                    action_type=kind,
                    count_subaction_paths=len(SIDES),
                    subaction_paths=paths,
                    localized_action_name=name.replace("_", " "),
                ),
            )
            for name, kind in kinds.items()
        }
        for profile in profiles:
            self._suggest(profile)
        xr.attach_session_action_sets(self._session, xr.SessionActionSetsAttachInfo(action_sets=[self._set]))
        self.spaces = {
            f"{side}_{pose}": xr.create_action_space(
                self._session,
                xr.ActionSpaceCreateInfo(action=self._actions[pose], subaction_path=self._side_paths[side]),
            )
            for side in SIDES
            for pose in POSE_ACTIONS
        }

    def _suggest(self, profile: Profile) -> None:
        xr, instance = self._xr, self._runtime.instance
        try:
            path = xr.string_to_path(instance, profile.path)
            bindings = [
                xr.ActionSuggestedBinding(self._actions[action], xr.string_to_path(instance, component))
                for action, component in profile.bindings()
            ]
            xr.suggest_interaction_profile_bindings(
                instance,
                xr.InteractionProfileSuggestedBinding(
                    interaction_profile=path,
                    suggested_bindings=(xr.ActionSuggestedBinding * len(bindings))(*bindings),
                ),
            )
        except (xr.XrException, ValueError) as error:
            # This controller will do nothing here, or what the runtime makes of another one's bindings.
            self.refused[profile.name] = failure("", error).reason
            return
        self.suggested.append(profile.name)
        self._profiles[int(path.value)] = profile

    def _bind_functions(self) -> None:
        xr, function = self._xr, self._runtime.function
        get_info = ctypes.POINTER(xr.ActionStateGetInfo)
        self._sync_function = function("xrSyncActions", xr.Session, ctypes.POINTER(xr.ActionsSyncInfo))
        get_float = function(
            "xrGetActionStateFloat", xr.Session, get_info, ctypes.POINTER(xr.ActionStateFloat)
        )
        get_boolean = function(
            "xrGetActionStateBoolean", xr.Session, get_info, ctypes.POINTER(xr.ActionStateBoolean)
        )
        self._current_profile = function(
            "xrGetCurrentInteractionProfile",
            xr.Session,
            xr.Path,
            ctypes.POINTER(xr.InteractionProfileState),
        )
        haptic_info = ctypes.POINTER(xr.HapticActionInfo)
        self._apply = function(
            "xrApplyHapticFeedback", xr.Session, haptic_info, ctypes.POINTER(xr.HapticVibration)
        )
        self._stop = function("xrStopHapticFeedback", xr.Session, haptic_info)
        self._active_set = xr.ActiveActionSet(action_set=self._set, subaction_path=0)
        self._sync_info = xr.ActionsSyncInfo(active_action_sets=[self._active_set])
        self._reads: dict[str, dict[str, _Read]] = {}
        self._haptics: dict[str, Any] = {}
        for side, path in self._side_paths.items():
            infos = {
                name: xr.ActionStateGetInfo(action=self._actions[name], subaction_path=path)
                for name in (*FLOAT_ACTIONS, *BOOLEAN_ACTIONS)
            }
            kinds = (
                (FLOAT_ACTIONS, get_float, xr.ActionStateFloat),
                (BOOLEAN_ACTIONS, get_boolean, xr.ActionStateBoolean),
            )
            self._reads[side] = {
                name: _Read(name, function, infos[name], state())
                for names, function, state in kinds
                for name in names
            }
            self._haptics[side] = xr.HapticActionInfo(
                action=self._actions[HAPTIC_ACTION], subaction_path=path
            )

    def sync(self) -> bool:
        """Take over the inputs of now; False while somebody else has the trainer's attention."""
        code = self._sync_function(self._session, self._sync_info)
        return self._runtime.check(code, "xrSyncActions") != SESSION_NOT_FOCUSED

    def read(self, side: str) -> Reading:
        """As of the last `sync`."""
        profile, bare = self._held[side]
        if not profile:
            return _NOTHING
        inputs = {}
        for read in self._bound[side]:
            code = read.function(self._session, read.info, read.told)
            if code != SUCCESS:
                self._runtime.check(code, "reading an action")
            if read.state.is_active:
                inputs[read.name] = float(read.state.current_state)
        return Reading(profile, bare, inputs)

    def look_what_is_held(self) -> None:
        """After the runtime said that this has changed."""
        state = self._xr.InteractionProfileState()
        for side, path in self._side_paths.items():
            code = self._current_profile(self._session, path, ctypes.byref(state))
            self._runtime.check(code, "xrGetCurrentInteractionProfile")
            held = int(state.interaction_profile)
            profile = self._profiles.get(held)
            # Of a device that we suggested nothing for, the runtime may have bound anything.
            reads = self._reads[side]
            self._bound[side] = [r for name, r in reads.items() if profile is None or name in profile.inputs]
            known = (profile.name, profile.bare_hands) if profile is not None else ("another device", False)
            self._held[side] = known if held else ("", False)

    @property
    def held(self) -> Mapping[str, str]:
        return {side: name for side, (name, _bare) in self._held.items()}

    def rumble(self, side: str, intensity: float, duration_s: float) -> None:
        """What the device has no motor for is left out by the runtime."""
        if intensity <= 0.0:
            self._runtime.check(self._stop(self._session, self._haptics[side]), "xrStopHapticFeedback")
            return
        vibration = self._xr.HapticVibration(
            duration=round(duration_s * 1e9), frequency=0.0, amplitude=min(1.0, intensity)
        )
        code = self._apply(self._session, self._haptics[side], ctypes.byref(vibration))
        self._runtime.check(code, "xrApplyHapticFeedback")
