"""What may be set while the recorder runs: anything else is refused with a reason, and ends nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from capture_nodes.episode_parameters import FIXED, EpisodeParameters, set_problem
from capture_nodes.errors import CaptureError
from capture_nodes.recorder_parameters import RecorderParameters

AT_START = {name: getattr(RecorderParameters(), name) for name in FIXED}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("root", "/elsewhere", "stays 'episodes_data' as long as the recorder runs"),
        ("robot", "g1", "stays 'kestrel'"),
        ("camera_rate_hz", 10.0, "stays 0.0"),
        ("skill", "a/b", "cannot name a folder"),
        ("skill", "", "cannot name a folder"),
        ("verdict", "perhaps", "success, failure or nothing"),
        ("instruction", '{"a":' * 100_000, "nested too deeply"),
        ("instruction", "\ud800", "is no character"),
        ("instruction", '{"en": "\\ud800"}', "is no character"),
        ("operator", "\udc80", "Unicode text"),
    ],
)
def test_what_no_episode_can_carry_is_refused(name: str, value: object, words: str) -> None:
    assert words in set_problem(name, value, AT_START)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skill", "pick_up"),
        ("root", "episodes_data"),
        ("instruction", '{"de": "Heb es auf"}'),
        ("operator", "Żółć"),
        ("verdict", ""),
    ],
)
def test_everything_else_is_taken(name: str, value: object) -> None:
    assert set_problem(name, value, AT_START) == ""


def test_a_home_that_nobody_has_is_a_refused_attachment() -> None:
    node: Any = SimpleNamespace(
        get_parameter=lambda name: SimpleNamespace(value="~nobody_here/x" if name == "attachments" else "")
    )
    said = object.__new__(EpisodeParameters)
    said._node = node
    with pytest.raises(CaptureError, match="parameter attachments: ~nobody_here/x: there is no user"):
        said.attachments()
