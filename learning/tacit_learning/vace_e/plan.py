"""What a run of VACE-E will need: parameters, arithmetic, memory; known before it starts.

Parameters and arithmetic are measured on the real model on torch's meta device, which has shapes and no
memory. The memory of activations cannot be seen there, since autocast does not work on it: it is
estimated from what one block keeps. FLOP count a multiply-add as two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tacit_learning.vace_e.config_model import (
    LATENT_CHANNELS,
    PATCH,
    SPATIAL,
    TEMPORAL,
    BackboneConfig,
    ModelConfig,
)
from tacit_learning.vace_e.model.conditioning import latent_shape
from tacit_learning.vace_e.model.encoders import Encoders, Tokens
from tacit_learning.vace_e.model.fusion import Condition
from tacit_learning.vace_e.model.lora import LoraBase, apply_lora
from tacit_learning.vace_e.model.pointing import Places
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.model.vace_e import VaceE, build_model, parameter_groups

GB = 1e9
CARDS_GB = (24, 48, 80, 141)
USABLE = 0.95  # of a card: the rest is lost to fragmentation
CONTEXT_GB = 1.0  # CUDA, cuBLAS and cuDNN themselves
H200_TFLOPS = 989.0  # bf16 without sparsity
UTILISATION = 0.4  # of the peak, as large transformers reach it
TRAINED_BYTES = 16  # float32 weight and gradient, two moments of AdamW
MOMENT_BYTES = 8
COPY_BYTES = 2  # autocast keeps a bf16 copy of a float32 weight until the end of the forward
# Bytes that a block keeps per token, times d and times f, under bf16 autocast; counted in the tests.
TRAINED_WIDTHS, TRAINED_HIDDEN = 68, 4
FROZEN_WIDTHS, FROZEN_HIDDEN = 36, 2  # no inputs of frozen weights
ADAPTER_WIDTHS = 28
LARGEST_BATCH = 256
TEXT_TOKENS, IMAGE_TOKENS = 24, 257  # of a usual prompt, and of CLIP at 224 pixels
FROZEN_GB = {"UMT5-xxl, bf16": 11.4, "CLIP ViT-H/14, float32": 2.5, "VAE, float32": 0.51}

Path = Literal["off", "path", "lora", "trained"]
"""How a block takes part: no gradient, gradients pass through, low-rank adapters train, all of it trains."""


@dataclass(frozen=True)
class Clip:
    """Size of a training clip."""

    frames: int
    height: int
    width: int
    num_reference: int = 1

    @property
    def tokens(self) -> int:
        """N, with the reference slots."""
        frames, rows, columns = latent_shape(self.frames, self.height, self.width, self.num_reference)
        return frames * (rows // PATCH) * (columns // PATCH)


@dataclass(frozen=True)
class RunPlan:
    """What a plan depends on beside the model.

    `half`: frozen weights and arithmetic in bf16, trained weights in float32. `feature_batch`: samples
    of the feature losses on this card; 0 takes the features of the clips. `waiting`: parts of the base that
    never train and wait on the CPU, or in 8 bits.
    """

    clip: Clip
    batch: int = 1
    checkpointing: bool = True
    offload_activations: bool = False
    offload_optimizer: bool = False
    half: bool = True
    loras: tuple[LoraBase, ...] = ()
    lora_rank: int = 32
    lora_targets: tuple[str, ...] = ("q", "k", "v", "o", "ffn.0", "ffn.2")
    with_streams: bool = True
    feature_batch: int = 0
    waiting: tuple[LoraBase, ...] = ()
    waiting_on_cpu: bool = False


@dataclass(frozen=True)
class StagePlan:
    """What one stage needs."""

    name: str
    groups: tuple[str, ...]
    trained: int
    weights_gb: float
    optimizer_gb: float
    activations_gb: float
    live_gb: float
    features_gb: float
    largest_batch: dict[int, int]
    """Card [GB] -> largest power of two that fits, 0 = not even 1."""

    @property
    def total_gb(self) -> float:
        """Peak memory of the planned batch."""
        activations = self.activations_gb + self.live_gb + self.features_gb
        return self.weights_gb + self.optimizer_gb + activations + CONTEXT_GB


def meta_model(config: ModelConfig, run: RunPlan) -> VaceE:
    """Build the model with its low-rank adapters, without memory."""
    with torch.device("meta"):
        model = build_model(config, run.with_streams)
        for base in run.loras:
            apply_lora(model.transformer, base, run.lora_rank, run.lora_targets)
    return model


def measure_flop(model: VaceE, run: RunPlan, groups: Collection[str] = ()) -> float:
    """Count the FLOP of one clip: forward, recomputation and backward where `groups` train.

    The encoders of the streams are left out, here as in `RunPlan.clip`: they do not grow with the clip.

    Args:
        model: On the meta device; what requires gradients is changed.
        run: Clip and checkpointing.
        groups: Groups of parameters that train; none: the forward alone.
    """
    for name, members in parameter_groups(model).items():
        for parameter in members:
            parameter.requires_grad_(name in groups)
    model.transformer.gradient_checkpointing = False
    if run.checkpointing:
        model.transformer.enable_gradient_checkpointing()
    config, clip = model.config, run.clip
    shape = latent_shape(clip.frames, clip.height, clip.width, clip.num_reference)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        velocity = model(
            torch.empty(1, LATENT_CHANNELS, *shape),
            torch.empty(1),
            torch.empty(1, 2 * LATENT_CHANNELS + SPATIAL**2, *shape),
            torch.empty(1, config.backbone.text_length, config.backbone.text_dim),
            _meta_condition(config, run, "vace_e" in groups) if run.with_streams else None,
        )
        if groups:
            velocity.sum().backward()
    return float(counter.get_total_flops())


def seconds_on_h200(flop: float) -> float:
    """Return the seconds that an H200 takes for so many FLOP, at 40 % of its peak."""
    return flop / 1e12 / (H200_TFLOPS * UTILISATION)


def _meta_condition(config: ModelConfig, run: RunPlan, trains: bool) -> Condition:
    embodiment = 1 + config.encoders.latents
    task = stream_tokens_of(config, run) - embodiment
    tokens = [
        Tokens(
            torch.empty(1, count, config.encoders.dim, requires_grad=trains),
            torch.empty(1, count, dtype=torch.bool),
        )
        for count in (task, embodiment)
    ]
    feature = torch.empty(1, config.encoders.feature_dim)
    frames = latent_shape(run.clip.frames, run.clip.height, run.clip.width)[0]
    points = (1, 4, frames, TEMPORAL)  # two hands, two objects
    seen, kinds = torch.empty(points, dtype=torch.bool), torch.empty(1, 4, dtype=torch.long)
    places = Places(torch.empty(*points, 2), seen, kinds)
    return Condition(tokens[0], tokens[1], feature, feature, run.clip.num_reference, places)


def count_parameters(model: VaceE) -> dict[str, int]:
    """Return group -> number of parameters."""
    return {name: sum(p.numel() for p in group) for name, group in parameter_groups(model).items()}


def block_paths(config: ModelConfig, groups: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Return how gradients meet each DiT block and each VACE block in a stage."""
    backbone = config.backbone
    if "dit" in groups:  # its embeddings feed the control branch too
        return ["trained"] * backbone.layers, _vace_paths(backbone, groups, "path")
    starts = [backbone.vace_layers[0]] if {"vace", "lora:vace"} & set(groups) else []
    starts += [config.layers[0]] if "vace_e" in groups else []
    begin = min(starts, default=backbone.layers)
    dit: list[Path] = ["path" if layer > begin else "off" for layer in range(backbone.layers)]
    if "lora:dit" in groups:
        dit = ["lora"] * backbone.layers
    return dit, _vace_paths(backbone, groups, "off")


