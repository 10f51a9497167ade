"""Does a rig tell the truth? Its prediction of board, gels and gripper against pictures it has not seen.

The board's own place is fitted (six numbers for all pictures together), the camera is not: a camera
that is off shows as corners that are off. Clicked gels are compared as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tacit.camera import Camera
from tacit.episode import EpisodeReader
from tacit.errors import CalibrationError
from tacit.images import Image
from tacit.rig import Rig
from tacit.samples import load_samples
from tacit.transforms import from_translation, invert, transform_points
from tacit.units import from_canonical, to_canonical
from tacit.view.draw import COLORS, draw_box, draw_label, draw_quad, film_strip
from tacit_calibration.board import Board
from tacit_calibration.board_pose import board_poses
from tacit_calibration.clicks import Click
from tacit_calibration.increments import small_pose
from tacit_calibration.samples import RobotViews, joints_in_order, picture, read_samples
from tacit_calibration.touch_views import touch_views

FloatArray = NDArray[np.float64]
ROBUST_PX = 2.0
FOUND_RGB, PREDICTED_RGB = (80, 230, 90), (255, 120, 60)
MAX_PICTURES = 6
AXIS_M = 0.03


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
        centres: Distances between the centres of clicked and predicted boxes, None without clicks.
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
    rig: Rig, camera: str, robot_views: RobotViews | None, folder: Path, clicks: Sequence[Click] = ()
) -> Verification:
    """Compare a rig with pictures.

    Args:
        rig: The rig.
        camera: Whose pictures.
        robot_views: The board in them, where there is one.
        folder: The samples.
        clicks: Gel corners in them, where there are any.

    Raises:
        CalibrationError: Neither a board nor clicks.
    """
    if (robot_views is None or not robot_views.views) and not clicks:
        raise CalibrationError(f"{folder}: shows no board and has no clicked corners; nothing to verify")
    T_board, board, per_view = None, None, {}
    if robot_views is not None and robot_views.views:
        T_board = fit_board(rig, camera, robot_views)
        errors = board_errors(rig, camera, robot_views, T_board)
        board = PixelErrors.of(np.concatenate([np.linalg.norm(e, axis=1) for e in errors]))
        per_view = {
            view.name: float(np.sqrt(np.mean(np.sum(e**2, axis=1))))
            for view, e in zip(robot_views.views, errors, strict=True)
        }
    gels, centres = _gel_errors(rig, camera, folder, clicks) if clicks else (None, None)
    return Verification(camera, board, gels, centres, per_view, T_board)


def fit_board(rig: Rig, camera: str, robot_views: RobotViews) -> FloatArray:
    """Return the one place of the board (4, 4) that suits all pictures best under the rig.

    In the world for a camera on the arm, on the flange for a camera in the world.
    """
    lens = rig.geometry.camera(camera)
    T_camera_anchor = _camera_anchors(rig, camera, robot_views)
    alone = invert(T_camera_anchor) @ board_poses(robot_views.views, lens)
    middle = np.median(alone[:, :3, 3], axis=0)
    start = alone[int(np.argmin(np.linalg.norm(alone[:, :3, 3] - middle, axis=1)))]

    def residuals(x: FloatArray) -> FloatArray:
        T = start @ small_pose(x * 1e-3)
        return np.concatenate(_errors(lens, T_camera_anchor @ T, robot_views)).ravel()

    found = least_squares(residuals, np.zeros(6), loss="soft_l1", f_scale=ROBUST_PX)
    return np.asarray(start @ small_pose(found.x * 1e-3))


def board_errors(rig: Rig, camera: str, robot_views: RobotViews, T_board: FloatArray) -> list[FloatArray]:
    """Return predicted minus found corners (N, 2) [px] of each view."""
    anchors = _camera_anchors(rig, camera, robot_views)
    return _errors(rig.geometry.camera(camera), anchors @ T_board, robot_views)


def _errors(lens: Camera, T_camera_board: FloatArray, robot_views: RobotViews) -> list[FloatArray]:
    return [
        np.nan_to_num(lens.project(transform_points(T, view.points_m)), nan=1e3) - view.corners_px
        for T, view in zip(T_camera_board, robot_views.views, strict=True)
    ]


def _camera_anchors(rig: Rig, camera: str, robot_views: RobotViews) -> FloatArray:
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


def _centre(corners: FloatArray) -> FloatArray:
    """Return the centre (2,) of the box around corners (4, 2)."""
    return np.asarray((corners.min(axis=0) + corners.max(axis=0)) / 2)


def overlays(
    rig: Rig,
    camera: str,
    folder: Path,
    robot_views: RobotViews | None,
    verification: Verification,
    clicks: Sequence[Click] = (),
) -> Image:
    """Return a sheet of pictures with the rig's sensor boxes, board corners and gripper drawn in.

    Found corners are green crosses, predicted ones orange rings, the flange's axes red, green, blue.
    """
    listed = load_samples(folder)
    joints = joints_in_order(listed, rig, folder)
    chosen = np.unique(np.linspace(0, len(listed.samples) - 1, MAX_PICTURES).astype(int))
    tiles = []
    for i in chosen:
        sample = listed.samples[i]
        state = state_of(rig, listed.arm, joints[i], sample.gripper_raw)
        image = draw_rig(picture(folder, sample), rig, camera, listed.arm, state)
        if robot_views is not None and verification.T_anchor_board is not None:
            image = _draw_board(image, rig, camera, robot_views, verification.T_anchor_board, sample.image)
        for click in clicks:
            if click.image == sample.image:
                image = _draw_crosses(image, click.pixels)
        error = verification.view_rms_px.get(sample.image)
        text = sample.image + (f": {error:.2f} px" if error is not None else "")
        tiles.append(draw_label(image, text, (4, 16)))
    return film_strip(tiles, columns=min(3, len(tiles)))


def episode_overlays(rig: Rig, camera: str, reader: EpisodeReader) -> Image:
    """Return a sheet of ticks of an episode with the boxes and jaw axes that `rig` puts there.

    Raises:
        CalibrationError: The episode has other joints, or images of another size than the rig.
    """
    if tuple(reader.state_names) != tuple(rig.state_names):
        raise CalibrationError(
            f"{reader.path}: joints {', '.join(reader.state_names)}; the rig has {', '.join(rig.state_names)}"
        )
    lens = rig.geometry.camera(camera)
    tiles = []
    for tick in np.unique(np.linspace(0, reader.num_ticks - 1, MAX_PICTURES).astype(int)):
        image = reader.image(camera, int(tick))
        if image.shape[:2] != (lens.height, lens.width):
            raise CalibrationError(
                f"{reader.path}: {camera} is {image.shape[1]}x{image.shape[0]}, the rig has "
                f"{lens.width}x{lens.height}"
            )
        raw = [
            from_canonical(reader.rig, n, float(v))
            for n, v in zip(reader.state_names, reader.qpos[tick], strict=True)
        ]
        state = np.array([to_canonical(rig, n, v) for n, v in zip(rig.state_names, raw, strict=True)])
        for arm in rig.arms:
            image = draw_rig(image, rig, camera, arm, state)
        tiles.append(draw_label(image, f"tick {tick}", (4, 16)))
    return film_strip(tiles, columns=min(3, len(tiles)))


def state_of(rig: Rig, arm: str, q: FloatArray, gripper_raw: float | None) -> FloatArray:
    """Return the state (S,) of a sample; other arms at zero, a gripper without a value closed."""
    state = np.zeros(len(rig.state_names))
    state[rig.arm_slice(arm)] = q
    gripper = rig.arms[arm].gripper
    if gripper is not None and gripper_raw is not None:
        state[rig.index_of([gripper.name])[0]] = to_canonical(rig, gripper.name, gripper_raw)
    return state


def draw_rig(image: Image, rig: Rig, camera: str, arm: str, state: FloatArray) -> Image:
    """Return a copy with every sensor's box and face, and the axes of the jaw centre, as the rig has them."""
    for i, (name, footprint) in enumerate(rig.sensor_boxes(state, camera).items()):
        image = draw_box(image, footprint.box, COLORS[i % len(COLORS)], name)
        image = draw_quad(image, footprint.corners, COLORS[i % len(COLORS)])
    T_camera_world = invert(rig.geometry.camera_poses(state)[camera])
    mounts = [spec.T_mount_sensor[:3, 3] for spec in rig.tactile.values() if spec.mount.startswith(f"{arm}.")]
    jaw = from_translation(np.mean(mounts, axis=0) if mounts else np.zeros(3))
    T = T_camera_world @ rig.geometry.flange_poses(state)[arm] @ jaw
    ends = rig.geometry.camera(camera).project(
        transform_points(T, AXIS_M * np.vstack([np.zeros(3), np.eye(3)]))
    )
    return _draw_axes(image, ends)


