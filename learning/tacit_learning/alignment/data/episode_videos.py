"""Recorded episodes as annotated videos: images through a frozen encoder, and the state, per frame.

The encoder, its rig and statistics go into the checkpoint, so that the exported bundle takes images.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tacit.config import parse
from tacit.config.documents import json_mapping
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit_learning.act_hsa.train import TrainedPolicy, load_policy
from tacit_learning.alignment.data.videos import Annotated
from tacit_learning.alignment.frames import (
    EncoderConfig,
    EncoderSpec,
    FrameEncoder,
    encode,
    frame_features,
    like_policy,
    make_encoder,
)
from tacit_learning.data.annotations import FAILURE, Annotation, AnnotationSet, Event, Segment
from tacit_learning.data.episodes import (
    Episode,
    EpisodeTable,
    find_training_episodes,
    load_table,
    split_episodes,
)
from tacit_learning.data.spec import PolicySpec, make_spec, read_spec
from tacit_learning.data.view import DataConfig
from tacit_learning.engine.tracking import Reporter

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class EpisodeSource:
    """How the features of a checkpoint come from images: encoder, rig, statistics."""

    encoder: FrameEncoder
    encoder_spec: EncoderSpec
    spec: PolicySpec

    def texts(self) -> dict[str, str]:
        """Return what the checkpoint keeps of it as text."""
        return self.spec.texts() | {"encoder.json": self.encoder_spec.model_dump_json(indent=1)}

    def annotate(
        self, tables: Mapping[str, EpisodeTable], device: torch.device, needs_steps: bool = True
    ) -> Annotated:
        """Return the episodes of each split (its name -> its table) with the features of all their frames.

        Args:
            tables: Read as the encoder expects it.
            device: Where images are encoded.
            needs_steps: Episodes must have step annotations.

        Raises:
            EpisodeError: An episode has none.
        """
        annotations, features = [], {}
        names = _names([Path(e.path) for table in tables.values() for e in table.episodes])
        for split, table in tables.items():
            named = [
                _annotation(names[Path(e.path)], e, table.fps, split, needs_steps) for e in table.episodes
            ]
            images = encode(self.encoder, table, device)
            rows = frame_features(images, torch.from_numpy(table.state)).numpy()
            for annotation, start in zip(named, table.starts[:-1], strict=True):
                features[annotation.name] = rows[start : start + annotation.num_frames]
            annotations += named
        return Annotated(AnnotationSet.of_videos(annotations), features)


def read_tables(data: DataConfig) -> dict[str, EpisodeTable]:
    """Read recordings and split them into train and validation, which a single episode leaves out."""
    paths = find_training_episodes(data)
    parts = split_by_outcome(paths, [_outcome(path) for path in paths], data.train_ratio, data.split_seed)
    parts[TRAIN] = parts[TRAIN][: data.max_episodes]
    return {split: load_table(paths, data) for split, paths in parts.items() if paths}


def split_by_outcome(
    paths: Sequence[Path], outcomes: Sequence[Hashable], train_ratio: float, seed: int
) -> dict[str, list[Path]]:
    """Split the episodes of each outcome by themselves: thresholds cannot be fitted to a kind of failure that
    chance has kept out of the validation part.

    Args:
        paths: Episodes.
        outcomes: What became of each.
        train_ratio: Share of each outcome that trains.
        seed: Of the split.

    Returns:
        The episodes of train and validation, in the order in which they were given.
    """
    held_out: set[Path] = set()
    for outcome in dict.fromkeys(outcomes):
        alike = [path for path, found in zip(paths, outcomes, strict=True) if found == outcome]
        held_out.update(split_episodes(alike, train_ratio, seed)[1])
    return {
        TRAIN: [path for path in paths if path not in held_out],
        VALIDATION: [path for path in paths if path in held_out],
    }


def _outcome(path: Path) -> tuple[bool | None, tuple[str, ...]]:
    with EpisodeReader(path) as reader:
        return reader.success, tuple(failure.name for failure in reader.failures)


def encode_episodes(
    data: DataConfig,
    frames: EncoderConfig,
    device: torch.device,
    reporter: Reporter,
    needs_steps: bool = True,
) -> tuple[Annotated, EpisodeSource, DataConfig]:
    """Read recordings and encode every frame once.

    Args:
        data: Which recordings.
        frames: Their frozen encoder.
        device: Where images are encoded.
        reporter: Shows progress.
        needs_steps: Episodes must have step annotations.

    Returns:
        Annotated videos in the splits train and validation, how their features came about, and `data`
        with the stream names and sizes of the encoder.

    Raises:
        EpisodeError: An episode has no step annotations.
    """
    if data.touch_reference == "run":
        raise EpisodeError(
            "data.touch_reference: run is of policies, which are told when a run starts; an estimator reads "
            "touch against the gels of training: leave it out"
        )
    policy = load_policy(frames.checkpoint) if frames.checkpoint else None
    data = like_policy(data, policy.config.data) if policy else data
    tables = read_tables(data)
    source = make_source(frames, tables[TRAIN], policy)
    counts = ", ".join(f"{len(table)} frames to {split}" for split, table in tables.items())
    reporter.message(f"encoding {counts} with {source.encoder.num_features} features each on {device}")
    return source.annotate(tables, device, needs_steps), source, data


def make_source(frames: EncoderConfig, training: EpisodeTable, policy: TrainedPolicy | None) -> EpisodeSource:
    """Build the frozen encoder, with the statistics of the training recordings beside it."""
    spec = make_spec(training)
    return EpisodeSource(*make_encoder(frames, spec, policy), spec)


def load_source(
    data: DataConfig | None, texts: Mapping[str, str], weights: Mapping[str, Tensor], folder: str
) -> EpisodeSource | None:
    """Rebuild the frozen encoder of a checkpoint; None where it was trained on features alone.

    Args:
        data: Recordings that it was trained on; None where there were none.
        texts: Text files of the checkpoint, name -> content.
        weights: Weights of the encoder by name, without the prefix `frames.`.
        folder: Where it came from, for messages.
    """
    if data is None:
        return None
    encoder_spec = parse(
        EncoderSpec, json_mapping(texts["encoder.json"], f"{folder}/encoder.json"), f"{folder}/encoder.json"
    )
    spec = read_spec(texts, data, folder)
    encoder = FrameEncoder(encoder_spec, spec.sizes)
    encoder.load_state_dict(dict(weights))
    return EpisodeSource(encoder.eval(), encoder_spec, spec)


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name episodes by folder and number, and by more folders where several sets have the same."""
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        names = {path: "/".join(path.with_suffix("").parts[-depth:]) for path in paths}
        if len({*names.values()}) == len(names):
            break
    return names


def _annotation(name: str, episode: Episode, fps: float, split: str, needs_steps: bool) -> Annotation:
    """Return the steps of one episode as the annotation of a video."""
    if needs_steps and not episode.steps:
        raise EpisodeError(
            f"{episode.path}: /annotations/steps is empty, so its progress is unknown; record a stream of "
            "role steps, or annotate the episode"
        )
    segments = [Segment(step.name, step.start_frame, step.end_frame) for step in episode.steps]
    events = tuple(Event(FAILURE + kind, first, last) for kind, first, last in episode.failures)
    told = {"events": events, "task_steps": episode.task_steps, "success": episode.success}
    fields = told | {"task": episode.task, "split": split}
    return Annotation.of_segments(name, episode.num_ticks, fps, segments, **fields)
