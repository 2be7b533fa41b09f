"""YAML as every configuration is read: one document, each key once; what cannot be read has file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import yaml

from retargeting.errors import InvalidConfiguration, Problem

# Bounds of what a person writes; beyond them are accidents, and texts made to fill the memory.
_DEEPEST_NESTING = 50
_MOST_VALUES = 200_000
_LARGEST_INTEGER = 2**64
# What PyYAML's constructors raise on a value that does not fit its tag (`2020-13-45`, `!!int ""`).
_MISFITS = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def _refuse(problem: str, node: yaml.Node) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses what it would take silently or break on."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        # How many values an alias stands for; none yet while its anchor is being read.
        self._behind: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        before = self._values
        self._depth += 1
        if self._depth > _DEEPEST_NESTING:
            problem = f"nested more than {_DEEPEST_NESTING} deep"
            raise yaml.composer.ComposerError(None, None, problem, self.get_mark())
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if alias and node not in self._behind:
            _refuse("an alias stands inside what it repeats", node)
        self._values += self._behind[node] if alias else 1
        if self._values > _MOST_VALUES:
            _refuse(f"more than {_MOST_VALUES} values", node)
        if not alias:
            self._behind[node] = self._values - before
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse("a key is a single word or number", key)
            if key.value in seen:
                _refuse(f"{key.value!r} is already given in line {seen[key.value]}; keep one of them", key)
            seen[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode("utf-8")
        except _MISFITS as error:
            kind = node.tag.rpartition(":")[2]
            text = node.value if isinstance(node.value, str) else "this"
            _refuse(f"{text[:40]!r} cannot be read as {kind} ({error}); put it in quotes if it is text", node)
        if isinstance(value, str) and "\0" in value:
            _refuse("a text holds a zero byte", node)
        if isinstance(value, int) and abs(value) >= _LARGEST_INTEGER:
            _refuse("an integer of more than 64 bits", node)
        return value


def parse_yaml(text: str, file: Path) -> Any:
    """The value of a YAML text; `file` is where it is from. Raises `InvalidConfiguration` with the line."""
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "file" if mark is None else f"line {mark.line + 1}"
        message = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InvalidConfiguration([Problem(file, place, f"not valid YAML: {message}")]) from error
    except _MISFITS as error:  # while it is taken apart: an escape such as "\U00FFFFFF"
        place = f"line {loader.line + 1}"
        raise InvalidConfiguration([Problem(file, place, f"not valid YAML: {error}")]) from error


def read_yaml(file: Path) -> tuple[str, Any]:
    """The text of a YAML file and its value. Raises `InvalidConfiguration`."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a zero byte in the path
        raise InvalidConfiguration([Problem(file, "file", f"cannot be read: {error}")]) from error
    return text, parse_yaml(text, file)
