"""The errors of this package."""

from __future__ import annotations

from pathlib import Path


class EpisodeError(Exception):
    """Something about an episode file that a user can mend; the message names file, thing and way out."""

    def __init__(self, path: Path | None, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(message if path is None else f"{path}: {message}")
