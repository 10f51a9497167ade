"""Poses that are not those of the pictures: given in another order, or of a link before the last joint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.rotations import rotation_angle
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.estimation.closed_form import angle_disagreement
from tacit_calibration.estimation.degeneracy import Mounting

MIN_VIEWS_FOR_ORDER = 6
"""Fewer views turn alike in some other order by chance."""
MIN_VIEWS_FOR_JOINT = 8
"""Seven numbers are fitted there, two are measured by each view."""
FITS = np.deg2rad(1.0)
"""Below this an explanation counts: a board is seen within .5 deg, an arm repeats within .1."""
MUCH_BETTER = 0.2
ROUNDS, LAST_ROUNDS, NUM_LAST, MAX_NAMED = 10, 60, 5, 3


def named_mixup(
    flange: FloatArray, boards: FloatArray, names: Sequence[str], mounting: Mounting
) -> str | None:
    """Return which mix-up explains that robot and pictures turn by different angles, if any does.

    Args:
        flange: Poses T_base_flange (n, 4, 4) as given; only turns are looked at.
        boards: T_camera_board (n, 4, 4).
        names: Of the pictures (n).
        mounting: Where the camera sits.

    Returns:
        A sentence with what to do, or None.
    """
    given = float(np.median(angle_disagreement(flange, boards)))
    order = order_of(flange, boards)
    if order is not None:
        left = float(np.median(angle_disagreement(flange[order], boards)))
        if explains(left, given):
            return other_pictures(left, given, order, names)
    if len(flange) >= MIN_VIEWS_FOR_JOINT:
        left = hidden_joint(flange, boards, mounting)
        if explains(left, given):
            return (
                "wrong flange frame: a joint turns between these poses and what rides on the flange (with "
                f"one such joint turns agree within {np.rad2deg(left):.1f} deg instead of "
                f"{np.rad2deg(given):.0f}); give poses of the flange (tool0), not of a link before the last "
                "joint"
            )
    return None


def explains(left: float, given: float) -> bool:
    """Return whether a disagreement of turns [rad] that is left says why there was the one given."""
    return left < min(FITS, MUCH_BETTER * given)


def other_pictures(left: float, given: float, order: NDArray[np.intp], names: Sequence[str]) -> str:
    """Return a sentence that says which pose belongs to each picture (n), and how turns agree then [rad]."""
    fit = f"they fit ({np.rad2deg(left):.1f} deg instead of {np.rad2deg(given):.0f}) when"
    return f"robot poses belong to other pictures: {fit} {_described(order, names)}"


def usual_orders(names: Sequence[str]) -> Iterator[NDArray[np.intp]]:
    """Yield the usual orders of poses that are mixed up: shifted, from the last to the first, as text."""
    count = len(names)
    for shift in range(1, count):
        yield np.roll(np.arange(count), -shift)
    yield np.arange(count)[::-1]
    place = np.argsort(np.argsort(names))
    yield place
    yield np.argsort(place)


def order_of(flange: FloatArray, boards: FloatArray) -> NDArray[np.intp] | None:
    """Return which pose belongs to each picture (n), by how far each is turned from all others.

    Turns between poses are the same in every frame, so the sorted turns from one pose to all the others are
    a mark by which it is known among the pictures.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    if len(flange) < MIN_VIEWS_FOR_ORDER:
        return None
    marks = [np.sort(_turns(poses), axis=1) for poses in (flange, invert(boards))]
    apart = np.abs(marks[1][:, None] - marks[0][None]).mean(axis=2)
    order = linear_sum_assignment(apart)[1]
    return np.asarray(order) if (order != np.arange(len(order))).any() else None


def hidden_joint(flange: FloatArray, boards: FloatArray, mounting: Mounting) -> float:
    """Return how well turns agree (median) if one joint turns between the poses and the flange [rad].

    Its axis a is fixed in the poses' frame, and w in the frame of what rides on the flange, so that
    R_i a = K M_i w with one rotation K; M_i is R_camera_board, or its inverse where the camera rides.
    K by Kabsch's method and (a, w) by the first singular pair take turns.
    """
    R = flange[:, :3, :3]
    M = boards[:, :3, :3] if mounting == "eye_to_hand" else np.swapaxes(boards[:, :3, :3], 1, 2)
    grid = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if i or j or k])
    starts = itertools.product(np.eye(3), grid / np.linalg.norm(grid, axis=1, keepdims=True))
    found = sorted((_joint(R, M, a, w, ROUNDS) for a, w in starts), key=lambda fit: fit[0])
    return min(_joint(R, M, a, w, LAST_ROUNDS)[0] for _, a, w in found[:NUM_LAST])


def _joint(
    R: FloatArray, M: FloatArray, a: FloatArray, w: FloatArray, rounds: int
) -> tuple[float, FloatArray, FloatArray]:
    """Return how far (median) R_i a lies from K M_i w after some rounds [rad], and both axes."""
    for _ in range(rounds):
        U, _, Vt = np.linalg.svd((R @ a).T @ (M @ w))
        K = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
        left, _, right = np.linalg.svd(np.einsum("nji,jk,nkl->il", R, K, M))
        a, w = left[:, 0], right[0]
    cosine = np.einsum("ni,ni->n", R @ a, (M @ w) @ K.T)
    return float(np.median(np.arccos(np.clip(cosine, -1, 1)))), a, w


def _turns(poses: FloatArray) -> FloatArray:
    R = poses[:, :3, :3]
    relative = np.einsum("aji,bjk->abik", R, R)
    return rotation_angle(relative.reshape(-1, 3, 3)).reshape(len(R), len(R))


def _described(order: NDArray[np.intp], names: Sequence[str]) -> str:
    """Return in words which pose belongs to each picture."""
    n = len(order)
    as_text = np.argsort(np.argsort(names))
    is_text = any((found == as_text).all() for found in (order, np.argsort(order)))
    if is_text and (as_text != np.arange(n)).any():
        return "names are sorted as text (1, 10, 11, 2), not by their numbers"
    shift = int(np.bincount((order - np.arange(n)) % n).argmax())
    if np.count_nonzero((order - np.arange(n)) % n == shift) >= n - min(shift, n - shift):
        later = shift <= n - shift
        return f"each is taken {_pictures(shift if later else n - shift)} {'earlier' if later else 'later'}"
    if (order == np.arange(n)[::-1]).all():
        return "they are taken from the last to the first"
    moved = np.flatnonzero(order != np.arange(n))
    listed = ", ".join(f"{names[i]} goes with the pose of {names[order[i]]}" for i in moved[:MAX_NAMED])
    return f"{listed}" + (
        f" and {len(moved) - MAX_NAMED} more are exchanged" if len(moved) > MAX_NAMED else ""
    )


def _pictures(count: int) -> str:
    return "one picture" if count == 1 else f"{count} pictures"
