"""`tacit calibrate board | intrinsics | handeye | check`: arguments in, files and a short report out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Union

import numpy as np
import tyro
import yaml

from tacit.camera import Camera
from tacit.camera_info import camera_to_yaml_dict
from tacit.errors import CalibrationError, did_you_mean
from tacit.rig import RIGS_FOLDER, Rig, load_rig, parse_rig
from tacit.transforms import FloatArray
from tacit_calibration.board import Board
from tacit_calibration.board_files import page_size_mm, write_board
from tacit_calibration.detection import detect_folder
from tacit_calibration.hand_eye import HandEyeResult, Mounting, solve_hand_eye
from tacit_calibration.intrinsics import IntrinsicsResult, LensModel, calibrate_intrinsics
from tacit_calibration.rig_check import check_rig, field_of_view_deg, views_of_sensors
from tacit_calibration.samples import RobotViews, read_samples

Flat = tyro.conf.OmitArgPrefixes


@dataclass(frozen=True)
class BoardArgs:
    """Write a ChArUco board as PDF, SVG and PNG in exact millimetres."""

    out: Annotated[Path, tyro.conf.arg(help="Folder for the files.")] = Path(".")
    board: Annotated[Board, Flat] = field(default_factory=Board)

    def run(self) -> int:
        """Write the files."""
        for path in write_board(self.board, self.out):
            _say(str(path))
        width, height = page_size_mm(self.board)
        _say(f"page {width:g} x {height:g} mm; print at 100 %, measure the bar, glue to something flat")
        return 0


@dataclass(frozen=True)
class IntrinsicsArgs:
    """Fit K and D of a pinhole camera from pictures of the board."""

    images: Annotated[Path, tyro.conf.arg(help="Folder of PNG or JPEG pictures of the board.")]
    camera: Annotated[str, tyro.conf.arg(help="Name of the camera, as in the rig.")] = "camera"
    model: Annotated[LensModel, tyro.conf.arg(help="rational: 8 coefficients, for wide lenses.")] = (
        "plumb_bob"
    )
    out: Annotated[Path | None, tyro.conf.arg(help="camera_info file; default <camera>.yaml.")] = None
    rig: Annotated[str | None, tyro.conf.arg(help="Rig, by name or path, to put the result into.")] = None
    rig_out: Annotated[Path | None, tyro.conf.arg(help="File for that rig; comments are lost.")] = None
    board: Annotated[Board, Flat] = field(default_factory=Board)

    def run(self) -> int:
        """Calibrate, write the camera_info file, and print or write the part of the rig."""
        if (self.rig is None) != (self.rig_out is None):
            raise CalibrationError("--rig and --rig-out belong together: which rig, and where to write it")
        detections = detect_folder(self.images, self.board)
        result = calibrate_intrinsics(detections, self.model)
        _report(result, detections.without_board)
        out = self.out or Path(f"{self.camera}.yaml")
        out.write_text(yaml.safe_dump(camera_to_yaml_dict(result.camera, self.camera), sort_keys=False))
        _say(f"\nwrote {out} (ROS camera_info); for the rig, under cameras.{self.camera}:\n")
        _say(rig_snippet(result.camera))
        if self.rig is not None and self.rig_out is not None:
            rig = with_intrinsics(load_rig(self.rig), self.camera, result.camera)
            self.rig_out.write_text(rig.to_yaml(), encoding="utf-8")
            _say(f"wrote {self.rig_out}; calibration_id {rig.calibration_id[:12]}")
        return 0


@dataclass(frozen=True)
class HandEyeArgs:
    """Find where a camera sits, from pictures of the board and the joints they were taken at."""

    samples: Annotated[Path, tyro.conf.arg(help="Folder with samples.yaml and its pictures.")]
    rig: Annotated[str, tyro.conf.arg(help="Rig, by name or path, with the camera's K and D.")]
    camera: Annotated[str, tyro.conf.arg(help="Name of the camera; its parent says where it sits.")]
    rig_out: Annotated[Path | None, tyro.conf.arg(help="File for the new rig; comments are lost.")] = None
    board: Annotated[Board, Flat] = field(default_factory=Board)

    def run(self) -> int:
        """Solve, print the pose with its sigma, and write the rig where asked."""
        rig = load_rig(self.rig)
        if self.camera not in rig.cameras:
            raise CalibrationError(f"--camera: no {self.camera!r}; {did_you_mean(self.camera, rig.cameras)}")
        solved, views = camera_pose(rig, self.camera, read_samples(self.samples, rig, self.board))
        _report_pose(solved, views)
        T = rig_pose(rig, self.camera, views.arm, solved)
        _say(f"\nfor the rig, under cameras.{self.camera}:\n\n    T_parent_camera:")
        for row in T:
            _say(f"    - [{', '.join(f'{value:.9f}' for value in row)}]")
        if self.rig_out is not None:
            self.rig_out.write_text(with_camera(rig, self.camera, T_parent_camera=T.tolist()).to_yaml())
            _say(f"wrote {self.rig_out}")
        return 0


@dataclass(frozen=True)
class CheckArgs:
    """Check a rig's calibration: plausible lenses, mounts and sensors, and who sees whom."""

    rig: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(help="Name of a shipped rig or path of a rig.yaml.")
    ]

    def run(self) -> int:
        """Print what is known and what looks wrong; 1 when anything does."""
        rig = load_rig(self.rig)
        path = Path(self.rig) if self.rig.endswith((".yaml", ".yml")) else RIGS_FOLDER / f"{self.rig}.yaml"
        _say(f"{rig.name}: rig_id {rig.rig_id[:12]}, calibration_id {rig.calibration_id[:12]}")
        for name in rig.cameras:
            camera = rig.geometry.camera(name)
            _say(
                f"  camera {name}: {camera.width}x{camera.height}, field {field_of_view_deg(camera):.1f} deg"
            )
        for pair in views_of_sensors(rig):
            share = f"in {pair.seen:.0%} of states, its gel in {pair.facing:.0%}"
            _say(f"  {pair.camera} sees {pair.sensor} {share}")
        findings = check_rig(rig, path)
        for finding in findings:
            _say(f"WRONG? {finding}")
        _say(f"{len(findings)} to look at" if findings else "nothing looks wrong")
        return 1 if findings else 0


