"""URDF loading: the tree it gives, and every kind of bad file it refuses with the place and the reason."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from retargeting.errors import InvalidConfiguration
from retargeting.urdf import Urdf, load_urdf
from retargeting.xml_document import LARGEST_FILE_BYTES

GOOD = """<robot name="r">
  <material name="blue"><color rgba="0 0 1 1"/></material>
  <link name="a"><visual><geometry><box size="1 2 3"/></geometry><material name="blue"/></visual></link>
  <link name="b"><inertial><mass value="2"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="c"/>
  <joint name="b_to_c" type="prismatic"><parent link="b"/><child link="c"/><axis xyz="0 0 1"/>
    <limit lower="-0.5" upper="0.6" velocity="2" effort="5"/>
    <mimic joint="a_to_b" multiplier="0.5" offset="0.01"/></joint>
  <joint name="a_to_b" type="revolute"><parent link="a"/><child link="b"/>
    <origin xyz="0 0 1"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" velocity="3" effort="10"/></joint>
</robot>"""


def load(tmp_path: Path, text: str) -> Urdf:
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
        (("</robot>", ""), "line 13: malformed XML: no element found"),
        (("<robot name", "<sdf name"), "line 13: malformed XML: mismatched tag"),
        (('name="r"', "name=r"), "line 1: malformed XML"),
        (('<child link="c"/>', "<child>"), "malformed XML"),
        (('<parent link="b"/>', '<parent link="zz"/>'), "line 7: .* parent link 'zz' does not exist"),
        (('<parent link="b"/>', "<parent/>"), "<parent> has no link"),
        (('<parent link="b"/>', ""), "line 7: joint 'b_to_c' needs <parent> and <child>"),
        (('<link name="c"/>', "<link/>"), "line 6: <link> has no name"),
        (('lower="-1"', 'lower="nan"'), "line 12: .*finite number"),
        (('lower="-1"', 'lower="-inf"'), "finite number"),
        (('upper="1"', 'upper="1e400"'), "finite number"),
        (('velocity="3"', 'velocity="nan"'), "finite number"),
        (('lower="-1"', 'lower="left"'), "finite number"),
        (('lower="-1"', 'lower="-1_0"'), "finite number"),
        (('lower="-1"', 'lower="-1,5"'), "finite number"),
        (('lower="-1"', 'lower=""'), "finite number"),
        (('xyz="0 0 1"/><axis', 'xyz="0 0"/><axis'), "line 11: .*3 finite number"),
        (('xyz="0 0 1"/><axis', 'xyz="0 0 nan"/><axis'), "line 11: .*3 finite number"),
        (('xyz="0 0 1"/><axis', 'rpy="0 1e10 0"/><axis'), "line 11: .*at most ±1e"),
        (('offset="0.01"', 'offset="1e300"'), "line 9: .*at most ±1e"),
        (('xyz="0 0 1"/><axis', 'rpy="0 inf 0"/><axis'), "line 11: .*3 finite number"),
        (('lower="-1"', 'lower="2"'), "line 12: joint 'a_to_b': lower 2.0 is above upper 1.0"),
        (('xyz="0 1 0"', 'xyz="0 0 0"'), "line 11: .* zero axis"),
        (('xyz="0 1 0"', 'xyz="0 1e-300 0"'), "zero axis"),
        (('type="revolute"', 'type="hinge"'), "line 10: .*revolute, continuous, prismatic, fixed expected"),
        (('type="revolute"', ""), "has type ''"),
        (('name="b_to_c"', 'name="a_to_b"'), "line 10: joint 'a_to_b' is defined twice, first in line 7"),
        (('name="c"', 'name="a"'), "line 6: link 'a' is defined twice, first in line 3"),
        (('joint="a_to_b"', 'joint="a_to_x"'), "line 9: .*does not exist; did you mean 'a_to_b'"),
        (('joint="a_to_b"', ""), "line 9: <mimic> has no joint"),
        (('joint="a_to_b"', 'joint="b_to_c"'), "line 9: joint 'b_to_c' mimics itself"),
        (('multiplier="0.5"', 'multiplier="half"'), "line 9: .*finite number"),
        (('<child link="c"/>', '<child link="b"/>'), "line 10: link 'b' has two parents: .*line 7"),
        (('<parent link="b"/>', '<parent link="c"/>'), "line 7: .* joins link 'c' to itself"),
        (('<parent link="a"/>', '<parent link="c"/>'), "joints form a loop, upwards"),
        (('<box size="1 2 3"/>', "<cone/>"), "line 3: unknown geometry <cone>"),
        (('<box size="1 2 3"/>', "<box/>"), "line 3: <box> has no size"),
        (('<box size="1 2 3"/>', '<cylinder radius="1"/>'), "line 3: <cylinder> has no length"),
        (('<box size="1 2 3"/>', '<sphere radius="-1"/>'), "negative size"),
        (('value="2"', 'value="-2"'), "line 4: link 'b': negative mass"),
        (('value="2"', 'value="NaN"'), "finite number"),
        (('ixx="1"', 'ixx="inf"'), "line 5: .*finite number"),
        (
            ('<link name="a">', '<link name="alone"/><link name="a">'),
            "line 3: one root link expected, 2 found",
        ),
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
    with pytest.raises(
        InvalidConfiguration, match=r"line 14: .*2 found: 'a' \(line 3\), 'alone' \(line 14\)"
    ):
        load(tmp_path, GOOD.replace("</robot>", '\n<link name="alone"/></robot>'))
    for missing in (tmp_path / "none.urdf", tmp_path, tmp_path / ("x" * 300), Path("a\0b")):
        with pytest.raises(InvalidConfiguration, match="cannot be read"):
            load_urdf(missing)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe", b"\0\0", b"robot", b"<robot/>", b"<a/><b/>"])
def test_what_is_no_urdf_is_refused_with_its_line(tmp_path, content):
    file = tmp_path / "robot.urdf"
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"robot\.urdf: line \d+: "):
        load_urdf(file)


def test_another_root_element_is_named(tmp_path):
    with pytest.raises(InvalidConfiguration, match="line 1: <mujoco> found, <robot> expected"):
        load(tmp_path, "<mujoco/>")


LAUGHS = "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">\n' for i in range(12)
)  # 2e11 letters when read


@pytest.mark.parametrize("declarations", [LAUGHS, '<!ENTITY l11 SYSTEM "file:///etc/passwd">'])
def test_entities_are_refused_before_they_expand(tmp_path, declarations):
    with pytest.raises(InvalidConfiguration, match=r"line 2: entity '\w+' is declared"):
        load(tmp_path, f'<!DOCTYPE robot [\n{declarations}]>\n<robot name="&l11;"><link name="a"/></robot>')


def test_what_is_too_large_or_too_deep_is_refused(tmp_path):
    file = tmp_path / "robot.urdf"
    file.write_bytes(b"<robot>" + b" " * LARGEST_FILE_BYTES + b"</robot>")
    with pytest.raises(InvalidConfiguration, match="bytes are too many"):
        load_urdf(file)
    with pytest.raises(InvalidConfiguration, match="line 2: elements nest deeper"):
        load(tmp_path, "<robot>\n" + "<a>" * 100_000 + "</a>" * 100_000 + "</robot>")


@pytest.mark.parametrize("shape", ["row", "mimics", "circle", "loop", "unknown", "roots"])
def test_a_file_of_thousands_of_joints_is_read_or_refused(tmp_path, shape):
    """Nothing in the checks grows faster than the file."""
    count = 3000
    lines = ["<robot>", *(f'<link name="l{i}"/>' for i in range(count))]
    for i in range(1, count):
        parent = {"loop": i % (count - 1) + 1, "unknown": "none", "roots": 0}.get(shape, i - 1)
        child = 1 if shape == "roots" and i == 1 else i
        if shape == "roots" and i > 1:
            continue
        leader = {"mimics": i - 1, "circle": (i - 1) or count - 1}.get(shape, 0)
        mimic = f'<mimic joint="j{leader}"/>' if leader else ""
        lines.append(
            f'<joint name="j{i}" type="continuous"><parent link="l{parent}"/>'
            f'<child link="l{child}"/>{mimic}</joint>'
        )
    text = "\n".join([*lines, "</robot>"])
    if shape in ("row", "mimics"):
        urdf = load(tmp_path, text)
        assert len(list(urdf.joints_root_first())) == count - 1
        assert {joint.mimic.joint for joint in urdf.joints.values() if joint.mimic} <= {"j1"}
        return
    said = {"circle": "circle", "loop": "loop", "unknown": "does not exist", "roots": "one root link"}[shape]
    with pytest.raises(InvalidConfiguration, match=said):
        load(tmp_path, text)


def test_a_missing_mesh_is_a_warning(tmp_path):
    text = GOOD.replace('<box size="1 2 3"/>', '<mesh filename="package://nowhere/a.stl"/>')
    urdf = load(tmp_path, text)
    assert urdf.links["a"].visuals[0].geometry.mesh is None
    assert "a.stl" in str(urdf.warnings[0])


def warned(tmp_path: Path, *changes: tuple[str, str]) -> tuple[Urdf, list[str]]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    urdf = load(tmp_path, text)
    return urdf, [str(warning) for warning in urdf.warnings]


def test_limits_that_mean_nothing_are_ignored_and_said(tmp_path):
    urdf, said = warned(tmp_path, ('velocity="3"', 'velocity="0"'))
    assert urdf.joints["a_to_b"].velocity == 4.0  # what its follower, with half its speed, may do
    assert said[0] == "line 12: joint 'a_to_b': velocity limit 0 means nothing and is ignored"


@pytest.mark.parametrize(
    "value", ["0", "-1", "50", "100", "1e9", "1000.0", "3.4e38", "inf", " +Infinity", None]
)
@pytest.mark.parametrize("key", ["velocity", "effort"])
def test_placeholders_and_missing_limits_are_none(tmp_path, key, value):
    stated = {"velocity": 'velocity="2"', "effort": 'effort="5"'}[key]
    urdf, said = warned(tmp_path, (stated, "" if value is None else f'{key}="{value}"'))
    limit = getattr(urdf.joints["b_to_c"], key)
    if key == "effort" and value in ("50", "100", "1e9", "1000.0"):
        assert limit == float(value) and said == []  # a drive may be as strong as that
        return
    assert limit == float("inf")
    assert len(said) == 1 and said[0].startswith("line 8: joint 'b_to_c'") and key in said[0]


def test_the_largest_velocity_that_is_no_placeholder_stays(tmp_path):
    urdf, said = warned(tmp_path, ('velocity="2"', 'velocity="49.9"'))
    assert urdf.joints["b_to_c"].velocity == 49.9 and said == []


@pytest.mark.parametrize("limit", ["", '<limit velocity="3" effort="10"/>'])
@pytest.mark.parametrize("kind", ["revolute", "prismatic"])
def test_a_joint_of_unknown_range_stays_where_it_is(tmp_path, kind, limit):
    urdf, said = warned(
        tmp_path,
        ('<limit lower="-1" upper="1" velocity="3" effort="10"/>', limit),
        ('type="revolute"', f'type="{kind}"'),
        ('<mimic joint="a_to_b" multiplier="0.5" offset="0.01"/>', ""),
    )
    joint = urdf.joints["a_to_b"]
    assert (joint.lower, joint.upper) == (0.0, 0.0)
    assert f"a {kind} joint without lower and upper cannot leave 0" in said[0]


def test_one_missing_bound_is_0_as_the_format_says(tmp_path):
    urdf, said = warned(tmp_path, ('lower="-1" ', ""), ('lower="-0.5"', 'lower="-1"'))
    assert (urdf.joints["a_to_b"].lower, urdf.joints["a_to_b"].upper) == (0.0, 1.0) and said == []


def test_the_largest_number_stands_for_no_end(tmp_path):
    """As exporters of simulators write it, for positions as for velocities and efforts."""
    end = "1.7976931348623157e308"
    urdf, said = warned(
        tmp_path,
        ('lower="-1" upper="1" velocity="3"', f'lower="-{end}" upper="1" velocity="{end}"'),
        ('<mimic joint="a_to_b" multiplier="0.5" offset="0.01"/>', ""),
    )
    joint = urdf.joints["a_to_b"]
    assert (joint.lower, joint.upper, joint.velocity) == (-float("inf"), 1.0, float("inf"))
    assert len(said) == 2


def test_a_continuous_joint_has_no_range(tmp_path):
    urdf, said = warned(
        tmp_path,
        ('type="revolute"', 'type="continuous"'),
        ('<mimic joint="a_to_b" multiplier="0.5" offset="0.01"/>', ""),
    )
    assert urdf.joints["a_to_b"].upper == float("inf") and urdf.joints["a_to_b"].velocity == 3.0
    assert "lower and upper of a continuous joint mean nothing" in said[0]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ('lower="-1" upper="1"', 'lower="-90" upper="90"', "degrees"),
        ('upper="0.6"', 'upper="600"', "millimetres"),
    ],
)
def test_limits_in_other_units_are_asked_about(tmp_path, old, new, hint):
    _, said = warned(tmp_path, (old, new))
    assert f"very large limits; are they in {hint}?" in said[0]


@pytest.mark.parametrize(
    ("old", "new", "place", "kind"),
    [
        ('xyz="0 1 0"', 'xyz="0 3 0"', "line 11: joint 'a_to_b'", "no unit vector"),
        ('name="a_to_b" type', 'name="b" type', "line 10: joint 'b'", "a link has the same name"),
        ('rgba="0 0 1 1"', 'rgba="0 0 1 0 1"', "line 2: ", "no colour"),
        ('rgba="0 0 1 1"', 'rgba="blue"', "line 2: ", "no colour"),
        ("<geometry><box size=", "<geometry/><x><box size=", "line 3: <visual>", "no geometry in it"),
        ('size="1 2 3"', 'size="1 0 3"', "line 3: <box>", "size 0"),
        ('xyz="0 0 1"/><axis', 'xyz="0, 0, 1"/><axis', "line 11: <origin xyz", "commas"),
        ("</robot>", '<link name="f"/><joint name="f2" type="floating"><parent link="c"/>'
         '<child link="f"/></joint></robot>', "joint 'f2'", "a floating joint is treated as fixed"),
        ('effort="10"/>', 'effort="10"/><dynamics damping="-1"/>', "joint 'a_to_b'", "negative damping"),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_mended_and_said(tmp_path, old, new, place, kind):
    text = GOOD.replace(old, new, 1)
    text = text.replace("</geometry><material", "</x><material") if "<x>" in text else text
    text = text.replace('joint="a_to_b"', 'joint="b"') if 'name="b" type' in text else text
    urdf = load(tmp_path, text)
    assert len(urdf.warnings) == 1
    assert place in str(urdf.warnings[0]) and kind in urdf.warnings[0].kind
    turning = urdf.joints.get("a_to_b") or urdf.joints["b"]
    np.testing.assert_allclose(turning.axis, [0, 1, 0])
    np.testing.assert_allclose(turning.pose, [0, 0, 1, 0, 0, 0, 1])


def test_mended_numbers_and_mimics_reach_every_reader_of_the_text(tmp_path):
    text = GOOD.replace('xyz="0 0 1"/><axis', 'xyz="0, 0, 1"/><axis').replace('"a_to_b"', '"left_q1"', 1)
    text = text.replace('joint="left_q1"', 'joint="q1"').replace("b_to_c", "left_q2")
    text = text.replace('name="a_to_b"', 'name="left_q1"')
    urdf = load(tmp_path, text)
    assert "with its own prefix it does" in urdf.warnings[1].kind
    assert urdf.joints["left_q2"].mimic.joint == "left_q1"
    again = load(tmp_path, urdf.text)
    assert again.warnings == ()
    assert again.joints["left_q2"].mimic == urdf.joints["left_q2"].mimic
    assert ElementTree.fromstring(urdf.text).find("joint[2]/origin").get("xyz") == "0  0  1"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_the_file_may_declare_its_encoding(tmp_path, encoding):
    named = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f'<?xml version="1.0" encoding="{named}"?>\n' + GOOD.replace('name="r"', 'name="Märchen"')
    (tmp_path / "robot.urdf").write_bytes(text.encode(encoding))
    urdf = load_urdf(tmp_path / "robot.urdf")
    assert urdf.name == "Märchen" and urdf.warnings == ()
    assert urdf.text == (text if named == "utf-8" else text.replace(f' encoding="{named}"', ""))
    assert ElementTree.fromstring(urdf.text.encode("utf-8")).get("name") == "Märchen"


def test_an_unknown_encoding_is_refused(tmp_path):
    with pytest.raises(InvalidConfiguration, match=r"robot\.urdf: line 1: cannot be read as klingon"):
        load(tmp_path, '<?xml version="1.0" encoding="klingon"?>' + GOOD)


def test_lines_count_from_the_top_of_the_file_even_after_blank_ones(tmp_path):
    """XML allows nothing before its declaration; generators put blank lines there."""
    text = "\n\n" + '<?xml version="1.0"?>\n' + GOOD
    urdf = load(tmp_path, text)
    assert [warning.place for warning in urdf.warnings] == ["line 1"] and urdf.text == text.lstrip()
    with pytest.raises(InvalidConfiguration, match="line 15: "):
        load(tmp_path, text.replace('upper="1"', 'upper="one"'))


ROW = """<robot name="r">
  <link name="l0"/><link name="l1"/><link name="l2"/><link name="l3"/>
  <joint name="j1" type="revolute"><parent link="l0"/><child link="l1"/>
    <limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
  <joint name="j2" type="revolute"><parent link="l1"/><child link="l2"/>
    <limit lower="-9" upper="9" velocity="9" effort="1"/>
    <mimic joint="j1" multiplier="2" offset="0.1"/></joint>
  <joint name="j3" type="revolute"><parent link="l2"/><child link="l3"/>
    <limit lower="-9" upper="9" velocity="9" effort="1"/>
    <mimic joint="j2" multiplier="-3" offset="1"/></joint>
