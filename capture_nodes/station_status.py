"""The one line that tells how a station is doing, and the terminal it is written to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

# Between two lines where the line cannot be rewritten in place.
_PLAIN_PERIOD_S = 5.0
_LIVE_PERIOD_S = 0.25


@dataclass
class StationStatus:
    """What the nodes of a station said last."""

    states: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    session: dict[str, str] = field(default_factory=dict)
    episode_state: str = "idle"
    episode: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Such as `episode 2/3 recording 12.3 s | tracking | joints 200 Hz … | frames 60 Hz | lost 0`."""
        parts = []
        if self.session.get("episodes"):
            parts.append(f"episode {self.session.get('episode', '0')}/{self.session['episodes']}")
        if self.episode_state != "idle" and self.episode:
            words = [*parts, self.episode_state, f"{_number(self.episode, 'duration_s'):.1f} s"]
            parts = [" ".join(words)]
        retargeting = self.states.get("retargeting")
        if retargeting:
            reason = self.reasons.get("retargeting", "")
            parts.append(retargeting if retargeting in ("tracking", "idle") else f"{retargeting} ({reason})")
        if self.episode_state == "recording" and self.episode:
            parts.extend(rates_text(self.episode.get("rates", "")))
            parts.append(f"{_number(self.episode, 'messages'):,.0f} messages")
            parts.append(f"lost {_number(self.episode, 'lost'):.0f}")
            parts.append(f"{_number(self.episode, 'bytes') / 1e6:.1f} MB")
        return " | ".join(part for part in parts if part)


def _number(values: Mapping[str, str], key: str) -> float:
    try:
        return float(values.get(key, "0"))
    except ValueError:
        return 0.0


def rates_text(rates: str) -> list[str]:
    """The rates that matter, from the recorder's JSON of topic to messages a second."""
    try:
        by_topic: dict[str, float] = json.loads(rates)
    except ValueError:
        return []
    images = [rate for topic, rate in by_topic.items() if "/camera/" in topic and "camera_info" not in topic]
    texts = []
    for suffix, label in (
        ("/joint_states", "joints"),
        ("/joint_commands", "commands"),
        ("/trainer/motion", "motion"),
    ):
        found = [rate for topic, rate in by_topic.items() if topic.endswith(suffix)]
        if found:
            texts.append(f"{label} {sum(found):.0f} Hz")
    if images:
        texts.append(f"frames {sum(images):.0f} Hz")
    return texts


class StatusLine:
    """Writes messages and keeps one live line under them; on no terminal, a line every few seconds."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._live = output.isatty()
        self._shown = ""
        self._written_s = 0.0

    def say(self, text: str) -> None:
        """A message that stays."""
        self._clear()
        print(text, file=self._output, flush=True)

    def show(self, text: str) -> None:
        """The state of things, replacing what was shown before."""
        now = time.monotonic()
        period = _LIVE_PERIOD_S if self._live else _PLAIN_PERIOD_S
        if not text or now - self._written_s < period:
            return
        self._written_s = now
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._output.write(f"\r\x1b[K{text[:width]}")
            self._output.flush()
            self._shown = text
        elif text != self._shown:
            self._shown = text
            print(text, file=self._output, flush=True)

    def _clear(self) -> None:
        if self._live and self._shown:
            self._output.write("\r\x1b[K")
            self._shown = ""
            self._written_s = 0.0

    def close(self) -> None:
        self._clear()
        self._output.flush()
