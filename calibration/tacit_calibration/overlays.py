"""What a rig predicts, drawn into pictures: sensor boxes, jaw axes, corners of the board.

Found corners are green crosses, predicted ones orange rings, the axes of the jaw red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeReader
from tacit.errors import CalibrationError
from tacit.geometry.transforms import from_translation, invert, transform_points
from tacit.images import Image
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit.rig.units import from_canonical, to_canonical
from tacit.view.draw import COLORS, draw_box, draw_label, draw_quad, film_strip
from tacit_calibration.clicks import Click
from tacit_calibration.samples import RobotViews, joints_in_order, picture
from tacit_calibration.verify import Verification, camera_anchors

FloatArray = NDArray[np.float64]
FOUND_RGB, PREDICTED_RGB = (80, 230, 90), (255, 120, 60)
MAX_PICTURES = 6
AXIS_M = 0.03


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
            anchors = camera_anchors(rig, camera, robot_views)
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
