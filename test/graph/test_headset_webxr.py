"""The headset node with a headset's page: what its socket says comes out on the topics, and back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")

import aiohttp
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image, Joy, JoyFeedback, JoyFeedbackArray, MultiDOFJointState
from std_srvs.srv import Trigger

from capture_nodes import topics
from capture_nodes.resources import robot_description_file
from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.webxr_wire import WireFrame
from retargeting.motion_frame import Axis, Button
from retargeting.robot_model import load_robot

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
DOMAIN = 79
NAMES = ("head", *(f"{side}_{joint}" for side in ("left", "right") for joint in wire.HAND_JOINTS))


class Page:
    """The page's side of the socket, in a thread of its own; its clock is the steady one, 7 s ahead."""

    AHEAD_S = 7.0

    def __init__(self, url):
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.sent_ns = {}
        self.texts, self.pictures = [], []
        self.squeeze = 0.0
        self.menu = 0
        self.sending = True
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._run()), daemon=True
        )
        self._thread.start()

    def now_ms(self):
        return 1e3 * (time.monotonic() + self.AHEAD_S)

    async def _run(self):
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{self._url}/socket") as socket:
            hello = {"type": "hello", "version": wire.VERSION, "page": "a-page-in-a-test", "device": "test"}
            await socket.send_json(hello)
            sender = asyncio.create_task(self._send(socket))
            reader = asyncio.create_task(self._read(socket))
            await self._ending.wait()
            sender.cancel()
            reader.cancel()

    async def _send(self, socket):
        poses = np.tile([0.0, 1.0, -0.3, 0.0, 0.0, 0.0, 1.0], (len(NAMES), 1))
        # Far from each other: finger tips that touch are a gesture.
        poses[:, 0] = 0.1 * np.arange(len(NAMES))
        sequence = 0
        while True:
            await asyncio.sleep(1 / 72)
            if not self.sending or not any(text["type"] == "clock" for text in self.texts):
                continue
            sequence += 1
            axes, buttons = [0.0] * len(Axis), [0] * len(Button)
            axes[Axis.LEFT_SQUEEZE], buttons[Button.LEFT_MENU] = self.squeeze, self.menu
            # The number of the frame, to be found again on the topic.
            axes[Axis.LEFT_TRIGGER] = np.float32(sequence % 10_000) / np.float32(10_000)
            frame = WireFrame(
                sequence, self.now_ms(), "visible", False, tuple(axes), tuple(buttons), NAMES, poses
            )
            data = wire.encode_frame(frame)
            self.sent_ns[round(axes[Axis.LEFT_TRIGGER] * 10_000)] = time.monotonic_ns()
            await socket.send_bytes(data)

    async def _read(self, socket):
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                self.texts.append(json.loads(message.data))
                continue
            kind, number = message.data[0], int.from_bytes(message.data[4:8], "little")
            if kind == wire.PING:
                await socket.send_bytes(wire.encode_pong(number, self.now_ms()))
            elif kind == wire.PICTURE:
                self.pictures.append(message.data)
                await socket.send_bytes(bytes([wire.PICTURE_SHOWN, wire.VERSION, 0, 0]) + message.data[4:8])

    def close(self):
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(TIMEOUT_S)

    def status(self):
        return next((text for text in reversed(self.texts) if text["type"] == "status"), {})


