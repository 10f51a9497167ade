"""Corners of pictures whose lens is known already: found again in the way that fits single boards best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tacit.geometry.camera import Camera
from tacit.images import Image
from tacit_calibration.board import Board
from tacit_calibration.commands.place import say
from tacit_calibration.detection import gray_of, read_picture
from tacit_calibration.lens_choice import choose_corners
from tacit_calibration.samples import RobotViews


def with_best_corners(
    views: RobotViews, picture: Callable[[str], Image], board: Board, lens: Camera
) -> RobotViews:
    """Return the views with their corners refined through the lens.

    They stay as they are where the lens is of another size, or where a picture is gone, which is said.

    Args:
        views: Views of one board.
        picture: The picture (H, W, 3) of a view by its name.
        board: What they show.
        lens: The camera's lens.
    """
    if (lens.width, lens.height) != (views.width, views.height):
        return views  # the solver says so
    try:
        corners = choose_corners(views.views, lambda name: gray_of(picture(name)), board, lens, say)
    except FileNotFoundError as gone:
        say(f"corners stay as they were found, not refined through this lens: {gone.filename} is gone")
        return views
    return replace(views, views=corners)


def picture_in(folder: Path) -> Callable[[str], Image]:
    """Return what reads a picture of a folder by its name."""
    return lambda name: read_picture(folder / name)
