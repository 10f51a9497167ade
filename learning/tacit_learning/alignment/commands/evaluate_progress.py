"""`tacit evaluate progress`: what a model of progress is worth on whole episodes, failures among them.

Done, failure and false alarms as the detector on the robot would say them, with intervals; errors of progress
beside the baselines; the same on episodes that are played at other speeds, with pauses and retries; and how
well probabilities are meant. `--tune` fits the detector's thresholds to validation episodes and writes them
into a bundle; `--page` writes all of it as a page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tacit.bundle import load_bundle, save_detector
from tacit.config.arguments import parse_words
from tacit.errors import ConfigError
from tacit.progress import DetectorConfig, detector_of
from tacit.progress.detector import BEFORE
from tacit_learning.alignment.arguments import EvaluateProgress as Arguments
from tacit_learning.alignment.checkpoints import TrainedAlignment, load_alignment
from tacit_learning.alignment.commands.progress_page import save_page
from tacit_learning.alignment.data.episode_videos import VALIDATION, read_tables
from tacit_learning.alignment.data.videos import Annotated, Video, VideoSet, load_annotated, make_videos
from tacit_learning.alignment.judge.baselines import Aim, Labelled, fit_baselines
from tacit_learning.alignment.judge.predict import Prediction, predict
from tacit_learning.alignment.judge.tuning import tune
from tacit_learning.alignment.judge.verdicts import Tally, as_json, judge, said_of, tally
from tacit_learning.alignment.judge.warps import WARPS, warped
from tacit_learning.data.episodes import find_training_episodes, load_table
from tacit_learning.engine.processes import device_of

TEST = "test"
WIDEST = 4
SAID_BY_BASELINES = (
    "done, of successes",
    "called done, of failures",
    "called done early, of successes",
    "failures found",
    "false alarm, of successes",
)
"""What a terminal shows of them: they name no kinds, and all numbers stand on the page."""
GRU_STEPS = 200
BINS = 10


@dataclass(frozen=True)
class Report:
    """Counts of the model, of each baseline and of each warp; mean errors of progress; errors by step;
    calibration as (said, happened, number) per bin; and the thresholds."""

    detector: DetectorConfig
    ours: Tally
    baselines: dict[str, Tally]
    warps: dict[str, Tally]
    errors: dict[str, float]
    error_by_step: dict[str, float]
    calibration: dict[str, list[tuple[float, float, int]]]


def main(argv: Sequence[str]) -> int:
    """Run `tacit evaluate progress`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit evaluate progress")
    console = Console(width=None if sys.stdout.isatty() else 130, highlight=False)
    trained = load_alignment(arguments.run, arguments.checkpoint)
    own = _own_data(trained)
    detector = _detector(arguments, trained, own, console)
    asked, split = _asked(arguments, trained, own)
    training = _videos(trained, own, trained.config.data.train_splits)
    test = _videos(trained, asked, (split,))
    report = evaluate(trained, training, test, detector, arguments.gru_steps)
    show(report, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(plain(report), indent=1) + "\n", encoding="utf-8")
    if arguments.page is not None:
        predictions = predict(trained.model, test)
        save_page(arguments.page, str(arguments.run), plain(report), test, predictions, detector)
        console.print(f"page: {arguments.page}")
    return 0


def evaluate(
    trained: TrainedAlignment,
    training: VideoSet,
    test: VideoSet,
    detector: DetectorConfig,
    gru_steps: int = GRU_STEPS,
) -> Report:
    """Judge a model and the baselines on the same videos.

    Args:
        trained: The model.
        training: Its successes teach the baselines.
        test: Videos to judge.
        detector: Thresholds of the model.
        gru_steps: Of the plain causal GRU; 0 leaves it out.

    Raises:
        ConfigError: The model tells no progress of the video.
    """
    kinds = trained.known.failures
    predictions = predict(trained.model, test)
    if predictions[0].video is None:
        raise ConfigError(f"{trained.checkpoint.folder}: tells no progress of the video; train level=video")
    rivals = _baselines(trained, training, test, gru_steps)
    alone = DetectorConfig(done_above=BEFORE)
    return Report(
        detector,
        _tally(test, predictions, detector, kinds),
        {name: _tally(test, said, alone, ()) for name, said in rivals.items()},
        {name: _warped(trained, test, name, detector) for name in WARPS},
        {"ours": _error(test, predictions)} | {name: _error(test, said) for name, said in rivals.items()},
        _error_by_step(test, predictions),
        _calibration(test, predictions),
    )


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    columns = {"ours": report.ours, **report.warps}
    rows = {name: tally.rows() for name, tally in columns.items()}
    console.print(_table("What the detector says of whole episodes", rows))
    rival = {name: _in_short(tally.rows()) for name, tally in report.baselines.items()}
    if rival:
        console.print(_table("The same of the baselines, which tell progress alone", rival, WIDEST))
    errors = {name: {"mean error of progress": f"{value:.3f}"} for name, value in report.errors.items()}
    console.print(_table("", errors))
    steps = {name: {"mean error": f"{value:.3f}"} for name, value in report.error_by_step.items()}
    console.print(_table("Error of progress by step", steps))


