"""What our solver is measured against: OpenCV 4.x in another interpreter, and plain bundle adjustment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import least_squares

from benches import calibration_opencv as bench_opencv
from benches.calibration_scenes import CAMERA, POINTS, Pictures
from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import invert
from tacit_calibration.detection import View
from tacit_calibration.estimation.board_pose import Corners, board_poses, residuals
from tacit_calibration.estimation.closed_form import solve_closed_form
from tacit_calibration.estimation.increments import FloatArray, small_pose

TIMEOUT_S = 600


def opencv_interpreter(given: Path | None) -> Path | None:
    """Return an interpreter that has OpenCV's methods: the one given, this one, or None."""
    if given is not None:
        return given
    return Path(sys.executable) if hasattr(cv2, "calibrateHandEye") else None


def opencv_methods(taken: Sequence[Pictures], interpreter: Path) -> tuple[str, dict[str, FloatArray]]:
    """Return OpenCV's version, and T_flange_camera (k, 4, 4) of k scenes for each of its methods.

    Raises:
        CalibrationError: The interpreter cannot be run, or lacks numpy or OpenCV 4.x.
    """
    return _asked(
        interpreter,
        flange_poses=np.array([pictures.flange_poses for pictures in taken]),
        pixels=np.array([[view.corners_px for view in pictures.views] for pictures in taken]),
        points=POINTS,
        K=CAMERA.K,
        D=np.array(CAMERA.D),
    )


def opencv_on_boards(
    sets: Sequence[tuple[FloatArray, FloatArray]], interpreter: Path
) -> dict[str, FloatArray]:
    """Return T_parent_camera (k, 4, 4) by each of OpenCV's methods, of k sets that may differ in length.

    Args:
        sets: Of each, poses (n, 4, 4) of what carries the camera and T_camera_board (n, 4, 4).
        interpreter: As in `opencv_methods`.
    """
    longest = max(len(carrier) for carrier, _ in sets)
    padded = np.full((2, len(sets), longest, 4, 4), np.nan)
    for i, pair in enumerate(sets):
        padded[:, i, : len(pair[0])] = pair
    return _asked(interpreter, flange_poses=padded[0], boards=padded[1])[1]


def _asked(interpreter: Path, **arrays: FloatArray) -> tuple[str, dict[str, FloatArray]]:
    """Return OpenCV's version and its answers to the arrays that `calibration_opencv` reads."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **arrays)  # type: ignore[arg-type]
        words = [str(interpreter), bench_opencv.__file__, str(source), str(target)]
        try:
            run = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except OSError as problem:
            raise CalibrationError(f"--opencv-python {interpreter}: {problem.strerror}") from None
        if run.returncode:
            lines = run.stderr.strip().splitlines() or ["no message"]
            raise CalibrationError(
                f"--opencv-python {interpreter}: {lines[-1]}; it needs numpy and opencv-python-headless<5"
            )
        with np.load(target, allow_pickle=False) as found:
            answers = {name: found[name] for name in found.files if name != "version"}
            return str(found["version"]), answers


def bundle_adjustment(pictures: Pictures) -> tuple[FloatArray, FloatArray]:
    """Return X and B (4, 4) with the least pixel error if the robot were perfect: the usual refinement."""
    corners, G = Corners.of(pictures.views), pictures.flange_poses
    start = solve_closed_form(G, board_poses(pictures.views, CAMERA))

    def moved(step: FloatArray) -> tuple[FloatArray, FloatArray]:
        return start.X @ small_pose(step[:6]), start.B @ small_pose(step[6:])

    def error(step: FloatArray) -> FloatArray:
        X, B = moved(step)
        return residuals(corners, CAMERA, invert(G @ X) @ B).ravel()

    return moved(least_squares(error, np.zeros(12), x_scale=1e-3).x)


def board_anchor(pictures: Pictures, X: FloatArray) -> FloatArray:
    """Return B (4, 4) that suits X best by the pictures; closed-form methods do not say where it is."""
    return board_suiting(pictures.flange_poses, pictures.views, CAMERA, X)


def board_suiting(carrier: FloatArray, views: Sequence[View], camera: Camera, X: FloatArray) -> FloatArray:
    """Return B (4, 4) that suits a camera at X (4, 4) best, by views from poses (n, 4, 4) of its carrier."""
    corners = Corners.of(views)
    first = (carrier @ X @ board_poses(views, camera))[0]

    def error(step: FloatArray) -> FloatArray:
        return residuals(corners, camera, invert(carrier @ X) @ first @ small_pose(step)).ravel()

    return first @ small_pose(least_squares(error, np.zeros(6), x_scale=1e-3, loss="soft_l1").x)
