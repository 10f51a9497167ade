"""Sensor boxes computed from joints lie on the pads that MuJoCo draws."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.geometry.footprint import FACES
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry
from tacit_sim.cell import HOME, Cell

pytestmark = pytest.mark.sim

CONFIGURATIONS = 40


def drawn_box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5])


def edge_errors(cell: Cell, rig: Rig, camera: str, occluded: bool) -> np.ndarray:
    """|computed - drawn| of the four edges (N, 4) [px] where the whole pad is in the image."""
    geometry = RigGeometry(rig)
    random = np.random.default_rng(0)
    errors = []
    for _ in range(CONFIGURATIONS):
        state = np.append(np.array(HOME) + random.uniform(-0.35, 0.35, 6), random.uniform(0.0, 0.08))
        cell.place(state)
        for (seen_by, sensor), footprint in geometry.footprints(state).items():
            if seen_by != camera or footprint.visibility < 1.0:
                continue
            mask = cell.pad_mask(camera, sensor, occluded=occluded)
            if mask.sum() >= 10:
                errors.append(np.abs(footprint.box - drawn_box(mask)))
    return np.array(errors)


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_boxes_enclose_the_drawn_pads_to_half_a_pixel(cube_cell: Cell, rig: Rig, camera: str) -> None:
    errors = edge_errors(cube_cell, rig, camera, occluded=False)
    assert len(errors) > 15
    assert np.median(errors) < 0.5
    assert np.quantile(errors, 0.9) < 0.6
    assert errors.max() < 1.01


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_boxes_lie_on_the_pads_also_where_the_gripper_hides_a_part(
    cube_cell: Cell, rig: Rig, camera: str
) -> None:
    errors = edge_errors(cube_cell, rig, camera, occluded=True)
    assert len(errors) > 15
    assert np.median(errors) < 1.0


def test_gel_that_faces_the_camera_is_flagged(cube_cell: Cell, rig: Rig) -> None:
    state = np.array([*HOME, 0.06])
    T_world_camera = RigGeometry(rig).camera_poses(state)["top"]
    for (camera, sensor), footprint in RigGeometry(rig).footprints(state).items():
        if camera == "top":
            cube_cell.place(state)
            T = cube_cell.sensor_pose(sensor)
            towards = T[:3, 2] @ (T_world_camera[:3, 3] - T[:3, 3]) > 0
            assert bool(footprint.flags & FACES) == bool(towards)
