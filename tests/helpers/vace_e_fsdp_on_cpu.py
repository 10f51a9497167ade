"""Train VACE-E sharded by FSDP2 over CPU processes: `torchrun ... this.py config.yaml key=value ...`.

Accelerate takes its FSDP plugin on accelerators alone; here it is told that this is one.
"""

from __future__ import annotations

import sys

from accelerate import Accelerator
from accelerate.utils import DistributedType

import tacit_learning.engine.processes as processes
import tacit_learning.vace_e.run as training
from tacit.config import load
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.tracking import Reporter, SilentReporter
from tacit_learning.vace_e.config import VaceEConfig


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
        self.accelerator.state.distributed_type = DistributedType.FSDP
        self.accelerator.state.fsdp_plugin = processes._fsdp(options)


if __name__ == "__main__":
    processes.Accelerator = ShardedAccelerator  # type: ignore[misc]
    training.Processes = ShardedProcesses  # type: ignore[misc]
    training.train(load(VaceEConfig, sys.argv[1], sys.argv[2:]), SilentReporter())
