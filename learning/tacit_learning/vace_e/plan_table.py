"""`tacit doctor vace_e --config <yaml>`: what a run will need, and on which cards it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tacit.config import load
from tacit_learning.options import TABLES, find_config, overrides
from tacit_learning.vace_e.assembly import model_config
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.config_model import ModelConfig
from tacit_learning.vace_e.model.loading import PUBLISHED
from tacit_learning.vace_e.model.vace_e import VaceE
from tacit_learning.vace_e.plan import (
    CARDS_GB,
    CONTEXT_GB,
    FROZEN_GB,
    UTILISATION,
    Clip,
    RunPlan,
    StagePlan,
    count_parameters,
    measure_flop,
    meta_model,
    plan_stage,
    seconds_on_h200,
)

MEMORY_COLUMNS = ("weights", "optimiser", "kept", "live", "features", "peak")
COLUMNS = ("stage", "trains", "trained", *MEMORY_COLUMNS, "PFLOP/clip", "s/clip")


def print_plan(path: Path, words: Sequence[str]) -> int:
    """Print what every stage of a run needs.

    Args:
        path: Its configuration, or the name of a shipped one.
        words: Options that override the file.

    Returns:
        0 where the batch of all stages fits the largest card, else 1.
    """
    config = load(VaceEConfig, find_config(path), overrides(words, TABLES["vace_e"]))
    sizes, run = sizes_of(config), run_of(config)
    model = meta_model(sizes, run)
    parameters = count_parameters(model)
    stages = [
        plan_stage(name, stage.trainable_models, sizes, run, parameters)
        for name, stage in config.training_stages.items()
    ]
    console = Console(highlight=False)
    _print_model(console, model, run, parameters)
    _print_stages(console, run, stages, [measure_flop(model, run, stage.groups) for stage in stages])
    _print_notes(console, config)
    return 0 if all(max(stage.largest_batch.values()) >= run.batch for stage in stages) else 1


def sizes_of(config: VaceEConfig) -> ModelConfig:
    """Return the sizes of the network; those of published bases without asking the hub."""
    known = PUBLISHED.get(config.base_model)
    if config.model_size is None and known is not None:
        config = config.model_copy(update={"model_size": known})
    return model_config(config)


def run_of(config: VaceEConfig) -> RunPlan:
    """Return what the plan depends on; one reference image is assumed."""
    memory = config.vram_optimization
    on_cpu = memory.offloads_models and config.distributed != "fsdp2"
    return RunPlan(
        clip=Clip(config.num_frames, config.height, config.width),
        batch=config.batch_size,
        checkpointing=config.use_gradient_checkpointing,
        offload_activations=config.use_gradient_checkpointing_offload,
        offload_optimizer=config.vram_optimization.offloads_optimizer,
        half=config.mixed_precision != "no",
        loras=config.lora_base_model,
        lora_rank=config.lora_rank,
        lora_targets=config.lora_target_modules,
        with_streams=config.enable_vace_e,
        feature_batch=config.feature_batch if config.feature_losses else 0,
        waiting=config.frozen_parts if on_cpu or memory.frozen_bits != "as_is" else (),
        waiting_on_cpu=on_cpu,
    )


def _print_model(console: Console, model: VaceE, run: RunPlan, parameters: Mapping[str, int]) -> None:
    sizes, clip = model.config, run.clip
    backbone = sizes.backbone
    console.print(
        f"[bold]model[/]  {backbone.heads} x {backbone.head_dim} = {backbone.dim} wide, "
        f"{backbone.layers} blocks, {len(backbone.vace_layers)} VACE blocks; "
        f"streams after blocks {', '.join(map(str, sizes.layers))}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("group")
    table.add_column("parameters", justify="right")
    for name, count in parameters.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(
        f"\n[bold]clip[/]   {clip.frames} x {clip.height} x {clip.width} and {clip.num_reference} reference: "
        f"{clip.tokens:,} tokens, forward {measure_flop(model, run) / 1e12:,.4g} TFLOP\n"
    )


def _print_stages(console: Console, run: RunPlan, stages: list[StagePlan], flop: list[float]) -> None:
    how = "checkpointed" if run.checkpointing else "not checkpointed"
    console.print(f"[bold]stages[/] batch {run.batch} per card, {how}; memory in GB, estimated")
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if index < 2 else "right")
    for card in CARDS_GB:
        table.add_column(f"{card} GB", justify="right")
    for stage, spent in zip(stages, flop, strict=True):
        parts = (stage.weights_gb, stage.optimizer_gb, stage.activations_gb, stage.live_gb)
        memory = (*parts, stage.features_gb, stage.total_gb)
        table.add_row(
            stage.name,
            ",".join(stage.groups),
            f"{stage.trained / 1e6:,.1f} M",
            *(f"{value:.1f}" for value in memory),
            f"{spent / 1e15:.3g}",
            f"{seconds_on_h200(spent):.3g}",
            *(_verdict(stage.largest_batch[card], run.batch) for card in CARDS_GB),
        )
    console.print(table)


def _verdict(largest: int, batch: int) -> str:
    if largest == 0:
        return "[red]no[/]"
    return f"[green]yes, <= {largest}[/]" if largest >= batch else f"[yellow]batch {largest}[/]"


def _print_notes(console: Console, config: VaceEConfig) -> None:
    frozen = ", ".join(f"{name} {size:g} GB" for name, size in FROZEN_GB.items())
    when = "while the cache is filled, one after the other" if config.use_cache else "in every step"
    peak = f"{100 * UTILISATION:.0f} % of its bf16 peak"
    console.print(
        f"\nPeak = weights + optimiser (weight, gradient, moments, bf16 copy) + kept + live + features (of "
        f"{config.feature_batch} samples on one card) + {CONTEXT_GB:g} GB of CUDA.\n"
        f"s/clip: an H200 at {peak}, without the features. Columns of cards: whether the batch fits, and the "
        f"largest power of two that does.\nFrozen encoders come beside it {when}: {frozen}.",
        soft_wrap=True,
    )
    if not torch.cuda.is_available():
        console.print("This machine has no CUDA device; the plan is for the cards named above.")
