"""The layout that ships: everything it shows is recorded, under the names of our own robot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from capture_nodes.recording.camera_encoding import TOPIC_SUFFIXES
from capture_nodes.recording.recorder_configuration import load_recorder_configuration
from retargeting.robot_model import RobotModel

CONFIG = Path(__file__).resolve().parents[2] / "config"
LAYOUT = json.loads((CONFIG / "foxglove_layout.json").read_text())
TOPIC = re.compile(r"^/(?:kestrel|trainer)/[a-z_/]+")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for key, entry in value.items() for s in [key, *_strings(entry)]]
    if isinstance(value, list):
        return [s for entry in value for s in _strings(entry)]
    return [value] if isinstance(value, str) else []


def test_every_topic_of_the_layout_is_recorded() -> None:
    rules = load_recorder_configuration(CONFIG / "recorder.yaml").topics
    topics = {match.group() for text in _strings(LAYOUT["configById"]) if (match := TOPIC.match(text))}
    assert len(topics) > 15
    suffix = TOPIC_SUFFIXES["h264"]
    for topic in topics:
        taken = topic.removesuffix(suffix)
        matching = [rule for rule in rules if rule.matches(taken, "/kestrel")]
        assert matching and (taken == topic or matching[0].encoding == "h264"), topic


def test_every_panel_of_the_arrangement_is_configured() -> None:
    def panels(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else [*panels(node["first"]), *panels(node["second"])]

    assert sorted(panels(LAYOUT["layout"])) == sorted(LAYOUT["configById"])


def test_plotted_joints_have_the_index_of_their_name(kestrel: RobotModel) -> None:
    names = kestrel.joint_names
    checked = 0
    for panel in LAYOUT["configById"].values():
        for path in panel.get("paths", []):
            match = re.search(r"/joint_\w+\.position\[(\d+)\]$", path["value"])
            if match:
                joint = names[int(match.group(1))]
                assert all(word in joint for word in path["label"].split()[:1]), (path, joint)
                assert joint.split("_")[1] in path["label"] or "finger" in joint
                checked += 1
    assert checked >= 12


def test_the_robot_is_drawn_from_its_topic_with_prefixed_frames(
    kestrel: RobotModel,
) -> None:
    robot = LAYOUT["configById"]["3D!robot"]
    layer = robot["layers"]["robot"]
    assert (layer["sourceType"], layer["topic"]) == ("topic", "/kestrel/robot_description")
    assert layer["framePrefix"] == "kestrel/"
    assert robot["followTf"] == f"kestrel/{kestrel.urdf.root}"
