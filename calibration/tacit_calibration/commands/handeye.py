"""`tacit calibrate handeye`: pictures and joints to the pose of a camera."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
import yaml

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_to_quaternion
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit_calibration.commands.corners import picture_in, with_best_corners
from tacit_calibration.commands.from_poses import (
    PAIR_LENS,
    PoseSource,
    right_way_up,
    say_turned_away,
    sha256_of_poses,
    views_of_poses,
)
from tacit_calibration.commands.judge import judge
from tacit_calibration.commands.moved import say_move
from tacit_calibration.commands.place import Flat, Where, Workplace, say, say_pose
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.estimation.diagnosis import explain_joints
from tacit_calibration.estimation.unsure import TYPICAL, Unsure
from tacit_calibration.hand_eye import HandEyeResult, Mounting, solve_hand_eye
from tacit_calibration.held_out import Judged, without_held_out
from tacit_calibration.imports import arm_of
from tacit_calibration.lens_files import read_lens
from tacit_calibration.pictures import hand_eye_picture
from tacit_calibration.rig_update import known, record_of, with_camera_pose
from tacit_calibration.samples import RobotViews, read_samples, sha256_of


@dataclass(frozen=True)
class HandEyeArgs:
    """Find where a camera sits, from pictures of the board and the joints they were taken at."""

    camera: Annotated[str, tyro.conf.arg(help="Name of the camera; its parent says where it sits.")]
    samples: Annotated[
        Path | None, tyro.conf.arg(help="Folder with samples.yaml; the session's if left out.")
    ] = None
    poses: Annotated[
        Path | None,
        tyro.conf.arg(
            help="Robot poses instead of joints: CSV, JSON, YAML, lines as a controller prints them, or "
            "a folder with a file for each picture, or a ROS bag with tf. Units and convention are found "
            "and said."
        ),
    ] = None
    images: Annotated[
        Path | None, tyro.conf.arg(help="Folder with the pictures of --poses; not needed for pose pairs.")
    ] = None
    frames: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            help="In a bag: frames of base and flange, then those of camera and board where tf has the "
            "board and no pictures are wanted."
        ),
    ] = ()
    topic: Annotated[
        str, tyro.conf.arg(help="In a bag: topic of the pictures; the only one if left out.")
    ] = ""
    lens: Annotated[
        Path | None, tyro.conf.arg(help="camera_info file with the lens, where the rig does not hold it.")
    ] = None
    mounting: Annotated[
        Mounting | None, tyro.conf.arg(help="Where the camera sits, where no rig says it.")
    ] = None
    out: Annotated[
        Path | None, tyro.conf.arg(help="With --poses and no rig: file for the result (YAML).")
    ] = None
    held_out: Annotated[bool, tyro.conf.arg(help="Judge by views left out of the fit; some seconds.")] = True
    accept: Annotated[
        bool, tyro.conf.arg(help="Write a result that contradicts itself; read what it says first.")
    ] = False
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Solve, print the pose with its sigma, and write the rig; 1 where it contradicts itself."""
        if self.poses is not None and self.where.rig is None and self.where.session is None:
            return self._without_rig(self.poses)
        place = self.where.open()
        known(place.rig, "camera", self.camera, place.rig.cameras)
        lens = place.rig.geometry.camera(self.camera) if self.lens is None else read_lens(self.lens)
        parent = place.rig.cameras[self.camera].parent
        mounting: Mounting = "eye_to_hand" if parent == "world" else "eye_in_hand"
        unsure = _unsure(place, self.camera)
        if self.poses is not None:
            arm = arm_of(place.rig, self.camera)
            robot = Robot.from_rig(place.rig, arm)
            table = views_of_poses(self._source(self.poses), place.board, lens, mounting, robot)
            views, columns = replace(table, arm=arm), None
            solved = solve_hand_eye(views.flange_poses, views.views, lens, mounting, unsure)
            digest = sha256_of_poses(self.poses)
        else:
            folder = place.samples(self.samples, self.camera)
            views = read_samples(folder, place.rig, place.board)
            say_turned_away(views)
            views = right_way_up(views, place.board, lens, mounting)
            views = with_best_corners(views, picture_in(folder), place.board, lens)
            solved, views = camera_pose(place.rig, self.camera, views, unsure)
            columns = geometry_errors(Robot.from_rig(place.rig, views.arm).chain, views.joints)
            digest = sha256_of(folder)
        kept, record = self._judged(lens, views, solved, columns, unsure)
        T = rig_pose(place.rig, self.camera, views.arm, kept.result)
        before = np.asarray(place.rig.cameras[self.camera].T_parent_camera)
        recorded = f"cameras.{self.camera}.pose" in place.rig.calibrations
        say_move(before, T, recorded, parent if parent == "world" else "flange")
        say(f"\nfor the rig, under cameras.{self.camera}:\n")
        say_pose("T_parent_camera", T)
        if self._refused(kept):
            return 1
        self._finish(place, kept.result, views, T, digest, record)
        return 1 if kept.contradictions else 0

    def _without_rig(self, poses: Path) -> int:
        """Calibrate from a table of poses alone: no arm's model is needed, and no rig is written."""
        if self.mounting is None:
            raise CalibrationError("--mounting is missing: say eye_in_hand or eye_to_hand, or give --rig")
        lens = None if self.lens is None else read_lens(self.lens)
        views = views_of_poses(self._source(poses), self.where.given_board, lens, self.mounting)
        lens = lens or PAIR_LENS
        solved = solve_hand_eye(views.flange_poses, views.views, lens, self.mounting, TYPICAL)
        kept, record = self._judged(lens, views, solved, None, TYPICAL)
        T = kept.result.T_parent_camera
        say(f"\nthe camera in the {'flange' if self.mounting == 'eye_in_hand' else 'base'}:\n")
        say_pose("T_parent_camera", T)
        if self._refused(kept):
            return 1
        if self.out is not None:
            data = _numbers(kept.result, T) | {"inputs_sha256": sha256_of_poses(poses)} | record
            self.out.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
            say(f"wrote {self.out}")
        else:
            say("nothing written; --out FILE keeps it, --rig with --rig-out puts it into a rig")
        return 1 if kept.contradictions else 0

    def _source(self, poses: Path) -> PoseSource:
        return PoseSource(poses, self.images, self.frames, self.topic)

    def _judged(
        self,
        lens: Camera,
        views: RobotViews,
        solved: HandEyeResult,
        columns: FloatArray | None,
        unsure: Unsure,
    ) -> tuple[Judged, dict[str, Any]]:
        if self.held_out:
            kept, record = judge(lens, views, solved, columns, unsure)
        else:
            kept, record = without_held_out(solved), {}
        report(kept.result, views)
        say(f"sigma holds a lens known within {unsure.focal:.2%} and a board within {unsure.size:.2%}")
        return kept, record

    def _refused(self, kept: Judged) -> bool:
        """Say what contradicts the result, and whether it is therefore not written."""
        for contradiction in kept.contradictions:
            say(f"CONTRADICTION {contradiction}")
        if kept.contradictions and not self.accept:
            say("nothing written; mend what is named, or write it all the same with --accept")
            return True
        return False

    def _finish(
        self,
        place: Workplace,
        solved: HandEyeResult,
        views: RobotViews,
        T: FloatArray,
        digest: str,
        judged: dict[str, Any],
    ) -> None:
        record = record_of(
            place.rig,
            "handeye",
            parent=place.rig.cameras[self.camera].parent,
            child=f"{self.camera} optical frame",
            num_views=int(np.count_nonzero(solved.used)),
            rms_px=solved.rms_px,
            held_out_px=judged.get("held_out_px"),
            sigma_mm=1e3 * float(np.linalg.norm(solved.camera_pose.sigma_translation)),
            sigma_deg=float(np.rad2deg(np.linalg.norm(solved.camera_pose.sigma_rotation))),
            board=place.board.name,
            inputs_sha256=digest,
        )
        data = record.model_dump() | _numbers(solved, T) | judged
        rig = with_camera_pose(place.rig, self.camera, T, record)
        picture = hand_eye_picture(solved, views.views, views.width, views.height)
        place.finish(rig, f"handeye-{self.camera}", data, picture)