Command = Union[  # noqa: UP007  Annotated members of X | Y need Python 3.11
    Annotated[BoardArgs, tyro.conf.subcommand("board")],
    Annotated[IntrinsicsArgs, tyro.conf.subcommand("intrinsics")],
    Annotated[HandEyeArgs, tyro.conf.subcommand("handeye")],
    Annotated[CheckArgs, tyro.conf.subcommand("check")],
]


def main(argv: list[str]) -> int:
    """Run `tacit calibrate <command>`; 0 done, 1 the check found something, 2 wrong arguments."""
    command: BoardArgs | IntrinsicsArgs | HandEyeArgs | CheckArgs = tyro.cli(
        Command,  # type: ignore[arg-type]
        args=argv,
        prog="tacit calibrate",
        description="Print a board, calibrate lenses and camera poses, check a rig.",
    )
    return command.run()


def rig_snippet(camera: Camera) -> str:
    """Return the lines of a rig's camera entry that describe the lens."""
    rows = "\n".join(f"    - [{', '.join(f'{value:.6f}' for value in row)}]" for row in camera.K)
    D = ", ".join(f"{value:.8f}" for value in camera.D)
    size = f"    width: {camera.width}\n    height: {camera.height}\n"
    return f"{size}    model: pinhole\n    K:\n{rows}\n    D: [{D}]\n"