</robot>"""


def test_a_mimic_of_a_mimic_follows_the_end_of_the_row(tmp_path):
    urdf = load(tmp_path, ROW)
    mimic = urdf.joints["j3"].mimic
    assert mimic.joint == "j1"
    np.testing.assert_allclose([mimic.multiplier, mimic.offset], [-6.0, 1.0 - 3.0 * 0.1])
    assert str(urdf.warnings[0]).startswith("line 10: joint 'j3': it mimics a mimic")


def test_mimics_in_a_circle_are_refused(tmp_path):
    closed = ROW.replace('effort="1"/></joint>', 'effort="1"/><mimic joint="j3"/></joint>', 1)
    with pytest.raises(
        InvalidConfiguration, match="line 4: joints mimic each other in a circle: j1 -> j3 -> j2 -> j1"
    ):
        load(tmp_path, closed)


def test_mimics_whose_factors_grow_too_large_are_refused(tmp_path):
    text = ROW.replace('multiplier="2"', 'multiplier="1e8"').replace('multiplier="-3"', 'multiplier="1e8"')
    with pytest.raises(InvalidConfiguration, match="line 10: joint 'j3': factors of that row too large"):
        load(tmp_path, text)


@pytest.mark.parametrize("kind", ["fixed", "floating"])
def test_a_mimic_of_a_fixed_joint_is_fixed_at_its_offset(tmp_path, kind):
    urdf = load(tmp_path, ROW.replace('"j1" type="revolute"', f'"j1" type="{kind}"'))
    assert [joint.kind for joint in urdf.joints.values()] == ["fixed"] * 3
    angle = 1.0 - 3.0 * 0.1
    np.testing.assert_allclose(urdf.joints["j3"].pose[3:], [np.sin(angle / 2), 0, 0, np.cos(angle / 2)])


def test_followers_keep_their_own_limits(tmp_path):
    """j2 = 2 j1 + 0.1 within -1 .. 9 and j3 = 0.7 - 6 j1 within -2 .. 9, at no more than 9 rad/s."""
    text = ROW.replace('lower="-9"', 'lower="-1"', 1).replace('lower="-9"', 'lower="-2"', 1)
    urdf = load(tmp_path, text)
    leader = urdf.joints["j1"]
    np.testing.assert_allclose([leader.lower, leader.upper], [-1.1 / 2, 2.7 / 6])
    np.testing.assert_allclose(leader.velocity, 9.0 / 6.0)
    said = urdf.warning_lines()
    assert any("narrowed" in line for line in said) and any("slowed" in line for line in said)


def test_a_followers_limits_that_leave_its_leader_nothing_are_ignored(tmp_path):
    """As a gripper's mirrored finger, whose limits were copied without their sign."""
    text = ROW.replace('lower="-1" upper="1"', 'lower="0" upper="1"').replace('lower="-9"', 'lower="4"', 1)
    urdf = load(tmp_path, text)
    assert (urdf.joints["j1"].lower, urdf.joints["j1"].upper) == (0.0, 1.0)
    assert urdf.joints["j2"].upper == float("inf")
    assert any("do not fit" in str(warning) for warning in urdf.warnings)