def _unsure(place: Workplace, camera: str) -> Unsure:
    """Return how well lens and board are known: the lens by its calibration in this session, if any."""
    found = {} if place.session is None else place.session.results().get(f"intrinsics-{camera}", {})
    if "focal_sigma_px" not in found:
        return TYPICAL
    # Statistics of one fit know nothing of a lens that is not quite what its model says.
    focal = found["focal_sigma_px"][0] / found["camera"]["camera_matrix"]["data"][0]
    return TYPICAL._replace(focal=max(focal, TYPICAL.focal / 4))


def _numbers(solved: HandEyeResult, T: FloatArray) -> dict[str, Any]:
    """Return a result as plain data."""
    return {
        "schema_version": "tacit-extrinsics 1",
        "T_parent_camera": T.tolist(),
        "translation_m": T[:3, 3].tolist(),
        "quaternion_xyzw": rotation_to_quaternion(T[:3, :3]).tolist(),
        "covariance": solved.covariance[:6, :6].tolist(),
        "T_anchor_board": solved.T_anchor_board.tolist(),
        "noise": {
            "pixel": solved.noise.pixel,
            "rotation_deg": float(np.rad2deg(solved.noise.rotation)),
            "translation_mm": 1e3 * solved.noise.translation,
        },
        "views_px": dict(zip(solved.names, solved.view_rms_px.tolist(), strict=True)),
        "dropped_px": solved.dropped,
        "warnings": list(solved.warnings),
    }


