"""`tacit calibrate check`: is what a rig says believable, does it still hold, and do its joints turn so?"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.config.arguments import NewFile, Positive
from tacit.errors import CalibrationError, MissingDependencyError
from tacit.geometry.description import PACKAGE, in_package, read_description
from tacit.geometry.robot import Robot
from tacit.geometry.urdf import chain_from_urdf
from tacit.rig import RIGS_FOLDER, Rig, load_rig
from tacit_calibration.board import Board
from tacit_calibration.checks.drift import compare_rigs
from tacit_calibration.checks.joint_check import joint_moves, zero_offsets
from tacit_calibration.checks.kinematic_check import SAME_M, compare_chains, second_opinion
from tacit_calibration.checks.rig_check import check_records, check_rig, field_of_view_deg, views_of_sensors
from tacit_calibration.commands.place import Flat, say
from tacit_calibration.rig_update import known, record_of, with_joint_offsets, write_rig
from tacit_calibration.samples import RobotViews, read_samples

MIN_VIEWS_FOR_ZEROS = 12


@dataclass(frozen=True)
class CheckArgs:
    """Check a rig: plausible lenses, mounts and sensors, who sees whom, and the arms' kinematics twice.

    With --against, whether it has drifted from an older one; with --urdf, whether its kinematics are
    those of a URDF; with --samples and --camera, whether its joints turn as it says.
    """

    rig: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(help="Name of a shipped rig or path of a rig.yaml.")
    ]
    against: Annotated[str | None, tyro.conf.arg(help="Older rig of the same robot, by name or path.")] = None
    max_px: Annotated[Positive, tyro.conf.arg(help="Drift of boxes that is accepted (median).")] = 2.0
    urdf: Annotated[
        str | None, tyro.conf.arg(help="URDF or xacro of the arm: a file, or package://NAME/path in it.")
    ] = None
    xacro: Annotated[
        tuple[str, ...], tyro.conf.arg(help="Arguments of a xacro, such as ur_type:=ur5e prefix:=left_.")
    ] = ()
    base_link: Annotated[str, tyro.conf.arg(help="First link of the chain in the URDF.")] = "base_link"
    tip_link: Annotated[str, tyro.conf.arg(help="Last link of the chain in the URDF.")] = ""
    arm: Annotated[str, tyro.conf.arg(help="Arm for --urdf; the only one if left out.")] = ""
    samples: Annotated[
        Path | None, tyro.conf.arg(help="Samples with a board: single-joint moves, or many poses.")
    ] = None
    camera: Annotated[str, tyro.conf.arg(help="Calibrated camera of --samples.")] = ""
    rig_out: Annotated[NewFile | None, tyro.conf.arg(help="File for a rig with zero offsets found.")] = None
    board: Annotated[Board, Flat] = field(default_factory=Board)

    def run(self) -> int:
        """Print what is known and what looks wrong; 1 when anything does."""
        rig = load_rig(self.rig)
        wrong = _plausible(rig, self.rig) + _computed_twice(rig)
        if self.against is not None:
            wrong += _drift(load_rig(self.against), rig, self.max_px)
        if self.urdf is not None:
            wrong += self._kinematics(rig)
        if self.samples is not None:
            wrong += self._joints(rig, self.samples)
        for line in wrong:
            say(f"WRONG? {line}")
        say(f"{len(wrong)} to look at" if wrong else "nothing looks wrong")
        return 1 if wrong else 0

    def _kinematics(self, rig: Rig) -> list[str]:
        assert self.urdf is not None
        arm = self.arm or next(iter(rig.arms))
        known(rig, "arm", arm, rig.arms)
        path = in_package(self.urdf) if self.urdf.startswith(PACKAGE) else Path(self.urdf)
        if not self.tip_link or not path.is_file():
            raise CalibrationError(f"--urdf {self.urdf}: give a file, and --tip-link, the link of the flange")
        wrong = [word for word in self.xacro if ":=" not in word]
        if wrong:
            raise CalibrationError(f"--xacro {wrong[0]}: expected argument:=value")
        text = read_description(path, dict(word.split(":=", 1) for word in self.xacro))
        names = [joint.urdf_joint or joint.name for joint in rig.arms[arm].joints]
        other = chain_from_urdf(text, self.base_link, self.tip_link, names)
        found = compare_chains(Robot.from_rig(rig, arm).chain, other)
        say(
            f"  arms.{arm} against {path.name}: mean {1e3 * found.mean_m:.3f} mm "
            f"{found.mean_deg:.4f} deg, at most {1e3 * found.max_m:.3f} mm {found.max_deg:.4f} deg"
        )
        return [f"arms.{arm}: {line}" for line in found.differences(names)]

    def _joints(self, rig: Rig, folder: Path) -> list[str]:
        if not self.camera:
            raise CalibrationError("--samples: give --camera too, the calibrated camera that took them")
        known(rig, "camera", self.camera, rig.cameras)
        views = read_samples(folder, rig, self.board)
        wrong, moved = [], 0
        try:
            for move in joint_moves(rig, self.camera, views):
                moved += 1
                say(f"  {move.name}: moved {move.commanded_deg:+.1f} deg, seen {move.ratio:+.3f} of it")
                wrong += [f"{move.name}: {move.problem}"] if move.problem else []
        except CalibrationError as problem:
            if len(views.views) < MIN_VIEWS_FOR_ZEROS:
                raise
            say(f"  {problem}")
        if len(views.views) - moved >= MIN_VIEWS_FOR_ZEROS:
            wrong += self._zeros(rig, views)
        return wrong

    def _zeros(self, rig: Rig, views: RobotViews) -> list[str]:
        offsets = zero_offsets(rig, self.camera, views)
        for zero in offsets:
            say(f"  {zero.name}: zero {np.rad2deg(zero.offset):+.3f} +- {np.rad2deg(zero.sigma):.3f} deg")
        found = {zero.name: zero.offset for zero in offsets if zero.is_significant}
        if self.rig_out is not None:
            record = record_of(rig, "check", num_views=len(views.views))
            write_rig(with_joint_offsets(rig, views.arm, found, record), self.rig_out)
            say(f"wrote {self.rig_out} with {len(found)} offsets; calibrate its cameras anew")
        return [
            f"{name}: its zero is {np.rad2deg(offset):+.3f} deg elsewhere" for name, offset in found.items()
        ]


def _plausible(rig: Rig, source: str) -> list[str]:
    # Placeholders are marked in comments of the file, which the loaded rig no longer has.
    path = Path(source) if source.endswith((".yaml", ".yml")) else RIGS_FOLDER / f"{source}.yaml"
    say(f"{rig.name}: rig_id {rig.rig_id[:12]}, calibration_id {rig.calibration_id[:12]}")
    for name in rig.cameras:
        camera = rig.geometry.camera(name)
        say(f"  camera {name}: {camera.width}x{camera.height}, field {field_of_view_deg(camera):.1f} deg")
    for pair in views_of_sensors(rig):
        share = f"in {pair.seen:.0%} of states, its gel in {pair.facing:.0%}"
        say(f"  {pair.camera} sees {pair.sensor} {share}")
    for key, record in rig.calibrations.items():
        error = "" if record.rms_px is None else f", RMS {record.rms_px:.2f} px"
        say(f"  {key}: {record.method}, {record.date}{error}")
    now = datetime.datetime.now(datetime.timezone.utc)
    return [str(finding) for finding in (*check_rig(rig, path), *check_records(rig, now))]


def _computed_twice(rig: Rig) -> list[str]:
    """Compare the forward kinematics of every arm with another package's."""
    wrong = []
    for name, arm in rig.arms.items():
        try:
            found = second_opinion(arm)
        except MissingDependencyError as problem:
            say(f"  arm {name}: forward kinematics not computed a second time: {problem}")
            continue
        say(f"  arm {name}: forward kinematics {found}")
        if not found.agrees:
            wrong.append(
                f"arms.{name}: forward kinematics lies {found}; rounding explains {1e3 * SAME_M:g} "
                "mm and no more. Boxes computed with it are wrong: this is a fault of tacit, please report it"
            )
    return wrong


def _drift(old: Rig, new: Rig, max_px: float) -> list[str]:
    found = compare_rigs(old, new)
    for moved in found.moved:
        sure = {
            True: "more than its uncertainty",
            False: "within its uncertainty",
            None: "uncertainty unknown",
        }
        say(
            f"  {moved.path}: moved by {moved.millimetres:.2f} mm and {moved.degrees:.3f} deg, "
            f"{sure[moved.is_significant]}"
        )
    for (camera, sensor), (median, tail) in found.boxes_px.items():
        say(f"  box of {sensor} in {camera}: moved by {median:.2f} px (median), {tail:.2f} (95 %)")
    return [
        f"box of {sensor} in {camera} has drifted by {median:.1f} px, accepted {max_px:g}"
        for (camera, sensor), (median, _) in found.boxes_px.items()
        if median > max_px
    ]
