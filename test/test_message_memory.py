"""Memory of large messages: nobody's bytes change while he holds them, and none is held for nothing."""

from __future__ import annotations

import ctypes
import gc
import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.message_memory import STEP_BYTES, MessageMemory

SIZES = (1, 100, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES + 5)


def _take(memory: MessageMemory, usual: int, size: int, fill: int) -> memoryview:
    """As a middleware does it: into what is there, or into what it is enlarged to."""
    address, capacity = memory.lend(usual)
    if capacity < size:
        realloc = ctypes.PyDLL(None).realloc
        realloc.argtypes, realloc.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p
        address, capacity = realloc(address, size), size
    ctypes.memset(address, fill, size)
    return memory.keep(address, capacity, size)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "let go", "look", "hold a part"]),
            st.sampled_from(SIZES),
            st.sampled_from(SIZES),
            st.integers(0, 255),
        ),
        max_size=40,
    )
)
def test_what_is_held_stays_as_it_is(steps: list[tuple[str, int, int, int]]) -> None:
    memory = MessageMemory(idle_bytes=4 * STEP_BYTES)
    held: list[tuple[memoryview, bytes]] = []
    for what, usual, size, fill in steps:
        if what == "take":
            view = _take(memory, usual, size, fill)
            held.append((view, bytes([fill]) * size))
        elif held and what == "let go":
            del held[fill % len(held)]
        elif held and what == "look":
            view, expected = held[fill % len(held)]
            # Whoever looks into it holds it, after it has been let go of too.
            held[fill % len(held)] = (memoryview(np.frombuffer(view, np.uint8)), expected)
        elif held:
            view, expected = held[fill % len(held)]
            held[fill % len(held)] = (view[len(view) // 2 :], expected[len(view) // 2 :])
        assert memory.idle_bytes <= 4 * STEP_BYTES
        assert all(bytes(view) == expected for view, expected in held)
    memory.close()
    assert all(bytes(view) == expected for view, expected in held)


def test_memory_is_used_again_as_soon_as_nobody_holds_it() -> None:
    memory = MessageMemory()
    address, capacity = memory.lend(900_000)
    view = memory.keep(address, capacity, 900_000)
    array, part = np.frombuffer(view, np.uint8), view[5:7]
    del view
    assert memory.lend(900_000)[0] != address
    del array
    assert memory.idle_bytes == 0
    del part
    assert memory.idle_bytes == capacity and memory.lend(900_000) == (address, capacity)


def test_what_is_handed_out_cannot_be_written_to() -> None:
    memory = MessageMemory()
    view = memory.keep(*memory.lend(10), 10)
    assert view.readonly and view.format == "B" and len(view) == 10


def test_pieces_come_back_on_every_thread_and_no_two_holders_share_one() -> None:
    memory = MessageMemory()
    wrong: list[int] = []

    def hold(fill: int) -> None:
        for k in range(200):
            view = _take(memory, STEP_BYTES, STEP_BYTES, (fill + k) % 256)
            if view[0] != (fill + k) % 256 or view[-1] != (fill + k) % 256:
                wrong.append(k)
            del view

    threads = [threading.Thread(target=hold, args=(fill,)) for fill in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert wrong == [] and 0 < memory.idle_bytes <= 4 * STEP_BYTES


def test_after_the_end_memory_goes_back_to_the_system() -> None:
    memory = MessageMemory()
    first, second = (memory.keep(*memory.lend(10), 10) for _ in range(2))
    del first
    memory.close()
    assert memory.idle_bytes == 0
    del second
    assert memory.idle_bytes == 0