def with_intrinsics(rig: Rig, name: str, camera: Camera) -> Rig:
    """Return the rig with K and D of one camera replaced, scaled to its stored image size.

    Raises:
        CalibrationError: No such camera, or pictures of another aspect than the stored images.
    """
    if name not in rig.cameras:
        raise CalibrationError(f"rig {rig.name}: no camera {name!r}; {did_you_mean(name, rig.cameras)}")
    spec = rig.cameras[name]
    if camera.width * spec.height != camera.height * spec.width:
        raise CalibrationError(
            f"pictures are {camera.width}x{camera.height}, cameras.{name} stores {spec.width}x{spec.height}: "
            "another aspect means a crop; calibrate with pictures of the stored size"
        )
    scaled = camera.scaled(spec.width, spec.height)
    return with_camera(rig, name, K=scaled.K.tolist(), D=list(scaled.D), model="pinhole")


def with_camera(rig: Rig, name: str, **changes: object) -> Rig:
    """Return the rig with some fields of one camera replaced."""
    data = rig.model_dump(mode="json")
    data["cameras"][name] |= changes
    return parse_rig(data, f"{rig.name} with a new {name}")


def camera_pose(rig: Rig, name: str, views: RobotViews) -> tuple[HandEyeResult, RobotViews]:
    """Solve for one camera; its parent in the rig says whether it rides on the arm.

    Raises:
        CalibrationError: It rides on another arm, or the pictures have another size.
    """
    camera, parent = rig.geometry.camera(name), rig.cameras[name].parent
    if parent not in ("world", f"{views.arm}.flange"):
        raise CalibrationError(f"cameras.{name} sits on {parent}, the samples move arm {views.arm!r}")
    if (camera.width, camera.height) != (views.width, views.height):
        raise CalibrationError(
            f"pictures are {views.width}x{views.height}, cameras.{name} stores {camera.width}x{camera.height}"
        )
    mounting: Mounting = "eye_to_hand" if parent == "world" else "eye_in_hand"
    return solve_hand_eye(views.flange_poses, views.views, camera, mounting), views


def rig_pose(rig: Rig, name: str, arm: str, solved: HandEyeResult) -> FloatArray:
    """Return T_parent_camera (4, 4) as the rig wants it: a fixed camera stands in the world."""
    if rig.cameras[name].parent != "world":
        return solved.T_parent_camera
    return np.asarray(rig.arms[arm].T_world_base) @ solved.T_parent_camera


def _report_pose(solved: HandEyeResult, views: RobotViews) -> None:
    for name in views.without_board:
        _say(f"skipped {name}: fewer than 8 corners found")
    for view, error in zip(views.views, solved.view_rms_px, strict=True):
        _say(f"  {view.name}: {error:.2f} px")
    noise = solved.noise
    _say(f"{len(views.views)} views, RMS {solved.rms_px:.2f} px with the joints as measured")
    _say(
        f"noise: corners {noise.pixel:.2f} px, robot {np.rad2deg(noise.rotation):.3f} deg and "
        f"{1e3 * noise.translation:.2f} mm per axis"
    )
    degrees = np.rad2deg(np.linalg.norm(solved.sigma_rotation))
    _say(f"one sigma: {1e3 * np.linalg.norm(solved.sigma_translation):.2f} mm, {degrees:.3f} deg")


def _report(result: IntrinsicsResult, without_board: tuple[str, ...]) -> None:
    camera = result.camera
    for name, error in sorted(result.dropped.items()):
        _say(f"dropped {name}: {error:.2f} px, does not fit the other views")
    for name in without_board:
        _say(f"skipped {name}: fewer than 8 corners found")
    _say(f"{len(result.views)} views used, tilt up to {result.tilt_deg:.0f} deg")
    _say(
        f"image covered by corners: {result.coverage:.0%}"
        + (" (aim at 70 % and more)" if result.coverage < 0.7 else "")
    )
    _say(f"RMS {result.rms_px:.3f} px, held out {result.held_out_rms_px:.3f} px")
    sigma = result.focal_sigma_px
    _say(f"fx {camera.K[0, 0]:.2f} +- {sigma[0]:.2f} px, fy {camera.K[1, 1]:.2f} +- {sigma[1]:.2f} px")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
