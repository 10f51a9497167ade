"""Boxes of one colour: drawn ones come back with their size, and a rig is measured by them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from arm_scenes import changed

from tacit.errors import CalibrationError
from tacit.geometry.footprint import box_corners
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, from_translation, pose_error, transform_points
from tacit.images import encode_png
from tacit.record.samples import SampleFolder
from tacit.rig import Rig, load_rig
from tacit_calibration.checks.verify import verify
from tacit_calibration.cli import main
from tacit_calibration.touch.gel_search import GelPicture, find_outlines, search_gel
from tacit_calibration.touch.outline import solve_outlines
from tacit_calibration.touch.touch_views import TouchView, finger_views

BELIEVED = load_rig("nova2_sim_vga")
HOME = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
BLUE, GREY = (40, 110, 170), (150, 140, 130)
FINE = 4


@pytest.fixture(scope="module")
def truth() -> Rig:
    left = BELIEVED.tactile["left"]
    moved = left.T_mount_sensor @ from_rotation(
        rotation_from_vector([0.02, -0.02, 0.02]), (1e-3, -1e-3, 1e-3)
    )
    return changed(BELIEVED, "tactile.left", T_mount_sensor=moved.tolist(), size_m=[0.0206, 0.0235, 0.008])


def drawn(rig: Rig, views: list[TouchView], view: TouchView, colour=BLUE) -> np.ndarray:
    """A picture (480, 640, 3) of the left box before noisy grey, its edges smooth."""
    T = (
        view.T_camera_flange
        @ from_translation(view.opening_m * view.slide)
        @ rig.tactile["left"].T_mount_sensor
    )
    pixels = rig.geometry.camera("wrist").project(
        transform_points(T, box_corners(rig.tactile["left"].size_m))
    )
    hull = cv2.convexHull(((pixels + 0.5) * FINE - 0.5).astype(np.float32))
    fine = np.full((480 * FINE, 640 * FINE, 3), GREY, np.uint8)
    cv2.fillConvexPoly(fine, np.rint(hull * 16).astype(np.int32), colour, cv2.LINE_8, 4)
    image = cv2.resize(fine, (640, 480), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def folder_of(rig: Rig, folder, openings=(0.01, 0.03, 0.05, 0.07)):
    names = tuple(joint.name for joint in rig.arms["arm"].joints)
    samples = SampleFolder(folder, "arm", names, "wrist")
    for opening in openings:
        samples.add(b"", tuple(HOME.tolist()), opening, None)
    views = finger_views(rig, "wrist", folder, "left")
    for view in views:
        (folder / view.click.image).write_bytes(encode_png(drawn(rig, views, view)).tobytes())
    return views


@pytest.fixture(scope="module")
def pictures(truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openings")
    folder_of(truth, folder)
    return folder


@pytest.fixture(scope="module")
def outlines(pictures):
    return find_outlines(BELIEVED, "wrist", pictures, "left")


def test_a_drawn_gel_comes_back_within_its_sigma(truth, outlines):
    result = solve_outlines(BELIEVED, "wrist", "left", outlines)
    error = pose_error(result.T_mount_sensor, truth.tactile["left"].T_mount_sensor)
    assert error.translation < 4 * result.sigma_m < 2e-3
    assert error.rotation < 4 * result.sigma_rad
    np.testing.assert_allclose(result.size_m, truth.tactile["left"].size_m, atol=4e-4)
    assert result.rms_px < 0.5


def test_a_box_of_one_colour_is_told_from_a_face(outlines):
    assert {outline.thickness_m for outline in outlines} == {0.008}


def test_size_is_kept_on_request(outlines):
    assert solve_outlines(BELIEVED, "wrist", "left", outlines, fit_size=False).size_m == (0.02, 0.024, 0.008)
    with pytest.raises(CalibrationError, match="2 outlines, expected 3"):
        solve_outlines(BELIEVED, "wrist", "left", outlines[:2])


def test_a_gel_of_the_colour_around_it_is_refused(truth, pictures):
    views = finger_views(BELIEVED, "wrist", pictures, "left")
    for colour in (GREY, (148, 138, 128)):
        grey = [GelPicture(view, drawn(truth, views, view, colour)) for view in views[:3]]
        with pytest.raises(CalibrationError, match="left: not found: 0 of 3 pictures"):
            search_gel(BELIEVED, "wrist", "left", grey)


def test_boxes_of_the_true_rig_lie_on_the_outlines_and_those_of_another_do_not(truth, pictures, outlines):
    errors = {}
    for name, rig in (("true", truth), ("believed", BELIEVED)):
        found = verify(rig, "wrist", None, pictures, outlines=outlines)
        errors[name] = found.centres.p95
        assert found.board is None and found.gels is None
    assert errors["true"] < 0.5 < 2.0 < errors["believed"]


def test_the_command_needs_no_clicks(truth, pictures, tmp_path, capsys):
    data = BELIEVED.model_dump(mode="json")
    del data["tactile"]["right"]  # these pictures show the left gel alone
    (tmp_path / "rig.yaml").write_text(Rig.model_validate(data).to_yaml())
    words = ["--rig", str(tmp_path / "rig.yaml"), "--rig-out", str(tmp_path / "out.yaml")]
    assert main(["sensor", "--camera", "wrist", "--samples", str(pictures), "--detect", *words]) == 0
    record = load_rig(tmp_path / "out.yaml").calibrations["tactile.left.pose"]
    assert record.method == "tacit calibrate sensor --detect" and record.num_views == 4
    assert "4 pictures" in capsys.readouterr().out
