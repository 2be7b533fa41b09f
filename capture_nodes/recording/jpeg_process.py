"""Camera images to JPEG in a process of its own.

Pillow holds the interpreter while it encodes: in the process of a thread with a deadline, each picture of a
camera would delay it by milliseconds. The process is told messages on stdin and answers on stdout; it ends
with the one who started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from typing import IO

from capture_nodes.recording.camera_image import UnusableImage, read_image
from capture_nodes.recording.jpeg_encoder import encode_jpeg

# Length of the message and quality; whether it became a picture, and the length of that or of the reason.
_ASKED, _ANSWERED = struct.Struct("<IB"), struct.Struct("<BI")
_NICENESS = 15
_END_TIMEOUT_S = 2.0


class JpegProcess:
    """Started by the first picture, and again by the next one after it died. Used by one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def encode(self, message: bytes, quality: int) -> tuple[int, bytes]:
        """Stamp (ns) and JPEG of a `sensor_msgs/Image` (CDR). Raises `UnusableImage`."""
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise UnusableImage("the process that encodes pictures has no pipes")
        try:
            stdin.write(_ASKED.pack(len(message), quality))
            stdin.write(message)
            stdin.flush()
            good, length = _ANSWERED.unpack(_read(stdout, _ANSWERED.size))
            answer = _read(stdout, length)
        except (OSError, EOFError):
            self.close()
            raise UnusableImage("the process that encodes pictures ended") from None
        if not good:
            raise UnusableImage(answer.decode())
        return int.from_bytes(answer[:8], "little", signed=True), answer[8:]

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def main() -> None:
    """Encode what comes until nothing more can."""
    # The end is told by the pipe: an interrupt of the terminal goes to whoever started this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            length, quality = _ASKED.unpack(_read(stdin, _ASKED.size))
            message = _read(stdin, length)
            try:
                image = read_image(message)
                answer = image.stamp_ns.to_bytes(8, "little", signed=True) + encode_jpeg(image, quality)
                good = 1
            except UnusableImage as error:
                answer, good = str(error).encode(), 0
            stdout.write(_ANSWERED.pack(good, len(answer)) + answer)
            stdout.flush()


if __name__ == "__main__":
    main()
