"""How one camera goes into one file: as H.264, JPEG or raw, a step further down whenever something fails.

H.264 that takes too long is made faster first (`FAST`: larger for the same picture). Raw takes the disk
instead of the processor, so what is recorded raw for want of time is bounded.

A stream that changes its encoding changes its type, and a topic has one type: each form has its own topic,
the ones `image_transport` looks for (`compressed`; `foxglove` is the name of its plugin for CompressedVideo).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from capture_nodes.errors import CaptureError, error_text
from capture_nodes.recording.camera_image import (
    COMPRESSED_IMAGE,
    COMPRESSED_VIDEO,
    IMAGE,
    Image,
    UnusableImage,
    compressed_image,
    compressed_video,
    read_image,
)
from capture_nodes.recording.jpeg_encoder import encode_jpeg, jpeg_format
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.video_encoder import (
    LARGEST_BITS_PER_PIXEL,
    SOFTWARE,
    H264Encoder,
    VideoParameters,
    begins_picture,
)

Encoding = Literal["h264", "jpeg", "raw"]
ENCODINGS: tuple[Encoding, ...] = ("h264", "jpeg", "raw")
TYPES: Mapping[Encoding, str] = {"h264": COMPRESSED_VIDEO, "jpeg": COMPRESSED_IMAGE, "raw": IMAGE}
TOPIC_SUFFIXES: Mapping[Encoding, str] = {"h264": "/foxglove", "jpeg": "/compressed", "raw": ""}
_QOS = "offered_qos_profiles"
_ENCODED_FROM = "encoded_from"
# x264's fastest preset takes half the time of the default one, and three times the bits.
FAST = "ultrafast"
_FAST_BITS = 3.0


@dataclass(frozen=True)
class CameraSettings:
    """encoding: what to begin every file with. rate_hz: expected, the cap of the bit rate follows it.

    raw_limit_bytes: what a camera may put into a file raw because nothing else keeps up.
    """

    encoding: Encoding = "h264"
    rate_hz: float = 30.0
    jpeg_quality: int = 90
    video: VideoParameters = field(default_factory=VideoParameters)
    raw_limit_bytes: int = 1024 * 1024 * 1024

    def problems(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = self.video.problems()
        if self.encoding not in ENCODINGS:
            found.append(f"encoding is {self.encoding!r}: one of {', '.join(ENCODINGS)} is expected")
        if not 0.1 <= self.rate_hz <= 1000.0:
            found.append(f"rate_hz is {self.rate_hz:g}: 0.1 to 1000 is allowed")
        if not 1 <= self.jpeg_quality <= 100:
            found.append(f"jpeg_quality is {self.jpeg_quality}: 1 to 100 is allowed")
        if self.raw_limit_bytes < 0:
            found.append(f"raw_limit_bytes is {self.raw_limit_bytes}: 0 or more is expected")
        return found


@dataclass(frozen=True)
class EncodingStep:
    """`topic` (the camera's) is recorded as `after` instead of `before` from the frame of `log_ns` on."""

    topic: str
    log_ns: int
    before: str
    after: str
    reason: str

    def __str__(self) -> str:
        return f"{self.topic} is recorded as {self.after} instead of {self.before}: {self.reason}"


@dataclass
class CameraFigures:
    """What became of one camera in one file. `unusable` frames were recorded raw as they came.

    `raw_bytes` were recorded raw because nothing else kept up. `lost_queue`, behind the encoder too, is known
    once all is written.
    """

    topic: str
    encoder: str = ""
    frames: dict[Encoding, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    raw_bytes: int = 0
    cpu_s: float = 0.0
    keyframes: int = 0
    unusable: int = 0
    unusable_reason: str = ""
    lost_queue: int = 0
    longest_wait_s: float = 0.0
    steps: list[EncodingStep] = field(default_factory=list)

    def written_topics(self) -> dict[str, int]:
        """Frames by the topic they were written to."""
        return {
            self.topic + TOPIC_SUFFIXES[encoding]: self.frames[encoding]
            for encoding in ENCODINGS
            if encoding in self.frames
        }


def stands_alone(channel: ChannelDescription, data: Buffer) -> bool:
    """Whether a message can be read without the one before it: all but video between keyframes."""
    return channel.type_name != COMPRESSED_VIDEO or begins_picture(bytes(data))


def is_chained(channel: ChannelDescription) -> bool:
    """Whether it is video that was encoded here: a keyframe follows as soon as one of it is refused."""
    return channel.type_name == COMPRESSED_VIDEO and _ENCODED_FROM in channel.metadata


@dataclass(frozen=True)
class _Rung:
    """One way to record a camera; ``fast``: H.264 with `FAST`."""

    encoding: Encoding
    fast: bool = False

    def __str__(self) -> str:
        return f"{self.encoding} {FAST}" if self.fast else self.encoding


class CameraEncoder:
    """One camera in one file. Not thread-safe.

    ``channel`` is that of the images as they come; ``schemas`` holds the schema texts of the encoded types.
    ``codec`` is the H.264 encoder (`video_encoder.choose_encoder`); ``told`` hears of every step.
    """

    def __init__(
        self,
        channel: ChannelDescription,
        settings: CameraSettings,
        schemas: Mapping[str, str],
        codec: str = SOFTWARE,
        told: Callable[[EncodingStep], None] | None = None,
    ) -> None:
        problems = settings.problems()
        if problems:
            raise CaptureError(f"{channel.topic}: {'; '.join(problems)}")
        self.figures = CameraFigures(channel.topic)
        self._channel = channel
        self._settings = settings
        self._schemas = schemas
        self._codec = codec
        self._told = told
        self._video: H264Encoder | None = None
        self._keyframe = False
        self._channels: dict[Encoding, ChannelDescription] = {"raw": channel}
        # A camera that compresses itself is recorded as it is.
        encoding: Encoding = settings.encoding if channel.type_name == IMAGE else "raw"
        self._rungs = [_Rung(name) for name in ENCODINGS[ENCODINGS.index(encoding) :]]
        if encoding == "h264" and codec == SOFTWARE and settings.video.preset != FAST:
            self._rungs.insert(1, _Rung("h264", fast=True))
        # Where it is, and how far up it may go: what has failed is not tried again.
        self._at = self._best = 0

    @property
    def encoding(self) -> Encoding:
        return self._rungs[self._at].encoding

    @property
    def may_rise(self) -> bool:
        """Whether it is recorded cheaper than it could be, for want of time."""
        return self._at > self._best

    def encode(self, data: Buffer, log_ns: int) -> tuple[ChannelDescription, Buffer]:
        """The message to be written for this one, and its channel. Never fails: raw is always left."""
        figures = self.figures
        figures.bytes_in += len(data)
        used: Encoding = "raw"
        encoded: Buffer = data
        try:
            # Raw is not even looked at.
            image = read_image(data) if self.encoding != "raw" else None
            while image is not None and self.encoding != "raw":
                try:
                    encoded = self._encoded(image)
                    used = self.encoding
                    break
                except UnusableImage:
                    raise
                except Exception as error:
                    self._failed(error, log_ns)
        except UnusableImage as error:
            # The camera's fault, not the encoder's: this one as it is, the next has its own chance.
            figures.unusable += 1
            if figures.unusable == 1:
                self._tell(EncodingStep(self._channel.topic, log_ns, self.encoding, "raw", str(error)))
            figures.unusable_reason = str(error)
        figures.bytes_out += len(encoded)
        figures.frames[used] = figures.frames.get(used, 0) + 1
        if self.encoding == "raw" and self.may_rise:
            figures.raw_bytes += len(encoded)
            if self._raw_is_full:
                megabytes = self._settings.raw_limit_bytes / 1e6
                self.step_up(f"{megabytes:.0f} MB raw are allowed for want of time", log_ns)
        return self._channel_of(used), encoded

    def step_down(self, reason: str, log_ns: int) -> None:
        """Record the next frames cheaper: nothing below raw, and not raw where that has had its share."""
        below = self._at + 1
        if below == len(self._rungs) or (self._rungs[below].encoding == "raw" and self._raw_is_full):
            return
        self._move(below, reason, log_ns)

    def step_up(self, reason: str, log_ns: int) -> None:
        """Record the next frames better, though not by what has failed; H.264 begins with a keyframe."""
        if self.may_rise:
            self._move(self._at - 1, reason, log_ns)

    def _move(self, to: int, reason: str, log_ns: int) -> None:
        before, after = self._rungs[self._at], self._rungs[to]
        self._at = to
        self._video = None
        self._tell(EncodingStep(self._channel.topic, log_ns, str(before), str(after), reason))

    @property
    def _raw_is_full(self) -> bool:
        return self.figures.raw_bytes >= self._settings.raw_limit_bytes

    def frame_lost(self) -> None:
        """What `encode` gave last did not get into the file: what follows must not build upon it."""
        self._keyframe = True

    def _encoded(self, image: Image) -> bytes:
        if self.encoding == "jpeg":
            self.figures.encoder = "jpeg"
            picture = encode_jpeg(image, self._settings.jpeg_quality)
            return compressed_image(image, picture, jpeg_format(image.encoding))
        video = self._video
        if video is None or not video.fits(image):
            image.colour_rows()
            parameters = self._settings.video
            if self._rungs[self._at].fast:
                bits = min(_FAST_BITS * parameters.max_bits_per_pixel, LARGEST_BITS_PER_PIXEL)
                parameters = replace(parameters, preset=FAST, max_bits_per_pixel=bits)
            video = self._video = H264Encoder(image, parameters, self._settings.rate_hz, self._codec)
            self.figures.encoder = self._codec
        before = video.keyframes
        packet = video.encode(image, self._keyframe)
        self._keyframe = False
        self.figures.keyframes += video.keyframes - before
        return compressed_video(image, packet)

    def _failed(self, error: Exception, log_ns: int) -> None:
        reason = error_text(error)
        if self.encoding == "h264" and self._codec != SOFTWARE:
            before, self._codec, self._video = self._codec, SOFTWARE, None
            self._tell(EncodingStep(self._channel.topic, log_ns, before, SOFTWARE, reason))
        else:
            # Not another preset of what has failed.
            failed = self.encoding
            self._best = next(
                k for k, rung in enumerate(self._rungs) if k > self._at and rung.encoding != failed
            )
            self._move(self._best, reason, log_ns)

    def _tell(self, step: EncodingStep) -> None:
        self.figures.steps.append(step)
        if self._told is not None:
            self._told(step)

    def _channel_of(self, encoding: Encoding) -> ChannelDescription:
        channel = self._channels.get(encoding)
        if channel is None:
            type_name = TYPES[encoding]
            # A type hash in the camera's own metadata would be that of the wrong type.
            metadata = {key: value for key, value in self._channel.metadata.items() if key == _QOS}
            metadata[_ENCODED_FROM] = self._channel.topic
            metadata["encoder"] = self.figures.encoder
            channel = self._channels[encoding] = ChannelDescription(
                self._channel.topic + TOPIC_SUFFIXES[encoding], type_name, self._schemas[type_name], metadata
            )
        return channel
