"""What `onboard` writes: any name of a robot, a joint or a link is read back as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.onboard import main
from retargeting.errors import InvalidConfiguration
from retargeting.onboarding import cli
from retargeting.onboarding.body import Body, infer_body
from retargeting.onboarding.robot_yaml_writer import robot_yaml
from retargeting.onboarding.urdf_origin import UrdfOrigin
from retargeting.robot_model import load_robot
from retargeting.urdf import load_urdf
from retargeting.yaml_file import parse_yaml

NAMES = (
    "-1",
    ".5",
    "a: b",
    "a\\b",
    '"q"',
    "on",
    "No",
    "~",
    "1e5",
    "é ü",
    "😀",
    "a#b",
    "x #y",
    "- a",
    "\\",
    "0x1F",
)
# Of XML's characters, those that YAML, or a line of a comment, breaks on.
WILD = st.text(
    st.sampled_from("a1:-#'\"\\é 😀{}[],&*!|>%@`~.\t\n\x7f\x85\u2028\ufeff"), min_size=1, max_size=12
)


def _urdf(name: str) -> str:
    def attribute(text: str) -> str:
        special = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}
        return "".join(special.get(c, c) for c in text)

    links, parent = '<link name="base"/>', "base"
    for k, axis in enumerate(("0 0 1", "0 1 0", "0 1 0", "0 0 1", "0 1 0", "0 0 1")):
        own = attribute(name if k == 2 else f"l{k}")
        links += (
            f'<link name="{own}"/><joint name="{"j" + own if k != 4 else attribute(name)}" type="revolute">'
            f'<parent link="{parent}"/><child link="{own}"/><origin xyz="0 0 0.2"/><axis xyz="{axis}"/>'
            '<limit lower="-2" upper="2" velocity="3" effort="10"/></joint>'
        )
        parent = own
    return f'<robot name="r">{links}</robot>'


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Body:
    file = tmp_path_factory.mktemp("urdf") / "r.urdf"
    file.write_text(_urdf("plain"), "utf-8")
    return infer_body(load_urdf(file, ()))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(name=st.sampled_from(NAMES) | WILD)
def test_any_text_survives(body: Body, name: str) -> None:
    origin = UrdfOrigin(name, "1", name, name, name, name, name, (Path("/") / name,), {name: name})
    content = parse_yaml(robot_yaml(name, body, origin), Path("robot.yaml"))
    assert content["name"] == name and content["maker"] == name and content["license"] == name
    assert content["urdf"]["package"] == name and content["urdf"]["file"] == name
    assert content["urdf"]["package_paths"] == [str(Path("/") / name)]
    assert content["urdf"]["xacro_arguments"] == {name: name}


@pytest.mark.parametrize("name", ("-1", ".5", "a: b", "a\\b", "on"))
def test_a_robot_with_such_a_joint_and_link_loads(tmp_path: Path, name: str) -> None:
    (tmp_path / "on.urdf").write_text(_urdf(name), "utf-8")
    options = ["--folder", str(tmp_path), "--no-self-test", "--no-picture"]
    assert main([str(tmp_path / "on.urdf"), *options]) == 0
    model = load_robot(tmp_path / "on" / "robot.yaml")
    assert model.name == "on" and name in model.joint_names


def test_what_does_not_load_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urdf = tmp_path / "r.urdf"
    urdf.write_text(_urdf("plain"), "utf-8")
    arguments = [
        str(urdf),
        "--name",
        "a",
        "--folder",
        str(tmp_path / "robots"),
        "--no-self-test",
        "--no-picture",
    ]
    written = robot_yaml
    monkeypatch.setattr(
        cli, "robot_yaml", lambda *given: written(*given).replace("base_link: base", "base_link: absent")
    )
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/robots/a/robot.yaml: base_link: link 'absent' is not in r.urdf" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.urdf"]
    monkeypatch.undo()
    assert main(arguments) == 0
    file = tmp_path / "robots" / "a" / "robot.yaml"
    before = file.read_text("utf-8")
    monkeypatch.setattr(cli, "load_robot", lambda file: (_ for _ in ()).throw(InvalidConfiguration([])))
    assert main([*arguments, "--force"]) == 2
    assert file.read_text("utf-8") == before and [path.name for path in file.parent.iterdir()] == [
        "robot.yaml"
    ]
