"""`tacit bench calibration`: our hand-eye solver on synthetic robots, beside OpenCV's and plain bundle
adjustment, with the bars that it has to meet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from tacit.errors import CalibrationError, did_you_mean
from tacit.transforms import invert, pose_error
from tacit_calibration.bench_peers import (
    board_anchor,
    bundle_adjustment,
    opencv_interpreter,
    opencv_methods,
)
from tacit_calibration.bench_scenes import CAMERA, CASES, Case, Pictures, Scene, make_scene
from tacit_calibration.board_pose import Corners, residuals
from tacit_calibration.hand_eye import HandEyeResult, solve_hand_eye
from tacit_calibration.increments import FloatArray

LOW, HIGH = 0.7, 1.3
"""RMS error over RMS reported sigma: outside, the covariance is not honest."""
BUNDLE, ARM_TOO = "plain bundle adjustment", "ours with arm geometry"
TABLE_WIDTH = 110
OURS = BUNDLE, ARM_TOO
"""Everything else in a table is a method of OpenCV."""


@dataclass(frozen=True)
class Args:
    """Calibrate a wrist camera on synthetic robots and compare with OpenCV's methods."""

    seeds: Annotated[int, tyro.conf.arg(help="Robots per case; 100 decide, 10 give a first look.")] = 100
    cases: Annotated[str, tyro.conf.arg(help="Which of A to G.")] = "ABCDEFG"
    opencv_python: Annotated[
        Path | None,
        tyro.conf.arg(help="Interpreter with opencv-python-headless<5; OpenCV 5.0 has no hand-eye methods."),
    ] = None
    json: Annotated[Path | None, tyro.conf.arg(help="Write the numbers to this file too.")] = None


class Score(NamedTuple):
    """How far one method lies off over all seeds.

    `held_out_px` is its error on pictures not used; `sigma_ratio` the RMS error over the RMS reported
    sigma of the position, for methods that report one.
    """

    mean_mm: float
    p95_mm: float
    rotation_deg: float
    held_out_px: float | None = None
    sigma_ratio: float | None = None


@dataclass(frozen=True)
class Outcome:
    """One case: every method's score.

    Attributes:
        case: Its letter.
        ours: Our solver's score.
        num_dropped: Views that it left out, all of them good.
        others: Plain bundle adjustment, and OpenCV's methods where they could be run.
        bar_mm: What our mean must not exceed.
    """

    case: str
    ours: Score
    num_dropped: int
    others: dict[str, Score]
    bar_mm: float | None

    @property
    def opencv(self) -> dict[str, Score]:
        """Scores of OpenCV's methods."""
        return {name: score for name, score in self.others.items() if name not in OURS}

    @property
    def misses(self) -> list[str]:
        """What falls short: bar, any method of OpenCV, honesty; with a wrong arm the held-out error alone."""
        if self.bar_mm is None:
            pixels = [score.held_out_px or 0.0 for score in self.opencv.values()]
            return ["held out"] if (self.ours.held_out_px or 0.0) > min(pixels, default=np.inf) else []
        checks = {
            "bar": self.ours.mean_mm > self.bar_mm,
            "mean": self.ours.mean_mm > min((s.mean_mm for s in self.opencv.values()), default=np.inf),
            "p95": self.ours.p95_mm > min((s.p95_mm for s in self.opencv.values()), default=np.inf),
            "sigma": not LOW <= (self.ours.sigma_ratio or 1.0) <= HIGH,
        }
        return [name for name, missed in checks.items() if missed]


def main(argv: list[str]) -> int:
    """Measure, print a table; 0 when every bar is met, 1 when one is missed."""
    args = tyro.cli(Args, args=argv, prog="tacit bench calibration")
    unknown = next((name for name in args.cases if name not in CASES), None)
    if unknown is not None:
        raise CalibrationError(f"--cases: no case {unknown!r}; {did_you_mean(unknown, CASES)}")
    interpreter = opencv_interpreter(args.opencv_python)
    outcomes, version = [], ""
    for name in args.cases:
        scenes = [make_scene(CASES[name], seed) for seed in range(args.seeds)]
        answers: dict[str, FloatArray] = {}
        if interpreter is not None:
            version, answers = opencv_methods([scene.taken for scene in scenes], interpreter)
        outcomes.append(measure(name, CASES[name], scenes, answers))
    _print(outcomes, args.seeds, version)
    if args.json is not None:
        data = {"seeds": args.seeds, "opencv": version, "cases": [_as_dict(o) for o in outcomes]}
        args.json.write_text(json.dumps(data, indent=2))
    return 1 if any(outcome.misses for outcome in outcomes) else 0


def measure(name: str, case: Case, scenes: Sequence[Scene], answers: Mapping[str, FloatArray]) -> Outcome:
    """Solve every scene of a case by our solver and by bundle adjustment; score all methods.

    Args:
        name: Of the case.
        case: What it is.
        scenes: k of them.
        answers: T_flange_camera (k, 4, 4) by OpenCV's methods.
    """
    found = [_solve(scene.taken) for scene in scenes]
    adjusted = [bundle_adjustment(scene.taken) for scene in scenes]
    others = {BUNDLE: _score(scenes, [X for X, _ in adjusted], [B for _, B in adjusted], case.kinematic)}
    for method, Xs in answers.items():
        anchors = (
            [board_anchor(s.taken, X) for s, X in zip(scenes, Xs, strict=True)] if case.kinematic else []
        )
        others[method] = _score(scenes, list(Xs), anchors, case.kinematic)
    if case.kinematic:
        others[ARM_TOO] = _score_with_arm(scenes)
    cameras, boards = [r.T_parent_camera for r in found], [r.T_anchor_board for r in found]
    ours = _score(scenes, cameras, boards, case.kinematic)
    ours = ours._replace(sigma_ratio=_sigma_ratio(scenes, found))
    dropped = sum(len(result.dropped) for result in found)
    return Outcome(name, ours, dropped, others, case.bar_mm)