def plan_stage(
    name: str, groups: Collection[str], config: ModelConfig, run: RunPlan, parameters: Mapping[str, int]
) -> StagePlan:
    """Add up the memory of one stage.

    Args:
        name: The stage.
        groups: Groups of parameters that it trains.
        config: Sizes of the network.
        run: Clip, batch, what is saved where.
        parameters: Number in every group, from `count_parameters`.
    """
    trained = sum(parameters.get(group, 0) for group in groups)
    frozen = {group: count for group, count in parameters.items() if group not in groups}
    base = {group: count for group, count in frozen.items() if group in ("dit", "vace")}
    whole, waits = (2 if run.half else 4), (0 if run.waiting_on_cpu else 1)
    weights = sum((waits if group in run.waiting else whole) * count for group, count in base.items())
    if run.waiting:  # the block that runs is whole, and so is the one that is fetched after it
        weights += 2 * whole * parameters["dit"] // config.backbone.layers
    weights += 4 * (sum(frozen.values()) - sum(base.values()))
    per_trained = TRAINED_BYTES + (COPY_BYTES if run.half else 0)
    optimizer = trained * (per_trained - (MOMENT_BYTES if run.offload_optimizer else 0)) / GB
    wider = 1 if run.half else 2
    saved, live = (wider * value / GB for value in activation_bytes(config, run, groups))
    streams = feature_bytes(config, run.clip) / GB if run.with_streams and "vace_e" in groups else 0.0
    features = run.feature_batch * streams
    saved += streams
    fixed = weights / GB + optimizer + features + CONTEXT_GB
    largest = {card: _largest_batch(card * USABLE - fixed, saved + live) for card in CARDS_GB}
    return StagePlan(
        name,
        tuple(groups),
        trained,
        weights / GB,
        optimizer,
        run.batch * saved,
        run.batch * live,
        features,
        largest,
    )