def camera_pose(
    rig: Rig, name: str, views: RobotViews, unsure: Unsure = TYPICAL
) -> tuple[HandEyeResult, RobotViews]:
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
    try:
        return solve_hand_eye(views.flange_poses, views.views, camera, mounting, unsure), views
    except CalibrationError as problem:
        robot = Robot.from_rig(rig, views.arm)
        mistake = explain_joints(robot, views.joints, views.views, camera, mounting) if views.views else None
        if mistake is None:
            raise
        raise CalibrationError(f"{problem}\n{mistake}") from None


def rig_pose(rig: Rig, name: str, arm: str, solved: HandEyeResult) -> FloatArray:
    """Return T_parent_camera (4, 4) as the rig wants it: a fixed camera stands in the world."""
    if rig.cameras[name].parent != "world":
        return solved.T_parent_camera
    return np.asarray(rig.arms[arm].T_world_base) @ solved.T_parent_camera


def report(solved: HandEyeResult, views: RobotViews) -> None:
    """Say how good a camera pose is."""
    for view, error, used in zip(views.views, solved.view_rms_px, solved.used, strict=True):
        say(f"  {view.name}: {error:.2f} px" + ("" if used else "  left out: contradicts the others"))
    noise = solved.noise
    say(f"{len(views.views)} views, RMS {solved.rms_px:.2f} px with the joints as measured")
    say(
        f"noise: corners {noise.pixel:.2f} px, robot {np.rad2deg(noise.rotation):.3f} deg and "
        f"{1e3 * noise.translation:.2f} mm per axis"
    )
    degrees = np.rad2deg(np.linalg.norm(solved.camera_pose.sigma_rotation))
    say(f"one sigma: {1e3 * np.linalg.norm(solved.camera_pose.sigma_translation):.2f} mm, {degrees:.3f} deg")
    say(
        f"by the arm's moves squares are {solved.size:.4f} +- {solved.size_sigma:.4f} times as large as given"
    )
    for warning in solved.warnings:
        say(f"WARNING {warning}")
