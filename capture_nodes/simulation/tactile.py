"""Tactile pads: contact forces spread over an array of taxels."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from retargeting.frames import rotation_matrix_from_quaternion
from retargeting.robot_description import TactileSensor

Array = NDArray[np.float64]

# Width of a contact's footprint (one sigma) in taxels: soft skin spreads a point over its neighbours.
FOOTPRINT_TAXELS = 0.6
# A contact is on the pad's face when its normal is within 60 degrees of the pad's.
_SMALLEST_ALIGNMENT = 0.5


def taxel_centres(sensor: TactileSensor) -> tuple[Array, Array]:
    """Places (m) of the rows along the pad's x and of the columns along its y, from the pad's centre."""
    height, width = sensor.size_m
    rows = (np.arange(sensor.rows) + 0.5) / sensor.rows - 0.5
    columns = (np.arange(sensor.columns) + 0.5) / sensor.columns - 0.5
    return height * rows, width * columns


def taxel_area_m2(sensor: TactileSensor) -> float:
    return sensor.size_m[0] * sensor.size_m[1] / (sensor.rows * sensor.columns)


def pressures(sensor: TactileSensor, points_m: Array, forces_n: Array) -> NDArray[np.float32]:
    """Pressure (Pa) on ``(rows, columns)`` taxels of point contacts ``(k, 2)`` with normal forces ``(k,)``.

    Each force is spread by a Gaussian that is cut at the pad's edge and normalised there, so that
    pressure times taxel area adds up to the total force wherever the contacts are.
    """
    row_places, column_places = taxel_centres(sensor)
    height, width = sensor.size_m
    image = np.zeros((sensor.rows, sensor.columns))
    for (x, y), force in zip(points_m, forces_n, strict=True):
        along_rows = _footprint(row_places, float(x), height / sensor.rows)
        along_columns = _footprint(column_places, float(y), width / sensor.columns)
        image += float(force) * np.outer(along_rows, along_columns)
    return (image / taxel_area_m2(sensor)).astype(np.float32)


def _footprint(places: Array, at: float, spacing: float) -> Array:
    # Contacts on the rim count for the outermost taxel.
    inside = min(max(at, float(places[0])), float(places[-1]))
    weights = np.exp(-0.5 * ((places - inside) / (FOOTPRINT_TAXELS * spacing)) ** 2)
    shares: Array = weights / weights.sum()
    return shares


class TactilePads:
    """Reads every pad of a robot from the contacts in `MjData`."""

    def __init__(self, mj_model: Any, sensors: dict[str, TactileSensor]) -> None:
        self._model = mj_model
        self.sensors = sensors
        self._bodies = {
            name: int(mujoco.mj_name2id(mj_model, mujoco.mjtObj.mjOBJ_BODY, sensor.link))
            for name, sensor in sensors.items()
        }
        self._pads_of_body: dict[int, list[str]] = {}
        for name, body in self._bodies.items():
            self._pads_of_body.setdefault(body, []).append(name)
        self._pad_places = {
            name: (sensor.pose[:3], rotation_matrix_from_quaternion(sensor.pose[3:]))
            for name, sensor in sensors.items()
        }
        self._is_pad_geom = np.isin(mj_model.geom_bodyid, list(self._pads_of_body))
        self._load = np.zeros(6)

    def contacts(self, data: Any) -> dict[str, tuple[Array, Array]]:
        """Per pad: contact points ``(k, 2)`` (m, pad x and y) and forces ``(k,)`` (N) into the pad."""
        found: dict[str, tuple[list[Array], list[float]]] = {name: ([], []) for name in self.sensors}
        geoms = data.contact.geom
        if len(geoms):
            touched = self._is_pad_geom[geoms]
            indices = np.nonzero(touched.any(axis=1))[0]
            if len(indices):
                frames, places = data.contact.frame.reshape(-1, 3, 3), data.contact.pos
                for i in indices:
                    mujoco.mj_contactForce(self._model, data, int(i), self._load)
                    # The contact normal points from geom 0 to geom 1; the force given acts on geom 1.
                    force = frames[i].T @ self._load[:3]
                    for side, sign in ((0, -1.0), (1, 1.0)):
                        if touched[i, side]:
                            body = int(self._model.geom_bodyid[geoms[i, side]])
                            self._add(data, body, sign * frames[i, 0], sign * force, places[i], found)
        return {
            name: (np.array(points).reshape(-1, 2), np.array(forces))
            for name, (points, forces) in found.items()
        }

    def _add(
        self,
        data: Any,
        body: int,
        normal: Array,
        force: Array,
        place: Array,
        found: dict[str, tuple[list[Array], list[float]]],
    ) -> None:
        """A force (N, world) on a body at `place`; `normal` points into the body."""
        link_rotation = data.xmat[body].reshape(3, 3)
        from_link = place - data.xpos[body]
        for name in self._pads_of_body[body]:
            centre, pad_rotation = self._pad_places[name]
            rotation = link_rotation @ pad_rotation
            outward = rotation[:, 2]
            into_pad = -float(force @ outward)
            if -float(normal @ outward) < _SMALLEST_ALIGNMENT or into_pad <= 0.0:
                continue
            local = rotation.T @ (from_link - link_rotation @ centre)
            found[name][0].append(local[:2])
            found[name][1].append(into_pad)

    def read(self, data: Any) -> dict[str, NDArray[np.float32]]:
        """Pressure images ``(rows, columns)`` in Pa of every pad."""
        return {
            name: pressures(self.sensors[name], points, forces)
            for name, (points, forces) in self.contacts(data).items()
        }
