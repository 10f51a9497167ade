"""Camera and board from linearised views, with the sizes of the robot's errors integrated out.

Each view measures where the board is (six numbers, pixel noise) through a robot pose that is itself
off by an unknown amount. How much is not known: the answer is averaged over a grid of noise sizes,
each weighted by how well it explains the data (restricted likelihood; Patterson and Thompson 1971).
So a perfect arm and a poor one are both served, and not knowing which widens the covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.transforms import FloatArray

ROTATIONS: FloatArray = np.geomspace(np.deg2rad(0.002), np.deg2rad(4.096), 12)
TRANSLATIONS: FloatArray = np.geomspace(5e-6, 10.24e-3, 12)
"""Noise per axis from .002 to 4 deg and from 5 um to 10 mm: better than any arm to worse than any arm."""
SHARED = np.deg2rad(0.004) * 2.0 ** np.arange(0, 9, 1.5)
"""Size of the arm's geometric errors, which all views share: .004 to .7 deg."""
RELEVANT, RESOLVED, MAX_REFINEMENTS = 1e-2, 3, 4
"""An axis of the grid is refined until a third of its sizes weigh more than a hundredth of the best."""

NOTHING = 1e-6
"""Share of a size of noise whose covariance is left out of the mean."""


@dataclass(frozen=True)
class NoiseScale:
    """Standard deviations: corners [px], robot rotation [rad] and translation [m] per axis.

    `joint` is that of the joint zeros [rad], 0 where none are estimated.
    """

    pixel: float
    rotation: float
    translation: float
    joint: float = 0.0

    def __str__(self) -> str:
        """The robot's part, as a message says it."""
        return f"{np.rad2deg(self.rotation):.2f} deg and {1e3 * self.translation:.1f} mm per axis"


