"""What a run of VACE-E will need: parameters, memory, tokens, arithmetic; by formula, before it starts.

`measure_on_meta` takes the same numbers from a real model on torch's meta device. Legend: N video tokens of
a clip, L text tokens, d width, f feed-forward width. FLOP count a multiply-add as two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tacit_learning.vace_e.config_model import LATENT_CHANNELS, PATCH, SPATIAL, BackboneConfig, ModelConfig
from tacit_learning.vace_e.model.conditioning import latent_shape
from tacit_learning.vace_e.model.encoders import Encoders, Tokens
from tacit_learning.vace_e.model.fusion import Condition
from tacit_learning.vace_e.model.lora import LoraBase, apply_lora
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
"""Of a block: no gradient; gradients pass; low-rank adapters train; all of it trains."""


class Work(NamedTuple):
    """Arithmetic of one forward [FLOP], split as checkpointing and freezing treat it."""

    linear: float
    attention: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.linear + self.attention


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
    of the feature losses on this card; 0 takes the features of the clips.
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
    petaflop_per_sample: float
    largest_batch: dict[int, int]
    """Card [GB] -> largest power of two that fits, 0 = not even 1."""

    @property
    def total_gb(self) -> float:
        """Peak memory of the planned batch."""
        activations = self.activations_gb + self.live_gb + self.features_gb
        return self.weights_gb + self.optimizer_gb + activations + CONTEXT_GB

    @property
    def seconds_on_h200(self) -> float:
        """Seconds per sample at 40 % of the peak of an H200."""
        return self.petaflop_per_sample * 1000 / (H200_TFLOPS * UTILISATION)


def meta_model(config: ModelConfig, run: RunPlan) -> VaceE:
    """Build the model with its low-rank adapters, without memory."""
    with torch.device("meta"):
        model = build_model(config, run.with_streams)
        for base in run.loras:
            apply_lora(model.transformer, base, run.lora_rank, run.lora_targets)
    return model


def measure_on_meta(config: ModelConfig, run: RunPlan) -> tuple[dict[str, int], float]:
    """Count parameters by group, and the FLOP of one forward, on a real model without memory."""
    model = meta_model(config, run)
    parameters = count_parameters(model)
    shape = latent_shape(run.clip.frames, run.clip.height, run.clip.width, run.clip.num_reference)
    with torch.device("meta"):
        latents = torch.empty(1, LATENT_CHANNELS, *shape)
        control = torch.empty(1, 2 * LATENT_CHANNELS + SPATIAL**2, *shape)
        text = torch.empty(1, config.backbone.text_length, config.backbone.text_dim)
        condition = _meta_condition(config, run) if run.with_streams else None
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            model(latents, torch.empty(1), control, text, condition)
    return parameters, float(counter.get_total_flops())


def _meta_condition(config: ModelConfig, run: RunPlan) -> Condition:
    embodiment = 1 + config.encoders.latents
    task = stream_tokens_of(config, run) - embodiment
    tokens = [
        Tokens(torch.empty(1, count, config.encoders.dim), torch.empty(1, count, dtype=torch.bool))
        for count in (task, embodiment)
    ]
    feature = torch.empty(1, config.encoders.feature_dim)
    return Condition(tokens[0], tokens[1], feature, feature, run.clip.num_reference)


def count_parameters(model: VaceE) -> dict[str, int]:
    """Return group -> number of parameters."""
    return {name: sum(p.numel() for p in group) for name, group in parameter_groups(model).items()}


def base_parameters(backbone: BackboneConfig) -> dict[str, int]:
    """Return the parameters of the base by formula: of a block, of the branches, of all."""
    d, f, text, freq = backbone.dim, backbone.ffn_dim, backbone.text_dim, backbone.freq_dim
    attention = 4 * (d * d + d) + 2 * d
    block = 2 * attention + 2 * d + (d * f + f) + (f * d + d) + 6 * d
    square = d * d + d
    vace_in = (2 * LATENT_CHANNELS + SPATIAL**2) * PATCH**2
    vace = len(backbone.vace_layers) * (block + square) + square + vace_in * d + d
    embedders = (freq * d + d) + square + (6 * d * d + 6 * d) + (text * d + d) + square
    ends = LATENT_CHANNELS * PATCH**2 * (2 * d + 1) + d + 2 * d
    dit = backbone.layers * block + embedders + ends
    return {"block": block, "vace": vace, "dit": dit, "base": vace + dit}


def block_work(backbone: BackboneConfig, tokens: int) -> Work:
    """Return the forward of one DiT block: self and cross attention, feed-forward."""
    d, f, text = backbone.dim, backbone.ffn_dim, backbone.text_length
    linear = tokens * (12 * d * d + 4 * d * f) + text * 4 * d * d
    return Work(linear, 4 * d * tokens * (tokens + text))


def vace_extra_work(backbone: BackboneConfig, tokens: int, first: bool) -> Work:
    """Return what a VACE block does beside a DiT block: its projections."""
    return Work((2 if first else 1) * 2 * tokens * backbone.dim**2, 0.0)


def ends_work(backbone: BackboneConfig, tokens: int) -> Work:
    """Return the forward of embeddings and head."""
    d, freq = backbone.dim, backbone.freq_dim
    patches = (2 * LATENT_CHANNELS + 2 * LATENT_CHANNELS + SPATIAL**2) * PATCH**2
    text = 2 * backbone.text_length * (backbone.text_dim * d + d * d)
    return Work(2 * tokens * d * patches + text + 2 * (freq * d + 7 * d * d), 0.0)


def adapter_work(config: ModelConfig, tokens: int, stream_tokens: int) -> Work:
    """Return the forward of what follows a block: its cross-attentions, or its copy of the block."""
    d, e = config.backbone.dim, config.encoders.dim
    if config.injection == "adapter":
        linear = 4 * tokens * d * d + 4 * stream_tokens * e * d + 2 * d * d
        return Work(linear, 4 * d * tokens * stream_tokens)
    linear = tokens * (14 * d * d + 4 * d * config.backbone.ffn_dim) + stream_tokens * (4 * d * d + 2 * e * d)
    return Work(linear, 4 * d * tokens * (tokens + stream_tokens))


def low_rank_work(parameters: Mapping[str, int], tokens: int) -> Work:
    """Return the forward of low-rank adapters; those that read text count as if they read the video."""
    return Work(2 * tokens * sum(n for group, n in parameters.items() if group.startswith("lora:")), 0.0)


def forward_work(config: ModelConfig, run: RunPlan, parameters: Mapping[str, int]) -> Work:
    """Return one forward of the transformer for one clip."""
    backbone, tokens = config.backbone, run.clip.tokens
    parts = [block_work(backbone, tokens)] * (backbone.layers + len(backbone.vace_layers))
    parts += [vace_extra_work(backbone, tokens, i == 0) for i in range(len(backbone.vace_layers))]
    parts += [ends_work(backbone, tokens), low_rank_work(parameters, tokens)]
    if run.with_streams:
        parts += [adapter_work(config, tokens, stream_tokens_of(config, run))] * len(config.layers)
    return Work(*(sum(values) for values in zip(*parts, strict=True)))


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


def step_work(
    config: ModelConfig, run: RunPlan, groups: Collection[str], parameters: Mapping[str, int]
) -> float:
    """Return forward, recomputation and backward for one clip [FLOP]."""
    backbone, tokens = config.backbone, run.clip.tokens
    dit, vace = block_paths(config, groups)
    block = block_work(backbone, tokens)
    total = sum(_with_backward(block, path, run.checkpointing) for path in dit)
    for index, path in enumerate(vace):
        extra = vace_extra_work(backbone, tokens, index == 0)
        total += _with_backward(Work(block.linear + extra.linear, block.attention), path, run.checkpointing)
    total += _with_backward(ends_work(backbone, tokens), "trained" if "dit" in groups else "off", False)
    total += _with_backward(low_rank_work(parameters, tokens), "trained", run.checkpointing)
    if run.with_streams:
        trained: Path = "trained" if "vace_e" in groups else "path"
        adapter = adapter_work(config, tokens, stream_tokens_of(config, run))
        total += len(config.layers) * _with_backward(adapter, trained, run.checkpointing)
    return total


def plan_stage(
    name: str, groups: Collection[str], config: ModelConfig, run: RunPlan, parameters: Mapping[str, int]
) -> StagePlan:
    """Add up what one stage needs.

    Args:
        name: Of the stage.
        groups: That it trains.
        config: Sizes.
        run: Clip, batch, what is saved where.
        parameters: Of every group, from `count_parameters`.
    """
    trained = sum(parameters.get(group, 0) for group in groups)
    frozen = {group: count for group, count in parameters.items() if group not in groups}
    base = sum(count for group, count in frozen.items() if group in ("dit", "vace"))
    weights = ((2 if run.half else 4) * base + 4 * (sum(frozen.values()) - base)) / GB
    per_trained = TRAINED_BYTES + (COPY_BYTES if run.half else 0)
    optimizer = trained * (per_trained - (MOMENT_BYTES if run.offload_optimizer else 0)) / GB
    wider = 1 if run.half else 2
    saved, live = (wider * value / GB for value in activation_bytes(config, run, groups))
    streams = feature_bytes(config, run.clip) / GB if run.with_streams and "vace_e" in groups else 0.0
    features = run.feature_batch * streams
    saved += streams
    fixed = weights + optimizer + features + CONTEXT_GB
    largest = {card: _largest_batch(card * USABLE - fixed, saved + live) for card in CARDS_GB}
    work = step_work(config, run, groups, parameters) / 1e15
    return StagePlan(
        name,
        tuple(groups),
        trained,
        weights,
        optimizer,
        run.batch * saved,
        run.batch * live,
        features,
        work,
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


def _with_backward(work: Work, path: Path, checkpointing: bool) -> float:
    """Return forward and backward: frozen weights need no gradient, attention always has two inputs."""
    if path == "off":
        return work.total
    again = 1 if checkpointing else 0
    linear = 3 if path == "trained" else 2
    return (linear + again) * work.linear + (3 + again) * work.attention


def _largest_batch(room_gb: float, per_clip_gb: float) -> int:
    batch = 0
    while (2 * batch or 1) <= LARGEST_BATCH and (2 * batch or 1) * per_clip_gb <= room_gb:
        batch = 2 * batch or 1
    return batch
