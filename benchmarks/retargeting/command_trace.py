"""Published commands of one robot as a file, so that a program that knows nothing of us can judge them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CommandTrace:
    """Commands `positions` ``(t, n)`` (rad, m) at `stamps_ns` ``(t,)``; `start` ``(n,)`` was measured before.

    `held`: positions of joints that are not commanded, by name. `collision_margin_m`: the distance the
    robot's own links are to keep, 0 where none is promised; `exempt_pairs`: (link, link, reason) it is not
    promised for; `own_margins`: (link, link, m) that keep less. `finger_joints`: commanded, but only open and
    close hands, whose own fingers may touch.
    """

    urdf: Path
    package_paths: tuple[Path, ...]
    joint_names: tuple[str, ...]
    stamps_ns: NDArray[np.int64]
    positions: Array
    start: Array
    nominal_s: float
    held: dict[str, float] = field(default_factory=dict)
    collision_margin_m: float = 0.0
    exempt_pairs: tuple[tuple[str, str, str], ...] = ()
    own_margins: tuple[tuple[str, str, float], ...] = ()
    finger_joints: tuple[str, ...] = ()
    label: str = ""

    def save(self, file: Path) -> None:
        header = {
            key: value
            for key, value in asdict(self).items()
            if key not in ("stamps_ns", "positions", "start")
        }
        header["urdf"] = str(self.urdf)
        header["package_paths"] = [str(path) for path in self.package_paths]
        np.savez_compressed(
            file,
            header=np.array(json.dumps(header)),
            stamps_ns=self.stamps_ns,
            positions=self.positions,
            start=self.start,
        )

    @classmethod
    def load(cls, file: Path) -> CommandTrace:
        with np.load(file) as content:
            header = json.loads(str(content["header"]))
            header["urdf"] = Path(header["urdf"])
            header["package_paths"] = tuple(Path(path) for path in header["package_paths"])
            for key in ("joint_names", "finger_joints"):
                header[key] = tuple(header[key])
            for key in ("exempt_pairs", "own_margins"):
                header[key] = tuple((a, b, said) for a, b, said in header[key])
            return cls(
                **header,
                stamps_ns=content["stamps_ns"],
                positions=content["positions"],
                start=content["start"],
            )
