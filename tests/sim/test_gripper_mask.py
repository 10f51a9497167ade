"""The mask of the gripper, computed from the rig, against the geoms that the renderer says it drew."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.convert.gripper_mask import GripperShape, draw_masks, gripper_bodies
from tacit.rig import load_rig
from tacit.rig.scene import RigGeometry
from tacit_sim.cell import Cell
from tacit_sim.rendering import mujoco

pytestmark = pytest.mark.sim


def gripper_geoms(cell: Cell) -> list[int]:
    """Geoms of the flange, the fingers and their pads."""
    bodies = {"flange", "finger_left", "finger_right", "pad_left", "pad_right"}
    names = [
        mujoco.mj_id2name(cell.model, mujoco.mjtObj.mjOBJ_BODY, int(body)) for body in cell.model.geom_bodyid
    ]
    return [geom for geom, name in enumerate(names) if name in bodies]


@pytest.mark.parametrize("camera", ["top", "wrist"])
def test_the_mask_covers_the_gripper_that_was_drawn(camera: str) -> None:
    """At six poses: all but half a percent of the pixels, and little more than twice as many."""
    rig = load_rig("nova2_sim")
    cell, geometry = Cell(rig), RigGeometry(rig)
    covered, drawn, masked = 0, 0, 0
    for seed in range(6):
        cell.reset(seed)
        target = cell.state() + np.random.default_rng(seed).uniform(-0.15, 0.15, 7) * ([1] * 6 + [0.1])
        cell.command(target)
        cell.step(400_000_000)
        labels = cell.segmentation(camera)
        truth = np.isin(labels, gripper_geoms(cell))
        Q = cell.state()[None]
        bodies = gripper_bodies(geometry, Q, GripperShape())
        mask = draw_masks(bodies, geometry.camera_poses(Q)[camera], geometry.camera(camera))[0]
        covered, drawn, masked = covered + (truth & mask).sum(), drawn + truth.sum(), masked + mask.sum()
    cell.close()
    assert drawn > 2000
    assert covered >= 0.995 * drawn, f"{covered / drawn:.3f}"
    assert masked <= 2.2 * drawn, f"{masked / drawn:.2f}"
