"""`tacit export signals`: run a model over a data set and write its progress for other trainers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from tacit.bundle.runtime import OnnxProgress
from tacit.config.arguments import parse_words
from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import ConfigError
from tacit.progress.follow import follow
from tacit_learning.alignment.arguments import ExportSignals as Arguments
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.commands.evaluate_alignment import videos_of
from tacit_learning.alignment.data.videos import load_annotated
from tacit_learning.alignment.judge.predict import predict
from tacit_learning.alignment.signals import EpisodeProgress, chunk_weights, write_signals


def main(argv: Sequence[str]) -> int:
    """Run `tacit export signals`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit export signals")
    if arguments.model.suffix == ".onnx":
        episodes = of_bundle(arguments.model, arguments.data)
    else:
        episodes = of_run(arguments.model, arguments.data, arguments.splits)
    count = write_signals(arguments.out, episodes, arguments.chunk, source=arguments.model.name)
    weights = np.concatenate(
        [w.weight for w in chunk_weights([e.progress for e in episodes], arguments.chunk)]
    )
    full, none = (weights == 1).mean(), (weights == 0).mean()
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{arguments.out}: {count} frames of {len(episodes)} episodes; "
        f"full weight {full:.0%}, none {none:.0%}, mean {weights.mean():.2f}"
    )
    return 0


def of_bundle(bundle: Path, data: Path) -> list[EpisodeProgress]:
    """Run a bundle over every episode; ticks between its readings hold the last value.

    Raises:
        ConfigError: No episode there.
    """
    files = find_episodes(data)
    if not files:
        raise ConfigError(f"{data}: holds no episode; give the folder that `tacit record` wrote to")
    found = []
    for file in files:
        with EpisodeReader(file) as reader:
            name = (file.relative_to(data) if data.is_dir() else Path(file.name)).with_suffix("").as_posix()
            found.append(_of_episode(OnnxProgress(bundle, reader.rig), reader, name))
    return found


def of_run(run: Path, folder: Path, splits: Sequence[str]) -> list[EpisodeProgress]:
    """Run a trained model over annotated features.

    Raises:
        ConfigError: The model has no head that tells progress of the video.
    """
    trained = load_alignment(run)
    annotated = load_annotated(folder, tuple(splits) or None)
    videos = videos_of(trained, annotated, tuple(splits) or annotated.annotations.splits)
    found = []
    for video, said in zip(videos.videos, predict(trained.model, videos), strict=True):
        if said.video is None:
            raise ConfigError(f"{run}: its head does not tell progress of the video; train with level: video")
        name, length = video.annotation.name, len(video)
        found.append(EpisodeProgress(name, said.video, np.arange(length) / videos.fps, said.done))
    return found


def _of_episode(estimator: OnnxProgress, reader: EpisodeReader, name: str) -> EpisodeProgress:
    progress = np.full(reader.num_ticks, np.nan, np.float32)
    done = progress.copy()
    for reading in follow(estimator, reader):
        progress[reading.tick :], done[reading.tick :] = reading.progress, reading.done
    seconds = (reader.tick_ns - reader.tick_ns[0]) / 1e9
    return EpisodeProgress(name, progress, seconds, done)
