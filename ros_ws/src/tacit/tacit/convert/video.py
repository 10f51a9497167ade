"""Video files: read by PyAV with the time of every frame (AV1, HEVC, VP9 too), written by OpenCV.

OpenCV rounds colours down on the way to YUV: grey 128 comes back as 123 to 126.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from tacit.errors import EpisodeError, MissingDependencyError
from tacit.images import Image, check_rgb

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

FOURCC = "mp4v"
"""MPEG-4 part 2: the wheel of OpenCV encodes it everywhere; H.264 is not in it."""


MISCOUNT = 2
"""Frames by which a sound file may overstate its length."""
EVEN = 0.25
"""Share of a period by which a frame may be early or late where the rate counts as even."""


class VideoInfo(NamedTuple):
    """What a file holds: frame count, size [px] and mean rate [Hz]."""

    frames: int
    height: int
    width: int
    fps: float


class Clock(NamedTuple):
    """When the frames of a video are shown: at an even rate [Hz], else at stamps [s] from the first one."""

    frames: int
    rate: float
    stamps: tuple[float, ...] = ()

    @property
    def times(self) -> np.ndarray:
        """When each frame is shown (F,) [s], the first at 0."""
        return np.array(self.stamps) if self.stamps else np.arange(self.frames) / self.rate

    @property
    def duration(self) -> float:
        """How long the frames are shown [s], the last one as long as a mean one."""
        return float(self.times[-1]) + 1 / self.rate

    def nearest(self, moments: np.ndarray) -> np.ndarray:
        """Return the frame nearest to each moment [s] i8."""
        times = self.times
        return np.searchsorted((times[1:] + times[:-1]) / 2, moments).astype(np.int64)


def write_video(path: str | Path, frames: Iterable[Image], fps: float) -> int:
    """Write RGB frames (H, W, 3) uint8 of one size as mp4; returns their number.

    Raises:
        EpisodeError: No frame, frames of several sizes, or the file cannot be written.
    """
    writer: cv2.VideoWriter | None = None
    count, size = 0, (0, 0)
    try:
        for count, frame in enumerate(frames, 1):
            height, width = check_rgb(frame).shape[:2]
            if writer is None:
                size = (width, height)
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*FOURCC), fps, size)
                if not writer.isOpened():
                    raise EpisodeError(f"{path}: cannot be written as {FOURCC}; does the folder exist?")
            if (width, height) != size:
                raise EpisodeError(
                    f"{path}: frame {count - 1} is {width}x{height}, the first one {size[0]}x{size[1]}"
                )
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise EpisodeError(f"{path}: no frame to write")
    return count


def probe_video(path: str | Path) -> VideoInfo:
    """Open a video, decode its first and last frame, and return what it holds.

    Some writers count a frame or two more than there are; then all frames are counted.

    Raises:
        EpisodeError: Missing, no video, without frames, or cut off before its last frame.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(path) as (container, stream):
        index = _Index(container, stream)
        claimed = max(stream.frames, len(index.stamps))
        first = next(index.decoded(0), None)
        if first is None:
            raise EpisodeError(f"{path}: no frame can be decoded")
        last = claimed - 1
        count = claimed
        if next((i for i, _ in index.decoded(last) if i == last), None) is None:
            count = sum(1 for _ in index.decoded(0))
        if count < claimed - MISCOUNT:
            raise EpisodeError(f"{path}: says {claimed} frames, but only {count} can be decoded; cut off?")
        clock = index.clock(count)
        alone = not stream.frames and len(container.streams) == 1  # only the length of the file is known
        missing = (container.duration or 0) / 1e6 - clock.duration
        if alone and missing * clock.rate > MISCOUNT:
            raise EpisodeError(f"{path}: the last {missing:.2f} s of it cannot be decoded; cut off?")
        height, width = _image(first[1]).shape[:2]
        return VideoInfo(clock.frames, height, width, clock.rate)


