"""Action noise that the robot suffers and nobody records: the DART recipe.

The simulator moves the EXECUTED target while the command stays clean, so demonstrations show how
to come back (Laskey et al. 2017, arXiv:1703.09327).
"""

from __future__ import annotations

import numpy as np

from tacit.geometry.transforms import FloatArray
from tacit_sim.tasks import Task

RHO = 0.9
"""Memory of the noise per 25 Hz tick: a push lasts about ten ticks."""

SIGMA_XY_M, SIGMA_Z_M = 0.008, 0.0048


class Disturbance:
    """Ornstein-Uhlenbeck noise of the tool: x_k+1 = rho x_k + sqrt(1 - rho^2) sigma n_k.

    Args:
        task: Gives the sigma about the vertical, and the heights where the noise fades.
        seed: Same seed, same pushes.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._heights = task.noise_heights
        self._sigma = np.array([SIGMA_XY_M, SIGMA_XY_M, SIGMA_Z_M, task.noise_yaw])
        self._random = np.random.default_rng([seed, 1])
        self._value = np.zeros(4)

    def next(self, tool_height: float) -> FloatArray:
        """Draw the push of one tick.

        Args:
            tool_height: Height of the tool above the table [m]; near the table there is no noise,
                so grasp, place and insertion stay exact.

        Returns:
            Offset (6,) of the tool: x, y, z [m], rotation vector [rad], world axes.
        """
        noise = np.sqrt(1.0 - RHO**2) * self._sigma * self._random.standard_normal(4)
        self._value = RHO * self._value + noise
        x, y, z, yaw = smoothstep(tool_height, *self._heights) * self._value
        return np.array([x, y, z, 0.0, 0.0, yaw])


def smoothstep(value: float, low: float, high: float) -> float:
    """Return 0 below `low`, 1 above `high`, and 3 t^2 - 2 t^3 between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
