"""Where to bring the arm so that a camera sees the board well: what a person does by eye.

Views are drawn in the camera (where the board's centre shows, how far, how tilted), turned into
flange poses, and kept where the arm gets there without touching anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.errors import ConfigError
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import FloatArray, from_rotation, from_translation, invert, transform_points
from tacit_sim import board
from tacit_sim.cell import HOME, Cell
from tacit_sim.model import only_arm

MAX_TILT_DEG = 40.0
MIN_CORNERS_IN_IMAGE = 0.6
IMAGE_PART = 0.7
"""The board's centre stays within this part of the image."""
BORDER_PX = 3.0
"""A corner this near the border has too little around it to be located."""
MAX_DRAWS = 4000
PATH_STEPS = 12
CENTRE = np.array([*board.SIZE_M / 2, 0.0])


@dataclass(frozen=True)
class Distances:
    """Nearest and farthest board [m]: the arm carries a camera near the table, a fixed one stands off."""

    near: float
    far: float


DISTANCES = {"table": Distances(0.28, 0.50), "gripper": Distances(0.30, 0.60)}


class ViewPlanner:
    """Draws states (S,) of one cell in which one camera sees its board.

    Args:
        cell: With a board; the planner moves it about.
        camera: Name in the rig: on the flange for a board on the table, in the world for one in the hand.
        seed: Decides the draws.

    Raises:
        ConfigError: The cell has no board, or the camera moves with it.
    """

    def __init__(self, cell: Cell, camera: str, seed: int = 0) -> None:
        if camera not in cell.rig.cameras or not cell.board_at:
            raise ConfigError(f"no views to plan: camera {camera!r}, board at {cell.board_at!r}")
        fixed = cell.rig.cameras[camera].parent == "world"
        if fixed != (cell.board_at == "gripper"):
            wanted = "gripper" if fixed else "table"
            raise ConfigError(
                f"camera {camera!r} cannot be calibrated with the board at the {cell.board_at}; "
                f"use board={wanted}"
            )
        self._cell, self._fixed = cell, fixed
        self._camera = cell.rig.geometry.camera(camera)
        self._T_parent_camera = np.asarray(cell.rig.cameras[camera].T_parent_camera)
        self._robot = Robot.from_rig(cell.rig)
        self._T_world_base = np.asarray(only_arm(cell.rig)[1].T_world_base)
        self._random = np.random.default_rng([seed, 7])

    def views(self, count: int, opening_m: float = 0.06) -> FloatArray:
        """Return states (count, S) in an order that keeps the ways short.

        Raises:
            ConfigError: The arm cannot bring so many views about.
        """
        found: list[FloatArray] = []
        for _ in range(MAX_DRAWS):
            state = self._draw(opening_m)
            if state is not None:
                found.append(state)
            if len(found) == count:
                return _short_tour(np.append(HOME, opening_m), found)
        raise ConfigError(f"{len(found)} of {count} views found in {MAX_DRAWS} draws; is the board in reach?")

    def _draw(self, opening_m: float) -> FloatArray | None:
        T_camera_board = self._board_in_camera()
        if self._share_in_image(T_camera_board) < MIN_CORNERS_IN_IMAGE:
            return None
        solution = self._robot.inverse(self._flange_pose(T_camera_board), self._start())
        if not solution.ok:
            return None
        state = np.append(solution.q, opening_m)
        return state if self.is_free(state) and self.is_free_way(np.append(HOME, opening_m), state) else None

    def _share_in_image(self, T_camera_board: FloatArray) -> float:
        pixels = self._camera.project(transform_points(T_camera_board, _corners()))
        size = np.array([self._camera.width, self._camera.height])
        return float(((pixels > BORDER_PX) & (pixels < size - 1 - BORDER_PX)).all(axis=-1).mean())

    def is_free(self, state: FloatArray) -> bool:
        """Tell whether the arm touches nothing at a state."""
        self._cell.place(state)
        return not self._cell.touching_robot()

    def is_free_way(self, start: FloatArray, end: FloatArray) -> bool:
        """Tell whether the straight way in joints touches nothing."""
        return all(self.is_free(start + (end - start) * part) for part in np.linspace(0, 1, PATH_STEPS))

    def _start(self) -> FloatArray:
        return np.asarray(HOME) + self._random.uniform(-0.6, 0.6, len(HOME))

    def _board_in_camera(self) -> FloatArray:
        """Draw T_camera_board: print towards the camera, tilted to any side, turned any way."""
        draw, camera = self._random, self._camera
        distances = DISTANCES[self._cell.board_at]
        part = (1 - IMAGE_PART) / 2
        pixel = draw.uniform(part, 1 - part, 2) * [camera.width, camera.height]
        centre = camera.rays(pixel) * draw.uniform(distances.near, distances.far)
        direction, tilt = draw.uniform(0, 2 * np.pi), np.deg2rad(MAX_TILT_DEG) * np.sqrt(draw.uniform())
        lean = rotation_from_vector(tilt * np.array([np.cos(direction), np.sin(direction), 0.0]))
        turn = rotation_from_vector(np.array([0.0, 0.0, draw.uniform(-np.pi, np.pi)]))
        return from_translation(centre) @ from_rotation(lean @ turn) @ from_translation(-CENTRE)

    def _flange_pose(self, T_camera_board: FloatArray) -> FloatArray:
        """Return T_base_flange that shows the board so."""
        if self._fixed:
            T_world_flange = self._T_parent_camera @ T_camera_board @ invert(board.FLANGE_BOARD)
        else:
            T_world_flange = board.WORLD_BOARD @ invert(T_camera_board) @ invert(self._T_parent_camera)
        return invert(self._T_world_base) @ T_world_flange


def openings(lowest_m: float, highest_m: float, count: int) -> FloatArray:
    """Return states (count, S): the start pose at evenly spaced gripper openings."""
    return np.array([np.append(HOME, opening) for opening in np.linspace(lowest_m, highest_m, count)])


def single_moves(degrees: float, opening_m: float) -> FloatArray:
    """Return states (2 n + 1, S): the start pose, and it again after each joint was moved on its own."""
    home = np.append(HOME, opening_m)
    states = [home]
    for joint in range(len(HOME)):
        moved = home.copy()
        moved[joint] += np.deg2rad(degrees)
        states += [moved, home]
    return np.array(states)


def _corners() -> FloatArray:
    """Return the inner corners of the board (M, 3) [m]."""
    x, y = np.meshgrid(np.arange(1, board.COLUMNS), np.arange(1, board.ROWS))
    corners = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)
    return np.asarray(corners * board.SQUARE_M, dtype=np.float64)


def _short_tour(start: FloatArray, states: Sequence[FloatArray]) -> FloatArray:
    """Order states by always going to the nearest one left."""
    left, here, tour = list(states), start, []
    while left:
        nearest = int(np.argmin([np.abs(state - here).max() for state in left]))
        here = left.pop(nearest)
        tour.append(here)
    return np.array(tour)
