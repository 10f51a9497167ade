"""Serial chains: from DH rows or URDF joints to one normal form, and its numpy kinematics.

Every joint turns about, or slides along, its own z; `tacit.geometry.robot` adds backends and limits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tacit.geometry.transforms import FloatArray

HALF_PI = np.pi / 2


class DhParameters(NamedTuple):
    """One row of standard DH: A = Rz(q + offset) Tz(d) Tx(a) Rx(alpha), in rad and m."""

    offset: float
    d: float
    a: float
    alpha: float


def _dobot(d: Sequence[float], a2: float, a3: float) -> tuple[DhParameters, ...]:
    """Dobot's six-axis family: same offsets and twists, other lengths (d of joints 1, 4, 5, 6)."""
    return (
        DhParameters(0.0, d[0], 0.0, HALF_PI),
        DhParameters(-HALF_PI, 0.0, a2, 0.0),
        DhParameters(0.0, 0.0, a3, 0.0),
        DhParameters(-HALF_PI, d[1], 0.0, HALF_PI),
        DhParameters(0.0, d[2], 0.0, -HALF_PI),
        DhParameters(0.0, d[3], 0.0, 0.0),
    )


DH_MODELS: dict[str, tuple[DhParameters, ...]] = {
    "nova2": _dobot((0.2234, 0.1175, 0.120, 0.088), -0.280, -0.225),
    "nova5": _dobot((0.240, 0.135, 0.120, 0.088), -0.400, -0.330),
    "cr5": _dobot((0.147, 0.141, 0.116, 0.105), -0.427, -0.357),
}
"""Built-in arms. Source: Dobot-Arm/DOBOT_6Axis_ROS2_V4 @a1eabef and TCP-IP-ROS-6AXis @8f2ef92 (MIT)."""


@dataclass(frozen=True, eq=False)
class Chain:
    """A serial chain: T_base_tip(q) = prod_i(origins[i] @ motion_i(q_i)) @ end.

    Attributes:
        names: Joint names (n).
        origins: Fixed poses (m, 4, 4) of each joint frame in the frame before it, motion about z; m = n but
            where joints follow others.
        prismatic: (m,) True where the joint slides [m] instead of turning [rad].
        end: Fixed pose (4, 4) of the tip in the last joint frame.
        coupling: Values of the m joints on the way are coupling (m, n) @ q (n,); None where they are q.
    """

    names: tuple[str, ...]
    origins: FloatArray
    prismatic: np.ndarray
    end: FloatArray
    coupling: FloatArray | None = None

    @property
    def num_joints(self) -> int:
        """Number of moving joints."""
        return len(self.names)

    def on_the_way(self, q: ArrayLike) -> FloatArray:
        """Return the values (..., m) of the joints on the way for joint values (..., n) [rad or m]."""
        q = np.asarray(q, dtype=np.float64)
        return q if self.coupling is None else q @ self.coupling.T

    @functools.cached_property
    def step_table(self) -> FloatArray:
        """Every origins[i] @ motion_i(q_i) as one linear map (3 m + 1, 16 m) of cos q, sin q, q and 1."""
        n = len(self.origins)
        # Products with a constant table replace n small matrices built in Python: 9 us instead of 34 us.
        moving = np.zeros((4, n, 4, 4))  # what of a motion follows cos, sin, q, and what is always there
        turns = np.flatnonzero(~self.prismatic)
        moving[0, turns[:, None], [0, 1], [0, 1]] = 1.0
        moving[1, turns, 1, 0], moving[1, turns, 0, 1] = 1.0, -1.0
        moving[2, self.prismatic, 2, 3] = 1.0
        moving[3] = np.diag([0.0, 0.0, 1.0, 1.0])
        moving[3, self.prismatic, [[0], [1]], [[0], [1]]] = 1.0
        table = np.zeros((4, n, n, 16))
        table[:, np.arange(n), np.arange(n)] = (self.origins @ moving).reshape(4, n, 16)
        constant = table[3].sum(axis=0, keepdims=True)
        return np.concatenate([table[:3].reshape(3 * n, n, 16), constant]).reshape(3 * n + 1, 16 * n)


def chain_from_dh(rows: Sequence[DhParameters], names: Sequence[str]) -> Chain:
    """Return the chain of standard DH rows, all joints revolute."""
    origins, after = [], np.eye(4)
    for row in rows:
        # A DH row slides and twists after its joint has turned; our joints have what is fixed before their
        # motion, so it becomes part of the next origin.
        origins.append(after @ rotate_z(row.offset))
        after = _slide_and_twist(row)
    return Chain(tuple(names), np.array(origins), np.zeros(len(rows), dtype=bool), after)


def rotate_z(angle: float) -> FloatArray:
    """Return the turn about z (4, 4); exact zeros and ones at multiples of pi/2."""
    c, s = exact([np.cos(angle), np.sin(angle)])
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)


