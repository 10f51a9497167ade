"""Hand-eye by methods that take the robot as exact: what other tools answer, and a check on ours.

`held_out` compares them with `hand_eye` on views that were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, from_rotation, invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import Corners, linearise
from tacit_calibration.estimation.closed_form import motions, park
from tacit_calibration.estimation.increments import adjoint, small_pose

MAX_ROUNDS, SETTLED = 20, 1e-7


class RigidAnswer(NamedTuple):
    """X = T_parent_camera and B = T_anchor_board (4, 4), with C = inv(carrier X) B for every view."""

    X: FloatArray
    B: FloatArray


def park_martin(carrier: FloatArray, boards: FloatArray) -> RigidAnswer:
    """Solve A X = X B in closed form (Park and Martin 1994); the board is the mean over the views."""
    X = park(*motions(carrier, boards))
    return RigidAnswer(X, mean_pose(carrier @ X @ boards))


def mean_pose(poses: FloatArray) -> FloatArray:
    """Return the mean (4, 4) of poses (n, 4, 4) that lie near each other."""
    return from_rotation(_nearest_rotation(poses[:, :3, :3].mean(axis=0)), poses[:, :3, 3].mean(axis=0))


def shah(carrier: FloatArray, boards: FloatArray) -> RigidAnswer:
    """Solve for camera and board at once by a Kronecker product (Shah 2013, doi 10.1115/1.4024473).

    R_X = R_G^T R_B R_C^T in every view, so vec(R_X) and vec(R_B) are the first singular vectors of the sum
    of R_C (x) R_G^T; both places then follow from linear least squares.
    """
    G, C = carrier[:, :3, :3], boards[:, :3, :3]
    total = np.einsum("nac,ndb->abcd", C, G).reshape(9, 9)
    U, _, Vt = np.linalg.svd(total)
    # Column by column, as vec stacks them; the sign of a singular vector is free, the determinant fixes it.
    R_X, R_B = (v.reshape(3, 3).T for v in (U[:, 0], Vt[0]))
    R_X, R_B = (_nearest_rotation(R * np.sign(np.linalg.det(R))) for R in (R_X, R_B))
    left = np.concatenate([G, np.broadcast_to(-np.eye(3), G.shape)], axis=2).reshape(-1, 6)
    right = -(carrier[:, :3, 3] + np.einsum("nij,jk,nk->ni", G, R_X, boards[:, :3, 3])).ravel()
    places = np.linalg.lstsq(left, right, rcond=None)[0]
    return RigidAnswer(from_rotation(R_X, places[:3]), from_rotation(R_B, places[3:]))


def adjusted(carrier: FloatArray, views: Sequence[View], camera: Camera, start: RigidAnswer) -> RigidAnswer:
    """Return the answer with the least pixel error (bundle adjustment), from a near start."""
    corners, (X, B) = Corners.of(views), start
    for _ in range(MAX_ROUNDS):
        poses = invert(carrier @ X) @ B
        found = linearise(corners, camera, poses)
        design = np.concatenate(
            [-adjoint(invert(poses)), np.broadcast_to(np.eye(6), (len(poses), 6, 6))], axis=-1
        )
        weighted = np.swapaxes(design, 1, 2) @ found.information
        right = -np.einsum("nji,nj->i", design, found.gradient)
        step = np.linalg.lstsq((weighted @ design).sum(axis=0), right, rcond=None)[0]
        X, B = X @ small_pose(step[:6]), B @ small_pose(step[6:])
        if np.abs(step).max() < SETTLED:
            break
    return RigidAnswer(X, B)


CLOSED_FORMS: dict[str, Callable[[FloatArray, FloatArray], RigidAnswer]] = {"Park": park_martin, "Shah": shah}


def jackknife(
    solve: Callable[[FloatArray, FloatArray], RigidAnswer], carrier: FloatArray, boards: FloatArray
) -> FloatArray:
    """Return the variance (3,) of the camera's place in its parent, by leaving out each view [m^2]."""
    n = len(carrier)
    places = np.array([solve(carrier[keep], boards[keep]).X[:3, 3] for keep in ~np.eye(n, dtype=bool)])
    return np.asarray((n - 1) / n * np.sum((places - places.mean(axis=0)) ** 2, axis=0))


def _nearest_rotation(matrix: FloatArray) -> FloatArray:
    U, _, Vt = np.linalg.svd(matrix)
    return np.asarray(U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt)
