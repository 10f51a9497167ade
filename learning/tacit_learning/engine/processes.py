"""Processes, precision and memory by accelerate: one device, DDP, or FSDP2."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
from accelerate import (
    Accelerator,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DDPCommunicationHookType, DistributedType, broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.nn.parallel import DistributedDataParallel

from tacit.errors import ConfigError, MissingDependencyError
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.tracking import Reporter, SilentReporter

T = TypeVar("T")
PATIENCE = timedelta(hours=6)
"""Processes wait for the one that validates, or encodes longest; ten minutes, the default, are too few."""


@dataclass(frozen=True)
class ProcessOptions:
    """How processes share a model, and what waits on the CPU.

    Attributes:
        shards: FSDP2 splits parameters over processes; else each holds all of them (DDP).
        blocks: Names of the classes that FSDP2 splits one by one.
        offload_parameters: Under FSDP2, parameters wait on the CPU between uses; else the model sees to it.
        offload_moments: The moments of AdamW wait on the CPU between steps.
        compress_gradients: Processes exchange gradients in bf16.
        find_unused: Some parameters may get no gradient in a step.
        wandb: `offline` or `online`: also track in Weights & Biases.
        project: There.
        name: Name of the run there.
    """

    shards: bool = False
    blocks: tuple[str, ...] = ()
    offload_parameters: bool = False
    offload_moments: bool = False
    compress_gradients: bool = False
    find_unused: bool = False
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str = ""
    name: str = ""


class Processes:
    """This process among those that train together.

    Args:
        config: Device, precision, accumulation.
        options: How the model is shared.
        reporter: Told what the machine cannot do, and what happens instead.

    Attributes:
        accelerator: What accelerate knows of them.
        device: Where this process computes.
        rank: Its number, from 0.
        world: How many there are.
        is_main: Whether it is the one that writes.

    Raises:
        ConfigError: Options that the number of processes contradicts.
        MissingDependencyError: wandb is wanted and not installed.
    """

    def __init__(self, config: TrainConfig, options: ProcessOptions, reporter: Reporter) -> None:
        # a second accelerator in this process may have other options
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        if options.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
            raise MissingDependencyError(
                "wandb is asked for and not installed; pip install wandb, or set it to disabled"
            )
        notes: list[str] = []
        on_cuda = config.device != "cpu" and torch.cuda.is_available()
        hook = DistributedDataParallelKwargs(
            find_unused_parameters=options.find_unused, comm_hook=_hook(options, on_cuda, notes)
        )
        self.options = options
        self.accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=_precision(config, on_cuda, notes),
            gradient_accumulation_steps=config.accumulate,
            kwargs_handlers=[hook, InitProcessGroupKwargs(timeout=PATIENCE)],
            fsdp_plugin=_fsdp(options) if options.shards else None,
            log_with=None if options.wandb == "disabled" else "wandb",
        )
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        self._check(config)
        for note in notes if self.is_main else ():
            reporter.message(note)
        if options.wandb != "disabled":
            settings = {"name": options.name, "mode": options.wandb}
            self.accelerator.init_trackers(options.project, init_kwargs={"wandb": settings})

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are split over processes, so that each forward needs all of them."""
        return self.accelerator.distributed_type == DistributedType.FSDP

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to this process's device; one that will be sharded goes there shard by shard."""
        return module if self.options.shards else module.to(self.device)

    def prepare(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, AcceleratedOptimizer]:
        """Hand a model and the optimiser of a stage to accelerate.

        A model that is sharded already stays so; any other is taken out of what an earlier stage wrapped
        around it, for DDP must know which parameters train now.
        """
        if self.options.offload_moments:
            _keep_moments_on_cpu(optimizer)
        if self.is_sharded and isinstance(module, FSDPModule):
            return module, self.accelerator.prepare_optimizer(optimizer)
        if self.is_sharded:
            present = {type(each).__name__ for each in module.modules()}
            names = [name for name in self.options.blocks if name in present]
            self.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = names
        else:
            self.accelerator.free_memory()
            module = self.accelerator.unwrap_model(module, keep_fp32_wrapper=False)
            waiting = [
                name
                for name, each in module.named_parameters()
                if not each.requires_grad and each.device.type != self.device.type
            ]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, waiting)
        return self.accelerator.prepare(module, optimizer)

    def unwrap(self, module: nn.Module) -> nn.Module:
        """Return the model inside what accelerate wrapped around it."""
        return self.accelerator.unwrap_model(module)

    @contextmanager
    def gathered(self, module: nn.Module) -> Iterator[None]:
        """Let the parts of a sharded module be called one by one; else change nothing.

        Blocks gather their own parameters when they run; those outside the blocks belong to the root.
        """
        root = module if self.is_sharded and isinstance(module, FSDPModule) else None
        if root is not None:
            root.unshard()
        try:
            yield
        finally:
            if root is not None:
                root.reshard()

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the weights of a module; whole on the main process, wherever they lie."""
        if self.is_sharded:
            on_cpu = StateDictOptions(full_state_dict=True, cpu_offload=True)
            return dict(get_model_state_dict(module, options=on_cpu))  # type: ignore[arg-type]
        return self.unwrap(module).state_dict()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process of each machine do something before the others do it."""
        with self.accelerator.local_main_process_first():
            yield

    def mean(self, values: Tensor) -> Tensor:
        """Average over processes."""
        return values if self.world == 1 else self.accelerator.reduce(values, reduction="mean")

    def everyone(self, values: list[T]) -> list[T]:
        """Return the values that the processes give, together; each gets all of them."""
        return values if self.world == 1 else list(gather_object(values))

    def of_main(self, names: list[str]) -> list[str]:
        """Return the names that the main process gives."""
        return names if self.world == 1 else list(broadcast_object_list([names])[0])

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def _check(self, config: TrainConfig) -> None:
        if self.options.shards and self.world == 1:
            raise ConfigError("distributed: fsdp2 splits a model over processes; start several with torchrun")
        if self.world > 1 and config.max_seconds:
            raise ConfigError("train.max_seconds: several processes have several clocks; give train.steps")