def _in_short(rows: dict[str, str]) -> dict[str, str]:
    return {name: rows[name] for name in SAID_BY_BASELINES}


def plain(report: Report) -> dict[str, object]:
    """Return the report as plain values."""
    tallies = {
        name: {k: as_json(t) for k, t in getattr(report, name).items()} for name in ("baselines", "warps")
    }
    told = vars(report) | {"detector": report.detector.model_dump(), "ours": as_json(report.ours)}
    return told | tallies


def _own_data(trained: TrainedAlignment) -> Annotated:
    config = trained.config.data
    if config.folder is not None:
        return load_annotated(config.folder, pictures=config.pictures, mstcn_fps=config.mstcn_fps)
    source, episodes = trained.source(), config.episodes
    assert source is not None and episodes is not None
    return source.annotate(read_tables(episodes), device_of(trained.config.train))


def _asked(arguments: Arguments, trained: TrainedAlignment, own: Annotated) -> tuple[Annotated, str]:
    """Return the videos to judge, and their split."""
    config = trained.config.data
    if not arguments.data:
        known = own.annotations.splits
        return own, arguments.split or (TEST if TEST in known else VALIDATION)
    if config.folder is not None:
        found = load_annotated(arguments.data[0], pictures=config.pictures, mstcn_fps=config.mstcn_fps)
        return found, arguments.split or (TEST if TEST in found.annotations.splits else VALIDATION)
    source, episodes = trained.source(), config.episodes
    assert source is not None and episodes is not None
    chosen = episodes.model_copy(update={"datasets": tuple(map(str, arguments.data)), "only_success": False})
    table = load_table(find_training_episodes(chosen), chosen)
    return source.annotate({TEST: table}, device_of(trained.config.train)), TEST


def _detector(
    arguments: Arguments, trained: TrainedAlignment, own: Annotated, console: Console
) -> DetectorConfig:
    """Return the thresholds: fitted, those of the bundle, or the defaults for such a model."""
    bundle = load_bundle(arguments.bundle) if arguments.bundle else None
    base = DetectorConfig() if trained.model.outcome_net is not None else DetectorConfig(done_above=BEFORE)
    if not arguments.tune:
        return base if bundle is None else detector_of(bundle.manifest)
    held_out = _videos(trained, own, (trained.config.data.validation_split,))
    annotations = [video.annotation for video in held_out.videos]
    said = predict(trained.model, held_out)
    fitted = tune(annotations, said, trained.known.failures, arguments.false_alarms, base)
    changed = {k: v for k, v in fitted.model_dump().items() if v != getattr(base, k)}
    console.print(f"fitted to {len(annotations)} validation episodes: {changed}")
    if bundle is not None:
        assert arguments.bundle is not None
        save_detector(bundle, fitted.model_dump(), arguments.bundle)
        console.print(f"{arguments.bundle} is judged so from now on")
    return fitted


def _videos(trained: TrainedAlignment, annotated: Annotated, splits: Sequence[str]) -> VideoSet:
    chosen = [video for split in splits for video in annotated.annotations.split(split)]
    wanted = [video for video in chosen if video.task in trained.known.tasks]
    if not wanted:
        raise ConfigError(f"no episode in {', '.join(splits)}; the set has {annotated.annotations.splits}")
    return make_videos(annotated, wanted, trained.config.progress.level, like=trained.known)


def _tally(
    videos: VideoSet, predictions: Sequence[Prediction], config: DetectorConfig, kinds: Sequence[str]
) -> Tally:
    pairs = zip(videos.videos, predictions, strict=True)
    return tally(judge(v.annotation, said_of(p, videos.fps, config, kinds)) for v, p in pairs)


def _warped(trained: TrainedAlignment, test: VideoSet, name: str, detector: DetectorConfig) -> Tally:
    """Judge the successes played otherwise."""
    successes = [video for video in test.videos if video.annotation.success is not False]
    changed = replace(test, videos=tuple(warped(video, name, test.fps) for video in successes))
    return _tally(changed, predict(trained.model, changed), detector, trained.known.failures)


