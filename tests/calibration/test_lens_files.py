"""Lens files of ROS, OpenCV and Kalibr: read as what they are, written as their programs read them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml

from tacit.errors import CalibrationError
from tacit.geometry.camera import FisheyeCamera, PinholeCamera
from tacit_calibration.lens_files import read_lens, write_camera_info, write_kalibr, write_opencv

K = np.array([[610.5, 0, 322.0], [0, 611.25, 238.5], [0, 0, 1]])
RADTAN = (-0.28, 0.19, 0.001, -0.0005)
PINHOLES = [
    PinholeCamera(K, (*RADTAN, *(0.01 * i for i in range(1, count - 3))), 640, 480)
    for count in (4, 5, 8, 12, 14)
]
FISHEYE = FisheyeCamera(K, (0.02, -0.01, 0.004, -0.001), 640, 480)
ECHOED = """header:
  stamp: {{sec: 12, nanosec: 5}}
  frame_id: wrist
height: 480
width: 640
distortion_model: {model}
{d}: {D}
{k}: [610.5, 0.0, 322.0, 0.0, 611.25, 238.5, 0.0, 0.0, 1.0]
{r}: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
binning_x: 0
binning_y: 0
roi: {{x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}}
---
"""


def same(a, b) -> bool:
    D = [np.pad(camera.D, (0, 14 - len(camera.D))) for camera in (a, b)]
    sizes = (a.width, a.height) == (b.width, b.height)
    return type(a) is type(b) and sizes and np.allclose(a.K, b.K) and np.allclose(*D)


@pytest.mark.parametrize("camera", [*PINHOLES, FISHEYE], ids=lambda camera: f"{len(camera.D)}")
def test_every_lens_survives_the_files_of_ros_and_opencv(tmp_path, camera):
    write_camera_info(tmp_path / "ros.yaml", camera, "wrist")
    write_opencv(tmp_path / "cv.yml", camera)
    assert same(read_lens(tmp_path / "ros.yaml"), camera)
    assert same(read_lens(tmp_path / "cv.yml"), camera)
    storage = cv2.FileStorage(str(tmp_path / "cv.yml"), cv2.FILE_STORAGE_READ)
    np.testing.assert_allclose(storage.getNode("camera_matrix").mat(), K)
    np.testing.assert_allclose(storage.getNode("distortion_coefficients").mat().ravel(), camera.D)


@pytest.mark.parametrize("camera", [PINHOLES[0], FISHEYE])
def test_kalibr_gets_a_camchain_and_gives_it_back(tmp_path, camera):
    write_kalibr(tmp_path / "camchain.yaml", camera, "wrist")
    data = yaml.safe_load((tmp_path / "camchain.yaml").read_text())["cam0"]
    assert data["intrinsics"] == [610.5, 611.25, 322.0, 238.5]  # fu, fv, pu, pv
    assert data["distortion_model"] == ("equidistant" if camera is FISHEYE else "radtan")
    assert same(read_lens(tmp_path / "camchain.yaml"), camera)


def test_a_lens_that_kalibr_has_no_model_for_is_refused_with_the_models_it_has(tmp_path):
    with pytest.raises(CalibrationError, match="--model no_k3 or fisheye"):
        write_kalibr(tmp_path / "camchain.yaml", PINHOLES[1], "wrist")
    assert not (tmp_path / "camchain.yaml").exists()


@pytest.mark.parametrize("suffix", ["yml", "xml", "json"])
def test_opencvs_files_are_read_whatever_their_author_called_the_matrices(tmp_path, suffix):
    path = tmp_path / f"lens.{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("K", K)
    storage.write("R", np.eye(3))
    storage.write("P", np.hstack([K, np.zeros((3, 1))]))
    storage.write("D", np.array(PINHOLES[1].D))
    storage.startWriteStruct("imageSize", cv2.FILE_NODE_SEQ)
    storage.write("", 640)
    storage.write("", 480)
    storage.endWriteStruct()
    storage.release()
    assert same(read_lens(path), PINHOLES[1])


@pytest.mark.parametrize("keys", [("d", "k", "r"), ("D", "K", "R")], ids=["ROS 2", "ROS 1"])
@pytest.mark.parametrize("camera", [PINHOLES[1], FISHEYE], ids=["pinhole", "fisheye"])
def test_messages_as_echo_prints_them_are_read_the_first_of_several(tmp_path, keys, camera):
    model = "equidistant" if camera is FISHEYE else "plumb_bob"
    text = ECHOED.format(model=model, D=list(camera.D), **dict(zip("dkr", keys, strict=True)))
    (tmp_path / "echo.txt").write_text(text + text.replace("610.5", "1.0"))
    assert same(read_lens(tmp_path / "echo.txt"), camera)


def test_plain_lists_as_scripts_dump_them_are_read(tmp_path):
    data = {"camera_matrix": K.tolist(), "dist_coeff": [list(PINHOLES[1].D)], "width": 640, "height": 480}
    (tmp_path / "lens.yaml").write_text("%YAML 1.1\n---\n" + yaml.safe_dump(data))
    assert same(read_lens(tmp_path / "lens.yaml"), PINHOLES[1])


MATRIX = "{}: !!opencv-matrix\n   rows: {}\n   cols: {}\n   dt: d\n   data: {}\n"
WHOLE = MATRIX.format("K", 3, 3, K.ravel().tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            WHOLE + MATRIX.format("D", 1, 5, [0.0] * 5),
            "size of the pictures is missing; add the lines image_width",
        ),
        (WHOLE + WHOLE.replace("K", "K2"), r"found 2 \(k, k2\).*leave one lens"),
        (WHOLE, "expected one list of distortion coefficients, found none"),
        (WHOLE + MATRIX.format("D", 1, 3, [0.0] * 3), "3 distortion coefficients, expected"),
        (WHOLE + MATRIX.format("D", 1, 5, "[.nan, 0, 0, 0, 0]"), "expected finite ones"),
        (
            MATRIX.format("R", 3, 3, np.eye(3).ravel().tolist()),
            "expected one camera matrix .*, found none among r",
        ),
        ("K: [1,", "not a file that OpenCV's FileStorage can read"),
    ],
)
def test_files_of_opencv_that_hold_no_whole_lens_say_what_is_missing(tmp_path, text, message):
    (tmp_path / "lens.yml").write_text("%YAML:1.0\n---\n" + text)
    with pytest.raises(CalibrationError, match=message):
        read_lens(tmp_path / "lens.yml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_width: 640", "key .* is missing"),
        ("[1, 2]", "found list"),
        ("{a: [", "not valid YAML"),
        ("{width: 640, height: 480, distortion_model: plumb_bob, k: [1, 2], d: []}", "expected numbers in"),
        ("cam0: {camera_model: omni, distortion_model: radtan, intrinsics: [1, 2, 3, 4], resolution: [6, 4], "
         "distortion_coeffs: [0, 0, 0, 0]}", "omni-radtan is not known here"),
        ("cam0: {camera_model: pinhole}\ncam1: {camera_model: pinhole}", "cam0, cam1 .* leave one"),
    ],
)  # fmt: skip
def test_other_files_that_are_no_lens_are_refused(tmp_path, text, message):
    (tmp_path / "lens.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_lens(tmp_path / "lens.yaml")
    with pytest.raises(CalibrationError, match="no such file"):
        read_lens(tmp_path / "none.yaml")
