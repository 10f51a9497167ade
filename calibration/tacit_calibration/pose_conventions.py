"""What the numbers of a pose table mean: found by which reading agrees with the pictures, and said.

A camera on a rigid mount turns by the same angle as its arm, whatever the mount, so the convention of the
angles shows before anything is calibrated; units and direction show in how well a calibration closes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_quaternion, rotation_from_vector
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.estimation.closed_form import angle_disagreement, solve_closed_form
from tacit_calibration.estimation.degeneracy import Mounting, carrier_poses
from tacit_calibration.estimation.diagnosis import MAX_CONTRADICTION_M, MAX_TURN
from tacit_calibration.estimation.directions import directions, upside_down
from tacit_calibration.estimation.mixups import explains, named_mixup, other_pictures, usual_orders
from tacit_calibration.poses.table import EXPECTED, LOOSE_LENGTH, PoseTable

SAME = 1.1
"""Readings whose turns agree within a tenth of each other are the same to the pictures."""
UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
LOOSE = 1e-2
"""How far a rotation may be from orthonormal, as printed with few digits; it is then made so."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A pose table as understood: T_base_flange (n, 4, 4), how it was read, and how well that agrees.

    Attributes:
        poses: T_base_flange (n, 4, 4).
        meaning: The convention in words.
        turn_deg: Median difference of turns between robot and pictures [deg].
        place_m: Median disagreement of a first calibration [m].
        turned: (n,) Pictures that show a board, which looks the same upside down, the other way round.
    """

    poses: FloatArray
    meaning: str
    turn_deg: float
    place_m: float
    turned: NDArray[np.bool_]


def read_by_consistency(
    table: PoseTable,
    boards: FloatArray,
    mounting: Mounting,
    middle_m: FloatArray | None = None,
    names: Sequence[str] = (),
) -> Reading:
    """Return the reading of a table that agrees best with where pictures put the board.

    Args:
        table: The poses, in the order of the pictures.
        boards: T_camera_board (n, 4, 4).
        mounting: Where the camera sits.
        middle_m: Middle (3,) of a board that looks the same upside down; pictures may then show it either
            way, and `Reading.turned` says which are turned.
        names: Of the pictures (n), for messages.

    Raises:
        CalibrationError: No reading agrees; the message says which mix-up explains it, or lists the nearest.
    """
    turned = [(_turn_error(_poses(R), boards, middle_m), name, R) for name, R in rotations(table)]
    if not turned:
        raise CalibrationError(f"robot poses: {EXPECTED}; these quaternions are not of length 1")
    least = min(error for error, _, _ in turned)
    if least > MAX_TURN:
        _name_mixup(turned, boards, mounting, middle_m, names)
        best = sorted((np.rad2deg(error), name) for error, name, _ in turned)[:3]
        listed = ", ".join(f"{name} {error:.0f} deg" for error, name in best)
        raise CalibrationError(
            f"robot poses and pictures turn by different angles however the numbers are read (nearest: "
            f"{listed}; expected below {np.rad2deg(MAX_TURN):.0f}); do pictures and poses belong together?"
        )
    near = [(name, R) for error, name, R in turned if error <= max(SAME * least, 1e-4)]
    found = [
        _reading(name, unit, inverse, R, table, boards, mounting, middle_m)
        for (name, R), unit, inverse in itertools.product(near, _units(table), (False, True))
    ]
    best_reading = min(found, key=lambda reading: reading.place_m)
    if best_reading.place_m > MAX_CONTRADICTION_M:
        raise CalibrationError(
            f"robot poses and pictures contradict each other by {1e3 * best_reading.place_m:.0f} mm "
            f"however the numbers are read (best: {best_reading.meaning}); do pictures and "
            "poses belong together, is the board's size right?"
        )
    return best_reading


def _name_mixup(
    turned: Sequence[tuple[float, str, FloatArray]],
    boards: FloatArray,
    mounting: Mounting,
    middle_m: FloatArray | None,
    names: Sequence[str],
) -> None:
    """Raise an error that says which mix-up explains the turns, if any does in some reading."""
    called = list(names) or [f"picture {i}" for i in range(len(boards))]
    likely = sorted(turned, key=lambda found: found[0])
    if middle_m is not None:
        # Which pictures show the board upside down depends on the order, so orders are tried one by one.
        for (given, _, R), order in itertools.product(likely, usual_orders(called)):
            left = _turn_error(_poses(R[order]), boards, middle_m)
            if explains(left, given):
                raise CalibrationError(other_pictures(left, given, order, called))
        return
    for (_, _, R), inverse in itertools.product(likely, (False, True)):
        poses = invert(_poses(R)) if inverse else _poses(R)
        mixup = named_mixup(poses, boards, called, mounting)
        if mixup is not None:
            raise CalibrationError(mixup)


def rotations(table: PoseTable) -> Iterator[tuple[str, FloatArray]]:
    """Yield each way to read the rotation of a table: its name, and rotations (n, 3, 3)."""
    values = table.robot
    count = values.shape[1]
    if count in (12, 16):
        yield from _matrices(values)
    elif count == 7:
        orders = {"xyzw": [3, 4, 5, 6], "wxyz": [4, 5, 6, 3]}
        for name, order in orders.items():
            norm = np.linalg.norm(values[:, order], axis=1, keepdims=True)
            if table.quaternion in (name, "") and (np.abs(norm - 1) < LOOSE_LENGTH).all():
                yield f"quaternion {name}", rotation_from_quaternion(values[:, order] / norm)
    else:
        yield from _angles(table, values[:, 3:])


def _matrices(values: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    square = values.reshape(len(values), -1, 4)
    if square.shape[1] == 4 and np.abs(square[:, :3, 3]).max() < 1e-9:
        yield "4x4 matrix by columns", _orthonormal(np.swapaxes(square, 1, 2)[:, :3, :3])
    else:
        yield f"{square.shape[1]}x4 matrix", _orthonormal(square[:, :3, :3])


def _angles(table: PoseTable, angles: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    for unit in (table.angle,) if table.angle else ("rad", "deg"):
        turn = np.deg2rad(angles) if unit == "deg" else angles
        if table.turn in ("rpy", ""):
            yield f"roll pitch yaw about fixed axes [{unit}]", _from_rpy(turn)
        if table.turn in ("rotation vector", ""):
            yield f"rotation vector [{unit}]", rotation_from_vector(turn)
        if table.turn == "":
            # About moving z, y, x is about fixed x, y, z in the other order: A B C of a KUKA.
            yield f"A B C about moving z, y, x [{unit}]", _from_rpy(turn[:, ::-1])
            moving = np.swapaxes(_from_rpy(-turn), 1, 2)
            yield f"rx ry rz about moving x, y, z [{unit}]", moving
            # A Doosan, a Kawasaki (O A T), a Comau.
            yield f"angles about moving z, y, z [{unit}]", _about_zyz(turn)


def _from_rpy(rpy: FloatArray) -> FloatArray:
    """Return Rz(yaw) Ry(pitch) Rx(roll) (n, 3, 3) of angles (n, 3) [rad]."""
    x, y, z = (rotation_from_vector(rpy[:, [i]] * np.eye(3)[i]) for i in range(3))
    return np.asarray(z @ y @ x)


def _about_zyz(angles: FloatArray) -> FloatArray:
    """Return Rz(a) Ry(b) Rz(c) (n, 3, 3) of angles (n, 3) [rad]."""
    first, last = angles * [0, 1, 1], angles * [0, 0, 1]
    first[:, 2] = angles[:, 0]
    return np.asarray(_from_rpy(first) @ _from_rpy(last))


def places(table: PoseTable) -> FloatArray:
    """Return the places (n, 3) of a table as they stand there."""
    values = table.robot
    if values.shape[1] in (6, 7):
        return values[:, :3]
    square = values.reshape(len(values), -1, 4)
    if square.shape[1] == 4 and np.abs(square[:, :3, 3]).max() < 1e-9:
        return square[:, 3, :3]
    return square[:, :3, 3]


def _reading(
    name: str,
    unit: str,
    inverse: bool,
    R: FloatArray,
    table: PoseTable,
    boards: FloatArray,
    mounting: Mounting,
    middle_m: FloatArray | None,
) -> Reading:
    poses = _poses(R, places(table) * UNITS[unit])
    poses = invert(poses) if inverse else poses
    carrier = carrier_poses(poses, mounting)
    turned = np.zeros(len(boards), dtype=bool)
    if middle_m is not None:
        turned = directions(carrier, boards, middle_m)
        boards = np.where(turned[:, None, None], upside_down(boards, middle_m), boards)
    way = "base in flange (inverse)" if inverse else "flange in base"
    turn = float(np.rad2deg(np.median(angle_disagreement(carrier, boards))))
    place = solve_closed_form(carrier, boards).typical
    return Reading(poses, f"{way}, {name}, {unit}", turn, place, turned)


def _turn_error(carrier: FloatArray, boards: FloatArray, middle_m: FloatArray | None) -> float:
    if middle_m is not None:
        turned = directions(carrier, boards, middle_m)
        boards = np.where(turned[:, None, None], upside_down(boards, middle_m), boards)
    return float(np.median(angle_disagreement(carrier, boards)))


def _poses(R: FloatArray, place: FloatArray | None = None) -> FloatArray:
    T = np.tile(np.eye(4), (len(R), 1, 1))
    T[:, :3, :3] = R
    if place is not None:
        T[:, :3, 3] = place
    return T


def _units(table: PoseTable) -> tuple[str, ...]:
    return (table.unit,) if table.unit else ("m", "mm")


def _orthonormal(R: FloatArray) -> FloatArray:
    """Return the rotations (n, 3, 3) nearest to matrices that were printed with few digits."""
    U, _, Vt = np.linalg.svd(R)
    nearest = U @ Vt
    off = np.abs(nearest - R).reshape(len(R), -1).max(axis=1)
    if off.max() > LOOSE or np.linalg.det(nearest).min() < 0:
        raise CalibrationError(
            f"pose {int(np.argmax(off))}: no rotation (off by {off.max():.3g}, or mirrored); expected 3 "
            "orthonormal rows in each matrix"
        )
    return np.asarray(nearest)
