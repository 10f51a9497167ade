"""Gels of a cell that is not as its rig says are found in its rendered pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.geometry.transforms import pose_error
from tacit.rig import Rig, load_rig
from tacit_calibration.touch.clicks import Click
from tacit_calibration.touch.gel_search import GelPicture, search_gel
from tacit_calibration.touch.outline import solve_outlines
from tacit_calibration.touch.touch_views import view_of_state
from tacit_sim.as_built import as_built
from tacit_sim.cell import HOME, Cell

pytestmark = pytest.mark.sim


def test_a_gel_is_found_in_rendered_pictures_within_its_sigma() -> None:
    """Camera and gripper are calibrated; the gel is up to 1.5 mm, 2 degrees and 3 % of its size elsewhere."""
    rig = load_rig("nova2_sim_vga")
    built = as_built(rig, 101)
    data, true = rig.model_dump(mode="json"), built.model_dump(mode="json")
    believed = Rig.model_validate(data | {"cameras": true["cameras"], "arms": true["arms"]})
    cell, pictures = Cell(built), []
    for opening in (0.02, 0.04, 0.06, 0.08):
        state = np.append(HOME, opening)
        cell.place(state)
        view = view_of_state(believed, "wrist", Click("", "left", np.full((4, 2), np.nan)), state)
        pictures.append(GelPicture(view, cell.sensed("wrist")))
    cell.close()
    result = solve_outlines(believed, "wrist", "left", search_gel(believed, "wrist", "left", pictures))
    truth = built.tactile["left"]
    error = pose_error(result.T_mount_sensor, truth.T_mount_sensor)
    assert error.translation < 3e-4 and error.rotation < np.deg2rad(0.6)
    assert error.translation < 4 * result.sigma_m and error.rotation < 4 * result.sigma_rad
    np.testing.assert_allclose(result.size_m, truth.size_m, atol=4e-4)
    assert pose_error(rig.tactile["left"].T_mount_sensor, truth.T_mount_sensor).translation > 5e-4