def read_clock(path: str | Path) -> Clock:
    """Return when the frames of a video are shown, by its own stamps; nothing is decoded.

    Raises:
        EpisodeError: Missing, no video, or without frames.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(path) as (container, stream):
        index = _Index(container, stream)
        if not len(index.stamps):
            raise EpisodeError(f"{path}: holds no frame")
        return index.clock(len(index.stamps))


def read_frames(path: str | Path, frames: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the named frames (F, H, W, 3) RGB uint8; indices never decrease.

    Decoding starts at the last key frame before the first one; a frame is known by its stamp.

    Raises:
        EpisodeError: Missing, no video, damaged, or it ends before a wanted frame.
        ValueError: Indices that decrease or are negative.
        MissingDependencyError: PyAV is not installed.
    """
    wanted = np.asarray(frames, dtype=np.int64)
    if not wanted.size or (np.diff(wanted) < 0).any() or wanted[0] < 0:
        raise ValueError(f"frames {wanted[:8].tolist()}...: expected indices from 0 on that never decrease")
    with _opened(path) as (container, stream):
        decoded, number, image = _Index(container, stream).decoded(int(wanted[0])), -1, None
        kept: list[Image] = []
        for index in wanted.tolist():
            while number < index or image is None:
                number, frame = next(decoded, (index + 1, None))
                if frame is None or number > index:
                    raise EpisodeError(
                        f"{path}: ends before frame {index}; it is cut off, or its frame count is wrong"
                    )
                if frame.is_corrupt:
                    raise EpisodeError(f"{path}: frame {number} is damaged; fetch or write the file again")
                image = _image(frame) if number == index else None
            kept.append(image)
    return np.stack(kept)


def iterate_frames(path: str | Path) -> Iterator[Image]:
    """Yield every frame (H, W, 3) RGB uint8, one by one.

    Raises:
        EpisodeError: Missing, no video, or damaged.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            yield _image(frame)


class _Index:
    """Stamps of all frames of a file in the order in which they are shown, and where decoding may start."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        packets = [each for each in container.demux(stream) if each.size and not each.is_discard]
        self._stamped = all(each.pts is not None for each in packets)
        pts = [number if each.pts is None else each.pts for number, each in enumerate(packets)]
        self.stamps = np.sort(np.array(pts if self._stamped else range(len(packets)), np.int64))
        self._keys = sorted(
            (each.pts, each.pts if each.dts is None else each.dts)
            for each in packets
            if each.is_keyframe and each.pts is not None
        )

    def clock(self, count: int) -> Clock:
        """Return the clock of the first `count` frames."""
        stream = self._stream
        mean = float(stream.average_rate or stream.base_rate or 1)
        count = min(count, len(self.stamps))
        if not self._stamped or count < 2 or not stream.time_base:
            return Clock(count, mean)
        times = (self.stamps[:count] - self.stamps[0]) * float(stream.time_base)
        if not times[-1] > 0:
            return Clock(count, mean)
        rate = (count - 1) / float(times[-1])
        if abs(rate - mean) < EVEN * mean / count:  # equal but for the ticks of the file
            rate = mean
        late = np.abs(times - np.arange(count) / rate).max() * rate
        return Clock(count, rate, () if late < EVEN else tuple(np.round(times, 6).tolist()))

    def decoded(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames with their numbers, from `first` or a little before it."""
        number, start = 0, (0, 0)
        if self._stamped and len(self.stamps):
            at = self.stamps[min(first, len(self.stamps) - 1)]
            start = max((key for key in self._keys if key[0] <= at), default=(0, int(self.stamps[0])))
        self._container.seek(start[1], stream=self._stream)
        for number, frame in enumerate(self._container.decode(self._stream)):
            if self._stamped and frame.pts is not None:
                number = int(np.searchsorted(self.stamps, frame.pts))
            yield number, frame


def _image(frame: av.VideoFrame) -> Image:
    """Return a frame as it is to be seen: telephones write turned frames and the turn beside them."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Open the video of a file; what FFmpeg says becomes our error."""
    try:
        import av
    except ImportError:
        raise MissingDependencyError(
            f"{path}: PyAV, which reads videos, is missing; pip install av"
        ) from None
    if not Path(path).is_file():
        raise EpisodeError(f"{path}: no such video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise EpisodeError(f"{path}: cannot be opened as a video; there is none in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as problem:
        raise EpisodeError(
            f"{path}: cannot be opened or decoded as a video ({problem.strerror}); it is damaged or of an "
            "unknown codec"
        ) from None
