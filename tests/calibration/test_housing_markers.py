"""Gels by the ArUco markers on their housings: what was drawn comes back, what cannot be read is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from gel_scenes import HOME, OPENINGS, finger_view, misplaced

from tacit.errors import CalibrationError
from tacit.geometry.transforms import from_translation, pose_error, transform_points
from tacit.images import encode_png
from tacit.record.samples import SampleFolder
from tacit.rig import Rig, load_rig
from tacit_calibration.cli import main
from tacit_calibration.touch.housing_markers import (
    HEADER,
    HousingMarker,
    find_markers,
    read_markers,
    solve_markers,
)

RIG = load_rig("nova2_sim_vga")
ROW = "left,DICT_4X4_50,7,18,3,-4,12,80,-15,20"
"""18 mm, on the side of the housing that the wrist camera sees."""
ART = np.ascontiguousarray(
    cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50), 7, 240)
)


def drawn(rig: Rig, marker: HousingMarker, opening: float) -> np.ndarray:
    """A picture (480, 640, 3): the marker on white paper, warped to where its corners are."""
    view = finger_view(rig, "wrist", "left", np.append(HOME, opening))
    T = view.T_camera_flange @ from_translation(view.opening_m * view.slide)
    corners = rig.geometry.camera("wrist").project(
        transform_points(T @ rig.tactile["left"].T_mount_sensor, marker.corners_m)
    )
    paper = cv2.copyMakeBorder(ART, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255)
    source = np.array([[60, 60], [300, 60], [300, 300], [60, 300]], np.float32) - 0.5
    H = cv2.getPerspectiveTransform(source, ((corners + 0.5) * 4 - 0.5).astype(np.float32))
    fine = cv2.warpPerspective(paper, H, (2560, 1920), borderMode=cv2.BORDER_CONSTANT, borderValue=140)
    gray = cv2.resize(fine, (640, 480), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 2, gray.shape)
    return np.repeat(np.clip(gray + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def markers(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "markers.csv"
    path.write_text(",".join(HEADER) + "\n" + ROW + "\n")
    return path


@pytest.fixture(scope="module")
def built():
    return misplaced(RIG, "left", np.random.default_rng(8), mm=12.0, deg=10.0)


@pytest.fixture(scope="module")
def folder(built, markers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openings")
    names = tuple(joint.name for joint in RIG.arms["arm"].joints)
    samples = SampleFolder(folder, "arm", names, "wrist")
    (marker,) = read_markers(markers, RIG)
    for opening in OPENINGS[:4]:
        samples.add(encode_png(drawn(built, marker, opening)).tobytes(), tuple(HOME), opening, None)
    return folder


def test_a_marker_tells_where_its_gel_sits(built, markers, folder):
    sights = find_markers(RIG, "wrist", folder, read_markers(markers, RIG))["left"]
    assert len(sights) == 4
    result = solve_markers(RIG, "wrist", "left", sights)
    error = pose_error(result.T_mount_sensor, built.tactile["left"].T_mount_sensor)
    assert error.translation < max(5e-4, 4 * result.sigma_m) and result.sigma_m < 1e-3
    assert error.rotation < np.deg2rad(1.5) and result.rms_px < 0.5
    with pytest.raises(CalibrationError, match="its markers show in 2 pictures, expected 3"):
        solve_markers(RIG, "wrist", "left", sights[:2])


def test_the_command_writes_what_the_markers_say(built, markers, folder, tmp_path):
    out = tmp_path / "out.yaml"
    words = ["sensor", "--camera", "wrist", "--samples", str(folder), "--rig", "nova2_sim_vga"]
    assert main([*words, "--markers", str(markers), "--pad", "digit", "--rig-out", str(out)]) == 0
    rig = load_rig(out)
    assert rig.calibrations["tactile.left.pose"].method == "tacit calibrate sensor --markers"
    assert rig.tactile["left"].size_m == pytest.approx((0.016, 0.019, 0.008))
    assert rig.tactile["right"].size_m == RIG.tactile["right"].size_m


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace("left", "lft"), "did you mean 'left'"),
        (ROW.replace("4X4_50", "4X4_5"), "no dictionary"),
        (ROW.replace(",7,", ",seven,"), "expected numbers"),
        (ROW.replace(",18,", ",1800,"), "in mm"),
        (ROW + "\n" + ROW, "a number of its own"),
    ],
)
def test_a_marker_that_cannot_be_is_named(tmp_path, row, message):
    (tmp_path / "m.csv").write_text(",".join(HEADER) + "\n" + row + "\n")
    with pytest.raises(CalibrationError, match=message):
        read_markers(tmp_path / "m.csv", RIG)
