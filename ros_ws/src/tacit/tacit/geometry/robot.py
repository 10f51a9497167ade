"""An arm that can be asked: where is the flange, how does it move, which joints reach a pose.

`Robot.from_rig` picks the chain from the rig; the numpy backend is always there and is the
reference, roboticstoolbox (an import of about 2 s) is loaded only when asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import MissingDependencyError, RigError, did_you_mean
from tacit.geometry.kinematics import (
    Chain,
    fk_numpy,
    jacobian_numpy,
)
from tacit.geometry.rotations import SMALL_ANGLE
from tacit.geometry.transforms import FloatArray, rotation_to_vector

__all__ = ["InverseResult", "Robot", "fk_numpy"]

Backend = Literal["numpy", "rtb"]
POSITION_TOLERANCE = 1e-7
ROTATION_TOLERANCE = 1e-7
"""A tenth of a micrometre, and the turn that moves a 1 m lever by as much: below any encoder."""


class InverseResult(NamedTuple):
    """Joints (n,) that come nearest to a pose, and whether they reach it."""

    q: FloatArray
    ok: bool


class JointLimits(Protocol):
    """One joint of an arm, as a rig describes it."""

    lower: float
    upper: float


class Arm(Protocol):
    """One arm, as a rig describes it."""

    @property
    def chain(self) -> Chain:
        """Its kinematics."""

    @property
    def joints(self) -> Sequence[JointLimits]:
        """Its joints with their limits, in the order of the chain."""


class ArmHolder(Protocol):
    """A rig, as far as kinematics needs it."""

    name: str

    @property
    def arms(self) -> Mapping[str, Arm]:
        """The arms by name."""


@dataclass(frozen=True, eq=False)
class Robot:
    """One arm. Joint values are canonical (rad, prismatic m), in the order of `chain.names`.

    Attributes:
        chain: The kinematics.
        lower: Lower joint limits (n,).
        upper: Upper joint limits (n,).
        backend: "numpy", or "rtb" for roboticstoolbox's compiled ETS.
    """

    chain: Chain
    lower: FloatArray
    upper: FloatArray
    backend: Backend = "numpy"
    _ets: Any = field(default=None, repr=False)

    @classmethod
    def from_rig(cls, rig: ArmHolder, arm: str | None = None, backend: Backend = "numpy") -> Robot:
        """Return the arm `arm` of `rig`; the name may be left out when there is one arm.

        Raises:
            RigError: No such arm, or several arms and no name.
        """
        if arm is None and len(rig.arms) != 1:
            raise RigError(f"rig {rig.name}: has {len(rig.arms)} arms; name one of {', '.join(rig.arms)}")
        name = next(iter(rig.arms)) if arm is None else arm
        if name not in rig.arms:
            raise RigError(f"rig {rig.name}: no arm {name!r}; {did_you_mean(name, rig.arms)}")
        spec = rig.arms[name]
        lower = np.array([joint.lower for joint in spec.joints])
        upper = np.array([joint.upper for joint in spec.joints])
        return cls.from_chain(spec.chain, lower, upper, backend)

    @classmethod
    def from_chain(
        cls, chain: Chain, lower: FloatArray, upper: FloatArray, backend: Backend = "numpy"
    ) -> Robot:
        """Return a robot on any chain with joint limits (n,)."""
        ets = _build_ets(chain, lower, upper) if backend == "rtb" else None
        return cls(chain, lower, upper, backend, ets)

    @property
    def num_joints(self) -> int:
        """Number of joints n."""
        return self.chain.num_joints

    def forward(self, q: ArrayLike) -> FloatArray:
        """Return T_base_flange (4, 4) [m] for joints q (n,).

        Raises:
            ValueError: q has another length (strip the gripper first: `rig.arm_slice`).
        """
        q = self._checked(q, 1)
        return np.array(self._ets.eval(q)) if self.backend == "rtb" else fk_numpy(self.chain, q)

    def forward_batch(self, Q: ArrayLike) -> FloatArray:
        """Return T_base_flange (N, 4, 4) [m] for joints Q (N, n)."""
        Q = self._checked(Q, 2)
        if self.backend == "rtb" and len(Q) > 0:
            return np.array(self._ets.eval(Q)).reshape(len(Q), 4, 4)
        return fk_numpy(self.chain, Q)

    def jacobian(self, q: ArrayLike) -> FloatArray:
        """Return the geometric Jacobian (6, n) in the base frame: linear rows, then angular rows."""
        q = self._checked(q, 1)
        return np.array(self._ets.jacob0(q)) if self.backend == "rtb" else jacobian_numpy(self.chain, q)

    def inverse(self, T_base_flange: ArrayLike, q0: ArrayLike, max_iterations: int = 100) -> InverseResult:
        """Return joints that bring the flange to a pose, starting at q0 and staying within limits.

        Damped least squares (Levenberg-Marquardt; Sugihara 2011, damping grows with the error),
        each step projected to the limits. Warm-started along a trajectory it takes 2-4 iterations.

        Args:
            T_base_flange: Wanted pose (4, 4).
            q0: Start (n,); clipped into the limits.
            max_iterations: When to give up.

        Returns:
            The best joints found and whether they reach the pose within 1e-7 m and rad.
        """
        target = np.asarray(T_base_flange, dtype=np.float64)
        start = np.clip(self._checked(q0, 1), self.lower, self.upper)
        if self.backend == "rtb":
            solution = self._ets.ik_LM(target, q0=start, ilimit=30, slimit=1, tol=1e-15, joint_limits=True)
            if solution.success:
                return InverseResult(np.array(solution.q), True)
        return self._inverse_numpy(target, start, max_iterations)

    @functools.cached_property
    def middle(self) -> FloatArray:
        """Middle of the joint limits (n,): a start for `inverse` when nothing better is known."""
        return (self.lower + self.upper) / 2

    def _inverse_numpy(self, target: FloatArray, q: FloatArray, max_iterations: int) -> InverseResult:
        residual = self._residual(target, q)
        damping = 1e-3
        for _ in range(max_iterations):
            if _small(residual):
                return InverseResult(q, True)
            J = jacobian_numpy(self.chain, q)
            step = _limited_step(J, residual, damping * float(residual @ residual) + 1e-12, q, self)
            candidate = np.clip(q + step, self.lower, self.upper)
            new = self._residual(target, candidate)
            if new @ new < residual @ residual:
                q, residual, damping = candidate, new, damping * 0.3
            else:
                damping *= 10.0
                if damping > 1e12:
                    break
        return InverseResult(q, _small(residual))

    def _residual(self, target: FloatArray, q: FloatArray) -> FloatArray:
        """Pose error (6,): translation [m], rotation vector [rad], both in the base frame."""
        T = fk_numpy(self.chain, q)
        return np.concatenate([target[:3, 3] - T[:3, 3], _turn(target[:3, :3] @ T[:3, :3].T)])

    def _checked(self, q: ArrayLike, ndim: int) -> FloatArray:
        q = np.asarray(q, dtype=np.float64)
        if q.ndim != ndim or q.shape[-1] != self.num_joints:
            wanted = f"({self.num_joints},)" if ndim == 1 else f"(N, {self.num_joints})"
            raise ValueError(f"joint values of shape {q.shape}, expected {wanted} without the gripper")
        return q


def _turn(R: FloatArray) -> FloatArray:
    """Return the rotation vector (3,) of R; the quick way up to 170 degrees, the sure way beyond."""
    sines = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
    sine, cosine = math.sqrt(sines @ sines), (R[0, 0] + R[1, 1] + R[2, 2] - 1) / 2
    if cosine < -0.98:
        return rotation_to_vector(R)
    return sines * (math.atan2(sine, cosine) / sine if sine > SMALL_ANGLE else 1.0)


def _small(residual: FloatArray) -> bool:
    position, rotation = np.linalg.norm(residual[:3]), np.linalg.norm(residual[3:])
    return bool(position < POSITION_TOLERANCE and rotation < ROTATION_TOLERANCE)


def _limited_step(
    J: FloatArray, residual: FloatArray, damping: float, q: FloatArray, robot: Robot
) -> FloatArray:
    """Solve the damped normal equations over the joints that are free to move the wanted way.

    A joint at its limit that the gradient pushes outward is held; otherwise clipping would stall
    the step of all others.
    """
    gradient = J.T @ residual
    held = ((q <= robot.lower) & (gradient < 0)) | ((q >= robot.upper) & (gradient > 0))
    J = np.where(held, 0.0, J)
    step = np.linalg.solve(J.T @ J + damping * np.eye(len(q)), J.T @ residual)
    return np.where(held, 0.0, step)


def _build_ets(chain: Chain, lower: FloatArray, upper: FloatArray) -> Any:
    """Return roboticstoolbox's elementary transform sequence of the chain."""
    try:
        import roboticstoolbox as rtb
    except ImportError:
        raise MissingDependencyError(
            "backend 'rtb' needs roboticstoolbox: pip install roboticstoolbox-python; "
            "or use backend 'numpy', which gives the same numbers"
        ) from None
    parts = []
    for i in range(chain.num_joints):
        motion = rtb.ET.tz if chain.prismatic[i] else rtb.ET.Rz
        parts += [rtb.ET.SE3(chain.origins[i]), motion(qlim=[lower[i], upper[i]])]
    # The package re-exports the class under the name of its module, which mypy takes for the module.
    return rtb.ETS([*parts, rtb.ET.SE3(chain.end)])  # type: ignore[operator]
