"""Errors of an arm's geometry: how wrong link lengths, twists and joint zeros move the flange.

Such errors are smooth in the joints, unlike noise. `hand_eye` can estimate them along with the camera.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tacit.geometry.kinematics import Chain, motions
from tacit.geometry.transforms import FloatArray, from_rotation, invert
from tacit_calibration.estimation.increments import adjoint

TYPICAL_LENGTH_M = 0.3
"""A wrong angle of 1 rad counts as much as a link that is wrong by 0.3 m: their usual ratio on light arms."""


def geometry_errors(chain: Chain, joints: FloatArray) -> FloatArray:
    """Return how small displacements of the joint frames move the flange (n, 6, 6 (num_joints - 1)).

    The frame of the first joint is left out, since an error there is one of the board's or the
    camera's place in the base.

    Args:
        chain: The arm.
        joints: Joints (n, num_joints) [rad or m].

    Returns:
        Columns: increments of the flange along its own axes, for each joint frame from the second on
        three turns [rad] and three shifts [in 0.3 m].
    """
    moving = motions(chain, joints)
    after = np.broadcast_to(chain.end, (len(moving), 4, 4))
    columns = []
    # From the tip back to the base, so that `after`, the pose of the flange in each frame, grows by one step.
    for i in range(len(chain.origins) - 1, 0, -1):
        after = moving[:, i] @ after
        columns.append(adjoint(invert(after)) * np.repeat([1.0, TYPICAL_LENGTH_M], 3))
        after = chain.origins[i] @ after
    return np.concatenate(columns, axis=-1)


class SmoothErrors(NamedTuple):
    """How an arm whose joints are not known may err: by turns and shifts that are linear in place.

    Wrong zeros, lengths and twists of an arm make errors that change slowly from pose to pose. Over the
    poses of one calibration the first terms of their Taylor series do for them: the flange turns and shifts
    along the axes of the base by a linear function of where what it carries is. The constant terms are left
    out, since they belong to the camera's and the board's place.

    Attributes:
        centre: Where the errors are zero: mean place (3,) of what is carried, in the base [m].
        carried: Place (3,) of the camera, or of the board, in the flange [m].
    """

    centre: FloatArray
    carried: FloatArray

    @classmethod
    def around(cls, flange_poses: FloatArray, carried: FloatArray) -> SmoothErrors:
        """Return the errors about the middle of poses T_base_flange (n, 4, 4)."""
        return cls(_places(flange_poses, carried).mean(axis=0), carried)

    def at(self, flange_poses: FloatArray) -> FloatArray:
        """Return how 18 small errors move flanges T_base_flange (n, 4, 4): (n, 6, 18), as `geometry_errors`.

        Nine turns [rad per m], then nine shifts [in 0.3 m per m].
        """
        place = _places(flange_poses, self.carried) - self.centre
        to_flange = np.swapaxes(flange_poses[:, :3, :3], 1, 2)
        linear = np.einsum("nik,nj->nikj", to_flange, place).reshape(len(place), 3, 9)
        columns = np.zeros((len(place), 6, 18))
        columns[:, :3, :9] = linear
        columns[:, 3:, 9:] = TYPICAL_LENGTH_M * linear
        # Increments of what is carried; the flange's own follow through the lever between them.
        return adjoint(from_rotation(np.eye(3), self.carried)) @ columns


def _places(flange_poses: FloatArray, carried: FloatArray) -> FloatArray:
    return np.asarray(flange_poses[:, :3, :3] @ carried + flange_poses[:, :3, 3])