def _draw_axes(image: Image, ends: FloatArray) -> Image:
    image = image.copy()
    if np.isfinite(ends).all() and np.abs(ends).max() < 1e4:
        origin, *tips = (tuple(int(v) for v in np.rint(point)) for point in ends)
        for tip, colour in zip(tips, ((255, 60, 60), (60, 220, 60), (80, 120, 255)), strict=True):
            cv2.line(image, origin, tip, colour, 2, cv2.LINE_AA)
    return image


def _draw_board(
    image: Image, rig: Rig, camera: str, robot_views: RobotViews, T_board: FloatArray, name: str
) -> Image:
    for i, view in enumerate(robot_views.views):
        if view.name == name:
            anchors = _camera_anchors(rig, camera, robot_views)
            predicted = rig.geometry.camera(camera).project(
                transform_points(anchors[i] @ T_board, view.points_m)
            )
            image = _draw_crosses(image, view.corners_px)
            for point in predicted[np.isfinite(predicted).all(axis=1)]:
                cv2.circle(image, tuple(int(v) for v in np.rint(point)), 5, PREDICTED_RGB, 1, cv2.LINE_AA)
    return image


def _draw_crosses(image: Image, pixels: FloatArray) -> Image:
    image = image.copy()
    for point in pixels:
        cv2.drawMarker(image, tuple(int(v) for v in np.rint(point)), FOUND_RGB, cv2.MARKER_CROSS, 7, 1)
    return image


def board_of_samples(rig: Rig, folder: Path, board: Board) -> RobotViews | None:
    """Return the board in the samples of a folder, None where no picture shows it."""
    views = read_samples(folder, rig, board)
    return views if views.views else None
