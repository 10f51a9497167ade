"""Soft dynamic time warping: the smoothed cost of the cheapest monotonic path through a cost matrix.

Source: Cuturi and Blondel 2017, arXiv:1703.01541. On a CPU with numba one compiled loop per pair
(`soft_dtw_kernels`); elsewhere whole anti-diagonals of the batch at once. Both keep the three weights
of every softmin, so the backward pass needs no exponential. Legend: B batch, N and M frames.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from tacit_learning.losses.distances import full_precision, squared_distances

Implementation = Literal["auto", "numba", "torch"]


@full_precision
def soft_dtw(
    cost: Tensor,
    gamma: float,
    *,
    bandwidth: float | None = None,
    x_lengths: Tensor | None = None,
    y_lengths: Tensor | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Compute R_NM of R_ij = D_ij + softmin(R_i-1,j-1; R_i-1,j; R_i,j-1), R_00 = 0.

    softmin(a) = -gamma log sum exp(-a / gamma), so values below 0 are normal. The table is float64
    whatever the type of the cost: float32 sums lose the differences that gamma looks at after some
    hundred frames.

    Args:
        cost: D (B, N, M); +inf forbids a cell.
        gamma: Smoothing > 0; towards 0 the value becomes that of classic DTW.
        bandwidth: Half width of the band around the line between the two corners, in frames of the
            longer sequence (|i - j| <= bandwidth where N = M); widened to the least that holds a path.
        x_lengths: Valid rows of each pair (B,); rows beyond are never read.
        y_lengths: Valid columns of each pair (B,).
        implementation: "auto" is numba on the CPU where installed, else torch.

    Returns:
        Values (B,) in the type of the cost.
    """
    _check(cost, gamma, bandwidth, implementation)
    sizes = _sizes(cost, x_lengths, y_lengths)
    use_numba = implementation == "numba" or (
        implementation == "auto" and cost.device.type == "cpu" and numba_is_installed()
    )
    function = _Compiled if use_numba else _Diagonals
    value: Tensor = function.apply(cost, float(gamma), sizes, bandwidth)  # type: ignore[no-untyped-call]
    return value


