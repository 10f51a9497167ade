"""Train the progress estimator: encode every frame once, then fit the head on clips."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn

import tacit
from tacit.config import parse, to_yaml
from tacit_learning.act_hsa.config import ModelConfig
from tacit_learning.act_hsa.train import TrainedPolicy, load_policy
from tacit_learning.alignment.config import EncoderConfig, ProgressConfig
from tacit_learning.alignment.evaluate import evaluate
from tacit_learning.alignment.progress_head import (
    ELAPSED,
    FEATURES,
    MASK,
    PROGRESS,
    STATE,
    EncoderSpec,
    FrameEncoder,
    ProgressModel,
)
from tacit_learning.data.clips import ClipBatch, draw_clips, require_progress, whole_episodes
from tacit_learning.data.episodes import (
    DataConfig,
    EpisodeTable,
    find_training_episodes,
    load_table,
    split_episodes,
)
from tacit_learning.data.spec import PolicySpec, make_spec, read_spec
from tacit_learning.data.windows import Batch
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint
from tacit_learning.engine.loop import Job, Result, fit
from tacit_learning.engine.provenance import dataset_sha256, git_commit
from tacit_learning.engine.seeding import seed_everything
from tacit_learning.engine.tracking import Reporter

ENCODE_BATCH = 64


@dataclass(frozen=True)
class EncodedTable:
    """A table and the features of all its frames (T, F)."""

    table: EpisodeTable
    features: Tensor


@dataclass(frozen=True)
class TrainedProgress:
    """A progress model in evaluation mode and everything known about it."""

    model: ProgressModel
    config: ProgressConfig
    spec: PolicySpec
    fps: float
    provenance: dict[str, object]


def train(config: ProgressConfig, reporter: Reporter) -> Result:
    """Train as `config` says and leave the checkpoints in `train.output`.

    Raises:
        EpisodeError: An episode has no step annotations.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    policy = load_policy(config.encoder.checkpoint) if config.encoder.checkpoint else None
    data = like_policy(config.data, policy.config.data) if policy else config.data
    config = config.model_copy(update={"data": data})
    paths = find_training_episodes(data)
    chosen, held_out = split_episodes(paths, data.train_ratio, data.split_seed)
    reporter.message(f"reading {len(chosen)} training and {len(held_out)} validation episodes")
    training = load_table(chosen, data)
    validation = load_table(held_out, data) if held_out else None
    return train_on_tables(config, training, validation, policy, reporter)


def train_on_tables(
    config: ProgressConfig,
    training: EpisodeTable,
    validation: EpisodeTable | None,
    policy: TrainedPolicy | None,
    reporter: Reporter,
) -> Result:
    """Train on tables that are already read; see `train`."""
    seed_everything(config.train.seed)
    for table in (training, validation):
        if table is not None:
            require_progress(table)
    spec = make_spec(training)
    encoder, encoder_spec = make_encoder(config.encoder, spec, policy)
    model = ProgressModel(
        config.head, encoder, len(spec.rig.state_names), config.clips.done_at, config.done_weight
    )
    reporter.message(f"encoding {len(training)} frames to {encoder.num_features} features each")
    encoded = encode(encoder, training)
    held_out = encode(encoder, validation) if validation is not None else None
    statistics = spec.statistics
    model.set_normalisation(
        encoded.features, torch.tensor(statistics.state_mean), torch.tensor(statistics.state_std)
    )
    job = Job(
        module=model,
        batches=lambda first, rank, world: _batches(config, encoded, first, rank),
        validate=lambda module, device: _validate(encoded, held_out, module, device),
        texts=_texts(config, spec, encoder_spec, training),
        best_metric="mae",
    )
    return fit(job, config.train, reporter)


def make_encoder(
    config: EncoderConfig, spec: PolicySpec, policy: TrainedPolicy | None
) -> tuple[FrameEncoder, EncoderSpec]:
    """Build the frozen encoder: a copy of the policy's backbones, or a backbone by name."""
    if policy is None:
        name, conv = str(config.backbone), config.conv
        blank = EncoderSpec(
            backbone=name, conv=conv, touch_backbone="shared", touch_conv=conv, grid=config.grid
        )
        encoder = FrameEncoder(blank, spec.sizes)
        assert spec.references is not None
        encoder.references.copy_(spec.references)
        identity = encoder.backbone.identity
        return encoder, blank.model_copy(update={"identities": (identity, identity)})
    model: ModelConfig = policy.config.model
    encoder_spec = EncoderSpec(
        backbone=model.backbone,
        conv=model.conv,
        touch_backbone=model.touch_backbone,
        touch_conv=model.touch_conv,
        identities=policy.policy.model.identities(),
        grid=config.grid,
    )
    encoder = FrameEncoder(encoder_spec, spec.sizes)
    trained = policy.policy.model
    encoder.backbone.load_state_dict(copy.deepcopy(trained.backbone.state_dict()))
    if encoder.touch_backbone is not None and trained.touch_backbone is not None:
        encoder.touch_backbone.load_state_dict(copy.deepcopy(trained.touch_backbone.state_dict()))
    encoder.references.copy_(policy.policy.references)
    return encoder, encoder_spec


