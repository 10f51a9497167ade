"""`tacit calibrate check`: is what a rig says believable?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tacit.rig import RIGS_FOLDER, load_rig
from tacit_calibration.commands.place import say
from tacit_calibration.rig_check import check_rig, field_of_view_deg, views_of_sensors


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
        findings = check_rig(rig, path)
        for finding in findings:
            say(f"WRONG? {finding}")
        say(f"{len(findings)} to look at" if findings else "nothing looks wrong")
        return 1 if findings else 0
