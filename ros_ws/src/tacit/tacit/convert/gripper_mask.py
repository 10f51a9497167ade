"""Masks of the gripper in a camera: what of a picture shows the hand, from the rig alone.

The gripper is a few convex bodies: a palm behind the flange, and per finger what lies between palm and
tactile sensor. Each body is cut at the near plane, projected, and its hull filled. No picture is
looked at, so light, dust and held parts do not matter; the mask is as right as the calibration.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np

from tacit.config import Config
from tacit.geometry.camera import Camera
from tacit.geometry.footprint import box_corners, points_in_front
from tacit.geometry.kinematics import fk_numpy
from tacit.geometry.transforms import FloatArray, invert, transform_points
from tacit.rig.scene import FINGER_SIGNS, RigGeometry, RigLike

NEAR_PLANE_M = 0.01
ALONG_EDGE = np.array([0.0, 0.5, 1.0])[:, None]
"""Projected points per edge: two would do without distortion."""
FAR_PX = 30_000.0
"""OpenCV fills polygons with 16 fractional bits in 32-bit integers."""


class GripperShape(Config):
    """Sizes that no rig holds [m]; `palm` is (along the gripper's axis, across, length from the flange).

    `back` is how far a finger reaches behind its sensor, `margin` is added on all other sides but the
    sensing face, `finger_length` serves grippers without sensors. `arm_radius` above 0 masks the links
    as well.
    """

    palm: tuple[float, float, float] = (0.12, 0.08, 0.115)
    back: float = 0.02
    margin: float = 0.005
    finger_length: float = 0.2
    finger_width: float = 0.03
    arm_radius: float = 0.0


class Body(NamedTuple):
    """One convex body over time: its points in the world (T, P, 3) [m]."""

    name: str
    points: FloatArray


def gripper_bodies(geometry: RigGeometry, Q: FloatArray, shape: GripperShape) -> list[Body]:
    """Return the bodies of all grippers of a rig.

    Args:
        geometry: Scene of the rig.
        Q: States (T, S) [rad, gripper m].
        shape: Sizes.
    """
    bodies = []
    for arm, T_world_flange in geometry.flange_poses(Q).items():
        x, y, length = shape.palm
        palm = box_corners((x, y, length)) + [0.0, 0.0, length]
        bodies.append(Body(f"{arm}.palm", transform_points(T_world_flange, palm)))
        bodies += _fingers(geometry, arm, Q, T_world_flange, shape)
        if shape.arm_radius > 0:
            bodies += _links(geometry, arm, Q, shape.arm_radius)
    return bodies


def draw_masks(
    bodies: list[Body], T_world_camera: FloatArray, camera: Camera, grow_px: int = 1
) -> np.ndarray:
    """Return masks (T, H, W) bool of bodies seen by a camera.

    Args:
        bodies: With T ticks each.
        T_world_camera: Poses (T, 4, 4) of the optical frame.
        camera: The lens.
        grow_px: The mask is dilated by so much.
    """
    T_camera_world = invert(T_world_camera)
    masks = np.zeros((len(T_camera_world), camera.height, camera.width), np.uint8)
    for body in bodies:
        # The hull of a cut body is that of its cut edges; inner lines do no harm.
        lines = np.array(list(combinations(range(body.points.shape[1]), 2)))
        seen = transform_points(T_camera_world, body.points)
        outlines = camera.project(points_in_front(seen, lines, NEAR_PLANE_M, ALONG_EDGE))
        for mask, points in zip(masks, outlines.reshape(len(masks), -1, 2), strict=True):
            _fill(mask, points)
    if grow_px:
        kernel = np.ones((2 * grow_px + 1, 2 * grow_px + 1), np.uint8)
        masks = np.stack([np.asarray(cv2.dilate(mask, kernel), np.uint8) for mask in masks])
    return masks.astype(bool)


def _fingers(
    geometry: RigGeometry, arm: str, Q: FloatArray, T_world_flange: FloatArray, shape: GripperShape
) -> list[Body]:
    """Return both fingers: hulls of the sensor's box and of its place at the end of the palm."""
    rig = geometry.rig
    if rig.arms[arm].gripper is None:
        return []
    poses = geometry.sensor_poses(Q)
    mounts = {f"{arm}.{finger}": finger for finger in FINGER_SIGNS}
    bodies = []
    for name, sensor in rig.tactile.items():
        if sensor.mount in mounts:
            tip = transform_points(invert(T_world_flange) @ poses[name], _grown_box(sensor.size_m, shape))
            bodies.append(_finger(f"{arm}.{name}", tip, T_world_flange, shape))
    return bodies or _plain_fingers(rig, arm, Q, T_world_flange, shape)


def _grown_box(size_m: tuple[float, float, float], shape: GripperShape) -> FloatArray:
    """Return the corners (8, 3) of a sensor's box, grown to the sides and behind, not in front."""
    width, height, thickness = size_m
    return box_corners((width + 2 * shape.margin, height + 2 * shape.margin, max(thickness, shape.back)))


def _finger(name: str, tip: FloatArray, T_world_flange: FloatArray, shape: GripperShape) -> Body:
    """Join a tip (T, 8, 3) in the flange frame with its shadow at the end of the palm."""
    root = tip.copy()
    root[..., 2] = np.minimum(root[..., 2], shape.palm[2])
    return Body(name, transform_points(T_world_flange, np.concatenate([tip, root], axis=-2)))


def _plain_fingers(
    rig: RigLike, arm: str, Q: FloatArray, T_world_flange: FloatArray, shape: GripperShape
) -> list[Body]:
    """Return fingers of a gripper without sensors: blocks on both sides of the opening."""
    gripper = rig.arms[arm].gripper
    assert gripper is not None
    axis = np.asarray(gripper.axis) / np.linalg.norm(gripper.axis)
    opening = Q[:, rig.state_names.index(gripper.name), None, None]
    block = box_corners((shape.back, shape.finger_width, 2 * shape.margin)) + [0.0, 0.0, shape.finger_length]
    return [
        _finger(f"{arm}.{name}", block + sign * axis * (opening + shape.back) / 2, T_world_flange, shape)
        for name, sign in FINGER_SIGNS.items()
    ]


def _links(geometry: RigGeometry, arm: str, Q: FloatArray, radius: float) -> list[Body]:
    """Return hulls about the lines between joints that follow each other, from the base to the flange."""
    origins = _joint_origins(geometry, arm, Q)
    cube = box_corners((2 * radius, 2 * radius, 2 * radius)) + [0.0, 0.0, radius]
    return [
        Body(f"{arm}.link{i}", np.concatenate([start[:, None] + cube, stop[:, None] + cube], axis=1))
        for i, (start, stop) in enumerate(zip(origins, origins[1:], strict=False))
    ]


def _joint_origins(geometry: RigGeometry, arm: str, Q: FloatArray) -> list[FloatArray]:
    """Return where base, joints and flange are in the world (T, 3) each: chains cut short."""
    chain, joints = geometry.robots[arm].chain, Q[:, geometry.rig.arm_slice(arm)]
    T_world_base = np.asarray(geometry.rig.arms[arm].T_world_base)
    points = [np.broadcast_to(T_world_base[:3, 3], (len(Q), 3))]
    for count in range(1, chain.num_joints + 1):
        end = chain.end if count == chain.num_joints else np.eye(4)
        part = replace(
            chain,
            names=chain.names[:count],
            origins=chain.origins[:count],
            prismatic=chain.prismatic[:count],
            end=end,
        )
        points.append((T_world_base @ fk_numpy(part, joints[:, :count]))[:, :3, 3])
    return points


def _fill(mask: np.ndarray, pixels: FloatArray) -> None:
    """Fill the hull of pixels (N, 2); NaN ones are left out."""
    seen = pixels[np.isfinite(pixels).all(axis=-1)]
    if len(seen) >= 3:
        whole = np.clip(np.rint(seen), -FAR_PX, FAR_PX).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(whole), 1)
