"""A headset without hardware: Debian's chromium with iwer's emulated device, on the unmodified page."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_nodes.sources.webxr import WebxrParameters, WebxrSource
from capture_nodes.stamp_clock import StampClock

ROOT = Path(__file__).resolve().parents[2]
IWER = ROOT / "test" / "sources" / "web" / "node_modules" / "iwer" / "build" / "iwer.js"
PICTURES = ROOT / "build" / "webxr"
TIMEOUT_S = 30.0

# Software rendering; the tests run as root in containers too, where chromium has no sandbox.
_ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
# One eye is enough, and half the work for software.
_DEVICE = """
globalThis.headset = new IWER.XRDevice(IWER.metaQuest3, { stereoEnabled: false });
headset.installRuntime({ forceInstall: true });
headset.position.set(0.0, 1.6, 0.0);
headset.controllers.left.position.set(-0.25, 1.2, -0.4);
headset.controllers.right.position.set(0.25, 1.2, -0.4);
"""


def needs_browser() -> None:
    """Fail where the browser or the emulated device is missing: never passed over in silence."""
    missing = {
        "chromium (apt-get install chromium)": shutil.which("chromium") is None,
        f"iwer (npm ci in {IWER.parents[3]})": not IWER.is_file(),
        "the Python package playwright": importlib.util.find_spec("playwright") is None,
    }
    if any(missing.values()):
        names = ", ".join(name for name, is_missing in missing.items() if is_missing)
        pytest.fail(f"not set up: {names}: run `make prepare-test`")


class Publisher:
    """Takes a source's frames as the headset node's thread does, each with the steady time it came."""

    def __init__(self, source):
        self.source = source
        self.frames = []
        # A list instead of None: only how old each frame was is kept, in ns, and not the frame.
        self.ages_ns = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ending.is_set():
            frame = self.source.wait_frame(0.05)
            if frame is None:
                continue
            if self.ages_ns is not None:
                self.ages_ns.append(time.time_ns() - frame.stamp_ns)
            else:
                self.frames.append((time.monotonic(), time.time_ns(), frame))

    @property
    def newest(self):
        return self.frames[-1][2] if self.frames else None

    def stop(self):
        self._ending.set()
        self._thread.join(TIMEOUT_S)


def until(condition, what, timeout_s=TIMEOUT_S, page=None):
    """Wait for a condition; the page's events are only handled while Playwright is waiting."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
        if page is not None:
            page.wait_for_timeout(20)
        else:
            threading.Event().wait(0.02)


@contextlib.contextmanager
def running_source(folder, address="127.0.0.1:0", **more) -> Iterator[tuple[WebxrSource, Publisher]]:
    with WebxrSource(WebxrParameters(address, folder=folder, **more), StampClock(time.time_ns)) as source:
        publisher = Publisher(source)
        try:
            yield source, publisher
        finally:
            publisher.stop()


@contextlib.contextmanager
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=_ARGUMENTS, env={**os.environ, "HOME": "/tmp"}
        )
        try:
            yield running
        finally:
            running.close()


class Headset:
    """One page with its device; `errors` is everything that went wrong in it."""

    def __init__(self, browser, *, before="", size=(480, 320), **context):
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.add_init_script(before + IWER.read_text(encoding="utf-8") + _DEVICE)

    def open(self, url):
        self.page.goto(url)
        self.page.wait_for_selector("#start:not([disabled])", timeout=1e3 * TIMEOUT_S)

    def start(self):
        self.page.click("#start")
        until(lambda: "Leave" in self.page.inner_text("#start"), "session", page=self.page)

    def run(self, script):
        return self.page.evaluate(script)

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def close(self):
        self.context.close()
