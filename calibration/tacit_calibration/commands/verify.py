"""`tacit calibrate verify`: a rig against pictures, as numbers and as overlays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tacit.config.arguments import NewFile, Positive
from tacit.episode import EpisodeReader
from tacit.errors import CalibrationError
from tacit_calibration.checks.gel_drift import GelDrift, gel_drifts
from tacit_calibration.checks.verify import Verification, board_of_samples, verify
from tacit_calibration.commands.place import Flat, Where, Workplace, say, say_outlines
from tacit_calibration.pictures import episode_overlays, overlays
from tacit_calibration.rig_update import known
from tacit_calibration.touch.clicks import FILE_NAME, read_clicks


@dataclass(frozen=True)
class VerifyArgs:
    """Compare the rig with pictures: board, gel corners and gripper, drawn in and counted in pixels."""

    camera: Annotated[str, tyro.conf.arg(help="Whose pictures.")]
    samples: Annotated[
        Path | None,
        tyro.conf.arg(help="Folder with samples.yaml; the session's `verify-<camera>`, or `<camera>`."),
    ] = None
    clicks: Annotated[
        Path | None, tyro.conf.arg(help=f"Gel corners; <samples>/{FILE_NAME} where it is there.")
    ] = None
    detect: Annotated[bool, tyro.conf.arg(help="Find gels in the pictures and measure by them.")] = False
    max_px: Annotated[Positive, tyro.conf.arg(help="Allowed error of 95 % of the points.")] = 4.0
    episode: Annotated[
        Path | None,
        tyro.conf.arg(help="Draw the rig into this recorded episode; with --detect, measure gels in it."),
    ] = None
    picture: Annotated[NewFile | None, tyro.conf.arg(help="PNG for the overlays, without a session.")] = None
    where: Annotated[Where, Flat] = field(default_factory=Where)

    def run(self) -> int:
        """Report; 1 when something misses the threshold."""
        place = self.where.open()
        place.board.check_direction()
        known(place.rig, "camera", self.camera, place.rig.cameras)
        if self.episode is not None:
            return self._on_episode(place, self.episode)
        folder = self.samples
        if folder is None and place.session is not None:
            fresh = place.session.samples(f"verify-{self.camera}")
            folder = fresh if fresh.is_dir() else None
        folder = place.samples(folder, self.camera)
        clicks_file = self.clicks or folder / FILE_NAME
        clicks = read_clicks(clicks_file, place.rig) if clicks_file.is_file() or self.clicks else []
        views = board_of_samples(place.rig, folder, place.board)
        outlines = say_outlines(place.rig, self.camera, folder) if self.detect else {}
        gels = [outline for several in outlines.values() for outline in several]
        found = verify(place.rig, self.camera, views, folder, clicks, gels)
        failures = found.failures(self.max_px)
        report(found, failures)
        sheet = overlays(place.rig, self.camera, folder, views, found, clicks)
        place.keep(f"verify-{self.camera}", _data(found, failures, self.max_px), sheet, self.picture)
        return 1 if failures else 0

    def _on_episode(self, place: Workplace, path: Path) -> int:
        """Draw boxes and jaw axes into a few ticks; with --detect, say how far gels lie from their boxes."""
        with EpisodeReader(path) as reader:
            sheet = episode_overlays(place.rig, self.camera, reader)
            found, problems = gel_drifts(place.rig, self.camera, reader) if self.detect else ([], [])
        for problem in problems:
            say(f"skipped {problem}")
        if self.detect and not found:
            raise CalibrationError(f"{path}: no gel was found in {self.camera}; nothing is measured")
        moved = [gel for gel in found if gel.is_beyond_noise and gel.distance_px > self.max_px]
        for gel in found:
            say(f"{'FAILED ' if gel in moved else ''}{gel}")
        if moved:
            say(f"more than {self.max_px:g} px: calibrate again (`tacit calibrate sensor`, or `handeye`)")
        data = {
            "episode": str(path),
            "passed": not moved if self.detect else None,
            "gels": {gel.sensor: _drift_data(gel) for gel in found},
        }
        place.keep(f"overlay-{self.camera}", data, sheet, self.picture)
        return 1 if moved else 0


def report(found: Verification, failures: list[str]) -> None:
    """Say what a rig gets wrong."""
    for kind, errors in (
        ("board corners", found.board),
        ("gel corners", found.gels),
        ("box centres", found.centres),
    ):
        if errors is not None:
            say(f"{kind}: {errors}")
    for failure in failures:
        say(f"FAILED {failure}")
    if not failures:
        say("passed")


def _drift_data(gel: GelDrift) -> dict[str, object]:
    return {
        "pictures": gel.num_pictures,
        "shift_px": gel.shift_px.tolist(),
        "sigma_px": gel.sigma_px,
        "mm_per_px": gel.mm_per_px,
        "is_beyond_noise": gel.is_beyond_noise,
    }


def _data(found: Verification, failures: list[str], max_px: float) -> dict[str, object]:
    def numbers(errors: object) -> object:
        return None if errors is None else dataclasses.asdict(errors)  # type: ignore[call-overload]

    return {
        "passed": not failures,
        "max_px": max_px,
        "failures": failures,
        "board": numbers(found.board),
        "gels": numbers(found.gels),
        "centres": numbers(found.centres),
        "views_px": dict(found.view_rms_px),
    }
