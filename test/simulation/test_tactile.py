from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from capture_nodes.simulation.tactile import pressures, taxel_area_m2
from retargeting.robot_description import TactileSensor

POSE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
place = st.floats(-0.1, 0.1)
contact = st.tuples(place, place, st.floats(0.0, 200.0))


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    height=st.floats(0.005, 0.1),
    width=st.floats(0.005, 0.1),
    contacts=st.lists(contact, max_size=6),
)
def test_pressure_adds_up_to_the_force(
    rows: int, columns: int, height: float, width: float, contacts: list[tuple[float, float, float]]
) -> None:
    sensor = TactileSensor("pad", POSE, rows, columns, (height, width))
    table = np.array(contacts).reshape(-1, 3)
    image = pressures(sensor, table[:, :2], table[:, 2])
    assert image.shape == (rows, columns) and image.dtype == np.float32
    assert (image >= 0.0).all()
    total = float(image.astype(np.float64).sum()) * taxel_area_m2(sensor)
    np.testing.assert_allclose(total, table[:, 2].sum(), rtol=1e-5, atol=1e-9)


def test_the_centre_of_pressure_is_where_the_contact_is() -> None:
    sensor = TactileSensor("pad", POSE, 6, 4, (0.044, 0.022))
    image = pressures(sensor, np.array([[0.011, -0.004]]), np.array([5.0]))
    rows = 0.044 * ((np.arange(6) + 0.5) / 6 - 0.5)
    columns = 0.022 * ((np.arange(4) + 0.5) / 4 - 0.5)
    weights = image / image.sum()
    assert abs(float(weights.sum(axis=1) @ rows) - 0.011) < 0.002
    assert abs(float(weights.sum(axis=0) @ columns) + 0.004) < 0.002
    assert np.unravel_index(image.argmax(), image.shape) == (4, 1)