def _baselines(
    trained: TrainedAlignment, training: VideoSet, test: VideoSet, gru_steps: int
) -> dict[str, list[Prediction]]:
    """Return what each baseline says, after learning from the successes of the training."""
    scale = trained.model.scale
    good = [v for v in training.videos if v.annotation.success is not False]
    rows = [Labelled(v.annotation, scale(v.features).numpy()) for v in good]
    fitted = fit_baselines(rows, Aim("video"), gru_steps=gru_steps)
    said = {
        name: [_alone(baseline(v.annotation, scale(v.features).numpy())) for v in test.videos]
        for name, baseline in fitted.items()
    }
    told = [_alone(_by_class(video, trained)) for video in test.videos]
    return said | {"frame count with class": told}


def _by_class(video: Video, trained: TrainedAlignment) -> NDArray[np.float64]:
    """Return progress by the step that runs, which is told, and how long it usually takes."""
    annotation, seconds = video.annotation, trained.known.seconds
    order = annotation.task_steps or tuple(seconds)
    progress = np.zeros(annotation.num_frames)
    for segment in annotation.action_segments():
        if segment.name in order and segment.name in seconds:
            gone = np.arange(1, segment.length + 1) / annotation.fps / max(seconds[segment.name], 1e-9)
            value = (order.index(segment.name) + np.clip(gone, 0, 1)) / len(order)
            progress[segment.start : segment.end + 1] = value
            progress[segment.end + 1 :] = value[-1]
    return progress


def _alone(progress: NDArray[np.float64]) -> Prediction:
    """Return the prediction of somebody who tells progress alone."""
    return Prediction(np.zeros((len(progress), 0), np.float32), {}, progress.astype(np.float32), None, None)


def _error(videos: VideoSet, predictions: Sequence[Prediction]) -> float:
    found = []
    for video, said in zip(videos.videos, predictions, strict=True):
        mask = video.progress_mask.numpy()
        if mask.any() and said.video is not None:
            found.append(float(np.abs(said.video - video.progress.numpy())[mask].mean()))
    return float(np.mean(found)) if found else float("nan")


def _error_by_step(videos: VideoSet, predictions: Sequence[Prediction]) -> dict[str, float]:
    names = ("between steps", *videos.labels)
    found: dict[str, list[NDArray[np.float32]]] = {}
    for video, said in zip(videos.videos, predictions, strict=True):
        mask, labels = video.progress_mask.numpy(), video.labels.numpy()
        assert said.video is not None
        error = np.abs(said.video - video.progress.numpy())
        for number in np.unique(labels):
            found.setdefault(names[number], []).append(error[mask & (labels == number)])
    return {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}


def _calibration(
    videos: VideoSet, predictions: Sequence[Prediction]
) -> dict[str, list[tuple[float, float, int]]]:
    """Return per bin of probability: what was said in the mean, how often it happened, and of how many."""
    found = {}
    pairs = list(zip(videos.videos, predictions, strict=True))
    done = [(p.success, v.success.numpy(), v.success_mask.numpy()) for v, p in pairs if p.success is not None]
    wrong = [
        (1 - p.failure[:, 0], (v.failure > 0).numpy(), v.failure_mask.numpy())
        for v, p in pairs
        if p.failure is not None and p.failure.shape[1] > 1
    ]
    for name, rows in (("success", done), ("failure", wrong)):
        if rows:
            said, true = (np.concatenate([row[i][row[2]] for row in rows]) for i in (0, 1))
            found[name] = _bins(said.astype(np.float64), true.astype(np.float64))
    return found


def _bins(said: NDArray[np.float64], true: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    inside = [place == i for i in range(BINS)]
    return [(float(said[b].mean()), float(true[b].mean()), int(b.sum())) for b in inside if b.any()]


def _table(title: str, columns: dict[str, dict[str, str]], per_table: int = 7) -> Table:
    """Lay out named columns of the same rows; where there are many, as rows."""
    turned = len(columns) > per_table
    table = Table(title=title or None, title_justify="left")
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    heads, lines = (names, list(columns)) if turned else (list(columns), names)
    table.add_column("")
    for head in heads:
        table.add_column(head, justify="right")
    for line in lines:
        cells = [columns[line].get(h, "") if turned else columns[h].get(line, "") for h in heads]
        table.add_row(line, *cells)
    return table
