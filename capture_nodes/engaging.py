"""Engaging a robot from outside, until it tracks its trainer."""

from __future__ import annotations

import time

from capture_nodes.peer_nodes import Peer, PeerNodes, SessionFailed, SessionRefused

# States in which the robot does not follow the trainer any more until it is engaged again.
STOPPED = ("holding", "emergency_stop")
_AGAIN_S = 0.3


class RobotHeld(SessionFailed):
    """The retargeting went to a hold in a repetition that can be tried again."""


async def engage(peers: PeerNodes, retargeting: Peer, timeout_s: float) -> None:
    """Engage until the robot tracks; again where it refuses or goes to a hold on the way there.

    Raises `SessionFailed` with the reason where it does not come about.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        changes = retargeting.changes
        try:
            answer = await peers.call("engage")
            await _settle(peers, retargeting, answer, changes, deadline)
            return
        except (SessionRefused, RobotHeld) as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise SessionFailed(f"not engaged within {timeout_s:g} s: {problem}")
        await peers.pause(_AGAIN_S)


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
