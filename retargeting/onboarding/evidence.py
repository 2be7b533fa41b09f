"""What speaks for each thing that was inferred, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`what` was found, `why`, and whether independent signs agree on it (`sure`)."""

    what: str
    why: str
    sure: bool


@dataclass(frozen=True)
class Vote:
    """A sign for one of several choices. `weight` tells a convention (1) from a maker's own word (4)."""

    choice: str
    weight: float
    reason: str


def decide(votes: list[Vote], choices: Mapping[str, object]) -> tuple[str, str, bool]:
    """The choice with most weight, the reasons for (and against) it, and whether it is sure.

    Sure: all signs agree and weigh 2 or more, or they outweigh the others three to one.
    """
    totals = dict.fromkeys(choices, 0.0)
    for vote in votes:
        totals[vote.choice] += vote.weight
    winner = max(totals, key=lambda choice: totals[choice])
    others = sum(total for choice, total in totals.items() if choice != winner)
    reasons = "; ".join(dict.fromkeys(vote.reason for vote in votes if vote.choice == winner))
    against = "; ".join(dict.fromkeys(vote.reason for vote in votes if vote.choice != winner))
    if against:
        reasons += f" (against it: {against})"
    return winner, reasons or "a convention, nothing else", totals[winner] >= max(2.0, 3.0 * others)
