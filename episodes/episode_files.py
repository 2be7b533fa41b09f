"""Where episode files are."""

from __future__ import annotations

from pathlib import Path

from episodes.errors import EpisodeError

# What a file's name ends with until it is complete.
ACTIVE_SUFFIX = ".active"


def find_episodes(path: Path | str) -> list[Path]:
    """The episode files of a folder and the folders below it, by name; a file is itself.

    What begins with a dot (`.trash`) is left out, unless it is asked for itself. Raises `EpisodeError`
    where there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]

    def shown(pattern: str) -> list[Path]:
        return sorted(
            file
            for file in path.rglob(pattern)
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        )

    found = shown("*.mcap")
    if not found:
        active = len(shown("*.mcap" + ACTIVE_SUFFIX))
        more = f" ({active} still being recorded)" if active else ""
        raise EpisodeError(path, f"holds no episode (*.mcap){more}")
    return found
