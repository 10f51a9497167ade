"""`tacit calibrate sensor`: clicked corners to pose and size of the tactile sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray, pose_error
from tacit.rig import Rig
from tacit_calibration.checks.verify import Verification, verify
from tacit_calibration.commands.place import Flat, Where, Workplace, say, say_outlines, say_pose
from tacit_calibration.pictures import overlays
from tacit_calibration.rig_update import known, record_of, with_sensor
from tacit_calibration.samples import sha256_of
from tacit_calibration.touch.click_page import write_click_page
from tacit_calibration.touch.clicks import FILE_NAME, Click, read_clicks
from tacit_calibration.touch.housing_markers import find_markers, read_markers, solve_markers
from tacit_calibration.touch.outline import solve_outlines
from tacit_calibration.touch.pads import pad_size
from tacit_calibration.touch.sensor_offset import SensorResult, solve_sensor
from tacit_calibration.touch.touch_views import by_sensor, finger_views, touch_views


@dataclass(frozen=True)
class SensorArgs:
    """Find pose and size of tactile sensors from their corners at several gripper openings."""

    camera: Annotated[str, tyro.conf.arg(help="Calibrated camera that saw them.")]
    samples: Annotated[
        Path | None, tyro.conf.arg(help="Folder with samples.yaml; the session's `openings` if left out.")
    ] = None
    clicks: Annotated[Path | None, tyro.conf.arg(help=f"Corners; <samples>/{FILE_NAME} if left out.")] = None
    click: Annotated[bool, tyro.conf.arg(help="Write a page on which to click the corners, and stop.")] = (
        False
    )
    detect: Annotated[
        bool, tyro.conf.arg(help="Find the gels in the pictures instead: no clicks are needed.")
    ] = False
    pad: Annotated[
        str, tyro.conf.arg(help="Width and height: digit, gelsight_mini, or WxH in mm; not fitted then.")
    ] = ""
    markers: Annotated[
        Path | None,
        tyro.conf.arg(help="CSV of ArUco markers on the housings; with --detect, the search begins there."),
    ] = None
    keep_size: Annotated[bool, tyro.conf.arg(help="Keep width and height of the rig.")] = False
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Write the page, or solve every sensor that was clicked."""
        place = self.where.open()
        known(place.rig, "camera", self.camera, place.rig.cameras)
        folder = place.samples(self.samples, "openings")
        start = _with_pad(place.rig, self.pad) if self.pad else place.rig
        placed = self._marked(start, folder, self.markers) if self.markers is not None else {}
        for name, result in placed.items():
            start = with_sensor(start, name, result.T_mount_sensor, result.size_m, None)
        if self.click:
            page = write_click_page(start, self.camera, folder, self._guesses(start, folder))
            say(f"open {page} in a browser")
            return 0
        return self._solve(place, start, folder, placed)

    @property
    def _fit_size(self) -> bool:
        return not (self.keep_size or self.pad)

    def _guesses(self, start: Rig, folder: Path) -> dict[tuple[str, str], FloatArray]:
        """Return {(picture, sensor): corners (4, 2) [px]} of the gels that are found without a hand."""
        lens, guesses = start.geometry.camera(self.camera), {}
        for name, result in self._detected(start, folder).items():
            size = np.array(result.size_m[:2])
            for view in finger_views(start, self.camera, folder, name):
                corners = view.project(lens, result.T_mount_sensor, size)
                if np.isfinite(corners).all():
                    guesses[view.click.image, name] = corners
        return guesses

    def _marked(self, start: Rig, folder: Path, path: Path) -> dict[str, SensorResult]:
        sights = find_markers(start, self.camera, folder, read_markers(path, start))
        return {name: solve_markers(start, self.camera, name, several) for name, several in sights.items()}

    def _solve(self, place: Workplace, start: Rig, folder: Path, placed: dict[str, SensorResult]) -> int:
        by_hand = not self.detect and not placed
        clicks = read_clicks(self.clicks or folder / FILE_NAME, place.rig) if by_hand else []
        solved = self._clicked(start, folder, clicks) if by_hand else dict(placed)
        if self.detect:
            solved |= _beside(placed, self._detected(start, folder))
        if not solved:
            raise CalibrationError(
                f"{folder}: no gel was found; `sensor --click` writes a page to click them on"
            )
        rig, results = place.rig, {}
        for name, result in solved.items():
            _report(name, result)
            rig = self._with(rig, place.rig, name, result, folder)
            results[name] = _data(result)
        check = Verification(self.camera, None, None, None)
        if clicks:
            check = verify(rig, self.camera, None, folder, clicks)
            say(f"corners: {check.gels}")
            say(f"box centres: {check.centres}")
        sheet = overlays(rig, self.camera, folder, None, check, clicks)
        place.finish(rig, f"sensor-{self.camera}", results, sheet)
        return 0

    def _clicked(self, start: Rig, folder: Path, clicks: Sequence[Click]) -> dict[str, SensorResult]:
        views = by_sensor(touch_views(start, self.camera, folder, clicks))
        return {
            name: solve_sensor(start, self.camera, name, group, fit_size=self._fit_size)
            for name, group in views.items()
        }

    def _detected(self, start: Rig, folder: Path) -> dict[str, SensorResult]:
        outlines = say_outlines(start, self.camera, folder, fit_size=self._fit_size)
        return {
            name: solve_outlines(start, self.camera, name, several, fit_size=self._fit_size)
            for name, several in outlines.items()
        }

    def _with(self, rig: Rig, before: Rig, name: str, result: SensorResult, folder: Path) -> Rig:
        record = record_of(
            before,
            "sensor" + " --detect" * self.detect + " --markers" * (self.markers is not None),
            parent=before.tactile[name].mount,
            child=name,
            num_views=len(result.click_px),
            rms_px=result.rms_px,
            sigma_mm=1e3 * result.sigma_m,
            sigma_deg=float(np.rad2deg(result.sigma_rad)),
            inputs_sha256=sha256_of(folder),
        )
        return with_sensor(rig, name, result.T_mount_sensor, result.size_m, record)


