"""xacro: the same robot as the URDF it expands to, its packages found without ROS, its faults named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from retargeting import xacro_file
from retargeting.errors import InvalidConfiguration
from retargeting.robot_description import load_robot_description
from retargeting.urdf import load_urdf

MACRO = """<robot xmlns:xacro="http://www.ros.org/wiki/xacro">
  <xacro:macro name="segment" params="base to length">
    <link name="${to}"><visual><geometry><mesh filename="package://arm_parts/meshes/${to}.stl"/></geometry></visual>
    </link>
    <joint name="${base}_to_${to}" type="revolute">
      <parent link="${base}"/><child link="${to}"/>
      <origin xyz="0 0 ${2 * length}"/><axis xyz="0 1 0"/>
      <limit lower="${-pi / 2}" upper="${pi / 2}" velocity="3" effort="10"/>
    </joint>
  </xacro:macro>
</robot>"""
ARM = """<?xml version="1.0"?>
<robot name="arm" xmlns:xacro="http://www.ros.org/wiki/xacro">
  <xacro:arg name="length" default="0.5"/>
  <xacro:arg name="forearm" default="true"/>
  <xacro:include filename="$(find arm_parts)/segment.xacro"/>
  <link name="base"/>
  <xacro:segment base="base" to="upper" length="$(arg length)"/>
  <xacro:if value="$(arg forearm)">
    <xacro:segment base="upper" to="fore" length="0.25"/>
  </xacro:if>
</robot>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts = tmp_path / "parts" / "arm_parts"
    (parts / "meshes").mkdir(parents=True)
    (parts / "segment.xacro").write_text(MACRO)
    for name in ("upper", "fore"):
        (parts / "meshes" / f"{name}.stl").write_text("solid")
    (tmp_path / "robot").mkdir()
    (tmp_path / "robot" / "arm.urdf.xacro").write_text(ARM)
    return tmp_path


@pytest.fixture
def _needs_xacro() -> None:
    pytest.importorskip("xacro", reason="the Python package xacro is not installed")


needs_xacro = pytest.mark.usefixtures("_needs_xacro")


@needs_xacro
@pytest.mark.parametrize("name", ["arm.urdf.xacro", "arm.urdf"])
def test_macros_expand_to_the_tree_they_mean(folder: Path, name: str):
    """By the file's name, and by the macros that are left in a file of another name."""
    file = folder / "robot" / "arm.urdf.xacro"
    file = file.rename(file.with_name(name))
    urdf = load_urdf(file, [folder / "parts"])
    assert list(urdf.links) == ["base", "upper", "fore"] and urdf.name == "arm"
    assert urdf.warnings == ()
    np.testing.assert_allclose(urdf.joints["base_to_upper"].pose[:3], [0, 0, 1.0])
    assert urdf.joints["upper_to_fore"].upper == pytest.approx(np.pi / 2)
    mesh = urdf.links["fore"].visuals[0].geometry.mesh
    assert mesh == folder / "parts" / "arm_parts" / "meshes" / "fore.stl"
    # The text is plain URDF, for whoever reads it next.
    plain = folder / "plain.urdf"
    plain.write_text(urdf.text)
    again = load_urdf(plain, [folder / "parts"])
    assert list(again.joints) == list(urdf.joints) and "xacro:" not in urdf.text


@needs_xacro
def test_arguments_come_from_robot_yaml(folder: Path):
    yaml = folder / "robot" / "robot.yaml"
    yaml.write_text(
        "name: arm\nbase_link: base\nchains: {left_arm: [base_to_upper]}\n"
        "sites: {left_shoulder: {link: base}, left_wrist: {link: upper}}\n"
        "urdf: {file: arm.urdf.xacro, package_paths: [../parts], "
        "xacro_arguments: {length: 0.75, forearm: false}}\n"
    )
    description = load_robot_description(yaml)
    assert description.xacro_arguments == {"length": "0.75", "forearm": "false"}
    urdf = load_urdf(description.urdf_file, description.package_paths, description.xacro_arguments)
    assert list(urdf.links) == ["base", "upper"]
    np.testing.assert_allclose(urdf.joints["base_to_upper"].pose[2], 1.5)


@needs_xacro
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("$(find arm_parts)", "$(find leg_parts)", "package 'leg_parts' is not found; name the folder"),
        ("segment.xacro", "none.xacro", r"robot/arm\.urdf\.xacro: file: cannot be expanded: .*none\.xacro"),
        ("0.25", "${unknown}", "cannot be expanded: .*unknown"),
        ("0.25", "${1 / 0}", "cannot be expanded: .*zero"),
        ("xacro:segment base", "xacro:part base", "cannot be expanded: .*part"),
        ("$(arg length)", "$(arg width)", "cannot be expanded: .*width"),
        ('base="base"', 'base="floor"', r"line \d+ after xacro: .*parent link 'floor' does not exist"),
        ('length="0.25"', "length=\"${float('nan')}\"", r"line \d+ after xacro: .*3 finite number"),
        ("</xacro:if>", "</xacro:unless>", "line 10: malformed XML"),
        ("<robot ", "<sdf ", "malformed XML"),
    ],
)
def test_faults_of_macros_are_named(folder: Path, old: str, new: str, message: str):
    file = folder / "robot" / "arm.urdf.xacro"
    assert old in ARM
    file.write_text(ARM.replace(old, new, 1))
    with pytest.raises(InvalidConfiguration, match=message):
        load_urdf(file, [folder / "parts"])


@needs_xacro
def test_a_fault_in_an_included_file_names_that_file(folder: Path):
    included = folder / "parts" / "arm_parts" / "segment.xacro"
    included.write_text(MACRO.replace("</joint>", ""))
    with pytest.raises(InvalidConfiguration, match=r"segment\.xacro: line \d+: cannot be expanded"):
        load_urdf(folder / "robot" / "arm.urdf.xacro", [folder / "parts"])


@needs_xacro
def test_xacros_own_way_to_packages_is_left_as_it_was(folder: Path):
    substitutions = pytest.importorskip("xacro.substitution_args")
    before = substitutions._eval_find
    load_urdf(folder / "robot" / "arm.urdf.xacro", [folder / "parts"])
    assert substitutions._eval_find is before


def test_without_xacro_the_way_to_install_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xacro", None)
    with pytest.raises(InvalidConfiguration, match=r"arm\.urdf\.xacro: file: .* pip install xacro"):
        load_urdf(folder / "robot" / "arm.urdf.xacro", [folder / "parts"])


def test_a_urdf_that_only_names_xacro_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Expanded files keep the namespace, and a simulator's plugins their $(find …)."""
    monkeypatch.setattr(xacro_file, "_package", lambda: None)
    file = tmp_path / "a.urdf"
    file.write_text(
        '<robot name="r" xmlns:xacro="http://www.ros.org/wiki/xacro"><link name="a"/>'
        "<gazebo><plugin>$(find control)/a.yaml</plugin></gazebo></robot>"
    )
    assert load_urdf(file).root == "a"
