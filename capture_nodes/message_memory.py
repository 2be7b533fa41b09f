"""Memory that large messages are taken into, used again once nobody holds them any more.

Fresh memory for every camera frame costs more than copying it there: the system has to find and clear each
page. A piece comes back by Python's own count of references: what is handed out is a `memoryview`, and as
long as it, or anything that looks into it (a slice, a numpy array), is held by anybody, its memory is.

Pieces are the C library's (`malloc`), so that a middleware that needs a larger one may `realloc` it.
"""

from __future__ import annotations

import ctypes
import weakref

# Sizes are rounded up to this, so that frames that differ a little share their pieces.
STEP_BYTES = 64 * 1024
# What waits unused at most; what is in use is bounded by those who hold it.
IDLE_BYTES = 64 * 1024 * 1024

_C = ctypes.PyDLL(None)
_malloc, _free = _C.malloc, _C.free
_malloc.argtypes, _malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
_free.argtypes, _free.restype = (ctypes.c_void_p,), None


class MessageMemory:
    """Pieces by their capacity. `lend` and `keep` belong to one thread; pieces come back on any.

    idle_bytes: what is kept unused at most; beyond it memory goes back to the system.
    """

    def __init__(self, idle_bytes: int = IDLE_BYTES) -> None:
        self._idle_bytes = idle_bytes
        # Appending and popping are single steps of the interpreter: no lock, which a `weakref` callback that
        # runs at any moment could meet itself in.
        self._idle: dict[int, list[int]] = {}

    @property
    def idle_bytes(self) -> int:
        return sum(capacity * len(pieces) for capacity, pieces in list(self._idle.items()))

    def lend(self, size: int) -> tuple[int, int]:
        """Address and capacity of a piece for at least ``size`` bytes: yours until `keep` or `put_back`.

        Never waits: where none is unused, it is new. Raises `MemoryError`.
        """
        capacity = -(-max(1, size) // STEP_BYTES) * STEP_BYTES
        pieces = self._idle.get(capacity)
        if pieces:
            return pieces.pop(), capacity
        address = _malloc(capacity)
        if not address:
            raise MemoryError(f"{capacity} bytes for a message")
        return address, capacity

    def keep(self, address: int, capacity: int, size: int) -> memoryview:
        """The first ``size`` bytes of a lent piece; it comes back when nobody looks into it any more."""
        piece = (ctypes.c_ubyte * size).from_address(address)
        weakref.finalize(piece, self.put_back, address, capacity).atexit = False
        return memoryview(piece).cast("B").toreadonly()

    def put_back(self, address: int, capacity: int) -> None:
        """A piece that nobody looks into. One of another capacity than `lend` gives is not kept."""
        if not address:
            # A middleware that could not enlarge it has freed it.
            return
        if capacity % STEP_BYTES or self.idle_bytes + capacity > self._idle_bytes:
            _free(address)
            return
        pieces = self._idle.get(capacity)
        if pieces is None:
            pieces = self._idle.setdefault(capacity, [])
        pieces.append(address)

    def close(self) -> None:
        """Give back what is unused; what is still held follows when it is let go of."""
        self._idle_bytes = 0
        for pieces in list(self._idle.values()):
            while pieces:
                _free(pieces.pop())
