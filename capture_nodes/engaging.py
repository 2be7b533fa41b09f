"""Engaging a robot from outside, until it tracks its trainer.

After a hold the arms move again only by somebody's own doing. A squeeze or button has to be pressed anew, and
the retargeter refuses to engage before that; hands in view press nothing, and engaging them is their press:
that is then for a person to ask for, not for a program.
"""

from __future__ import annotations

import time

from capture_nodes.peer_nodes import Peer, PeerNodes, SessionFailed, SessionRefused
from retargeting.deadman import DeadmanMode

# States in which the robot does not follow the trainer any more until it is engaged again.
STOPPED = ("holding", "emergency_stop")
_AGAIN_S = 0.3


class RobotHeld(SessionFailed):
    """The retargeting went to a hold in a repetition that can be tried again."""


def needs_a_person(retargeting: Peer, held: bool) -> bool:
    """Whether only a person may engage now; held: the arms went to a hold since they last tracked."""
    return held and retargeting.values.get("deadman") == DeadmanMode.HANDS.value


async def engage(
    peers: PeerNodes, retargeting: Peer, timeout_s: float, person_timeout_s: float, held: bool
) -> None:
    """Engage until the robot tracks; again where it refuses or goes to a hold on the way there.

    held: it went to a hold before. Where only a person may engage then, they are waited for up to
    `person_timeout_s`. Raises `SessionFailed` with the reason where it does not come about.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if needs_a_person(retargeting, held):
            await _by_a_person(peers, retargeting, person_timeout_s)
            return
        changes = retargeting.changes
        try:
            answer = await peers.call("engage")
            await _settle(peers, retargeting, answer, changes, deadline)
            return
        except (SessionRefused, RobotHeld) as error:
            problem = str(error)
            held = held or isinstance(error, RobotHeld)
        if time.monotonic() > deadline:
            raise SessionFailed(f"not engaged within {timeout_s:g} s: {problem}")
        await peers.pause(_AGAIN_S)


async def _by_a_person(peers: PeerNodes, retargeting: Peer, timeout_s: float) -> None:
    """Wait until somebody else has engaged, or the hands went out of view and came back."""
    problem = retargeting.problem
    await peers.until(
        lambda: retargeting.word == "tracking",
        timeout_s,
        f"{problem}; nobody engaged the hands again (call {retargeting.name}/engage, or take them out of "
        "view and back)",
    )


async def _settle(peers: PeerNodes, retargeting: Peer, answer: str, changes: int, deadline: float) -> None:
    """Wait until the robot tracks or holds; `changes`: how often the state had been told before engaging."""

    def settled() -> bool:
        # Where the trainer's deadman had engaged it before, no change tells of it.
        if answer == "tracking" and retargeting.word == answer:
            return True
        return retargeting.changes > changes and retargeting.word in ("tracking", *STOPPED)

    try:
        await peers.until(settled, max(1.0, deadline - time.monotonic()), "not engaged")
    except SessionFailed as error:
        raise SessionFailed(f"{error}: {retargeting.problem}") from error
    if retargeting.word != "tracking":
        raise RobotHeld(retargeting.problem)
