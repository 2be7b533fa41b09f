"""Run by the kill tests: episode after episode at the recorder's load, until killed.

python episode_under_load.py FOLDER PROGRESS SEED

PROGRESS receives, after each step, one entry (episode, steady time in ns, messages handed over so far); it is
mapped, so that it is complete whenever the kill comes.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

import numpy as np

from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, EpisodeFile

ENTRY = struct.Struct("<QQQ")
ENTRIES = 100_000
STEP_S = 0.005
EPISODE_S = 0.8
# Rate, payload size and number of topics: joints, commands, wrenches, tactile, motion, cameras.
STREAMS = ((500, 1500, 1), (200, 1250, 1), (500, 100, 4), (100, 1100, 4), (90, 5000, 1), (30, 921_700, 3))


def main() -> None:
    folder, progress, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(seed)
    noise = rng.bytes(1_000_000)
    channels = [
        (ChannelDescription(f"/s{n}/{k}", "std_msgs/msg/String", "string data\n"), rate, size)
        for n, (rate, size, topics) in enumerate(STREAMS)
        for k in range(topics)
    ]
    with progress.open("r+b") as stream:
        mapped = mmap.mmap(stream.fileno(), ENTRIES * ENTRY.size)
    entry = 0
    print("ready", flush=True)
    for episode in range(1, 1000):
        file = EpisodeFile(folder / f"{episode:04d}.mcap")
        file.open()
        file.attach(Attachment("robot.urdf", "application/xml", b"<robot/>" * 1000), 1)
        file.add_metadata("episode_opening", {"id": f"{episode:04d}", "start_ns": "1"})
        counts = [0] * len(channels)
        begin_s = time.monotonic()
        now_s = begin_s
        while now_s - begin_s < EPISODE_S:
            for n, (channel, rate, size) in enumerate(channels):
                while counts[n] < (now_s - begin_s) * rate:
                    counts[n] += 1
                    at = round((now_s - begin_s) * 1e9)
                    data = b"%08d" % counts[n] + noise[counts[n] % 1000 : counts[n] % 1000 + size - 8]
                    file.write(channel, at, at, counts[n], data)
            file.flush_if_due()
            mapped[entry * ENTRY.size : (entry + 1) * ENTRY.size] = ENTRY.pack(
                episode, time.monotonic_ns(), sum(counts)
            )
            entry += 1
            time.sleep(STEP_S)
            now_s = time.monotonic()
        file.finish()


main()
