"""The frames of a camera as pictures, whichever way they were recorded.

Raw and JPEG frames stand for themselves. A frame of H.264 builds on those before it: it is decoded from the
last keyframe before it on, and no further back. One camera may have several topics in a file: a recorder
whose encoder failed went on in another form, and a topic has one type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes import cdr
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.message_types import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE

Pixels = NDArray[np.uint8]

CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE, COMPRESSED_VIDEO)
# `image_transport` appends the form to the name of the camera's topic.
_FORMS = ("/compressed", "/foxglove")
# How many messages are fetched at first to find a keyframe among: one comes every second.
FETCHED_BEFORE = 40
_IDR = 5
# swscale's flags for bicubic, exact rounding and full chroma; PyAV has no names for all of them before 18.
_SMOOTH = 0x4 | 0x40000 | 0x2000
# Precedes the true size of a picture whose sides had to be made even, in a keyframe.
_SIZE_NOTE_UUID = bytes.fromhex("8f1c6be2d3a94f57b0d1e6a87c2f94b5")


def cameras(bag: Bag) -> dict[str, tuple[str, ...]]:
    """Topics of camera pictures by the camera's base topic, e.g. ``/kestrel/camera/head/image``."""
    found: dict[str, list[str]] = {}
    for topic, stream in bag.streams.items():
        if stream.type in CAMERA_TYPES and "/camera/" in topic and stream.count:
            base = topic
            for form in _FORMS:
                base = base.removesuffix(form)
            found.setdefault(base, []).append(topic)
    return {base: tuple(topics) for base, topics in sorted(found.items())}


def pictures(bag: Bag, topic: str, indices: Sequence[int]) -> dict[int, Pixels]:
    """Pictures ``(height, width, 3)`` RGB of a topic by message index, without those a cut file lacks.

    Raises `EpisodeError` where one cannot be decoded.
    """
    stream = bag.stream(topic)
    wanted = sorted({int(index) for index in indices})
    if stream.type != COMPRESSED_VIDEO:
        found = bag.large_messages(topic, wanted)
        return {index: bag.large_image(topic, index, found[index]) for index in wanted if index in found}
    result: dict[int, Pixels] = {}
    decoder = VideoDecoder()
    at = -1
    for index in wanted:
        # What was decoded for the last one serves this one, unless a keyframe is nearer.
        group = _group(bag, topic, index, at + 1)
        if not group:
            continue
        if min(group) != at + 1:
            decoder = VideoDecoder()
        for k in sorted(group):
            picture = _decoded(bag, topic, k, decoder, group[k], k == index)
            if k == index and picture is not None:
                result[index] = picture
        at = index
    return result


def every_picture(bag: Bag, topic: str) -> Iterator[tuple[int, Pixels]]:
    """(message index, picture) of a whole topic in order, some at a time in memory; as `pictures`.

    Frames of video before the first keyframe (of a file that was cut at its head) are left out.
    """
    stream = bag.stream(topic)
    decoder = VideoDecoder()
    for first in range(0, stream.count, FETCHED_BEFORE):
        wanted = range(first, min(first + FETCHED_BEFORE, stream.count))
        found = bag.large_messages(topic, wanted)
        for index in wanted:
            if index not in found:
                # A gap breaks the chain of what builds on each other.
                decoder = VideoDecoder()
            elif stream.type == COMPRESSED_VIDEO:
                picture = _decoded(bag, topic, index, decoder, found[index], True)
                if picture is not None:
                    yield index, picture
            else:
                yield index, bag.large_image(topic, index, found[index])


