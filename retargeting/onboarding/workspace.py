"""Where an arm's wrist can go: points of it, sampled over the joints' travel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.onboarding.body import Body
from retargeting.onboarding.skeleton import travel

Array = NDArray[np.float64]


def reachable_wrists(body: Body, side: str, samples: int = 3000, seed: int = 0) -> Array:
    """Wrist positions ``(samples, 3)`` in the root over random postures of one arm, the body neutral."""
    arm = body.arms[side]
    rng = np.random.default_rng(seed)
    ends = np.array([travel(body.skeleton.urdf.joints[name]) for name in arm.joints])
    points = np.empty((samples, 3))
    for k, q in enumerate(rng.uniform(ends[:, 0], ends[:, 1], (samples, len(arm.joints)))):
        positions = body.neutral_posture | dict(zip(arm.joints, q.tolist(), strict=True))
        points[k] = body.site_position(arm.wrist, body.skeleton.posture(positions))
    return points
