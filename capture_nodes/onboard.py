"""The `onboard` command: `retargeting.onboarding` with the motion files that the sources can read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from retargeting.onboarding.cli import run
from retargeting.onboarding.self_test import Motion


def read_bvh(file: Path) -> tuple[Motion, float]:
    """A recorded motion and its length in s. Raises `InvalidMotion` or `OSError` where it cannot be read."""
    source = BvhSource(BvhParameters(file))
    return source.frame_at, source.duration_s


def main(argv: Sequence[str] | None = None) -> int:
    return run(argv, read_bvh)


if __name__ == "__main__":
    sys.exit(main())
