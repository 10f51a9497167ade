"""Views for `handeye --poses`: a table of robot poses with pictures or with poses of the board."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera, PinholeCamera
from tacit.geometry.transforms import FloatArray
from tacit_calibration.board import Board
from tacit_calibration.commands.place import say
from tacit_calibration.detection import View, detect_folder
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.degeneracy import MIN_VIEWS, Mounting, carrier_poses
from tacit_calibration.estimation.directions import directions, turned_views
from tacit_calibration.pose_conventions import Reading, places, read_by_consistency, rotations
from tacit_calibration.pose_files import PoseRow, PoseTable, read_poses
from tacit_calibration.samples import RobotViews

PAIR_LENS = PinholeCamera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), (0.0,) * 5, 640, 480)
"""Through which boards are drawn that only their poses are known of; pixels are then of this lens."""
PAIR_GRID_M = 0.08
"""Side of the grid drawn for such a board: a usual board, so that a pixel means what it usually does."""


def views_of_poses(
    path: Path, images: Path | None, board: Board, lens: Camera | None, mounting: Mounting
) -> RobotViews:
    """Return robot poses and views from a table of poses, and say how the table was read.

    Args:
        path: The table.
        images: Folder with pictures; None where the table holds the board's poses.
        board: The board in the pictures.
        lens: The calibrated lens; only pose pairs do without.
        mounting: Where the camera sits.

    Raises:
        CalibrationError: Pictures and poses do not belong together, or none of both can be read.
    """
    table = read_poses(path)
    if images is None:
        if table.boards is None:
            raise CalibrationError(
                f"{path}: holds robot poses without poses of the board; give the pictures with --images"
            )
        return _views_of_pairs(table, lens or PAIR_LENS, mounting)
    if lens is None:
        raise CalibrationError(
            "--lens is missing: the camera_info file of the camera, or --rig that holds it"
        )
    return _views_of_pictures(table, path, images, board, lens, mounting)


def right_way_up(views: RobotViews, board: Board, lens: Camera, mounting: Mounting) -> RobotViews:
    """Return the views with a board that looks the same upside down turned as the arm's turns say."""
    if not board.looks_same_upside_down or len(views.views) < MIN_VIEWS:
        return views
    carrier = carrier_poses(views.flange_poses, mounting)
    turned = directions(carrier, board_poses(views.views, lens), board.middle_m)
    return replace(views, views=tuple(turned_views(views.views, turned)))