@torch.no_grad()
def encode(encoder: FrameEncoder, table: EpisodeTable) -> EncodedTable:
    """Compute the features of every frame once."""
    features = []
    for start in range(0, len(table), ENCODE_BATCH):
        images, touch = table.images(range(start, min(start + ENCODE_BATCH, len(table))))
        features.append(encoder.eval()(torch.from_numpy(images), torch.from_numpy(touch)))
    return EncodedTable(table, torch.cat(features))


def load_progress(folder: str | Path) -> TrainedProgress:
    """Rebuild a progress model from a checkpoint or run folder."""
    return progress_from(load_checkpoint(folder))


def progress_from(checkpoint: Checkpoint) -> TrainedProgress:
    """Rebuild the progress model of a loaded checkpoint."""
    texts, source = checkpoint.texts, str(checkpoint.folder)
    config = parse(ProgressConfig, yaml.safe_load(texts["config.yaml"]), f"{source}/config.yaml")
    encoder_spec = parse(EncoderSpec, json.loads(texts["encoder.json"]), f"{source}/encoder.json")
    about = json.loads(texts["about.json"])
    spec = read_spec(texts, config.data, source)
    model = ProgressModel(
        config.head,
        FrameEncoder(encoder_spec, spec.sizes),
        len(spec.rig.state_names),
        config.clips.done_at,
        config.done_weight,
    )
    model.load_state_dict(dict(checkpoint.weights))
    provenance = {k: about[k] for k in ("git", "dataset_sha256", "num_episodes", "tacit_version")}
    provenance |= {"step": checkpoint.position.step, "metrics": dict(checkpoint.metrics)}
    return TrainedProgress(model.eval(), config, spec, float(about["fps"]), provenance)


def clip_batch(encoded: EncodedTable, clips: ClipBatch) -> Batch:
    """Gather features, state and targets of clips; time runs evenly at the table's rate."""
    rows = torch.from_numpy(clips.rows)
    elapsed = torch.arange(rows.shape[1], dtype=torch.float32) / encoded.table.fps
    return {
        FEATURES: encoded.features[rows],
        STATE: torch.from_numpy(encoded.table.state)[rows],
        ELAPSED: elapsed.expand(len(rows), -1).contiguous(),
        PROGRESS: torch.from_numpy(clips.progress),
        MASK: torch.from_numpy(clips.mask),
    }


def _batches(config: ProgressConfig, encoded: EncodedTable, first: int, rank: int) -> Iterator[Batch]:
    number = first
    while True:
        rng = np.random.default_rng([config.train.seed, number, rank])
        yield clip_batch(encoded, draw_clips(encoded.table, config.train.batch_size, config.clips, rng))
        number += 1


def _validate(
    training: EncodedTable, held_out: EncodedTable | None, module: nn.Module, device: torch.device
) -> dict[str, float]:
    if held_out is None:
        return {}
    batch = clip_batch(held_out, whole_episodes(held_out.table))
    lengths = [episode.num_ticks for episode in training.table.episodes]
    moved = {key: value.to(device) for key, value in batch.items()}
    return evaluate(module, moved, float(np.mean(lengths)) / training.table.fps)


def _texts(
    config: ProgressConfig, spec: PolicySpec, encoder: EncoderSpec, table: EpisodeTable
) -> dict[str, str]:
    about = {
        "kind": config.kind,
        "fps": table.fps,
        "dataset_sha256": dataset_sha256(table),
        "num_episodes": len(table.episodes),
        "train_episodes": [episode.path.name for episode in table.episodes],
        "git": git_commit(),
        "tacit_version": tacit.__version__,
    }
    return {
        "config.yaml": to_yaml(config),
        **spec.texts(),
        "encoder.json": encoder.model_dump_json(indent=1),
        "about.json": json.dumps(about, indent=1),
    }


def like_policy(data: DataConfig, policy: DataConfig) -> DataConfig:
    """Take stream names and sizes from the policy whose encoder is used."""
    names = ("cameras", "sensors", "image_height", "image_width", "touch_height", "touch_width", "resize")
    return data.model_copy(update={name: getattr(policy, name) for name in names})