class World:
    """The node as a process, and everything around it."""

    def __init__(self, folder, *parameters, domain=DOMAIN):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("watcher", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.motion, self.buttons, self.states, self.diagnostics, self.came_ns = [], [], [], [], []
        deep = topics.stream_qos(2000)
        subscribe = self.node.create_subscription
        subscribe(MultiDOFJointState, topics.MOTION, self.motion.append, deep)
        subscribe(Joy, topics.BUTTONS, self._on_buttons, deep)
        subscribe(DiagnosticStatus, "/trainer/headset/state", self.states.append, topics.latched_qos())
        subscribe(DiagnosticArray, topics.DIAGNOSTICS, self.diagnostics.append, deep)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
            "PYTHONPATH": path,
            "XDG_DATA_HOME": str(folder),
        }
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", "capture_nodes.headset_node", "--ros-args", "-r", "__ns:=/trainer"]
        self._log = (folder / "headset.log").open("w+")
        self.process = subprocess.Popen(
            [*command, "-p", "source:=webxr", "-p", "address:=127.0.0.1:0", *arguments],
            env=environment, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _on_buttons(self, message):
        self.came_ns.append(time.monotonic_ns())
        self.buttons.append(message)

    def log(self):
        self._log.flush()
        return Path(self._log.name).read_text()

    def until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f"the node ended: {self.log()}"
            assert time.monotonic() < deadline, f"no {what} within {TIMEOUT_S} s; {self.log()}"
            self._executor.spin_once(timeout_sec=0.02)

    def url(self):
        pattern = re.compile(r"page: (http://127\.0\.0\.1:\d+)")
        self.until(lambda: pattern.search(self.log()), "address of the page")
        return pattern.search(self.log()).group(1)

    def words(self):
        return [state.message for state in self.states]

    def numbers(self):
        for array in reversed(self.diagnostics):
            for status in array.status:
                if status.name == "/trainer/headset":
                    return {value.key: value.value for value in status.values}
        return {}

    def finish(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT_S)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@contextlib.contextmanager
def station(folder, *parameters, domain=DOMAIN):
    world = World(folder, *parameters, domain=domain)
    try:
        yield world
    finally:
        world.close()


def test_a_page_s_frames_come_out_on_the_topics(tmp_path):
    """States, counts, stamps in station time by a clock that is 7 s ahead, rumble, and a clean end."""
    with station(tmp_path) as world:
        url = world.url()
        world.until(lambda: world.words() == ["waiting"], "waiting state")
        assert world.motion == []
        page = Page(url)
        world.until(lambda: len(world.motion) > 300, "motion")
        assert world.words()[:2] == ["waiting", "tracking"]
        assert set(world.motion[-1].joint_names) == set(NAMES)
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in world.motion]
        # A frame that opens the deadman, where frames stayed away, repeats the stamp before.
        assert all(b >= a for a, b in itertools.pairwise(stamps))
        assert abs(stamps[-1] - time.time()) < 2.0
        # One that opens the deadman has no number.
        latencies_ms = sorted(
            1e-6 * (came_ns - page.sent_ns[number])
            for came_ns, joy in zip(world.came_ns, world.buttons, strict=True)
            if (number := round(joy.axes[Axis.LEFT_TRIGGER] * 10_000)) in page.sent_ns
        )
        shares = np.percentile(latencies_ms, [0, 10, 50, 90, 99, 100])
        figures = ", ".join(f"{value:.2f}" for value in shares)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        frames = len(latencies_ms)
        print(f"page to topic, {frames} frames: min, p10, median, p90, p99, max {figures} ms; load {load}")

        def held():
            """Where frames stayed away, on a busy machine, what is held has to be pressed again."""
            count = len(world.buttons)
            page.squeeze = 0.0
            world.until(lambda: len(world.buttons) > count + 5, "frames")
            page.squeeze = 1.0
            world.until(lambda: len(world.buttons) > count + 15, "frames")
            return world.buttons[-1].axes[Axis.LEFT_SQUEEZE] == 1.0

        world.until(held, "held deadman")
        feedback = world.node.create_publisher(JoyFeedbackArray, topics.FEEDBACK, 10)
        world.until(lambda: feedback.get_subscription_count() > 0, "subscription to the feedback")
        rumble = JoyFeedback(type=JoyFeedback.TYPE_RUMBLE, id=1, intensity=0.5)
        feedback.publish(JoyFeedbackArray(array=[rumble]))
        wanted = {"type": "rumble", "side": "right", "intensity": 0.5}
        world.until(lambda: wanted in page.texts, "rumble on the page")
        world.until(lambda: "clock_offset_s" in world.numbers(), "diagnostics")
        told = world.numbers()
        assert float(told["clock_offset_s"]) == pytest.approx(-Page.AHEAD_S, abs=0.05)
        assert told["sequence_gaps"] == "0" and told["device"] == "test"
        page.close()
        world.until(lambda: world.buttons[-1].axes[Axis.LEFT_SQUEEZE] == 0.0, "open deadman")
        world.until(lambda: "lost" in world.words(), "lost state")
        again = Page(url)
        world.until(lambda: world.words()[-1] == "tracking", "the page that came back")
        again.close()
        assert world.finish() == 0
        assert "Traceback" not in world.log()


