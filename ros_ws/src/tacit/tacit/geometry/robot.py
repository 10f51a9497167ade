"""An arm that can be asked: where is the flange, how does it move, which joints reach a pose.

`Robot.from_rig` takes the chain from the rig. Forward kinematics and the Jacobian are our own
(`kinematics`, some microseconds); inverse kinematics is roboticstoolbox's (`toolbox`, imported on first use).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import RigError, did_you_mean
from tacit.geometry.kinematics import Chain, fk_numpy, jacobian_numpy
from tacit.geometry.toolbox import ets_of
from tacit.geometry.transforms import FloatArray

__all__ = ["InverseResult", "Robot", "fk_numpy"]

POSITION_TOLERANCE = 1e-7
ROTATION_TOLERANCE = 1e-7
"""A tenth of a micrometre, and the turn that moves a 1 m lever by as much: below any encoder."""
MAX_STEPS = 30
"""Iterations from one start: the solver converges in 3 to 10; what takes more circles a singularity."""
DAMPING = 1.0
"""Factor on Chan's damping, the squared error itself, which vanishes at the goal. Tried 1, .1 and .01."""
START_SPREADS = (0.0, *np.geomspace(0.1, 2.0, 16).tolist())
"""How far [rad or m] starts are drawn around the given one, in this order, until one leads into the limits.

Of 400 random poses of a Nova 2 with limits cut to 40 %, .6 rad from the start, one start reaches 97 % and
these reach all; from a start anywhere 41 and 77 %. Near starts come first, to stay on the same branch.
"""
WHOLE_TURN = 2 * np.pi


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
    """

    chain: Chain
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def from_rig(cls, rig: ArmHolder, arm: str | None = None) -> Robot:
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
        return cls(spec.chain, lower, upper)

    @property
    def num_joints(self) -> int:
        """Number of joints n."""
        return self.chain.num_joints

    def forward(self, q: ArrayLike) -> FloatArray:
        """Return T_base_flange (4, 4) [m] for joints q (n,).

        Raises:
            ValueError: q has another length (strip the gripper first: `rig.arm_slice`).
        """
        return fk_numpy(self.chain, self._checked(q, 1))

    def forward_batch(self, Q: ArrayLike) -> FloatArray:
        """Return T_base_flange (N, 4, 4) [m] for joints Q (N, n)."""
        return fk_numpy(self.chain, self._checked(Q, 2))

    def jacobian(self, q: ArrayLike) -> FloatArray:
        """Return the geometric Jacobian (6, n) in the base frame: linear rows, then angular rows."""
        return jacobian_numpy(self.chain, self._checked(q, 1))

    def inverse(self, T_base_flange: ArrayLike, q0: ArrayLike) -> InverseResult:
        """Return joints that bring the flange to a pose, starting at q0 and staying within limits.

        roboticstoolbox's compiled Levenberg-Marquardt (`ETS.ik_LM`, Chan's damping) knows no limits on its
        way and checks them only at the end. So its answer is turned by whole turns to where q0 is, clipped
        into the limits, and kept if our own forward kinematics still puts the flange there; if not, other
        starts around q0 are tried, always the same ones.

        Args:
            T_base_flange: Wanted pose (4, 4).
            q0: Start (n,); clipped into the limits.

        Returns:
            Joints that reach the pose within 1e-7 m and 1e-7 rad; or the start, when none were found.
        """
        target = np.asarray(T_base_flange, dtype=np.float64)
        start = np.clip(self._checked(q0, 1), self.lower, self.upper)
        # It stops at half the squared error. A hundredth of what is accepted costs one more step, since it
        # converges quadratically, and a joint that comes out a hair beyond its limit can be clipped then.
        enough = 0.5 * (0.01 * POSITION_TOLERANCE) ** 2
        for offset in self._offsets:
            near = np.clip(start + offset, self.lower, self.upper)
            found = self._ets.ik_LM(
                target, q0=near, ilimit=MAX_STEPS, slimit=1, tol=enough, joint_limits=False, k=DAMPING
            )
            for q in self._within_limits(np.array(found.q), start) if found.success else ():
                if _same_pose(fk_numpy(self.chain, q), target):
                    return InverseResult(q, True)
        return InverseResult(start, False)

    @functools.cached_property
    def _ets(self) -> Any:
        return ets_of(self.chain)

    @functools.cached_property
    def _offsets(self) -> FloatArray:
        """Where to start from the given joints (17, n): there, then ever further; the same in every call."""
        drawn = np.random.default_rng(0).uniform(-1, 1, (len(START_SPREADS), self.num_joints))
        return drawn * np.array(START_SPREADS)[:, None]

    def _within_limits(self, q: FloatArray, near: FloatArray) -> Iterator[FloatArray]:
        """Yield q turned by whole turns to be near, then as the limits ask; both clipped to the limits."""
        turns = np.where(self.chain.prismatic, 0.0, np.round((near - q) / WHOLE_TURN))
        yield np.clip(q + WHOLE_TURN * turns, self.lower, self.upper)
        # Only now: a joint that came out a hair beyond its limit belongs there, not a whole turn away.
        lowest, highest = np.ceil((self.lower - q) / WHOLE_TURN), np.floor((self.upper - q) / WHOLE_TURN)
        turns = np.where(self.chain.prismatic, 0.0, np.clip(turns, lowest, highest))
        yield np.clip(q + WHOLE_TURN * turns, self.lower, self.upper)

    def _checked(self, q: ArrayLike, ndim: int) -> FloatArray:
        q = np.asarray(q, dtype=np.float64)
        if q.ndim != ndim or q.shape[-1] != self.num_joints:
            wanted = f"({self.num_joints},)" if ndim == 1 else f"(N, {self.num_joints})"
            raise ValueError(f"joint values of shape {q.shape}, expected {wanted} without the gripper")
        return q


def _same_pose(T: FloatArray, target: FloatArray) -> bool:
    # ||R - R'|| is sqrt(2) times a small angle: no need for logarithms in a check that runs at every tick.
    moved, turned = np.linalg.norm(T[:3, 3] - target[:3, 3]), np.linalg.norm(T[:3, :3] - target[:3, :3])
    return bool(moved < POSITION_TOLERANCE and turned < np.sqrt(2) * ROTATION_TOLERANCE)
