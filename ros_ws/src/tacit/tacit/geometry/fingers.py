"""Fingers that a URDF moves: pads of linkage grippers go along an arc, not along a line.

The fingers of a Robotiq 2F-85 follow one joint by <mimic>, and its pads come 14 mm nearer to the palm on the
way from open to closed. What drivers report and rigs keep is the opening; the joint follows from it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import RigError
from tacit.geometry.kinematics import Chain, fk_numpy
from tacit.geometry.transforms import FloatArray
from tacit.geometry.urdf import chain_from_urdf, joint_range

SAMPLES = 1025
SHORT_M = 1e-3
"""A stroke that misses so much of the rig's opening belongs to another gripper."""


@dataclass(frozen=True, eq=False)
class LinkedFingers:
    """Where the links of two fingers are at an opening.

    Attributes:
        chains: {finger: chain from the flange to its link}, each moved by the one driving joint.
        openings: Openings (n,) [m], rising.
        values: Values (n,) of the driving joint there [rad or m].
    """

    chains: Mapping[str, Chain]
    openings: FloatArray
    values: FloatArray

    def pose(self, finger: str, opening: ArrayLike) -> FloatArray:
        """Return T_flange_finger (..., 4, 4) at openings (...) [m]; the last pose beyond the stroke."""
        value = np.interp(np.asarray(opening, dtype=np.float64), self.openings, self.values)
        flat = fk_numpy(self.chains[finger], value.reshape(-1, 1))
        return np.asarray(flat).reshape(*value.shape, 4, 4)


def linked_fingers(
    urdf: str,
    flange: str,
    links: Mapping[str, str],
    joint: str,
    axis: ArrayLike,
    stroke_m: tuple[float, float],
) -> LinkedFingers:
    """Return the fingers of a gripper whose URDF hangs on the flange.

    The wider end of the joint's range is the largest opening of the rig; from there on the opening falls as
    the two links approach each other along `axis`.

    Args:
        urdf: Text of the robot with its gripper.
        flange: Link that is the rig's flange.
        links: {finger_left: link, finger_right: link}.
        joint: The joint that drives both, by <mimic> or itself.
        axis: Direction in the flange frame along which finger_left opens (3,).
        stroke_m: Smallest and largest opening of the rig [m].

    Raises:
        RigError: A link or joint is not there, the joint has no limits, or its stroke is not the rig's.
    """
    chains = {finger: chain_from_urdf(urdf, flange, link, [joint]) for finger, link in links.items()}
    values = np.linspace(*joint_range(urdf, joint), SAMPLES)
    places = {finger: fk_numpy(chain, values[:, None])[:, :3, 3] for finger, chain in chains.items()}
    direction = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    apart = (places["finger_left"] - places["finger_right"]) @ direction
    if apart[-1] < apart[0]:
        values, apart = values[::-1], apart[::-1]
    rising = np.maximum.accumulate(apart)
    # A linkage may turn back in the last degrees of its range: what is wider before is reached before.
    first = int(np.searchsorted(rising, apart.max()))
    openings = stroke_m[1] - (apart.max() - apart[: first + 1])
    start = int(np.argmin(openings))
    openings, values = openings[start:], values[start : first + 1]
    if len(openings) < 2 or (np.diff(openings) <= 0).any() or openings[0] > stroke_m[0] + SHORT_M:
        raise RigError(
            f"gripper: joint {joint!r} of the URDF opens {' and '.join(links.values())} by "
            f"{1e3 * float(np.ptp(apart)):.1f} mm along {direction.round(3).tolist()}, the rig by "
            f"{1e3 * (stroke_m[1] - stroke_m[0]):.1f} mm; give the links of the pads, the axis in the flange "
            "frame, and lower and upper in metres between the pads"
        )
    return LinkedFingers(chains, openings, values)
