"""Tables and the picture of the recorder's benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recorder.load_plan import PARTS, PRIORITIES
from benchmarks.retargeting.report import aligned

_RUN_COLUMNS = (
    ("run", "consumer", 1.0, "{}"),
    ("cores", "cpu.cores", 1.0, "{:.3f}"),
    ("× counting", "times_counting", 1.0, "{:.2f}"),
    ("CPU/GB", "cpu_s_per_gb", 1.0, "{:.2f} s"),
    ("CPU/1000", "cpu_s_per_1000_messages", 1e3, "{:.1f} ms"),
    ("messages", "rates.messages_hz", 1.0, "{:.0f}/s"),
    ("data", "rates.bytes_per_s", 1e-6, "{:.1f} MB/s"),
    ("lost", "lost", 1.0, "{:.0f}"),
    ("to file median", "latency_s.all.median", 1e3, "{:.0f} ms"),
    ("p99", "latency_s.all.p99", 1e3, "{:.0f}"),
    ("largest", "latency_s.all.largest", 1e3, "{:.0f}"),
    ("start again", "stop.start_accepted_s", 1e3, "{:.0f} ms"),
    ("stop answered", "stop.answered_s", 1e3, "{:.0f} ms"),
    ("named after last", "stop.named_after_last_message_s", 1e3, "{:.0f} ms"),
    ("file", "file.bytes", 1e-6, "{:.1f} MB"),
    ("payload", "file.payload_bytes", 1e-6, "{:.1f} MB"),
    ("memory", "memory.largest_bytes", 1e-6, "{:.0f} MB"),
    ("grows", "memory.growth_bytes_per_min", 1e-6, "{:+.1f} MB/min"),
    ("load", "cores_of_load", 1.0, "{:.2f}"),
    ("strangers", "strangers_cores", 1.0, "{:.2f}"),
)
_TOPIC_COLUMNS = (
    ("topic", "topic", 1.0, "{}"),
    ("depth", "depth", 1.0, "{:.0f}"),
    ("published", "published", 1.0, "{:.0f}"),
    ("received", "received", 1.0, "{:.0f}"),
    ("lost", "lost", 1.0, "{:.0f}"),
    ("before joining", "not_joined", 1.0, "{:.0f}"),
    ("episode published", "episode_published", 1.0, "{:.0f}"),
    ("received", "episode_received", 1.0, "{:.0f}"),
    ("lost middleware", "lost_middleware", 1.0, "{:.0f}"),
    ("queue", "lost_queue", 1.0, "{:.0f}"),
    ("disk", "lost_disk", 1.0, "{:.0f}"),
    ("written", "written", 1.0, "{:.0f}"),
    ("in the file", "in_file", 1.0, "{:.0f}"),
    ("adds up", "adds_up", 1.0, "{}"),
)
_TICK_COLUMNS = (
    ("publisher", "part", 1.0, "{}"),
    ("when", "when", 1.0, "{}"),
    ("ticks", "ticks", 1.0, "{:.0f}"),
    ("late median", "late_ms.median", 1.0, "{:.2f} ms"),
    ("p99", "late_ms.p99", 1.0, "{:.2f}"),
    ("largest", "late_ms.largest", 1.0, "{:.2f}"),
    ("publishing median", "publishing_ms.median", 1.0, "{:.2f} ms"),
    ("p99", "publishing_ms.p99", 1.0, "{:.2f}"),
    ("largest", "publishing_ms.largest", 1.0, "{:.2f}"),
    ("blocked", "blocked_s", 1.0, "{:.2f} s"),
)
_COLOURS = {"counting": "tab:grey", "recorder": "tab:blue", "bag": "tab:orange"}


def _cell(row: Mapping[str, Any], key: str, factor: float, form: str) -> str:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return form.format(value * factor if isinstance(value, int | float) else value)


def _lines(
    columns: Sequence[tuple[str, str, float, str]], rows: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """Titles and cells, without the columns that nothing is known of."""
    cells = [[_cell(row, key, factor, form) for _, key, factor, form in columns] for row in rows]
    shown = [i for i in range(len(columns)) if any(line[i] != "-" for line in cells)]
    return [[columns[i][0] for i in shown], *([line[i] for i in shown] for line in cells)]


def with_ratio(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with what the table says of them together: times the counting subscriber, sums, maxima."""
    counting = [run["cpu"]["cores"] for run in runs if run["consumer"] == "counting"]
    rows = []
    for run in runs:
        yardstick = run["cores_of"].get("counting") or (float(np.median(counting)) if counting else None)
        rows.append(
            {
                **run,
                "times_counting": run["cpu"]["cores"] / yardstick if yardstick else None,
                "cores_of_load": sum(run["cores_of"][f"load_{part}"] for part in PARTS),
                "memory": {**run["memory"], "largest_bytes": max(run["memory"]["bytes"])},
            }
        )
    return rows


