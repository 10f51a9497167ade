"""Videos of LeRobot data sets by PyAV: written frame by frame, and read from where an episode begins."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from tacit.errors import EpisodeError
from tacit.images import Image

if TYPE_CHECKING:
    import av

Codec = Literal["av1", "h264"]
ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "av1": ("libsvtav1", {"crf": "30", "g": "2", "preset": "12"}),
    "h264": ("libx264", {"crf": "23", "g": "2"}),
}
"""Encoder and options; AV1 as LeRobot writes it. Each second frame is a key frame, for random reads."""
PIXELS = "yuv420p"
MAX_DENOMINATOR = 10_010
"""Of a frame rate: 29.97 is 2997/100."""


@functools.lru_cache(maxsize=64)
def can_encode(codec: Codec, height: int, width: int) -> bool:
    """Whether this build encodes pictures of a size: tried, for it depends on the library inside."""
    import av

    _quiet()
    if height % 2 or width % 2:  # the colours of yuv420p have half the size
        return False
    name, options = ENCODERS[codec]
    try:
        context = cast("av.VideoCodecContext", av.CodecContext.create(name, "w"))
        context.width, context.height, context.pix_fmt = width, height, PIXELS
        context.time_base, context.options = Fraction(1, 30), options
        blank = np.zeros((height, width, 3), np.uint8)
        context.encode(_frame(blank, 0))
        context.encode(None)
    except (av.FFmpegError, ValueError):
        return False
    return True


def _quiet() -> None:
    """Let SVT-AV1 report errors alone; it greets on stderr at every file."""
    os.environ.setdefault("SVT_LOG", "1")


def _frame(image: Image, index: int) -> av.VideoFrame:
    import av

    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=PIXELS)
    frame.pts = index
    return frame


class VideoWriter:
    """One mp4 of RGB frames at a constant rate.

    Attributes:
        num_frames, num_bytes: Taken so far.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int, codec: Codec) -> None:
        """Start the file.

        Raises:
            EpisodeError: The encoder does not take the size.
        """
        import av

        _quiet()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.num_frames, self.num_bytes, self._packets = path, 0, 0, 0
        name, options = ENCODERS[codec]
        rate = Fraction(fps).limit_denominator(MAX_DENOMINATOR)
        with _problems(path, "written"):
            self._container = av.open(str(path), "w")
            stream = self._container.add_stream(name, rate=rate, options=options)
            self._stream = cast("av.VideoStream", stream)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, PIXELS
            self._stream.codec_context.time_base = 1 / rate

    def add(self, image: Image) -> None:
        """Append one frame (H, W, 3) RGB uint8."""
        with _problems(self.path, "written"):
            self._mux(_frame(image, self.num_frames))
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            EpisodeError: It does not hold a packet for each frame, or the disk is full.
        """
        with _problems(self.path, "written"):
            if self.num_frames:
                self._mux(None)
            self._container.close()
        if self._packets != self.num_frames:
            raise EpisodeError(f"{self.path}: {self._packets} frames encoded of {self.num_frames}")

    def abandon(self) -> None:
        """Close after a failure, whatever the file is worth."""
        import av

        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._packets += 1
            self.num_bytes += packet.size
            self._container.mux(packet)


def read_video(path: Path, times_s: Sequence[float] | np.ndarray, fps: float) -> Iterator[Image]:
    """Yield the frames (H, W, 3) RGB uint8 at the given times of a file, which increase [s].

    Args:
        path: The file; other episodes may be in it.
        times_s: When each frame is shown, from the beginning of the file.
        fps: Rate of the frames; a frame further than half a period from its time is another one.

    Raises:
        EpisodeError: Missing, damaged, or without a frame at one of the times.
    """
    import av

    if not path.is_file():
        raise EpisodeError(f"{path}: no such video; it was not copied with the data set")
    half = 0.5 / fps
    with _problems(path, "read"), av.open(str(path)) as container:
        if not container.streams.video:
            raise EpisodeError(f"{path}: holds no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        base = float(stream.time_base or 0)
        if times_s[0] > half:  # to the key frame before
            container.seek(int((times_s[0] - half) / base), stream=stream)
        decoded = (
            (float(frame.pts * base), frame) for frame in container.decode(stream) if frame.pts is not None
        )
        for index, wanted in enumerate(times_s):
            shown, frame = next(((t, f) for t, f in decoded if t > wanted - half), (None, None))
            if shown is None or frame is None or shown > wanted + half:
                raise EpisodeError(
                    f"{path}: no frame at {wanted:.3f} s (frame {index} of the episode): the video is cut "
                    "off, or has another rate than the data set"
                )
            yield frame.to_ndarray(format="rgb24")


@contextlib.contextmanager
def _problems(path: Path, what: str) -> Iterator[None]:
    """Turn what FFmpeg says into an error that names the file; a full disk passes through."""
    import av

    try:
        yield
    except av.FFmpegError as problem:
        if isinstance(problem, OSError) and problem.errno and what == "written":
            raise OSError(problem.errno, problem.strerror or str(problem), str(path)) from None
        raise EpisodeError(f"{path}: cannot be {what} as a video ({problem.strerror})") from None
