"""LAV: soft-DTW between two videos plus contrastive-IDM within each.

Source: Haresh et al. 2021, arXiv:2103.17260; formulas of trquhuytin/LAV-CVPR21@3c4154c.
Legend: N, M frames, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit_learning.losses.distances import check_pair, existing_frames, full_precision, squared_distances
from tacit_learning.losses.sequence_terms import intra_contrastive
from tacit_learning.losses.soft_dtw import soft_dtw


@full_precision
def lav_loss(
    x: Tensor,
    y: Tensor,
    *,
    gamma: float = 0.1,
    alpha: float = 0.5,
    sigma: float = 10.0,
    margin: float = 2.0,
    x_indices: Tensor | None = None,
    y_indices: Tensor | None = None,
    x_length: float | None = None,
    y_length: float | None = None,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    num_frames: float | None = None,
    bandwidth: float | None = None,
) -> Tensor:
    """Compute [softDTW_gamma(|x_i - y_j|^2) + alpha (IDM(x) + IDM(y))] / num_frames.

    IDM(x) = sum_ij [g <= sigma / length] d_ij + [g > sigma / length] (1 + g^2) max(0, margin - d_ij) with
    d_ij = |x_i - x_j|^2 and g the gap of the positions divided by length.

    Args:
        x: Frames (N, D), meant to be of unit norm; not normalised here.
        y: Frames (M, D).
        gamma: Smoothing of soft-DTW.
        alpha: Weight of the contrastive part; 0 leaves it out.
        sigma: Frames up to this gap attract each other.
        margin: Squared distance that frames further apart should keep.
        x_indices: Frame positions divided by x_length (N,); None: 0, 1/N, ...
        y_indices: The same of y (M,).
        x_length: Length of the whole video in frames; None: N.
        y_length: The same of y.
        x_mask: True at frames that exist (N,); the others are left out, their values never read.
        y_mask: The same of y (M,).
        num_frames: What the sum is divided by; None: the frames of x that exist.
        bandwidth: See `soft_dtw`.

    Returns:
        Scalar; can be negative, as soft-DTW can.
    """
    check_pair("lav_loss", x, y)
    x, x_indices, x_length = _existing(x, x_indices, x_length, x_mask)
    y, y_indices, y_length = _existing(y, y_indices, y_length, y_mask)
    total = soft_dtw(squared_distances(x, y).unsqueeze(0), gamma, bandwidth=bandwidth)[0]
    if alpha:
        total = total + alpha * (
            _idm(x, x_indices, sigma / x_length, margin) + _idm(y, y_indices, sigma / y_length, margin)
        )
    return total / (num_frames or len(x))


def _idm(x: Tensor, indices: Tensor, window: float, margin: float) -> Tensor:
    return intra_contrastive(x, indices, window=window, margin=margin, far_weight="growing", reduction="sum")


def _existing(
    x: Tensor, indices: Tensor | None, length: float | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, float]:
    """Return the frames that exist, their positions and the length of the video."""
    if mask is not None:
        x = existing_frames("lav_loss", x, mask)
        indices = None if indices is None else indices[mask]
    if length is None:
        length = float(len(x))
    if indices is None:
        indices = torch.arange(len(x), device=x.device, dtype=x.dtype) / length
    return x, indices, float(length)
