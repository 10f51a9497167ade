"""Hand-eye calibration on synthetic robots: exact data give the exact pose, noise gives honest sigmas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tacit.camera import PinholeCamera
from tacit.errors import CalibrationError
from tacit.transforms import from_rotation, invert, pose_error, rotation_from_rpy, rotation_from_vector
from tacit_calibration.closed_form import park
from tacit_calibration.detection import View
from tacit_calibration.hand_eye import solve_hand_eye

CAMERA = PinholeCamera(
    np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]), (0.05, -0.1, 0.001, -0.0005, 0.02), 640, 480
)
X = from_rotation(rotation_from_rpy(np.deg2rad([3, -14, 88])), [0.035, -0.062, 0.048])
B = from_rotation(rotation_from_rpy(np.deg2rad([2, -1, 30])), [-0.38, 0.05, 0.012])
GRID = np.array([[(c - 3.5) * 0.025, (r - 2.5) * 0.025, 0] for r in range(6) for c in range(8)])


def look_at(rng: np.random.Generator, spread_deg: float) -> np.ndarray:
    """Return T_board_camera: from .28-.5 m, up to `spread` off the normal, rolled."""
    polar, around = np.deg2rad(rng.uniform(0, spread_deg)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), -np.cos(polar)])
    position = rng.uniform(0.28, 0.5) * direction + rng.normal(0, 0.015, 3)
    z = -direction + rng.normal(0, 0.03, 3)
    z /= np.linalg.norm(z)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    roll = rotation_from_vector([0, 0, np.pi * min(1.0, spread_deg / 45) * rng.uniform(-1, 1)])
    return from_rotation(np.column_stack([x, np.cross(z, x), z]) @ roll, position)


def scene(
    seed: int, num: int, px: float, robot_deg: float, robot_mm: float, mounting: str, spread: float = 40.0
):
    """Return robot poses with noise and the views they took."""
    rng, poses, views = np.random.default_rng(seed), [], []
    while len(views) < num:
        T_camera_board = invert(look_at(rng, spread))
        r, t = cv2.Rodrigues(T_camera_board[:3, :3])[0], T_camera_board[:3, 3]
        pixels = cv2.projectPoints(GRID, r, t, CAMERA.K, np.array(CAMERA.D))[0][:, 0]
        if (pixels < 5).any() or (pixels > [634, 474]).any():
            continue
        # Eye in hand: G X C = B. Eye to hand: X C = G B.
        G = B @ invert(X @ T_camera_board) if mounting == "eye_in_hand" else X @ T_camera_board @ invert(B)
        wrong = from_rotation(
            rotation_from_vector(rng.normal(0, np.deg2rad(robot_deg), 3)), rng.normal(0, robot_mm / 1e3, 3)
        )
        poses.append(G @ invert(wrong))
        views.append(View(f"{len(views)}", pixels + rng.normal(0, px, pixels.shape), GRID))
    return np.array(poses), views


@pytest.mark.parametrize("mounting", ["eye_in_hand", "eye_to_hand"])
def test_exact_views_give_the_exact_pose(mounting):
    result = solve_hand_eye(*scene(0, 10, 0.0, 0.0, 0.0, mounting), CAMERA, mounting)
    error = pose_error(result.T_parent_camera, X)
    assert error.translation < 1e-5
    assert error.rotation < 1e-5
    assert pose_error(result.T_anchor_board, B).translation < 1e-5
    assert result.rms_px < 1e-2


def test_closed_form_start_is_exact_without_noise():
    poses, views = scene(1, 8, 0.0, 0.0, 0.0, "eye_in_hand")
    boards = invert(poses @ X) @ B
    start = park(invert(poses[1:]) @ poses[:-1], boards[1:] @ invert(boards[:-1]))
    np.testing.assert_allclose(start, X, atol=1e-9)


# Mean error over many seeds must stay below these [mm]; few seeds are run here, hence the factor.
CASES = {"A": (15, 0.3, 0.0, 0.0, 0.20), "B": (15, 0.3, 0.02, 0.05, 0.25), "C": (15, 0.3, 0.1, 0.5, 0.62)}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_error_stays_below_the_bar_and_matches_its_sigma(case):
    num, px, deg, mm, bar = CASES[case]
    errors, ratios = [], []
    for seed in range(3):
        result = solve_hand_eye(*scene(seed, num, px, deg, mm, "eye_in_hand"), CAMERA, "eye_in_hand")
        local = (invert(X) @ result.T_parent_camera)[:3, 3]
        errors.append(np.linalg.norm(local) * 1e3)
        ratios.append(np.abs(local) / result.sigma_translation)
    assert np.mean(errors) < 1.3 * bar
    assert 0.3 < np.mean(ratios) < 1.5


def test_the_robots_own_noise_is_found():
    result = solve_hand_eye(*scene(3, 20, 0.3, 0.1, 0.5, "eye_to_hand"), CAMERA, "eye_to_hand")
    assert result.noise.pixel == pytest.approx(0.3, rel=0.1)
    assert np.rad2deg(result.noise.rotation) == pytest.approx(0.1, rel=0.4)
    assert result.noise.translation == pytest.approx(0.5e-3, rel=0.4)
    assert result.rms_px > 3 * result.noise.pixel  # what an overlay with the measured joints shows


def test_motion_that_cannot_tell_the_pose_is_refused():
    poses, views = scene(0, 10, 0.1, 0.0, 0.0, "eye_in_hand")
    with pytest.raises(CalibrationError, match="at least 8"):
        solve_hand_eye(poses[:5], views[:5], CAMERA, "eye_in_hand")
    still = np.repeat(poses[:1], 10, axis=0)
    with pytest.raises(CalibrationError, match="turns by 0 deg"):
        solve_hand_eye(still, views, CAMERA, "eye_in_hand")
    one_axis = [poses[0] @ from_rotation(rotation_from_vector([0, 0, a])) for a in np.linspace(0, 1, 10)]
    with pytest.raises(CalibrationError, match="one axis"):
        solve_hand_eye(np.array(one_axis), views, CAMERA, "eye_in_hand")
