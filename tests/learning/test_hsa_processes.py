"""HSA and touch to come over two gloo processes: losses and gradients are those of one process with all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from in_two_processes import in_two_processes
from tiny_world import tiny_config, tiny_table
from torch.nn.parallel import DistributedDataParallel

from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.data.spec import make_spec
from tacit_learning.data.windows import Batch, ChunkWindows

WORLD, ROWS = 2, [0, 11, 35, 47, 62, 80]  # none runs past its end, so L1 is a mean over as many on each
BEFORE = [5, 16, 40, 52, 67, 74]


def policy_of(folder: Path) -> ActHsaPolicy:
    torch.manual_seed(0)
    options = {
        "hsa__negatives": ["batch", "queue"],
        "hsa__queue_size": 20,
        "model__latent_dim": 0,
        "model__dropout": 0.0,
    }
    config = tiny_config(folder, **options, future__weight=1.0, loss__last_weight=3.0)
    return ActHsaPolicy(config, make_spec(tiny_table()))


def rows(chosen: list[int]) -> Batch:
    return ChunkWindows(tiny_table(), 5, future_ticks=5).__getitems__(chosen)


def process(folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    number = dist.get_rank()
    try:
        model = DistributedDataParallel(policy_of(Path(folder)), find_unused_parameters=True)
        half = len(ROWS) // WORLD
        with torch.no_grad():  # so that the queue holds rows of all
            model(rows(BEFORE[number * half : (number + 1) * half]))
        loss, metrics = model(rows(ROWS[number * half : (number + 1) * half]))
        loss.backward()
        gradients = {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}
        torch.save({"metrics": metrics, "gradients": gradients}, Path(folder) / f"{number}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_align_touch_as_one_with_all_rows(tmp_path: Path) -> None:
    in_two_processes(process, str(tmp_path))
    whole = policy_of(tmp_path)
    with torch.no_grad():
        whole(rows(BEFORE))
    loss, metrics = whole(rows(ROWS))
    loss.backward()
    expected = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    for number in range(WORLD):
        answer = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        for name in ("hsa_w", "hsa_tp", "hsa_chance", "hsa_weight", "hsa_pull_raw"):
            torch.testing.assert_close(answer["metrics"][name], metrics[name], rtol=1e-5, atol=1e-6)
        heads = [name for name in expected if name.startswith(("alignment.", "future."))]
        assert len({name.partition(".")[0] for name in heads}) == 2 and all(
            expected[name].abs().max() > 0 for name in heads
        )
        for name in heads:
            torch.testing.assert_close(answer["gradients"][name], expected[name], rtol=1e-4, atol=1e-6)