def motions(chain: Chain, q: ArrayLike) -> FloatArray:
    """Return the joint motions (..., m, 4, 4) for joint values (..., n) [rad or m]."""
    q = chain.on_the_way(q)
    angle = np.where(chain.prismatic, 0.0, q)
    motion = np.zeros((*q.shape, 4, 4))
    motion[..., 0, 0] = motion[..., 1, 1] = np.cos(angle)
    sine = np.sin(angle)
    motion[..., 1, 0] = sine
    motion[..., 0, 1] = -sine
    motion[..., 2, 3] = np.where(chain.prismatic, q, 0.0)
    motion[..., 2, 2] = motion[..., 3, 3] = 1.0
    return motion


def fk_numpy(chain: Chain, q: ArrayLike) -> FloatArray:
    """Return T_base_tip (..., 4, 4) for joint values (..., n): the reference of every backend.

    Args:
        chain: The arm.
        q: Canonical joint values [rad, prismatic m].
    """
    q = chain.on_the_way(q)
    if q.ndim > 1:
        return _fk_batch(chain, q.reshape(-1, len(chain.origins))).reshape(*q.shape[:-1], 4, 4)
    steps = _steps(chain, q)
    T = steps[0]
    for step in steps[1:]:
        T = T.dot(step)  # on 4x4 matrices `dot` takes half a microsecond, `@` up to ten times that
    return T.dot(chain.end)


def jacobian_numpy(chain: Chain, q: ArrayLike) -> FloatArray:
    """Return the geometric Jacobian (6, n) at q (n,): base-frame velocity [m/s] then rate [rad/s]."""
    steps = _steps(chain, chain.on_the_way(q))
    after = np.empty((len(steps), 4, 4))  # a joint moves about and along its own z: z stays
    after[0] = steps[0]
    for i in range(1, len(steps)):
        after[i] = after[i - 1].dot(steps[i])
    tip = after[-1].dot(chain.end[:, 3])
    axes, arms = after[:, :3, 2].T, (tip[:3] - after[:, :3, 3]).T
    levers = axes[[1, 2, 0]] * arms[[2, 0, 1]] - axes[[2, 0, 1]] * arms[[1, 2, 0]]
    linear = np.where(chain.prismatic, axes, levers)
    J = np.concatenate([linear, np.where(chain.prismatic, 0.0, axes)])
    return J if chain.coupling is None else J @ chain.coupling


def _steps(chain: Chain, q: FloatArray) -> FloatArray:
    """Return origins[i] @ motion_i(q_i) (m, 4, 4) for one q (m,) by a single product with the table."""
    n = len(chain.origins)
    factors = np.empty(3 * n + 1)
    np.cos(q, factors[:n])
    np.sin(q, factors[n : 2 * n])
    factors[2 * n : -1] = q
    factors[-1] = 1.0
    return factors.dot(chain.step_table).reshape(n, 4, 4)


def _fk_batch(chain: Chain, q: FloatArray) -> FloatArray:
    """Return T_base_tip (N, 4, 4) of q (N, m), column by column over all poses at once.

    T @ origin is one product of a (4, 4) with all columns (4, 3 N); a turn mixes the first two
    columns, a slide adds the third to the fourth.
    """
    columns = np.broadcast_to(np.eye(4)[:, :3, None], (4, 3, len(q)))
    cosines, sines = np.cos(q).T.copy(), np.sin(q).T.copy()
    for i, origin in enumerate(chain.origins):
        columns = origin.T.dot(columns.reshape(4, -1)).reshape(4, 3, -1)
        if chain.prismatic[i]:
            columns[3] += columns[2] * q[:, i]
        else:
            x, y = columns[0].copy(), columns[1]
            columns[0] = x * cosines[i] + y * sines[i]
            columns[1] = y * cosines[i] - x * sines[i]
    T = np.zeros((len(q), 4, 4))
    T[:, :3] = chain.end.T.dot(columns.reshape(4, -1)).reshape(4, 3, -1).transpose(2, 1, 0)
    T[:, 3, 3] = 1.0
    return T


def _slide_and_twist(row: DhParameters) -> FloatArray:
    """Return Tz(d) Tx(a) Rx(alpha) (4, 4)."""
    c, s = exact([np.cos(row.alpha), np.sin(row.alpha)])
    return np.array([[1, 0, 0, row.a], [0, c, -s, 0], [0, s, c, row.d], [0, 0, 0, 1]], dtype=np.float64)


def exact(values: ArrayLike) -> FloatArray:
    """Return the values with the 6e-17 that cos(pi/2) leaves rounded to the zeros and ones that are meant."""
    values = np.asarray(values, dtype=np.float64)
    nearest = np.round(values)
    return np.where(np.abs(values - nearest) < 1e-15, nearest, values)
