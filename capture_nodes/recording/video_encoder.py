"""Camera images to H.264, one packet per frame at once, as `foxglove_msgs/CompressedVideo` wants them.

Annex B, no B-frames, SPS and PPS in every keyframe, a keyframe first and then at least every second of the
stamps. Colours are limited range with the matrix of BT.601 and flagged so: what a decoder that reads the
flags takes, and one that assumes them. 4:2:0 has even sides only: an odd image gets its last column or row
twice, and each keyframe says the true size (`size_note`).

PyAV is imported on first use: who records no H.264 needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.recording.camera_image import COLOUR_ENCODINGS, Image

if TYPE_CHECKING:
    import av

SOFTWARE = "libx264"
# What PyAV may offer of them depends on its build; each is believed only once it has done the work (`probe`).
HARDWARE = ("h264_nvenc", "h264_qsv", "h264_vaapi", "h264_videotoolbox", "h264_v4l2m2m", "h264_amf")
PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
)  # fmt: skip

# That of the picture itself, uncompressed.
LARGEST_BITS_PER_PIXEL = 24.0
# A keyframe comes after so many frames also where the stamps stand still.
LONGEST_GROUP = 300
IDR, SEI, SPS, PPS = 5, 6, 7, 8
# Marks our note in the bitstream (an H.264 "user data unregistered" message); holds no zero byte.
SIZE_NOTE_UUID = bytes.fromhex("8f1c6be2d3a94f57b0d1e6a87c2f94b5")

_SOURCE = {"rgb8": "rgb24", "bgr8": "bgr24", "rgba8": "rgba", "bgra8": "bgra", "mono8": "gray"}
# Without what makes pictures prettier and further from the original.
_X264 = "keyint=infinite:scenecut=0:psy=0:aq-mode=0"
# Motion by quarters of a pixel and a second reference save 18 % of the bytes for a quarter more time, weighed
# rounding gives 0.25 dB for a tenth: more than the next preset gives, for less (benchmarks/video).
_X264_OF_PRESET = {"superfast": ":subme=2:ref=2:weightp=0:trellis=1"}
# ITU-T H.273: primaries of BT.709, transfer of sRGB, matrix of BT.601; swscale numbers that anew.
_PRIMARIES, _TRANSFER, _MATRIX, _SWS_BT601 = 1, 13, 6, 5
_LIMITED, _FULL = 1, 2


class EncoderFailed(CaptureError):
    """An encoder that is not there, refuses its parameters or breaks its word."""


@dataclass(frozen=True)
class VideoParameters:
    """crf: quality, lower is better and larger; preset: of x264, slower is smaller.

    max_bits_per_pixel caps what hard scenes take (averaged over a second) and is the target of hardware
    encoders, which have no comparable quality scale. hardware: whether to look for one.
    """

    preset: str = "superfast"
    crf: float = 19.5
    max_bits_per_pixel: float = 0.135
    keyframe_s: float = 1.0
    hardware: bool = True

    def problems(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.preset not in PRESETS:
            found.append(f"preset is {self.preset!r}: one of {', '.join(PRESETS)} is expected")
        for name, low, high in (
            ("crf", 0.0, 51.0),
            ("max_bits_per_pixel", 0.005, LARGEST_BITS_PER_PIXEL),
            ("keyframe_s", 0.1, 10.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                found.append(f"{name} is {value:g}: {low:g} to {high:g} is allowed")
        return found


def nal_units(data: bytes) -> Iterator[tuple[int, int]]:
    """(type, offset of its start code) of every NAL unit of an Annex B packet."""
    position = data.find(b"\0\0\1")
    while position >= 0:
        if position + 3 < len(data):
            yield data[position + 3] & 31, position - (position > 0 and data[position - 1] == 0)
        position = data.find(b"\0\0\1", position + 3)


def begins_picture(packet: bytes) -> bool:
    """Whether an Annex B packet can be decoded without any before it."""
    return any(kind == IDR for kind, _ in nal_units(packet))


def size_note(width: int, height: int) -> bytes:
    """A NAL unit that tells the size before it was made even: as text behind `SIZE_NOTE_UUID`."""
    text = SIZE_NOTE_UUID + f"{width}x{height}".encode("ascii")
    return b"\0\0\0\1" + bytes((SEI, 5, len(text))) + text + b"\x80"


class H264Encoder:
    """One stream of frames of one size and encoding. Raises `EncoderFailed` (PyAV's own errors inside it).

    ``rate_hz``: what the camera should deliver; only the cap of the bit rate depends on it.
    """

    def __init__(
        self, image: Image, parameters: VideoParameters, rate_hz: float = 30.0, codec: str = SOFTWARE
    ) -> None:
        av = import_av()
        from av.video.reformatter import VideoReformatter

        self.codec = codec
        self.keyframes = 0
        self._shape = (image.width, image.height, image.encoding)
        self._even = (image.width + image.width % 2, image.height + image.height % 2)
        self._note = size_note(image.width, image.height) if self._even != self._shape[:2] else b""
        self._keyframe_ns = round(parameters.keyframe_s * 1e9)
        self._index = 0
        self._group = 0
        self._key_stamp_ns = 0
        self._stamp_ns = 0
        self._reformatter = VideoReformatter()
        try:
            self._context: Any = av.CodecContext.create(codec, "w")
            self._format = _pixel_format(self._context)
            _configure(self._context, self._even, self._format, parameters, rate_hz)
            self._context.open()
            # Owned and aligned: swscale may read some bytes beyond a row.
            self._source = av.VideoFrame(*self._even, _SOURCE[image.encoding])
        except KeyError:
            raise EncoderFailed(
                f"{codec} takes {', '.join(COLOUR_ENCODINGS)}, not {image.encoding!r}"
            ) from None
        except (av.FFmpegError, ValueError) as error:
            raise EncoderFailed(f"{codec} cannot encode {self._what()}: {_reason(error)}") from error
        plane = self._source.planes[0]
        self._rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: self._even[1]]

    def _what(self) -> str:
        width, height, encoding = self._shape
        return f"{width}x{height} {encoding}"

    def fits(self, image: Image) -> bool:
        """Whether ``image`` can be the next frame of this stream."""
        return self._shape == (image.width, image.height, image.encoding)

    def encode(self, image: Image, keyframe: bool = False) -> bytes:
        """The packet of this frame; a keyframe where one is due or asked for."""
        av = import_av()
        self._fill(image.colour_rows())
        key = keyframe or self._keyframe_due(image.stamp_ns)
        try:
            frame = self._reformatter.reformat(
                self._source,
                format=self._format,
                src_color_range=_FULL,
                dst_color_range=_LIMITED,
                dst_colorspace=_SWS_BT601,
                threads=1,
            )
            frame.pts = self._index
            frame.time_base = self._context.time_base
            frame.pict_type = _picture_type(key)
            packets = self._context.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise EncoderFailed(
                f"{self.codec} failed on frame {self._index} of {self._what()}: {_reason(error)}"
            ) from error
        if len(packets) != 1:
            raise EncoderFailed(
                f"{self.codec} gave {len(packets)} packets for frame {self._index} of {self._what()}: "
                "exactly one at once is needed"
            )
        data = bytes(packets[0])
        if key:
            data = self._checked_keyframe(data)
            self.keyframes += 1
            self._key_stamp_ns = image.stamp_ns
            self._group = 0
        self._stamp_ns = image.stamp_ns
        self._index += 1
        self._group += 1
        return data

    def _fill(self, rows: NDArray[np.uint8]) -> None:
        width, height, encoding = self._shape
        depth = COLOUR_ENCODINGS[encoding]
        self._rows[:height, : width * depth] = rows
        if self._even[0] > width:
            self._rows[:height, width * depth : (width + 1) * depth] = rows[:, -depth:]
        if self._even[1] > height:
            self._rows[height] = self._rows[height - 1]

    def _keyframe_due(self, stamp_ns: int) -> bool:
        """Due when the next frame, as far behind this one as this behind the last, would come too late."""
        interval_ns = stamp_ns - self._stamp_ns
        return (
            self._index == 0
            or self._group >= LONGEST_GROUP
            or interval_ns < 0
            or stamp_ns - self._key_stamp_ns + interval_ns > self._keyframe_ns
        )

    def _checked_keyframe(self, data: bytes) -> bytes:
        units = list(nal_units(data))
        kinds = {kind for kind, _ in units}
        if not {IDR, SPS, PPS} <= kinds:
            raise EncoderFailed(
                f"{self.codec} gave a keyframe with NAL units {sorted(kinds)}: "
                f"{IDR}, {SPS} and {PPS} (Annex B with repeated headers) are needed"
            )
        if not self._note:
            return data
        at = next(offset for kind, offset in units if kind == IDR)
        return data[:at] + self._note + data[at:]


def import_av() -> Any:
    """PyAV. Raises `EncoderFailed` naming the package where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise EncoderFailed(
            f"H.264 needs the package `av` (PyAV), which cannot be imported ({error}): "
            "install it with pip, or record the cameras as jpeg or raw"
        ) from error
    return av


def _reason(error: Exception) -> str:
    """Without the dump of all options that PyAV appends."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _picture_type(key: bool) -> Any:
    from av.video.frame import PictureType

    return PictureType.I if key else PictureType.NONE


def _pixel_format(context: Any) -> str:
    offered = [str(entry.name) for entry in context.codec.video_formats or ()]
    for name in ("yuv420p", "nv12"):
        if name in offered or not offered:
            return name
    raise ValueError(f"takes {', '.join(offered)}, none of which is in main memory with 8 bits and 4:2:0")


def _configure(
    context: av.VideoCodecContext,
    size: tuple[int, int],
    pixel_format: str,
    parameters: VideoParameters,
    rate_hz: float,
) -> None:
    rate = Fraction(rate_hz).limit_denominator(1000)
    context.width, context.height = size
    context.pix_fmt = pixel_format
    context.framerate = rate
    context.time_base = 1 / rate
    context.thread_count = 1
    context.max_b_frames = 0
    context.color_range, context.colorspace = _LIMITED, _MATRIX
    context.color_primaries, context.color_trc = _PRIMARIES, _TRANSFER
    cap = max(20_000, round(parameters.max_bits_per_pixel * size[0] * size[1] * float(rate)))
    if context.codec.name == SOFTWARE:
        context.options = {
            "preset": parameters.preset,
            "tune": "zerolatency",
            "crf": f"{parameters.crf:g}",
            "maxrate": str(cap),
            "bufsize": str(cap),
            "forced-idr": "1",
            "x264-params": _X264 + _X264_OF_PRESET.get(parameters.preset, ""),
        }
        return
    context.bit_rate = cap
    context.gop_size = LONGEST_GROUP * 2
    # An option an encoder does not know is left aside by FFmpeg.
    context.options = {
        "forced-idr": "1",
        "forced_idr": "1",
        "async_depth": "1",
        "delay": "0",
        "zerolatency": "1",
        "tune": "ll",
        "realtime": "1",
    }


@dataclass(frozen=True)
class ChosenEncoder:
    """Which encoder is used, and why none of the preferred ones (empty where none was tried)."""

    codec: str
    rejected: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.rejected:
            return self.codec
        return f"{self.codec} (not {'; not '.join(f'{name}: {why}' for name, why in self.rejected.items())})"


@lru_cache(maxsize=8)
def choose_encoder(parameters: VideoParameters, candidates: Sequence[str] = HARDWARE) -> ChosenEncoder:
    """The first encoder that really works; x264 where no hardware does. Raises `EncoderFailed` if nothing.

    Takes some milliseconds to a second, once: call it before a recording starts.
    """
    rejected: dict[str, str] = {}
    for codec in (*(candidates if parameters.hardware else ()), SOFTWARE):
        try:
            probe(codec, parameters)
        except EncoderFailed as error:
            rejected[codec] = str(error)
        else:
            return ChosenEncoder(codec, rejected)
    raise EncoderFailed(f"no H.264 encoder works: {'; '.join(rejected.values())}")


PROBE_FRAMES = 6


def probe(codec: str, parameters: VideoParameters) -> None:
    """Encode and decode a few frames. Raises `EncoderFailed` where a packet, keyframe or picture is wrong."""
    av = import_av()
    column, row = np.meshgrid(np.arange(320), np.arange(240))
    pictures = [
        np.stack([(column + 3 * k) % 256, (row + 5 * k) % 256, (row + column) // 4], axis=-1).astype(np.uint8)
        for k in range(PROBE_FRAMES)
    ]
    encoder: H264Encoder | None = None
    packets = []
    for k, picture in enumerate(pictures):
        image = Image((0, k * 33_000_000), b"", 240, 320, "rgb8", 960, picture.reshape(-1))
        if encoder is None:
            encoder = H264Encoder(image, parameters, 30.0, codec)
        packets.append(encoder.encode(image, keyframe=k == PROBE_FRAMES // 2))
    for first in (0, PROBE_FRAMES // 2):
        decoder = av.CodecContext.create("h264", "r")
        try:
            frames = [f for packet in packets[first:] for f in decoder.decode(av.Packet(packet))]
            frames += decoder.decode(None)
        except av.FFmpegError as error:
            raise EncoderFailed(f"{codec}: what it encodes cannot be decoded: {_reason(error)}") from error
        if len(frames) != PROBE_FRAMES - first:
            raise EncoderFailed(f"{codec}: {PROBE_FRAMES - first} frames encoded, {len(frames)} decoded")
        for frame, picture in zip(frames, pictures[first:], strict=True):
            away = float(np.median(np.abs(frame.to_ndarray(format="rgb24").astype(np.int16) - picture)))
            if away > 12.0:
                raise EncoderFailed(f"{codec}: decoded pictures are off by {away:g} of 255 and more")