def feature_bytes(config: ModelConfig, clip: Clip, objects: int = 2) -> float:
    """Return what the encoders keep for one sample, measured on a real one; they are small.

    A row of motion per frame and two objects are assumed.
    """
    with torch.random.fork_rng(devices=[]):
        encoders = Encoders(config.encoders, config.backbone.text_dim, config.streams)
        frames = latent_shape(clip.frames, clip.height, clip.width)[0]
        signals = random_signals(
            1,
            config.encoders,
            config.backbone.text_dim,
            frames,
            rows=clip.frames,
            objects=objects,
            text_tokens=TEXT_TOKENS,
            image_tokens=IMAGE_TOKENS,
        )
    weights = {parameter.untyped_storage().data_ptr() for parameter in encoders.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = encoders(signals)  # alive until counted, or memory would be used twice
    total = float(sum(kept.values()))
    del graph
    return total


def activation_bytes(config: ModelConfig, run: RunPlan, groups: Collection[str]) -> tuple[float, float]:
    """Return bytes per clip: kept from forward to backward, and live while one block is differentiated."""
    backbone, tokens = config.backbone, run.clip.tokens
    d, f = backbone.dim, backbone.ffn_dim
    dit, vace = block_paths(config, groups)
    of_path = {
        "off": 0,
        "path": tokens * (FROZEN_WIDTHS * d + FROZEN_HIDDEN * f),
        "lora": tokens * (TRAINED_WIDTHS * d + TRAINED_HIDDEN * f),
        "trained": tokens * (TRAINED_WIDTHS * d + TRAINED_HIDDEN * f),
    }
    adapters = len(config.layers) if run.with_streams else 0
    largest = max(of_path[path] for path in [*dit, *vace])
    gradient = 2 * tokens * f + 4 * tokens * d  # of the hidden layer and of the stream
    if run.checkpointing:
        inputs = sum(path != "off" for path in [*dit, *vace]) + adapters
        kept = 0 if run.offload_activations else 2 * tokens * d * inputs
        return kept, largest + gradient
    adapter = ADAPTER_WIDTHS * d * tokens if config.injection == "adapter" else of_path["trained"]
    kept = sum(of_path[path] for path in [*dit, *vace]) + adapters * adapter
    return (0, largest + gradient) if run.offload_activations else (kept, gradient)


def stream_tokens_of(config: ModelConfig, run: RunPlan, objects: int = 2) -> int:
    """Return the task and embodiment tokens of a clip with motion and some objects."""
    frames = latent_shape(run.clip.frames, run.clip.height, run.clip.width)[0]
    embodiment = 1 + config.encoders.latents
    if not config.task_processing:
        return 3 + embodiment
    return (1 + config.encoders.latents) + (1 + frames) + (1 + objects * frames) + embodiment


def _vace_paths(backbone: BackboneConfig, groups: Collection[str], frozen: Path) -> list[Path]:
    path: Path = "trained" if "vace" in groups else "lora" if "lora:vace" in groups else frozen
    return [path] * len(backbone.vace_layers)


def _largest_batch(room_gb: float, per_clip_gb: float) -> int:
    batch = 0
    while (2 * batch or 1) <= LARGEST_BATCH and (2 * batch or 1) * per_clip_gb <= room_gb:
        batch = 2 * batch or 1
    return batch
