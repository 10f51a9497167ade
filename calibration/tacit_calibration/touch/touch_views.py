"""Clicked gel corners with what the robot said at the time: how a click depends on pose, size and opening."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, from_translation, invert, transform_points
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit.rig.scene import FINGER_SIGNS
from tacit_calibration.estimation.board_pose import rms
from tacit_calibration.samples import joints_in_order, state_of
from tacit_calibration.touch.clicks import Click

UNIT_FACE = np.array([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
WRONG_ORDER_PX, CLEARLY = 10.0, 0.5
"""Another order of the corners must halve an error of more than 10 px before it is called the right one."""


@dataclass(frozen=True, eq=False)
class TouchView:
    """One click and where its finger was.

    Attributes:
        click: The corners.
        T_camera_flange: Pose of the flange of the arm that carries the sensor (4, 4).
        opening_m: By the rig's gripper model; 0 without a gripper.
        raw: What the gripper's driver said; NaN where nothing was recorded.
        slide: Direction in the flange that the sensor moves per metre of opening (3,): +-axis/2, or 0.
    """

    click: Click
    T_camera_flange: FloatArray
    opening_m: float
    raw: float
    slide: FloatArray

    def project(
        self, camera: Camera, T_mount: FloatArray, size: FloatArray, opening_m: float | None = None
    ) -> FloatArray:
        """Return the pixels (4, 2) of a gel face of `size` (width, height) at `T_mount`."""
        opening = self.opening_m if opening_m is None else opening_m
        T = self.T_camera_flange @ from_translation(opening * self.slide) @ T_mount
        return camera.project(transform_points(T, UNIT_FACE * [size[0], size[1], 1.0]))


def touch_views(rig: Rig, camera: str, folder: Path, clicks: Sequence[Click]) -> list[TouchView]:
    """Return the clicks with the robot's state from `samples.yaml`.

    Raises:
        CalibrationError: A click in a picture that is no sample, a sensor that the camera cannot be
            related to, or corners in another order.
    """
    listed = load_samples(folder)
    joints = joints_in_order(listed, rig, folder)
    by_image = {sample.image: (sample, q) for sample, q in zip(listed.samples, joints, strict=True)}
    views = []
    for click in clicks:
        if click.image not in by_image:
            raise CalibrationError(f"{click.name}: the picture is not listed in {folder}/samples.yaml")
        sample, q = by_image[click.image]
        views.append(_view(rig, camera, listed.arm, click, q, sample.gripper_raw))
    check_order(rig, camera, views)
    return views


def finger_views(rig: Rig, camera: str, folder: Path, sensor: str) -> list[TouchView]:
    """Return where a sensor's finger was in every sample; the corners of these views are unknown (NaN)."""
    listed = load_samples(folder)
    joints = joints_in_order(listed, rig, folder)
    unknown = np.full((4, 2), np.nan)
    return [
        _view(rig, camera, listed.arm, Click(sample.image, sensor, unknown), q, sample.gripper_raw)
        for sample, q in zip(listed.samples, joints, strict=True)
    ]


def check_order(rig: Rig, camera: str, views: Sequence[TouchView]) -> None:
    """Refuse corners that fit the rig much better in another order: turned or mirrored clicks."""
    lens = rig.geometry.camera(camera)
    orders = [np.roll(order, k) for order in (np.arange(4), np.arange(4)[::-1]) for k in range(4)]
    for view in views:
        sensor = rig.tactile[view.click.sensor]
        expected = view.project(lens, np.asarray(sensor.T_mount_sensor), np.array(sensor.size_m[:2]))
        # About their centres: where the gel is may be wrong by much before it is calibrated, not how it lies.
        given = view.click.pixels - view.click.pixels.mean(axis=0)
        shape = expected - expected.mean(axis=0)
        errors = [rms(given[order] - shape) for order in orders]
        best = int(np.argmin(errors))
        if best and errors[0] > WRONG_ORDER_PX and errors[best] < CLEARLY * errors[0]:
            raise CalibrationError(
                f"{view.click.name}: the corners fit the rig in the order {orders[best].tolist()}, not as "
                "they stand; click -x-y, +x-y, +x+y, -x+y of the sensor frame (the page shows them)"
            )


def _view(rig: Rig, camera: str, arm: str, click: Click, q: FloatArray, raw: float | None) -> TouchView:
    if rig.tactile[click.sensor].mount.rpartition(".")[0] != arm or rig.cameras[camera].parent not in (
        "world",
        f"{arm}.flange",
    ):
        raise CalibrationError(
            f"{click.name}: sensor on {rig.tactile[click.sensor].mount}, camera {camera} on "
            f"{rig.cameras[camera].parent}, but the samples are of arm {arm!r}; take samples of the arm that "
            "carries the sensor"
        )
    slides = _moves(rig, click.sensor)
    if slides and raw is None:
        raise CalibrationError(
            f"{click.name}: the sample has no gripper_raw, and the sensor sits on a finger"
        )
    view = view_of_state(rig, camera, click, state_of(rig, arm, q, raw))
    return replace(view, raw=raw) if slides and raw is not None else view


def view_of_state(rig: Rig, camera: str, click: Click, state: FloatArray) -> TouchView:
    """Return where a sensor's finger is for a camera at a state (S,) of the rig; `raw` is NaN."""
    arm = rig.tactile[click.sensor].mount.rpartition(".")[0]
    T_world_camera = rig.geometry.camera_poses(state)[camera]
    T_camera_flange = invert(T_world_camera) @ rig.geometry.flange_poses(state)[arm]
    gripper, slide = rig.arms[arm].gripper, _slide(rig, click.sensor)
    opening = float(state[rig.index_of([gripper.name])[0]]) if gripper is not None and slide.any() else 0.0
    linked, finger = rig.arms[arm].fingers, rig.tactile[click.sensor].mount.rpartition(".")[2]
    if linked is not None and gripper is not None and _moves(rig, click.sensor):
        # The frame that the sensor is mounted on is the link itself, which the opening alone places.
        T_camera_link = T_camera_flange @ linked.pose(finger, state[rig.index_of([gripper.name])[0]])
        return TouchView(click, T_camera_link, opening, np.nan, np.zeros(3))
    return TouchView(click, T_camera_flange, opening, np.nan, slide)


def _moves(rig: Rig, sensor: str) -> bool:
    """Tell whether a sensor sits on a finger."""
    return rig.tactile[sensor].mount.rpartition(".")[2] in FINGER_SIGNS


def _slide(rig: Rig, sensor: str) -> FloatArray:
    """Return the direction in the flange that a sensor moves per metre of opening (3,): +-axis/2, or 0."""
    arm, _, part = rig.tactile[sensor].mount.rpartition(".")
    gripper, sign = rig.arms[arm].gripper, FINGER_SIGNS.get(part, 0.0)
    if gripper is None or sign == 0.0:
        return np.zeros(3)
    return np.asarray(sign * np.asarray(gripper.axis) / np.linalg.norm(gripper.axis) / 2)


def by_sensor(views: Sequence[TouchView]) -> dict[str, list[TouchView]]:
    """Return {sensor: its views}."""
    ordered = sorted(views, key=lambda view: view.click.sensor)
    return {name: list(group) for name, group in itertools.groupby(ordered, lambda v: v.click.sensor)}
