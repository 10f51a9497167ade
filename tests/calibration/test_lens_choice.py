"""Corners and lens model are chosen by views left out; corners are refined once the lens is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from board_scenes import (
    CAMERA,
    PIXELS_PER_MM,
    exact_views,
    fisheye_views,
    look_at_poses,
    photographed,
    render,
)

from tacit.errors import CalibrationError
from tacit.geometry.camera import PinholeCamera
from tacit.geometry.transforms import from_rotation
from tacit_calibration.board import Board
from tacit_calibration.detection import Detections, detect, gray_of
from tacit_calibration.estimation.corner_ways import as_board_sees, by_window
from tacit_calibration.estimation.lens_fit import JUDGED, fit_lens
from tacit_calibration.lens_choice import (
    AS_FOUND,
    LensChoice,
    choose_corners,
    choose_lens,
    model_errors,
    simplest,
)

BLANK = np.full((480, 640), 128, np.uint8)
POSE = look_at_poses(1, seed=3)[0]


def no_picture(name: str) -> np.ndarray:
    """Nothing to see: every way leaves the corners where they are, and only models differ."""
    return BLANK


def test_corners_that_are_off_are_found_again_where_the_edges_meet():
    gray = gray_of(render(POSE))
    view = detect("a", render(POSE), Board())
    truth = CAMERA.project(view.points_m @ POSE[0].T + POSE[1])
    rng = np.random.default_rng(0)
    off = replace(view, corners_px=truth + rng.normal(0, 0.5, truth.shape))
    for again in (
        by_window(off, gray, Board(), 5),
        as_board_sees(off, gray, Board(), CAMERA, from_rotation(*POSE), 5),
    ):
        assert np.sqrt(np.mean((again.corners_px - truth) ** 2)) < 0.12
    # In a picture without edges nothing moves.
    np.testing.assert_allclose(by_window(off, BLANK, Board(), 5).corners_px, off.corners_px)


def test_the_middle_of_a_dot_is_found_though_its_picture_is_an_ellipse_with_another_middle():
    board = Board(4, 3, 60.0, pattern="circles")
    camera = PinholeCamera(
        np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), (-0.2, 0.05, 0, 0, 0), 640, 480
    )
    R, t = cv2.Rodrigues(np.array([0.9, 0.1, 0.0]))[0], np.array([-0.11, -0.07, 0.33])
    width, height = (round(side * PIXELS_PER_MM) for side in board.size_mm)
    page = np.full((height, width), 230, np.uint8)
    for place in board.corners_m[:, :2] * 1e3 * PIXELS_PER_MM - 0.5:
        radius = round(0.3 * board.square_mm * PIXELS_PER_MM * 16)
        cv2.circle(page, [round(x * 16) for x in place], radius, 20, -1, cv2.LINE_AA, 4)
    gray = photographed(cv2.GaussianBlur(page, (0, 0), 3), (R, t), camera, 0.0)
    truth = camera.project(board.corners_m @ R.T + t)
    view = detect("a", np.repeat(gray[..., None], 3, axis=-1), board)
    if np.linalg.norm(view.corners_px[0] - truth[0]) > 100:  # circles look the same upside down
        view = replace(view, corners_px=view.corners_px[::-1])
    again = as_board_sees(view, gray, board, camera, from_rotation(R, t), 5)
    before, after = (np.linalg.norm(v.corners_px - truth, axis=1) for v in (view, again))
    assert before.max() > 0.5
    assert after.max() < 0.1


def test_through_a_known_lens_corners_are_found_again_in_the_way_that_fits_single_boards_best():
    board, poses = Board(), look_at_poses(2, seed=3)
    pictures = {f"{i}": render(pose) for i, pose in enumerate(poses)}
    views = [detect(name, picture, board) for name, picture in pictures.items()]
    truth = [CAMERA.project(v.points_m @ R.T + t) for v, (R, t) in zip(views, poses, strict=True)]
    rng, said = np.random.default_rng(0), []
    off = [
        replace(v, corners_px=at + rng.normal(0, 0.5, at.shape)) for v, at in zip(views, truth, strict=True)
    ]
    found = choose_corners(off, lambda name: gray_of(pictures[name]), board, CAMERA, said.append)
    for view, at in zip(found, truth, strict=True):
        assert np.sqrt(np.mean((view.corners_px - at) ** 2)) < 0.12
    assert "instead of" in said[0]
    blank = choose_corners(views, no_picture, board, CAMERA)
    np.testing.assert_array_equal(blank[0].corners_px, views[0].corners_px)


WIDE = PinholeCamera(
    np.array([[330.0, 0, 320], [0, 330, 240], [0, 0, 1]]), (0.5, -0.2, 0, 0, 0.02, 0.75, -0.1, 0.01), 640, 480
)


def views_of(camera: PinholeCamera, noise_px: float, num: int = 8, nearer: float = 0.0) -> Detections:
    """Every third corner, which is enough to tell lenses apart and costs a third."""
    return thinned(
        exact_views([(R, t - [0, 0, nearer]) for R, t in look_at_poses(num, 35)], noise_px, camera)
    )


def thinned(detections: Detections) -> Detections:
    views = (replace(v, corners_px=v.corners_px[::3], points_m=v.points_m[::3]) for v in detections.views)
    return replace(detections, views=tuple(views))


def test_each_kind_of_lens_is_given_its_model_by_views_left_out():
    plain = PinholeCamera(CAMERA.K, (0.05, -0.1, 0.001, -0.0005), 640, 480)
    cases = [
        (views_of(plain, 0.1), ("no_k3", "plumb_bob"), "no_k3"),
        (views_of(WIDE, 0.02, 10, nearer=0.14), ("plumb_bob", "rational"), "rational"),
        (thinned(fisheye_views(9, 0.1)), ("no_k3", "fisheye"), "fisheye"),
    ]
    for detections, models, expected in cases:
        assert simplest(model_errors(detections.views, (640, 480), models)) == expected


def test_a_tilted_sensor_has_its_model():
    tilted = PinholeCamera(CAMERA.K, (0.05, -0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.09, -0.06), 640, 480)
    plain, own = (
        fit_lens(views_of(tilted, 0.02).views, (640, 480), m, settled=JUDGED) for m in ("no_k3", "tilted")
    )
    assert plain.noise_px > 1.1 * own.noise_px
    assert own.noise_px == pytest.approx(0.02, rel=0.15)


def test_of_models_as_good_as_each_other_the_simplest_is_taken():
    errors = {"tilted": 0.2999, "rational": 0.2995, "plumb_bob": 0.301, "no_k3": 0.31, "fisheye": 0.2996}
    assert simplest(errors) == "plumb_bob"
    assert simplest(errors | {"plumb_bob": 0.31}) == "rational"
    assert simplest(errors | {"rational": float("inf"), "plumb_bob": 0.31}) == "fisheye"
    with pytest.raises(CalibrationError, match="no lens fits"):
        simplest({"no_k3": float("inf")})


@pytest.fixture(scope="module")
def choice() -> tuple[LensChoice, list[str]]:
    """A bent lens and boards that leave the edges bare; one view is spoilt; nothing is to be seen."""
    bent = PinholeCamera(CAMERA.K, (0.0, 0.0, 0.0, 0.0, 0.5), 640, 480)
    centred = [(R, t * [0.3, 0.3, 1.0]) for R, t in look_at_poses(9)]
    detections, said = thinned(exact_views(centred, 0.2, bent)), list[str]()
    views = list(detections.views)
    spoilt = views[4].corners_px + np.random.default_rng(2).normal(0, 6, views[4].corners_px.shape)
    views[4] = replace(views[4], corners_px=spoilt)
    models = ("no_k3", "plumb_bob")
    found = choose_lens(replace(detections, views=tuple(views)), no_picture, Board(), models, said.append)
    return found, said


def test_where_the_edges_are_not_covered_the_lens_without_k3_is_offered(choice):
    chosen, _ = choice
    assert chosen.model == "plumb_bob"
    assert any("--model no_k3 errs less there" in warning for warning in chosen.result.warnings)


def test_every_way_is_said_and_judged_on_the_same_views(choice):
    chosen, said = choice
    assert set(chosen.result.dropped) == {"view04.png"}
    errors = [way.error_px for way in chosen.ways.values()]
    assert chosen.corners == AS_FOUND and len(errors) == 6
    np.testing.assert_allclose(errors, errors[0], rtol=1e-3)
    assert len([line for line in said if "corners" in line]) == 6
    assert list(chosen.model_errors) == ["no_k3", "plumb_bob"]
    assert f"lens plumb_bob: {chosen.model_errors['plumb_bob']:.4f} px" in said[-1]
