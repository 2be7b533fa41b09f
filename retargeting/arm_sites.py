"""Whether the sites of each arm are where an arm has them: `robot.yaml` against the tree of the URDF."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retargeting.body_points import SIDES
from retargeting.robot_description import RobotDescription
from retargeting.urdf import Urdf

# Two points nearer than this are one (m).
_APART_M = 1e-4


def arm_site_problems(description: RobotDescription, urdf: Urdf) -> Iterator[tuple[str, str]]:
    """Keys of `robot.yaml` and what is wrong there; links and joints that do not exist are told elsewhere."""
    carrier = {joint.child: joint for joint in urdf.joints.values()}

    def carriers(link: str) -> list[str]:
        """The joints that carry a link, from it to the root."""
        found = []
        while link in carrier:
            found.append(carrier[link].name)
            link = carrier[link].parent
        return found

    sites = {name: site for name, site in description.sites.items() if site.link in urdf.links}
    for side in SIDES:
        arm = description.chains[f"{side}_arm"]
        if not arm or any(joint not in urdf.joints for joint in arm):
            continue
        other = set(description.chains[f"{'right' if side == 'left' else 'left'}_arm"])
        last = arm[-1]
        wrist, shoulder = (sites.get(f"{side}_{part}") for part in ("wrist", "shoulder"))
        if wrist is not None and last not in carriers(wrist.link):
            yield (
                f"sites.{side}_wrist.link",
                f"{wrist.link!r} is not carried by {last!r}, the last joint of chains.{side}_arm; "
                f"name {urdf.joints[last].child!r} or a link beyond it",
            )
        if shoulder is not None:
            joints = carriers(shoulder.link)
            before = [joint for joint in arm if joint in joints]
            most = max(1, len(arm) - 1)  # the last joint at least moves the hand only
            if len(before) > most or not other.isdisjoint(joints):
                wrong = f"{len(before)} joints of the arm" if len(before) > most else "the other arm"
                first = urdf.joints[arm[0]]
                yield (
                    f"sites.{side}_shoulder.link",
                    f"{shoulder.link!r} is carried by {wrong}, a shoulder by {most} of its own at most; "
                    f"name {first.parent!r}, {first.child!r} or a link between them and the elbow",
                )
        points = {name: site for name, site in sites.items() if name.startswith(f"{side}_")}
        names = list(points)
        for k, name in enumerate(names):
            for earlier in names[:k]:
                one, two = points[name], points[earlier]
                if one.link == two.link and float(np.linalg.norm(one.pose[:3] - two.pose[:3])) < _APART_M:
                    yield (
                        f"sites.{name}",
                        f"is the same point of {one.link!r} as {earlier}; say where it is by link or xyz_m",
                    )
