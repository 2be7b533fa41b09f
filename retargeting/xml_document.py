"""Read an XML file whose elements remember their line. What a file can do to its reader is bounded.

Entities are refused where they are declared (a few lines of them expand to gigabytes), and so are
files too large or too deep for a robot's description.
"""

from __future__ import annotations

import re
import xml.parsers.expat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from retargeting.errors import InvalidConfiguration, Problem

LARGEST_FILE_BYTES = 16 * 2**20
# Plugins of simulators nest the deepest, at about ten.
DEEPEST_NESTING = 200

_DECLARED_ENCODING = re.compile(
    r"""\A(<\?xml[^>]*?)\s+encoding\s*=\s*(?!.utf-8.)["'][^"']*["']""", re.IGNORECASE
)


@dataclass(frozen=True)
class XmlDocument:
    """`text` without what stood before its first character and without an encoding other than UTF-8.

    `repairs` are (line, what was mended).
    """

    path: Path
    text: str
    root: ElementTree.Element
    lines: Mapping[int, int]
    repairs: tuple[tuple[int, str], ...] = ()

    def line(self, element: ElementTree.Element) -> int:
        """The line `element` starts in, from 1."""
        return self.lines[id(element)]


def _refuse(path: Path, place: str, message: str) -> InvalidConfiguration:
    return InvalidConfiguration([Problem(path, place, message)])


class _Builder(ElementTree.TreeBuilder):
    def __init__(self, path: Path, parser: xml.parsers.expat.XMLParserType, lines_before: int) -> None:
        super().__init__()
        self._path, self._parser, self._lines_before = path, parser, lines_before
        self.lines: dict[int, int] = {}
        self.encoding: str | None = None
        self._depth = 0
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.data
        parser.XmlDeclHandler = self.declared
        parser.EntityDeclHandler = self.entity

    def line(self) -> int:
        return self._parser.CurrentLineNumber + self._lines_before

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise _refuse(self._path, f"line {self.line()}", f"elements nest deeper than {DEEPEST_NESTING}")
        element = super().start(tag, attrs)
        self.lines[id(element)] = self.line()
        return element

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.encoding = encoding

    def entity(self, name: str, *_: object) -> None:
        message = f"entity {name!r} is declared; entities are not read here, write their text out"
        raise _refuse(self._path, f"line {self.line()}", message)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise _refuse(path, "file", "cannot be read: it is no file")
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            message = (
                f"{size} bytes are too many, at most {LARGEST_FILE_BYTES} are read; is it a robot's XML?"
            )
            raise _refuse(path, "file", message)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _refuse(path, "file", f"cannot be read: {error}") from error


def parse_xml(path: Path, content: bytes) -> XmlDocument:
    """The document in `content`; `path` names it in errors. Raises `InvalidConfiguration`."""
    stripped = content.lstrip()
    if not stripped:
        raise _refuse(path, "line 1", "malformed XML: the file is empty")
    lines_before = content[: len(content) - len(stripped)].count(b"\n")
    parser = xml.parsers.expat.ParserCreate()
    builder = _Builder(path, parser, lines_before)
    try:
        parser.Parse(stripped, True)
        text = stripped.decode(builder.encoding or "utf-8-sig")
    except xml.parsers.expat.ExpatError as error:
        message = f"malformed XML: {xml.parsers.expat.ErrorString(error.code)} (column {error.offset})"
        raise _refuse(path, f"line {error.lineno + lines_before}", message) from error
    except (LookupError, UnicodeDecodeError) as error:
        raise _refuse(path, "line 1", f"cannot be read as {builder.encoding or 'utf-8'}: {error}") from error
    repairs: tuple[tuple[int, str], ...] = ()
    if len(stripped) != len(content) and stripped.startswith(b"<?xml"):
        repairs = ((1, "nothing may stand before the XML declaration; it was left out"),)
    # Whoever encodes the text anew would be contradicted by it.
    text = _DECLARED_ENCODING.sub(r"\1", text.removeprefix("\ufeff"), count=1)
    return XmlDocument(path, text, builder.close(), builder.lines, repairs)


def read_xml(path: Path) -> XmlDocument:
    """Read and parse a file. Raises `InvalidConfiguration` with the file, the line and the reason."""
    return parse_xml(path, _read(path))
