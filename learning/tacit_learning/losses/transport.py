"""Entropic optimal transport by Sinkhorn's iterations, with their exact gradient.

Source: Cuturi 2013, arXiv:1306.0895; the kernel is balanced in log space first, as in Schmitzer 2019,
arXiv:1610.06519. Legend: N, M points, I iterations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# A balanced kernel in float64 holds exp(-700); scalings within exp(+-300) keep what lies below that at
# exp(-100) of the mass. Potentials further apart are left to log space.
SMALLEST_LOG, LARGEST_LOG = -700.0, 300.0


def sinkhorn_plan(log_kernel: Tensor, num_iterations: int) -> Tensor:
    """Scale the rows and columns of exp(log_kernel) until they sum to 1/N and 1/M.

    Each iteration rescales rows, then columns; a last rescaling makes the rows exact. Entries of the
    kernel may lie any number of orders apart.

    Args:
        log_kernel: (N, M), finite.
        num_iterations: Iterations, >= 0.

    Returns:
        Plan (N, M); its gradient is that of these iterations, not of their limit.
    """
    if log_kernel.ndim != 2 or 0 in log_kernel.shape:
        raise ValueError(f"sinkhorn_plan: kernel {tuple(log_kernel.shape)}, expected (N, M)")
    scaled = _scale(log_kernel.detach(), num_iterations)
    if scaled is None:
        return plan_in_log_space(log_kernel, num_iterations)
    plan: Tensor = _Scaled.apply(log_kernel, *scaled)  # type: ignore[no-untyped-call]
    return plan


def plan_in_log_space(log_kernel: Tensor, num_iterations: int) -> Tensor:
    """Compute the same through logarithms of all sums: for any kernel, five times as slow."""
    log_row, log_column = (-math.log(size) for size in log_kernel.shape)
    columns = log_kernel.new_zeros(1, log_kernel.shape[1])
    for _ in range(num_iterations):
        rows = log_row - torch.logsumexp(log_kernel + columns, dim=1, keepdim=True)
        columns = log_column - torch.logsumexp(log_kernel + rows, dim=0, keepdim=True)
    return torch.softmax(log_kernel + columns, dim=1) / log_kernel.shape[0]


class _Scalings(NamedTuple):
    """A balanced kernel (N, M); the scalings of its rows (I + 1, N) and columns (I + 1, M), columns first."""

    kernel: Tensor
    rows: Tensor
    columns: Tensor


def _scale(log_kernel: Tensor, num_iterations: int) -> _Scalings | None:
    """Return all scalings, or None where they leave the range of numbers.

    Balanced, every row and column has the largest entry 1; the first scaling of the columns undoes that,
    so the iterations are those of the kernel itself.
    """
    balanced = log_kernel.double()
    balanced = balanced - balanced.amax(1, keepdim=True)
    balance = balanced.amax(0, keepdim=True)
    kernel = (balanced - balance).clamp_(min=SMALLEST_LOG).exp_()
    row_mass, column_mass = (1 / size for size in kernel.shape)
    rows, columns = [], [balance.squeeze(0).exp()]
    for step in range(num_iterations + 1):
        rows.append(row_mass / (kernel @ columns[-1]))
        if step < num_iterations:
            columns.append(column_mass / (rows[-1] @ kernel))
    scalings = _Scalings(kernel, torch.stack(rows), torch.stack(columns))
    inside = [(scaling.log().abs() < LARGEST_LOG).all() for scaling in scalings[1:]]
    return scalings if bool(inside[0] & inside[1]) else None


class _Scaled(torch.autograd.Function):
    """The plan; its gradient goes back through every scaling, each an outer product for the kernel."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, log_kernel: Tensor, kernel: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        ctx.save_for_backward(kernel, rows, columns)
        return (rows[-1].unsqueeze(1) * kernel * columns[-1]).to(log_kernel.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        kernel, rows, columns = ctx.saved_tensors  # type: ignore[attr-defined]
        num_rows, num_columns = kernel.shape
        direct = grad * (rows[-1].unsqueeze(1) * kernel * columns[-1])
        row_grad, column_grad = direct.sum(1), direct.sum(0)
        left, right = [], []
        for step in range(len(rows) - 1, -1, -1):
            left.append(num_rows * row_grad * rows[step])
            right.append(columns[step])
            column_grad = column_grad - columns[step] * (left[-1] @ kernel)
            if step > 0:
                left.append(rows[step - 1])
                right.append(num_columns * column_grad * columns[step])
                row_grad = -rows[step - 1] * (kernel @ right[-1])
                column_grad = torch.zeros_like(column_grad)
        through = kernel * (torch.stack(left).T @ torch.stack(right))
        return (direct - through).to(grad.dtype), None, None, None
