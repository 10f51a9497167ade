"""`tacit view alignment`: a page of plots, and videos with progress drawn over the picture.

Pictures come from `frames/<video>.npy` (T, H, W, 3) u1 beside the features, where a set has them.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tacit.config.arguments import parse_words
from tacit.convert.video import write_video
from tacit.errors import ConfigError
from tacit.progress import DetectorConfig
from tacit.view.draw import Image
from tacit.view.page import Page
from tacit.view.progress_video import Bar, draw_progress
from tacit_learning.alignment.arguments import ViewAlignment as Arguments
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.commands.evaluate_alignment import videos_of
from tacit_learning.alignment.commands.plots import alignment_plot, progress_plot
from tacit_learning.alignment.data.videos import Video, load_annotated, load_pictures
from tacit_learning.alignment.judge.events import states_of
from tacit_learning.alignment.judge.predict import Prediction, predict

SHOWN_MODES = ("online", "start", "start+class")


@dataclass(frozen=True)
class Shown:
    """One video, what the model says of it, and its pictures (T, H, W, 3) if there are any."""

    video: Video
    prediction: Prediction
    pictures: NDArray[np.uint8] | None


def main(argv: Sequence[str]) -> int:
    """Run `tacit view alignment`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit view alignment")
    trained = load_alignment(arguments.run, arguments.checkpoint)
    folder = arguments.data or trained.config.data.folder
    if folder is None:
        raise ConfigError(f"{arguments.run}: was trained on episodes; give the annotated videos with --data")
    splits = (arguments.split,)
    annotated = load_annotated(folder, splits, trained.config.data.pictures)
    videos = videos_of(trained, annotated, splits)
    predictions = predict(trained.model, videos)
    chosen = list(zip(videos.videos, predictions, strict=True))[: arguments.videos]
    shown = [
        Shown(video, prediction, load_pictures(folder, video.annotation)) for video, prediction in chosen
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    for item in shown:
        if item.pictures is not None:
            target = arguments.out / f"{item.video.annotation.name}.mp4"
            count = write_video(target, overlay_frames(item), item.video.annotation.fps)
            console.print(f"{target}: {count} frames")
    title = f"Alignment and progress: {Path(arguments.run).name}"
    path = make_page(title, f"split {arguments.split} of {folder}", shown).save(arguments.out / "index.html")
    console.print(str(path))
    return 0


def make_page(title: str, subtitle: str, shown: Sequence[Shown]) -> Page:
    """Put the videos that lie beside it, progress, and alignment with the first video on a page."""
    page = Page(title, subtitle)
    page.section("Progress", "Bands are the true steps; red bands are stalls, falls and cuts.")
    for item in shown:
        annotation, said = item.video.annotation, item.prediction
        page.heading(annotation.name)
        if item.pictures is not None:
            name = html.escape(quote(f"{annotation.name}.mp4"))
            page.block(f'<video controls preload="metadata" src="{name}"></video>')
        if said.video is not None:
            truth = item.video.progress.double().numpy()
            page.plot(progress_plot(annotation, truth, {"ours": said.video}), "Progress of the video")
        actions = {mode: said.action[mode] for mode in SHOWN_MODES if mode in said.action}
        if actions:
            truth = item.video.action.double().numpy()
            page.plot(progress_plot(annotation, truth, actions), "Progress of the action")
    if len(shown) > 1:
        page.section("Alignment", "The nearest frame in embedding space; right where the lines meet.")
        first = shown[0]
        for other in shown[1:]:
            a, b = first.video.annotation, other.video.annotation
            plot = alignment_plot(a, b, first.prediction.embeddings, other.prediction.embeddings)
            page.plot(plot, f"{a.name} and {b.name}")
    return page


def overlay_frames(item: Shown, detector: DetectorConfig | None = None) -> Iterator[Image]:
    """Yield the pictures of a video with progress, steps and states drawn on them."""
    said, annotation = item.prediction, item.video.annotation
    assert item.pictures is not None
    numbers = annotation.step_per_frame()
    mode = next((mode for mode in SHOWN_MODES if mode in said.action), None)
    judged = said.video if said.video is not None else np.zeros(len(item.video))
    states = states_of(judged, annotation.fps, detector or DetectorConfig(), said.motion)
    for t, picture in enumerate(item.pictures):
        bars = []
        if said.video is not None:
            bars.append(Bar("video", float(said.video[t]), float(item.video.progress[t])))
        if mode is not None:
            bars.append(Bar("action", float(said.action[mode][t]), float(item.video.action[t])))
        step = annotation.steps[numbers[t]] if numbers[t] >= 0 else ""
        state = states[t] if said.video is not None else "running"
        yield draw_progress(picture, bars, state, step)
