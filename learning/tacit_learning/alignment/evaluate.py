"""Evaluation of progress on whole held-out episodes, beside the baselines that past heads lost to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tacit_learning.alignment.progress_head import ELAPSED, FEATURES, MASK, PROGRESS, STATE, ProgressModel
from tacit_learning.data.windows import Batch

DONE_THRESHOLD = 0.5


@torch.no_grad()
def evaluate(model: nn.Module, batch: Batch, mean_length_s: float) -> dict[str, float]:
    """Compare the streamed-equal estimate with the annotation.

    Args:
        model: A `ProgressModel` in evaluation mode.
        batch: Whole episodes, see `ProgressModel.forward`.
        mean_length_s: Mean duration of the training episodes [s], for the clock baseline.

    Returns:
        loss, mae, mae_half (always .5), mae_clock (elapsed / mean length), first and last (mean
        estimate at the first and last frame), done_precision and done_recall per frame.
    """
    assert isinstance(model, ProgressModel)
    loss, _ = model(batch)
    logits, _ = model.sequence(batch[FEATURES], batch[STATE], batch[ELAPSED])
    progress, done = logits.sigmoid().unbind(-1)
    mask, target = batch[MASK], batch[PROGRESS]
    clock = (batch[ELAPSED] / mean_length_s).clamp(0, 1)
    last = mask.sum(1) - 1
    is_done, says_done = (target >= model.done_at)[mask], (done > DONE_THRESHOLD)[mask]
    both = (is_done & says_done).sum()
    return {
        "loss": float(loss),
        "mae": _mae(progress, target, mask),
        "mae_half": _mae(torch.full_like(target, 0.5), target, mask),
        "mae_clock": _mae(clock, target, mask),
        "first": float(progress[:, 0].mean()),
        "last": float(progress.gather(1, last[:, None]).mean()),
        "done_precision": float(both / says_done.sum().clamp(min=1)),
        "done_recall": float(both / is_done.sum().clamp(min=1)),
    }


def _mae(estimate: Tensor, target: Tensor, mask: Tensor) -> float:
    return float((estimate - target).abs()[mask].mean())
