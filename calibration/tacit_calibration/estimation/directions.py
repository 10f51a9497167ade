"""Boards that look the same upside down: which way round each picture shows them, by the arm's turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.rotations import rotation_angle
from tacit.geometry.transforms import FloatArray, from_rotation
from tacit_calibration.detection import View
from tacit_calibration.estimation.closed_form import motions

MAX_ROUNDS = 20


def upside_down(boards: FloatArray, middle_m: FloatArray) -> FloatArray:
    """Return boards T_camera_board (n, 4, 4) after half a turn about their middle (3,) [m]."""
    half_turn = np.diag([-1.0, -1.0, 1.0])
    return boards @ from_rotation(half_turn, middle_m - half_turn @ middle_m)


def directions(carrier: FloatArray, boards: FloatArray, middle_m: FloatArray) -> NDArray[np.bool_]:
    """Return which boards (n,) must be turned by half a turn, so that camera and arm turn alike.

    The first one stays: if all are turned, the board lies the other way round, which is as good. The angle
    between two views depends on whether one of both is turned, not on which, so this is a vote of pairs.

    Args:
        carrier: Poses (n, 4, 4) of what carries the camera: T_base_flange, or its inverse.
        boards: T_camera_board (n, 4, 4), some of them upside down.
        middle_m: The middle of the board (3,).
    """
    n = len(boards)
    i, j = np.triu_indices(n, 1)
    turned = upside_down(boards, middle_m)
    a, same = motions(carrier, boards)
    other = turned[j] @ np.linalg.inv(boards[i])
    angle = rotation_angle(a[:, :3, :3])
    wrong = [np.abs(rotation_angle(m[:, :3, :3]) - angle) for m in (same, other)]
    votes = np.zeros((n, n))
    votes[i, j] = votes[j, i] = wrong[1] - wrong[0]
    # The first eigenvector is nearly the answer; single views then change while that helps.
    sign = np.sign(np.linalg.eigh(votes)[1][:, -1])
    sign[sign == 0] = 1.0
    for _ in range(MAX_ROUNDS):
        gain = sign * (votes @ sign)
        worst = int(np.argmin(gain))
        if gain[worst] >= 0:
            break
        sign[worst] *= -1
    return np.asarray(sign != sign[0])


def turned_views(views: Sequence[View], turned: NDArray[np.bool_]) -> list[View]:
    """Return views of a whole board with the corners of some given in the opposite order."""
    return [
        replace(view, corners_px=view.corners_px[::-1].copy()) if flip else view
        for view, flip in zip(views, turned, strict=True)
    ]
