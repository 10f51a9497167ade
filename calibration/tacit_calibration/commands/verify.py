"""`tacit calibrate verify`: a rig against pictures, as numbers and as overlays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tacit.episode import EpisodeReader
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
    detect: Annotated[
        bool, tyro.conf.arg(help="Measure box centres by gels that are cut out by their colour.")
    ] = False
    max_px: Annotated[float, tyro.conf.arg(help="Allowed error of 95 % of the points.")] = 4.0
    episode: Annotated[
        Path | None, tyro.conf.arg(help="Draw the rig into this recorded episode instead; no numbers.")
    ] = None
    picture: Annotated[Path | None, tyro.conf.arg(help="PNG for the overlays, without a session.")] = None
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
        """Draw boxes and jaw axes into a few ticks: for eyes, since nobody has said where the gels are."""
        with EpisodeReader(path) as reader:
            sheet = episode_overlays(place.rig, self.camera, reader)
        data = {"episode": str(path), "passed": None}
        place.keep(f"overlay-{self.camera}", data, sheet, self.picture)
        return 0


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
