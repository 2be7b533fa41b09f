"""Plain text tables and numbers for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timezone


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns two spaces apart, a line under the header; columns in `right` are right-aligned."""
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    lines = [_line(header, widths, right), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, right) for row in rows]
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    parts = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        fill = " " * (width - _width(cell))
        parts.append(fill + cell if column in right else cell + fill)
    return "  ".join(parts).rstrip()


def bytes_text(size: int) -> str:
    """``12.3 MB``; units of 1000."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000.0, larger
    return (
        f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    )


def number_text(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number with fixed digits, a dash where there is none."""
    # + 0.0: no "-0.00".
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}{unit}"


def date_text(time_ns: int) -> str:
    """``2025-11-21 12:30:05 UTC``."""
    if time_ns <= 0:
        return "-"
    return datetime.fromtimestamp(time_ns * 1e-9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
