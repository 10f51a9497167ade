"""Rows of all processes, with gradient; and modules that must stay equal on each.

`accelerator.gather` and `torch.distributed.all_gather` cut the graph: a contrastive loss over their
result trains nothing, silently. With one process every function returns its input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tacit_learning.layers.backbone import weights_sha256

MAX_AXES = 8


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(rows: Tensor, check: bool = True) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks.

    The gradient of row i is the sum over processes of the gradient that each gives it. Where every
    process computes the full loss over the result and data parallelism averages the parameters'
    gradients, they equal those of one process with all rows. Integers and booleans have none.

    Args:
        rows: (B, ...), B equal on every process.
        check: Compare the shapes first, which waits for the device; all processes must agree on it.

    Returns:
        (B x world, ...).

    Raises:
        ValueError: Shapes differ between processes; on each of them, none hangs.
    """
    if world_size() == 1:
        return rows
    if check:
        _check_equal_shapes(rows)
    return _GatherRows.apply(rows)


def broadcast_module(module: nn.Module, source: int = 0) -> None:
    """Overwrite parameters and buffers with those of process `source`."""
    if world_size() > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, src=source)


def equal_over_processes(module: nn.Module) -> bool:
    """Whether all processes hold the same bits in `module`; every process gets the answer."""
    if world_size() == 1:
        return True
    digests: list[str | None] = [None] * world_size()
    dist.all_gather_object(digests, weights_sha256(module))
    return len(set(digests)) == 1


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        return _all_gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.count : (rank() + 1) * ctx.count]


def _all_gather(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


def _check_equal_shapes(rows: Tensor) -> None:
    """Compare shapes first: an all_gather of unequal tensors hangs or reads past the end."""
    padded = torch.full((MAX_AXES,), -1, dtype=torch.int64, device=rows.device)
    padded[: rows.ndim] = torch.tensor(rows.shape)
    shapes = [tuple(n for n in shape if n >= 0) for shape in _all_gather(padded[None]).tolist()]
    if len(set(shapes)) != 1:
        raise ValueError(
            f"gather: rows have shapes {shapes} on ranks 0..{world_size() - 1}; expected one shape"
        )
