"""Errors of an arm's geometry: how wrong link lengths, twists and joint zeros move the flange.

Such errors are smooth in the joints, unlike noise. `hand_eye` can estimate them along with the camera.
"""

from __future__ import annotations

import numpy as np

from tacit.geometry.kinematics import Chain, motions
from tacit.geometry.transforms import FloatArray, invert
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
    for i in range(chain.num_joints - 1, 0, -1):
        after = moving[:, i] @ after
        columns.append(adjoint(invert(after)) * np.repeat([1.0, TYPICAL_LENGTH_M], 3))
        after = chain.origins[i] @ after
    return np.concatenate(columns, axis=-1)
