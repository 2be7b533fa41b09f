"""The text of a `robot.yaml` from an inferred body: every entry with the reason for it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS
from retargeting.frames import matrix_from_pose
from retargeting.onboarding.body import Arm, Body
from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.urdf_origin import UrdfOrigin
from retargeting.robot_description import BodyAxes, Site

Array = NDArray[np.float64]

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Words that YAML 1.1 reads as something else.
_WORDS = ("on", "off", "yes", "no", "true", "false", "null", "y", "n")
# The first line of every file that onboard wrote.
HEADING = "Written by `onboard` from the URDF alone."


def rpy_from_rotation(rotation: Array) -> tuple[float, float, float]:
    """URDF's fixed-axis roll, pitch, yaw (rad) of a rotation ``(3, 3)``."""
    pitch = float(np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0])))
    if np.hypot(rotation[0, 0], rotation[1, 0]) < 1e-9:
        return float(np.arctan2(-rotation[1, 2], rotation[1, 1])), pitch, 0.0
    roll = float(np.arctan2(rotation[2, 1], rotation[2, 2]))
    return roll, pitch, float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _number(value: float) -> str:
    # No exponents: YAML 1.1 reads 1e-5 as text.
    text = f"{float(value):.5f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _list(values: Iterable[float]) -> str:
    return "[" + ", ".join(_number(value) for value in values) + "]"


def _quoted(name: str) -> str:
    """A name as YAML reads it back: quoted where it would be something else (`on`, `-1`, `a: b`)."""
    return name if _PLAIN.fullmatch(name) and name.lower() not in _WORDS else _text(name)


