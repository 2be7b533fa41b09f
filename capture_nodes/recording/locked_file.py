"""A file that is being written, told from one whose writer is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from capture_nodes.recording.mcap_writer import Buffer

# What `writev` takes at once is limited (IOV_MAX).
_BUFFERS_AT_ONCE = os.sysconf("SC_IOV_MAX") if os.sysconf("SC_IOV_MAX") > 0 else 1024


class LockedFile:
    """A new file under an advisory lock that ends with the process: so a dead writer is told from a live one.

    Raises `OSError` (`FileExistsError` where the path exists).
    """

    def __init__(self, path: Path, flags: int = 0) -> None:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        self._syncing: threading.Thread | None = None
        self._sync_error: OSError | None = None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A file system without locks still takes a recording; it must then not be shared.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                os.close(self._descriptor)
                raise

    def write(self, buffers: Sequence[Buffer], /) -> None:
        """All of them, in order; what the system did not take at once is tried again."""
        descriptor = self._descriptor
        for begin in range(0, len(buffers), _BUFFERS_AT_ONCE):
            some = list(buffers[begin : begin + _BUFFERS_AT_ONCE])
            while some:
                count = os.writev(descriptor, some)
                while some and count >= len(some[0]):
                    count -= len(some.pop(0))
                if count:
                    some[0] = memoryview(some[0])[count:]

    def truncate(self, size: int, /) -> None:
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def sync_behind(self) -> None:
        """Force to the disk what is written by now, without waiting. Raises what an earlier one met."""
        self._raise_sync_error()
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = threading.Thread(target=self._sync, name="episode sync", daemon=True)
            self._syncing.start()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # The system tells of a lost page once only.
            self._sync_error = error

    def _raise_sync_error(self) -> None:
        if self._sync_error is not None:
            raise self._sync_error

    def sync(self) -> None:
        if self._syncing is not None:
            self._syncing.join()
        self._raise_sync_error()
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._syncing is not None:
            self._syncing.join()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
