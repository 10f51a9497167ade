"""Processes, precision and memory by accelerate: one device, DDP, or FSDP2."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import (
    Accelerator,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DDPCommunicationHookType, DistributedType
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from tacit.errors import ConfigError, MissingDependencyError
from tacit_learning.engine.tracking import Reporter
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.model.transformer import VaceETransformer
from tacit_learning.vace_e.state import ON_CPU

PATIENCE = timedelta(hours=6)
"""Processes wait for the one that validates, or encodes longest; ten minutes, the default, are too few."""


def make_accelerator(config: VaceEConfig, reporter: Reporter) -> Accelerator:
    """Return an accelerator; a second one in this process may have other options.

    A card without bf16 falls back to fp16, and says so.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    notes: list[str] = []
    logging = config.logging
    if logging.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise MissingDependencyError(
            "logging.wandb: wandb is not installed; pip install wandb, or set logging.wandb=disabled"
        )
    handlers = [
        DistributedDataParallelKwargs(
            find_unused_parameters=not config.feature_losses, comm_hook=_hook(config, notes)
        ),
        InitProcessGroupKwargs(timeout=PATIENCE),
    ]
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=_precision(config, notes),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        kwargs_handlers=handlers,  # type: ignore[arg-type]
        fsdp_plugin=_fsdp(config) if config.distributed == "fsdp2" else None,
        log_with=None if logging.wandb == "disabled" else "wandb",
    )
    if config.vram_optimization.offloads_models and config.distributed != "fsdp2":
        notes.append("cpu_offload: parameters move to the CPU under distributed=fsdp2 alone")
    for note in notes if accelerator.is_main_process else ():
        reporter.message(note)
    if logging.wandb != "disabled":
        options = {"name": logging.experiment_name, "mode": logging.wandb}
        accelerator.init_trackers(logging.wandb_project, init_kwargs={"wandb": options})
    return accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether parameters are split over processes, so that each forward needs all of them."""
    return accelerator.distributed_type == DistributedType.FSDP


def choose_wrapped(accelerator: Accelerator, module: nn.Module) -> None:
    """Tell FSDP2 which blocks to shard one by one: those of our classes that the module has."""
    present = {type(each).__name__ for each in module.modules()}
    names = [name for name in VaceETransformer._no_split_modules if name in present]
    accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = names


@contextmanager
def gathered(accelerator: Accelerator, module: nn.Module) -> Iterator[None]:
    """Let the parts of a sharded module be called one by one; else change nothing.

    Blocks gather their own parameters when they run; those outside the blocks belong to the root.
    """
    root = module if is_sharded(accelerator) and isinstance(module, FSDPModule) else None
    if root is not None:
        root.unshard()
    try:
        yield
    finally:
        if root is not None:
            root.reshard()


def full_weights(accelerator: Accelerator, module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a module; whole on the main process, wherever they lie."""
    if is_sharded(accelerator):
        return dict(get_model_state_dict(module, options=ON_CPU))  # type: ignore[arg-type]
    return accelerator.unwrap_model(module).state_dict()


def keep_moments_on_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Move the moments of an optimiser to the device for each step, and back: memory for time."""
    optimizer.register_step_pre_hook(lambda *_: _move_moments(optimizer, None))
    optimizer.register_step_post_hook(lambda *_: _move_moments(optimizer, torch.device("cpu")))


def check_processes(config: VaceEConfig, accelerator: Accelerator) -> None:
    """Refuse what several processes, or one, cannot do.

    Raises:
        ConfigError: Names the option.
    """
    if config.distributed == "fsdp2" and accelerator.num_processes == 1:
        raise ConfigError("distributed: fsdp2 splits a model over processes; start several with torchrun")
    rows = config.feature_batch or config.batch_size * accelerator.num_processes
    wants = config.enable_club_loss or config.xcov_lambda or config.enable_contrastive_loss
    if config.feature_losses and wants and rows < 2:
        raise ConfigError(
            "feature_batch: 0 takes the video batch, which has one clip; the feature losses compare rows: "
            "set feature_batch, batch_size 2, or switch enable_contrastive_loss and enable_club_loss off"
        )


def _move_moments(optimizer: torch.optim.Optimizer, device: torch.device | None) -> None:
    """Move what has axes to `device`, None: to that of its parameter; step counts stay."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.ndim:
                values[name] = value.to(parameter.device if device is None else device)


def _uses_cuda(config: VaceEConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def _precision(config: VaceEConfig, notes: list[str]) -> str:
    lacks = _uses_cuda(config) and not torch.cuda.is_bf16_supported(including_emulation=False)
    if config.mixed_precision == "bf16" and lacks:
        notes.append("mixed_precision: this card has no bf16; falling back to fp16 with a loss scaler")
        return "fp16"
    return config.mixed_precision


def _hook(config: VaceEConfig, notes: list[str]) -> DDPCommunicationHookType:
    if not config.vram_optimization.compresses_gradients:
        return DDPCommunicationHookType.NO
    if _uses_cuda(config):
        return DDPCommunicationHookType.BF16
    notes.append("gradient_compression: needs CUDA and NCCL; processes exchange float32 gradients")
    return DDPCommunicationHookType.NO


def _fsdp(config: VaceEConfig) -> FullyShardedDataParallelPlugin:
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        cpu_offload=config.vram_optimization.offloads_models,
        reshard_after_forward=True,
    )
