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
    x, y = existing_frames("lav_loss", x, x_mask), existing_frames("lav_loss", y, y_mask)
    total = soft_dtw(squared_distances(x, y).unsqueeze(0), gamma, bandwidth=bandwidth)[0]
    if alpha:
        x_indices = None if x_indices is None else existing_frames("lav_loss", x_indices, x_mask)
        y_indices = None if y_indices is None else existing_frames("lav_loss", y_indices, y_mask)
        total = total + alpha * _idm(x, x_indices, x_length, sigma, margin)
        total = total + alpha * _idm(y, y_indices, y_length, sigma, margin)
    return total / (num_frames or len(x))


def _idm(x: Tensor, indices: Tensor | None, length: float | None, sigma: float, margin: float) -> Tensor:
    length = float(len(x) if length is None else length)
    if indices is None:
        # Whole frames against sigma, so that rounding does not decide about gaps of exactly sigma.
        positions, window, unit = torch.arange(len(x), device=x.device, dtype=x.dtype), sigma, length
    else:
        positions, window, unit = indices, sigma / length, 1.0
    return intra_contrastive(
        x, positions, window=window, margin=margin, unit=unit, far_weight="growing", reduction="sum"
    )
