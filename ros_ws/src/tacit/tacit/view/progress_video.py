"""Progress over the picture: bars, the step, the state of the task; `tacit view progress`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import tyro
from rich.console import Console

from tacit.bundle.manifest import Manifest
from tacit.bundle.runtime import OnnxProgress
from tacit.config.arguments import NewFile, parse_words
from tacit.convert.video import write_video
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError, did_you_mean
from tacit.progress import DetectorConfig, TaskState, detector_of
from tacit.progress.follow import Reading, changes, follow
from tacit.view.draw import COLORS, GROUND, Color, Image, draw_label, enlarge, picture

BAR_HEIGHT, BAR_GAP = 14, 6
MIN_WIDTH = 320
"""Smaller images are enlarged by a whole factor: text needs room."""
STATE_COLORS: dict[TaskState, Color] = {
    "running": COLORS[1],
    "done": COLORS[2],
    "failed": (255, 72, 60),
    "stalled": COLORS[0],
    "regressed": COLORS[3],
    "invalid": COLORS[4],
}


class Bar(NamedTuple):
    """One value in 0..1 with its name; `truth` is marked by a tick where it is known."""

    name: str
    value: float
    truth: float | None = None


def draw_progress(
    image: Image, bars: Sequence[Bar], state: TaskState = "running", text: str = "", failure: str = ""
) -> Image:
    """Put bars below the picture, the state in its upper left corner and text in its lower left one.

    Args:
        image: (H, W, 3) RGB u1.
        bars: From top to bottom; a value that is not finite leaves its bar empty.
        state: State of the task; `running` is not written.
        text: Such as the name of the step.
        failure: Its kind, said after the state `failed`.

    Returns:
        A taller image, enlarged by a whole factor where it is narrow.
    """
    picture = enlarge(image, max(1, -(-MIN_WIDTH // image.shape[1])))
    if text:
        picture = draw_label(picture, text, (4, picture.shape[0] - 6))
    if state != "running":
        said = f"{state}: {failure}" if state == "failed" and failure else state
        picture = draw_label(picture, said, (4, 16), STATE_COLORS[state])
    strips = [_strip(picture.shape[1], bar, STATE_COLORS[state]) for bar in bars]
    return np.concatenate([picture, *strips, np.full((BAR_GAP, picture.shape[1], 3), GROUND, np.uint8)])


def _strip(width: int, bar: Bar, color: Color) -> Image:
    """Draw one bar (BAR_GAP + BAR_HEIGHT, W, 3) with its name and value."""
    strip = np.full((BAR_GAP + BAR_HEIGHT, width, 3), GROUND, np.uint8)
    left, right = 4, width - 5
    cv2.rectangle(strip, (left, BAR_GAP), (right, BAR_GAP + BAR_HEIGHT - 1), (70, 74, 80), cv2.FILLED)
    known = np.isfinite(bar.value)
    if known:
        end = left + round(float(np.clip(bar.value, 0, 1)) * (right - left))
        cv2.rectangle(strip, (left, BAR_GAP), (end, BAR_GAP + BAR_HEIGHT - 1), color, cv2.FILLED)
    if bar.truth is not None:
        x = left + round(float(np.clip(bar.truth, 0, 1)) * (right - left))
        cv2.line(strip, (x, BAR_GAP - 3), (x, BAR_GAP + BAR_HEIGHT - 1), (255, 255, 255), 2)
    label = f"{bar.name} {100 * bar.value:.0f} %" if known else f"{bar.name} unknown"
    origin = (left + 4, BAR_GAP + BAR_HEIGHT - 4)
    cv2.putText(strip, label, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(strip, label, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return strip


@dataclass(frozen=True)
class Options:
    """Run a progress bundle over a recorded episode and write a video of what it says."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """The .onnx file of a progress model."""
    episode: Annotated[Path, tyro.conf.Positional]
    """A recorded episode."""
    out: NewFile | None = None
    """The video; <episode>_progress.mp4 when left out."""
    camera: str | None = None
    """Whose pictures to show; the first camera when left out."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """Thresholds of done, failure, stall and regression; those of the bundle where they are left out."""


def main(argv: list[str]) -> int:
    """Run `tacit view progress BUNDLE EPISODE`; returns the exit code."""
    options = parse_words(Options, argv, "tacit view progress")
    console = Console(highlight=False, soft_wrap=True)
    with EpisodeReader(options.episode) as reader:
        camera = _camera(reader, options.camera)
        estimator = OnnxProgress(options.bundle, reader.rig)
        readings = list(follow(estimator, reader, _thresholds(options, argv, estimator.manifest)))
        target = options.out or options.episode.with_name(f"{options.episode.stem}_progress.mp4")
        count = write_video(target, _frames(reader, camera, readings), estimator.manifest.rate_hz)
    first_ns = readings[0].stamp_ns
    for reading in changes(readings):
        seconds = (reading.stamp_ns - first_ns) / 1e9
        kind = f", {reading.kind}" if reading.state == "failed" and reading.kind else ""
        console.print(f"{seconds:7.2f} s  {reading.state:10s} progress {reading.progress:.2f}{kind}")
    console.print(f"{target}: {count} frames")
    return 0


def _thresholds(options: Options, argv: list[str], manifest: Manifest) -> DetectorConfig:
    """Return the thresholds of the bundle; what the arguments name is read once more, over those."""
    stated = replace(options, detector=detector_of(manifest))
    return parse_words(Options, argv, "tacit view progress", default=stated).detector


def _frames(reader: EpisodeReader, camera: str, readings: Sequence[Reading]) -> Iterator[Image]:
    steps = {tick: s.name for s in reader.steps for tick in range(s.start_frame, s.end_frame + 1)}
    for reading in readings:
        bars = [Bar("progress", reading.progress), Bar("done", reading.done)]
        if reading.failure is not None:
            bars.append(Bar("failure", reading.failure))
        image = picture(reader, camera, reading.tick)
        yield draw_progress(image, bars, reading.state, steps.get(reading.tick, ""), reading.kind)


def _camera(reader: EpisodeReader, wanted: str | None) -> str:
    names = (*reader.cameras, *reader.depth_cameras)
    if not names or (wanted is not None and wanted not in names):
        raise EpisodeError(f"{reader.path}: no camera {wanted or ''!r}; {did_you_mean(wanted or '', names)}")
    return wanted or names[0]
