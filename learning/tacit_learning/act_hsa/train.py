"""Train ACT-HSA from episodes; load a trained policy back from its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tacit
from tacit.config import parse, to_yaml
from tacit.config.documents import yaml_mapping
from tacit_learning.act_hsa.config import ActHsaConfig, HsaConfig
from tacit_learning.act_hsa.evaluate import evaluate
from tacit_learning.act_hsa.feature_cache import FeatureCache
from tacit_learning.act_hsa.policy import ActHsaPolicy, Identities
from tacit_learning.act_hsa.watch import HsaCourse
from tacit_learning.data.augment import augment
from tacit_learning.data.episodes import EpisodeTable, find_training_episodes, load_table, split_episodes
from tacit_learning.data.spec import PolicySpec, make_spec, read_spec
from tacit_learning.data.weights import row_weights
from tacit_learning.data.windows import Batch, ChunkWindows, StepSampler, fixed_batches, make_loader
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint, restore_weights
from tacit_learning.engine.job import Job
from tacit_learning.engine.loop import Result, fit
from tacit_learning.engine.provenance import dataset_sha256, git_commit
from tacit_learning.engine.seeding import seed_everything, step_generator
from tacit_learning.engine.tracking import Reporter
from tacit_learning.layers.backbone import BackboneIdentity


@dataclass(frozen=True)
class Tables:
    """Training and validation frames; validation is None with a single episode."""

    train: EpisodeTable
    validation: EpisodeTable | None


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy in evaluation mode and everything known about it."""

    policy: ActHsaPolicy
    config: ActHsaConfig
    spec: PolicySpec
    fps: float
    provenance: dict[str, object]


def train(config: ActHsaConfig, reporter: Reporter) -> Result:
    """Train a policy as `config` says and leave its checkpoints in `train.output`."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    paths = find_training_episodes(config.data)
    chosen, held_out = split_episodes(paths, config.data.train_ratio, config.data.split_seed)
    chosen = chosen[: config.data.max_episodes]
    reporter.message(f"reading {len(chosen)} training and {len(held_out)} validation episodes")
    tables = Tables(load_table(chosen, config.data), load_table(held_out, config.data) if held_out else None)
    return train_on_tables(config, tables, reporter)


def train_on_tables(config: ActHsaConfig, tables: Tables, reporter: Reporter) -> Result:
    """Train on tables that are already read; see `train`."""
    seed_everything(config.train.seed)
    spec = make_spec(tables.train)
    weights = row_weights(tables.train, config.data)
    policy = ActHsaPolicy(config, spec)
    num_weights = sum(p.numel() for p in policy.parameters())
    reporter.message(f"{len(tables.train)} frames, {num_weights / 1e6:.2f} M weights")
    job = Job(
        module=policy,
        batches=lambda first, rank, world: _batches(config, tables.train, weights, first, rank, world),
        validate=lambda module, device, step: _validate(config, tables.validation, module, device),
        texts=_texts(config, spec, policy, tables),
        transform=_transform(config, spec, policy),
        best={"best": "l1_z0"},
        course=HsaCourse(config.hsa.warmup_steps),
    )
    return fit(job, config.train, reporter)


def windows_of(config: ActHsaConfig, table: EpisodeTable) -> ChunkWindows:
    """Return the windows that a run learns from or is judged on."""
    return ChunkWindows(table, config.model.chunk_size, config.data.action_offset, config.future_ticks)


def load_policy(folder: str | Path) -> TrainedPolicy:
    """Rebuild a trained policy from a checkpoint or run folder, without network or weight files.

    Raises:
        ConfigError: No checkpoint there, or it is of another model.
    """
    return policy_from(load_checkpoint(folder))


def policy_from(checkpoint: Checkpoint) -> TrainedPolicy:
    """Rebuild the policy of a loaded checkpoint."""
    texts, source = checkpoint.texts, str(checkpoint.folder)
    where = f"{source}/config.yaml"
    config = parse(ActHsaConfig, yaml_mapping(texts["config.yaml"], where), where)
    about = json.loads(texts["about.json"])
    camera, touch = (parse(BackboneIdentity, item, source) for item in about["backbones"])
    spec = read_spec(texts, config.data, source)
    weights = dict(checkpoint.weights)
    if (
        config.hsa.weight > 0 and "alignment.sensor" not in weights
    ):  # its heads were others; acting needs none
        config = config.model_copy(update={"hsa": HsaConfig()})
        weights = {k: v for k, v in weights.items() if not k.startswith(("alignment.", "balance."))}
    policy = ActHsaPolicy(config, spec, (camera, touch))
    restore_weights(policy, weights, source, partial=False)
    provenance = {k: about[k] for k in ("git", "dataset_sha256", "num_episodes", "tacit_version")}
    provenance |= {"step": checkpoint.position.step, "metrics": dict(checkpoint.metrics)}
    return TrainedPolicy(policy.eval(), config, spec, float(about["fps"]), provenance)


def _texts(config: ActHsaConfig, spec: PolicySpec, policy: ActHsaPolicy, tables: Tables) -> dict[str, str]:
    identities: Identities = policy.model.identities()
    about = {
        "kind": config.kind,
        "fps": tables.train.fps,
        "backbones": [identity.model_dump(mode="json") for identity in identities],
        "dataset_sha256": dataset_sha256(tables.train),
        "num_episodes": len(tables.train.episodes),
        "train_episodes": [episode.path.name for episode in tables.train.episodes],
        "git": git_commit(),
        "tacit_version": tacit.__version__,
    }
    return {
        "config.yaml": to_yaml(config),
        **spec.texts(),
        "about.json": json.dumps(about, indent=1),
    }


def _transform(
    config: ActHsaConfig, spec: PolicySpec, policy: ActHsaPolicy
) -> Callable[[Batch, int, int], Batch]:
    """Return what is done to a batch on its device: augmented, or its features looked up."""
    cache = FeatureCache(policy.model) if config.model.feature_cache == "ram" else None

    def transform(batch: Batch, number: int, rank: int) -> Batch:
        generator = step_generator(config.train.seed, number, rank)
        batch = augment(batch, config.augment, generator, spec.view.depth_indices)
        return batch if cache is None else cache(batch)

    return transform


def _batches(
    config: ActHsaConfig,
    table: EpisodeTable,
    weights: np.ndarray | None,
    first: int,
    rank: int,
    world: int,
) -> Iterator[Batch]:
    windows = windows_of(config, table)
    drawn = (config.train.batch_size, config.train.seed, first, rank, world, weights, config.frames_together)
    sampler = StepSampler(len(windows), *drawn, table.episode_of)
    return iter(make_loader(windows, sampler, config.data.num_workers))


def _validate(
    config: ActHsaConfig, table: EpisodeTable | None, module: nn.Module, device: torch.device
) -> dict[str, float]:
    if table is None:
        return {}
    batches = fixed_batches(windows_of(config, table), config.train.batch_size, config.train.validate_batches)
    return evaluate(module, batches, device)
