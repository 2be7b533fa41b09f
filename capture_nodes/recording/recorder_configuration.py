"""`recorder.yaml`: which topics are recorded and how; validated whole, every problem listed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from capture_nodes.errors import CaptureError
from capture_nodes.recording.camera_encoding import ENCODINGS, CameraSettings, Encoding
from capture_nodes.recording.camera_image import IMAGE
from capture_nodes.recording.episode_parts import SplitLimits
from capture_nodes.recording.mcap_file import COMPRESSIONS, FileOptions
from capture_nodes.recording.stream import HIGHEST_PRIORITY
from capture_nodes.recording.stream_quality import StreamExpectation
from capture_nodes.recording.video_encoder import VideoParameters
from retargeting.errors import Problem

# Keys of a topic that are bounds of its quality.
_EXPECTATIONS = ("rate_share", "intervals_share", "longest_gap_s", "longest_gap_periods", "allowed_lost")

_DIRECT = ("direct_mb_s",)
_SPLIT = ("split_mb", "split_s")

_TYPE = re.compile(r"^[a-zA-Z]\w*/msg/[a-zA-Z]\w*$")
_PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
_TOPIC = re.compile(r"^/?[A-Za-z_{][A-Za-z0-9_{}/]*$")

# The topics whose rate a station sets: that of the command ticks, of the motion frames and of the cameras.
COMMAND_TOPICS = ("joint_commands", "command_cause", "target/*")
MOTION_TOPICS = ("/trainer/motion", "/trainer/buttons", "/trainer/head", "/trainer/*_wrist")
CAMERA_TOPICS = ("camera/*/image", "camera/*/image/compressed", "camera/*/camera_info")


class InvalidRecorderConfiguration(CaptureError):
    """A recorder configuration that cannot be used, with all its problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class TopicRule:
    """One line of `topics`: a topic, or with ``{…}`` placeholders (each one path element) a family of them.

    `rate_hz` is the expected rate, None for topics that speak on change; `latched` topics are subscribed
    transient local and written again at the head of every episode. `priority`: 0 is given up first.
    `encoding`: how images are recorded. `expected`: what the quality of an episode is judged by.
    """

    pattern: str
    type_name: str
    rate_hz: float | None = None
    latched: bool = False
    priority: int = HIGHEST_PRIORITY
    encoding: Encoding = "raw"
    expected: StreamExpectation = field(default_factory=StreamExpectation)

    @property
    def is_family(self) -> bool:
        return _PLACEHOLDER.search(self.pattern) is not None

    def resolved(self, namespace: str) -> str:
        """The absolute topic (or pattern) in the robot's namespace."""
        return self.pattern if self.pattern.startswith("/") else f"/{namespace.strip('/')}/{self.pattern}"

    def matches(self, topic: str, namespace: str) -> bool:
        pieces = _PLACEHOLDER.split(self.resolved(namespace))
        return re.fullmatch("[^/]+".join(re.escape(piece) for piece in pieces), topic) is not None


@dataclass(frozen=True)
class RecorderConfiguration:
    """Everything of `recorder.yaml`; the file documents every key."""

    topics: tuple[TopicRule, ...]
    file: FileOptions = field(default_factory=FileOptions)
    direct_bytes_per_s: float = 20e6
    split: SplitLimits = field(default_factory=SplitLimits)
    cameras: CameraSettings = field(default_factory=CameraSettings)
    encoder_threads: int = 2
    reference: str = ""
    pre_roll_s: float = 1.0
    post_roll_s: float = 1.0
    pre_roll_limit_bytes: int = 512 * 1024 * 1024
    queue_limit_bytes: int = 256 * 1024 * 1024
    min_free_bytes: int = 512 * 1024 * 1024
    warn_free_bytes: int = 10 * 1024 * 1024 * 1024
    poll_s: float = 0.01
    history_s: float = 6.5
    tail_s: float = 0.1
    tf_rate_hz: float = 50.0
    tf_head_s: float = 0.1
    shutdown_wait_s: float = 2.0
    trash_keep_h: float = 24.0

    def with_rate(self, topics: Sequence[str], rate_hz: float) -> RecorderConfiguration:
        """The same with another expected rate of ``topics`` (names as in the file, `*` for a placeholder).

        Topics that are configured without a rate stay so.
        """
        rules = tuple(
            replace(rule, rate_hz=rate_hz)
            if rule.rate_hz is not None and any(fnmatchcase(rule.pattern, topic) for topic in topics)
            else rule
            for rule in self.topics
        )
        return replace(self, topics=rules)

    def with_topic(self, rule: TopicRule) -> RecorderConfiguration:
        """The same with one more topic, unless a rule of that name is there."""
        if any(other.pattern == rule.pattern for other in self.topics):
            return self
        return replace(self, topics=(*self.topics, rule))


