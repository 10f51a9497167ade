"""Whatever a metric is given (list, array, tensor on any device) as a numpy array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64] | NDArray[np.float32] | Tensor | Sequence[float]
Frames = NDArray[np.float64] | NDArray[np.float32] | Tensor
"""Embeddings or features (T, D)."""


def as_array(values: object) -> NDArray[np.float64]:
    """Return `values` as float64; tensors are detached and moved to the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)
