"""What `onboard` tells: in words for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from retargeting.onboarding.body import Body
from retargeting.onboarding.self_test import SelfTest


@dataclass(frozen=True)
class Report:
    """One robot that was onboarded. `warnings`: what the URDF's loader repaired, a line each."""

    name: str
    robot_yaml: Path
    picture: Path | None
    body: Body
    warnings: tuple[str, ...]
    self_test: SelfTest | None

    @property
    def problems(self) -> tuple[str, ...]:
        return self.self_test.problems if self.self_test is not None else ()

    def text(self) -> str:
        """For people: sure, unsure, the self-test, where the files are."""
        lines = [f"{self.name}: {self.robot_yaml}"]
        if self.picture is not None:
            lines.append(f"  picture: {self.picture}")
        for title, wanted in (("sure", True), ("UNSURE, please check", False)):
            found = [finding for finding in self.body.findings if finding.sure is wanted]
            lines.append(f"  {title} ({len(found)}):")
            lines += [f"    {finding.what} ({finding.why})" for finding in found]
        if self.warnings:
            lines.append(f"  the URDF was mended in {len(self.warnings)} way(s):")
            lines += [f"    {warning}" for warning in self.warnings]
        if self.self_test is not None:
            lines += self._self_test_lines(self.self_test)
        return "\n".join(lines)

    @staticmethod
    def _self_test_lines(test: SelfTest) -> list[str]:
        reach = ", ".join(f"{side} {metres:.2f} m" for side, metres in test.reach_m.items())
        lines = [f"  self-test: {test.joints} joints are driven; reach {reach}"]
        if test.unlimited:
            lines.append(f"    turn without end: {', '.join(test.unlimited)}")
        for motion in test.motions:
            errors = "; ".join(
                f"{side} {1000.0 * error:.0f} mm, {motion.error_rad[side]:.2f} rad off in the median, "
                f"{1000.0 * motion.error_p95_m[side]:.0f} mm in 95 %"
                for side, error in motion.error_m.items()
            )
            lines.append(
                f"    {motion.name}, {motion.duration_s:.0f} s: {motion.violations} limits broken; {errors}"
            )
        lines += [f"    beyond its reach or speed: {note}" for note in test.notes]
        lines += [f"    PROBLEM: {problem}" for problem in test.problems] or ["    no problem"]
        return lines

    def json(self) -> str:
        """The same, for programs."""
        body = self.body
        arms = {
            side: {
                "joints": list(arm.joints),
                "elbow_joint": arm.elbow_joint,
                "shoulder_link": arm.shoulder.link,
                "elbow_link": arm.elbow.link if arm.elbow is not None else None,
                "wrist_link": arm.wrist.link,
                "length_m": arm.length_m,
                "hand": arm.hand.kind,
                "closed_open": {own: list(ends) for own, ends in arm.hand.joints.items()},
                "fingers": {
                    tip.name: {"link": tip.pad.link, "xyz_m": tip.pad.position.tolist()}
                    for tip in arm.hand.tips
                },
            }
            for side, arm in body.arms.items()
        }
        content = {
            "name": self.name,
            "robot_yaml": str(self.robot_yaml),
            "picture": None if self.picture is None else str(self.picture),
            "forward": body.forward.tolist(),
            "up": body.up.tolist(),
            "waist": list(body.waist),
            "head": list(body.head_joints),
            "arms": arms,
            "findings": [asdict(finding) for finding in body.findings],
            "warnings": list(self.warnings),
            "self_test": None if self.self_test is None else asdict(self.self_test),
            "problems": list(self.problems),
        }
        return json.dumps(content, indent=2)


def problem_text(problems: Sequence[str]) -> str:
    """A closing line that names the way out."""
    return (
        f"{len(problems)} problem(s) in the self-test. Look at the picture, change robot.yaml, and run the "
        "station with it in simulation first"
    )
