"""The calibration board of the cell: a ChArUco print on a plate, on the table or in the gripper.

The same board that `tacit calibrate board` prints by default. Its frame is OpenCV's: origin at the
top left corner of the pattern, x right, y down, z into the plate.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from tacit.geometry.transforms import from_rotation
from tacit.images import encode_png
from tacit_sim.attributes import numbers, pose_attributes

BoardPlace = Literal["", "table", "gripper"]
COLUMNS, ROWS, SQUARE_M, MARKER_M = 9, 6, 0.030, 0.021
DICTIONARY = cv2.aruco.DICT_4X4_50
SIZE_M = np.array([COLUMNS * SQUARE_M, ROWS * SQUARE_M])
MARGIN_M = 0.012
THICKNESS_M = 0.002
PIXELS_PER_M = 4000
"""120 a square, 84 a marker, 14 a cell of it: whole pixels, so the texture has no rounded edges."""

WORLD_BOARD = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.45, 0.09, THICKNESS_M))
"""T_world_board: flat on the table before the arm, its print up."""
FLANGE_BOARD = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.135, 0.09, 0.25))
"""T_flange_board: across the tool, past the fingertips, its print away from the flange."""

BOARD_ASSET = """<asset>
 <texture name="board" type="2d" file="board.png"/>
 <material name="board" texture="board" texuniform="false" specular="0" reflectance="0"/>
</asset>"""


def assets() -> dict[str, bytes]:
    """Return the files that a model with a board refers to."""
    return {"board.png": encode_png(picture()).tobytes()}


def picture() -> np.ndarray:
    """Return the plate as seen from its printed side (H, W, 3): pattern and white margin."""
    board = cv2.aruco.CharucoBoard(
        (COLUMNS, ROWS), SQUARE_M, MARKER_M, cv2.aruco.getPredefinedDictionary(DICTIONARY)
    )
    width, height = (round(side * PIXELS_PER_M) for side in SIZE_M)
    pattern = board.generateImage((width, height), marginSize=0, borderBits=1)
    margin = round(MARGIN_M * PIXELS_PER_M)
    plate = cv2.copyMakeBorder(pattern, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=255)
    return np.asarray(cv2.cvtColor(plate, cv2.COLOR_GRAY2RGB))


def board_geom(T_parent_board: np.ndarray) -> str:
    """Return the plate as geoms that touch nothing: the print, its face at z = 0, and a white back."""
    return _layer("board", T_parent_board, 0.0, 'material="board"') + _layer(
        "board_back", T_parent_board, THICKNESS_M / 2, 'rgba="0.9 0.9 0.9 1"'
    )


def _layer(name: str, T_parent_board: np.ndarray, depth_m: float, look: str) -> str:
    """Half of the plate. A texture lies on the face at +z of a box, y up: the board turned about x."""
    half = (*(SIZE_M / 2 + MARGIN_M), THICKNESS_M / 4)
    middle = (*SIZE_M / 2, depth_m + THICKNESS_M / 4)
    T_board_geom = from_rotation(np.diag([1.0, -1.0, -1.0]), middle)
    return (
        f'<geom name="{name}" type="box" size="{numbers(half)}" {look} contype="0" conaffinity="0" '
        f'group="1" {pose_attributes(T_parent_board @ T_board_geom)}/>'
    )
