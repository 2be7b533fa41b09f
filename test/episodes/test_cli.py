"""The `episodes` command: what it prints, its exit codes, and clear words for bad files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from episodes.bag import read_bag
from episodes.check import CHECKS, check_episode
from episodes.cli import main
from episodes.errors import EpisodeError
from episodes.info import info
from episodes.progress import ProgressLine
from episodes.summary import summary, summary_text
from episodes.text_table import bytes_text, number_text, text_table


def run(capsys: pytest.CaptureFixture[str], arguments: Sequence[str | Path]) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_info_shows_what_a_bag_holds(good_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, ["info", good_file])
    assert (code, err) == (0, "")
    assert "robot             toy" in out
    assert "/toy/joint_states" in out
    assert "robot.urdf (" in out
    row = next(line for line in out.splitlines() if line.startswith("/toy/camera/wrist/image"))
    assert row.split()[1:4] == ["sensor_msgs/Image", "60", "30.0"]


def test_the_json_of_info_keeps_its_keys(good_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, ["info", "--json", good_file])
    assert code == 0
    (content,) = json.loads(out)
    assert list(content) == [
        "schema_version", "file", "size_bytes", "profile", "is_episode", "incomplete", "start_ns", "end_ns",
        "length_s", "messages", "episode", "streams", "attachments",
    ]  # fmt: skip
    assert list(content["streams"][0]) == [
        "topic", "type", "count", "rate_hz", "expected_hz", "first_s", "last_s", "published", "lost",
        "size_bytes", "size_share",
    ]  # fmt: skip
    assert list(content["attachments"][0]) == ["name", "size_bytes"]
    assert sum(stream["size_share"] for stream in content["streams"]) == pytest.approx(1.0)


def test_the_json_of_check_and_table_keeps_its_keys(
    good_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, ["check", "--json", "--frame-step", "20", good_file])
    assert code == 0
    (content,) = json.loads(out)
    assert list(content) == ["schema_version", "file", "passed", "incomplete", "checks"]
    assert [check["name"] for check in content["checks"]] == list(CHECKS)
    assert all(
        list(check) == ["name", "verdict", "problems", "notes", "skipped", "figures"]
        for check in content["checks"]
    )
    code, out, _ = run(capsys, ["table", "--json", "--frame-step", "20", good_file])
    assert code == 0
    (row,) = json.loads(out)
    assert list(row) == [
        "schema_version", "episode", "path", "size_bytes", "length_s", "passed", "messages", "lost",
        "streams", "limit_violations", "wrist_coverage", "wrist_commanded_p95_m", "wrist_commanded_p95_deg",
        "wrist_measured_p95_m", "wrist_measured_p95_deg", "object", "verdict", "reason",
        "failed_checks",
    ]  # fmt: skip
    assert row["limit_violations"] == 0


def _keys(content: Any) -> set[str]:
    """All keys that are names, at any depth; those that are data (topics, frames, joints) are not."""
    if isinstance(content, list):
        return set().union(*map(_keys, content))
    if not isinstance(content, dict):
        return set()
    of_data = {"left_wrist", "right_wrist", "cube", "teleop_capture"}
    names = {key for key in content if "/" not in key and key not in of_data and key != "trainer"}
    return names.union(*map(_keys, content.values()))


def test_every_key_of_the_json_is_documented(good_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "episodes.md").read_text(encoding="utf-8")
    for verb, *options in (["info"], ["check", "--frame-step", "20"], ["table", "--frame-step", "20"]):
        keys = _keys(json.loads(run(capsys, [verb, "--json", *options, good_file])[1]))
        assert {"schema_version", "lost"} <= keys
        assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_check_passes_and_fails_by_exit_code(
    good_file: Path, synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, ["check", "--frame-step", "20", good_file])
    assert code == 0
    assert out.count("PASSED") == len(CHECKS)
    synthetic.counts["/toy/joint_states"] = {"lost": 2}
    bad = synthetic.write(tmp_path / "bad.mcap")
    code, out, _ = run(capsys, ["check", "--only", "streams,limits", good_file, bad])
    assert code == 1
    assert "FAILED   streams" in out
    assert "✗ /toy/joint_states: 2 of 400 messages lost" in out
    assert "1 of 2 episodes passed" in out


def test_a_check_that_cannot_be_made_has_failed(
    synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del synthetic.attachments["robot.urdf"]
    code, out, _ = run(capsys, ["check", "--only", "limits", synthetic.write(tmp_path / "e.mcap")])
    assert code == 1
    assert "cannot be checked: has no attachment 'robot.urdf'" in out


def test_one_bad_file_does_not_hide_the_others(
    good_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(good_file.read_bytes()[:5000])
    code, out, err = run(capsys, ["info", cut, good_file])
    assert code == 2
    assert f"episodes: error: {cut}: is truncated" in err
    assert "Traceback" not in err
    assert "/toy/joint_states" in out
    code, out, err = run(capsys, ["info", "--incomplete", cut])
    assert code == 0
    assert "INCOMPLETE: stops after" in out


@pytest.mark.parametrize("verb", ["info", "check", "table", "picture"])
def test_a_missing_file_is_an_error_of_every_verb(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, [verb, tmp_path / "nothing.mcap"])
    assert code == 2
    assert out == ""
    assert err == f"episodes: error: {tmp_path / 'nothing.mcap'}: does not exist\n"


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, ["table", tmp_path])
    assert code == 2
    assert "holds no episode" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--only", "luck", "f"],
        ["check", "--rate", "/x", "f"],
        ["check", "--rate", "/x=-3", "f"],
        ["bake"],
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_table_shows_every_episode(
    good_file: Path, synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mcap").write_bytes(good_file.read_bytes())
    (tmp_path / "sub").mkdir()
    synthetic.write(tmp_path / "sub" / "b.mcap")
    code, out, _ = run(capsys, ["table", "--frame-step", "20", tmp_path])
    assert code == 0
    assert str(tmp_path / "a.mcap") in out
    assert str(tmp_path / "sub" / "b.mcap") in out
    states = next(line for line in out.splitlines() if line.startswith("/toy/joint_states"))
    assert states.split()[1:] == ["200", "Hz", "400", "@", "200.0", "Hz", "400", "@", "200.0", "Hz", "0"]


def test_hidden_folders_are_left_out_unless_asked_for(
    good_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trash = tmp_path / ".trash" / "toy"
    trash.mkdir(parents=True)
    (trash / "gone.mcap").write_bytes(good_file.read_bytes())
    code, _, err = run(capsys, ["table", "--only", "streams", tmp_path])
    assert code == 2 and "holds no episode" in err
    (tmp_path / "kept.mcap").write_bytes(good_file.read_bytes())
    assert "gone.mcap" not in run(capsys, ["table", "--only", "streams", tmp_path])[1]
    for asked in (tmp_path / ".trash", trash / "gone.mcap"):
        assert str(trash / "gone.mcap") in run(capsys, ["table", "--only", "streams", asked])[1]


def test_verdict_reason_and_real_time_factor_are_shown(
    synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.episode |= {"verdict": "failure", "reason": "the robot stopped following: " + "why " * 40}
    path = synthetic.write(tmp_path / "e.mcap")
    out = run(capsys, ["info", path])[1]
    assert "verdict           failure" in out and "real_time_factor  0.9991" in out
    assert synthetic.episode["reason"].strip() in out
    out = run(capsys, ["table", "--only", "streams,limits", path])[1]
    row = next(line for line in out.splitlines() if "passed" in line)
    assert "passed; failure: the robot stopped following: why" in row and row.endswith("…")
    (content,) = json.loads(run(capsys, ["table", "--json", "--only", "limits", path])[1])
    assert (content["verdict"], content["reason"]) == ("failure", synthetic.episode["reason"])


def test_many_episodes_share_a_column(good_file: Path) -> None:
    row = summary(check_episode(good_file))
    text = summary_text([row] * 6)
    assert "400 … 400" in text
    assert "200.0 … 200.0 Hz" in text


def test_a_picture_is_drawn(good_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    target = tmp_path / "shown.png"
    code, out, _ = run(capsys, ["picture", "--output", target, good_file])
    assert (code, out) == (0, f"{target}\n")
    with image.open(target) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
        # The camera strip holds the colours of the recorded frames.
        assert len(picture.convert("RGB").resize((64, 48)).getcolors(10_000)) > 100


def test_pictures_go_to_a_folder(good_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, ["picture", "--output", tmp_path / "new", good_file])
    assert (code, out) == (0, f"{tmp_path / 'new' / 'good.png'}\n")


def test_a_bag_with_joints_only_is_drawn_too(
    synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.topics = {"/toy/joint_states": synthetic.topics["/toy/joint_states"]}
    synthetic.attachments = {}
    path = synthetic.write(tmp_path / "e.mcap")
    assert run(capsys, ["picture", path])[0] == 0
    assert (tmp_path / "e.png").stat().st_size > 10_000


def test_a_picture_that_cannot_be_written(good_file: Path, tmp_path: Path) -> None:
    from episodes.picture import draw_picture

    with pytest.raises(EpisodeError, match="cannot be written"):
        draw_picture(read_bag(good_file), tmp_path / "no" / "folder.png")


def test_info_of_a_file_without_payloads(good_file: Path) -> None:
    assert info(read_bag(good_file, payloads=False)) == info(read_bag(good_file))


def test_tables_are_aligned() -> None:
    text = text_table(["NAME", "N"], [["a", "1"], ["long name", "1000"]], right=[1])
    assert text.splitlines() == [
        "NAME          N",
        "─────────  ────",
        "a             1",
        "long name  1000",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (48_200_000, "48.2 MB"), (999_900_000, "1 GB")],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_numbers_have_no_negative_zero() -> None:
    assert number_text(-0.001, 2) == "0.00"
    assert number_text(None) == "-"


def test_progress_shows_only_what_takes_long() -> None:
    import io

    quick, slow = io.StringIO(), io.StringIO()
    for stream, after_s in ((quick, 60.0), (slow, -1.0)):
        line = ProgressLine("checking", stream, after_s)
        for share in (0.0, 0.1, 0.5, 0.55, 1.0):
            line(share)
        line.close()
    assert quick.getvalue() == ""
    assert slow.getvalue() == "checking   0 %\nchecking  50 %\nchecking 100 %\n"