def sha256_of_poses(path: Path) -> str:
    """Return one hash over a table of poses, or over the files of a folder of poses."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def say_turned_away(views: RobotViews) -> None:
    """Say which pictures were turned away and why, before solving can fail for want of them."""
    for name in views.without_board:
        say(f"skipped {name}: {views.reasons.get(name, 'no board found')}")
    if views.without_board:
        total = len(views.views) + len(views.without_board)
        say(
            f"{len(views.views)} of {total} pictures show the board; {MIN_VIEWS} are needed, 15-25 are better"
        )


def _views_of_pictures(
    table: PoseTable, path: Path, images: Path, board: Board, lens: Camera, mounting: Mounting
) -> RobotViews:
    found = detect_folder(images, board)
    rows = _rows_by_picture(table, path, images, [view.name for view in found.views], found.without_board)
    kept = [view for view in found.views if view.name in rows]
    none = np.zeros((len(kept), 0))
    size = found.width, found.height
    views = RobotViews(
        "", np.zeros((len(kept), 4, 4)), tuple(kept), found.without_board, *size, none, found.reasons
    )
    say_turned_away(views)
    if (lens.width, lens.height) != size:
        raise CalibrationError(
            f"pictures are {size[0]}x{size[1]}, the lens is of {lens.width}x{lens.height}; "
            "calibrate it at the size of the pictures"
        )
    if len(kept) < MIN_VIEWS:
        raise CalibrationError(
            f"{len(kept)} pictures with board and pose; expected at least {MIN_VIEWS}, better 15-25: each "
            "tells 6 numbers, 12 are unknown, and the robot's own error must show too"
        )
    chosen = PoseTable(
        tuple(rows[view.name] for view in kept), table.unit, table.angle, table.quaternion, table.turn
    )
    middle = board.middle_m if board.looks_same_upside_down else None
    reading = read_by_consistency(chosen, board_poses(kept, lens), mounting, middle)
    _say_reading(reading)
    return RobotViews(
        "",
        reading.poses,
        tuple(turned_views(kept, reading.turned)),
        found.without_board,
        *size,
        none,
        found.reasons,
    )


def _rows_by_picture(
    table: PoseTable, path: Path, images: Path, names: list[str], others: tuple[str, ...]
) -> dict[str, PoseRow]:
    """Return {picture: its row}: by name, by number in the name, or in order where rows have no names."""
    if not any(row.picture for row in table.rows):
        pictures = sorted([*names, *others], key=lambda name: (_number(name) or -1, name))
        if len(pictures) != len(table.rows):
            raise CalibrationError(
                f"{path}: {len(table.rows)} poses, {images}: {len(pictures)} pictures; expected one pose "
                "for each, in the order of the pictures, or a name of the picture in each row"
            )
        return dict(zip(pictures, table.rows, strict=True))
    by_name = {Path(row.picture).name: row for row in table.rows}
    by_stem = {Path(row.picture).stem: row for row in table.rows}
    by_number = {_number(row.picture): row for row in table.rows if _number(row.picture) is not None}
    unique = len(by_number) == len(table.rows)
    rows = {}
    for name in names:
        row = by_name.get(name) or by_stem.get(Path(name).stem)
        row = row or (by_number.get(_number(name)) if unique else None)
        if row is None:
            say(f"skipped {name}: {path} has no pose for it")
        else:
            rows[name] = row
    return rows


def _number(name: str) -> int | None:
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def _views_of_pairs(table: PoseTable, lens: Camera, mounting: Mounting) -> RobotViews:
    assert table.boards is not None
    given = PoseTable(
        tuple(PoseRow(row.board or ()) for row in table.rows), turn="rotation vector", quaternion="xyzw"
    )
    boards = np.tile(np.eye(4), (len(table.rows), 1, 1))
    boards[:, :3, :3] = next(iter(rotations(given)))[1]
    boards[:, :3, 3] = places(given)
    # Some have z out of the board, some into it; ours is into it, seen from the front.
    if np.median(np.einsum("ni,ni->n", boards[:, :3, 2], boards[:, :3, 3])) < 0:
        boards = boards @ np.diag([1.0, -1.0, -1.0, 1.0])
    reading = read_by_consistency(table, boards, mounting)
    _say_reading(reading)
    say("pixels below are those of a board of 80 mm under the poses given, as no picture is at hand")
    side = np.linspace(-PAIR_GRID_M / 2, PAIR_GRID_M / 2, 5)
    grid = np.stack([*np.meshgrid(side, side), np.zeros((5, 5))], axis=-1).reshape(-1, 3)
    names = [row.picture or f"pair {i}" for i, row in enumerate(table.rows)]
    views = tuple(View(name, _drawn(lens, T, grid), grid) for name, T in zip(names, boards, strict=True))
    return RobotViews("", reading.poses, views, (), lens.width, lens.height, np.zeros((len(views), 0)))


def _drawn(lens: Camera, T: FloatArray, points: FloatArray) -> FloatArray:
    pixels = lens.project(points @ T[:3, :3].T + T[:3, 3])
    if not np.isfinite(pixels).all():
        raise CalibrationError("a board's pose lies behind the camera; expected T_camera_board in each pair")
    return pixels


def _say_reading(reading: Reading) -> None:
    say(
        f"poses read as {reading.meaning}: turns agree within {reading.turn_deg:.2f} deg, places within "
        f"{1e3 * reading.place_m:.1f} mm"
    )
    if reading.turned.any():
        say(f"{np.count_nonzero(reading.turned)} pictures show the board upside down, by the arm's turns")