def test_a_follower_that_stands_still_outside_its_limits_has_them_ignored(tmp_path):
    """A multiplier of 0: no place of its leader brings it inside."""
    text = ROW.replace('multiplier="-3" offset="1"', 'multiplier="0" offset="9.5"')
    urdf = load(tmp_path, text)
    assert urdf.joints["j3"].upper == float("inf")
    assert any("do not fit" in str(warning) for warning in urdf.warnings)


def test_followers_of_a_joint_that_cannot_move_leave_it_where_it_is(tmp_path):
    text = ROW.replace('lower="-1" upper="1" ', "").replace('lower="-9"', 'lower="4"', 1)
    assert (load(tmp_path, text).joints["j1"].upper, load(tmp_path, text).joints["j1"].lower) == (0.0, 0.0)


def test_an_inertia_that_simulation_can_balance_is_a_warning(tmp_path):
    """As in the files of many real robots: a principal moment above the sum of the others."""
    urdf = load(tmp_path, GOOD.replace('ixx="1"', 'ixx="2.5"'))
    assert "link 'b', principal moments of inertia 1 1 2.5" in str(urdf.warnings[0])
    rounded = 'ixx="0" iyy="-1e-9" izz="0"'
    assert load(tmp_path, GOOD.replace('ixx="1" iyy="1" izz="1"', rounded)).warnings == ()


@pytest.mark.parametrize(("old", "new"), [('ixx="1"', 'ixx="-1"'), ('ixy="0"', 'ixy="2"')])
def test_a_negative_moment_of_inertia_becomes_none(tmp_path, old, new):
    urdf = load(tmp_path, GOOD.replace(old, new))
    assert str(urdf.warnings[0]).startswith("line 5: link 'b', principal moments of inertia -1 1 ")
    moments = np.linalg.eigvalsh(urdf.links["b"].inertial.inertia_kg_m2)
    assert -1e-12 < moments[0] < 1e-12 and moments[1] > 0.9


def test_warnings_are_told_in_one_line_per_kind(tmp_path):
    text = GOOD.replace('velocity="3"', 'velocity="0"').replace('velocity="2"', 'velocity="0"')
    text = text.replace('<box size="1 2 3"/>', '<mesh filename="a.stl"/>')
    meshes, limits = load(tmp_path, text).warning_lines()
    assert meshes.endswith("line 3: mesh 'a.stl': not found; a capsule along the link replaces it")
    assert "robot.urdf: line 8: joint 'b_to_c' (and 1 more): velocity limit 0" in limits
