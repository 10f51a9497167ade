"""Views for `handeye --poses`: a table of robot poses with pictures or with poses of the board."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera, PinholeCamera
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray, invert
from tacit.images import Image
from tacit_calibration.board import Board
from tacit_calibration.commands.corners import picture_in, with_best_corners
from tacit_calibration.commands.place import say, track
from tacit_calibration.detection import Detections, View, detect_folder, detect_images
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.degeneracy import MIN_VIEWS, NEEDED, Mounting, carrier_poses
from tacit_calibration.estimation.directions import directions, turned_views
from tacit_calibration.pose_arm import beside_model
from tacit_calibration.pose_conventions import Reading, places, read_by_consistency, rotations
from tacit_calibration.poses.bags import is_bag, read_bag
from tacit_calibration.poses.files import read_poses
from tacit_calibration.poses.table import PoseRow, PoseTable
from tacit_calibration.samples import RobotViews

PAIR_LENS = PinholeCamera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), (0.0,) * 5, 640, 480)
"""Through which boards are drawn that only their poses are known of; pixels are then of this lens."""
MAX_BOARD_M = 20.0
"""No board is seen from further away: such numbers are millimetres."""
MUCH_BETTER = 0.25
HASH_BLOCK = 1 << 20
PAIR_GRID_M = 0.08
"""Side of the grid drawn for such a board: a usual board, so that a pixel means what it usually does."""


@dataclass(frozen=True)
class PoseSource:
    """Where robot poses and pictures of them come from.

    Attributes:
        path: A table of poses, a folder with a file for each picture, or a ROS bag.
        images: Folder with pictures; None where the table holds the board's poses, or the bag pictures.
        frames: In a bag: base and flange, then perhaps camera and board.
        topic: In a bag: where the pictures are.
    """

    path: Path
    images: Path | None = None
    frames: tuple[str, ...] = ()
    topic: str = ""


def views_of_poses(
    source: PoseSource, board: Board, lens: Camera | None, mounting: Mounting, robot: Robot | None = None
) -> RobotViews:
    """Return robot poses and views from a table of poses or a bag, and say how it was read.

    Args:
        source: The table and the pictures.
        board: The board in the pictures.
        lens: The calibrated lens; only pose pairs do without.
        mounting: Where the camera sits.
        robot: The arm, where a rig knows it.

    Raises:
        CalibrationError: Pictures and poses do not belong together, or none of both can be read.
    """
    pictures: list[tuple[str, Image]] = []
    if is_bag(source.path):
        table, pictures = read_bag(source.path, source.frames, source.topic)
        say(f"the arm stood still at {len(table.rows)} places")
    else:
        table = read_poses(source.path)
    if source.images is None and not pictures:
        if table.boards is None:
            raise CalibrationError(
                f"{source.path}: robot poses without poses of the board; give the pictures with --images"
            )
        return _views_of_pairs(table, lens or PAIR_LENS, mounting, robot)
    if lens is None:
        raise CalibrationError(
            "--lens is missing: the camera_info file of the camera, or --rig that holds it"
        )
    if source.images is None:
        found, picture = detect_images(pictures, board, _tracked), dict(pictures).__getitem__
    else:
        found, picture = detect_folder(source.images, board, _tracked), picture_in(source.images)
    rows = _rows_by_picture(table, source, [view.name for view in found.views], found.without_board)
    views = _views_with_poses(rows, found, lens)
    views = with_best_corners(views, picture, board, lens)
    return _read_by_pictures(
        replace(table, rows=tuple(rows[v.name] for v in views.views)), views, board, lens, mounting, robot
    )


def right_way_up(views: RobotViews, board: Board, lens: Camera, mounting: Mounting) -> RobotViews:
    """Return the views with a board that looks the same upside down turned as the arm's turns say."""
    if not board.looks_same_upside_down or len(views.views) < MIN_VIEWS:
        return views
    carrier = carrier_poses(views.flange_poses, mounting)
    turned = directions(carrier, board_poses(views.views, lens), board.middle_m)
    return replace(views, views=tuple(turned_views(views.views, turned)))


