"""What the trainer is shown of the station, from the words its nodes say. Values are those of messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from retargeting.body_points import SIDES

# The recorder's automatic verdict in the words of a trainer.
_VERDICTS = {"passed": "accepted", "failed": "rejected"}
_LONGEST = 300


def retargeting_view(word: str, values: Mapping[str, str]) -> dict[str, object]:
    """From `retargeting/state`: the state, why, and each arm's clutch."""
    arms = {
        side: {"state": values[f"{side}_clutch"], "reason": ""}
        for side in SIDES
        if f"{side}_clutch" in values
    }
    return {"retargeting": {"state": word, "reason": values.get("reason", "")[:_LONGEST], "arms": arms}}


def arm_reasons(values: Mapping[str, str]) -> dict[str, str]:
    """From the retargeting's numbers on `/diagnostics`: why an arm holds."""
    return {side: values[f"{side}_holds"][:_LONGEST] for side in SIDES if f"{side}_holds" in values}


def with_reasons(view: Mapping[str, object], reasons: Mapping[str, str]) -> dict[str, object]:
    """The view of `retargeting_view` with the reasons of `arm_reasons`, for arms that do not follow."""
    retargeting = view.get("retargeting")
    if not isinstance(retargeting, dict):
        return dict(view)
    arms = {
        side: {**arm, "reason": "" if arm["state"] == "following" else reasons.get(side, "")}
        for side, arm in retargeting["arms"].items()
    }
    return {"retargeting": {**retargeting, "arms": arms}}


def episode_view(
    word: str, values: Mapping[str, str], session: Mapping[str, str] | None = None
) -> dict[str, object]:
    """From the recorder's episode and the session's progress: state, number, how the last one was judged."""
    episode: dict[str, object] = {"state": word, "problem": values.get("problem", "")[:_LONGEST]}
    if session is not None:
        episode |= {"number": session.get("episode", ""), "of": session.get("episodes", "")}
    if word in ("recording", "finishing"):
        episode["duration_s"] = _number(values.get("duration_s", ""))
    elif values.get("quality"):
        quality = values["quality"]
        episode["verdict"] = _VERDICTS.get(quality, quality)
        episode["reasons"] = _texts(values.get("quality_reasons", ""))
    return {"episode": episode}


# What the menu sign gets in each phase of a session; in any other one it comes too early or too late.
_SESSION_ANSWERS = {
    "waiting": (True, "Starting: hold the grip, or pinch"),
    "recording": (True, "Episode ended"),
    "starting": (False, "Not yet: the station is starting"),
    "engaging": (False, "Not yet: hold the grip, or pinch, until the arms follow"),
    "resetting": (False, "Not yet: the scene is being set"),
    "completing": (False, "Not yet: the last one is being written"),
    "completed": (False, "Not yet: the last one is being written"),
    "done": (False, "The session is over"),
}


def session_answer(phase: str) -> tuple[bool, str]:
    """What a session in `phase` makes of the menu sign: whether it does something, and in words."""
    return _SESSION_ANSWERS.get(phase, (False, f"Not now: {phase.replace('_', ' ') or 'no session runs'}"))


def notice_view(number: int, good: bool, text: str) -> dict[str, object]:
    """Something that is shown for a moment; a page shows each `number` once."""
    return {"notice": {"number": number, "good": good, "text": text[:_LONGEST]}}


def menu_view(episode: str, phase: str | None) -> dict[str, object]:
    """What the menu sign would do now ("start", "end", or "" nothing); `phase` of a session, None: none."""
    if phase is not None:
        return {"menu": {"waiting": "start", "recording": "end"}.get(phase, "")}
    return {"menu": {"idle": "start", "recording": "end"}.get(episode, "")}


def calibration_view(
    step: int, of: int, name: str, instruction: str, hint: str, held: float, left_s: float
) -> dict[str, object]:
    """A step of a calibration: what is asked for, what is missing, how much of the time it was held."""
    said = {"step": step, "of": of, "name": name, "instruction": instruction, "hint": hint[:_LONGEST]}
    return {"calibration": {**said, "held": round(held, 2), "left_s": round(left_s, 1)}}


def calibration_outcome_view(kept: bool, lines: Sequence[str]) -> dict[str, object]:
    outcome = "kept" if kept else "refused"
    shown = [line.replace("_", " ")[:_LONGEST] for line in lines[:4]]
    return {"calibration": {"outcome": outcome, "lines": shown}}


def task_view(robot: str, skill: str, instruction: str) -> dict[str, object]:
    """`instruction` is a text, or JSON with one for each language: then the English one, else the first."""
    try:
        texts = json.loads(instruction) if instruction.lstrip().startswith("{") else {"en": instruction}
        text = texts.get("en") or next(iter(texts.values()), "")
    except (ValueError, AttributeError):
        text = instruction
    return {"robot": robot, "task": {"skill": skill, "instruction": str(text)[:_LONGEST]}}


def _number(text: str) -> float:
    try:
        return round(float(text), 1)
    except ValueError:
        return 0.0


def _texts(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(entry)[:_LONGEST] for entry in found[:5]] if isinstance(found, list) else []