def _beside(placed: dict[str, SensorResult], found: dict[str, SensorResult]) -> dict[str, SensorResult]:
    """Return the gels that were found, after saying how far they are from where their markers put them."""
    for name in placed.keys() & found.keys():
        apart = pose_error(placed[name].T_mount_sensor, found[name].T_mount_sensor)
        sigma = float(np.hypot(placed[name].sigma_m, found[name].sigma_m))
        doubt = "WARNING " if apart.translation > 3 * sigma else ""
        say(
            f"{doubt}{name}: its outline lies {1e3 * apart.translation:.2f} mm from where its markers put "
            f"it, one sigma {1e3 * sigma:.2f} mm; the outline is kept"
        )
    return found


def _with_pad(rig: Rig, pad: str) -> Rig:
    """Return the rig with every gel of the size that `--pad` says."""
    for name, spec in rig.tactile.items():
        size = (*pad_size(pad, spec.size_m), spec.size_m[2])
        rig = with_sensor(rig, name, np.asarray(spec.T_mount_sensor), size, None)
    return rig


def _report(name: str, result: SensorResult) -> None:
    width, height, _ = (1e3 * side for side in result.size_m)
    say(
        f"{name}: {len(result.click_px)} pictures, RMS {result.rms_px:.2f} px; one sigma "
        f"{1e3 * result.sigma_m:.2f} mm, {np.rad2deg(result.sigma_rad):.2f} deg; "
        f"gel {width:.2f} x {height:.2f} mm"
    )
    for warning in result.warnings:
        say(f"WARNING {warning}")
    say_pose("T_mount_sensor", result.T_mount_sensor)


def _data(result: SensorResult) -> dict[str, object]:
    return {
        "T_mount_sensor": result.T_mount_sensor.tolist(),
        "size_m": list(result.size_m),
        "sigma_mm": 1e3 * result.sigma_m,
        "sigma_deg": float(np.rad2deg(result.sigma_rad)),
        "sigma_size_mm": (1e3 * result.sigma_size_m).tolist(),
        "rms_px": result.rms_px,
        "clicks_px": result.click_px,
        "warnings": list(result.warnings),
    }