def test_the_trainer_is_shown_the_station(tmp_path):
    """Cameras, arms, task and episode, only while somebody looks."""
    model = load_robot(robot_description_file("kestrel"))
    camera = next(iter(model.description.cameras))
    with station(
        tmp_path, "robot:=kestrel", "skill:=lift", "instruction:='Lift it'", domain=DOMAIN + 1
    ) as world:

        def say(topic, word, **values):
            publisher = world.node.create_publisher(DiagnosticStatus, topic, topics.latched_qos())
            pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
            publisher.publish(DiagnosticStatus(message=word, values=pairs))
            return publisher

        kept = [
            say(
                "/kestrel/retargeting/state",
                "tracking",
                reason="",
                left_clutch="following",
                right_clutch="lost",
            ),
            say("/kestrel/recorder/episode", "idle", quality="failed", quality_reasons='["too short"]'),
            say("/kestrel/session/state", "running", episode="2", episodes="5"),
        ]
        images = world.node.create_publisher(Image, f"/kestrel/camera/{camera}/image", topics.stream_qos(10))
        url = world.url()
        world.until(lambda: "waiting" in world.words(), "waiting state")
        assert images.get_subscription_count() == 0, "nobody looks"
        page = Page(url)
        world.until(lambda: images.get_subscription_count() > 0, "subscription to the camera")
        picture = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(48 * 192))

        def shown():
            picture.header.stamp = world.node.get_clock().now().to_msg()
            images.publish(picture)
            return len(page.pictures) > 2

        world.until(shown, "pictures on the page")
        world.until(lambda: page.status().get("episode", {}).get("verdict") == "rejected", "verdict")
        status = page.status()
        assert status["robot"] == "kestrel"
        assert status["task"] == {"skill": "lift", "instruction": "Lift it"}
        assert status["retargeting"]["arms"]["right"]["state"] == "lost"
        assert status["episode"]["number"] == "2" and status["episode"]["reasons"] == ["too short"]
        assert page.pictures[0][16 : 16 + page.pictures[0][2]].decode() == camera
        assert page.pictures[0][16 + page.pictures[0][2] :][:2] == b"\xff\xd8"
        page.close()
        world.until(lambda: images.get_subscription_count() == 0, "end of the subscription")
        assert world.finish() == 0
        assert len(kept) == 3


class Recorder:
    """The recorder's side of what the menu sign does."""

    def __init__(self, world):
        self.called, self.refusal = [], ""
        self._world = world
        self._publisher = world.node.create_publisher(
            DiagnosticStatus, "/kestrel/recorder/episode", topics.latched_qos()
        )
        for name in ("start", "stop"):
            world.node.create_service(
                Trigger, f"/kestrel/recorder/{name}", lambda _, answer, name=name: self._answer(name, answer)
            )
        self.say("idle")

    def say(self, word):
        self._publisher.publish(DiagnosticStatus(message=word))

    def _answer(self, name, response):
        self.called.append(name)
        response.success, response.message = not self.refusal, self.refusal or name
        if response.success:
            self.say("recording" if name == "start" else "idle")
        return response


def give_sign(world, page, told):
    """Menu pressed until the page is told of it; again where frames stay away on a busy machine."""
    known = (page.status().get("notice") or {}).get("number", 0)

    def answered():
        count = len(world.buttons)
        page.menu = 0
        world.until(lambda: len(world.buttons) > count + 5, "frames")
        page.menu, ends_s = 1, time.monotonic() + 2.0
        world.until(lambda: notice()["number"] > known or time.monotonic() > ends_s, "frames")
        return notice()["number"] > known

    def notice():
        return page.status().get("notice") or {"number": 0, "text": ""}

    world.until(answered, "an answer to the sign")
    page.menu = 0
    world.until(lambda: told in notice()["text"], f"{told!r} on the page, not {notice()}")
    return notice()


