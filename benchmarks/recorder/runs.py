"""One run: the load and one consumer, measured from outside. The figures are a dictionary for JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.recorder.balance import as_dicts, balance, lost_by_priority
from benchmarks.recorder.file_watch import FileContent, FileWatch, read_content
from benchmarks.recorder.load_plan import PARTS, ROBOT, Histories, plan_load, priority_of, recorder_yaml
from benchmarks.recorder.named_threads import PROFILE
from benchmarks.recorder.process_watch import (
    MemoryWatch,
    growth_per_minute,
    machine_busy_s,
    sample,
    use_between,
)
from benchmarks.recorder.run_processes import RunProcesses
from benchmarks.recorder.station_calls import NoAnswer, StationCalls
from capture_nodes.errors import CaptureError
from capture_nodes.resources import config_file
from capture_nodes.ros_environment import PICTURE_PROFILES, PROFILES, picture_environment, station_environment
from capture_nodes.shared_memory import dds_files, remove_orphans

# The last one: the recorder while a counting subscriber takes the same messages beside it.
CONSUMERS = ("counting", "recorder", "bag", "recorder+counting")
# Of the yardstick: a few hundred rounds a second.
COUNTING_POLL_S = 0.005
_SETTLE_S = 2.0
_AFTER_FREEZE_S = 5.0
_RESTART_S = 1.0
_BLOCKED_S = 0.25
_PERCENTILES = (50, 99, 100)


@dataclass(frozen=True)
class RunOptions:
    """What a run measures and how. freeze_s: how long the consumer is stopped in the middle, 0 not at all.
    kill: it is killed in the middle and another one started, and only the publishers are looked at.

    configuration: values by dotted key for `recorder.yaml`; encoding: of its cameras, "" as it is shipped.
    segment_mb: shared memory of cameras and consumer, 0 as `config/fastdds_cameras.xml` has it. profile: name
    of the recorder's thread that is profiled, which spoils its figures.
    """

    seconds: float = 30.0
    scale: float = 1.0
    freeze_s: float = 0.0
    histories: Histories = field(default_factory=Histories)
    reader_history_s: float = 5.0
    poll_s: float | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    encoding: str = ""
    segment_mb: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    real_time: bool = True
    kill: bool = False
    profile: str = ""
    domain: int = 150
    root: Path | None = None
    keep: bool = False


def bag_is_installed() -> bool:
    """Whether `ros2 bag` can be run here."""
    if shutil.which("ros2") is None:
        return False
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any((Path(prefix) / "share" / "ros2bag").is_dir() for prefix in prefixes if prefix)


def run(consumer: str, options: RunOptions) -> dict[str, Any]:
    """Run load and consumer once. Raises `CaptureError` where a process fails or does not answer."""
    shared_before = dds_files()
    folder = Path(tempfile.mkdtemp(prefix=f"recorder_{consumer}_", dir=options.root))
    try:
        return _Run(consumer, options, folder).result()
    finally:
        # Who was killed has left its shared memory behind.
        remove_orphans(shared_before)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    def __init__(self, consumer: str, options: RunOptions, folder: Path) -> None:
        self._consumer, _, beside = consumer.partition("+")
        self._beside = beside == "counting"
        self._options, self._folder = options, folder
        self._streams = plan_load(options.scale, options.histories)
        given = {**os.environ, **options.environment}
        environment = station_environment(given, options.domain)
        environment["ROS_LOG_DIR"] = str(folder / "ros_log")
        environment.update(options.environment)
        # As in a station: cameras and consumer exchange pictures, the others control the robot.
        self._picture_environment = picture_environment(given)
        if options.segment_mb:
            self._picture_environment[PROFILES] = str(self._profile_with_segment())
        # This process too speaks to the station through its transport.
        os.environ.update(environment)
        self._processes = RunProcesses(folder, environment, options.real_time)
        self._found: dict[str, Any] = {"consumer": consumer}

    def result(self) -> dict[str, Any]:
        loads = [f"load_{part}" for part in PARTS]
        try:
            pid = self._start_consumer()
            if self._beside:
                self._start_counting()
            for part in PARTS:
                self._start_load(part)
            calls = StationCalls(self._options.domain, [*loads, self._consumer], self._processes.check)
            try:
                for name in loads:
                    calls.wait_for_word(name, "publishing")
                if self._options.kill:
                    self._kill(calls)
                elif self._consumer == "recorder":
                    self._record(calls, pid)
                else:
                    self._watch(calls, pid)
            finally:
                calls.close()
            self._processes.end(loads)
            self._processes.end([self._consumer, *(["counting"] if self._beside else [])])
        except NoAnswer as error:
            raise CaptureError(f"{error}\n{self._processes.where_it_hangs(self._consumer)}") from error
        finally:
            self._processes.close()
        self._judge()
        return self._found

    # Processes ----------------------------------------------------------------------------------------------

    def _start_load(self, part: str) -> None:
        given, histories = self._options, self._options.histories
        parameters = {
            "part": part,
            "scale": f"{given.scale:.6f}",
            "streams_history_s": f"{histories.streams_s:.6f}",
            "control_history_s": f"{histories.control_s:.6f}",
            "camera_history_mb": f"{histories.camera_mb:.6f}",
            "readers": "2" if self._beside else "1",
            "report": str(self._folder / f"load_{part}.json"),
        }
        environment = self._picture_environment if part == "cameras" else {}
        self._processes.start_module(
            f"load_{part}",
            "benchmarks.recorder.load",
            _ros_arguments(f"load_{part}", parameters),
            **environment,
        )

    def _start_consumer(self) -> int:
        given = self._options
        if self._consumer == "counting":
            return self._start_counting()
        if self._consumer == "bag":
            topics = [stream.topic for stream in self._streams]
            command = ["ros2", "bag", "record", "-s", "mcap", "-o", str(self._folder / "bag"), *topics]
            return self._processes.start("bag", command, **self._picture_environment)
        shipped = yaml.safe_load(config_file("recorder.yaml").read_text(encoding="utf-8"))
        own = {"taking.history_s": given.reader_history_s}
        if given.poll_s is not None:
            own["taking.poll_s"] = given.poll_s
        configuration = recorder_yaml(shipped, self._streams, {**own, **given.configuration}, given.encoding)
        file = self._folder / "recorder.yaml"
        file.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
        parameters = {
            "root": str(self._folder / "episodes"),
            "robot": ROBOT,
            "config": str(file),
            "skill": "benchmark",
            "report_path": str(self._folder / "recorder.json"),
        }
        profile = {PROFILE: f"{given.profile}:{self._folder / 'profile'}"} if given.profile else {}
        return self._processes.start_module(
            "recorder",
            "capture_nodes.recorder_node",
            _ros_arguments("recorder", parameters),
            **self._picture_environment,
            **profile,
        )

    def _start_counting(self) -> int:
        given = self._options
        parameters = {
            "scale": f"{given.scale:.6f}",
            "history_s": f"{given.reader_history_s:.6f}",
            "poll_s": f"{COUNTING_POLL_S if given.poll_s is None else given.poll_s:.6f}",
            "report": str(self._folder / "counting.json"),
        }
        return self._processes.start_module(
            "counting",
            "benchmarks.recorder.counting",
            _ros_arguments("counting", parameters),
            **self._picture_environment,
        )

    def _profile_with_segment(self) -> Path:
        text = config_file(PICTURE_PROFILES).read_text(encoding="utf-8")
        before, _, rest = text.partition("<segment_size>")
        _, _, after = rest.partition("</segment_size>")
        size = round(self._options.segment_mb * 1024 * 1024)
        file = self._folder / PICTURE_PROFILES
        file.write_text(f"{before}<segment_size>{size}</segment_size>{after}", encoding="utf-8")
        return file

    # Measuring ----------------------------------------------------------------------------------------------

    def _watch(self, calls: StationCalls, pid: int) -> None:
        """Settle, then the window in which everything is measured, with the freeze in its middle."""
        calls.sleep(_SETTLE_S)
        memory = MemoryWatch(pid)
        others = {f"load_{part}": self._processes.pid(f"load_{part}") for part in PARTS}
        if self._beside:
            others["counting"] = self._processes.pid("counting")
        busy_s, own = machine_busy_s(), time.process_time()
        begin, others_begin = sample(pid), {name: sample(p) for name, p in others.items()}
        given = self._options
        if given.freeze_s:
            calls.sleep(given.seconds / 2)
            self._freeze(calls, pid)
            calls.sleep(max(_AFTER_FREEZE_S, given.seconds / 2))
        else:
            calls.sleep(given.seconds)
        end = sample(pid)
        use = use_between(begin, end)
        self._found["cpu"] = {**asdict(use), "cores": use.cores}
        cores = {name: use_between(others_begin[name], sample(p)).cores for name, p in others.items()}
        own_cores = (time.process_time() - own) / use.seconds
        self._found["cores_of"] = {**cores, "benchmark": own_cores}
        # Of the machine, of which nothing here is the cause: without them the figures would be better.
        strangers = (machine_busy_s() - busy_s) / use.seconds - use.cores - sum(cores.values()) - own_cores
        self._found["strangers_cores"] = max(0.0, strangers)
        memory.stop()
        self._found["memory"] = {
            "times_s": [t - memory.times_s[0] for t in memory.times_s],
            "bytes": memory.bytes,
            "growth_bytes_per_min": growth_per_minute(memory.times_s, memory.bytes),
        }

    def _freeze(self, calls: StationCalls, pid: int) -> None:
        begun_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            calls.sleep(self._options.freeze_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        self._found["freeze"] = {"begin_s": begun_s, "end_s": time.monotonic()}

    def _kill(self, calls: StationCalls) -> None:
        """SIGKILL, and a second later another one, as a supervisor would start it."""
        calls.sleep(_SETTLE_S + self._options.seconds / 2)
        killed_s = time.monotonic()
        self._processes.kill(self._consumer)
        calls.sleep(_RESTART_S)
        self._start_consumer()
        calls.sleep(self._options.seconds / 2)
        # All from the kill on is what happened because of it.
        self._found["freeze"] = {"begin_s": killed_s, "end_s": time.monotonic()}

    def _record(self, calls: StationCalls, pid: int) -> None:
        calls.wait_for_word("recorder", "ready")
        watch = FileWatch(self._folder / "episodes", "**/*.mcap.active")
        try:
            calls.until_accepted("start")
            self._watch(calls, pid)
            stop_s, stop_ns = time.monotonic(), time.time_ns()
            answer = calls.ask("stop")
            # The next repetition does not wait for the file of this one.
            accepted_s, _ = calls.until_accepted("start", since_s=stop_s)
            calls.wait(answer.done, "the answer of stop")
            answered_s = time.monotonic() - stop_s
            if not answer.result().success:
                raise CaptureError(f"stop failed: {answer.result().message}")
            calls.wait(lambda: watch.gone_ns, "the file to get its name")
            calls.answer("discard")
        finally:
            watch.stop()
        path = Path(answer.result().message)
        self._content = content = read_content(path, watch)
        self._found["stop"] = {
            "start_accepted_s": accepted_s,
            "answered_s": answered_s,
            "named_s": 1e-9 * (watch.gone_ns - stop_ns),
            # From the last message of the episode: what comes after the post-roll.
            "named_after_last_message_s": 1e-9 * (watch.gone_ns - content.last_log_ns),
        }
        self._found["file"] = {
            "bytes": path.stat().st_size,
            "payload_bytes": sum(content.bytes.values()),
            "messages": sum(content.messages.values()),
        }
        self._found["episode"] = path.stem
        self._found["latency_s"] = _latency(content)

    # Judging ------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        publishers = []
        self._found["load"] = {}
        for part in PARTS:
            file = self._folder / f"load_{part}.json"
            report = json.loads(file.read_text())
            publishers += report.pop("streams")
            with np.load(file.with_suffix(".npz")) as data:
                self._found["load"][part] = {**report, **self._ticks(data["ticks"])}
        if self._options.kill:
            self._judge_second(publishers)
        elif self._consumer == "bag":
            self._judge_bag(publishers)
        else:
            report = json.loads((self._folder / f"{self._consumer}.json").read_text())
            episode, content = None, None
            if self._consumer == "recorder":
                episodes = {entry["id"]: entry for entry in report["episodes"]}
                episode, content = episodes[self._found["episode"]]["streams"], self._content
            rows = balance(publishers, report["streams"], episode, content)
            self._found["balance"] = as_dicts(rows)
            self._found["lost_by_priority"] = lost_by_priority(rows)
            self._found["lost"] = sum(row.lost_anywhere for row in rows)
            received = sum(row.received for row in rows)
            published = sum(row.published for row in rows)
            self._found["problems"] = [f"{row.topic}: {row.problem}" for row in rows if row.problem]
            self._per_unit(publishers, received / max(1, published))
        if self._options.profile:
            shutil.copy(self._folder / "profile", Path.cwd() / f"{self._options.profile}.profile")

    def _judge_second(self, publishers: list[dict[str, Any]]) -> None:
        """Whether who was started after the kill hears everybody."""
        report = json.loads((self._folder / f"{self._consumer}.json").read_text())
        heard = {row["topic"] for row in report["streams"] if row["received"]}
        deaf = sorted({row["topic"] for row in publishers} - heard)
        self._found["problems"] = [f"{topic}: nothing came after the restart" for topic in deaf]
        self._found["lost"] = 0

    def _judge_bag(self, publishers: list[dict[str, Any]]) -> None:
        """What a bag holds: it was there before the load and ended after it, so that should be everything."""
        watch_nothing = FileWatch(self._folder, "nothing")
        watch_nothing.stop()
        held: dict[str, int] = {}
        size = 0
        for path in sorted((self._folder / "bag").glob("*.mcap")):
            size += path.stat().st_size
            for topic, count in read_content(path, watch_nothing).messages.items():
                held[topic] = held.get(topic, 0) + count
        readers = [
            {
                "topic": row["topic"],
                "gid": row["gid"],
                "received": held.get(row["topic"], 0),
                "lost": row["published"] - held.get(row["topic"], 0),
                "not_joined": 0,
            }
            for row in publishers
        ]
        rows = balance(publishers, readers)
        self._found.update(
            balance=as_dicts(rows),
            lost_by_priority=lost_by_priority(rows),
            lost=sum(row.lost_anywhere for row in rows),
            problems=[],
            file={"bytes": size, "messages": sum(held.values())},
        )
        self._per_unit(publishers, 1.0)

    def _per_unit(self, publishers: list[dict[str, Any]], received_share: float) -> None:
        """Processor time per GB and per 1000 messages that were received, by the load's own rates."""
        sizes = {row["topic"]: row["bytes"] / max(1, row["published"]) for row in publishers}
        # Of what was published, at the rates the publishers really had.
        rates = {row["topic"]: row["published"] / self._seconds_of(row["topic"]) for row in publishers}
        messages_hz = received_share * sum(rates.values())
        bytes_per_s = received_share * sum(rates[topic] * sizes[topic] for topic in rates)
        if not received_share:
            heard = self._found.get("problems") or "nothing is known of why"
            raise CaptureError(f"{self._consumer} received nothing of what was published: {heard}")
        cores = self._found["cpu"]["cores"]
        self._found["rates"] = {"messages_hz": messages_hz, "bytes_per_s": bytes_per_s}
        self._found["cpu_s_per_gb"] = cores / (1e-9 * bytes_per_s)
        self._found["cpu_s_per_1000_messages"] = cores / (1e-3 * messages_hz)

    def _seconds_of(self, topic: str) -> float:
        part = next(stream.part for stream in self._streams if stream.topic == topic)
        seconds: float = self._found["load"][part]["seconds"]
        return seconds

    def _ticks(self, ticks: NDArray[np.float64]) -> dict[str, Any]:
        """How evenly a process of the load ticked, on the whole and while the consumer was stopped (ms)."""
        figures: dict[str, Any] = {
            "seconds": float(ticks[-1, 0] - ticks[0, 0]),
            "measured": ["whole"],
            "whole": _tick_figures(ticks),
        }
        freeze = self._found.get("freeze")
        if freeze is not None:
            frozen = (ticks[:, 0] >= freeze["begin_s"]) & (ticks[:, 0] < freeze["end_s"])
            figures["measured"] = ["otherwise", "frozen"]
            figures["frozen"] = _tick_figures(ticks[frozen])
            figures["otherwise"] = _tick_figures(ticks[~frozen])
        return figures


