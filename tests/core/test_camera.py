"""Lenses: our projection is OpenCV's, undistortion undoes it, resizing moves pixels as images move."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tacit.errors import CalibrationError
from tacit.geometry.camera import FisheyeCamera, PinholeCamera
from tacit.geometry.camera_info import (
    camera_from_info,
    camera_from_yaml_dict,
    camera_to_info,
    camera_to_yaml_dict,
)
from tacit.rig import load_rig
from tacit.rig.scene import camera_from_spec

K = np.array([[600.0, 0.0, 321.3], [0.0, 590.0, 236.7], [0.0, 0.0, 1.0]])
# Real lenses' sizes of coefficients, one set for each length that OpenCV knows.
LENSES = {
    0: (),
    4: (0.05, -0.1, 0.001, -0.0005),
    5: (-0.25, 0.08, 0.001, -0.0005, -0.01),
    8: (0.5, -0.2, 0.001, 0.0007, 0.02, 0.75, -0.1, 0.01),
    12: (0.1, -0.05, 0.001, 0.0007, 0.02, 0.2, -0.03, 0.01, 0.002, -0.001, 0.001, 0.0005),
    14: (0.1, -0.05, 0.001, 0.0007, 0.02, 0.2, -0.03, 0.01, 0.002, -0.001, 0.001, 0.0005, 0.03, -0.02),
}
FISHEYE = (-0.02, 0.005, -0.003, 0.0004)


def points_in_view(num: int = 200, reach: float = 0.55) -> np.ndarray:
    rng = np.random.default_rng(0)
    xy, z = rng.uniform(-reach, reach, (num, 2)), rng.uniform(0.1, 2.0, (num, 1))
    return np.hstack([xy * z, z])


@pytest.mark.parametrize("count", LENSES)
def test_pinhole_projects_as_opencv(count):
    p = points_in_view()
    expected, _ = cv2.projectPoints(p, np.zeros(3), np.zeros(3), K, np.array(LENSES[count] or (0.0,) * 4))
    camera = PinholeCamera(K, LENSES[count], 640, 480)
    np.testing.assert_allclose(camera.project(p), expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("D", [(), FISHEYE])
def test_fisheye_projects_as_opencv(D):
    p = points_in_view(reach=1.2)
    expected, _ = cv2.fisheye.projectPoints(
        p[:, None], np.zeros(3), np.zeros(3), K, np.array(D or (0.0,) * 4)
    )
    np.testing.assert_allclose(FisheyeCamera(K, D, 640, 480).project(p), expected[:, 0], atol=1e-9)


def test_skew_moves_u_with_y():
    skewed = K.copy()
    skewed[0, 1] = 3.0
    p = np.array([0.1, 0.2, 0.5])
    np.testing.assert_allclose(PinholeCamera(skewed, (), 640, 480).project(p), (skewed @ p / 0.5)[:2])


@pytest.mark.parametrize("camera", [PinholeCamera(K, D, 640, 480) for D in LENSES.values()] + [
    FisheyeCamera(K, FISHEYE, 640, 480)
])  # fmt: skip
def test_undistorting_undoes_the_projection(camera):
    p = points_in_view(reach=0.5)
    np.testing.assert_allclose(camera.undistort(camera.project(p)), p[:, :2] / p[:, 2:], atol=1e-9)
    rays = p / np.linalg.norm(p, axis=-1, keepdims=True)
    np.testing.assert_allclose(camera.rays(camera.project(p)), rays, atol=1e-9)


def test_a_lens_with_k1_alone_folds_at_the_closed_form_radius():
    camera = PinholeCamera(K, (-0.35, 0, 0, 0), 640, 480)
    assert camera.fold_radius == pytest.approx(np.sqrt(1 / (3 * 0.35)))
    assert np.rad2deg(np.arctan(camera.fold_radius)) == pytest.approx(44.3, abs=0.1)


@given(arrays(np.float64, 3, elements=st.floats(-0.4, 0.4)))
def test_up_to_the_fold_the_distorted_radius_grows(k):
    camera = PinholeCamera(K, (k[0], k[1], 0, 0, k[2]), 640, 480)
    r = np.linspace(0, min(camera.fold_radius, 5.0) * (1 - 1e-6), 400)
    distorted = camera.distort(np.stack([r, np.zeros_like(r)], axis=-1))[:, 0]
    assert (np.diff(distorted) >= -1e-12).all()
    if camera.fold_radius < 5.0:
        beyond = camera.distort(np.array([[camera.fold_radius * 1.001, 0]]))[0, 0]
        assert beyond <= distorted[-1] + 1e-6


@pytest.mark.parametrize("D", [(), (-0.02, 0.01, -0.005, 0.001)])
def test_fisheye_gives_back_the_ray_that_it_projected(D):
    camera = FisheyeCamera(K, D, 640, 480)
    xy = np.stack(np.meshgrid(np.linspace(-1.2, 1.2, 9), np.linspace(-1, 1, 7)), axis=-1).reshape(-1, 2)
    pixels = camera.project(np.concatenate([xy, np.ones((len(xy), 1))], axis=-1))
    np.testing.assert_allclose(camera.undistort(pixels), xy, atol=1e-8)


def test_fisheye_folds_where_its_polynomial_turns():
    camera = FisheyeCamera(K, (-0.2, 0, 0, 0), 640, 480)
    assert np.arctan(camera.fold_radius) == pytest.approx(np.sqrt(1 / 0.6))
    assert FisheyeCamera(K, (), 640, 480).fold_radius == np.inf


def test_points_behind_and_beyond_the_fold_have_no_pixel():
    camera = PinholeCamera(K, (-0.35, 0, 0, 0), 640, 480)
    pixels = camera.project([[0, 0, -1], [0, 0, 0], [2, 0, 1], [0.1, 0, 1]])
    np.testing.assert_array_equal(np.isnan(pixels).all(axis=-1), [True, True, True, False])


def test_a_pixel_outside_the_lens_has_no_ray():
    camera = PinholeCamera(K, (-0.35, 0, 0, 0), 640, 480)
    assert np.isnan(camera.undistort([5000.0, 236.0])).all()


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (224, 224), (213, 100)])
def test_scaled_camera_sees_the_pixel_centre_rule(size):
    camera = PinholeCamera(K, LENSES[5], 640, 480)
    p, (sx, sy) = points_in_view(), (size[0] / 640, size[1] / 480)
    expected = (camera.project(p) + 0.5) * [sx, sy] - 0.5
    np.testing.assert_allclose(camera.scaled(*size).project(p), expected, atol=1e-9)


def test_cropped_camera_counts_from_the_window():
    camera = PinholeCamera(K, LENSES[5], 640, 480)
    p = points_in_view()
    np.testing.assert_allclose(camera.cropped(40, 30, 500, 400).project(p), camera.project(p) - [40, 30])
    with pytest.raises(ValueError, match="does not fit"):
        camera.cropped(200, 0, 500, 480)


@pytest.mark.parametrize(("kind", "count"), [(PinholeCamera, 3), (PinholeCamera, 6), (FisheyeCamera, 5)])
def test_a_wrong_number_of_coefficients_is_refused(kind, count):
    with pytest.raises(ValueError, match=f"{count} coefficients, expected one of"):
        kind(K, (0.0,) * count, 640, 480)


def test_camera_of_a_rig_has_its_numbers():
    spec = load_rig("nova2").cameras["wrist"]
    camera = camera_from_spec(spec)
    assert (camera.width, camera.height, camera.D) == (spec.width, spec.height, spec.D)
    np.testing.assert_array_equal(camera.K, spec.K)


def info_of(camera, **changes) -> dict:
    return camera_to_info(camera) | changes


@pytest.mark.parametrize("camera", [PinholeCamera(K, D, 640, 480) for D in LENSES.values()] + [
    FisheyeCamera(K, FISHEYE, 640, 480), FisheyeCamera(K, (), 640, 480)
])  # fmt: skip
def test_camera_info_and_yaml_there_and_back(camera):
    p = points_in_view()
    for back in (
        camera_from_info(camera_to_info(camera)),
        camera_from_yaml_dict(camera_to_yaml_dict(camera, "wrist")),
    ):
        assert type(back) is type(camera)
        np.testing.assert_array_equal(back.project(p), camera.project(p))


def test_binning_and_region_of_interest_describe_what_is_sent():
    full = PinholeCamera(K, LENSES[5], 640, 480)
    roi = {"x_offset": 100, "y_offset": 60, "width": 400, "height": 300, "do_rectify": False}
    camera = camera_from_info(info_of(full, binning_x=2, binning_y=2, roi=roi))
    assert (camera.width, camera.height) == (200, 150)
    p = points_in_view()
    # A binned pixel covers two raw ones: its centre lies between them.
    expected = (full.project(p) - [100, 60] - 0.5) / 2
    np.testing.assert_allclose(camera.project(p), expected, atol=1e-9)


def test_an_uncalibrated_driver_and_unknown_models_are_refused():
    camera = PinholeCamera(K, (), 640, 480)
    with pytest.raises(CalibrationError, match="tacit calibrate intrinsics"):
        camera_from_info(info_of(camera, k=[0.0] * 9))
    with pytest.raises(CalibrationError, match="did you mean 'plumb_bob'"):
        camera_from_info(info_of(camera, distortion_model="plum_bob"))
    with pytest.raises(CalibrationError, match="camera_matrix"):
        camera_from_yaml_dict({"image_width": 1, "image_height": 1, "distortion_model": "plumb_bob",
                               "distortion_coefficients": {"data": []}})  # fmt: skip