def soft_dtw_divergence(
    x: Tensor,
    y: Tensor,
    gamma: float,
    *,
    bandwidth: float | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Compute sdtw(x, y) - (sdtw(x, x) + sdtw(y, y)) / 2 of batches (B, N, D), (B, M, D): 0 where x = y."""

    def value(a: Tensor, b: Tensor) -> Tensor:
        cost = squared_distances(a, b)
        return soft_dtw(cost, gamma, bandwidth=bandwidth, implementation=implementation)

    return value(x, y) - 0.5 * (value(x, x) + value(y, y))


@functools.cache
def numba_is_installed() -> bool:
    """Tell whether the compiled path exists here, without importing numba."""
    return importlib.util.find_spec("numba") is not None


class Band(NamedTuple):
    """Rows [start, stop) of every anti-diagonal i + j = d that paths may use, each (N + M - 1,) int64."""

    starts: np.ndarray
    stops: np.ndarray

    @property
    def num_cells(self) -> int:
        """Cells that paths may use."""
        return int((self.stops - self.starts).sum())

    @property
    def offsets(self) -> np.ndarray:
        """Number of these cells before every anti-diagonal (N + M - 1,)."""
        return np.cumsum(self.stops - self.starts) - (self.stops - self.starts)


def band(num_rows: int, num_columns: int, bandwidth: float | None) -> Band:
    """Return the rows that lie inside the matrix and within `bandwidth` of the line between its corners.

    The distance of (i, j) from the line is |i / (N-1) - j / (M-1)| (max(N, M) - 1). Half of the line's
    slope is the least half width through which a path always exists.
    """
    diagonal = np.arange(num_rows + num_columns - 1)
    starts = np.maximum(0, diagonal - num_columns + 1)
    stops = np.minimum(num_rows, diagonal + 1)
    if bandwidth is not None and min(num_rows, num_columns) > 1:
        longest = max(num_rows, num_columns) - 1
        row_step, column_step = longest / (num_rows - 1), longest / (num_columns - 1)
        half = max(bandwidth, 0.5 * max(row_step, column_step)) + 1e-9
        centre = diagonal * column_step
        starts = np.maximum(starts, np.ceil((centre - half) / (row_step + column_step)).astype(np.int64))
        stops = np.minimum(stops, np.floor((centre + half) / (row_step + column_step)).astype(np.int64) + 1)
        stops = np.maximum(starts, stops)
    return Band(starts, stops)


class _Compiled(torch.autograd.Function):
    """One pair after the other by `soft_dtw_kernels`, on the CPU."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, cost: Tensor, gamma: float, sizes: list[tuple[int, int]], bandwidth: float | None
    ) -> Tensor:
        from tacit_learning.losses.soft_dtw_kernels import forward

        costs = cost.detach().contiguous().numpy()
        values, weights, bands = np.empty(len(costs)), [], [band(n, m, bandwidth) for n, m in sizes]
        for b, (n, _) in enumerate(sizes):
            starts, stops = bands[b]
            weights.append(np.empty((3, bands[b].num_cells), dtype=costs.dtype))
            values[b] = forward(costs[b], n, gamma, starts, stops, bands[b].offsets, weights[b])
        ctx.save_for_backward(*(torch.from_numpy(w) for w in weights))
        ctx.values, ctx.sizes, ctx.bands, ctx.shape = values, sizes, bands, cost.shape  # type: ignore[attr-defined]
        return cost.new_tensor(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from tacit_learning.losses.soft_dtw_kernels import backward

        gradient = grad.new_zeros(ctx.shape)  # type: ignore[attr-defined]
        saved = zip(ctx.sizes, ctx.bands, ctx.saved_tensors, strict=True)  # type: ignore[attr-defined]
        scales = _scales(grad, torch.from_numpy(ctx.values)).tolist()  # type: ignore[attr-defined]
        for b, ((n, _), (starts, stops), weights) in enumerate(saved):
            offsets = Band(starts, stops).offsets
            backward(n, starts, stops, offsets, weights.numpy(), scales[b], gradient.numpy()[b])
        return gradient, None, None, None


class _Diagonals(torch.autograd.Function):
    """Whole anti-diagonals of the batch, on any device, in float64."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, cost: Tensor, gamma: float, sizes: list[tuple[int, int]], bandwidth: float | None
    ) -> Tensor:
        values, weights = _torch_forward(cost.detach().double(), gamma, sizes, bandwidth)
        ctx.save_for_backward(weights, values)
        ctx.sizes, ctx.dtype = sizes, cost.dtype  # type: ignore[attr-defined]
        return values.to(cost.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weights, values = ctx.saved_tensors  # type: ignore[attr-defined]
        use = _torch_backward(weights, ctx.sizes)  # type: ignore[attr-defined]
        gradient = use * _scales(grad, values)[:, None, None]
        return gradient.to(ctx.dtype), None, None, None  # type: ignore[attr-defined]


def _scales(grad: Tensor, values: Tensor) -> Tensor:
    """Return the factor of each pair's gradient: 0 where no path exists, NaN where the value is."""
    return torch.where(torch.isinf(values), 0.0, grad.double() + 0 * values)


def _torch_forward(
    cost: Tensor, gamma: float, sizes: list[tuple[int, int]], bandwidth: float | None
) -> tuple[Tensor, Tensor]:
    """Fill the table one anti-diagonal of the whole batch at a time; skewed row i holds D[i, d - i]."""
    num_pairs, rows, columns = cost.shape
    open_cells = _open_cells(sizes, rows, columns, bandwidth).to(cost.device)
    skewed = _skew(cost.masked_fill(~open_cells, torch.inf), torch.inf)
    num_diagonals = rows + columns - 1
    table = cost.new_full((num_pairs, num_diagonals + 2, rows + 1), torch.inf)
    table[:, 0, 0] = 0.0
    weights = cost.new_zeros((num_pairs, num_diagonals, rows, 3))
    for d in range(num_diagonals):
        before = torch.stack((table[:, d, :-1], table[:, d + 1, :-1], table[:, d + 1, 1:]), dim=-1)
        least = before.amin(-1, keepdim=True)
        least = torch.where(torch.isinf(least), 0.0, least)
        terms = torch.exp((least - before) / gamma)
        total = terms.sum(-1, keepdim=True)
        weights[:, d] = terms / total.clamp(min=1e-300)
        table[:, d + 2, 1:] = skewed[:, d] + (least - gamma * total.log()).squeeze(-1)
    last = torch.tensor([(n + m, n) for n, m in sizes], device=cost.device)
    values = table[torch.arange(num_pairs, device=cost.device), last[:, 0], last[:, 1]]
    return values, weights


def _torch_backward(weights: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Push the expected use of every cell back to its three predecessors, diagonal by diagonal."""
    num_pairs, num_diagonals, rows, _ = weights.shape
    expected = weights.new_zeros((num_pairs, num_diagonals + 2, rows + 1))
    for b, (n, m) in enumerate(sizes):
        expected[b, n + m, n] = 1.0
    for d in range(num_diagonals - 1, -1, -1):
        flow = expected[:, d + 2, 1:, None] * weights[:, d]
        expected[:, d, :-1] += flow[..., 0]
        expected[:, d + 1, :-1] += flow[..., 1]
        expected[:, d + 1, 1:] += flow[..., 2]
    return _unskew(expected[:, 2:, 1:], num_diagonals - rows + 1)


def _open_cells(sizes: list[tuple[int, int]], rows: int, columns: int, bandwidth: float | None) -> Tensor:
    """Return which cells paths may use (B, N, M)."""
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    cells = np.zeros((len(sizes), rows, columns), dtype=bool)
    for b, (n, m) in enumerate(sizes):
        starts, stops = band(n, m, bandwidth)
        diagonal = np.minimum(i + j, n + m - 2)
        cells[b] = (i < n) & (j < m) & (i >= starts[diagonal]) & (i < stops[diagonal])
    return torch.from_numpy(cells)


def _skew(matrix: Tensor, fill: float) -> Tensor:
    """Return S (B, N+M-1, N) with S[d, i] = matrix[i, d - i], `fill` outside."""
    num_pairs, rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, rows), value=fill)
    shifted = padded.reshape(num_pairs, -1)[:, : rows * (rows + columns - 1)]
    return shifted.reshape(num_pairs, rows, rows + columns - 1).transpose(1, 2)


def _unskew(skewed: Tensor, columns: int) -> Tensor:
    """Return the matrix (B, N, M) of which `_skew` made `skewed`."""
    num_pairs, num_diagonals, rows = skewed.shape
    flat = torch.nn.functional.pad(skewed.transpose(1, 2).reshape(num_pairs, -1), (0, rows))
    return flat.reshape(num_pairs, rows, num_diagonals + 1)[:, :, :columns]


def _sizes(cost: Tensor, x_lengths: Tensor | None, y_lengths: Tensor | None) -> list[tuple[int, int]]:
    def lengths(given: Tensor | None, most: int, name: str) -> list[int]:
        if given is None:
            return [most] * len(cost)
        listed = [int(length) for length in given.tolist()]
        if len(listed) != len(cost) or not all(1 <= length <= most for length in listed):
            raise ValueError(f"soft_dtw: {name} {listed}, expected {len(cost)} lengths in 1..{most}")
        return listed

    rows = lengths(x_lengths, cost.shape[1], "x_lengths")
    return list(zip(rows, lengths(y_lengths, cost.shape[2], "y_lengths"), strict=True))


def _check(cost: Tensor, gamma: float, bandwidth: float | None, implementation: str) -> None:
    if implementation not in ("auto", "numba", "torch"):
        raise ValueError(f"soft_dtw: implementation {implementation!r}, expected 'auto', 'numba' or 'torch'")
    if implementation == "numba" and cost.device.type != "cpu":
        raise ValueError(f"soft_dtw: implementation 'numba' on {cost.device}; leave it at 'auto' there")
    if cost.ndim != 3 or 0 in cost.shape:
        raise ValueError(f"soft_dtw: cost {tuple(cost.shape)}, expected (B, N, M) with at least one frame")
    if not gamma > 0:
        raise ValueError(f"soft_dtw: gamma {gamma}, expected > 0")
    if bandwidth is not None and not bandwidth >= 0:
        raise ValueError(f"soft_dtw: bandwidth {bandwidth}, expected >= 0 or None")
