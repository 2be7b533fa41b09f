"""`station robots`: every robot that is described, its joints and hands, and whether it can be used here."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence

from capture_nodes.resources import share_folder
from retargeting.registered_robots import RegisteredRobot, registered_robots
from retargeting.robot_description import CHAINS

_HEADINGS = ("ROBOT", "WAIST", "HEAD", "ARMS", "HANDS", "STATE")


def list_robots(words: Sequence[str]) -> int:
    """Print the robots, as a table or with ``--json``; 0, also where some cannot be used."""
    parser = argparse.ArgumentParser(
        prog="station robots", description="robots that are described, and whether they can be used here"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--check", action="store_true", help="read every URDF too (up to a minute)")
    given = parser.parse_args(words)
    robots = registered_robots(share_folder() / "robot_descriptions", thorough=given.check)
    if given.json:
        print(json.dumps([{**dataclasses.asdict(r), "usable": r.usable} for r in robots], default=str))
        return 0
    rows = [_HEADINGS, *(_row(robot) for robot in robots)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*cells, row[-1]]))
    usable = sum(robot.usable for robot in robots)
    print(
        f"\n{usable} of {len(robots)} can be used here: station robot:=<name>, or robot:=path/to/robot.yaml"
    )
    return 0


def _row(robot: RegisteredRobot) -> tuple[str, ...]:
    waist, head, left, right = (robot.chains[chain] for chain in CHAINS)
    arms = " + ".join(str(count) for count in (left, right) if count)
    hands = sorted(set(robot.hands.values()))
    # The whole reason is what `station robot:=<name>` and `--json` say.
    state = robot.state.partition(", ")[0]
    return (robot.name, str(waist or "-"), str(head or "-"), arms, " / ".join(hands), state)
