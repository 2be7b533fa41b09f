"""Finer capsules for two links whose capsules overlap though the links do not.

The capsules around the parts of two links are cut in two, always one of the pair that is nearest, until all
are far enough apart in the given postures. What the cuts leave is a list of pairs of capsules, coarse where
the links are far from each other and fine where they are near; together they still enclose both links.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.capsule_distance import closest_points
from retargeting.capsules import Piece
from retargeting.frames import pose_apply

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FinePair:
    """Two pieces and the least distance (m) of their capsules in the postures they were cut for."""

    first: Piece
    second: Piece
    distance_m: float


class PlacedPieces:
    """Pieces of links in some postures of their robot.

    places: body and pose in it by link; postures: positions ``(b, 3)``, rotations ``(b, 3, 3)`` of bodies.
    """

    def __init__(self, places: dict[str, tuple[int, Array]], postures: Sequence[tuple[Array, Array]]) -> None:
        self._places, self._postures = places, list(postures)
        self._ends: dict[int, tuple[Piece, Array]] = {}
        self._on_a, self._on_b = np.empty(3), np.empty(3)

    def distance(self, first: Piece, second: Piece) -> float:
        """The least distance (m) of their capsules in any of the postures."""
        gaps = (
            closest_points(a[0], a[1], b[0], b[1], self._on_a, self._on_b)
            for a, b in zip(self._placed(first), self._placed(second), strict=True)
        )
        return float(min(gaps)) - first.capsule.radius_m - second.capsule.radius_m

    def _placed(self, piece: Piece) -> Array:
        """Both ends ``(postures, 2, 3)``."""
        known = self._ends.get(id(piece))
        if known is None:
            body, pose = self._places[piece.capsule.link]
            ends = pose_apply(pose, np.array([piece.capsule.start, piece.capsule.end]))
            placed = np.array(
                [positions[body] + ends @ rotations[body].T for positions, rotations in self._postures]
            )
            known = self._ends[id(piece)] = (piece, placed)
        return known[1]


def finer_pairs(
    pairs: Sequence[tuple[Piece, Piece]], placed: PlacedPieces, wanted_m: float, most: int
) -> list[FinePair]:
    """Cut until all pairs are `wanted_m` apart, none can be cut, or there are `most` of them."""
    counter = 0
    waiting: list[tuple[float, int, Piece, Piece]] = []
    stuck: list[FinePair] = []

    def put(first: Piece, second: Piece) -> None:
        nonlocal counter
        heapq.heappush(waiting, (placed.distance(first, second), counter, first, second))
        counter += 1

    for first, second in pairs:
        put(first, second)
    while waiting and waiting[0][0] < wanted_m and len(waiting) + len(stuck) < most:
        distance_m, _, first, second = heapq.heappop(waiting)
        cut_first = first.capsule.radius_m >= second.capsule.radius_m
        if not (first if cut_first else second).halves():
            cut_first = not cut_first
        halves = (first if cut_first else second).halves()
        for half in halves:
            put(half, second) if cut_first else put(first, half)
        if not halves:
            stuck.append(FinePair(first, second, distance_m))
    return stuck + [FinePair(first, second, distance_m) for distance_m, _, first, second in waiting]
