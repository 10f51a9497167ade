"""`tacit bench calibration-real`: real arms, each fourth of the views left out in turn, and OpenCV.

Reads the folder `calibration` of TACIT_REAL_DATA as `tests/calibration/test_real_arms.py` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benches.calibration_peers import board_suiting, opencv_interpreter, opencv_on_boards
from tacit.config.arguments import NewFile, parse_words
from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.camera import PinholeCamera
from tacit.geometry.kinematics import fk_numpy
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import invert
from tacit.geometry.urdf import chain_from_urdf
from tacit_calibration.board import Board
from tacit_calibration.commands.from_poses import PAIR_LENS, PoseSource, views_of_poses
from tacit_calibration.commands.place import say, track
from tacit_calibration.detection import View
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.estimation.board_pose import board_poses
from tacit_calibration.estimation.degeneracy import carrier_poses
from tacit_calibration.estimation.increments import FloatArray
from tacit_calibration.estimation.rigid import mean_pose
from tacit_calibration.estimation.unsure import TYPICAL
from tacit_calibration.hand_eye import HandEyeData
from tacit_calibration.held_out import Judged, solve_by_held_out
from tacit_calibration.ways import errors_of

FOURTHS = 4
BAR = 1.05
SIGMAS = 3.0
USUAL = ("TSAI", "PARK", "HORAUD", "DANIILIDIS", "SHAH")
"""Andreff's and Li's methods lie centimetres off on some sets; nobody's answer is held against those."""
UR5_LENS = PinholeCamera(
    np.array([[1748.594, 0, 712.051], [0, 1749.605, 494.770], [0, 0, 1]]),
    (-0.28182, 0.19421, 0.0, 0.0, 0.0),
    1440,
    1080,
)
PANDA_BOARD = Board(5, 7, 34.0, 28.0)


@dataclass(frozen=True)
class Args:
    """Calibrate real arms and predict the views that were left out, beside OpenCV's methods."""

    data: Annotated[
        Path | None, tyro.conf.arg(help="Folder with the sets; $TACIT_REAL_DATA/calibration.")
    ] = None
    sets: Annotated[tuple[str, ...], tyro.conf.arg(help="Which sets; all if left out.")] = ()
    opencv_python: Annotated[
        Path | None, tyro.conf.arg(help="Interpreter with opencv-python-headless<5.")
    ] = None
    json: Annotated[NewFile | None, tyro.conf.arg(help="Write the numbers to this file too.")] = None


class Set(NamedTuple):
    """One real arm: its views, and how its geometry may be wrong (n, 6, m) where its joints are known."""

    data: HandEyeData
    arm_errors: FloatArray | None = None


class Row(NamedTuple):
    """Errors (n,) on views left out by one method, and where it puts the camera from all views (4, 4)."""

    px: FloatArray
    mm: FloatArray
    X: FloatArray

    @property
    def medians(self) -> tuple[float, float]:
        """Of pixels and of millimetres."""
        return float(np.median(self.px)), float(np.median(self.mm))


def ur5(folder: Path) -> Set:
    """Return twelve pictures of a chessboard by a camera that rides on a UR5."""
    rows = json.loads((folder / "ur5_chess_10x12" / "corners_12_views.json").read_text())
    views = [View(r["image"], np.array(r["corners_px"]), np.array(r["points_m"], np.float64)) for r in rows]
    return Set(
        HandEyeData(np.array([r["T_base_tcp"] for r in rows]), views, UR5_LENS, "eye_in_hand", TYPICAL)
    )


def ur5_pictures(folder: Path) -> Set:
    """Return the pictures of that arm with the corners that `handeye` finds in them."""
    path = folder / "ur5_chess_10x12"
    board = Board(12, 10, 42.4, pattern="checkerboard")
    found = views_of_poses(PoseSource(path, path), board, UR5_LENS, "eye_in_hand")
    return Set(HandEyeData(found.flange_poses, found.views, UR5_LENS, "eye_in_hand", TYPICAL))


