"""Actions on held-out frames as plots: error by horizon and joint; what was done, and what would be.

Legend: B batch, K chunk, A action.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from tacit.view.plot import Series, line_plot
from tacit_learning.act_hsa.evaluate import INPUTS
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch


@torch.no_grad()
def error_by_step(policy: ActHsaPolicy, batches: Iterable[Batch]) -> np.ndarray:
    """Return the mean error (K, A) of z = 0 in standard deviations; NaN where no frame has such a step."""
    errors, counts = [], []
    for batch in batches:
        raw = policy.predict(*(batch[key] for key in INPUTS))
        keep = ~batch[keys.ACTION_IS_PAD].unsqueeze(-1)
        error = ((raw - batch[keys.ACTION]) / policy.action_std).abs()
        errors.append(torch.where(keep, error, 0.0).sum(0))
        counts.append(keep.sum(0))
    return (torch.stack(errors).sum(0) / torch.stack(counts).sum(0)).numpy()


@torch.no_grad()
def courses(policy: ActHsaPolicy, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first action of each chunk, as predicted and as it was (T, A), in canonical units."""
    parts = [
        (policy.predict(*(batch[key] for key in INPUTS))[:, 0], batch[keys.ACTION][:, 0]) for batch in batches
    ]
    predicted, true = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    return predicted, true


def plot_errors(errors: np.ndarray, names: Iterable[str]) -> str:
    """Draw the error of each joint over the steps of the chunk."""
    steps = np.arange(1, len(errors) + 1)
    lines = [Series(name, steps, errors[:, i]) for i, name in enumerate(names)]
    return line_plot(lines, x_label="step of the chunk", y_label="error, standard deviations")


def plot_course(name: str, predicted: np.ndarray, true: np.ndarray) -> str:
    """Draw one joint (T,) over an episode."""
    ticks = np.arange(len(true))
    lines = [Series("demonstrated", ticks, true), Series("predicted", ticks, predicted, dashed=True)]
    return line_plot(lines, x_label="tick", y_label=name, height=140)
