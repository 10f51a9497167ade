"""Hand-eye in closed form: Park and Martin, and a start that survives wrong views.

Gives `hand_eye` its first guess and `diagnosis` its quick comparison of explanations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.rotations import rotation_angle, rotation_to_vector
from tacit.geometry.transforms import FloatArray, from_rotation, invert, pose_error

SUBSETS, SUBSET_SIZE = 60, 4
"""With a third of the views wrong a set of four is clean with probability .2: one of 60 is, nearly surely."""
LEVER_M = 0.3
"""Turns one radian into metres when a view's disagreement is one number: an arm's usual working distance."""


class ClosedForm(NamedTuple):
    """X = T_parent_camera, B = T_anchor_board, and each view's disagreement with them (n,) [m]."""

    X: FloatArray
    B: FloatArray
    disagreement: FloatArray

    @property
    def typical(self) -> float:
        """Median disagreement [m]: what the better half of the views says."""
        return float(np.median(self.disagreement))


def park(motions_a: FloatArray, motions_b: FloatArray) -> FloatArray:
    """Return X (..., 4, 4) of A X = X B' in closed form: rotation by Park and Martin, then translation.

    Args:
        motions_a: A (..., m, 4, 4), motions of what carries the camera.
        motions_b: B' (..., m, 4, 4), the same motions as the camera sees them.
    """
    a, b = rotation_to_vector(motions_a[..., :3, :3]), rotation_to_vector(motions_b[..., :3, :3])
    # The rotation nearest to the correlation, as (M^T M)^-1/2 M^T.
    U, _, Vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    U[..., 2] *= np.linalg.det(U @ Vt)[..., None]  # keeps noise from turning the answer into a mirror
    R = U @ Vt
    left = (motions_a[..., :3, :3] - np.eye(3)).reshape(*a.shape[:-2], -1, 3)
    right = (motions_b[..., :3, 3] @ np.swapaxes(R, -1, -2) - motions_a[..., :3, 3]).reshape(left.shape[:-1])
    return from_rotation(R, (np.linalg.pinv(left) @ right[..., None])[..., 0])


def motions(carrier: FloatArray, boards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return A and B' (..., m, 4, 4) between all pairs of n views, of the carrier and of the camera."""
    # All pairs, not neighbours: large turns decide the accuracy, and they lie between distant views.
    i, j = np.triu_indices(carrier.shape[-3], 1)
    A = invert(carrier[..., j, :, :]) @ carrier[..., i, :, :]
    return A, boards[..., j, :, :] @ invert(boards[..., i, :, :])


def solve_closed_form(carrier: FloatArray, boards: FloatArray, seed: int = 0) -> ClosedForm:
    """Return the solution that the better half of the views agrees on.

    Candidates are all views together and random sets of four; the one with the least median
    disagreement wins (Rousseeuw 1984), so up to 40 % of wrong views do no harm.

    Args:
        carrier: Poses (n, 4, 4) of what carries the camera: G, or its inverse for a fixed camera.
        boards: T_camera_board (n, 4, 4).
        seed: Seed of the random sets of views.
    """
    rng, n = np.random.default_rng(seed), len(carrier)
    candidates = _solve(carrier, boards, np.arange(n)[None])
    if n > SUBSET_SIZE:
        drawn = rng.permuted(np.tile(np.arange(n), (SUBSETS, 1)), axis=1)[:, :SUBSET_SIZE]
        candidates += _solve(carrier, boards, drawn)
    best = min(candidates, key=lambda found: found.typical)
    agreeing = np.flatnonzero(best.disagreement <= 3 * best.typical)
    return min(best, *_solve(carrier, boards, agreeing[None]), key=lambda found: found.typical)


def angle_disagreement(carrier: FloatArray, boards: FloatArray) -> NDArray[np.float64]:
    """Return by how much robot and camera turn differently between pairs of views (m,) [rad].

    A motion turns by the same angle in every frame, so this needs no calibration at all.
    """
    a, b = motions(carrier, boards)
    return np.abs(rotation_angle(a[:, :3, :3]) - rotation_angle(b[:, :3, :3]))


def _solve(carrier: FloatArray, boards: FloatArray, chosen: NDArray[np.intp]) -> list[ClosedForm]:
    """Return the solution by each of k sets of m views (k, m), judged by all n views."""
    X = park(*motions(carrier[chosen], boards[chosen]))
    anchors = carrier @ X[:, None] @ boards
    B = np.take_along_axis(anchors, chosen[..., None, None], axis=1)
    B = B[np.arange(len(B)), _middle(B)]
    far = _distance(anchors, B[:, None])
    return [ClosedForm(*row) for row in zip(X, B, far, strict=True)]


def _middle(poses: FloatArray) -> NDArray[np.intp]:
    """Return which of m poses (k, m, 4, 4) has the least median distance to the others (k,)."""
    apart = _distance(poses[:, :, None], poses[:, None])
    return np.asarray(np.argmin(np.median(apart, axis=2), axis=1))


def _distance(poses: FloatArray, others: FloatArray) -> FloatArray:
    error = pose_error(poses, others)
    return np.asarray(error.translation + LEVER_M * error.rotation)
