"""The alignment losses as one writes them down first: what `tacit bench alignment` measures against.

Distances expand (N, M, D), pairs and frames go one by one, soft-DTW runs row by row and takes its
exponentials twice, mixtures are fitted by L-BFGS. The values are those of `tacit_learning.losses`,
except for GTCC, whose fit is another one. Legend: N, M frames, D features.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from tacit_learning.losses.gtcc import GOLDEN_RATIO
from tacit_learning.losses.soft_dtw import numba_is_installed


def expanded_distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute |x_i - y_j|^2 (N, M) through the differences (N, M, D)."""
    return (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(-1)


def soft_dtw(x: Tensor, y: Tensor, gamma: float = 0.1) -> Tensor:
    """Compute soft-DTW of two videos by the recursion of Cuturi and Blondel 2017, cell by cell."""
    value: Tensor = _RowByRow.apply(expanded_distances(x, y), gamma)  # type: ignore[no-untyped-call]
    return value


def tcc(embeddings: Tensor) -> Tensor:
    """Compute the variance-aware regression of TCC with the options of training, pair by pair."""
    losses = []
    for u, v in permutations(embeddings, 2):
        nearest = torch.softmax(-expanded_distances(u, v) / 0.1, dim=1) @ v
        arrival = torch.softmax(-expanded_distances(nearest, u) / 0.1, dim=1)
        times = torch.arange(len(u)) / len(u)
        predicted = (arrival * times).sum(1)
        variance = (arrival * (times.unsqueeze(0) - predicted.unsqueeze(1)).square()).sum(1) + len(u) ** -2
        losses.append((times - predicted).square() * torch.exp(-variance.log()) + 0.001 * variance.log())
    return torch.cat(losses).mean()


def lav(x: Tensor, y: Tensor) -> Tensor:
    """Compute LAV from the row by row soft-DTW and whole matrices of gaps."""
    total = soft_dtw(x, y)
    for video in (x, y):
        frames = torch.arange(len(video))
        distances, gap = expanded_distances(video, video), (frames.unsqueeze(0) - frames.unsqueeze(1)).abs()
        apart = (1 + (gap / len(video)).square()) * (2 - distances).relu()
        total = total + 0.5 * torch.where(gap > 10, apart, distances).sum()
    return total / len(x)


def vava(x: Tensor, y: Tensor, phi: float) -> Tensor:
    """Compute VAVA, Sinkhorn unrolled by autograd."""
    distances = expanded_distances(x, y)
    n, m = len(x) + 1, len(y) + 1
    cost = torch.nn.functional.pad(distances, (1, 0, 1, 0), value=0.5)
    rows, columns = torch.meshgrid(torch.arange(1, n + 1), torch.arange(1, m + 1), indexing="ij")
    matched_column = torch.cat((torch.ones(1), distances.argmin(1) + 2.0)).unsqueeze(1)
    matched_row = torch.cat((torch.ones(1), distances.argmin(0) + 2.0)).unsqueeze(0)
    gaps = [(rows / n - columns / m).abs()]
    gaps.append(((rows - matched_row).abs() / n + (columns - matched_column).abs() / m) / 2)
    logits, prior = torch.zeros(n, m), torch.zeros(n, m)
    for weight, gap in zip((phi, 1 - phi), gaps, strict=True):
        gap[0, 1:] = gap[1:, 0] = 15 / (n + m)
        logits += weight * len(x + y) * 2 / (gap.square() + 1)
        prior += weight * torch.exp(-(gap.square() / (1 / n**2 + 1 / m**2)) / 8)
    kernel = prior * torch.exp((logits - cost) / (0.1 * len(x) * len(y) / 4))
    scale_columns = torch.ones(m)
    for _ in range(20):
        scale_rows = 1 / n / (kernel @ scale_columns)
        scale_columns = 1 / m / (kernel.T @ scale_rows)
    plan = (1 / n / (kernel @ scale_columns)).unsqueeze(1) * kernel * scale_columns
    return (plan * cost).sum() + 0.5 * _contrast_within(x, y) + 1e-4 * _contrast_between(x, y, plan[1:, 1:])


def gtcc(u: Tensor, v: Tensor, drops: Tensor, epoch: int, components: int, starts: list[int]) -> Tensor:
    """Compute GTCC of both ordered pairs, frame by frame; drops (2, D + 1)."""
    losses = []
    for a, b, drop in ((u, v, drops[1]), (v, u, drops[0])):
        n, floor = len(a), 0.95 ** (epoch + 1)
        times, half = torch.arange(n) / n, max(1, round(n * 0.2 / 2))
        matches = torch.softmax(-(expanded_distances(a, b) + 1e-12).sqrt() / 0.1, dim=1)
        keep = floor + (1 - floor) * torch.sigmoid(-(a @ drop[:-1] + drop[-1]))
        for i in starts:
            shares, gaussians = fit_by_lbfgs(matches[i].detach(), components)
            due = shares.unsqueeze(1) * gaussians + 1e-30
            shares = (matches[i] * due / due.sum(0)).sum(1)
            distances = (expanded_distances(gaussians @ b, a) + 1e-12).sqrt()
            inside = (torch.arange(n) - i - (2 * math.modf(i * GOLDEN_RATIO)[0] - 1) * half).abs() <= half
            back = torch.softmax(torch.where(inside, -distances / 0.1, -math.inf), dim=1)
            mean = back @ times
            variance = (back * (times - mean.unsqueeze(1)).square()).sum(1) + n**-2
            loss = shares @ ((times[i] - mean).square() / variance + 0.001 * variance.sqrt().log())
            losses.append(keep[i] * loss + (1 - keep[i]) / (loss.relu() + 0.1))
    return torch.stack(losses).mean()


def cumulative_distance(embeddings: Tensor) -> Tensor:
    """Compute the travelled distance (T,) of frames (T, D), one frame after the other."""
    travelled = [embeddings.new_zeros(())]
    for before, after in zip(embeddings[:-1], embeddings[1:], strict=True):
        travelled.append(travelled[-1] + torch.linalg.norm(after - before))
    return torch.stack(travelled)


def fit_by_lbfgs(histogram: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Fit shares (K,) and discrete Gaussians (K, T) to one histogram by 8 x 4 steps of L-BFGS.

    Start and optimiser are those of gerardDonahue/GTCC_CVPR2024@6f17cc7, as is the symmetric divergence.
    """
    size = len(histogram)
    grid, target = torch.arange(size), (histogram + 1e-30).log()
    means = (1 + torch.arange(components) * (size - 2) / components).requires_grad_()
    variances = torch.full((components,), float(size), requires_grad=True)
    weights = torch.ones(components, requires_grad=True)

    def mixture() -> tuple[Tensor, Tensor]:
        spread = variances.clamp(min=0.5).unsqueeze(1)
        heights = torch.exp(-(grid - means.clamp(0, size - 1).unsqueeze(1)).square() / (2 * spread))
        return torch.softmax(weights, dim=0), heights / heights.sum(1, keepdim=True)

    optimiser = torch.optim.LBFGS(
        [means, variances, weights], lr=0.5, max_iter=4, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        shares, gaussians = mixture()
        fitted = shares @ gaussians
        divergence = ((histogram - fitted) * (target - (fitted + 1e-30).log())).sum()
        divergence.backward()
        return divergence

    for _ in range(8):
        optimiser.step(closure)
    with torch.no_grad():
        return mixture()


def _contrast_within(x: Tensor, y: Tensor) -> Tensor:
    total = x.new_zeros(())
    for video in (x, y):
        gap = (torch.arange(len(video)).unsqueeze(0) - torch.arange(len(video)).unsqueeze(1)).abs()
        within = expanded_distances(video, video)
        total = total + torch.where(gap > 15, (2 - within).relu(), within / (gap.square() + 1)).mean()
    return total


def _contrast_between(x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
    rows, columns = (plan.argmax(1), plan.argmin(1)), (plan.argmax(0), plan.argmin(0))
    best, worst = (
        (x - y[row]).square().sum(1).mean() + (y - x[column]).square().sum(1).mean()
        for row, column in zip(rows, columns, strict=True)
    )
    return torch.nn.functional.cross_entropy(torch.stack((best, worst)) / 0.5, torch.tensor(1))


class _RowByRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, cost: Tensor, gamma: float) -> Tensor:
        forward, _ = _compiled()
        costs = cost.detach().double().numpy()
        table = forward(costs, gamma)
        ctx.costs, ctx.table, ctx.gamma = costs, table, gamma  # type: ignore[attr-defined]
        return cost.new_tensor(table[-2, -2])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        _, backward = _compiled()
        use = backward(ctx.costs, ctx.table, ctx.gamma)  # type: ignore[attr-defined]
        return grad * torch.from_numpy(use).to(grad.dtype), None


@functools.cache
def _compiled() -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """Return both loops, compiled where numba is installed."""
    if not numba_is_installed():
        return _fill_table, _expected_use
    from numba import njit

    return njit(_fill_table), njit(_expected_use)


def _fill_table(cost: np.ndarray, gamma: float) -> np.ndarray:
    n, m = cost.shape
    table = np.full((n + 2, m + 2), np.inf)
    table[0, 0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            a, b, c = -table[i - 1, j - 1] / gamma, -table[i - 1, j] / gamma, -table[i, j - 1] / gamma
            most = max(a, b, c)
            total = math.exp(a - most) + math.exp(b - most) + math.exp(c - most)
            table[i, j] = cost[i - 1, j - 1] - gamma * (math.log(total) + most)
    return table


def _expected_use(cost: np.ndarray, table: np.ndarray, gamma: float) -> np.ndarray:
    n, m = cost.shape
    padded = np.zeros((n + 2, m + 2))
    padded[1 : n + 1, 1 : m + 1] = cost
    values = table.copy()
    values[:, m + 1] = -np.inf
    values[n + 1, :] = -np.inf
    values[n + 1, m + 1] = values[n, m]
    use = np.zeros((n + 2, m + 2))
    use[n + 1, m + 1] = 1.0
    for i in range(n, 0, -1):
        for j in range(m, 0, -1):
            a = math.exp((values[i + 1, j] - values[i, j] - padded[i + 1, j]) / gamma)
            b = math.exp((values[i, j + 1] - values[i, j] - padded[i, j + 1]) / gamma)
            c = math.exp((values[i + 1, j + 1] - values[i, j] - padded[i + 1, j + 1]) / gamma)
            use[i, j] = a * use[i + 1, j] + b * use[i, j + 1] + c * use[i + 1, j + 1]
    return use[1 : n + 1, 1 : m + 1]
