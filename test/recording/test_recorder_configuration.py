from __future__ import annotations

from pathlib import Path

import pytest

from capture_nodes.recording.recorder_configuration import (
    InvalidRecorderConfiguration,
    RecorderConfiguration,
    TopicRule,
    load_recorder_configuration,
)

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "recorder.yaml"


def test_the_shipped_file_states_the_defaults() -> None:
    loaded = load_recorder_configuration(SHIPPED)
    assert loaded == RecorderConfiguration(topics=loaded.topics)
    rules = {rule.pattern: rule for rule in loaded.topics}
    assert rules["joint_states"].rate_hz == 200 and rules["robot_description"].latched


def test_relative_names_and_placeholders() -> None:
    rule = TopicRule("camera/{name}/image", "sensor_msgs/msg/Image", 30.0)
    assert rule.is_family and rule.resolved("/kestrel") == "/kestrel/camera/{name}/image"
    assert rule.matches("/kestrel/camera/head/image", "/kestrel")
    for other in ("/kestrel/camera/head/image/compressed", "/g1/camera/head/image", "/kestrel/camera//image"):
        assert not rule.matches(other, "/kestrel")


def test_every_problem_is_listed_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "recorder.yaml"
    path.write_text(
        "topics:\n"
        "  joint_states: {type: JointState}\n"
        "  'bad name': {type: a/msg/B}\n"
        "  a: {type: a/msg/B, rate_hz: fast, latched: maybe}\n"
        "  b: 5\n"
        "file: {compression: rar, flush_s: 100}\n"
        "taking: {poll: 1}\n"
        "disk: 3\n"
        "colour: red\n"
    )
    with pytest.raises(InvalidRecorderConfiguration) as caught:
        load_recorder_configuration(path)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {
        "topics.joint_states.type",
        "topics.bad name",
        "topics.a.rate_hz",
        "topics.a.latched",
        "topics.b",
        "file.compression",
        "file.flush_s",
        "taking.poll",
        "disk",
        "colour",
    }
    assert all(str(path) in line for line in str(caught.value).splitlines())


@pytest.mark.parametrize("text", ["", "[1]", "topics: {}", "topics: [", "file: {}"])
def test_an_empty_or_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recorder.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRecorderConfiguration):
        load_recorder_configuration(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecorderConfiguration, match=r"cannot be read.*`config`"):
        load_recorder_configuration(tmp_path / "gone.yaml")