def _tick_figures(ticks: NDArray[np.float64]) -> dict[str, Any]:
    if len(ticks) == 0:
        return {"ticks": 0, "blocked_s": 0.0}
    return {
        "ticks": len(ticks),
        # In calls longer than a busy machine explains: somebody else was waited for.
        "blocked_s": float(ticks[ticks[:, 2] > _BLOCKED_S, 2].sum()),
        "late_ms": dict(zip(("median", "p99", "largest"), _ms(ticks[:, 1]), strict=True)),
        "publishing_ms": dict(zip(("median", "p99", "largest"), _ms(ticks[:, 2]), strict=True)),
    }


def _ms(seconds: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in 1e3 * np.percentile(seconds, _PERCENTILES)]


def _latency(content: FileContent) -> dict[str, dict[str, float]]:
    """Of all messages of the load, and of each priority: median, p99, largest (s)."""
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for topic, values in content.latency_s.items():
        try:
            groups.setdefault(priority_of(topic), []).append(values)
        except KeyError:
            continue  # the recorder's own, and /diagnostics
    groups["all"] = [values for chosen in list(groups.values()) for values in chosen]
    result = {}
    for name, chosen in groups.items():
        values = np.concatenate(chosen)
        if len(values):
            found = np.percentile(values, [50, 99, 100])
            result[name] = dict(zip(("median", "p99", "largest"), map(float, found), strict=True))
    return result


def _ros_arguments(node: str, parameters: Mapping[str, str]) -> list[str]:
    arguments = ["-r", f"__ns:=/{ROBOT}", "-r", f"__node:={node}"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    return arguments
