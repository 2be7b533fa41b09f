"""Four clients start, stop, discard and mark as they like, all at once: every episode is one whole file."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mcap.reader import make_reader  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from recorder_station import TIMEOUT_S, Station, joint_state, running  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from capture_nodes.recording.sidecar import check_files, read_sidecar, sidecar_path  # noqa: E402
from capture_nodes.topics import stream_qos  # noqa: E402

DOMAIN = 78
CLIENTS = 4
HAMMERING_S = 6.0
SOAK_S = 300.0
CONFIGURATION = """
topics:
  joint_states: {type: sensor_msgs/msg/JointState, rate_hz: 200}
episode: {pre_roll_s: 0.3, post_roll_s: 0.2}
taking: {shutdown_wait_s: 0.2}
disk: {min_free_mb: 64}
"""
SNAPSHOT = ("operator", "scenario", "assignment", "robot_serial")
# What is done how often.
CALLS = {
    "start": 6,
    "stop": 4,
    "discard": 2,
    "mark_success": 1,
    "mark_failure": 1,
    "mark_moment": 1,
    "set": 4,
}
# Every refusal says why; any other is a failure.
REFUSALS = {
    "start": r"episode [0-9a-f-]{36} is being recorded: stop or discard it first|still joining .*",
    "stop": r"no episode is being recorded",
    "discard": r"no episode has been recorded",
    "mark_success": r"no episode has been recorded|episode [0-9a-f-]{36} is discarded.*",
    "mark_failure": r"no episode has been recorded|episode [0-9a-f-]{36} is discarded.*",
    "mark_moment": r"no episode is being recorded",
}


@dataclass
class Client:
    """A participant of its own, as another process would be, with at most one call under way."""

    name: str
    station: Station
    rng: random.Random
    answers: list[tuple[str, bool, str]] = field(default_factory=list)
    tags: int = 0
    asked: str = ""
    future: Any = None

    def __post_init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node(self.name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.services = {
            name: self.node.create_client(Trigger, f"/kestrel/recorder/{name}")
            for name in CALLS
            if name != "set"
        }
        self.setter = self.node.create_client(
            SetParametersAtomically, "/kestrel/recorder/set_parameters_atomically"
        )

    @property
    def is_ready(self) -> bool:
        return all(client.service_is_ready() for client in (*self.services.values(), self.setter))

    def step(self, asking: bool) -> None:
        """Note an answer that has come; ask for something else."""
        self.executor.spin_once(timeout_sec=0.0)
        if self.future is not None:
            if not self.future.done():
                return
            answer, self.future = self.future.result(), None
            if self.asked == "set":
                assert answer.result.successful, answer.result.reason
            else:
                self.answers.append((self.asked, answer.success, answer.message))
        if asking:
            self.asked = self.rng.choices(list(CALLS), list(CALLS.values()))[0]
            self.future = self._ask()

    def _ask(self) -> Any:
        if self.asked != "set":
            return self.services[self.asked].call_async(Trigger.Request())
        self.tags += 1
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=f"{self.name}-{self.tags}")
        parameters = [Parameter(name=name, value=value) for name in SNAPSHOT]
        return self.setter.call_async(SetParametersAtomically.Request(parameters=parameters))

    def until_answered(self, service: str) -> None:
        """An answer is dropped as long as the recorder has not found who waits: that of a first call."""
        deadline_s = time.monotonic() + TIMEOUT_S
        self.asked = service
        while True:
            future, again_s = self._ask(), time.monotonic() + 1.0
            while not future.done() and time.monotonic() < again_s:
                self.executor.spin_once(timeout_sec=0.05)
            if future.done():
                return
            assert time.monotonic() < deadline_s, f"{service} does not answer {self.name}"

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def _hammer(station: Station, clients: list[Client], seconds: float) -> None:
    """At least that long, until everything has been accepted at least once, and every call is answered."""
    joints = station.publisher(JointState, "/kestrel/joint_states", stream_qos(200))
    station.wait(lambda: all(client.is_ready for client in clients), "the services")
    for client in clients:
        for service in CALLS:
            if service != "start":
                client.until_answered(service)
    station.start()
    for client in clients:
        client.until_answered("start")
    station.call("discard")
    published = 0
    due_s = time.monotonic()
    end_s = due_s + seconds

    def enough() -> bool:
        accepted = Counter(name for client in clients for name, success, _ in client.answers if success)
        return time.monotonic() >= end_s and all(
            accepted[name] >= least for name, least in {**dict.fromkeys(REFUSALS, 1), "start": 12}.items()
        )

    def going_on() -> bool:
        nonlocal published, due_s
        if time.monotonic() >= due_s:
            due_s += 0.005
            joints.publish(joint_state(published))
            published += 1
        for client in clients:
            client.step(asking=not enough())
        station.executor.spin_once(timeout_sec=0.001)
        return all(client.future is None for client in clients)

    station.wait(going_on, "every answer", timeout_s=seconds + 60.0)
    last = station.call("stop")
    assert last.success or re.fullmatch(REFUSALS["stop"], last.message), last.message
    station.wait(lambda: station.episode is not None and station.episode.message == "idle", "idle")


def _check_file(path: Path, discarded: bool) -> dict[str, Any]:
    """One episode: whole, its sidecar true, its parameters of one client, nothing missing inside."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        numbers = [
            round(deserialize_message(message.data, JointState).effort[1])
            for _, channel, message in reader.iter_messages(log_time_order=False)
            if channel.topic == "/kestrel/joint_states"
        ]
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    episode = metadata["episode"]
    rows = [json.loads(row) for row in metadata["streams"].values()]
    lossy = [{key: value for key, value in row.items() if key != "timing"} for row in rows if row["lost"]]
    assert lossy == [], (numbers[:3], numbers[-3:], json.dumps(lossy))
    assert (episode["id"], episode["lost"]) == (path.stem, "0")
    sidecar = read_sidecar(sidecar_path(path))
    assert sidecar is not None and sidecar.id == path.stem
    assert check_files(path.parent, sidecar) == [] and dict(sidecar.episode) == episode
    assert (sidecar.word.verdict == "discard") == discarded
    assert len({episode[name] for name in SNAPSHOT}) == 1, {name: episode[name] for name in SNAPSHOT}
    return dict(episode)


