"""Writes past the page cache: an hour of raw cameras would push everything else out of memory.

The processor copies each byte once, into a buffer that the disk takes from; no page has to be found for it.
Files are written in whole blocks: while it is open, a file may end with up to a block of zeros.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from capture_nodes.recording.locked_file import LockedFile
from capture_nodes.recording.mcap_writer import Buffer

BLOCK_BYTES = 4096
BUFFER_BYTES = 4 * 1024 * 1024


class DirectIsRefused(OSError):
    """The file system takes no direct writes."""


class DirectFile(LockedFile):
    """As `LockedFile`; after `write` returned, a kill loses nothing of it.

    Raises `DirectIsRefused`, or another `OSError` (`FileExistsError` where the path exists).
    """

    def __init__(self, path: Path) -> None:
        # Pages of its own: aligned, as the disk wants them.
        self._view = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        # The first `_filled` bytes of the buffer belong at `_offset`, a whole number of blocks.
        self._offset = self._filled = 0
        try:
            super().__init__(path, os.O_DIRECT)
        except OSError as error:
            raise _said(error) from error
        try:
            # Some take the flag, and not the write.
            self._put(BLOCK_BYTES)
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            self.close()
            path.unlink(missing_ok=True)
            raise _said(error) from error

    def write(self, buffers: Sequence[Buffer], /) -> None:
        """All of them, in order."""
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:
                count = min(len(view), BUFFER_BYTES - self._filled)
                self._view[self._filled : self._filled + count] = view[:count]
                self._filled += count
                view = view[count:]
                if self._filled == BUFFER_BYTES:
                    self._put(BUFFER_BYTES)
                    self._offset += BUFFER_BYTES
                    self._filled = 0
        self._put_rest()

    def truncate(self, size: int, /) -> None:
        whole = size - size % BLOCK_BYTES
        if self._offset <= whole and size <= self._offset + self._filled:
            begun = bytes(self._view[whole - self._offset : size - self._offset])
        else:
            # The block that is cut is on the disk already.
            with open(f"/proc/self/fd/{self._descriptor}", "rb") as written:
                begun = os.pread(written.fileno(), size - whole, whole)
        self._view[: len(begun)] = begun
        self._offset, self._filled = whole, len(begun)
        super().truncate(size)

    def sync(self) -> None:
        os.ftruncate(self._descriptor, self._offset + self._filled)
        super().sync()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, self._offset + self._filled)
        super().close()

    def _put_rest(self) -> None:
        """Write what is there, its last block filled up with zeros; that block stays in the buffer."""
        size = -(-self._filled // BLOCK_BYTES) * BLOCK_BYTES
        self._view[self._filled : size] = bytes(size - self._filled)
        self._put(size)
        whole = self._filled - self._filled % BLOCK_BYTES
        rest = bytes(self._view[whole : self._filled])
        self._view[: len(rest)] = rest
        self._offset, self._filled = self._offset + whole, len(rest)

    def _put(self, size: int) -> None:
        done = 0
        while done < size:
            count = os.pwrite(self._descriptor, self._view[done:size], self._offset + done)
            if count % BLOCK_BYTES:
                # The disk is full within a block: nothing can be written behind it.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += count


def _said(error: OSError) -> OSError:
    if error.errno != errno.EINVAL:
        return error
    return DirectIsRefused(error.errno, os.strerror(error.errno), error.filename)
