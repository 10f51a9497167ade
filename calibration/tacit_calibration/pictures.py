"""Results as pictures: what a rig predicts drawn into photographs, and where a calibration misses.

Found corners are green crosses, predicted ones orange rings, the axes of the jaw red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tacit.episode import EpisodeReader
from tacit.geometry.transforms import FloatArray, from_translation, invert, transform_points
from tacit.images import Image
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit.view.draw import COLORS, draw_box, draw_label, draw_quad, film_strip
from tacit_calibration.checks.verify import Verification, camera_anchors
from tacit_calibration.detection import View
from tacit_calibration.hand_eye import HandEyeResult
from tacit_calibration.imports import states_of_episode
from tacit_calibration.intrinsics import IntrinsicsResult
from tacit_calibration.samples import RobotViews, joints_in_order, picture, state_of
from tacit_calibration.touch.clicks import Click

FOUND_RGB, PREDICTED_RGB = (80, 230, 90), (255, 120, 60)
MAX_PICTURES = 6
AXIS_M = 0.03
PAPER, INK, USED, LEFT_OUT = (248, 248, 246), (70, 74, 82), (20, 110, 190), (215, 60, 50)
GRID = 8
ARROW_PX = 60.0
"""The 95 % quantile of the residuals is drawn this long."""


def coverage_picture(result: IntrinsicsResult, views: Sequence[View]) -> Image:
    """Return where in the image corners were found: blue used, red in views that were dropped."""
    camera = result.camera
    image = _paper(camera.width, camera.height)
    for view in views:
        colour = LEFT_OUT if view.name in result.dropped else USED
        for point in view.corners_px:
            cv2.circle(image, _pixel(point), 2, colour, -1, cv2.LINE_AA)
    text = (
        f"{len(result.views)} views, {result.coverage:.0%} covered, RMS {result.rms_px:.3f} px, "
        f"held out {result.held_out_rms_px:.3f}"
    )
    return draw_label(image, text, (6, 18))


def hand_eye_picture(result: HandEyeResult, views: Sequence[View], width: int, height: int) -> Image:
    """Return the residual of every corner as an arrow from where it was found; red in views left out."""
    image = _paper(width, height)
    lengths = np.concatenate([np.linalg.norm(r, axis=1) for r in result.residuals_px])
    scale = ARROW_PX / max(float(np.quantile(lengths, 0.95)), 1e-6)
    for view, residual, used in zip(views, result.residuals_px, result.used, strict=True):
        for start, move in zip(view.corners_px, residual, strict=True):
            end = start + np.clip(scale * move, -width, width)
            cv2.line(image, _pixel(start), _pixel(end), USED if used else LEFT_OUT, 1, cv2.LINE_AA)
            cv2.circle(image, _pixel(start), 1, INK, -1)
    return draw_label(image, f"RMS {result.rms_px:.2f} px; 1 px is drawn {scale:.0f} px long", (6, 18))


def _paper(width: int, height: int) -> Image:
    image = np.full((height, width, 3), PAPER, dtype=np.uint8)
    for k in range(1, GRID):
        cv2.line(image, (k * width // GRID, 0), (k * width // GRID, height), (225, 225, 225), 1)
        cv2.line(image, (0, k * height // GRID), (width, k * height // GRID), (225, 225, 225), 1)
    return image


def overlays(
    rig: Rig,
    camera: str,
    folder: Path,
    robot_views: RobotViews | None,
    verification: Verification,
    clicks: Sequence[Click] = (),
) -> Image:
    """Return a sheet of pictures with the rig's sensor boxes, board corners and jaw axes drawn in."""
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
    states = states_of_episode(reader, rig, camera)
    tiles = []
    for tick in np.unique(np.linspace(0, reader.num_ticks - 1, MAX_PICTURES).astype(int)):
        image, state = reader.image(camera, int(tick)), states[tick]
        for arm in rig.arms:
            image = draw_rig(image, rig, camera, arm, state)
        tiles.append(draw_label(image, f"tick {tick}", (4, 16)))
    return film_strip(tiles, columns=min(3, len(tiles)))


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
        origin, *tips = map(_pixel, ends)
        for tip, colour in zip(tips, ((255, 60, 60), (60, 220, 60), (80, 120, 255)), strict=True):
            cv2.line(image, origin, tip, colour, 2, cv2.LINE_AA)
    return image


def _draw_board(
    image: Image, rig: Rig, camera: str, robot_views: RobotViews, T_board: FloatArray, name: str
) -> Image:
    for i, view in enumerate(robot_views.views):
        if view.name == name:
            anchors = camera_anchors(rig, camera, robot_views)
            predicted = rig.geometry.camera(camera).project(
                transform_points(anchors[i] @ T_board, view.points_m)
            )
            image = _draw_crosses(image, view.corners_px)
            for point in predicted[np.isfinite(predicted).all(axis=1)]:
                cv2.circle(image, _pixel(point), 5, PREDICTED_RGB, 1, cv2.LINE_AA)
    return image


def _draw_crosses(image: Image, pixels: FloatArray) -> Image:
    image = image.copy()
    for point in pixels:
        cv2.drawMarker(image, _pixel(point), FOUND_RGB, cv2.MARKER_CROSS, 7, 1)
    return image


def _pixel(point: FloatArray) -> tuple[int, int]:
    u, v = np.rint(point).astype(int).tolist()
    return u, v