def sha256_of_poses(path: Path) -> str:
    """Return one hash over a table of poses, or over the files of a folder of poses or of a bag."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for name in files:
        if name.is_file():
            with name.open("rb") as file:
                while block := file.read(HASH_BLOCK):
                    digest.update(block)
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


def _views_with_poses(rows: dict[str, PoseRow], found: Detections, lens: Camera) -> RobotViews:
    """Return the views that have a pose, which is not read yet, and say which pictures were turned away.

    Raises:
        CalibrationError: Too few of them, or a lens of another size.
    """
    # By number, as they were taken: mix-ups are named by that order.
    kept = sorted((view for view in found.views if view.name in rows), key=lambda view: _in_order(view.name))
    unread, size = np.zeros((len(kept), 4, 4)), (found.width, found.height)
    none = np.zeros((len(kept), 0))
    views = RobotViews("", unread, tuple(kept), found.without_board, *size, none, found.reasons)
    say_turned_away(views)
    if (lens.width, lens.height) != size:
        raise CalibrationError(
            f"pictures are {found.width}x{found.height}, the lens is of {lens.width}x{lens.height}; "
            "calibrate it at the size of the pictures"
        )
    if len(kept) < MIN_VIEWS:
        raise CalibrationError(f"{len(kept)} pictures with board and pose; {NEEDED}")
    return views


def _read_by_pictures(
    table: PoseTable, views: RobotViews, board: Board, lens: Camera, mounting: Mounting, robot: Robot | None
) -> RobotViews:
    """Return the views with the poses of the table as they agree best with the pictures."""
    middle = board.middle_m if board.looks_same_upside_down else None
    names = [view.name for view in views.views]
    reading = read_by_consistency(table, board_poses(views.views, lens), mounting, middle, names)
    _say_reading(reading)
    poses = _beside_model(reading.poses, table, robot)
    return replace(views, flange_poses=poses, views=tuple(turned_views(views.views, reading.turned)))


def _beside_model(poses: FloatArray, table: PoseTable, robot: Robot | None) -> FloatArray:
    """Return flange poses after the arm's model has been asked, and say what it tells of them."""
    if robot is None:
        return poses
    found = beside_model(poses, table.joints, robot)
    for line in found.notes:
        say(line)
    for line in found.warnings:
        say(f"WARNING {line}")
    return found.poses


def _rows_by_picture(
    table: PoseTable, source: PoseSource, names: list[str], others: tuple[str, ...]
) -> dict[str, PoseRow]:
    """Return {picture: its row}: by name, by number in the name, or in order where rows have no names."""
    path, images = source.path, source.images
    given = [Path(row.picture).name for row in table.rows if row.picture]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise CalibrationError(f"{path}: two poses for {', '.join(twice)}; expected one for each picture")
    if not any(row.picture for row in table.rows):
        pictures = sorted([*names, *others], key=_in_order)
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


def _in_order(name: str) -> tuple[int, str]:
    number = _number(name)
    return (-1 if number is None else number, name)


def _number(name: str) -> int | None:
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def _views_of_pairs(table: PoseTable, lens: Camera, mounting: Mounting, robot: Robot | None) -> RobotViews:
    boards, reading = _read_pairs(table, mounting)
    _say_reading(reading)
    say("pixels below are those of a board of 80 mm under the poses given, as no picture is at hand")
    poses = _beside_model(reading.poses, table, robot)
    side = np.linspace(-PAIR_GRID_M / 2, PAIR_GRID_M / 2, 5)
    grid = np.stack([*np.meshgrid(side, side), np.zeros((5, 5))], axis=-1).reshape(-1, 3)
    names = [row.picture or f"pair {i}" for i, row in enumerate(table.rows)]
    views = tuple(View(name, _drawn(lens, T, grid), grid) for name, T in zip(names, boards, strict=True))
    return RobotViews("", poses, views, (), lens.width, lens.height, np.zeros((len(views), 0)))


def _read_pairs(table: PoseTable, mounting: Mounting) -> tuple[FloatArray, Reading]:
    """Return T_camera_board (n, 4, 4) with z into the board, and the robot poses that agree with it best.

    Raises:
        CalibrationError: Neither they nor their inverses agree with the robot.
    """
    found: list[tuple[FloatArray, Reading, str]] = []
    problems: list[CalibrationError] = []
    for name, boards in _boards_of(table):
        try:
            found.append((boards, read_by_consistency(table, boards, mounting), name))
        except CalibrationError as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    # Both inverted agree as well as both as they are, with camera and board exchanged: the likely one, the
    # first, stays unless another is clearly better.
    best = min(found, key=lambda one: one[1].place_m)
    boards, reading, name = best if best[1].place_m < MUCH_BETTER * found[0][1].place_m else found[0]
    say(f"board poses read as {name}")
    # Some have z out of the board, some into it; ours is into it, seen from the front.
    if np.median(np.einsum("ni,ni->n", boards[:, :3, 2], boards[:, :3, 3])) < 0:
        boards = boards @ np.diag([1.0, -1.0, -1.0, 1.0])
    return boards, reading


def _boards_of(table: PoseTable) -> Iterator[tuple[str, FloatArray]]:
    """Yield each way to read the board's poses: the likely one first, its inverse, other conventions."""
    given = PoseTable(tuple(PoseRow(row.board or ()) for row in table.rows))
    far = float(np.median(np.linalg.norm(places(given), axis=1)))
    unit = "mm" if far > MAX_BOARD_M else "m"
    likely = ("quaternion xyzw", "4x4 matrix", "3x4 matrix", "rotation vector [rad]")
    readings = sorted(rotations(given), key=lambda reading: reading[0] not in likely)
    for name, R in readings:
        boards = np.tile(np.eye(4), (len(R), 1, 1))
        boards[:, :3, :3] = R
        boards[:, :3, 3] = places(given) * (1e-3 if unit == "mm" else 1.0)
        yield f"board in camera, {name}, {unit}", boards
        yield f"camera in board (inverse), {name}, {unit}", invert(boards)


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


def _tracked(pictures: list[tuple[str, Image]]) -> Iterator[tuple[str, Image]]:
    return track(pictures, "pictures")
