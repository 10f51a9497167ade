"""A lens is recovered from pictures of a board; poor pictures are dropped or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from board_scenes import CAMERA, exact_views, look_at_poses, render

from tacit.camera import PinholeCamera
from tacit.errors import CalibrationError
from tacit.images import encode_png
from tacit_calibration.board import Board
from tacit_calibration.detection import detect, detect_folder, detect_images
from tacit_calibration.intrinsics import calibrate_intrinsics


def pixel_difference(a: PinholeCamera, b: PinholeCamera) -> float:
    """Largest distance of two lenses' pixels over the part of the image that boards cover."""
    u, v = np.meshgrid(np.linspace(60, 580, 9), np.linspace(50, 430, 7))
    rays = a.rays(np.stack([u, v], axis=-1))
    return float(np.abs(a.project(rays) - b.project(rays)).max())


def test_exact_corners_give_the_exact_lens():
    result = calibrate_intrinsics(exact_views(look_at_poses(12)))
    assert result.rms_px < 1e-3
    assert result.held_out_rms_px < 1e-2
    assert pixel_difference(CAMERA, result.camera) < 0.05
    np.testing.assert_allclose(np.diag(result.camera.K), np.diag(CAMERA.K), rtol=1e-4)


def test_noise_shows_in_the_error_and_held_out_views_are_no_better():
    result = calibrate_intrinsics(exact_views(look_at_poses(20), noise_px=0.2))
    assert result.rms_px == pytest.approx(0.2 * np.sqrt(2), rel=0.1)
    assert result.rms_px < result.held_out_rms_px < 1.5 * result.rms_px
    error = abs(result.camera.K[0, 0] - CAMERA.K[0, 0])
    assert error < 4 * result.focal_sigma_px[0]
    assert 0 < result.focal_sigma_px[0] < 3


def test_rendered_pictures_give_the_focal_length_within_a_fifth_of_a_percent():
    pictures = [(f"{i}.png", render(pose, seed=i)) for i, pose in enumerate(look_at_poses(14))]
    result = calibrate_intrinsics(detect_images(pictures, Board()))
    assert result.rms_px <= 0.3
    np.testing.assert_allclose(np.diag(result.camera.K)[:2], [600, 602], rtol=2e-3)
    assert pixel_difference(CAMERA, result.camera) < 1.0


def test_detected_corners_lie_where_the_lens_projects_them():
    pose = look_at_poses(1)[0]
    view = detect("one", render(pose), Board())
    assert view is not None
    expected = CAMERA.project(view.points_m @ pose[0].T + pose[1])
    np.testing.assert_allclose(view.corners_px, expected, atol=1.0)
    assert np.abs((view.corners_px - expected).mean(axis=0)).max() < 0.1  # no half-pixel shift


def test_a_wide_lens_takes_the_rational_model():
    wide = PinholeCamera(np.diag([330.0, 330, 1]) + [[0, 0, 320], [0, 0, 240], [0, 0, 0]],
                         (0.5, -0.2, 0.0, 0.0, 0.02, 0.75, -0.1, 0.01), 640, 480)  # fmt: skip
    poses = [(R, t - [0, 0, 0.14]) for R, t in look_at_poses(16, 35)]
    result = calibrate_intrinsics(exact_views(poses, camera=wide), "rational")
    assert len(result.camera.D) == 8
    assert result.rms_px < 0.02


def test_bad_views_are_dropped_and_named():
    detections = exact_views(look_at_poses(16), noise_px=0.1)
    views = list(detections.views)
    rng = np.random.default_rng(5)
    for i in (3, 9):
        blurred = views[i].corners_px + rng.normal(0, 4, views[i].corners_px.shape)
        views[i] = replace(views[i], corners_px=blurred)
    result = calibrate_intrinsics(replace(detections, views=tuple(views)))
    assert set(result.dropped) == {"view03.png", "view09.png"}
    assert result.rms_px < 0.2
    assert len(result.views) == 14


def test_when_most_views_disagree_nothing_is_calibrated():
    detections = exact_views(look_at_poses(10), noise_px=0.05)
    rng = np.random.default_rng(5)
    views = [
        replace(view, corners_px=view.corners_px + rng.normal(0, 6 if i < 4 else 0.01, view.corners_px.shape))
        for i, view in enumerate(detections.views)
    ]
    with pytest.raises(CalibrationError, match="do not fit the rest"):
        calibrate_intrinsics(replace(detections, views=tuple(views)))


def test_too_few_views_are_refused_with_what_to_do():
    with pytest.raises(CalibrationError, match="found in 5 of 5 pictures.*15-25"):
        calibrate_intrinsics(exact_views(look_at_poses(5)))


def test_frontal_views_alone_cannot_tell_focal_length_from_distance():
    with pytest.raises(CalibrationError, match="tilted by"):
        calibrate_intrinsics(exact_views(look_at_poses(12, spread_deg=8), noise_px=0.05))


def test_a_picture_without_board_is_named(tmp_path):
    (tmp_path / "empty.png").write_bytes(encode_png(np.full((480, 640, 3), 90, np.uint8)).tobytes())
    (tmp_path / "board.png").write_bytes(encode_png(render(look_at_poses(1)[0])).tobytes())
    found = detect_folder(tmp_path, Board())
    assert found.without_board == ("empty.png",)
    assert [view.name for view in found.views] == ["board.png"]
    assert (found.width, found.height) == (640, 480)


def test_folders_without_pictures_and_mixed_sizes_are_refused(tmp_path):
    with pytest.raises(CalibrationError, match="no .png"):
        detect_folder(tmp_path, Board())
    small, large = np.zeros((48, 64, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)
    with pytest.raises(CalibrationError, match="64x48, 128x96"):
        detect_images([("a", small), ("b", large)], Board())
