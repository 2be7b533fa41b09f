"""Tables and the picture of a benchmark run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    ("solver", "solver", 1.0, "{}"),
    ("solve median", "solve_us.median", 1.0, "{:.0f} µs"),
    ("p99", "solve_us.p99", 1.0, "{:.0f} µs"),
    ("× ours", "time_ratio", 1.0, "{:.1f}"),
    ("wrist reachable median", "position_reachable_m.median", 1e3, "{:.2f} mm"),
    ("p95", "position_reachable_m.p95", 1e3, "{:.2f}"),
    ("p99", "position_reachable_m.p99", 1e3, "{:.1f}"),
    ("wrist all p95", "position_all_m.p95", 1e3, "{:.1f} mm"),
    ("turn reachable p95", "orientation_reachable_rad.p95", 180 / math.pi, "{:.2f}°"),
    ("elbow median", "elbow_rad.median", 180 / math.pi, "{:.1f}°"),
    ("pos", "violations.position", 1.0, "{:.0f}"),
    ("vel", "violations.velocity", 1.0, "{:.0f}"),
    ("acc", "violations.acceleration", 1.0, "{:.0f}"),
    ("coll", "violations.collision", 1.0, "{:.0f}"),
    ("jerk", "jerk_rms", 1.0, "{:.0f}"),
    (">3 Hz", "shake_power", 1.0, "{:.3f}"),
    ("lag", "lag_s", 1e3, "{:.1f} ms"),
    ("freeze", "longest_freeze_s", 1.0, "{:.2f} s"),
    ("failed", "failures", 1.0, "{:.0f}"),
)


_MARKERS = "osD^v<>PX*hp"


def _cell(row: dict[str, Any], key: str, factor: float, form: str) -> str:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return form.format(value * factor if isinstance(value, int | float) else value)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per solver, aligned."""
    lines = [[title for title, *_ in COLUMNS]]
    lines += [[_cell(row, key, factor, form) for _, key, factor, form in COLUMNS] for row in rows]
    return aligned(lines, words=1)


def aligned(lines: Sequence[Sequence[str]], words: int) -> str:
    """Columns side by side; the first `words` of them from the left, the others, numbers, from the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def draw(file: Path, robots: dict[str, list[dict[str, Any]]]) -> None:
    """Per robot: solve time against wrist error (reachable, p95), and the limits each solver broke."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(robots), 2, figsize=(13, 4.6 * len(robots)), squeeze=False)
    for (robot, rows), (left, right) in zip(robots.items(), axes, strict=True):
        for number, row in enumerate(rows):
            left.plot(
                row["solve_us"]["median"],
                1e3 * row["position_reachable_m"]["p95"],
                _MARKERS[number % len(_MARKERS)],
                color=f"C{number % 10}",
                markersize=11 if number == 0 else 8,
                linestyle="none",
                label=row["solver"],
            )
        left.legend(fontsize=8)
        left.set(
            xscale="log",
            yscale="log",
            xlabel="solve time, median (µs of the processor)",
            ylabel="wrist error on reachable frames, p95 (mm)",
            title=f"{robot}: time and accuracy",
        )
        left.grid(True, which="both", alpha=0.25)
        left.margins(0.15)
        names = [row["solver"] for row in rows]
        bottom = [0.0] * len(rows)
        kinds = (("position", "tab:purple"), ("velocity", "tab:orange"), ("acceleration", "tab:green"))
        for kind, colour in kinds:
            counts = [100.0 * row["violations"][kind] / max(1, row["joint_ticks"]) for row in rows]
            right.barh(names, counts, left=bottom, color=colour, label=kind)
            bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
        right.invert_yaxis()
        right.set(xlabel="published commands beyond a limit (% of joints × ticks)", title=f"{robot}: limits")
        right.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
