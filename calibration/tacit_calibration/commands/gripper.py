"""`tacit calibrate gripper`: what the driver's value means in metres of opening."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.errors import CalibrationError
from tacit_calibration.commands.place import Flat, Where, Workplace, say
from tacit_calibration.rig_update import known, record_of, with_gripper
from tacit_calibration.touch.clicks import FILE_NAME, read_clicks
from tacit_calibration.touch.gripper_model import GripperFit, fit_gripper, read_openings
from tacit_calibration.touch.sensor_offset import solve_openings
from tacit_calibration.touch.touch_views import touch_views


@dataclass(frozen=True)
class GripperArgs:
    """Fit the opening model: from a caliper's values, or from clicked gel corners."""

    camera: Annotated[str, tyro.conf.arg(help="Calibrated camera that saw the gels.")] = ""
    measured: Annotated[
        Path | None, tyro.conf.arg(help="CSV with raw,opening_mm, measured with a caliper.")
    ] = None
    arm: Annotated[str, tyro.conf.arg(help="Arm with the gripper; the only one if left out.")] = ""
    samples: Annotated[
        Path | None, tyro.conf.arg(help="Folder with samples.yaml; the session's `openings` if left out.")
    ] = None
    clicks: Annotated[Path | None, tyro.conf.arg(help=f"Corners; <samples>/{FILE_NAME} if left out.")] = None
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Fit and write."""
        place = self.where.open()
        arm = self.arm or next(iter(place.rig.arms))
        known(place.rig, "arm", arm, place.rig.arms)
        gripper = place.rig.arms[arm].gripper
        if gripper is None:
            raise CalibrationError(f"arms.{arm}: has no gripper")
        raw, opening, sigma, rms_px = self._openings(place)
        fit = fit_gripper(gripper, raw, opening, sigma)
        _report(raw, opening, sigma, fit)
        record = record_of(
            place.rig, "gripper", num_views=len(raw), rms_px=rms_px, sigma_mm=1e3 * float(np.median(sigma))
        )
        data = record.model_dump() | {
            "raw": raw.tolist(),
            "opening_mm": (1e3 * opening).tolist(),
            "sigma_mm_each": (1e3 * sigma).tolist(),
            "model": fit.spec.model_dump(mode="json"),
            "residual_mm": (1e3 * fit.residual_m).tolist(),
        }
        place.finish(with_gripper(place.rig, arm, fit.spec, record), f"gripper-{arm}", data)
        return 0

    def _openings(self, place: Workplace) -> tuple[np.ndarray, np.ndarray, np.ndarray, float | None]:
        """Return driver's values, openings and their sigma [m], and the pixel error where there is one."""
        if self.measured is not None:
            raw, opening = read_openings(self.measured)
            return raw, opening, np.zeros(len(raw)), None
        if not self.camera:
            raise CalibrationError("give --camera (with clicked corners), or --measured <csv>")
        known(place.rig, "camera", self.camera, place.rig.cameras)
        folder = place.samples(self.samples, "openings")
        clicks = read_clicks(self.clicks or folder / FILE_NAME, place.rig)
        found = solve_openings(place.rig, self.camera, touch_views(place.rig, self.camera, folder, clicks))
        return found.raw, found.opening_m, found.sigma_m, found.rms_px


def _report(raw: np.ndarray, opening: np.ndarray, sigma: np.ndarray, fit: GripperFit) -> None:
    for value, metres, spread in zip(raw, opening, sigma, strict=True):
        say(f"  {value:g}: {1e3 * metres:.2f} mm +- {1e3 * spread:.2f}")
    if fit.spec.raw == "linear":
        say(f"opening = {fit.spec.scale:.6g} * raw + {fit.spec.offset:.6g} m, RMS {1e3 * fit.rms_m:.2f} mm")
    else:
        say(f"not a line: a table of {len(fit.spec.table)} rows")
