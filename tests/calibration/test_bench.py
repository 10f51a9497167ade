"""`tacit bench calibration`: honest tables, bars that bite, and peers that are really run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benches import calibration as bench
from benches.calibration_peers import (
    board_anchor,
    bundle_adjustment,
    opencv_methods,
    opencv_on_boards,
)
from benches.calibration_real import Measured, Row
from benches.calibration_scenes import CASES, B, X, make_scene
from tacit.errors import CalibrationError
from tacit.geometry.transforms import pose_error
from tacit.tools.bench import load_bench
from tacit_calibration.estimation.increments import small_pose

NO_OPENCV_4 = not hasattr(cv2, "calibrateHandEye")
A_FAKE = """
import sys, numpy as np
data = np.load(sys.argv[2])
truth = np.load({truth!r})
np.savez(sys.argv[3], version=np.array("4.fake"), PARK=np.repeat(truth[None], len(data["flange_poses"]), 0))
"""

COUNTS_BOARDS = """
import sys, numpy as np
data = np.load(sys.argv[2])
found = np.tile(np.eye(4), (len(data["boards"]), 1, 1))
found[:, 0, 3] = np.isfinite(data["boards"]).all(axis=(2, 3)).sum(axis=1)
np.savez(sys.argv[3], version=np.array("4.fake"), PARK=found)
"""


def test_without_noise_bundle_adjustment_is_exact():
    scene = make_scene(replace(CASES["A"], px=0.0), 0)
    found_X, found_B = bundle_adjustment(scene.taken)
    assert pose_error(found_X, X).translation < 1e-6
    assert pose_error(found_B, B).translation < 1e-6
    assert pose_error(board_anchor(scene.taken, X), B).translation < 1e-6


def test_scenes_are_the_same_for_the_same_seed_and_views_are_held_out():
    first, again, other = (make_scene(CASES["B"], seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.taken.flange_poses, again.taken.flange_poses)
    assert not np.allclose(first.taken.flange_poses, other.taken.flange_poses)
    assert len(first.taken.views) == 15
    apart = first.taken.flange_poses[:, None, :3, 3] - first.held_out.flange_poses[None, :, :3, 3]
    assert np.linalg.norm(apart, axis=-1).min() > 1e-4


def test_a_wrong_arm_errs_smoothly_and_its_camera_is_defined_by_its_model():
    scene = make_scene(CASES["G"], 0)
    assert scene.taken.arm_errors.shape == (15, 6, 30)
    assert 1e-5 < pose_error(scene.X, X).translation < 3e-3


def test_the_table_names_bars_and_says_that_opencv_was_not_run(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    code = load_bench("calibration")(["--seeds", "1", "--cases", "AG", "--json", str(path)])
    printed = capsys.readouterr().out
    assert "0.20" in printed and "a wrong arm" in printed
    if NO_OPENCV_4:
        assert "give --opencv-python" in printed
    numbers = json.loads(path.read_text())
    case_a, case_g = numbers["cases"]
    assert case_a["ours"]["mean_mm"] < 0.2
    assert set(case_g["others"]) >= {"plain bundle adjustment", "ours, arm as modelled"}
    assert code == (1 if case_a["misses"] or case_g["misses"] else 0)


def test_an_unknown_case_is_answered():
    with pytest.raises(CalibrationError, match="no case 'Z'"):
        bench.main(["--cases", "AZ"])


@pytest.mark.skipif(not NO_OPENCV_4, reason="this OpenCV still has the methods")
def test_an_interpreter_without_opencv_4_is_refused_with_what_it_needs():
    scene = make_scene(CASES["A"], 0)
    with pytest.raises(CalibrationError, match="has no calibrateHandEye.*opencv-python-headless<5"):
        opencv_methods([scene.taken], sys.executable)
    with pytest.raises(CalibrationError, match="--opencv-python /nowhere"):
        opencv_methods([scene.taken], "/nowhere")


def test_losing_to_any_method_of_opencv_is_a_miss(tmp_path, capsys):
    """A peer that knows the truth must be reported as better than us."""
    np.save(tmp_path / "truth.npy", X)
    (tmp_path / "peer.py").write_text(A_FAKE.format(truth=str(tmp_path / "truth.npy")))
    interpreter = tmp_path / "python4"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/peer.py" "$@"\n')
    interpreter.chmod(0o755)
    assert bench.main(["--seeds", "1", "--cases", "A", "--opencv-python", str(interpreter)]) == 1
    printed = capsys.readouterr().out
    assert "4.fake" in printed
    assert "(PARK)" in printed and "p95" in printed


def test_sets_of_several_lengths_reach_opencv_together(tmp_path):
    (tmp_path / "peer.py").write_text(COUNTS_BOARDS)
    interpreter = tmp_path / "python4"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/peer.py" "$@"\n')
    interpreter.chmod(0o755)
    poses = np.tile(np.eye(4), (7, 1, 1))
    answers = opencv_on_boards([(poses, poses), (poses[:4], poses[:4])], interpreter)
    assert answers["PARK"][:, 0, 3].tolist() == [7, 4]


def test_a_real_arm_misses_where_opencv_is_better_or_ours_lies_off_and_says_nothing():
    def row(px: float, mm: float, x_m: float) -> Row:
        X = np.eye(4)
        X[0, 3] = x_m
        return Row(np.full(3, px), np.full(3, mm), X)

    def measured(ours: Row, *said: str) -> Measured:
        sigma = SimpleNamespace(sigma_translation=np.array([1e-3, 0.0, 0.0]))
        kept = SimpleNamespace(result=SimpleNamespace(camera_pose=sigma), warnings=said, contradictions=())
        others = {"PARK": row(2.0, 1.5, 0.0), "SHAH": row(2.2, 1.0, 0.002), "LI": row(9.0, 9.0, 0.5)}
        return Measured(ours, others, kept, ())

    assert measured(row(2.0, 1.0, 0.001)).misses == []
    assert measured(row(2.2, 1.0, 0.001)).misses == ["px"]
    assert measured(row(2.0, 1.1, 0.001)).misses == ["mm"]
    assert measured(row(1.0, 0.5, 0.010)).misses == ["silent"]
    assert measured(row(1.0, 0.5, 0.010), "the arm's model is off").misses == []


def test_misses_follow_the_numbers():
    ours = bench.Score(0.3, 0.5, 0.02, sigma_ratio=1.0)
    fine = {"PARK": bench.Score(0.4, 0.6, 0.02)}
    assert bench.Outcome("A", ours, 0, fine, 0.35).misses == []
    assert bench.Outcome("A", ours, 0, {}, 0.25).misses == ["bar"]
    assert bench.Outcome("A", ours._replace(sigma_ratio=1.6), 0, {}, 0.35).misses == ["sigma"]
    better = {"PARK": bench.Score(0.2, 0.6, 0.02), "SHAH": bench.Score(0.9, 0.4, 0.02)}
    assert bench.Outcome("A", ours, 0, better, 0.35).misses == ["mean", "p95"]
    assert bench.Outcome("A", ours._replace(p95_sigma_mm=0.11), 0, better, 0.35).misses == ["mean"]
    held = ours._replace(held_out_px=1.2, corrected_px=1.0, sigma_ratio=2.5)
    peers = {"PARK": bench.Score(0.4, 0.6, 0.02, 1.1), bench.AS_MODELLED: bench.Score(0.1, 0.1, 0.02, 0.5)}
    assert bench.Outcome("G", held, 0, peers, None).misses == []
    peers["PARK"] = peers["PARK"]._replace(held_out_px=0.9)
    assert bench.Outcome("G", held, 0, peers, None).misses == ["held out"]


def test_held_out_pictures_judge_with_the_poses_as_reported():
    scene = make_scene(CASES["B"], 1)
    truth = bench.held_out_error_px([scene], [X])
    assert 0.3 * np.sqrt(2) < truth < 1.0  # corner noise and the robot's own
    assert bench.held_out_error_px([scene], [X @ small_pose(np.array([0, 0, 0, 0.003, 0, 0]))]) > 2 * truth
