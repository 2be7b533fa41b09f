"""Where a URDF comes from: the installed Python package that holds it, and its licence."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass, field
from pathlib import Path

# A `license:` or `upstream:` line of a README beside the URDF.
_README_LINE = re.compile(r"^\s*[*_]*(license|licence|upstream)[*_]*\s*:\s*(.+?)\s*$", re.IGNORECASE)
_LOOK_UP_FOLDERS = 3
# Licences as people write them, and their SPDX names; the first that is found counts.
_SPDX = (
    (r"Apache.{0,40}?(?:Version )?2\.0", "Apache-2.0"),
    (r"Clear BSD", "BSD-3-Clause-Clear"),
    (r"Attribution.NonCommercial.NoDeriv\w* 3\.0", "CC-BY-NC-ND-3.0"),
    (r"Attribution.Share ?Alike 4\.0", "CC-BY-SA-4.0"),
    (r"CC BY-NC 4\.0", "CC-BY-NC-4.0"),
    (r"MIT License", "MIT"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE.{0,40}?3", "AGPL-3.0-only"),
    (r"GNU General Public License v3", "GPL-3.0-only"),
)
_LICENSED_UNDER = re.compile(r"licensed under", re.IGNORECASE)


@dataclass(frozen=True)
class UrdfOrigin:
    """`package` is empty for a file of one's own; `file` is then a path. Texts are empty where unknown.

    `package_paths`, `xacro_arguments`: what was needed to read it.
    `model_license`: what a README beside the URDF states; `urdf_license`: what the URDF itself does.
    """

    package: str
    version: str
    file: str
    package_license: str
    model_license: str
    urdf_license: str
    upstream: str
    package_paths: tuple[Path, ...] = ()
    xacro_arguments: dict[str, str] = field(default_factory=dict)


def spdx(text: str) -> str:
    """The SPDX name of a licence that a text names, or the text's first line."""
    flat = " ".join(text.split())
    for pattern, name in _SPDX:
        if re.search(pattern, flat[:2000], re.IGNORECASE):
            return name
    return flat[:80]


def _urdf_license(urdf_file: Path) -> str:
    """The licence that a comment in the URDF names."""
    text = urdf_file.read_text(encoding="utf-8", errors="replace")
    found = _LICENSED_UNDER.search(text)
    return spdx(text[found.start() : found.start() + 300]) if found else ""


def _package_license(metadata: importlib.metadata.PackageMetadata) -> str:
    fields = dict(metadata.json)
    text = fields.get("license_expression") or fields.get("license") or ""
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    if not text and classifiers:
        text = classifiers[0].split("::")[-1]
    return spdx(str(text))


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
    urdf_license = _urdf_license(resolved)
    for distribution in importlib.metadata.distributions():
        if urdf_file.name not in (distribution.read_text("RECORD") or urdf_file.name):
            continue  # far quicker than its list of files
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
                    urdf_license,
                    upstream,
                )
    return UrdfOrigin("", "", str(urdf_file), "", model_license, urdf_license, upstream)


def _license_file(distribution: importlib.metadata.Distribution) -> str:
    """What the package's licence file is."""
    for entry in distribution.files or []:
        if entry.name.upper().startswith("LICENSE"):
            path = Path(str(distribution.locate_file(entry)))
            if path.is_file():
                return spdx(path.read_text(encoding="utf-8", errors="replace"))
    return ""