def _escaped(text: str) -> str:
    """`text` without what cannot stand in YAML or would end a line of it."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)


def _text(value: str) -> str:
    """Text that YAML reads back as text, whatever is in it."""
    return _escaped(json.dumps(value, ensure_ascii=False))


def _names(names: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(name) for name in names) + "]"


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        _escaped(" ".join(text.split())),
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#   ",
        break_on_hyphens=False,
    )


def _reasons(findings: Iterable[Finding], indent: str = "") -> list[str]:
    lines = []
    for finding in findings:
        doubt = "" if finding.sure else "UNSURE, please check: "
        lines += _comment(f"{doubt}{finding.what}: {finding.why}.", indent)
    return lines


def _site(name: str, site: Site) -> str:
    parts = [f"link: {_quoted(site.link)}"]
    if np.abs(site.pose[:3]).max() > 5e-6:
        parts.append(f"xyz_m: {_list(site.pose[:3])}")
    rpy = rpy_from_rotation(matrix_from_pose(site.pose)[:3, :3])
    if np.abs(rpy).max() > 5e-6:
        parts.append(f"rpy_rad: {_list(rpy)}")
    return f"  {name}: {{{', '.join(parts)}}}"


def _grippers(arms: dict[str, Arm]) -> list[str]:
    driven = {side: arm for side, arm in arms.items() if arm.hand.joints}
    if not driven:
        return []
    lines = ["grippers:"]
    for side, arm in driven.items():
        lines += [f"  {side}:", "    joints:"]
        lines += [
            f"      {_quoted(own)}: {{closed: {_number(closed)}, open: {_number(opened)}}}"
            for own, (closed, opened) in arm.hand.joints.items()
        ]
    return lines


def _hands(arms: dict[str, Arm]) -> list[str]:
    lines: list[str] = []
    for side, arm in arms.items():
        if not arm.hand.tips:
            continue
        lines.append(f"  {side}:")
        order = {finger: k for k, finger in enumerate(FINGERS)}
        for tip in sorted(arm.hand.tips, key=lambda tip: order[tip.name]):
            lines += _comment(f"{tip.name}: {tip.pad.why}.", "    ")
            entry = f"tip: {_quoted(tip.pad.link)}, xyz_m: {_list(tip.pad.position)}"
            entry += f", pad_radius_m: {_number(tip.pad.radius_m)}"
            entry += f", base: {_quoted(tip.base)}" if tip.base else ""
            lines.append(f"    {tip.name}: {{{entry}}}")
    return ["hands:", *lines] if lines else []


def robot_yaml(name: str, body: Body, origin: UrdfOrigin) -> str:
    """The whole file. `name` names the robot, `origin` its URDF."""
    lines = [f"# {HEADING} Change what is wrong; every entry may be"]
    lines += ["# overridden here, and what was inferred is never read again. Keys: docs/robots.md."]
    sure = [finding for finding in body.findings if finding.sure]
    unsure = [finding for finding in body.findings if not finding.sure]
    lines += _comment(f"{len(sure)} findings are sure, {len(unsure)} are not.")
    lines += _reasons(unsure)
    lines.append(f"name: {_quoted(name)}")
    if origin.package:
        license_text = origin.urdf_license or origin.model_license or origin.package_license
        if license_text:
            lines.append(f"license: {_quoted(license_text)}")
        if origin.upstream:
            lines.append(f"maker: {_quoted(origin.upstream)}")
        note = f"The model belongs to the Python package {origin.package}"
        note += f" ({origin.package_license})" if origin.package_license else ""
        note += "; nothing of it is copied here."
        said = [("its URDF", origin.urdf_license), ("the README beside it", origin.model_license)]
        stated = [f"{where} says {license_}" for where, license_ in said if license_]
        note += f" Licence: {', '.join(stated)}." if stated else ""
        lines.append(f"comment: {_quoted(note)}")
        lines += ["urdf:", f"  package: {_quoted(origin.package)}", f"  file: {_quoted(origin.file)}"]
    elif origin.package_paths or origin.xacro_arguments:
        lines += ["urdf:", f"  file: {_quoted(origin.file)}"]
    else:
        lines.append(f"urdf: {{file: {_quoted(origin.file)}}}")
    if origin.package_paths:
        lines.append(f"  package_paths: {_names([str(path) for path in origin.package_paths])}")
    if origin.xacro_arguments:
        values = [f"{_quoted(key)}: {_text(value)}" for key, value in origin.xacro_arguments.items()]
        lines.append(f"  xacro_arguments: {{{', '.join(values)}}}")
    lines.append(f"base_link: {_quoted(body.skeleton.urdf.root)}")
    lines += _axes(body)
    lines += _chains(body)
    lines += _sites(body)
    lines += _reasons(
        finding for finding in body.findings if "closed … open" in finding.what or "fingers (" in finding.what
    )
    lines += _grippers(body.arms)
    lines += _hands(body.arms)
    lines += _reasons(f for f in body.findings if f.what.startswith("neutral posture"))
    lines.append("neutral_posture_rad:")
    moved = [(joint, value) for joint, value in body.neutral_posture.items() if abs(value) > 1e-9]
    lines += [f"  {_quoted(joint)}: {_number(value)}" for joint, value in moved]
    if not moved:
        lines[-1] = "neutral_posture_rad: {}"
    return "\n".join(lines) + "\n"


def _axes(body: Body) -> list[str]:
    lines = _reasons(f for f in body.findings if f.what.startswith(("it faces", "up is")))
    default = BodyAxes()
    same = np.allclose(body.forward, default.forward) and np.allclose(body.up, default.up)
    if not same:
        lines.append(f"axes: {{forward: {_list(body.forward)}, up: {_list(body.up)}}}")
    return lines


def _chains(body: Body) -> list[str]:
    lines = _reasons(
        f for f in body.findings if " arm" in f.what or f.what.startswith(("waist:", "head:", "arms are"))
    )
    lines += ["chains:", f"  waist: {_names(body.waist)}", f"  head: {_names(body.head_joints)}"]
    for side in ("left", "right"):
        arm = body.arms.get(side)
        lines.append(f"  {side}_arm: {_names(arm.joints if arm else ())}")
    return lines


def _sites(body: Body) -> list[str]:
    lines = ["sites:"]
    lines += _comment(
        "Axes as in docs/robots.md: x along the segment away from the body, z out of the back of the hand.",
        "  ",
    )
    if body.head is not None:
        lines.append(_site("head", body.head))
    for side, arm in body.arms.items():
        lines += _reasons(
            (
                f
                for f in body.findings
                if f.what.startswith((f"{side}:", f"{side} wrist"))
                and "closed … open" not in f.what
                and "fingers (" not in f.what
            ),
            "  ",
        )
        lines.append(_site(f"{side}_shoulder", arm.shoulder))
        if arm.elbow is not None:
            lines.append(_site(f"{side}_elbow", arm.elbow))
        lines.append(_site(f"{side}_wrist", arm.wrist))
    return lines
