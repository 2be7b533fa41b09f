from __future__ import annotations

from pathlib import Path

import pytest

from capture_nodes.recording.recorder_configuration import (
    CAMERA_TOPICS,
    COMMAND_TOPICS,
    MOTION_TOPICS,
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


def test_a_station_gives_the_rates_of_commands_motion_and_cameras() -> None:
    """Every topic that a station's rates set gets its own, and no other one does."""
    shipped = load_recorder_configuration(SHIPPED)
    changed = (
        shipped.with_rate(COMMAND_TOPICS, 100.0).with_rate(MOTION_TOPICS, 72.0).with_rate(CAMERA_TOPICS, 15.0)
    )
    before = {rule.pattern: rule.rate_hz for rule in shipped.topics}
    assert {
        rule.pattern: rule.rate_hz for rule in changed.topics if rule.rate_hz != before[rule.pattern]
    } == {
        "joint_commands": 100.0,
        "command_cause": 100.0,
        "target/{site}": 100.0,
        "/trainer/motion": 72.0,
        "/trainer/buttons": 72.0,
        "/trainer/head": 72.0,
        "/trainer/left_wrist": 72.0,
        "/trainer/right_wrist": 72.0,
        "camera/{name}/image": 15.0,
        "camera/{name}/image/compressed": 15.0,
        "camera/{name}/camera_info": 15.0,
    }
    on_change = RecorderConfiguration((TopicRule("joint_commands", "sensor_msgs/msg/JointState"),))
    assert on_change.with_rate(COMMAND_TOPICS, 100.0) == on_change


def test_a_topic_can_be_added_and_a_configured_one_stays() -> None:
    shipped = load_recorder_configuration(SHIPPED)
    rule = TopicRule("wheels/cmd_vel", "geometry_msgs/msg/Twist")
    assert shipped.with_topic(rule).topics == (*shipped.topics, rule)
    assert shipped.with_topic(TopicRule("joint_states", "geometry_msgs/msg/Twist")) == shipped
