"""What `python -m benchmarks.openxr` makes of changes and of the frames that show them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.openxr.__main__ import latencies

MS = 1_000_000


def test_a_change_is_timed_by_the_first_frame_that_shows_it() -> None:
    """Polled every 11 ms, received 2 ms later; each change falls somewhere between two polls."""
    random = np.random.default_rng(3)
    waits_ms = random.uniform(0.5, 10.5, 40)
    changes = [(int((55 * k + 11 - wait) * MS), 1e-4 * (k + 1)) for k, wait in enumerate(waits_ms)]
    frames = []
    for poll in range(220):
        asked_ns = 11 * poll * MS
        x = max((x for moment_ns, x in changes if moment_ns < asked_ns), default=0.0)
        frames.append((asked_ns + 2 * MS, asked_ns, x))
    found = latencies(changes, frames)
    assert found["poll to topic"] == pytest.approx({"p5": 2, "median": 2, "p99": 2, "largest": 2})
    assert found["change to poll"]["median"] == pytest.approx(np.median(waits_ms), abs=1e-3)
    assert found["change to topic"]["largest"] == pytest.approx(waits_ms.max() + 2.0, abs=1e-3)


def test_a_change_that_was_never_seen_is_left_out() -> None:
    changes = [(0, 1e-4), (20 * MS, 2e-4), (30 * MS, 3e-4)]
    frames = [(5 * MS, 4 * MS, 1e-4), (35 * MS, 34 * MS, 3e-4)]
    found = latencies(changes, frames)
    assert found["change to topic"] == pytest.approx({"p5": 5, "median": 5, "p99": 5, "largest": 5})
