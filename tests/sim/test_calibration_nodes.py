"""Calibration pictures through real ROS processes: what is saved is what the hidden cell shows there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("rclpy", reason="rclpy is not installed")

from benches.testing import isolated_domain
from tacit.cli import main
from tacit.geometry.transforms import invert, transform_points
from tacit.record.samples import load_samples
from tacit.rig import load_rig
from tacit_calibration.board import Board
from tacit_calibration.detection import detect
from tacit_calibration.samples import picture
from tacit_sim import board
from tacit_sim.as_built import as_built

pytestmark = [pytest.mark.sim, pytest.mark.ros, pytest.mark.slow]

SEED = 5


def test_captured_pictures_show_the_board_where_the_hidden_cell_has_it(tmp_path: Path) -> None:
    """Joints of one instant with the picture of another would put corners off by many pixels."""
    session = str(tmp_path / "cal")
    capture = ["capture", "--session", session, "--camera", "wrist", "--views", "3", f"hidden_seed={SEED}"]
    options = ["views=6", "seed=2", "lockstep=true", "real_time_factor=2.0"]
    with isolated_domain():
        for words in (["session", session, "--rig", "nova2_sim_vga"], [*capture, *options]):
            assert main(["calibrate", *words]) == 0
    truth = as_built(load_rig("nova2_sim_vga"), SEED)
    folder, seen = tmp_path / "cal/samples/wrist", 0
    for sample in load_samples(folder).samples:
        view = detect(sample.image, picture(folder, sample), Board())
        if view is None:
            continue
        state = np.append(sample.q, 0.0)
        T = invert(truth.geometry.camera_poses(state)["wrist"]) @ board.WORLD_BOARD
        error = view.corners_px - truth.geometry.camera("wrist").project(transform_points(T, view.points_m))
        assert np.abs(error.mean(axis=0)).max() < 0.3
        seen += 1
    assert seen >= 3
