from __future__ import annotations

import subprocess
import sys
import time

import pytest

# Holds the interpreter in C, as rclpy does while Fast DDS is locked up.
HANGS = """
import ctypes, signal, sys
from capture_nodes.certain_exit import exit_within
signal.signal(signal.SIGTERM, lambda *_: None)
print("all is done")
exit_within(0.3, int(sys.argv[1]))
ctypes.PyDLL(None).sleep(100)
"""


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_a_process_that_hangs_ends_with_the_code_it_was_going_to(code: int) -> None:
    began_s = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", HANGS, str(code)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == code
    assert result.stdout == "all is done\n"
    assert 0.3 <= time.monotonic() - began_s < 50.0
