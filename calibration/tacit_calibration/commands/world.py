"""`tacit calibrate world`: where the second arm's base stands, from one thing that both arms know."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.errors import CalibrationError
from tacit_calibration.commands.corners import picture_in, with_best_corners
from tacit_calibration.commands.from_poses import say_turned_away
from tacit_calibration.commands.handeye import camera_pose, report
from tacit_calibration.commands.place import Flat, Where, Workplace, say, say_pose
from tacit_calibration.estimation.increments import exact
from tacit_calibration.hand_eye import HandEyeResult
from tacit_calibration.held_out import without_held_out
from tacit_calibration.rig_update import known, record_of, with_base
from tacit_calibration.samples import RobotViews, read_samples
from tacit_calibration.world import base_to_base


@dataclass(frozen=True)
class WorldArgs:
    """Find the base of a second arm in the world of the first.

    Either both wrist cameras saw one board that lay still, or one fixed camera saw a board on the
    flange of either arm. The first arm's base stays where the rig has it.
    """

    first: Annotated[str, tyro.conf.arg(help="Camera of the first arm.")]
    second: Annotated[str, tyro.conf.arg(help="Camera of the second arm; a fixed one may be the same.")]
    first_samples: Annotated[
        Path | None, tyro.conf.arg(help="Samples of the first arm; the session's <first> if left out.")
    ] = None
    second_samples: Annotated[
        Path | None, tyro.conf.arg(help="Samples of the second arm; the session's <second> if left out.")
    ] = None
    accept: Annotated[
        bool, tyro.conf.arg(help="Write a result that contradicts itself; read what it says first.")
    ] = False
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Solve both, chain them, write the base."""
        place = self.where.open()
        place.board.check_direction()
        solved = [
            self._solve(place, camera, folder)
            for camera, folder in ((self.first, self.first_samples), (self.second, self.second_samples))
        ]
        (one, views_one, _), (two, views_two, _) = solved
        if views_one.arm == views_two.arm:
            raise CalibrationError(
                f"both sets of samples move arm {views_one.arm!r}; give one of each arm "
                "(--first-samples, --second-samples)"
            )
        if any(contradicted for _, _, contradicted in solved) and not self.accept:
            say("nothing written; mend what is named, or write it all the same with --accept")
            return 1
        base = exact(np.asarray(place.rig.arms[views_one.arm].T_world_base)) @ base_to_base(one, two)
        say(f"\nfor the rig, under arms.{views_two.arm}:\n")
        say_pose("T_world_base", base.T)
        sigma_mm = 1e3 * float(np.linalg.norm(base.sigma_translation))
        sigma_deg = float(np.rad2deg(np.linalg.norm(base.sigma_rotation)))
        say(f"one sigma: {sigma_mm:.2f} mm, {sigma_deg:.3f} deg")
        record = record_of(
            place.rig,
            "world",
            parent="world",
            child=f"{views_two.arm} base",
            num_views=len(views_one.views) + len(views_two.views),
            rms_px=float(np.hypot(one.rms_px, two.rms_px) / np.sqrt(2)),
            sigma_mm=sigma_mm,
            sigma_deg=sigma_deg,
            board=place.board.name,
        )
        rig = with_base(place.rig, views_two.arm, base.T, record)
        data = record.model_dump() | {"T_world_base": base.T.tolist(), "covariance": base.covariance.tolist()}
        place.finish(rig, f"world-{views_two.arm}", data)
        return 0

    def _solve(
        self, place: Workplace, camera: str, samples: Path | None
    ) -> tuple[HandEyeResult, RobotViews, bool]:
        """Return one camera's place, the views behind it, and whether they contradict themselves."""
        known(place.rig, "camera", camera, place.rig.cameras)
        folder = place.samples(samples, camera)
        views = read_samples(folder, place.rig, place.board)
        say(f"arm {views.arm}, camera {camera}:")
        say_turned_away(views)
        lens = place.rig.geometry.camera(camera)
        views = with_best_corners(views, picture_in(folder), place.board, lens)
        solved, views = camera_pose(place.rig, camera, views)
        report(solved, views)
        contradictions = without_held_out(solved).contradictions
        for contradiction in contradictions:
            say(f"CONTRADICTION {contradiction}")
        return solved, views, bool(contradictions)