def load_recorder_configuration(path: Path) -> RecorderConfiguration:
    """Read and check `recorder.yaml`. Raises `InvalidRecorderConfiguration` listing every problem."""
    problems: list[Problem] = []
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRecorderConfiguration(
            [Problem(path, "file", f"cannot be read: {error.strerror}; see the parameter `config`")]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRecorderConfiguration(
            [Problem(path, "file", f"is not YAML: {' '.join(str(error).split())}")]
        ) from error
    if not isinstance(data, dict):
        problem = Problem(path, "file", "a mapping with the key `topics` is expected")
        raise InvalidRecorderConfiguration([problem])
    reader = _Reader(path, problems)
    sections = {"topics", "episode", "file", "cameras", "taking", "tf", "disk"}
    reader.only("", data, sections)
    configuration = RecorderConfiguration(
        topics=reader.topics(data.get("topics")),
        file=reader.file_options(reader.section(data, "file")),
        split=reader.split(reader.section(data, "file")),
        **reader.numbers(
            "file",
            {key: data["file"][key] for key in _DIRECT if key in reader.section(data, "file")},
            {"direct_mb_s": ("direct_bytes_per_s", 0.0, 1e6, 1_000_000)},
        ),
        reference=reader.text("episode.reference", reader.section(data, "episode").get("reference", "")),
        **reader.cameras(reader.section(data, "cameras")),
        **reader.numbers(
            "episode",
            {key: value for key, value in reader.section(data, "episode").items() if key != "reference"},
            {
                "pre_roll_s": ("pre_roll_s", 0.0, 60.0, 1),
                "post_roll_s": ("post_roll_s", 0.0, 60.0, 1),
                "pre_roll_limit_mb": ("pre_roll_limit_bytes", 1, 65536, 1024 * 1024),
            },
        ),
        **reader.numbers(
            "taking",
            reader.section(data, "taking"),
            {
                "poll_s": ("poll_s", 0.0005, 0.1, 1),
                "history_s": ("history_s", 0.5, 120.0, 1),
                "tail_s": ("tail_s", 0.0, 2.0, 1),
                "queue_limit_mb": ("queue_limit_bytes", 16, 65536, 1024 * 1024),
                "shutdown_wait_s": ("shutdown_wait_s", 0.0, 60.0, 1),
            },
        ),
        **reader.numbers(
            "tf",
            reader.section(data, "tf"),
            {"rate_hz": ("tf_rate_hz", 1.0, 1000.0, 1), "head_s": ("tf_head_s", 0.0, 2.0, 1)},
        ),
        **reader.numbers(
            "disk",
            reader.section(data, "disk"),
            {
                "min_free_mb": ("min_free_bytes", 0, 1 << 30, 1024 * 1024),
                "warn_free_mb": ("warn_free_bytes", 0, 1 << 30, 1024 * 1024),
                "trash_keep_h": ("trash_keep_h", 0.0, 24.0 * 365, 1),
            },
        ),
    )
    if problems:
        raise InvalidRecorderConfiguration(problems)
    return configuration


class _Reader:
    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self._path = path
        self._problems = problems

    def problem(self, key: str, message: str) -> None:
        self._problems.append(Problem(self._path, key, message))

    def only(self, key: str, data: Mapping[Any, Any], allowed: set[str]) -> None:
        for name in data:
            if name not in allowed:
                known = ", ".join(sorted(allowed))
                self.problem(f"{key}.{name}".lstrip("."), f"unknown key; known are {known}")

    def section(self, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = data.get(name, {})
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(name, f"is {value!r}: a mapping is expected")
            return {}
        return value

    def text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            self.problem(key, f"is {value!r}: a text is expected")
            return ""
        return value

    def number(self, key: str, value: Any, low: float, high: float) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.problem(key, f"is {value!r}: a number from {low:g} to {high:g} is expected")
            return None
        if not low <= value <= high:
            self.problem(key, f"is {value:g}: {low:g} to {high:g} is allowed")
            return None
        return float(value)

    def numbers(
        self, section: str, data: Mapping[str, Any], known: Mapping[str, tuple[str, float, float, int]]
    ) -> dict[str, Any]:
        """Keyword arguments from ``yaml key -> (argument, low, high, factor)``; factors give whole bytes."""
        self.only(section, data, set(known))
        result: dict[str, Any] = {}
        for key, (argument, low, high, factor) in known.items():
            if key not in data:
                continue
            value = self.number(f"{section}.{key}", data[key], low, high)
            if value is not None:
                result[argument] = value if factor == 1 else int(value * factor)
        return result

    def split(self, data: Mapping[str, Any]) -> SplitLimits:
        given = {key: data[key] for key in _SPLIT if data.get(key)}
        bounds = {"split_mb": ("max_bytes", 1, 1 << 30, 1024 * 1024), "split_s": ("max_s", 1.0, 1e6, 1)}
        return SplitLimits(**self.numbers("file", given, bounds))

    def file_options(self, data: Mapping[str, Any]) -> FileOptions:
        values = self.numbers(
            "file",
            {key: value for key, value in data.items() if key not in ("compression", *_SPLIT, *_DIRECT)},
            {
                "chunk_kb": ("chunk_bytes", 16, 65536, 1024),
                "flush_s": ("flush_s", 0.01, 10.0, 1),
                "sync_s": ("sync_s", 0.1, 3600.0, 1),
            },
        )
        compression = data.get("compression", FileOptions().compression)
        if compression not in COMPRESSIONS:
            self.problem("file.compression", f"is {compression!r}: none, lz4 or zstd is expected")
            return FileOptions(**values)
        return FileOptions(compression=compression, **values)

    def expectation(self, key: str, entry: Mapping[str, Any], rate_hz: float | None) -> StreamExpectation:
        values = {name: entry[name] for name in _EXPECTATIONS if name in entry}
        required = entry.get("required", False)
        if not isinstance(required, bool):
            self.problem(f"{key}.required", f"is {required!r}: true or false is expected")
            required = False
        expected = StreamExpectation(rate_hz=rate_hz, required=required, **values)
        problems = expected.problems()
        for problem in problems:
            self.problem(key, problem)
        return StreamExpectation() if problems else expected

    def cameras(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments from the section `cameras`: settings of all that are encoded, and the threads."""
        words = {key: data[key] for key in ("preset", "hardware") if key in data}
        numbers = self.numbers(
            "cameras",
            {key: value for key, value in data.items() if key not in words},
            {
                "crf": ("crf", 0.0, 51.0, 1),
                "max_bits_per_pixel": ("max_bits_per_pixel", 0.005, 24.0, 1),
                "keyframe_s": ("keyframe_s", 0.1, 10.0, 1),
                "jpeg_quality": ("jpeg_quality", 1, 100, 1),
                "threads": ("threads", 1, 64, 1),
                "raw_limit_mb": ("raw_limit_bytes", 0, 1_000_000, 1024 * 1024),
            },
        )
        if not isinstance(words.get("hardware", True), bool):
            self.problem("cameras.hardware", f"is {words['hardware']!r}: true or false is expected")
            words.pop("hardware")
        threads, quality = int(numbers.pop("threads", 2)), int(numbers.pop("jpeg_quality", 90))
        raw_limit = int(numbers.pop("raw_limit_bytes", CameraSettings().raw_limit_bytes))
        settings = CameraSettings(
            jpeg_quality=quality, raw_limit_bytes=raw_limit, video=VideoParameters(**words, **numbers)
        )
        for problem in settings.problems():
            self.problem("cameras", problem)
        return {"cameras": settings, "encoder_threads": threads}

    def topics(self, data: Any) -> tuple[TopicRule, ...]:
        if not isinstance(data, dict) or not data:
            self.problem("topics", "a mapping from topic to {type: …} with at least one topic is expected")
            return ()
        rules = []
        for name, entry in data.items():
            key = f"topics.{name}"
            if not isinstance(name, str) or not _TOPIC.match(name) or "{" in _PLACEHOLDER.sub("", name):
                self.problem(key, "is not a topic (letters, digits, '_', '/', placeholders like {site})")
                continue
            if not isinstance(entry, dict):
                self.problem(key, f"is {entry!r}: {{type: package/msg/Type, …}} is expected")
                continue
            self.only(
                key, entry, {"type", "rate_hz", "latched", "priority", "encoding", *_EXPECTATIONS, "required"}
            )
            type_name = entry.get("type")
            if not isinstance(type_name, str) or not _TYPE.match(type_name):
                self.problem(f"{key}.type", f"is {type_name!r}: package/msg/Type is expected")
                continue
            rate_hz = entry.get("rate_hz")
            if rate_hz is not None:
                rate_hz = self.number(f"{key}.rate_hz", rate_hz, 0.001, 10000.0)
            latched = entry.get("latched", False)
            if not isinstance(latched, bool):
                self.problem(f"{key}.latched", f"is {latched!r}: true or false is expected")
                continue
            priority = entry.get("priority", HIGHEST_PRIORITY)
            if isinstance(priority, bool) or priority not in range(HIGHEST_PRIORITY + 1):
                self.problem(
                    f"{key}.priority",
                    f"is {priority!r}: 0 (given up first) to {HIGHEST_PRIORITY} is expected",
                )
                continue
            encoding = entry.get("encoding", "raw")
            if encoding not in ENCODINGS or (encoding != "raw" and type_name != IMAGE):
                allowed = ", ".join(ENCODINGS) if type_name == IMAGE else f"raw (it is no {IMAGE})"
                self.problem(f"{key}.encoding", f"is {encoding!r}: {allowed} is expected")
                continue
            expected = self.expectation(key, entry, rate_hz)
            rules.append(TopicRule(name, type_name, rate_hz, latched, priority, encoding, expected))
        return tuple(rules)
