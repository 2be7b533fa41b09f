"""What `.ci/run` counts as having run, and that a headset's tests cannot be left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / ".ci" / "count_tests.py"
RAN = (
    '<testcase classname="test.sources.test_webxr_browser" name="test_it"/>'
    '<testcase classname="test.sources.openxr.test_openxr_loss" name="test_it[a]"/>'
    '<testcase classname="test.graph.test_headset_webxr" name="test_it"><failure/></testcase>'
    '<testcase classname="test.test_other" name="test_skipped"><skipped message="no disk"/></testcase>'
)


def count(folder: Path, cases: str) -> tuple[int, str, str]:
    file = folder / "test_results.xml"
    file.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, PROGRAM, file, folder / "missing.xml"], capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout.strip(), ended.stderr


def test_what_ran_is_counted(tmp_path: Path) -> None:
    assert count(tmp_path, RAN) == (0, "3", "")


@pytest.mark.parametrize(
    "skipped",
    [
        '<testcase classname="test.graph.test_openxr_node" name="test"><skipped message="no cc"/></testcase>',
        '<testcase classname="" name="test.sources.test_webxr_server"><skipped message="no cc"/></testcase>',
    ],
)
def test_a_headset_s_test_that_was_skipped_is_an_error(tmp_path: Path, skipped: str) -> None:
    code, ran, said = count(tmp_path, RAN + skipped)
    assert (code, ran) == (1, "3") and "skipped, which is no success: test." in said and "no cc" in said


def test_headset_s_tests_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    code, ran, said = count(tmp_path, RAN.replace("openxr", "opened"))
    assert (code, ran) == (1, "3") and "no test of the OpenXR ran" in said
