"""Train VACE-E sharded by FSDP2 over CPU processes: `torchrun ... this.py config.yaml key=value ...`.

Accelerate takes its FSDP plugin on accelerators alone; here it is told that this is one.
"""

from __future__ import annotations

import sys

from accelerate import Accelerator
from accelerate.utils import DistributedType

import tacit_learning.vace_e.processes as processes
import tacit_learning.vace_e.train as training
from tacit.config import load
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


def make_sharded(config: VaceEConfig, reporter: Reporter) -> Accelerator:
    processes.Accelerator = ShardedAccelerator  # type: ignore[misc]
    accelerator = processes.make_accelerator(config, reporter)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = processes._fsdp(config)
    return accelerator


if __name__ == "__main__":
    training.make_accelerator = make_sharded  # type: ignore[attr-defined]
    training.train(load(VaceEConfig, sys.argv[1], sys.argv[2:]), SilentReporter())
