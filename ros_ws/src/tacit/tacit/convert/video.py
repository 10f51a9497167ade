"""Read and write video files by OpenCV: frames as RGB arrays, and what a file claims to hold.

OpenCV rounds colours down on the way to YUV and back: grey 128 comes back as 123 to 126.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tacit.errors import EpisodeError
from tacit.images import Image, check_rgb

FOURCC = "mp4v"
"""MPEG-4 part 2: the wheel of OpenCV encodes it everywhere; H.264 is not in it."""


MISCOUNT = 2
"""Frames by which a sound file may overstate its length."""


class VideoInfo(NamedTuple):
    """What a file holds: frame count, size [px] and rate [Hz]."""

    frames: int
    height: int
    width: int
    fps: float


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
    """
    capture = _open(path)
    try:
        info = _info(capture)
        if info.frames < 1 or not capture.read()[0]:
            raise EpisodeError(f"{path}: no frame can be decoded")
        capture.set(cv2.CAP_PROP_POS_FRAMES, info.frames - 1)
        ends = capture.read()[0]
    finally:
        capture.release()
    return info if ends else _counted(path, info)


def _counted(path: str | Path, info: VideoInfo) -> VideoInfo:
    """Return what a video holds by decoding all of it."""
    capture, count = _open(path), 0
    try:
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if count < info.frames - MISCOUNT:
        raise EpisodeError(f"{path}: says {info.frames} frames, but only {count} can be decoded; cut off?")
    return info._replace(frames=count)


def read_frames(path: str | Path, frames: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the named frames (F, H, W, 3) RGB uint8; indices never decrease.

    Frames are decoded in order, not sought: seeking is inexact in files with B-frames.

    Raises:
        EpisodeError: Missing, no video, or it ends before a wanted frame.
        ValueError: Indices that decrease or are negative.
    """
    wanted = np.asarray(frames, dtype=np.int64)
    if not wanted.size or (np.diff(wanted) < 0).any() or wanted[0] < 0:
        raise ValueError(f"frames {wanted[:8].tolist()}...: expected indices from 0 on that never decrease")
    capture = _open(path)
    try:
        kept, position = [], -1
        for index in wanted.tolist():
            if index != position:
                image = _decode_at(capture, position, index, path)
                position = index
            kept.append(image)
    finally:
        capture.release()
    return np.stack(kept)


def iterate_frames(path: str | Path) -> Iterator[Image]:
    """Yield every frame (H, W, 3) RGB uint8, one by one.

    Raises:
        EpisodeError: Missing, or no video.
    """
    capture = _open(path)
    try:
        while (read := capture.read())[0]:
            yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    finally:
        capture.release()


def _decode_at(capture: cv2.VideoCapture, position: int, index: int, path: str | Path) -> Image:
    for _ in range(index - position - 1):
        capture.grab()
    ok, image = capture.read()
    if not ok:
        raise EpisodeError(f"{path}: ends before frame {index}; it is cut off, or its frame count is wrong")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _open(path: str | Path) -> cv2.VideoCapture:
    if not Path(path).is_file():
        raise EpisodeError(f"{path}: no such video")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise EpisodeError(f"{path}: cannot be opened as a video; it is damaged or of an unknown codec")
    return capture


def _info(capture: cv2.VideoCapture) -> VideoInfo:
    count, height, width = (
        int(capture.get(key))
        for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
    )
    return VideoInfo(count, height, width, float(capture.get(cv2.CAP_PROP_FPS)))
