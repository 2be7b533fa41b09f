"""Runs a module as a program, with its Python threads named for the system and, where asked, profiled.

python -m benchmarks.recorder.named_threads capture_nodes.recorder_node --ros-args …

Python before 3.14 does not tell the system the names of its threads; with them `/proc/<pid>/task` says what
taking, writing and the middleware cost. Nothing else is changed. With `TELEOP_PROFILE=<thread name>:<file>`
in the environment that one thread runs under cProfile (which makes it slower, above all small calls).
"""

from __future__ import annotations

import cProfile
import os
import runpy
import sys
import threading
from pathlib import Path

PROFILE = "TELEOP_PROFILE"


class NamedThread(threading.Thread):
    """A thread that the system knows by its name (its first 15 bytes)."""

    def run(self) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_bytes(self.name.encode()[:15])
        wanted, _, file = os.environ.get(PROFILE, "").partition(":")
        if wanted != self.name:
            super().run()
            return
        profile = cProfile.Profile()
        try:
            profile.runcall(super().run)
        finally:
            profile.dump_stats(file)


def main() -> None:
    """Replace this program by the module named first; its arguments follow."""
    threading.Thread = NamedThread  # type: ignore[misc]
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
