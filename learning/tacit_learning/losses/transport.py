"""Entropic optimal transport by Sinkhorn's iterations in log space, with the exact gradient.

Source: Cuturi 2013, arXiv:1306.0895. Legend: N, M points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# exp(-45) = 3e-20 is nothing beside 1 in any type; the products of smaller ones would be subnormal
# numbers, with which a processor is up to thirty times slower.
SMALLEST_LOG = -45.0


def sinkhorn_plan(log_kernel: Tensor, num_iterations: int) -> Tensor:
    """Scale the rows and columns of exp(log_kernel) until they sum to 1/N and 1/M.

    Each iteration rescales rows, then columns; a last rescaling makes the rows exact. No exponential of
    the kernel itself is taken, so entries may lie thousands apart; parts of the plan below 3e-20 count
    as 3e-20.

    Args:
        log_kernel: (N, M), finite.
        num_iterations: Iterations, >= 0.

    Returns:
        Plan (N, M), positive; its gradient is that of these iterations, not of their limit.
    """
    if log_kernel.ndim != 2 or 0 in log_kernel.shape:
        raise ValueError(f"sinkhorn_plan: kernel {tuple(log_kernel.shape)}, expected (N, M)")
    plan: Tensor = _Sinkhorn.apply(log_kernel, num_iterations)  # type: ignore[no-untyped-call]
    return plan


class _Sinkhorn(torch.autograd.Function):
    """Each rescaling pulls back through the softmax that it used."""

    @staticmethod
    def forward(ctx: FunctionCtx, log_kernel: Tensor, num_iterations: int) -> Tensor:
        log_row, log_column = (-math.log(size) for size in log_kernel.shape)
        columns = [log_kernel.new_zeros(log_kernel.shape[1])]
        rows = []
        for _ in range(num_iterations + 1):
            rows.append(log_row - _logsumexp(log_kernel + columns[-1], dim=1))
            columns.append(log_column - _logsumexp(log_kernel + rows[-1].unsqueeze(1), dim=0))
        plan = _exp(log_kernel + rows[-1].unsqueeze(1) + columns[-2])
        ctx.save_for_backward(log_kernel, plan, torch.stack(rows), torch.stack(columns[:-1]))
        return plan

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        log_kernel, plan, rows, columns = ctx.saved_tensors  # type: ignore[attr-defined]
        num_rows, num_columns = log_kernel.shape
        kernel_grad = grad * plan
        row_grad, column_grad = kernel_grad.sum(1), kernel_grad.sum(0)
        for step in range(len(rows) - 1, -1, -1):
            share = _exp(log_kernel + rows[step].unsqueeze(1) + columns[step])
            share.mul_((num_rows * row_grad).unsqueeze(1))
            kernel_grad -= share
            column_grad = column_grad - share.sum(0)
            if step == 0:
                break
            share = _exp(log_kernel + rows[step - 1].unsqueeze(1) + columns[step])
            share.mul_(num_columns * column_grad)
            kernel_grad -= share
            row_grad, column_grad = -share.sum(1), torch.zeros_like(column_grad)
        return kernel_grad, None


def _exp(logarithms: Tensor) -> Tensor:
    """Exponentiate in place, not below exp(SMALLEST_LOG)."""
    return logarithms.clamp_(min=SMALLEST_LOG).exp_()


def _logsumexp(logarithms: Tensor, dim: int) -> Tensor:
    """Compute log sum exp over `dim`, overwriting the argument."""
    largest = logarithms.amax(dim, keepdim=True)
    return _exp(logarithms.sub_(largest)).sum(dim).log_().add_(largest.squeeze(dim))
