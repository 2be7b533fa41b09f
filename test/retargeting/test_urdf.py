"""URDF loading: the tree it gives, and every kind of bad file it refuses with the place and the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retargeting.errors import InvalidConfiguration
from retargeting.urdf import load_urdf

GOOD = """<robot name="r">
  <material name="blue"><color rgba="0 0 1 1"/></material>
  <link name="a"><visual><geometry><box size="1 2 3"/></geometry><material name="blue"/></visual></link>
  <link name="b"><inertial><mass value="2"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="c"/>
  <joint name="b_to_c" type="prismatic"><parent link="b"/><child link="c"/><axis xyz="0 0 2"/>
    <limit lower="0" upper="0.1" velocity="1" effort="5"/>
    <mimic joint="a_to_b" multiplier="0.5" offset="0.01"/></joint>
  <joint name="a_to_b" type="revolute"><parent link="a"/><child link="b"/>
    <origin xyz="0 0 1"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" velocity="3" effort="10"/></joint>
</robot>"""


def load(tmp_path: Path, text: str):
    file = tmp_path / "robot.urdf"
    file.write_text(text)
    return load_urdf(file)


def test_a_good_file_gives_its_tree(tmp_path):
    urdf = load(tmp_path, GOOD)
    assert urdf.root == "a"
    assert [joint.name for joint in urdf.joints_root_first()] == ["a_to_b", "b_to_c"]
    np.testing.assert_allclose(urdf.joints["b_to_c"].axis, [0, 0, 1])
    assert urdf.joints["b_to_c"].mimic.multiplier == 0.5
    assert urdf.links["a"].visuals[0].rgba == (0, 0, 1, 1)
    assert urdf.links["b"].inertial.mass_kg == 2.0
    assert urdf.warnings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("</robot>", ""), "malformed XML"),
        (("<robot name", "<sdf name"), "malformed XML"),
        (('<parent link="b"/>', '<parent link="zz"/>'), "parent link 'zz' does not exist"),
        (('lower="-1"', 'lower="nan"'), "finite number"),
        (('lower="-1"', 'lower="left"'), "finite number"),
        (('lower="-1"', 'lower="2"'), "is above upper"),
        (('xyz="0 1 0"', 'xyz="0 0 0"'), "zero axis"),
        (('type="revolute"', 'type="hinge"'), "revolute, continuous, prismatic, fixed expected"),
        (('name="b_to_c"', 'name="a_to_b"'), "defined twice"),
        (('joint="a_to_b"', 'joint="zz"'), "which does not exist"),
        (('joint="a_to_b"', 'joint="b_to_c"'), "circle"),
        (('<child link="c"/>', '<child link="b"/>'), "two parents"),
        (('<box size="1 2 3"/>', "<cone/>"), "unknown geometry"),
        (('value="2"', 'value="-2"'), "negative mass"),
        (
            ('ixx="1"', 'ixx="-1"'),
            "line 5: link 'b': principal moments of inertia -1 1 1 .*none may be negative",
        ),
        (('ixy="0"', 'ixy="2"'), "none may be negative"),
        (('ixx="1"', 'ixx="inf"'), "finite number"),
    ],
)
def test_a_bad_file_is_refused_with_place_and_reason(tmp_path, change, message):
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        load(tmp_path, GOOD.replace(*change, 1))
    assert "robot.urdf" in str(caught.value)
    assert "line" in str(caught.value)


def test_all_problems_are_listed_at_once(tmp_path):
    text = GOOD.replace('type="revolute"', 'type="hinge"').replace('size="1 2 3"', 'size="1 2"')
    with pytest.raises(InvalidConfiguration) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == 2


def test_two_roots_and_missing_files_are_named(tmp_path):
    with pytest.raises(InvalidConfiguration, match="one root link expected, 2 found"):
        load(tmp_path, GOOD.replace("</robot>", '<link name="alone"/></robot>'))
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        load_urdf(tmp_path / "none.urdf")


def test_a_missing_mesh_is_a_warning(tmp_path):
    text = GOOD.replace('<box size="1 2 3"/>', '<mesh filename="package://nowhere/a.stl"/>')
    urdf = load(tmp_path, text)
    assert urdf.links["a"].visuals[0].geometry.mesh is None
    assert "a.stl" in str(urdf.warnings[0])


def test_limits_that_mean_nothing_are_ignored_and_said(tmp_path):
    urdf = load(tmp_path, GOOD.replace('velocity="3"', 'velocity="0"'))
    assert urdf.joints["a_to_b"].velocity == float("inf")
    assert str(urdf.warnings[0]) == "line 10: joint 'a_to_b': velocity limit 0 means nothing and is ignored"


def test_an_inertia_that_simulation_can_balance_is_a_warning(tmp_path):
    """As in the files of many real robots: a principal moment above the sum of the others."""
    urdf = load(tmp_path, GOOD.replace('ixx="1"', 'ixx="2.5"'))
    assert "link 'b', principal moments of inertia 1 1 2.5" in str(urdf.warnings[0])
    rounded = 'ixx="0" iyy="-1e-9" izz="0"'
    assert load(tmp_path, GOOD.replace('ixx="1" iyy="1" izz="1"', rounded)).warnings == ()


def test_warnings_are_told_in_one_line_per_kind(tmp_path):
    text = GOOD.replace('velocity="3"', 'velocity="0"').replace('velocity="1"', 'velocity="0"')
    text = text.replace('<box size="1 2 3"/>', '<mesh filename="a.stl"/>')
    meshes, limits = load(tmp_path, text).warning_lines()
    assert meshes.endswith("line 3: mesh 'a.stl': not found; a capsule along the link replaces it")
    assert "robot.urdf: line 7: joint 'b_to_c' (and 1 more): velocity limit 0" in limits
