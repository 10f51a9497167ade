"""How far a camera's new place lies from what the rig said, and what such a move looks like."""

from __future__ import annotations

import numpy as np

from tacit.geometry.rotations import rotation_to_vector
from tacit.geometry.transforms import FloatArray, invert
from tacit_calibration.commands.place import say

FAR_M, FAR_DEG = 0.03, 10.0
"""A mount that was measured by hand is hardly wrong by more."""
SURE_M, SURE_DEG = 15e-3, 5.0
"""What a mount measured by hand is off by anyway: a frame is named where it explains all but this."""


def say_move(before: FloatArray, now: FloatArray, recorded: bool, frame: str) -> None:
    """Say how far a camera lies from where it was; a large move is most often another frame.

    Args:
        before: T_parent_camera (4, 4) in the rig.
        now: As calibrated.
        recorded: Whether the rig's value was calibrated, and not a first guess.
        frame: What the camera sits on: "flange" or "world".
    """
    between = now @ invert(before)
    place_m = float(np.linalg.norm(now[:3, 3] - before[:3, 3]))
    turn_deg = float(np.rad2deg(np.linalg.norm(rotation_to_vector(between[:3, :3]))))
    was = "where it was calibrated before" if recorded else "the place in the rig, which no calibration gave"
    say(f"\nthe camera lies {1e3 * place_m:.1f} mm and {turn_deg:.1f} deg from {was}")
    if place_m < FAR_M and turn_deg < FAR_DEG:
        return
    kind = "WARNING" if recorded else "note:"
    say(
        f"{kind} that is far: was the camera remounted, or do robot poses end in another frame than the "
        f"rig's {frame}{_looks_like(between)}?"
    )


def _looks_like(between: FloatArray) -> str:
    """Return which simple frame explains a move (4, 4) of the camera, as half a sentence; empty for none."""
    ends = invert(between)  # the frame in which the poses end, in the one that the rig means
    turn, shift = np.rad2deg(rotation_to_vector(ends[:3, :3])), ends[:3, 3]
    parts = []
    for vector, small, unit, factor in ((shift, SURE_M, "mm along", 1e3), (turn, SURE_DEG, "deg about", 1.0)):
        if np.linalg.norm(vector) < small:
            continue
        axis = int(np.argmax(np.abs(vector)))
        if np.linalg.norm(np.delete(vector, axis)) > small:
            return ""
        parts.append(f"{factor * vector[axis]:.0f} {unit} {'xyz'[axis]}")
    return f" (it looks like one that lies {' and '.join(parts)} off)" if parts else ""
