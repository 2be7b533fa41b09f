"""YAML as every configuration is read: what cannot be read is told with its line, whatever the text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import InvalidConfiguration
from retargeting.yaml_file import parse_yaml, read_yaml

FILE = Path("some.yaml")
# Pieces that YAML gives a meaning; random letters alone are almost always plain text.
PIECES = [
    "a",
    "b: ",
    "\n",
    "\n  ",
    "- ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!!set ",
    "!!timestamp ",
    "!!binary ",
    "!!float ",
    "!!bool ",
    "!!omap ",
    "!!null ",
    "!!python/name:os.system ",
    "!x ",
    '"',
    "'",
    "\\U00FFFFFF",
    "\\uD800",
    "\\0",
    "|",
    ">",
    "#",
    "\t",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "@",
    "`",
    "2020-13-45",
    "0x",
    "0b",
    "1:99",
    "9" * 5000,
    "0x" + "f" * 5000,
    ".inf",
    "._",
    "=",
    "~",
    "on",
    "é",
    "\x00",
    "\ufffe",
]


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=60)))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        parse_yaml(text, FILE)
    except InvalidConfiguration as error:
        (problem,) = error.problems
        assert problem.file == FILE and problem.message


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text("ab1:-#'\"é \n"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc01-", max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text, FILE) == value == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3", "'a' is already given in line 1"),
        ("x:\n  a: 1\n  'a': 3\n", "line 3", "'a' is already given in line 2"),
        ("a: 1\nname: 2020-13-45\n", "line 2", "'2020-13-45' cannot be read as timestamp"),
        ("a: 1\nb: " + "9" * 5000, "line 2", "cannot be read as int"),
        ("a: 0x1" + "0" * 16, "line 1", "more than 64 bits"),
        ("a:\n- " + "[" * 3000 + "]" * 3000, "line 2", "nested more than 50 deep"),
        ("a:\n- &a [*a]", "line 2", "an alias stands inside what it repeats"),
        ("a: [\n", "line 2", "not valid YAML"),
        ('a: "\\uD800"', "line 1", "surrogates"),
        ('a: "\\0"', "line 1", "zero byte"),
        ("? [a]\n: 1", "line 1", "a key is a single word"),
    ],
)
def test_what_is_refused_has_its_line(text: str, place: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse_yaml(text, FILE)
    (problem,) = caught.value.problems
    assert problem.key == place and message in problem.message


def test_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9)]
    with pytest.raises(InvalidConfiguration, match="more than 200000 values"):
        parse_yaml("\n".join(lines), FILE)


def test_aliases_and_merges_still_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n"
    assert parse_yaml(text, FILE) == yaml.safe_load(text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "some.yaml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"some\.yaml: file: cannot be read"):
        read_yaml(file)
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read_yaml(Path("a\0b"))
