"""Mixtures of discrete Gaussians fitted to many histograms at once by weighted EM.

Part of GTCC: where a frame matches several places of another video, the match has several modes.
Legend: R histograms, K components, T bins (frames).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

VARIANCE_FLOOR = 0.5  # frames^2; narrower Gaussians fall between two bins
SMALLEST_SHARE = 1e-10  # a starved component can still be the nearest one of a far bin


class Mixture(NamedTuple):
    """Shares, means [frames] and variances [frames^2] of the components, each (R, K)."""

    shares: Tensor
    means: Tensor
    variances: Tensor

    def components(self, num_bins: int) -> Tensor:
        """Return every component on the bins 0..T-1 (R, K, T), each summing to 1."""
        return torch.softmax(self._exponents(num_bins), dim=-1)

    def responsibilities(self, num_bins: int) -> Tensor:
        """Return how likely each bin is due to each component (R, K, T), summing to 1 over K."""
        logs = torch.log_softmax(self._exponents(num_bins), dim=-1)
        return torch.softmax(logs + self.shares.clamp(min=SMALLEST_SHARE).log().unsqueeze(-1), dim=1)

    def _exponents(self, num_bins: int) -> Tensor:
        grid = torch.arange(num_bins, device=self.means.device, dtype=self.means.dtype)
        return -_half_squares(grid, self.means, self.variances)


@torch.no_grad()
def fit_mixture(histograms: Tensor, num_components: int, num_iterations: int = 32) -> Mixture:
    """Fit sum_k psi_k N_discrete(mu_k, s2_k) to every histogram, towards the least KL(histogram || mixture).

    r_kj ~ psi_k g_k(j), normalised over k, with g_k normalised on the bins; psi, mu, s2 from the mass
    P_j r_kj. Starts at mu_k = 1 + k (T - 2) / K, s2 = T, equal shares (gerardDonahue/GTCC_CVPR2024@6f17cc7,
    which fits one row at a time by L-BFGS). No gradient flows through the fit.

    Args:
        histograms: P (R, T), rows summing to 1.
        num_components: K >= 1.
        num_iterations: Iterations of EM.
    """
    if num_components < 1 or histograms.ndim != 2 or 0 in histograms.shape:
        shape = tuple(histograms.shape)
        raise ValueError(
            f"fit_mixture: components {num_components}, expected >= 1; histograms {shape}, (R, T)"
        )
    num_rows, num_bins = histograms.shape
    centre = (num_bins - 1) / 2  # positions are counted from here: squares stay small
    grid = torch.arange(num_bins, device=histograms.device, dtype=histograms.dtype) - centre
    order = torch.arange(num_components, device=grid.device, dtype=grid.dtype)
    start = (1 + order * (num_bins - 2) / num_components).clamp(0, num_bins - 1)
    means = (start - centre).expand(num_rows, -1)
    variances = torch.full_like(means, max(float(num_bins), VARIANCE_FLOOR))
    shares = torch.full_like(means, 1 / num_components)
    for _ in range(num_iterations):
        mass, first, second = _moments(histograms, grid, shares, means, variances)
        shares = mass.clamp(min=SMALLEST_SHARE)
        means = (first / shares).clamp(-centre, centre)
        variances = (second / shares - means.square()).clamp(VARIANCE_FLOOR, float(num_bins) ** 2)
    return Mixture(shares / shares.sum(1, keepdim=True), means + centre, variances)


def _moments(
    histograms: Tensor, grid: Tensor, shares: Tensor, means: Tensor, variances: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sum_j P_j r_kj, and the same with j and j^2 as factors, each (R, K).

    Gaussians are taken relative to the nearest component of each bin, so that far bins are shared out
    by log-likelihood instead of vanishing; one exponential serves the normaliser as well.
    """
    exponents = _half_squares(grid, means, variances)
    nearest = exponents.amin(dim=1, keepdim=True)
    relative = torch.sub(nearest, exponents, out=exponents).clamp_(min=-45.0).exp_()
    normaliser = (relative @ torch.exp(-nearest).transpose(1, 2)).squeeze(-1)
    heights = shares / normaliser
    spread = histograms.unsqueeze(1) / (heights.unsqueeze(1) @ relative)
    # Three thin products: one of width three takes twice as long.
    factors = (spread, spread * grid, spread * grid.square())
    mass, first, second = (heights * (relative @ f.transpose(1, 2)).squeeze(-1) for f in factors)
    return mass, first, second


def _half_squares(grid: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Return (j - mu)^2 / (2 s2) (R, K, T)."""
    return (grid - means.unsqueeze(-1)).mul_((2 * variances).rsqrt().unsqueeze(-1)).square_()
