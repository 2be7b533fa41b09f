"""What made a file: the versions of Python and of packages."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def software_versions(*packages: str) -> dict[str, str]:
    """Versions by name; "unknown" for a package that is not installed, as a checkout run in place is."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions
