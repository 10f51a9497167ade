"""Puts a run together from its options: data, labels, model, encoded inputs, schedule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tacit.errors import ConfigError
from tacit_learning.data.labels import LabelMaps
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint, restore_weights
from tacit_learning.engine.processes import Processes
from tacit_learning.engine.tracking import Reporter
from tacit_learning.vace_e.config import ModelOptions, VaceEConfig
from tacit_learning.vace_e.config_model import EncoderConfig, ModelConfig, preset
from tacit_learning.vace_e.data.cache import LatentCache
from tacit_learning.vace_e.data.data_check import white_fractions
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.data.schedule import Items, Schedule, make_sampler
from tacit_learning.vace_e.model.folder import MODEL_FILE, load_adapters
from tacit_learning.vace_e.model.frozen import TINY, Frozen, make_frozen
from tacit_learning.vace_e.model.loading import backbone_of, load_base
from tacit_learning.vace_e.model.lora import BLOCKS, apply_lora
from tacit_learning.vace_e.model.vace_e import PREFIX, VaceE, build_model, train_in_float32
from tacit_learning.vace_e.model.waiting import let_wait

LOWEST_WHITE, HIGHEST_WHITE = 0.002, 0.9
LAYER_STEP = 5  # between the blocks after which the streams enter
CLIP_CONFIG = "image_encoder/config.json"


@dataclass(frozen=True)
class Data:
    """Windows to train on and windows held out, with the same labels."""

    training: VaceEDataset
    held_out: VaceEDataset
    labels: LabelMaps


def make_data(config: VaceEConfig, labels: LabelMaps | None, reporter: Reporter) -> Data:
    """Read the data set and hold episodes of every task out.

    Args:
        config: Folders and shares.
        labels: Labels of a checkpoint, which only grow; None for a new run.
        reporter: Told what was found.
    """
    config = find_metadata(config)
    whole = VaceEDataset(config, labels=labels, index=cache_folder(config) / "index.json", seed=config.seed)
    for line in whole.report.lines():
        reporter.message(line)
    settings = config.validation
    if settings.data is not None:
        changes = {"dataset_base_path": settings.data, "task_metadata_path": None, "robot_data_path": None}
        options = find_metadata(config.model_copy(update=changes))
        index = cache_folder(config) / "index_validation.json"
        apart = VaceEDataset(options, labels=whole.labels, extend=False, index=index)
        return Data(whole, apart, whole.labels)
    share = settings.held_out if settings.enabled else 0.0
    held_out = choose_held_out([record.task for record in whole.records], share, config.seed)
    kept = [i for i in range(len(whole.records)) if i not in held_out]
    return Data(whole.subset(kept), whole.subset(sorted(held_out)), whole.labels)


def choose_held_out(tasks: list[str], share: float, seed: int) -> set[int]:
    """Return the episodes to hold out: a share of each task, at least one where it has two or more."""
    chosen: set[int] = set()
    if not share:
        return chosen
    generator = np.random.default_rng(seed)
    for task in sorted(set(tasks)):
        members = [i for i, name in enumerate(tasks) if name == task]
        count = min(len(members) - 1, max(1, round(share * len(members))))
        chosen |= {members[i] for i in generator.permutation(len(members))[:count].tolist()}
    return chosen


def check_labels_equal(labels: LabelMaps, processes: Processes) -> None:
    """Raise where processes made different labels: they read different data.

    Raises:
        ConfigError: On every process.
    """
    hashes = set(processes.everyone([labels.sha256]))
    if len(hashes) > 1:
        raise ConfigError(
            f"labels: {processes.world} processes made {len(hashes)} different label maps; do all "
            "see the same dataset_base_path and task_metadata_path?"
        )


def describe_labels(data: Data, config: VaceEConfig, reporter: Reporter) -> None:
    """Say how many labels there are, and how much task and embodiment know of each other."""
    labels, dependence = data.labels, data.training.dependence()
    reporter.message(
        f"labels: {len(labels.task)} tasks by {config.task_label_by}, {len(labels.embodiment)} embodiments; "
        f"I(task; embodiment) = {dependence.information:.3f} of H(embodiment) = {dependence.entropy:.3f} nat"
    )
    if dependence.conflicts and config.enable_club_loss and config.task_contrastive_lambda:
        reporter.message(
            "warning: the task label tells the embodiment, so the contrastive loss on tasks and CLUB pull "
            "against each other; consider task_label_by=task_type"
        )


def describe_masks(dataset: VaceEDataset, reporter: Reporter) -> None:
    """Say how much of the video is to be generated; warn of a mask that looks inverted or empty."""
    white = float(np.mean(white_fractions(dataset)))
    hidden = {"tight": "", "loose": "; more is hidden around them", "open": "; everything is hidden"}
    reporter.message(f"masks: {100 * white:.1f} % of the pixels are white{hidden[dataset.options.masks]}")
    if not LOWEST_WHITE < white < HIGHEST_WHITE:
        reporter.message("warning: white means generate; a mask nearly all white or black may be inverted")


def model_config(options: ModelOptions) -> ModelConfig:
    """Return the sizes of the network: of a preset, or of the base weights.

    Raises:
        ConfigError: `vace_e_layers` lie outside the network.
    """
    name = options.model_size or (TINY if options.base_model == TINY else None)
    base = preset(name) if name else _sizes_of_base(options)
    layers = options.vace_e_layers or base.layers
    if max(layers) >= base.backbone.layers:
        raise ConfigError(
            f"vace_e_layers: {list(layers)}, but the transformer has blocks 0..{base.backbone.layers - 1}"
        )
    return base.model_copy(
        update={
            "layers": layers,
            "injection": options.vace_e_injection,
            "task_processing": options.vace_e_task_processing,
        }
    )


def make_model(config: VaceEConfig) -> VaceE:
    """Build the network, with base weights and low-rank adapters where the options name them."""
    torch.manual_seed(config.seed)
    sizes = model_config(config)
    if config.base_model == TINY:
        model = build_model(sizes, config.enable_vace_e)
    else:
        dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
        transformer = load_base(config.base_model, sizes.backbone, dtype)
        model = VaceE(sizes, transformer, config.enable_vace_e)
    for base in config.lora_base_model:
        apply_lora(model.transformer, base, config.lora_rank, config.lora_target_modules)
    stages = config.training_stages.values()
    train_in_float32(model, {group for stage in stages for group in stage.trainable_models})
    if config.vace_e_checkpoint is not None:
        start_from(model, Path(config.vace_e_checkpoint))
    memory = config.vram_optimization
    on_cpu = memory.offloads_models and config.distributed != "fsdp2"  # which has a way of its own
    if on_cpu or memory.frozen_bits != "as_is":
        for part in config.frozen_parts:
            for block in getattr(model.transformer, BLOCKS[part]):
                let_wait(block, memory.frozen_bits, on_cpu)
    if config.use_gradient_checkpointing:
        model.transformer.enable_gradient_checkpointing()
    model.transformer.offload_activations = config.use_gradient_checkpointing_offload
    return model


def start_from(model: VaceE, place: Path) -> None:
    """Fill a model from a run or checkpoint, or from a folder of saved adapters.

    Raises:
        ConfigError: Neither, or of other sizes.
    """
    if (place / MODEL_FILE).is_file():
        load_adapters(model, place)
    else:
        fill_model(model, load_checkpoint(place), f"vace_e_checkpoint {place}")


def fill_model(model: VaceE, checkpoint: Checkpoint, where: str) -> None:
    """Copy the weights of a checkpoint into a model; base weights that never trained are not in it.

    Raises:
        ConfigError: Another model: the message starts with `where`.
    """
    weights = {name.removeprefix(PREFIX): value for name, value in checkpoint.weights.items()}
    restore_weights(model, weights, where, partial=True)


def make_inputs(config: VaceEConfig, dataset: VaceEDataset, frozen: Frozen) -> Inputs:
    """Return the encoded inputs of a data set."""
    cache = LatentCache(cache_folder(config)) if config.use_cache else None
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    return Inputs(dataset, frozen, model_config(config), cache, dtype, config.seed)


def make_networks(config: VaceEConfig, device: torch.device) -> Frozen:
    """Return the frozen networks of a run."""
    codec = None if config.codec is None else Path(config.codec)
    return make_frozen(
        config.base_model, config.image_encoder, model_config(config), device, config.seed, codec
    )


def make_schedule(config: VaceEConfig, dataset: VaceEDataset, rank: int, world: int) -> Schedule:
    """Return the batches and stages of a run."""

    def items(length: int) -> Items:
        sampler = make_sampler(
            dataset,
            config.batch_size,
            repeat=config.dataset_repeat,
            seed=config.seed,
            rank=rank,
            world=world,
            length=length,
        )
        return Items(sampler, dataset.turns(length))

    whole, *rest = config.lengths
    shorter = {length: items(length) for length in rest}
    usual = items(whole)
    schedule = Schedule(usual.sampler, config.gradient_accumulation_steps, usual.turns, shorter)
    schedule.plan(config.training_stages, config.num_epochs, config.learning_rate)
    return schedule


def _sizes_of_base(options: ModelOptions) -> ModelConfig:
    backbone = backbone_of(options.base_model)
    encoders = EncoderConfig()
    clip = Path(options.image_encoder or options.base_model)
    if (clip / CLIP_CONFIG).is_file():
        width = json.loads((clip / CLIP_CONFIG).read_text(encoding="utf-8"))["hidden_size"]
        encoders = encoders.model_copy(update={"image_dim": width})
    layers = tuple(range(0, backbone.layers, LAYER_STEP))
    return ModelConfig(backbone=backbone, encoders=encoders, layers=layers)


def cache_folder(config: VaceEConfig) -> Path:
    """Return where encoded inputs lie."""
    return Path(config.cache_path or Path(config.output_path) / "cache")
