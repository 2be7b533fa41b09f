"""Where a URDF comes from: the installed Python package that holds it, and its licence."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

# A `license:` or `upstream:` line of a README beside the URDF.
_README_LINE = re.compile(r"^\s*[*_]*(license|licence|upstream)[*_]*\s*:\s*(.+?)\s*$", re.IGNORECASE)
_LOOK_UP_FOLDERS = 3


@dataclass(frozen=True)
class UrdfOrigin:
    """`package` is empty for a file of one's own; `file` is then a path. Texts are empty where unknown."""

    package: str
    version: str
    file: str
    package_license: str
    model_license: str
    upstream: str


def _package_license(metadata: importlib.metadata.PackageMetadata) -> str:
    fields = dict(metadata.json)
    text = fields.get("license_expression") or fields.get("license") or ""
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    if not text and classifiers:
        text = classifiers[0].split("::")[-1]
    return " ".join(str(text).split())[:120]


def _readme(urdf_file: Path) -> dict[str, str]:
    """`license` and `upstream` as a README in one of the folders above the URDF states them."""
    for folder in list(urdf_file.parents)[:_LOOK_UP_FOLDERS]:
        readme = folder / "README.md"
        if not readme.is_file():
            continue
        lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [match for line in lines[:40] if (match := _README_LINE.match(line))]
        return {match.group(1).lower().replace("licence", "license"): match.group(2) for match in found}
    return {}


def find_origin(urdf_file: Path) -> UrdfOrigin:
    """Which installed package lists the file among its own, if one does."""
    resolved = urdf_file.resolve()
    readme = _readme(resolved)
    model_license, upstream = readme.get("license", ""), readme.get("upstream", "")
    for distribution in importlib.metadata.distributions():
        for entry in distribution.files or []:
            if entry.name != urdf_file.name:
                continue
            if Path(str(distribution.locate_file(entry))).resolve() == resolved:
                return UrdfOrigin(
                    distribution.metadata["Name"],
                    distribution.version,
                    str(entry),
                    _package_license(distribution.metadata) or _license_file(distribution),
                    model_license,
                    upstream,
                )
    return UrdfOrigin("", "", str(urdf_file), "", model_license, upstream)


def _license_file(distribution: importlib.metadata.Distribution) -> str:
    """The first line with words of the package's licence file."""
    for entry in distribution.files or []:
        if entry.name.upper().startswith("LICENSE"):
            path = Path(str(distribution.locate_file(entry)))
            if path.is_file():
                words = [" ".join(line.split()) for line in path.read_text(errors="replace").splitlines()]
                return next((line for line in words if len(line) > 3), "")[:120]
    return ""
