"""Latency and processor time of the headset node on the test runtime: ``python -m benchmarks.openxr``.

The node runs as in a station (a process of its own, over real DDS); the runtime is that of
`test/openxr_runtime`, without its validation layer, with controllers, both hands and a body to track. A pose
is changed at random moments, and a subscriber here tells when the change came: from the change, and from the
moment that the runtime was asked for, which leaves the wait for the next poll out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recorder.process_watch import sample, use_between
from capture_nodes.recording.motion_cdr import MotionReader

ROOT = Path(__file__).resolve().parents[2]
BODIES = ("bd", "fb", "none")
_START_TIMEOUT_S = 60.0
# Between two changes of the pose: more than a poll, and no multiple of it.
_FEED_EVERY_S = (0.03, 0.06)
_WARM_UP_S = 2.0
_STEP_M, _SAME_M = 1e-4, 2e-5


class Arrivals:
    """Hears `/trainer/motion`: (received, asked for (both steady ns), x of the head) of each frame."""

    def __init__(self, domain: int, happened: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import MultiDOFJointState

        from capture_nodes import topics

        self.frames: list[tuple[int, int, float]] = []
        self.points = 0
        self._happened, self._reader = happened, MotionReader()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("arrivals", context=self._context)
        qos = topics.stream_qos(90.0)
        self._node.create_subscription(MultiDOFJointState, topics.MOTION, self._hear, qos, raw=True)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _hear(self, data: bytes) -> None:
        received_ns = time.monotonic_ns()
        asked_ns = int(self._happened.located_monotonic_ns)
        poses = self._reader.read(data).poses
        self.points = len(poses)
        # OpenXR's -z is the trainer's x.
        self.frames.append((received_ns, asked_ns, float(poses["head"][0])))

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@contextmanager
def headset_node(manifest: Path, script: Path, variable: str, domain: int) -> Iterator[int]:
    """A headset node on the test runtime; its process id."""
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "XR_RUNTIME_JSON": str(manifest),
        variable: str(script),
    }
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    words = ["--ros-args", "-r", "__ns:=/trainer", "-p", "source:=openxr"]
    command = [sys.executable, "-m", "capture_nodes.headset_node", *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"benchmarks.openxr: {what} did not come within {_START_TIMEOUT_S:g} s")
        time.sleep(0.01)


def track(runtime: Any, body: str) -> None:
    """Everything there is: controllers that are held, both hands, a body."""
    runtime.hold("touch", "touch")
    with runtime.writing() as script:
        for hand in script.hands:
            hand.active = 1
        script.bd_supported = script.bd_active = int(body == "bd")
        script.fb_supported = script.fb_active = int(body == "fb")


def feed(runtime: Any, seconds: float, seed: int) -> list[tuple[int, float]]:
    """Change the head's place at random moments; when (steady ns), and the trainer's x from then on."""
    random = np.random.default_rng(seed)
    fed: list[tuple[int, float]] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        time.sleep(random.uniform(*_FEED_EVERY_S))
        x = _STEP_M * (len(fed) + 1)
        with runtime.writing() as script:
            script.head.position[2] = -x
        fed.append((time.monotonic_ns(), x))
    return fed


def quantiles(values: list[float]) -> dict[str, float]:
    low, middle, high, most = np.percentile(values, [5, 50, 99, 100]).tolist()
    return {"p5": low, "median": middle, "p99": high, "largest": most}


def latencies(
    fed: list[tuple[int, float]], frames: list[tuple[int, int, float]]
) -> dict[str, dict[str, float]]:
    """ms; a change that was made and changed again between two polls is left out. x only grows."""
    feed_ms, poll_ms = [], []
    k = 0
    for moment_ns, x in fed:
        while k < len(frames) and (frames[k][0] < moment_ns or frames[k][2] < x - _SAME_M):
            k += 1
        if k == len(frames):
            break
        received_ns, asked_ns, seen = frames[k]
        if seen < x + _SAME_M:
            feed_ms.append(1e-6 * (received_ns - moment_ns))
            poll_ms.append(1e-6 * (asked_ns - moment_ns))
    sampled_ms = [1e-6 * (received_ns - asked_ns) for received_ns, asked_ns, _ in frames]
    return {
        "change to topic": quantiles(feed_ms),
        "change to poll": quantiles(poll_ms),
        "poll to topic": quantiles(sampled_ms),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openxr", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long is measured (default 20)")
    parser.add_argument("--body", choices=BODIES, default="bd", help="which body is tracked (default bd)")
    parser.add_argument("--domain", type=int, default=52, help="ROS domain (default 52)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    said = parser.parse_args()

    sys.path.insert(0, str(ROOT / "test" / "openxr_runtime"))
    scripting = importlib.import_module("openxr_script")
    with tempfile.TemporaryDirectory() as folder:
        manifest = scripting.compile_runtime(Path(folder))
        runtime = scripting.ScriptedRuntime(Path(folder) / "script")
        track(runtime, said.body)
        with headset_node(manifest, runtime.path, scripting.ENVIRONMENT, said.domain) as pid:
            arrivals = Arrivals(said.domain, runtime.happened)
            until(lambda: len(arrivals.frames) > 10, "motion")
            time.sleep(_WARM_UP_S)
            load = [os.getloadavg()[0]]
            arrivals.frames.clear()
            begin, syncs = sample(pid), runtime.happened.syncs
            fed = feed(runtime, said.seconds, said.seed)
            use = use_between(begin, sample(pid))
            polls = (runtime.happened.syncs - syncs) / use.seconds
            frames = list(arrivals.frames)
            load.append(os.getloadavg()[0])
            arrivals.close()
    gaps_ms = 1e-6 * np.diff([asked_ns for _, asked_ns, _ in frames])
    found = {
        "points": arrivals.points,
        "polls_hz": polls,
        "frames_hz": len(frames) / use.seconds,
        "gaps_ms": quantiles(gaps_ms.tolist()),
        "cores": use.cores,
        "cores_by_thread": use.cores_by_thread,
        "latency_ms": latencies(fed, frames),
        "changes": len(fed),
        "load_average": load,
        "nice": os.nice(0),
    }
    print(describe(found))
    if said.json is not None:
        said.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def describe(found: dict[str, Any]) -> str:
    lines = [
        f"{found['points']} points, {found['polls_hz']:.1f} polls/s, {found['frames_hz']:.1f} frames/s; "
        f"load average {found['load_average'][0]:.1f} .. {found['load_average'][1]:.1f} on "
        f"{os.cpu_count()} cores, nice {found['nice']}",
        f"processor: {1e2 * found['cores']:.1f} % of a core ("
        + ", ".join(
            f"{name} {1e2 * cores:.1f} %"
            for name, cores in sorted(found["cores_by_thread"].items(), key=lambda item: -item[1])
            if cores > 1e-3
        )
        + ")",
    ]
    rows = {**found["latency_ms"], "between polls": found["gaps_ms"]}
    for name, values in rows.items():
        lines.append(f"{name} (ms): " + ", ".join(f"{key} {value:.2f}" for key, value in values.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