def run_table(runs: Sequence[dict[str, Any]]) -> str:
    """One line per run."""
    return aligned(_lines(_RUN_COLUMNS, with_ratio(runs)), words=1)


def thread_table(runs: Sequence[dict[str, Any]]) -> str:
    """Where a consumer's processor time goes: cores by the name of the thread; `rest`: threads that ended."""
    names = sorted({name for run in runs for name in run["cpu"]["cores_by_thread"]})
    names = [n for n in names if any(run["cpu"]["cores_by_thread"].get(n, 0.0) >= 0.0005 for run in runs)]
    lines = [["run", *names, "rest"]]
    for run in runs:
        cores = run["cpu"]["cores_by_thread"]
        rest = run["cpu"]["cores"] - sum(cores.values())
        lines.append([run["consumer"], *(f"{cores.get(name, 0.0):.3f}" for name in names), f"{rest:.3f}"])
    return aligned(lines, words=1)


def topic_table(run: Mapping[str, Any]) -> str:
    """Published, received, lost and where, per topic; whether the three counts agree."""
    rows = [{**row, "adds_up": "no" if row["problem"] else "yes"} for row in run["balance"]]
    return aligned(_lines(_TOPIC_COLUMNS, rows), words=1)


def priority_table(run: Mapping[str, Any]) -> str:
    """What was lost of each priority, the one to be kept longest first."""
    lines = [["priority", "published", "lost", "share", "episode: middleware", "queue", "disk"]]
    for priority in PRIORITIES:
        row = run["lost_by_priority"][priority]
        lines.append(
            [
                priority,
                str(row["published"]),
                str(row["lost"]),
                f"{100 * row['lost_share']:.2f} %",
                *(str(row[f"lost_{where}"]) for where in ("middleware", "queue", "disk")),
            ]
        )
    return aligned(lines, words=1)


def tick_table(run: Mapping[str, Any]) -> str:
    """Whether the publishers kept their ticks, on the whole or with the reader stopped and otherwise."""
    rows = [
        {"part": part, "when": when, **figures[when]}
        for part, figures in run["load"].items()
        for when in figures["measured"]
    ]
    return aligned(_lines(_TICK_COLUMNS, rows), words=2)


def draw(file: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Processor time by thread, latency to the file, memory over time, loss by priority."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ((cpu, latency), (memory, loss)) = pyplot.subplots(2, 2, figsize=(13, 8.5))
    labels = [f"{number + 1} {run['consumer']}" for number, run in enumerate(runs)]
    names = sorted({name for run in runs for name in run["cpu"]["cores_by_thread"]})
    left = np.zeros(len(runs))
    for number, name in enumerate(names):
        cores = np.array([run["cpu"]["cores_by_thread"].get(name, 0.0) for run in runs])
        if cores.max() >= 0.002:
            cpu.barh(labels, cores, left=left, color=f"C{number % 10}", label=name)
            left += cores
    cpu.invert_yaxis()
    cpu.set(xlabel="cores", title="processor time by thread")
    cpu.legend(fontsize=8)
    for number, run in enumerate(runs):
        found = run.get("latency_s", {})
        for kind, place in (("joints and commands", 0), ("cameras", 1)):
            if kind in found:
                values = [1e3 * found[kind][key] for key in ("median", "p99", "largest")]
                latency.plot(
                    [0, 1, 2],
                    values,
                    "os"[place] + "-",
                    color=f"C{number % 10}",
                    label=f"{labels[number]}, {kind}",
                )
    latency.set(ylabel="ms", title="from publishing into the file", ylim=(0, None))
    latency.set_xticks([0, 1, 2], ["median", "p99", "largest"])
    if any("latency_s" in run for run in runs):
        latency.legend(fontsize=8)
    for number, run in enumerate(runs):
        colour = _COLOURS.get(run["consumer"].partition("+")[0])
        megabytes = 1e-6 * np.array(run["memory"]["bytes"])
        memory.plot(run["memory"]["times_s"], megabytes, color=colour, label=labels[number])
    memory.set(xlabel="s", ylabel="MB", title="memory", ylim=(0, None))
    memory.legend(fontsize=8)
    height = 0.8 / len(runs)
    for number, run in enumerate(runs):
        shares = [100.0 * run["lost_by_priority"][priority]["lost_share"] for priority in PRIORITIES]
        loss.barh(np.arange(len(PRIORITIES)) + number * height, shares, height, label=labels[number])
    loss.set_yticks(np.arange(len(PRIORITIES)) + 0.4 - height / 2, PRIORITIES)
    loss.invert_yaxis()
    loss.set(xlabel="% of what was published", title="lost")
    loss.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
