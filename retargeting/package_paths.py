"""Where the files of a robot's description are: `package://…`, `model://…`, `$(find …)`, `file:…`, paths.

A package is looked for, in this order, in the given search paths, above the file that names it, in
the ament index, in ROS_PACKAGE_PATH, and among the installed Python packages (their own folders and
the `share` folders they install). No package is imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from retargeting.errors import InvalidConfiguration
from retargeting.xml_document import read_xml

_NAMED_BY_PACKAGE = re.compile(r"(?:package|model)://+(?P<path>.*)", re.DOTALL)
_FOUND_BY_XACRO = re.compile(r"\$\(find\s+(?P<package>[^)\s]+)\s*\)/*(?P<path>.*)", re.DOTALL)
# Python packages built with cmeel (example-robot-data and its kin) install below this.
_CMEEL = Path("cmeel.prefix")


def _folders_of(variable: str) -> Iterator[Path]:
    for entry in os.environ.get(variable, "").split(os.pathsep):
        if entry:
            yield Path(entry)


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # not ours to read, too long for the file system, or with a zero in it
        return False


class PackagePaths:
    """Finds packages and files for one description `file`; what was found is remembered.

    `search_paths` are folders that hold packages, or are one.
    """

    def __init__(self, file: Path, search_paths: Sequence[Path] = ()) -> None:
        self._file = file
        self._search_paths = tuple(path.expanduser() for path in search_paths)
        # A link (colcon installs them) lies in two places.
        self._above = tuple(dict.fromkeys((*file.absolute().parents, *file.resolve().parents)))
        self._names: dict[Path, str] = {}
        self._found: dict[str, tuple[Path, ...]] = {}

    def package(self, name: str) -> Path | None:
        """The folder of the package `name`, or None."""
        return next(iter(self._candidates(name)), None)

    def file(self, uri: str) -> Path | None:
        """The existing file that `uri` means, or None."""
        return next((path for path in self._meant_by(uri.strip()) if _is(Path.is_file, path)), None)

    def _meant_by(self, uri: str) -> Iterator[Path]:
        yield from self._places(uri)
        if "%" in uri:
            yield from self._places(unquote(uri))
        if "\\" in uri:
            yield from self._places(uri.replace("\\", "/"))

    def _places(self, uri: str) -> Iterator[Path]:
        if named := _NAMED_BY_PACKAGE.fullmatch(uri):
            package, _, path = named["path"].partition("/")
            yield from (folder / path for folder in self._candidates(package))
        elif found := _FOUND_BY_XACRO.fullmatch(uri):
            yield from (folder / found["path"] for folder in self._candidates(found["package"]))
        elif uri.startswith("file:"):
            path = uri.removeprefix("file:")
            if path.startswith("//") and not path.startswith("///"):
                yield self._file.parent / path[2:]
                path = "/" + path[2:].partition("/")[2]  # what came before is the host
            yield self._file.parent / ("/" + path.lstrip("/") if path.startswith("/") else path)
        elif uri:
            yield self._file.parent / uri
            yield self._file.resolve().parent / uri
            if not PurePosixPath(uri).is_absolute():
                # Relative to the package instead of the file, which lies in its folder urdf/ or xacro/.
                yield from (folder / uri for folder in self._file.absolute().parents[1:2])
                yield from (folder / uri for folder in self._above if self._declared_name(folder))

    def _candidates(self, name: str) -> tuple[Path, ...]:
        if name not in self._found:
            folders = (folder for folder in self._possible(name) if _is(Path.is_dir, folder))
            self._found[name] = tuple(dict.fromkeys(folders)) if _is_package_name(name) else ()
        return self._found[name]

    def _possible(self, name: str) -> Iterator[Path]:
        yield from self._inside((*self._search_paths, *self._above), name)
        for prefix in _folders_of("AMENT_PREFIX_PATH"):
            yield prefix / "share" / name
        yield from self._inside(_folders_of("ROS_PACKAGE_PATH"), name)
        yield from _python_folders(name)

    def _inside(self, folders: Iterable[Path], name: str) -> Iterator[Path]:
        """The package below each folder, or the folder itself where it is the package."""
        for folder in folders:
            yield folder / name
            # A package's folder may be called otherwise than the package.
            if name in (folder.name, self._declared_name(folder)):
                yield folder

    def _declared_name(self, folder: Path) -> str:
        """The name in `package.xml` of `folder`, or "" where there is none that can be read."""
        if folder not in self._names:
            self._names[folder] = ""
            manifest = folder / "package.xml"
            if _is(Path.is_file, manifest):
                # Where it cannot be read, the folder goes by its own name.
                with contextlib.suppress(InvalidConfiguration):
                    self._names[folder] = (read_xml(manifest).root.findtext("name") or "").strip()
        return self._names[folder]


def _is_package_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\0" not in name


def _python_folders(name: str) -> Iterator[Path]:
    # A distribution `a-b` installs the module `a_b`.
    spellings = tuple(dict.fromkeys((name, name.replace("-", "_"))))
    for spelling in spellings:
        yield from _module_folders(spelling)
    entries = [Path(entry) for entry in sys.path if entry]
    for spelling in spellings:
        for entry in entries:
            yield entry / _CMEEL / "share" / spelling
            if entry.name in ("site-packages", "dist-packages") and len(entry.parents) > 3:
                yield entry.parents[2] / "share" / spelling
        yield Path(sys.prefix) / "share" / spelling


def _module_folders(name: str) -> Iterator[Path]:
    if not name.isidentifier():
        return
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # a module that broke half-way through its import
        return
    if found is not None:
        yield from (Path(folder) for folder in found.submodule_search_locations or ())