def test_the_menu_sign_starts_and_ends_an_episode_by_the_recorder(tmp_path):
    """Without a session; refused by no recorder, by what the recorder says, and by the emergency stop."""
    with station(tmp_path, "robot:=kestrel", domain=DOMAIN + 2) as world:
        page = Page(world.url())
        world.until(lambda: len(world.motion) > 20, "motion")
        assert not give_sign(world, page, "no recorder runs here")["good"]
        recorder = Recorder(world)
        world.until(lambda: page.status().get("menu") == "start", "what the sign would do")
        # The node has to find the services first.
        world.until(lambda: give_sign(world, page, "")["good"], "the start")
        assert recorder.called == ["start"] and page.status()["notice"]["text"] == "Recording"
        world.until(lambda: page.status().get("menu") == "end", "what the sign would do")
        assert give_sign(world, page, "Episode ended")["good"]
        world.until(lambda: recorder.called == ["start", "stop"], "the stop")
        recorder.refusal = "the disk is full"
        assert give_sign(world, page, "Not started: the disk is full")["good"] is False
        recorder.refusal = "still joining /tf, /tf_static; ask again in a moment"
        assert not give_sign(world, page, "Not started: the recorder is still connecting")["good"]
        wanted = {"type": "rumble", "side": "right", "intensity": 0.6}
        world.until(lambda: wanted in page.texts, "a rumble")
        world.until(lambda: {**wanted, "intensity": 0.0} in page.texts, "the end of the rumble")
        stop = world.node.create_publisher(
            DiagnosticStatus, "/kestrel/retargeting/state", topics.latched_qos()
        )
        stop.publish(DiagnosticStatus(message="emergency_stop"))
        world.until(lambda: page.status().get("retargeting", {}).get("state") == "emergency_stop", "the stop")
        assert not give_sign(world, page, "emergency stop")["good"]
        assert recorder.called == ["start", "stop", "start", "start"]
        page.close()
        assert world.finish() == 0 and "Traceback" not in world.log()


def test_the_menu_sign_goes_to_the_session(tmp_path):
    """The headset's state asks for a repetition; what the session is doing is the answer."""
    with station(tmp_path, "robot:=kestrel", "start:=service", domain=DOMAIN + 3) as world:
        session = world.node.create_publisher(
            DiagnosticStatus, "/kestrel/session/state", topics.latched_qos()
        )

        def say(phase, **more):
            pairs = {"phase": phase, "episode": "3", "episodes": "9", **more}
            values = [KeyValue(key=key, value=value) for key, value in pairs.items()]
            session.publish(DiagnosticStatus(message="running", values=values))

        say("completing")
        page = Page(world.url())
        world.until(lambda: len(world.motion) > 20, "motion")
        world.until(lambda: page.status().get("menu") == "", "the session")
        assert not give_sign(world, page, "Not yet: the last one is being written")["good"]
        call = world.node.create_client(Trigger, "/trainer/headset/halt")
        world.until(call.service_is_ready, "the service")
        halted = call.call_async(Trigger.Request())
        world.until(halted.done, "the halt")
        say("waiting")
        world.until(lambda: page.status().get("menu") == "start", "what the sign would do")
        assert give_sign(world, page, "Starting")["good"]
        world.until(lambda: world.words()[-1] == "asked", "the question for a repetition")
        say("engaging")
        say("waiting", reason="not engaged within 30 s: no deadman is held")
        world.until(
            lambda: "Not started: not engaged" in page.status()["notice"]["text"], "the reason on the page"
        )
        say("recording")
        world.until(lambda: page.status()["notice"]["text"] == "Recording 3 of 9", "the beginning")
        page.close()
        assert world.finish() == 0 and "Traceback" not in world.log()


def test_compressed_cameras_go_to_the_page_as_they_are(tmp_path):
    """A JPEG passes unchanged; what is none is told once, and a camera may come late."""
    cameras = list(load_robot(robot_description_file("kestrel")).description.cameras)
    jpeg = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
    with station(tmp_path, "robot:=kestrel", domain=85) as world:
        page = Page(world.url())
        world.until(lambda: len(world.motion) > 5, "motion")
        publishers = {
            name: world.node.create_publisher(
                CompressedImage, f"/kestrel/camera/{name}/image", topics.stream_qos(10)
            )
            for name in cameras[:2]
        }
        world.until(lambda: all(p.get_subscription_count() for p in publishers.values()), "subscriptions")

        def shown():
            for name, publisher in publishers.items():
                data = jpeg if name == cameras[0] else b"\x89PNG" + bytes(60)
                message = CompressedImage(format="jpeg" if name == cameras[0] else "png", data=data)
                message.header.stamp = world.node.get_clock().now().to_msg()
                publisher.publish(message)
            return len(page.pictures) > 2 and "cannot be shown" in world.log()

        world.until(shown, "pictures")
        for picture in page.pictures:
            end = 16 + picture[2]
            assert picture[16:end].decode() == cameras[0] and picture[end:] == jpeg
        assert f"camera {cameras[1]} cannot be shown" in world.log() and "'png'" in world.log()
        page.close()
        assert world.finish() == 0
