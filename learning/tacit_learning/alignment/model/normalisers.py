"""Statistics of the training videos that a model carries: z-scores and travelled distances.

They are set once for fixed features, followed by a running mean while embeddings change, and measured
exactly over all training videos before every validation. Legend: B videos, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.losses.progress import Spans, share_of_total, train_normalised

OUTLIER = 10.0  # standard deviations; a value beyond is no measurement
LEAST_STD = 0.05  # of the mean deviation; a nearly constant feature must not be blown up
MOMENTUM = 0.05


class FeatureScale(nn.Module):
    """z = (x - mean) / std, limited to 10 deviations; what is not finite counts as the mean.

    Args:
        width: Number of features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., width)."""
        # One broken value must not reach the recurrent memory, where it would stay for good.
        z = (torch.where(torch.isfinite(x), x, self.mean) - self.mean) / self.std
        return z.clamp(-OUTLIER, OUTLIER)

    @torch.no_grad()
    def follow(self, rows: Tensor, momentum: float = 1.0) -> None:
        """Move towards the statistics of `rows` (N, width); momentum 1 takes them."""
        if len(rows) < 2:
            return
        std = rows.std(0)
        std = std.clamp(min=LEAST_STD * float(std.mean()) + 1e-6)
        self.mean.lerp_(rows.mean(0), momentum)
        self.std.lerp_(std, momentum)

    @torch.no_grad()
    def set_last(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Scale the last features by statistics that were taken elsewhere."""
        self.mean[-len(mean) :] = torch.tensor(mean)
        self.std[-len(std) :] = torch.tensor(std)


class Stretches(NamedTuple):
    """Travelled distances of whole stretches (N,), their frames (N,), at least 2, and the row that each
    counts for (N,)."""

    totals: Tensor
    lengths: Tensor
    rows: Tensor


class Distances(nn.Module):
    """Mean travelled distance per task (of a video) and per class (of an action).

    Args:
        num_tasks: Rows for videos.
        num_classes: Rows for actions, with the background.
    """

    video_seen: Tensor
    action_seen: Tensor

    def __init__(self, num_tasks: int, num_classes: int) -> None:
        super().__init__()
        for name, size in (("video", num_tasks), ("action", num_classes)):
            self.register_buffer(f"{name}_total", torch.ones(size))
            self.register_buffer(f"{name}_step", torch.zeros(size))
            self.register_buffer(f"{name}_seen", torch.zeros(size))

    def of_video(self, distance: Tensor, task: Tensor) -> Tensor:
        """Return distance (B, T) since the first frame over the mean of its task (B,); not clipped."""
        total, step = self._rows("video")
        return share_of_total(distance, total[task].unsqueeze(1), step[task].unsqueeze(1))

    def of_action(self, distance: Tensor, label: Tensor, start: Tensor | None = None) -> Tensor:
        """Return distance (B, T) since the `start` (B, T) of its action over the mean of its class (B, T)."""
        start = torch.zeros_like(label) if start is None else start
        total, step = self._rows("action")
        return train_normalised(distance, Spans(start, start, start), total[label], step[label])

    @torch.no_grad()
    def follow(self, name: str, stretches: Stretches, momentum: float = 1.0) -> None:
        """Move towards the means of rows that have stretches; momentum 1, or a first sight, takes them.

        Args:
            name: `video` or `action`.
            stretches: Whole ones.
            momentum: 0..1.
        """
        totals, lengths, rows = stretches
        seen = getattr(self, f"{name}_seen")
        count = torch.zeros_like(seen).index_add_(0, rows, torch.ones_like(totals))
        share = torch.where(seen > 0, momentum, 1.0) * (count > 0)
        for part, values in (("total", totals), ("step", totals / (lengths - 1).clamp(min=1))):
            buffer = getattr(self, f"{name}_{part}")
            mean = torch.zeros_like(count).index_add_(0, rows, values) / count.clamp(min=1)
            buffer.add_(share * (mean - buffer))
        seen.add_(count).clamp_(max=1e6)

    def _rows(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{name}_total"), getattr(self, f"{name}_step")
