"""Recorded episodes as annotated videos: images through a frozen encoder, and the state, per frame.

The encoder, its rig and statistics go into the checkpoint, so that the exported bundle takes images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from tacit.config import parse
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit_learning.act_hsa.train import load_policy
from tacit_learning.alignment.data.videos import Annotated
from tacit_learning.alignment.progress_head import EncoderSpec, FrameEncoder
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.alignment.train import encode, like_policy, make_encoder
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment
from tacit_learning.data.episodes import (
    Episode,
    EpisodeTable,
    find_training_episodes,
    load_table,
    split_episodes,
)
from tacit_learning.data.spec import PolicySpec, make_spec, read_spec
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


def encode_episodes(
    config: AlignmentConfig, reporter: Reporter
) -> tuple[Annotated, EpisodeSource, AlignmentConfig]:
    """Read the recordings of `config.data.episodes` and encode every frame once.

    Returns:
        Annotated videos in the splits train and validation, how their features came about, and the
        configuration with the stream names and sizes of the encoder.

    Raises:
        EpisodeError: An episode has no step annotations.
    """
    data, frames = config.data.episodes, config.data.frames
    assert data is not None and frames is not None
    policy = load_policy(frames.checkpoint) if frames.checkpoint else None
    data = like_policy(data, policy.config.data) if policy else data
    chosen, held_out = split_episodes(find_training_episodes(data), data.train_ratio, data.split_seed)
    reporter.message(f"reading {len(chosen)} training and {len(held_out)} validation episodes")
    training = load_table(chosen, data)
    spec = make_spec(training)
    encoder, encoder_spec = make_encoder(frames, spec, policy)
    reporter.message(f"encoding {len(training)} frames to {encoder.num_features} features each")
    annotated = _annotate_both(training, load_table(held_out, data) if held_out else None, encoder)
    source = EpisodeSource(encoder, encoder_spec, spec)
    used = config.data.model_copy(update={"episodes": data})
    return annotated, source, config.model_copy(update={"data": used})


def load_source(texts: dict[str, str], weights: dict[str, torch.Tensor], folder: str) -> EpisodeSource | None:
    """Rebuild the frozen encoder of a checkpoint; None where it was trained on features alone.

    Args:
        texts: Of the checkpoint.
        weights: Of its `frames.` part, without that prefix.
        folder: Where it came from, for messages.
    """
    if "encoder.json" not in texts:
        return None
    config = parse(AlignmentConfig, yaml.safe_load(texts["config.yaml"]), f"{folder}/config.yaml")
    encoder_spec = parse(EncoderSpec, json.loads(texts["encoder.json"]), f"{folder}/encoder.json")
    assert config.data.episodes is not None
    spec = read_spec(texts, config.data.episodes, folder)
    encoder = FrameEncoder(encoder_spec, spec.sizes)
    encoder.load_state_dict(weights)
    return EpisodeSource(encoder.eval(), encoder_spec, spec)


def encode_again(config: AlignmentConfig, source: EpisodeSource) -> Annotated:
    """Read the recordings that a run was trained on and encode them with its own encoder.

    Args:
        config: Of the run.
        source: Of its checkpoint.
    """
    data = config.data.episodes
    assert data is not None
    chosen, held_out = split_episodes(find_training_episodes(data), data.train_ratio, data.split_seed)
    validation = load_table(held_out, data) if held_out else None
    return _annotate_both(load_table(chosen, data), validation, source.encoder)


def frame_features(images: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Put features of the images (..., F) and the state (..., A) together."""
    return torch.cat([images, state], dim=-1)


def _annotate_both(
    training: EpisodeTable, validation: EpisodeTable | None, encoder: FrameEncoder
) -> Annotated:
    videos, features = _annotate(training, encoder, TRAIN)
    if validation is not None:
        more, values = _annotate(validation, encoder, VALIDATION)
        videos, features = [*videos, *more], features | values
    return Annotated(AnnotationSet.of_videos(videos), features)


def _annotate(
    table: EpisodeTable, encoder: FrameEncoder, split: str
) -> tuple[list[Annotation], dict[str, np.ndarray]]:
    """Return the steps of every episode as annotations, and its features."""
    encoded = encode(encoder, table)
    values = frame_features(encoded.features, torch.from_numpy(table.state)).numpy()
    annotations, features = [], {}
    for episode, start in zip(table.episodes, table.starts[:-1], strict=True):
        annotation = _annotation(episode, table.fps, split)
        annotations.append(annotation)
        features[annotation.name] = values[start : start + episode.num_ticks]
    return annotations, features


def _annotation(episode: Episode, fps: float, split: str) -> Annotation:
    """Read the steps of one episode; frames that were trimmed are no part of the video."""
    with EpisodeReader(episode.path) as reader:
        steps = sorted(reader.steps, key=lambda step: step.start_frame)
    last = episode.num_ticks - 1
    moved = [
        Segment(s.name, max(s.start_frame - episode.first, 0), min(s.end_frame - episode.first, last))
        for s in steps
    ]
    segments = [segment for segment in moved if segment.start <= segment.end]
    if not segments:
        raise EpisodeError(
            f"{episode.path}: /annotations/steps is empty; record a stream of role steps, or annotate it"
        )
    name = f"{Path(episode.path).parent.name}/{Path(episode.path).stem}"
    return Annotation.of_segments(name, episode.num_ticks, fps, segments, split=split)