def device_of(config: TrainConfig) -> torch.device:
    """Return where this process computes, for work before or after the training."""
    return Processes(config, ProcessOptions(), SilentReporter()).device


def _keep_moments_on_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Move the moments of an optimiser to the device for each step, and back: memory for time."""
    optimizer.register_step_pre_hook(lambda *_: _move_moments(optimizer, None))
    optimizer.register_step_post_hook(lambda *_: _move_moments(optimizer, torch.device("cpu")))


def _move_moments(optimizer: torch.optim.Optimizer, device: torch.device | None) -> None:
    """Move what has axes to `device`, None: to that of its parameter; step counts stay."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.ndim:
                values[name] = value.to(parameter.device if device is None else device)


def _precision(config: TrainConfig, on_cuda: bool, notes: list[str]) -> str:
    lacks = on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "bf16" and lacks:
        notes.append("precision: this card has no bf16; falling back to fp16 with a loss scaler")
        return "fp16"
    return config.precision


def _hook(options: ProcessOptions, on_cuda: bool, notes: list[str]) -> DDPCommunicationHookType:
    if not options.compress_gradients:
        return DDPCommunicationHookType.NO
    if on_cuda:
        return DDPCommunicationHookType.BF16
    notes.append("gradient_compression: needs CUDA and NCCL; processes exchange float32 gradients")
    return DDPCommunicationHookType.NO


def _fsdp(options: ProcessOptions) -> FullyShardedDataParallelPlugin:
    """Return how FSDP2 splits a model.

    Parameters are gathered in the number types they have, and autocast computes in bf16. The policy that
    accelerate makes of `mixed_precision` would cast all of them, and layers that compute in float32 on
    purpose (encoders, projections, norms of diffusers) would then meet two types.
    """
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        cpu_offload=options.offload_parameters,
        reshard_after_forward=True,
        mixed_precision_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False),
    )
