"""Where `package://…` and its kin lead: every place that is searched, in its order, and nothing imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from retargeting.package_paths import PackagePaths


@pytest.fixture(autouse=True)
def no_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AMENT_PREFIX_PATH", "ROS_PACKAGE_PATH"):
        monkeypatch.delenv(variable, raising=False)


def written(path: Path, text: str = "solid") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def urdf(tmp_path: Path) -> Path:
    return written(tmp_path / "work" / "src" / "arm_description" / "urdf" / "arm.urdf")


def test_a_package_above_the_file_is_found_by_its_folder(urdf: Path):
    mesh = written(urdf.parents[1] / "meshes" / "a.stl")
    assert PackagePaths(urdf).file("package://arm_description/meshes/a.stl") == mesh
    assert PackagePaths(urdf).package("arm_description") == urdf.parents[1]


def test_a_package_beside_the_files_own_is_found(urdf: Path):
    mesh = written(urdf.parents[2] / "hand_description" / "a.stl")
    for uri in (
        "package://hand_description/a.stl",
        "package:///hand_description/a.stl",
        "model://hand_description/a.stl",
        "$(find hand_description)/a.stl",
        " package://hand_description/a.stl\n",
    ):
        assert PackagePaths(urdf).file(uri) == mesh, uri


def test_a_package_whose_folder_is_called_otherwise_is_found_by_its_manifest(urdf: Path):
    written(urdf.parents[1] / "package.xml", "<package><name> gripper </name></package>")
    mesh = written(urdf.parents[1] / "a.stl")
    assert PackagePaths(urdf).file("package://gripper/a.stl") == mesh
    # Such a file may name its meshes from its package's folder, too.
    assert PackagePaths(urdf).file("a.stl") == mesh
    deeper = urdf.parent / "left" / "arm.urdf"
    assert PackagePaths(deeper).file("./a.stl") == mesh
    written(urdf.parents[1] / "package.xml", "<package")
    assert PackagePaths(urdf).package("gripper") is None


def test_a_linked_file_has_the_neighbours_of_both_its_places(urdf: Path, tmp_path: Path):
    source = written(urdf.parents[1] / "meshes" / "a.stl")
    link = tmp_path / "share" / "arm_description" / "urdf" / "arm.urdf"
    installed = written(link.parents[1] / "meshes" / "b.stl")
    link.parent.mkdir()
    link.symlink_to(urdf)
    paths = PackagePaths(link)
    for uri in ("package://arm_description/meshes/{}", "../meshes/{}"):
        for mesh in (source, installed):
            found = paths.file(uri.format(mesh.name))
            assert found is not None and found.resolve() == mesh


@pytest.mark.parametrize("where", ["holds it", "is it", "is it by its manifest"])
def test_search_paths_come_first(urdf: Path, tmp_path: Path, where: str):
    written(urdf.parents[2] / "hand" / "a.stl")
    folder = tmp_path / "elsewhere" / ("v2" if "manifest" in where else "hand")
    mesh = written(folder / "a.stl")
    written(folder / "package.xml", "<package><name>hand</name></package>")
    search = folder.parent if where == "holds it" else folder
    assert PackagePaths(urdf, [search]).file("package://hand/a.stl") == mesh


def test_the_ament_index_and_ros_1_are_searched(urdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    overlay, underlay, ros_1 = (tmp_path / name for name in ("overlay", "underlay", "ros_1"))
    mesh = written(underlay / "share" / "hand" / "a.stl")
    other = written(ros_1 / "hand" / "b.stl")
    overlay.mkdir()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{overlay}::{underlay}")
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(ros_1))
    paths = PackagePaths(urdf)
    assert paths.file("package://hand/a.stl") == mesh
    assert paths.file("package://hand/b.stl") == other  # not in the first folder of that name
    assert paths.package("hand") == mesh.parent
    newer = written(overlay / "share" / "hand" / "a.stl")
    assert PackagePaths(urdf).file("package://hand/a.stl") == newer


@pytest.mark.parametrize(
    "inside",
    [
        "site-packages/hand_description",
        "site-packages/cmeel.prefix/share/hand_description",
        "share/hand_description",
    ],
)
@pytest.mark.parametrize("name", ["hand_description", "hand-description"])
def test_installed_python_packages_are_searched_and_not_imported(
    urdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, name: str
):
    prefix = tmp_path / "prefix"
    library = prefix / "lib" / "python3"
    place = prefix / inside if inside.startswith("share") else library / inside
    mesh = written(place / "meshes" / "a.stl")
    written(place / "__init__.py", "raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(library / "site-packages"), *sys.path])
    assert PackagePaths(urdf).file(f"package://{name}/meshes/a.stl") == mesh
    assert "hand_description" not in sys.modules


def test_relative_and_absolute_files(urdf: Path, tmp_path: Path):
    mesh = written(urdf.parents[1] / "meshes" / "the arm.stl")
    paths = PackagePaths(urdf)
    for uri in (
        "../meshes/the arm.stl",
        "../meshes/the%20arm.stl",
        "..\\meshes\\the arm.stl",
        "file:../meshes/the arm.stl",
        "file://../meshes/the arm.stl",
    ):
        found = paths.file(uri)
        assert found is not None and found.resolve() == mesh, uri
    for uri in (str(mesh), f"file:{mesh}", f"file://{mesh}", f"file://localhost{mesh}", mesh.as_uri()):
        assert paths.file(uri) == mesh, uri


@pytest.mark.parametrize(
    "uri",
    ["", " ", "none.stl", "package://", "package:///", "package://none/a.stl", "package://../arm.urdf",
     "file:", "file://", "$(find none)/a", "$(find", "http://host/a.stl", "\0", "package://a\0b/c",
     "x" * 5000, "%", "%ff"],
)  # fmt: skip
def test_what_leads_nowhere_is_none(urdf: Path, uri: str):
    assert PackagePaths(urdf).file(uri) is None


@pytest.mark.parametrize("name", ["", ".", "..", "none", "a/b", "a\0", "x" * 5000, "os", "1", "é"])
def test_names_that_are_no_packages_are_none(urdf: Path, name: str):
    """`os` is a module without a folder."""
    assert PackagePaths(urdf).package(name) is None


def test_a_file_at_the_top_has_no_neighbours():
    assert PackagePaths(Path("/none.urdf")).file("a.stl") is None