def _solve(pictures: Pictures, arm_errors: FloatArray | None = None) -> HandEyeResult:
    return solve_hand_eye(pictures.flange_poses, pictures.views, CAMERA, "eye_in_hand", arm_errors=arm_errors)


def _errors(scenes: Sequence[Scene], answers: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return how far answers (k, 4, 4) lie from the truth: [m], [rad]; inf where a method failed."""
    error = pose_error(np.array([scene.X for scene in scenes]), np.asarray(answers))
    return tuple(np.nan_to_num(part, nan=np.inf) for part in error)  # type: ignore[return-value]


def _score(
    scenes: Sequence[Scene], Xs: Sequence[FloatArray], Bs: Sequence[FloatArray], held_out: bool
) -> Score:
    metres, radians = _errors(scenes, Xs)
    pixels = None
    if held_out:
        poses = [invert(s.held_out.flange_poses @ X) @ B for s, X, B in zip(scenes, Xs, Bs, strict=True)]
        pixels = _held_out_px(scenes, poses)
    return Score(
        1e3 * float(np.mean(metres)),
        1e3 * float(np.percentile(metres, 95)),
        float(np.rad2deg(np.mean(radians))),
        pixels,
    )


def _score_with_arm(scenes: Sequence[Scene]) -> Score:
    """Score our solver with the arm's geometry estimated too, held out with the robot so corrected."""
    found = [_solve(scene.taken, scene.taken.arm_errors) for scene in scenes]
    score = _score(scenes, [result.T_parent_camera for result in found], [], False)
    poses = [
        result.board_in_camera(scene.held_out.flange_poses, scene.held_out.arm_errors)
        for scene, result in zip(scenes, found, strict=True)
    ]
    return score._replace(held_out_px=_held_out_px(scenes, poses), sigma_ratio=_sigma_ratio(scenes, found))


def _sigma_ratio(scenes: Sequence[Scene], found: Sequence[HandEyeResult]) -> float:
    metres, _ = _errors(scenes, [result.T_parent_camera for result in found])
    variances = [np.sum(result.sigma_translation**2) for result in found]
    return float(np.sqrt(np.mean(metres**2) / np.mean(variances)))


def _held_out_px(scenes: Sequence[Scene], poses: Sequence[FloatArray]) -> float:
    """Return the RMS error on the held-out pictures for boards T_camera_board (n, 4, 4) of each scene."""
    found = [
        residuals(Corners.of(scene.held_out.views), CAMERA, boards)
        for scene, boards in zip(scenes, poses, strict=True)
    ]
    return float(np.sqrt(np.mean(np.sum(np.concatenate(found) ** 2, axis=1))))


def _as_dict(outcome: Outcome) -> dict[str, object]:
    others = {name: score._asdict() for name, score in outcome.others.items()}
    return {
        "case": outcome.case,
        "bar_mm": outcome.bar_mm,
        "ours": outcome.ours._asdict(),
        "num_dropped": outcome.num_dropped,
        "others": others,
        "misses": outcome.misses,
    }


def _print(outcomes: Sequence[Outcome], seeds: int, version: str) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    title = f"Camera position error, mean / 95 % in mm, {seeds} seeds; OpenCV {version or 'not run'}"
    columns = ("case", "ours", "bar", "best of OpenCV", "bundle adj.", "deg", "error/sigma", "misses")
    table = Table(*columns, title=title, title_justify="left", box=None)
    for outcome in outcomes:
        table.add_row(*_cells(outcome))
    console.print(table)
    if not version:
        console.print("for OpenCV's methods give --opencv-python an interpreter with OpenCV 4.x")
    for outcome in outcomes:
        if outcome.ours.held_out_px is not None:
            console.print(_held_out_table(outcome))


def _cells(outcome: Outcome) -> list[str]:
    opencv, bundle = outcome.opencv, outcome.others[BUNDLE]
    best = min(opencv, key=lambda name: opencv[name].mean_mm) if opencv else None
    p95 = min((score.p95_mm for score in opencv.values()), default=np.nan)
    return [
        outcome.case,
        f"{outcome.ours.mean_mm:.3f} / {outcome.ours.p95_mm:.3f}",
        "" if outcome.bar_mm is None else f"{outcome.bar_mm:.2f}",
        "" if best is None else f"{opencv[best].mean_mm:.3f} / {p95:.3f} ({best})",
        f"{bundle.mean_mm:.3f} / {bundle.p95_mm:.3f}",
        f"{outcome.ours.rotation_deg:.3f}",
        f"{outcome.ours.sigma_ratio:.2f}",
        ", ".join(outcome.misses) or "none",
    ]


def _held_out_table(outcome: Outcome) -> Table:
    title = f"Case {outcome.case}: a wrong arm; RMS on pictures not used, position error"
    columns = ("method", "px", "mm", "95 %", "error/sigma")
    table = Table(*columns, title=title, title_justify="left", box=None)
    for name, score in {"ours": outcome.ours, **outcome.others}.items():
        ratio = "" if score.sigma_ratio is None else f"{score.sigma_ratio:.2f}"
        table.add_row(name, f"{score.held_out_px:.2f}", f"{score.mean_mm:.3f}", f"{score.p95_mm:.3f}", ratio)
    return table
