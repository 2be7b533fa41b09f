"""One station per ROS domain on a machine: a file lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType

from capture_nodes.station_arguments import StationError


def lock_path(domain_id: int) -> Path:
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if not folder or not os.access(folder, os.W_OK):
        folder = tempfile.gettempdir()
    return Path(folder) / f"teleop_capture_domain_{domain_id}_{os.getuid()}.lock"


class DomainLock:
    """Held while a station runs; entering raises `StationError` naming the station that has it."""

    def __init__(self, domain_id: int, owner: str) -> None:
        self._domain_id = domain_id
        self._owner = owner
        self._path = lock_path(domain_id)
        self._descriptor = -1

    def __enter__(self) -> DomainLock:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 500).decode("utf-8", "replace").strip() or "another process"
            os.close(self._descriptor)
            raise StationError(
                [
                    f"domain {self._domain_id} is taken by another station ({holder}); stop that one, or "
                    "give this one its own domain, for example "
                    f"domain_id:={free_domain_hint(self._domain_id)}"
                ]
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()}, {self._owner}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third station lock a new file of the same name.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def free_domain_hint(domain_id: int) -> int:
    return domain_id + 1 if domain_id < 101 else 1
