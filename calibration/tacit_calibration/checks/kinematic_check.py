"""Is the arm's kinematics right? Computed a second time by other code, and compared with a URDF.

`second_opinion` computes the rig's own description anew, by roboticstoolbox or spatialmath: it finds faults
of our code. `compare_chains` compares two descriptions of one arm, say DH rows and a URDF: it finds faults of
the rig. Where they differ, joint signs, zero offsets and fixed base and tool frames are fitted; what is
left after that is another arm, or another vendor's drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError
from tacit.geometry.kinematics import Chain, fk_numpy
from tacit.geometry.toolbox import dh_poses, urdf_poses
from tacit.geometry.transforms import FloatArray, invert, pose_error
from tacit.rig import ArmSpec
from tacit_calibration.estimation.increments import increment_of, small_pose

NUM_STATES, NUM_FITTED = 2000, 12
ROUGH_STEPS, FULL_STEPS, CANDIDATES = 5, 60, 4
AGREE_M, AGREE_DEG = 1e-3, 0.05
"""Drawings of one arm differ by up to .7 mm (rounded link lengths); a millimetre is another arm."""
OFFSET_RAD = np.deg2rad(0.1)
FRAME_M, FRAME_DEG = 1e-3, 0.1
NUM_CHECKED = 100
SAME_M, SAME_DEG = 1e-9, 1e-7
"""Two ways to multiply the same matrices differ by rounding, some 1e-16 m."""


@dataclass(frozen=True)
class SecondOpinion:
    """How far forward kinematics lies from another computation of it: the largest of many joint states.

    Attributes:
        by: Who computed it the second time.
        max_m, max_deg: Largest distance of the flanges.
    """

    by: str
    max_m: float
    max_deg: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.max_m <= SAME_M and self.max_deg <= SAME_DEG

    def __str__(self) -> str:
        return f"at most {1e3 * self.max_m:.2g} mm and {self.max_deg:.2g} deg from {self.by}"


def second_opinion(arm: ArmSpec, seed: int = 0) -> SecondOpinion:
    """Compute where the flange is by code that shares nothing with ours, at random joints.

    DH rows go through roboticstoolbox's `DHRobot`, a URDF through spatialmath, joint by joint.

    Raises:
        MissingDependencyError: That package is not installed.
    """
    Q = np.random.default_rng(seed).uniform(-np.pi, np.pi, (NUM_CHECKED, len(arm.joints)))
    rows = arm.dh_rows
    if rows is not None:
        other, by = dh_poses(rows, Q), "roboticstoolbox's DHRobot"
    else:
        other = urdf_poses(str(arm.urdf), str(arm.base_link), str(arm.tip_link), Q)
        by = "the URDF by spatialmath"
    apart = pose_error(fk_numpy(arm.chain, Q), other)
    return SecondOpinion(by, float(apart.translation.max()), float(np.rad2deg(apart.rotation.max())))


@dataclass(frozen=True, eq=False)
class ChainFit:
    """What turns another chain into this one.

    Attributes:
        signs: Sign of each joint (n,), -1 where the other chain turns the other way.
        offsets: To be added to each joint (n,) [rad].
        T_base, T_tip: The other chain's base in this one's, and this one's tip in the other's.
        cost: Mean squared increment that is left [rad^2 and m^2].
    """

    signs: NDArray[np.int64]
    offsets: FloatArray
    T_base: FloatArray
    T_tip: FloatArray
    cost: float

    def moved(self, other: Chain, Q: FloatArray) -> FloatArray:
        """Return the poses (N, 4, 4) of the other chain with the fit applied."""
        return np.asarray(self.T_base @ fk_numpy(other, self.signs * Q + self.offsets) @ self.T_tip)


@dataclass(frozen=True, eq=False)
class ChainComparison:
    """How far two chains are apart, and how one becomes the other.

    Attributes:
        mean_m, max_m, mean_deg, max_deg: Distance of the flanges over random joints.
        fit: What turns the other chain into this one.
        left_m: Largest distance once that is taken into account.
    """

    mean_m: float
    max_m: float
    mean_deg: float
    max_deg: float
    fit: ChainFit
    left_m: float

    @property
    def agree(self) -> bool:
        """Whether the chains are the same as they stand."""
        return self.max_m <= AGREE_M and self.max_deg <= AGREE_DEG

    def differences(self, names: Sequence[str]) -> list[str]:
        """Say in words what makes one chain the other."""
        if self.agree:
            return []
        fit = self.fit
        found = [f"{n} turns the other way" for n, sign in zip(names, fit.signs, strict=True) if sign < 0]
        found += [
            f"{name} has its zero {np.rad2deg(offset):+.2f} deg elsewhere"
            for name, offset in zip(names, fit.offsets, strict=True)
            if abs(offset) > OFFSET_RAD
        ]
        for label, T in (("base", fit.T_base), ("tool", fit.T_tip)):
            metres, degrees = _apart(T, np.eye(4))
            if metres > FRAME_M or degrees > FRAME_DEG:
                found.append(f"the {label} frames are {1e3 * metres:.1f} mm and {degrees:.2f} deg apart")
        found.append(f"with that they differ by {1e3 * self.left_m:.2f} mm at most")
        return found


def compare_chains(this: Chain, other: Chain, seed: int = 0) -> ChainComparison:
    """Compare two chains of the same joints, by order.

    Raises:
        CalibrationError: Another number of joints.
    """
    if this.num_joints != other.num_joints:
        raise CalibrationError(
            f"chains of {this.num_joints} and {other.num_joints} joints; nothing to compare"
        )
    Q = np.random.default_rng(seed).uniform(-np.pi, np.pi, (NUM_STATES, this.num_joints))
    here = fk_numpy(this, Q)
    metres, degrees = _apart(here, fk_numpy(other, Q))
    fit = fit_chain(this, other, Q[:NUM_FITTED])
    left, _ = _apart(here, fit.moved(other, Q))
    means = float(metres.mean()), float(degrees.mean())
    return ChainComparison(
        means[0], float(metres.max()), means[1], float(degrees.max()), fit, float(left.max())
    )


def fit_chain(this: Chain, other: Chain, Q: FloatArray) -> ChainFit:
    """Return the best fit at joints Q (N, n): all joints as they are, else with some flipped."""
    fit = _fitted(this, other, Q, np.ones(this.num_joints, dtype=np.int64), FULL_STEPS)
    if fit.cost < AGREE_M**2:
        return fit
    # A flipped sign cannot be reached by small steps, so each choice is tried: roughly, the best in full.
    flips = [np.array(signs) for signs in itertools.product((1, -1), repeat=this.num_joints)]
    rough = sorted((_fitted(this, other, Q, signs, ROUGH_STEPS) for signs in flips), key=lambda c: c.cost)
    full = [_fitted(this, other, Q, candidate.signs, FULL_STEPS) for candidate in rough[:CANDIDATES]]
    # Flipping a joint can equal turning base or tool round: of equals the one with fewer flips is named.
    return min([fit, *full], key=lambda candidate: candidate.cost * (1 + 1e-6 * np.sum(candidate.signs < 0)))


def _fitted(this: Chain, other: Chain, Q: FloatArray, signs: NDArray[np.int64], steps: int) -> ChainFit:
    """Fit zero offsets of the inner joints, base and tool; the first and last zero are part of them."""
    from scipy.optimize import least_squares  # slow to import

    count, target = this.num_joints, fk_numpy(this, Q)

    def unpack(x: FloatArray, cost: float) -> ChainFit:
        offsets = np.concatenate([[0.0], x[12:], [0.0]])
        return ChainFit(signs, offsets, small_pose(x[:6]), small_pose(x[6:12]), cost)

    def residuals(x: FloatArray) -> FloatArray:
        return increment_of(invert(target) @ unpack(x, 0.0).moved(other, Q)).ravel()

    start = np.zeros(12 + count - 2)
    start[6:12] = increment_of(invert(fk_numpy(other, signs * Q[0])) @ target[0])
    found = least_squares(residuals, start, max_nfev=steps)
    return unpack(found.x, 2 * found.cost / len(Q))


def _apart(T: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the distances (...) [m] and [deg] of poses (..., 4, 4)."""
    error = pose_error(T, other)
    return error.translation, np.rad2deg(error.rotation)
