"""Train VACE-E as one of two processes, several runs in turn: the imports cost more than a run.

Plain runs are those of the command line, sharded ones use FSDP2 on the CPU. Accelerate takes its FSDP plugin
on accelerators alone; here it is told that this is one, and does with the plugin what it does there.
"""

from __future__ import annotations

import os
import signal

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType

import tacit_learning.engine.processes as processes
import tacit_learning.vace_e.run as training
from tacit.cli import main
from tacit.config import load
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.tracking import Reporter, SilentReporter
from tacit_learning.vace_e.config import VaceEConfig

PLAIN = processes.Accelerator, training.Processes
KILLED_AFTER = 5  # steps


class ShardedAccelerator(Accelerator):
    """Says that it shards."""

    @property
    def distributed_type(self) -> DistributedType:
        return DistributedType.FSDP

    @property
    def is_fsdp2(self) -> bool:
        return True


class ShardedProcesses(processes.Processes):
    """Processes over which the model is sharded."""

    def __init__(self, config: TrainConfig, options: processes.ProcessOptions, reporter: Reporter) -> None:
        super().__init__(config, options, reporter)
        plugin = processes._fsdp(options)
        if config.precision != "no":  # as `AcceleratorState` does
            plugin.set_mixed_precision(config.precision)
        self.accelerator.state.distributed_type = DistributedType.FSDP
        self.accelerator.state.fsdp_plugin = plugin


class KilledRun(training.VaceERun):
    """Its second process is killed while the first waits for it."""

    def gauges(self) -> dict[str, float]:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == KILLED_AFTER and self.processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return dict(super().gauges())


def train(told: str) -> None:
    """Do one run: `config.yaml`, `sharded:config.yaml` or `killed:config.yaml`."""
    kind, _, path = told.rpartition(":")
    chosen = (ShardedAccelerator, ShardedProcesses) if kind else PLAIN
    processes.Accelerator, training.Processes = chosen  # type: ignore[misc]
    if kind == "killed":
        training.VaceERun = KilledRun  # type: ignore[misc]
    if kind:
        training.train(load(VaceEConfig, path), SilentReporter())
    elif code := main(["train", "vace_e", "--config", path]):
        raise SystemExit(code)


def train_in_turn(*told: str) -> None:
    """Do the runs, each as `train` is told."""
    # A second group on one store would meet the addresses of the first: all runs share one.
    end, dist.destroy_process_group = dist.destroy_process_group, lambda *_: None
    for each in told:
        train(each)
    end()
