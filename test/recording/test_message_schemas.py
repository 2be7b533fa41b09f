from __future__ import annotations

import sys
from pathlib import Path

import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.recording.message_schemas import SEPARATOR, UnknownMessageType, ament_prefixes, schema_text


def _write(prefix: Path, package: str, name: str, text: str) -> None:
    folder = prefix / "share" / package / "msg"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.msg").write_text(text)


def test_a_type_is_followed_by_everything_it_depends_on_once(tmp_path: Path) -> None:
    _write(
        tmp_path, "a_msgs", "Outer", "b_msgs/Inner[] many\nb_msgs/Inner one\nLocal here # b_msgs/Nowhere x\n"
    )
    _write(tmp_path, "a_msgs", "Local", "string<=10 name\nfloat64[<=3] d\nint32 BIG=5\n")
    _write(tmp_path, "b_msgs", "Inner", "uint8[4] data")
    text = schema_text("a_msgs/msg/Outer", [tmp_path])
    assert text.split(SEPARATOR + "\n")[0].startswith("b_msgs/Inner[] many")
    assert [part.splitlines()[0] for part in text.split(SEPARATOR + "\n")[1:]] == [
        "MSG: b_msgs/Inner",
        "MSG: a_msgs/Local",
    ]


def test_the_first_prefix_wins(tmp_path: Path) -> None:
    for prefix, field in (("one", "int8"), ("two", "int16")):
        _write(tmp_path / prefix, "a_msgs", "X", f"{field} x\n")
    assert schema_text("a_msgs/msg/X", [tmp_path / "one", tmp_path / "two"]) == "int8 x\n"


def test_a_missing_type_names_itself_its_user_and_the_places(tmp_path: Path) -> None:
    _write(tmp_path, "a_msgs", "Outer", "b_msgs/Gone x\n")
    with pytest.raises(UnknownMessageType, match=r"b_msgs/msg/Gone.*used by a_msgs/msg/Outer.*install"):
        schema_text("a_msgs/msg/Outer", [tmp_path])
    with pytest.raises(CaptureError, match="package/msg/Type"):
        schema_text("Outer", [tmp_path])


def test_tf_needs_no_package_of_its_own(prefixes: list[Path]) -> None:
    text = schema_text("tf2_msgs/msg/TFMessage", prefixes)
    assert "geometry_msgs/TransformStamped[] transforms" in text
    for name in ("geometry_msgs/TransformStamped", "std_msgs/Header", "builtin_interfaces/Time"):
        assert f"MSG: {name}\n" in text


def test_prefixes_come_from_the_environment() -> None:
    own = Path(sys.prefix)
    assert ament_prefixes({"AMENT_PREFIX_PATH": "/a:/b"}) == [Path("/a"), Path("/b"), own]
    assert ament_prefixes({"AMENT_PREFIX_PATH": f"{own}:/b"}) == [own, Path("/b")]
    assert ament_prefixes({}) == [own]