@pytest.mark.parametrize(
    "seconds", [HAMMERING_S, pytest.param(SOAK_S, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_four_clients_at_once_never_spoil_an_episode(
    tmp_path: Path, record_property: Any, seconds: float
) -> None:
    configuration = tmp_path / "recorder.yaml"
    configuration.write_text(CONFIGURATION)
    root = tmp_path / "data"
    with running(DOMAIN, root, f"config:={configuration}") as station:
        clients = [Client(f"client_{k}", station, random.Random(k)) for k in range(CLIENTS)]
        try:
            _hammer(station, clients, seconds)
        finally:
            for client in clients:
                client.close()
        assert list(root.rglob("*.active")) == []
        stdout, stderr = station.end()
        assert station.process.returncode == 0, stderr
        assert "Traceback" not in stderr, stderr
    answers = [answer for client in clients for answer in client.answers]
    for service, success, message in answers:
        assert success or re.fullmatch(REFUSALS[service], message), f"{service}: {message}"
    started = [message for service, success, message in answers if service == "start" and success]
    assert len(started) == len(set(started))
    told = Counter((service, success) for service, success, _ in answers)
    record_property("answers", str(sorted(told.items())))

    files = sorted(root.rglob("*.mcap"))
    # The first is that of `station.start`, which was discarded before any client spoke.
    ids = {path.stem for path in files}
    assert len(files) == len(ids) and set(started) <= ids and len(ids) == len(started) + 1
    assert {path.name for path in root.rglob("*") if path.is_file()} == {
        name for path in files for name in (path.name, f"{path.stem}.json")
    }
    episodes = [_check_file(path, path.is_relative_to(root / ".trash")) for path in files]
    # Never two at once: the next was asked for after the stop of the one before.
    asked = sorted((int(e["started_ns"]), int(e["stopped_ns"])) for e in episodes)
    assert all(begin <= end for begin, end in asked)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(asked))
    # What was said of a file is where it was said to be, or was discarded later.
    for service, success, message in answers:
        if service in ("stop", "discard") and success:
            path = Path(message)
            at = root / ".trash" / path.relative_to(root) if not path.exists() else path
            assert at.exists() and (service == "stop" or at.is_relative_to(root / ".trash"))
    report = json.loads(stdout.strip().splitlines()[-1])
    assert {episode["id"] for episode in report["episodes"]} <= ids
    assert all(not episode["problem"] for episode in report["episodes"])
    assert report["lost"] == report["lost_in_episodes"] == 0