def panda(folder: Path) -> Set:
    """Return twelve pairs of a Panda's pose as it reports it and of a ChArUco board in its camera."""
    rows = _panda_rows(folder)
    poses = np.array([row["O_T_EE"] for row in rows]).reshape(-1, 4, 4)
    U, _, Vt = np.linalg.svd(poses[:, :3, :3])  # printed with few digits
    poses[:, :3, :3] = U @ Vt
    camera = PinholeCamera(np.array(rows[0]["camera_intrinsics"]), tuple(rows[0]["dist_coeffs"]), 1280, 720)
    points, views = Board(5, 7, 34.0, 28.0).corners_m, list[View]()
    for row in rows:
        R = rotation_from_vector(np.ravel(row["T_cam_target_rvec"]))
        pixels = camera.project(points @ R.T + np.ravel(row["T_cam_target_tvec"]))
        views.append(View(f"{len(views):02d}", pixels, points))
    return Set(HandEyeData(poses, views, camera, "eye_in_hand", TYPICAL))


def panda_joints(folder: Path) -> Set:
    """Return the same with the flange where the joints put it in the arm's model."""
    names = [f"panda_joint{i}" for i in range(1, 8)]
    chain = chain_from_urdf((folder / "urdf" / "panda.urdf").read_text(), "panda_link0", "panda_link8", names)
    joints = np.array([row["joint_pose"] for row in _panda_rows(folder)])
    data = panda(folder).data._replace(flange_poses=fk_numpy(chain, joints))
    return Set(data, geometry_errors(chain, joints))


def moveit(folder: Path) -> Set:
    """Return the pairs of poses that MoveIt saved of an arm before a fixed camera."""
    found = views_of_poses(
        PoseSource(folder / "pose_pairs_moveit" / "pose_samples.json"),
        Board(5, 7, 34.0, 28.0),
        None,
        "eye_to_hand",
    )
    return Set(HandEyeData(found.flange_poses, found.views, PAIR_LENS, "eye_to_hand", TYPICAL))


def _panda_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "franka_joints").glob("pose_*.json"))]


SETS: dict[str, Callable[[Path], Set]] = {
    "ur5": ur5,
    "ur5-pictures": ur5_pictures,
    "panda": panda,
    "panda-joints": panda_joints,
    "moveit": moveit,
}


def main(argv: list[str]) -> int:
    """Print the table; 0 where every set is within the bar of OpenCV's best, and nothing silent."""
    args = parse_words(Args, argv, "tacit bench calibration-real")
    folder = args.data or Path(os.environ.get("TACIT_REAL_DATA", ""), "calibration")
    if not folder.is_dir():
        raise CalibrationError(
            f"--data {folder}: no such folder; TACIT_REAL_DATA or --data must name the sets"
        )
    for name in args.sets:
        if name not in SETS:
            raise CalibrationError(f"--sets: no set {name!r}; {did_you_mean(name, SETS)}")
    interpreter = opencv_interpreter(args.opencv_python)
    found = {name: Measured.of(SETS[name](folder), interpreter, name) for name in args.sets or tuple(SETS)}
    _print(found)
    if args.json is not None:
        args.json.write_text(json.dumps({name: one.numbers() for name, one in found.items()}, indent=2))
    return 1 if any(one.misses for one in found.values()) else 0


