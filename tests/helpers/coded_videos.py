"""Videos of any codec whose frames are shown at any moments, written by PyAV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

TICKS = 60_000  # a second; MPEG-4 knows no finer ones
OPTIONS = {"libsvtav1": {"preset": "12"}, "libx265": {"x265-params": "log-level=none"}}
STEP = 8  # grey levels between two frames of `ramp`; OpenCV loses up to three


def ramp(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Frames that get lighter: 20, 28, 36, ..."""
    return [np.full((height, width, 3), STEP * i + 20, np.uint8) for i in range(count)]


def shown(video: np.ndarray) -> list[int]:
    """Which frames of a ramp these are."""
    return np.rint((video.mean(axis=(1, 2, 3)) - 20) / STEP).astype(int).tolist()


def write_coded(
    path: Path, frames: Sequence[np.ndarray], times_s: Sequence[float] | float, codec: str = "libx264"
) -> Path:
    """Write frames at moments [s], or at a rate [Hz]; the header of an mp4 comes first."""
    import av

    os.environ.setdefault("SVT_LOG", "1")
    times = np.arange(len(frames)) / times_s if isinstance(times_s, float) else np.asarray(times_s)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        rate = Fraction((len(frames) - 1) / float(times[-1]) if len(frames) > 1 else 15.0)
        stream = file.add_stream(codec, rate=rate.limit_denominator(1001), options=OPTIONS.get(codec, {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if path.suffix != ".avi":  # which counts frames
            stream.codec_context.time_base = Fraction(1, TICKS)
        for image, moment in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(float(moment) * TICKS), Fraction(1, TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