class VideoDecoder:
    """Frames of one `foxglove_msgs/CompressedVideo` topic (H.264), one message after another."""

    def __init__(self) -> None:
        self._context: Any = None
        self._size: tuple[int, int] | None = None

    def decode(self, message: bytes, wanted: bool = True) -> Pixels | None:
        """The picture of this message; None before the first keyframe, or where it is not wanted.

        Raises `MalformedMessage` where it is not CDR, not H.264 or not one whole frame.
        """
        packet = video_packet(message)
        if is_keyframe(packet):
            self._size = _noted_size(packet)
        elif self._context is None:
            return None
        av = _import_av()
        if self._context is None:
            self._context = av.CodecContext.create("h264", "r")
            # Several threads would hold frames back.
            self._context.thread_count = 1
        try:
            frames = self._context.decode(av.Packet(packet))
        except av.FFmpegError as error:
            raise cdr.MalformedMessage(f"is no H.264 frame: {error.strerror or error}") from error
        if len(frames) != 1:
            raise cdr.MalformedMessage(f"holds {len(frames)} frames of video, exactly one is expected")
        if not wanted:
            return None
        picture = rgb_pixels(frames[0])
        if self._size is not None:
            width, height = self._size
            if (width + width % 2, height + height % 2) == (picture.shape[1], picture.shape[0]):
                picture = np.ascontiguousarray(picture[:height, :width])
        return picture


def rgb_pixels(frame: Any) -> Pixels:
    """``(height, width, 3)`` RGB of a decoded frame of PyAV, colours interpolated between their samples.

    Range and matrix are those the frame is flagged with.
    """
    pixels: Pixels = frame.reformat(format="rgb24", interpolation=_SMOOTH, threads=1).to_ndarray()
    return pixels


def video_packet(message: bytes) -> bytes:
    """The Annex B packet of a `foxglove_msgs/CompressedVideo`. Raises `MalformedMessage`."""
    data, form = cdr.compressed_video(message, cdr.header(message)[2])
    if form != "h264":
        raise cdr.MalformedMessage(f"video format {form!r}: h264 can be decoded")
    return data


def is_keyframe(packet: bytes) -> bool:
    """Whether an Annex B packet holds an IDR picture: decoding may begin with it."""
    position = packet.find(b"\0\0\1")
    while position >= 0:
        if position + 3 < len(packet) and packet[position + 3] & 31 == _IDR:
            return True
        position = packet.find(b"\0\0\1", position + 3)
    return False


def _noted_size(packet: bytes) -> tuple[int, int] | None:
    """(width, height) from the recorder's note, None where it left none: the picture is then as it was."""
    at = packet.find(_SIZE_NOTE_UUID)
    if at < 1:
        return None
    text = packet[at + len(_SIZE_NOTE_UUID) : at + packet[at - 1]]
    width, _, height = text.partition(b"x")
    return (int(width), int(height)) if width.isdigit() and height.isdigit() else None


def _group(bag: Bag, topic: str, index: int, after: int) -> dict[int, bytes]:
    """Messages from the last keyframe up to ``index``, or from ``after`` on if none is nearer; {} if gone."""
    reach = FETCHED_BEFORE
    while True:
        first = max(after, index - reach)
        found = bag.large_messages(topic, range(first, index + 1))
        if index not in found:
            return {}
        group: dict[int, bytes] = {}
        for k in range(index, first - 1, -1):
            if k not in found:
                return {}
            group[k] = found[k]
            if _starts(bag, topic, k, found[k]):
                return group
        if first == after:
            return group
        reach *= 4


def _starts(bag: Bag, topic: str, index: int, message: bytes) -> bool:
    try:
        return is_keyframe(video_packet(message))
    except cdr.MalformedMessage as error:
        raise _cannot(bag, topic, index, error) from error


def _decoded(
    bag: Bag, topic: str, index: int, decoder: VideoDecoder, message: bytes, wanted: bool
) -> Pixels | None:
    try:
        return decoder.decode(message, wanted)
    except cdr.MalformedMessage as error:
        raise _cannot(bag, topic, index, error) from error


def _cannot(bag: Bag, topic: str, index: int, error: Exception) -> EpisodeError:
    return EpisodeError(bag.path, f"{topic}: video frame {index} cannot be decoded: {error}")


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise EpisodeError(
            None,
            f"video needs the package `av` (PyAV), which cannot be imported ({error}): install it with pip",
        ) from error
    return av