@dataclass(frozen=True, eq=False)
class Measured:
    """What one set gives.

    Attributes:
        ours: By the whole procedure, its choice of a way included.
        others: {method of OpenCV: its row}, with the board by the least pixels and in the mean.
        kept: The calibration from all views.
        ways: What the procedure kept without each fourth.
    """

    ours: Row
    others: dict[str, Row]
    kept: Judged
    ways: tuple[str, ...]

    @classmethod
    def of(cls, one: Set, interpreter: Path | None, name: str) -> Measured:
        """Return it for one set, OpenCV's methods where an interpreter has them."""
        data, n = one.data, len(one.data.views)
        masks = [np.arange(n) % FOURTHS == fold for fold in range(FOURTHS)]
        px, mm, ways = np.zeros(n), np.zeros(n), list[str]()
        for held in track(masks, f"{name}: ours"):
            columns = None if one.arm_errors is None else one.arm_errors[~held]
            kept, asked = solve_by_held_out(data.of(~held), columns), data.of(held)
            applied = one.arm_errors[held] if one.arm_errors is not None and kept.learnt else None
            px[held], mm[held] = errors_of(asked, kept.result.board_in_camera(asked.flange_poses, applied))
            ways.append(kept.trials[0].name if kept.trials else "not judged")
        whole = solve_by_held_out(data, one.arm_errors)
        others = {} if interpreter is None else opencv_rows(data, masks, interpreter)
        return cls(Row(px, mm, whole.result.T_parent_camera), others, whole, tuple(ways))

    @property
    def best(self) -> tuple[float, float]:
        """Least pixels and least millimetres of OpenCV's methods, each by its own best one."""
        rows = [row.medians for row in self.others.values()]
        return min((px for px, _ in rows), default=np.inf), min((mm for _, mm in rows), default=np.inf)

    @property
    def sigma_m(self) -> float:
        """Of the camera's place by our own account [m]."""
        return float(np.linalg.norm(self.kept.result.camera_pose.sigma_translation))

    def apart(self, name: str) -> float:
        """Return how far a method puts the camera from ours [m]."""
        return float(np.linalg.norm(self.others[name].X[:3, 3] - self.ours.X[:3, 3]))

    @property
    def nearest_and_farthest(self) -> tuple[float, float]:
        """Of the usual methods of OpenCV, in our sigmas."""
        apart = [self.apart(name) / self.sigma_m for name in USUAL if name in self.others]
        return min(apart, default=0.0), max(apart, default=0.0)

    @property
    def misses(self) -> list[str]:
        """What falls short of the bars."""
        (px, mm), (best_px, best_mm) = self.ours.medians, self.best
        silent = self.nearest_and_farthest[0] > SIGMAS and not (
            self.kept.warnings or self.kept.contradictions
        )
        checks = {"px": px > BAR * best_px, "mm": mm > BAR * best_mm, "silent": silent}
        return [name for name, missed in checks.items() if missed]

    def numbers(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "ours": self.ours.medians,
            "opencv": {name: row.medians for name, row in self.others.items()},
            "apart_mm": {name: 1e3 * self.apart(name) for name in USUAL if name in self.others},
            "sigma_mm": 1e3 * self.sigma_m,
            "camera_m": self.ours.X[:3, 3].tolist(),
            "kept": [*self.ways, self.kept.trials[0].name if self.kept.trials else "not judged"],
            "said": [*self.kept.contradictions, *self.kept.warnings],
            "misses": self.misses,
        }


def opencv_rows(data: HandEyeData, masks: list[NDArray[np.bool_]], interpreter: Path) -> dict[str, Row]:
    """Return the row of each of OpenCV's methods on the same views."""
    carrier, boards = carrier_poses(data.flange_poses, data.mounting), board_poses(data.views, data.camera)
    parts = [~held for held in masks] + [np.ones(len(boards), dtype=bool)]
    answers = opencv_on_boards([(carrier[part], boards[part]) for part in parts], interpreter)
    rows = {}
    for method, found in answers.items():
        if not np.isfinite(found).all():
            continue
        for suffix, by_pixels in (("", True), (", mean board", False)):
            px, mm = np.zeros(len(boards)), np.zeros(len(boards))
            for held, X in zip(masks, found, strict=False):
                if by_pixels:
                    B = board_suiting(carrier[~held], data.of(~held).views, data.camera, X)
                else:
                    B = mean_pose(carrier[~held] @ X @ boards[~held])
                px[held], mm[held] = errors_of(data.of(held), invert(carrier[held] @ X) @ B)
            rows[method + suffix] = Row(px, mm, found[-1])
    return rows


def _print(found: Mapping[str, Measured]) -> None:
    table = Table(
        *("set", "ours px / mm", "best of OpenCV", "ratio", "sigma mm", "apart, in sigmas", "kept", "misses"),
        title="Each fourth of the views left out in turn: medians; apart: nearest, farthest of OpenCV's five",
        title_justify="left",
        box=None,
    )
    for name, one in found.items():
        (px, mm), (best_px, best_mm), apart = one.ours.medians, one.best, one.nearest_and_farthest
        table.add_row(
            name,
            f"{px:.2f} / {mm:.2f}",
            f"{best_px:.2f} / {best_mm:.2f}",
            f"{px / best_px:.2f} / {mm / best_mm:.2f}",
            f"{1e3 * one.sigma_m:.2f}",
            f"{apart[0]:.1f}, {apart[1]:.1f}",
            one.kept.trials[0].name if one.kept.trials else "not judged",
            ", ".join(one.misses) or "none",
        )
    console = Console(highlight=False)
    console.width = max(console.width, 130)
    console.print(table)
    for name, one in found.items():
        for line in (*one.kept.contradictions, *one.kept.warnings):
            say(f"{name}: {line}")
