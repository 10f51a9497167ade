"""Lenses from pictures that others took: in the folder that TACIT_REAL_DATA names, skipped without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tacit_calibration.board import Board
from tacit_calibration.detection import detect_folder, gray_of, read_picture
from tacit_calibration.lens_choice import choose_lens

FOLDER = Path(os.environ.get("TACIT_REAL_DATA", "")) / "calibration" / "opencv_left"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("TACIT_REAL_DATA") or not FOLDER.is_dir(),
        reason="TACIT_REAL_DATA must hold left*.jpg of opencv/opencv's samples/data",
    ),
]
BEST_OF_OPENCV_PX = 0.1894
"""RMS on views left out by fifths, OpenCV 4.13: findChessboardCorners with windows of 3 to 11 px and SB, six
lens models; SB gives .2666."""


def test_opencvs_own_pictures_are_predicted_as_well_as_by_the_best_of_its_detectors_and_models():
    detections = detect_folder(FOLDER, Board(10, 7, 25.0, pattern="checkerboard"))
    chosen = choose_lens(
        detections,
        lambda name: gray_of(read_picture(FOLDER / name)),
        Board(10, 7, 25.0, pattern="checkerboard"),
        ("no_k3", "plumb_bob"),
    )
    assert len(chosen.result.views) == len(list(FOLDER.glob("*.jpg"))) == 12
    assert chosen.result.held_out_rms_px < 1.02 * BEST_OF_OPENCV_PX
