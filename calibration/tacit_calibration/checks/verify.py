"""Does a rig tell the truth? Its prediction of board, gels and gripper against pictures it has not seen.

The board's own place is fitted (six numbers for all pictures together), the camera is not: a camera
that is off shows as corners that are off. Clicked gels are compared as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, invert, transform_points
from tacit.rig import Rig
from tacit_calibration.board import Board
from tacit_calibration.estimation.board_pose import board_poses, rms
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.samples import RobotViews, read_samples
from tacit_calibration.touch.clicks import Click
from tacit_calibration.touch.outline import Outline, predicted_hull, seen_shift
from tacit_calibration.touch.touch_views import touch_views

ROBUST_PX = 2.0


@dataclass(frozen=True)
class PixelErrors:
    """Statistics of distances in pixels."""

    count: int
    rms: float
    median: float
    p95: float
    worst: float

    @classmethod
    def of(cls, distances: FloatArray) -> PixelErrors:
        """Return the statistics of distances (n,) [px]."""
        d = np.asarray(distances, dtype=np.float64)
        return cls(
            len(d),
            float(np.sqrt(np.mean(d**2))),
            float(np.median(d)),
            float(np.quantile(d, 0.95)),
            float(d.max()),
        )

    def __str__(self) -> str:
        return (
            f"{self.count} points, RMS {self.rms:.2f} px, median {self.median:.2f}, "
            f"95 % below {self.p95:.2f}, worst {self.worst:.2f}"
        )


@dataclass(frozen=True, eq=False)
class Verification:
    """What a rig gets wrong in one camera.

    Attributes:
        camera: Its name.
        board: Errors of the board's corners, None without a board.
        gels: Errors of clicked gel corners, None without clicks.
        centres: Distances between the centres of seen (clicked, cut out) and predicted boxes, or None.
        view_rms_px: {picture: RMS px} of the board's corners.
        T_anchor_board: Where the board was: in the world, or on the flange for a fixed camera; or None.
    """

    camera: str
    board: PixelErrors | None
    gels: PixelErrors | None
    centres: PixelErrors | None
    view_rms_px: Mapping[str, float] = field(default_factory=dict)
    T_anchor_board: FloatArray | None = None

    def failures(self, max_px: float) -> list[str]:
        """Return what misses a threshold: the 95 % quantile of each kind of point."""
        kinds = {"board corners": self.board, "gel corners": self.gels, "box centres": self.centres}
        return [
            f"{kind}: 95 % below {errors.p95:.2f} px, allowed {max_px:g} px"
            for kind, errors in kinds.items()
            if errors is not None and errors.p95 > max_px
        ]


def verify(
    rig: Rig,
    camera: str,
    robot_views: RobotViews | None,
    folder: Path,
    clicks: Sequence[Click] = (),
    outlines: Sequence[Outline] = (),
) -> Verification:
    """Compare a rig with pictures.

    Args:
        rig: The rig.
        camera: Whose pictures.
        robot_views: The board in them, where there is one.
        folder: The samples.
        clicks: Gel corners in them, where there are any.
        outlines: Gels found in them; box centres are measured by them if not by clicks.

    Raises:
        CalibrationError: Neither a board nor gels.
    """
    if (robot_views is None or not robot_views.views) and not clicks and not outlines:
        raise CalibrationError(f"{folder}: shows no board and no gel has been found; nothing to verify")
    T_board, board, per_view = None, None, {}
    if robot_views is not None and robot_views.views:
        T_board = fit_board(rig, camera, robot_views)
        errors = board_errors(rig, camera, robot_views, T_board)
        board = PixelErrors.of(np.concatenate([np.linalg.norm(e, axis=1) for e in errors]))
        per_view = {view.name: rms(e) for view, e in zip(robot_views.views, errors, strict=True)}
    gels, centres = _gel_errors(rig, camera, folder, clicks) if clicks else (None, None)
    if outlines and not clicks:
        centres = PixelErrors.of(np.array([_outline_error(rig, camera, outline) for outline in outlines]))
    return Verification(camera, board, gels, centres, per_view, T_board)


def fit_board(rig: Rig, camera: str, robot_views: RobotViews) -> FloatArray:
    """Return the one place of the board (4, 4) that suits all pictures best under the rig.

    In the world for a camera on the arm, on the flange for a camera in the world.
    """
    from scipy.optimize import least_squares  # slow to import

    lens = rig.geometry.camera(camera)
    T_camera_anchor = camera_anchors(rig, camera, robot_views)
    alone = invert(T_camera_anchor) @ board_poses(robot_views.views, lens)
    # Start at a pose that is one of the data, the most central: means of rotations need care, this does not.
    middle = np.median(alone[:, :3, 3], axis=0)
    start = alone[int(np.argmin(np.linalg.norm(alone[:, :3, 3] - middle, axis=1)))]

    def residuals(x: FloatArray) -> FloatArray:
        T = start @ small_pose(x * 1e-3)  # unknowns in mm and mrad, near 1, as the solver's steps expect
        return np.concatenate(_errors(lens, T_camera_anchor @ T, robot_views)).ravel()

    found = least_squares(residuals, np.zeros(6), loss="soft_l1", f_scale=ROBUST_PX)
    return np.asarray(start @ small_pose(found.x * 1e-3))


def board_errors(rig: Rig, camera: str, robot_views: RobotViews, T_board: FloatArray) -> list[FloatArray]:
    """Return predicted minus found corners (N, 2) [px] of each view."""
    anchors = camera_anchors(rig, camera, robot_views)
    return _errors(rig.geometry.camera(camera), anchors @ T_board, robot_views)


def _errors(lens: Camera, T_camera_board: FloatArray, robot_views: RobotViews) -> list[FloatArray]:
    return [
        np.nan_to_num(lens.project(transform_points(T, view.points_m)), nan=1e3) - view.corners_px
        for T, view in zip(T_camera_board, robot_views.views, strict=True)
    ]


def camera_anchors(rig: Rig, camera: str, robot_views: RobotViews) -> FloatArray:
    """Return T_camera_anchor (n, 4, 4): to the world for a camera that moves, else to the flange."""
    arm = robot_views.arm
    T_world_flange = np.asarray(rig.arms[arm].T_world_base) @ robot_views.flange_poses
    T_camera_parent = invert(rig.cameras[camera].T_parent_camera)
    if rig.cameras[camera].parent == "world":
        return np.asarray(T_camera_parent @ T_world_flange)
    return np.asarray(T_camera_parent @ invert(T_world_flange))


def _gel_errors(
    rig: Rig, camera: str, folder: Path, clicks: Sequence[Click]
) -> tuple[PixelErrors, PixelErrors]:
    lens = rig.geometry.camera(camera)
    corners, centres = [], []
    for view in touch_views(rig, camera, folder, clicks):
        spec = rig.tactile[view.click.sensor]
        predicted = view.project(lens, np.asarray(spec.T_mount_sensor), np.array(spec.size_m[:2]))
        corners.append(np.linalg.norm(predicted - view.click.pixels, axis=1))
        centres.append(np.linalg.norm(_centre(predicted) - _centre(view.click.pixels)))
    return PixelErrors.of(np.concatenate(corners)), PixelErrors.of(np.array(centres))


def _outline_error(rig: Rig, camera: str, outline: Outline) -> float:
    """Return the distance [px] between an outline and the predicted box."""
    predicted = predicted_hull(rig, camera, outline.view, outline.thickness_m)
    return float(np.linalg.norm(seen_shift(predicted, outline.points)))


def _centre(corners: FloatArray) -> FloatArray:
    """Return the centre (2,) of the box around corners (4, 2)."""
    return np.asarray((corners.min(axis=0) + corners.max(axis=0)) / 2)


def board_of_samples(rig: Rig, folder: Path, board: Board) -> RobotViews | None:
    """Return the board in the samples of a folder, None where no picture shows it."""
    views = read_samples(folder, rig, board)
    return views if views.views else None
