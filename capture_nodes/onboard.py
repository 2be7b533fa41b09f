"""The `onboard` command: `retargeting.onboarding` with the motion files that the sources can read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from capture_nodes.sources.source import SourceError
from retargeting.errors import RetargetingError
from retargeting.onboarding.cli import run
from retargeting.onboarding.self_test import Motion


def read_bvh(file: Path) -> tuple[Motion, float]:
    """A recorded motion and its length in s. Raises `RetargetingError` where it cannot be read."""
    try:
        source = BvhSource(BvhParameters(file))
    except SourceError as error:
        raise RetargetingError(f"--motion {file}: {error}") from error
    return source.frame_at, source.duration_s


def main(argv: Sequence[str] | None = None) -> int:
    return run(argv, read_bvh)


if __name__ == "__main__":
    sys.exit(main())
