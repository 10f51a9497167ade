"""Have the gels moved since they were calibrated? Seen in a recorded episode, against the boxes of a rig."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeReader
from tacit.errors import CalibrationError
from tacit.geometry.footprint import INTERSECTS
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit_calibration.imports import states_of_episode
from tacit_calibration.touch.clicks import Click
from tacit_calibration.touch.gel_search import GelPicture, search_gel
from tacit_calibration.touch.outline import MIN_OUTLINES, predicted_hull, seen_shift
from tacit_calibration.touch.touch_views import view_of_state

NUM_PICTURES = 12
SEEN_WHOLE = 0.98
OPEN_SHARE = 0.6
"""Pictures are taken where the gripper is open by this part of its widest: nothing hides the gels."""
SIGMAS = 3.0
BIAS_PX = 0.3
"""How far an edge may look from where it is, alike in all pictures: light, lens, compression."""


@dataclass(frozen=True, eq=False)
class GelDrift:
    """How far a gel is seen from the box of the rig.

    Attributes:
        sensor: Its name.
        num_pictures: In which it was found.
        shift_px: Median of seen minus predicted (2,) [px].
        sigma_px: What the pictures' scatter, edges and the rig's own uncertainty make of it.
        mm_per_px: At the gel.
    """

    sensor: str
    num_pictures: int
    shift_px: FloatArray
    sigma_px: float
    mm_per_px: float

    @property
    def distance_px(self) -> float:
        """Length of the shift [px]."""
        return float(np.linalg.norm(self.shift_px))

    @property
    def is_beyond_noise(self) -> bool:
        """Whether it is more than three times its uncertainty."""
        return self.distance_px > SIGMAS * self.sigma_px

    def __str__(self) -> str:
        u, v = self.shift_px
        verdict = "beyond its noise" if self.is_beyond_noise else "within its noise"
        return (
            f"{self.sensor}: seen {self.distance_px:.2f} px ({self.distance_px * self.mm_per_px:.2f} mm) "
            f"from the rig's box, {u:+.2f} {v:+.2f} px; one sigma {self.sigma_px:.2f} px over "
            f"{self.num_pictures} pictures: {verdict}"
        )


def gel_drifts(rig: Rig, camera: str, reader: EpisodeReader) -> tuple[list[GelDrift], list[CalibrationError]]:
    """Return how far each gel lies from the rig's box, and why a gel could not be measured.

    Raises:
        CalibrationError: The episode has other joints, or images of another size than the rig.
    """
    states = states_of_episode(reader, rig, camera)
    found, problems = list[GelDrift](), list[CalibrationError]()
    for name in rig.tactile:
        try:
            found.append(_drift(rig, camera, name, reader, states))
        except CalibrationError as problem:
            problems.append(problem)
    return found, problems


def _drift(rig: Rig, camera: str, name: str, reader: EpisodeReader, states: FloatArray) -> GelDrift:
    ticks = _good_ticks(rig, camera, name, states)
    if len(ticks) < MIN_OUTLINES:
        raise CalibrationError(
            f"{name}: {len(ticks)} ticks of {reader.path} have the gripper open and the gel whole in "
            f"{camera}, expected {MIN_OUTLINES}"
        )
    unknown = np.full((4, 2), np.nan)
    pictures = [
        GelPicture(
            view_of_state(rig, camera, Click(f"tick {tick}", name, unknown), states[tick]),
            reader.image(camera, int(tick)),
        )
        for tick in ticks
    ]
    outlines = search_gel(rig, camera, name, pictures)
    hulls = [predicted_hull(rig, camera, outline.view, outline.thickness_m) for outline in outlines]
    shifts = np.array([seen_shift(h, o.points) for h, o in zip(hulls, outlines, strict=True)])
    shift = np.median(shifts, axis=0)
    mm_per_px = _mm_per_px(rig, camera, name, states[ticks])
    # Medians, since one hidden gel must not look like scatter; pictures of one scene hardly average out.
    scatter = 1.4826 * np.linalg.norm(np.median(np.abs(shifts - shift), axis=0)) / np.sqrt(len(shifts) / 2)
    record = rig.calibrations.get(f"tactile.{name}.pose")
    known_mm = record.sigma_mm if record is not None and record.sigma_mm is not None else 0.0
    sigma = float(np.linalg.norm([scatter, BIAS_PX, known_mm / mm_per_px]))
    return GelDrift(name, len(outlines), shift, sigma, mm_per_px)


def _good_ticks(rig: Rig, camera: str, name: str, states: FloatArray) -> NDArray[np.intp]:
    """Return ticks, spread over the episode, at which the gel is whole in the image and all stands still."""
    track = rig.geometry.footprint_tracks(states)[camera, name]
    is_good = (track.visibility >= SEEN_WHOLE) & ((track.flags & INTERSECTS) != 0)
    gripper = rig.arms[rig.tactile[name].mount.rpartition(".")[0]].gripper
    if gripper is not None:
        opening = states[:, rig.index_of([gripper.name])[0]]
        is_good &= opening >= OPEN_SHARE * opening.max()
    ticks = np.flatnonzero(is_good)
    # Picture and joints of a tick are some milliseconds apart, which matters while something moves.
    speed = np.linalg.norm(np.gradient(states, axis=0), axis=1) if len(states) > 1 else np.zeros(1)
    slow = ticks[speed[ticks] <= np.median(speed[ticks])] if len(ticks) > 2 * NUM_PICTURES else ticks
    chosen = np.unique(np.linspace(0, max(len(slow) - 1, 0), NUM_PICTURES).astype(int))
    return slow[chosen] if len(slow) else slow


def _mm_per_px(rig: Rig, camera: str, name: str, states: FloatArray) -> float:
    """Return how many millimetres at the gel are one pixel, from the size of its face in the image."""
    lens, depths = rig.geometry.camera(camera), []
    for state in states:
        view = view_of_state(rig, camera, Click("", name, np.full((4, 2), np.nan)), state)
        placed = view.T_camera_flange @ np.append(view.opening_m * view.slide, 1.0)
        offset = view.T_camera_flange[:3, :3] @ rig.tactile[name].T_mount_sensor[:3, 3]
        depths.append(np.linalg.norm(placed[:3] + offset))
    return 1e3 * float(np.median(depths)) / float(np.sqrt(lens.K[0, 0] * lens.K[1, 1]))
