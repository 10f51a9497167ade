"""OpenCV's hand-eye methods on many scenes; run as a script by an interpreter that has OpenCV 4.x.

OpenCV 5.0 dropped them. Needs numpy and cv2 alone, nothing of tacit: `python bench_opencv.py in.npz
out.npz`. In: `flange_poses` (k, n, 4, 4), and `boards` (k, n, 4, 4), where rows of NaN fill up shorter
sets, or `pixels` (k, n, N, 2), `points` (N, 3), `K`, `D`. Out: one array (k, 4, 4) of T_flange_camera for
each method, NaN where it failed, and `version`.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

HAND_EYE = ("TSAI", "PARK", "HORAUD", "ANDREFF", "DANIILIDIS")
ROBOT_WORLD = ("SHAH", "LI")


def main(source: str, target: str) -> int:
    """Solve every scene by every method."""
    if not hasattr(cv2, "calibrateHandEye"):
        sys.stderr.write(f"OpenCV {cv2.__version__} has no calibrateHandEye; expected 4.x\n")
        return 2
    data = np.load(source, allow_pickle=False)
    answers: dict[str, list[np.ndarray]] = {name: [] for name in (*HAND_EYE, *ROBOT_WORLD)}
    for i, G in enumerate(data["flange_poses"]):
        if "boards" in data:
            C = data["boards"][i]
        else:
            C = np.array([board_pose(data["points"], p, data["K"], data["D"]) for p in data["pixels"][i]])
        there = np.isfinite(C).all(axis=(1, 2))
        for name in answers:
            answers[name].append(solve(name, G[there], C[there]))
    arrays: dict[str, Any] = {name: np.array(found) for name, found in answers.items()}
    np.savez(target, version=np.array(cv2.__version__), **arrays)
    return 0


def board_pose(points: np.ndarray, pixels: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Return T_camera_board (4, 4)."""
    _, rotation, translation = cv2.solvePnP(points, pixels, K, D)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], translation.ravel()
    return T


def solve(name: str, G: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Return T_flange_camera (4, 4) by one method, NaN where OpenCV gives up."""
    T = np.full((4, 4), np.nan)
    # By name: the type stubs of OpenCV 5 do not know them.
    hand_eye, robot_world = (getattr(cv2, f"calibrate{kind}") for kind in ("HandEye", "RobotWorldHandEye"))
    try:
        if name in HAND_EYE:
            method = getattr(cv2, f"CALIB_HAND_EYE_{name}")
            R, t = hand_eye(G[:, :3, :3], G[:, :3, 3], C[:, :3, :3], C[:, :3, 3], method=method)
        else:
            method = getattr(cv2, f"CALIB_ROBOT_WORLD_HAND_EYE_{name}")
            inverse = np.linalg.inv(G)
            _, _, R, t = robot_world(
                C[:, :3, :3], C[:, :3, 3], inverse[:, :3, :3], inverse[:, :3, 3], method=method
            )
            R, t = R.T, -R.T @ t  # OpenCV returns T_camera_gripper
    except cv2.error:
        return T
    T[:3, :3], T[:3, 3], T[3] = R, np.ravel(t), [0, 0, 0, 1]
    return T


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
