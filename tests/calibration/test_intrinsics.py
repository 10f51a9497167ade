"""A lens is recovered from pictures of a board; poor pictures are dropped or refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from board_scenes import CAMERA, FISHEYE, exact_views, fisheye_views, look_at_poses, render

from tacit.errors import CalibrationError
from tacit.geometry.camera import PinholeCamera
from tacit.geometry.rotations import rotation_from_vector
from tacit.images import encode_png
from tacit.rig import load_rig
from tacit_calibration.board import Board
from tacit_calibration.cli import main
from tacit_calibration.detection import detect, detect_folder, detect_images
from tacit_calibration.estimation.lens_fit import fit_lens, parameters
from tacit_calibration.intrinsics import calibrate_intrinsics, pixel_uncertainty
from tacit_calibration.lens_files import write_camera_info


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


def test_a_rational_lens_has_no_pole_where_the_corners_are():
    wide = PinholeCamera(np.diag([330.0, 330, 1]) + [[0, 0, 320], [0, 0, 240], [0, 0, 0]],
                         (0.5, -0.2, 0.0, 0.0, 0.02, 0.75, -0.1, 0.01), 640, 480)  # fmt: skip
    for seed in (0, 2, 3):  # OpenCV's own fit folds over inside these pictures
        poses = [(R, t - [0, 0, 0.14]) for R, t in look_at_poses(16, 35, seed)]
        result = calibrate_intrinsics(exact_views(poses, 0.2, wide, seed), "rational")
        assert result.rms_px == pytest.approx(0.2 * np.sqrt(2), rel=0.1)
        assert result.held_out_rms_px < 1.5 * result.rms_px
        corners = np.concatenate([view.corners_px for view in exact_views(poses, 0.0, wide).views])
        assert unturned_difference(result.camera, wide, corners).max() < 1.0  # nor is any of them NaN


def test_a_fisheye_lens_is_recovered():
    result = calibrate_intrinsics(fisheye_views(24, 0.0), "fisheye")
    assert isinstance(result.camera, type(FISHEYE))
    assert result.rms_px < 1e-3
    np.testing.assert_allclose(parameters(result.camera), parameters(FISHEYE), rtol=1e-3, atol=1e-4)


def test_a_noisy_fisheye_lens_knows_how_unsure_it_is():
    result = calibrate_intrinsics(fisheye_views(24, 0.2, 3), "fisheye")
    assert result.rms_px == pytest.approx(0.2 * np.sqrt(2), rel=0.1)
    assert result.held_out_rms_px < 1.3 * result.rms_px
    off = np.abs(parameters(result.camera) - parameters(FISHEYE))
    assert (off < 4 * np.sqrt(np.diag(result.covariance))).all()
    assert np.nanmax(result.uncertainty_px) < 1.0


def test_a_pinhole_does_not_fit_a_fisheye():
    detections = fisheye_views(24, 0.1)
    pinhole = fit_lens(detections.views, (640, 480), "plumb_bob")
    fisheye = fit_lens(detections.views, (640, 480), "fisheye")
    assert pinhole.noise_px > 3 * fisheye.noise_px


def test_reported_sigmas_are_those_of_repeated_calibrations():
    truth, scores, apart, sigmas = parameters(CAMERA), [], [], []
    grid = np.stack(np.meshgrid(np.linspace(0, 639, 9), np.linspace(0, 479, 9)), axis=-1).reshape(-1, 2)
    for seed in range(12):
        views = exact_views(look_at_poses(14, seed=seed), 0.2, seed=seed).views
        fit = fit_lens(views, (640, 480), "plumb_bob")
        scores.append((parameters(fit.camera) - truth) / np.sqrt(np.diag(fit.covariance)))
        apart.append(unturned_difference(fit.camera, CAMERA, grid).reshape(9, 9))
        sigmas.append(pixel_uncertainty(fit.camera, fit.covariance))
    assert 0.75 < np.sqrt(np.mean(np.square(scores))) < 1.3
    inside = np.s_[:, 2:-2, 2:-2]
    ratio = np.sqrt(np.mean(np.square(apart)[inside]) / np.mean(np.square(sigmas)[inside]))
    assert 0.6 < ratio < 1.5


def unturned_difference(camera: PinholeCamera, truth: PinholeCamera, pixels: np.ndarray) -> np.ndarray:
    """Return how many pixels a lens is off at true pixels (N, 2), after the best turn between the two."""
    rays = truth.rays(pixels)

    def difference(turn) -> np.ndarray:
        return (camera.project(rays @ rotation_from_vector(turn).T) - pixels).ravel()

    start = difference(np.zeros(3))
    J = np.column_stack([(difference(1e-5 * axis) - start) / 1e-5 for axis in np.eye(3)])
    turn = -np.linalg.lstsq(J, start, rcond=None)[0]
    return np.linalg.norm(difference(turn).reshape(-1, 2), axis=-1)


def test_the_image_is_least_sure_where_no_board_was():
    centred = [(R, t * [0.2, 0.2, 1.3]) for R, t in look_at_poses(14)]
    result = calibrate_intrinsics(exact_views(centred, 0.2))
    assert result.uncertainty_px[0, 0] > 3 * result.uncertainty_px[4, 4]
    assert any("cover" in warning for warning in result.warnings)


def test_a_misread_corner_hardly_moves_the_lens():
    detections = exact_views(look_at_poses(14), 0.1)
    clean = fit_lens(detections.views, (640, 480), "plumb_bob")
    corners = detections.views[2].corners_px.copy()
    corners[5] += [8.0, 5.0]
    views = [replace(v, corners_px=corners) if i == 2 else v for i, v in enumerate(detections.views)]
    fit = fit_lens(views, (640, 480), "plumb_bob")
    assert abs(fit.camera.K[0, 0] - clean.camera.K[0, 0]) < np.sqrt(clean.covariance[0, 0])


def test_a_lens_of_another_tool_is_put_into_a_rig(tmp_path, capsys):
    write_camera_info(tmp_path / "ost.yaml", FISHEYE, "anything")
    words = ["intrinsics", "--camera", "wrist", "--camera-info", str(tmp_path / "ost.yaml")]
    assert main([*words, "--rig", "nova2", "--rig-out", str(tmp_path / "rig.yaml")]) == 0
    rig = load_rig(tmp_path / "rig.yaml")
    assert rig.cameras["wrist"].model == "fisheye"
    np.testing.assert_allclose(rig.cameras["wrist"].K, FISHEYE.K)
    assert "model: fisheye" in capsys.readouterr().out


def test_a_mirrored_board_is_refused():
    detections = exact_views(look_at_poses(12), 0.1)
    width = Board().size_mm[0] / 1e3
    views = [replace(v, points_m=v.points_m * [-1, 1, 1] + [width, 0, 0]) for v in detections.views]
    with pytest.raises(CalibrationError, match="mirrored board"):
        calibrate_intrinsics(replace(detections, views=tuple(views)))


def test_a_mirrored_picture_is_refused_by_name():
    picture = np.ascontiguousarray(render(look_at_poses(1)[0])[:, ::-1])
    with pytest.raises(CalibrationError, match="flipped.png: mirrored board"):
        detect_images([("flipped.png", picture)], Board())


def smeared(picture: np.ndarray, length: int) -> np.ndarray:
    """The picture of a camera that moved sideways by so many pixels."""
    kernel = np.zeros((length, length))
    kernel[length // 2] = 1.0 / length
    return cv2.filter2D(picture, -1, kernel)


def test_blur_is_measured_and_motion_counts_though_it_smears_one_direction_only():
    picture = render(look_at_poses(1)[0])
    widths = [detect("a", p, Board()).blur_px for p in (picture, smeared(picture, 3), smeared(picture, 6))]
    assert widths[0] < 1.2 < widths[1] + 0.1
    assert widths[2] > 1.9
    soft = detect("a", cv2.GaussianBlur(picture, (0, 0), 1.5), Board())
    # Variances of edge, lens and gradient filter add up.
    assert soft.blur_px == pytest.approx(np.hypot(widths[0], 1.5), rel=0.1)


def test_blurred_and_moving_pictures_are_turned_away_with_the_reason():
    sharp, other = (render(pose) for pose in look_at_poses(2))
    found = detect_images([("a.png", sharp), ("b.png", smeared(other, 7))], Board())
    assert [view.name for view in found.views] == ["a.png"]
    assert found.without_board == ("b.png",)
    assert "blurred, out of focus or moving" in found.reasons["b.png"]


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
    with pytest.raises(CalibrationError, match="64x48: a; 128x96: b"):
        detect_images([("a", small), ("b", large)], Board())