class LinearViews(NamedTuple):
    """n views as y = design @ unknowns + lever @ robot error + pixel error, all in board increments.

    Attributes:
        y: Where each picture puts the board, as an increment seen from the model (n, 6).
        pixel_covariance: Covariance of y by pixel noise alone (n, 6, 6).
        design: How unknowns move the board (n, 6, p).
        lever: How the robot's pose error moves it (n, 6, 6).
        num_shared: The last so many unknowns are small errors of common, unknown size.
    """

    y: FloatArray
    pixel_covariance: FloatArray
    design: FloatArray
    lever: FloatArray
    num_shared: int = 0

    def of(self, chosen: NDArray[np.bool_]) -> LinearViews:
        """Return the views that a mask (n,) chooses."""
        return LinearViews(
            self.y[chosen],
            self.pixel_covariance[chosen],
            self.design[chosen],
            self.lever[chosen],
            self.num_shared,
        )

    def counting(self, weights: FloatArray) -> LinearViews:
        """Return the views with errors that are larger by the root of 1 / weight (n,)."""
        return self._replace(
            pixel_covariance=self.pixel_covariance / weights[:, None, None],
            lever=self.lever / np.sqrt(weights)[:, None, None],
        )

    def covariance(self, noise: NoiseScale) -> FloatArray:
        """Return the covariance (n, 6, 6) of y at one size of the robot's error."""
        scale = np.repeat([noise.rotation, noise.translation], 3) ** 2
        return self.pixel_covariance + np.einsum("nij,j,nlj->nil", self.lever, scale, self.lever)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known about the unknowns (p,), the noise, and each view's robot error (n, 6).

    `axes` are the noise sizes of the grid that resolved it, `likelihood` the largest restricted one (log).
    """

    mean: FloatArray
    covariance: FloatArray
    noise: NoiseScale
    corrections: FloatArray
    axes: tuple[FloatArray, ...]
    likelihood: float


class _Fits(NamedTuple):
    """Generalised least squares at k sizes of noise, which come in pairs of turns and shifts.

    The size of shared errors enters their own block alone, as a multiple of the unit matrix. So that block,
    with the o other unknowns eliminated, is taken apart once for each pair and serves all these sizes.

    Attributes:
        mean: Estimate (k, p).
        likelihood: Logarithm of the restricted likelihood (k,).
        pair: Which of the pairs (k,).
        weight: Variances (k, m) of the shared errors along `vectors`.
        alone: Covariance (pairs, o, o) of the others where the shared errors are known.
        through: How the others answer the shared errors (pairs, o, m).
        vectors: Directions (pairs, m, m).
    """

    mean: FloatArray
    likelihood: FloatArray
    pair: NDArray[np.intp]
    weight: FloatArray
    alone: FloatArray
    through: FloatArray
    vectors: FloatArray

    def covariance(self, chosen: NDArray[np.intp]) -> FloatArray:
        """Return the covariances (c, p, p) at some of the sizes."""
        pair, num_own = self.pair[chosen], self.alone.shape[-1]
        vectors, through = self.vectors[pair], self.through[pair]
        found = np.empty((len(chosen), self.mean.shape[1], self.mean.shape[1]))
        shared = (vectors * self.weight[chosen][:, None]) @ np.swapaxes(vectors, 1, 2)
        across = -through @ shared
        found[:, num_own:, num_own:] = shared
        found[:, :num_own, num_own:], found[:, num_own:, :num_own] = across, np.swapaxes(across, 1, 2)
        found[:, :num_own, :num_own] = self.alone[pair] - across @ np.swapaxes(through, 1, 2)
        return found


def infer(
    linear: LinearViews, pixel: float, fixed: NoiseScale | None = None, near: Posterior | None = None
) -> Posterior:
    """Estimate the unknowns from linearised views.

    Args:
        linear: The views.
        pixel: Pixel noise behind `linear.pixel_covariance`, carried into the result.
        fixed: Robot noise to assume instead of integrating it out.
        near: What nearly the same views gave: its grid will do.

    Returns:
        Mean and covariance of the unknowns; noise as its geometric mean over the posterior.
    """
    if near is not None:
        axes = list(near.axes)
    elif fixed is not None:
        axes = [np.array([size]) for size in (fixed.rotation, fixed.translation, fixed.joint or 1.0)]
    else:
        coarse = slice(None, None, 2 if linear.num_shared else 1)  # a third axis and 42 unknowns cost time
        axes = [ROTATIONS[coarse], TRANSLATIONS[coarse], SHARED if linear.num_shared else np.array([1.0])]
    for _ in range(MAX_REFINEMENTS):
        sizes = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
        fits = _fit(linear, *sizes)
        # The prior of the sizes is flat in each standard deviation (Gelman 2006); flat in its logarithm it
        # would never end near 0.
        weight = fits.likelihood + np.log(sizes[:2]).sum(axis=0)
        weight = np.exp(weight - weight.max())
        finer = [_refined(axis, size[weight > RELEVANT]) for axis, size in zip(axes, sizes, strict=True)]
        if all(new is axis for new, axis in zip(finer, axes, strict=True)):
            break
        axes = finer
    weight /= weight.sum()
    mean = weight @ fits.mean
    apart = fits.mean - mean
    counts = np.flatnonzero(weight > NOTHING)
    covariance = np.tensordot(weight[counts], fits.covariance(counts), 1)
    covariance = covariance + (weight * apart.T) @ apart
    rotation, translation, shared = np.exp(np.log(sizes) @ weight).tolist()
    noise = NoiseScale(pixel, rotation, translation, shared if linear.num_shared else 0.0)
    return Posterior(
        mean, covariance, noise, _corrections(linear, mean, noise), tuple(axes), float(fits.likelihood.max())
    )


def misfit(linear: LinearViews, posterior: Posterior) -> FloatArray:
    """Return how far each view (n,) lies from the estimate, in its noise: chi-square with 6 degrees."""
    residual = linear.y - linear.design @ posterior.mean
    spread = linear.covariance(posterior.noise)
    return np.asarray(np.einsum("ni,ni->n", residual, np.linalg.solve(spread, residual[..., None])[..., 0]))


def surprise(linear: LinearViews, posterior: Posterior, used: NDArray[np.bool_]) -> FloatArray:
    """Return how far each view (n,) lies from what the others say: chi-square with 6 degrees.

    Args:
        linear: All views.
        posterior: The estimate from those that are used.
        used: Mask (n,): a used view has pulled the estimate towards itself, which is taken back.
    """
    residual = linear.y - linear.design @ posterior.mean
    pulled = linear.design @ posterior.covariance @ np.swapaxes(linear.design, 1, 2)
    noise = linear.covariance(posterior.noise)
    # Where one view decides nearly alone the difference touches zero; half the noise stays.
    spread = np.where(used[:, None, None], noise - _shrunk(pulled, noise), noise + pulled)
    return np.einsum("ni,ni->n", residual, np.linalg.solve(spread, residual[..., None])[..., 0])


def _refined(axis: FloatArray, relevant: FloatArray) -> FloatArray:
    """Return a finer axis (m,) around the sizes that matter; `axis` itself when it resolves them."""
    if len(axis) == 1 or np.unique(relevant).size >= len(axis) // RESOLVED:
        return axis
    step = axis[1] / axis[0]
    low, high = max(relevant.min() / step, axis[0]), min(relevant.max() * step, axis[-1])
    return np.geomspace(low, high, len(axis))


def _fit(linear: LinearViews, rotation: FloatArray, translation: FloatArray, shared: FloatArray) -> _Fits:
    """Return generalised least squares at every grid point; shared errors enter with their own prior."""
    pairs, back = np.unique(np.stack([rotation, translation], axis=1), axis=0, return_inverse=True)
    scale = np.repeat(pairs**2, 3, axis=1)
    by_robot = (linear.lever * scale[:, None, None]) @ np.swapaxes(linear.lever, 1, 2)
    precision = np.linalg.inv(linear.pixel_covariance + by_robot)
    design, y = linear.design.reshape(-1, linear.design.shape[-1]), linear.y.ravel()
    # Views one below the other: (pairs, 6 n, p) and (pairs, 6 n).
    weighted = (precision @ linear.design).reshape(len(pairs), *design.shape)
    pulled = (precision @ linear.y[..., None]).reshape(len(pairs), -1)
    normal, right, squares = design.T @ weighted, pulled @ design, pulled @ y
    spread = -np.linalg.slogdet(precision)[1].sum(axis=1)
    own, last = np.split(np.arange(normal.shape[-1]), [normal.shape[-1] - linear.num_shared])
    across = normal[:, own[:, None], last]
    alone = np.linalg.inv(normal[:, own[:, None], own])
    through = alone @ across
    values, vectors = np.linalg.eigh(normal[:, last[:, None], last] - np.swapaxes(across, 1, 2) @ through)
    towards = (alone @ right[:, own, None])[..., 0]
    left = right[:, last] - np.einsum("kij,ki->kj", across, towards)
    turned = np.einsum("kij,ki->kj", vectors, left)[back]
    weight = 1 / (np.maximum(values, 0.0)[back] + shared[:, None] ** -2.0)
    errors = (vectors[back] @ (weight * turned)[..., None])[..., 0]
    mean = np.concatenate([towards[back] - (through[back] @ errors[..., None])[..., 0], errors], axis=1)
    explained = np.sum(right[:, own] * towards, axis=1)[back] + np.sum(weight * turned**2, axis=1)
    size = np.linalg.slogdet(alone)[1][back] + np.sum(np.log(weight / shared[:, None] ** 2), axis=1)
    likelihood = -0.5 * ((spread + squares)[back] - size - explained)
    return _Fits(mean, likelihood, back, weight, alone, through, vectors)


def _corrections(linear: LinearViews, mean: FloatArray, noise: NoiseScale) -> FloatArray:
    """Return the most likely robot error (n, 6) of each view."""
    residual = linear.y - linear.design @ mean
    explained = np.linalg.solve(linear.covariance(noise), residual[..., None])[..., 0]
    scale = np.repeat([noise.rotation, noise.translation], 3) ** 2
    return scale * np.einsum("nji,nj->ni", linear.lever, explained)


def _shrunk(pulled: FloatArray, noise: FloatArray) -> FloatArray:
    """Return `pulled`, limited to half of `noise` in every direction."""
    factor = np.linalg.cholesky(noise)
    inverse = np.linalg.inv(factor)
    values, vectors = np.linalg.eigh(inverse @ pulled @ np.swapaxes(inverse, 1, 2))
    bent = factor @ vectors
    return (bent * np.minimum(values, 0.5)[:, None, :]) @ np.swapaxes(bent, 1, 2)
