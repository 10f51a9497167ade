"""`tacit evaluate alignment`: a trained model beside the baselines, on videos that it has not seen.

Three tables: embeddings over pairs of videos, progress of actions, progress of the video; and where the
model tells them, steps and events. `--json` writes all numbers to a file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from tacit.config.arguments import parse_words
from tacit.progress import DetectorConfig
from tacit_learning.alignment.arguments import EvaluateAlignment as Arguments
from tacit_learning.alignment.checkpoints import TrainedAlignment, load_alignment
from tacit_learning.alignment.data.episode_videos import VALIDATION, read_tables
from tacit_learning.alignment.data.videos import (
    Annotated,
    VideoSet,
    at_rate,
    load_annotated,
    make_videos,
    without_steps,
)
from tacit_learning.alignment.judge.events import EventScores, event_scores, event_table
from tacit_learning.alignment.judge.metrics_segments import segmental_edit, segmental_f1
from tacit_learning.alignment.judge.predict import MODES, Prediction, predict
from tacit_learning.alignment.judge.scores import (
    Aim,
    Estimate,
    Labelled,
    baseline_scores,
    estimate_of,
    length_scores,
    pair_scores,
    phase_scores,
    progress_scores,
    score_table,
)
from tacit_learning.alignment.model.normalisers import FeatureScale
from tacit_learning.engine.processes import device_of

Scores = dict[str, float]
MODE_NAMES = {
    "online": "ours, online",
    "class": "ours, class told",
    "start": "ours, start told",
    "start+class": "ours, both told",
}
TEST, ACTION = "test", Aim("action")
TABLE_WIDTH = 130
"""Where the output is no terminal, whose width is known."""


@dataclass(frozen=True)
class Report:
    """All numbers: row name -> score name -> value, per table."""

    embeddings: dict[str, Scores]
    action: dict[str, Scores]
    video: dict[str, Scores]
    steps: Scores = field(default_factory=dict)
    lengths: dict[str, Scores] = field(default_factory=dict)
    events: dict[str, EventScores] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Run `tacit evaluate alignment`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit evaluate alignment")
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    trained = load_alignment(arguments.run, arguments.checkpoint)
    annotated = _annotated(trained, arguments.data)
    split = arguments.split or (TEST if TEST in annotated.annotations.splits else VALIDATION)
    report = evaluate(trained, annotated, split, arguments.events, arguments.detector, arguments.gru_steps)
    position = trained.checkpoint.position
    console.print(f"{trained.checkpoint.folder}: step {position.step}, split {split}", highlight=False)
    show(report, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    return 0


def evaluate(
    trained: TrainedAlignment,
    annotated: Annotated,
    split: str,
    event_splits: Sequence[str] = (),
    detector: DetectorConfig | None = None,
    gru_steps: int = 0,
) -> Report:
    """Compute all tables.

    Args:
        trained: The model.
        annotated: Training videos, for the baselines and classifiers, and the videos to score.
        split: Part to score.
        event_splits: Parts with annotated stalls and falls.
        detector: Its thresholds.
        gru_steps: Of the plain causal GRU; 0 leaves it out.

    Raises:
        AnnotationError: A label, a task or the width of features is not that of the training.
    """
    training = videos_of(trained, annotated, trained.config.data.train_splits)
    test = videos_of(trained, annotated, (split,))
    predictions = predict(trained.model, test)
    scale, labels = trained.model.scale, annotated.annotations.labels
    raw_train, raw_test = _scaled(training, annotated, scale), _scaled(test, annotated, scale)
    own_train = _embedded(raw_train, predict(trained.model, training))
    own_test = _embedded(raw_test, predictions)
    embeddings = {
        "ours": pair_scores(own_test, labels) | phase_scores(own_train, own_test, labels),
        "raw features": pair_scores(raw_test, labels) | phase_scores(raw_train, raw_test, labels),
    }
    level = trained.config.progress.level
    whole = Aim("video" if level == "action" else level, training.shares)
    by_time = trained.config.data.steps == "time"
    action = {} if by_time else _action_rows(raw_test, predictions)
    video = _video_rows(raw_test, predictions, whole)
    if by_time and video:
        seen = [Labelled(video.annotation, video.features) for video in test.videos]
        video["ours, against the time"] = _video_rows(seen, predictions, Aim("video"))["ours, online"]
    best = next((mode for mode in ("start", "online") if mode in predictions[0].action), None)
    lengths = {} if best is None or by_time else length_scores(_estimates(raw_test, predictions, best))
    return Report(
        embeddings,
        action | (baseline_scores(raw_train, raw_test, ACTION, gru_steps=gru_steps) if action else {}),
        video | (baseline_scores(raw_train, raw_test, whole, gru_steps=gru_steps) if video else {}),
        {} if by_time else _step_scores(test, predictions),
        lengths,
        _events(trained, annotated, (split, *event_splits), detector) if event_splits else {},
    )


def videos_of(trained: TrainedAlignment, annotated: Annotated, splits: Sequence[str]) -> VideoSet:
    """Return the videos of some parts with the labels, tasks and rate that the model was trained with."""
    if trained.config.data.steps == "time":
        annotated = without_steps(annotated)
    chosen = [video for split in splits for video in annotated.annotations.split(split)]
    wanted = [video for video in chosen if video.task in trained.known.tasks]
    return make_videos(annotated, wanted, trained.config.progress.level, like=trained.known)


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(score_table("Embeddings", report.embeddings))
    for title, rows in (("Progress of the action", report.action), ("Progress of the video", report.video)):
        if rows:
            console.print(score_table(title, rows))
    if report.steps:
        console.print(score_table("Steps told online", {"ours": report.steps}))
    if report.lengths:
        console.print(score_table("Progress of the action by its length [frames]", report.lengths))
    if report.events:
        console.print(event_table(report.events))


def _annotated(trained: TrainedAlignment, folder: Path | None) -> Annotated:
    """Read a folder, the one of the training, or the episodes of the training through its own encoder."""
    config = trained.config.data
    given = folder or config.folder
    if given is not None:
        return load_annotated(given, pictures=config.pictures, mstcn_fps=config.mstcn_fps)
    source, data = trained.source(), config.episodes
    assert source is not None and data is not None
    return source.annotate(read_tables(data), device_of(trained.config.train), config.steps == "annotated")


def as_json(report: Report) -> dict[str, object]:
    """Return the report as plain values."""
    return vars(report) | {"events": {name: vars(score) for name, score in report.events.items()}}


def _scaled(videos: VideoSet, annotated: Annotated, scale: FeatureScale) -> list[Labelled]:
    """Return the steps that people gave, and the features as the model sees them: z-scored, so that no unit
    counts more than another."""
    given = {video.name: video for video in annotated.annotations.videos}
    return [
        Labelled(at_rate(given[video.annotation.name], videos.fps), scale(video.features))
        for video in videos.videos
    ]


def _embedded(videos: Sequence[Labelled], predictions: Sequence[Prediction]) -> list[Labelled]:
    pairs = zip(videos, predictions, strict=True)
    return [Labelled(video.annotation, prediction.embeddings) for video, prediction in pairs]


def _estimates(videos: Sequence[Labelled], predictions: Sequence[Prediction], mode: str) -> list[Estimate]:
    pairs = zip(videos, predictions, strict=True)
    return [estimate_of(video, prediction.action[mode], ACTION) for video, prediction in pairs]


def _action_rows(videos: Sequence[Labelled], predictions: Sequence[Prediction]) -> dict[str, Scores]:
    modes = [mode for mode in MODES if mode in predictions[0].action]
    return {
        MODE_NAMES[mode]: progress_scores(_estimates(videos, predictions, mode), "action") for mode in modes
    }


def _video_rows(videos: Sequence[Labelled], predictions: Sequence[Prediction], aim: Aim) -> dict[str, Scores]:
    if predictions[0].video is None:
        return {}
    pairs = zip(videos, predictions, strict=True)
    estimates = [estimate_of(v, p.video, aim) for v, p in pairs if p.video is not None]
    return {"ours, online": progress_scores(estimates, aim.level)}


def _step_scores(videos: VideoSet, predictions: Sequence[Prediction]) -> Scores:
    """Score the class of every frame; empty where the head tells none."""
    told = [prediction.classes for prediction in predictions if prediction.classes is not None]
    if not told:
        return {}
    true = [video.labels.numpy() - 1 for video in videos.videos]
    scores = {
        "accuracy": float(np.mean([(a == b).mean() for a, b in zip(told, true, strict=True)])),
        "edit": float(np.mean([segmental_edit(a, b) for a, b in zip(told, true, strict=True)])),
    }
    return scores | {f"f1@{k}": segmental_f1(told, true, k / 100) for k in (10, 25, 50)}


def _events(
    trained: TrainedAlignment, annotated: Annotated, splits: Sequence[str], detector: DetectorConfig | None
) -> dict[str, EventScores]:
    found = {}
    for split in splits:
        videos = videos_of(trained, annotated, (split,))
        predictions = predict(trained.model, videos)
        progress = [prediction.video for prediction in predictions if prediction.video is not None]
        if progress:
            annotations = [video.annotation for video in videos.videos]
            motion = [prediction.motion for prediction in predictions]
            found[split] = event_scores(annotations, progress, detector or DetectorConfig(), motion)
    return found
