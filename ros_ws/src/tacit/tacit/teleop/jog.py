"""Cartesian jogging of one arm: a twist of its tool becomes the next joints, near singularities too.

Damped least squares on the Jacobian (Wampler 1986, doi:10.1109/TSMC.1986.289285) with damping that grows as
the smallest singular value falls (Nakamura and Hanafusa 1986, doi:10.1115/1.3143764). A motion that leads on
towards the singularity is slowed down to nothing, one that leads away from it is not. Limits of joints slow
down the whole motion: the tool keeps its direction.
"""

from __future__ import annotations

import numpy as np

from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_vector, rotation_to_vector
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

LEVER_M = 0.2
"""Length by which turning is weighed against sliding: about that of a forearm with its tool."""

SLOW_BELOW_M, STOP_BELOW_M = 0.06, 0.012
"""Smallest singular values (of the weighed Jacobian, m/rad) at which slowing down begins, and has ended.
A Nova 2 over its table has 0.10 to 0.15."""

FAR_FROM_SINGULAR_M = 0.07

MOST_DAMPING_M = 0.03
"""Damping where nothing is left: joints then turn at 1 / (2 * 0.03 m) of the tool's speed at most, 1.7 rad/s
at 0.1 m/s."""

PULL_PER_S = 5.0
"""How fast the tool is brought back to the straight line that it was to follow: half in 0.14 s."""

FAR_M, FAR_RAD = 0.02, 0.1
"""Further off the line (held back by limits), the line begins anew where the tool is."""

MARGIN = 1e-3
"""Room left before a joint's limit [rad, m]."""


class Jogger:
    """Moves the tool of one arm of a rig.

    The tool's point lies midway between its tactile sensors when closed, or in the flange without any; its
    axes are the flange's.

    Args:
        rig: The robot.
        arm: Name of the arm.
        speed_part: Part of the joints' velocity limits that jogging may use.
    """

    def __init__(self, rig: Rig, arm: str, speed_part: float = 0.5) -> None:
        self._robot = Robot.from_rig(rig, arm)
        self._R_base_world = np.asarray(rig.arms[arm].T_world_base)[:3, :3].T
        self._fastest = speed_part * rig.limits("velocity")[rig.arm_slice(arm)]
        self._p_flange_tool = tool_point(rig, arm)
        self._line: FloatArray | None = None
        self._before = np.zeros(6)

    def stand(self) -> None:
        """Note that the tool stands: the next motion begins a line of its own."""
        self._line = None

    def pose(self, q: FloatArray) -> FloatArray:
        """Return T_base_tool (4, 4) at joints q (n,)."""
        T = self._robot.forward(q)
        T[:3, 3] += T[:3, :3] @ self._p_flange_tool
        return T

    def step(self, q: FloatArray, twist: FloatArray, frame: str, dt: float) -> FloatArray:
        """Return the joints (n,) after `dt`.

        Args:
            q: Joints of the last command (n,).
            twist: Velocity of the tool's point [m/s], then turning rate [rad/s] (6,).
            frame: Axes of the twist: `world` or `tool`.
            dt: Time to the next command [s].
        """
        T = self.pose(q)
        R = T[:3, :3] if frame == "tool" else self._R_base_world
        wanted = np.concatenate([R @ twist[:3], R @ twist[3:]])
        self._line = self._line_from(T, wanted)
        moved, turned = _apart(self._line, T)
        pull = PULL_PER_S * np.concatenate([moved, turned])
        rates, smallest = self._rates(q, T, wanted + pull)
        slow = self._slow_down(q, rates, smallest, dt)
        self._line = _advanced(self._line, slow * wanted, dt)
        return q + slow * rates * dt

    def _line_from(self, T: FloatArray, wanted: FloatArray) -> FloatArray:
        """Return the pose (4, 4) that the tool should be in now, to be pulled to.

        A new wish begins a new line where the tool is: the old one may have led through a wall. As long as
        no turn is wanted, the tool keeps its old attitude.
        """
        is_new, self._before = not np.array_equal(wanted, self._before), wanted
        if self._line is None or _is_far(*_apart(self._line, T)):
            return T
        if not is_new:
            return self._line
        line = T.copy()
        if not wanted[3:].any():
            line[:3, :3] = self._line[:3, :3]
        return line

    def _rates(self, q: FloatArray, T: FloatArray, twist: FloatArray) -> tuple[FloatArray, float]:
        """Return joint rates (n,) for a twist in the base's axes, and the smallest singular value."""
        J = self._jacobian(q, T)
        u, s, vt = np.linalg.svd(J, full_matrices=False)
        near = 1.0 - min(1.0, float(s[-1]) / SLOW_BELOW_M)
        damped = s / (s**2 + (near * MOST_DAMPING_M) ** 2)
        return np.asarray(vt.T @ (damped * (u.T @ _weighed(twist)))), float(s[-1])

    def _jacobian(self, q: FloatArray, T: FloatArray) -> FloatArray:
        """Return the Jacobian (6, n) of the tool's point in the base's axes, turning weighed by the lever."""
        J = self._robot.jacobian(q)
        lever = T[:3, :3] @ self._p_flange_tool
        J[:3] += np.cross(J[3:].T, lever).T
        J[3:] *= LEVER_M
        return J

    def _slow_down(self, q: FloatArray, rates: FloatArray, smallest: float, dt: float) -> float:
        """Return the part (0 to 1) of the motion that velocity, limits and singularity leave."""
        fastest = np.abs(rates) / self._fastest
        part = 1.0 / max(1.0, float(fastest.max()))
        after = q + part * rates * dt
        room = np.where(rates > 0, self._robot.upper - MARGIN - q, q - self._robot.lower - MARGIN)
        way = np.abs(after - q)
        blocked = way > np.maximum(room, 0.0)
        if blocked.any():
            part *= float((np.maximum(room, 0.0) / np.where(blocked, way, 1.0))[blocked].min())
        return part * self._towards_singularity(smallest, after)

    def _towards_singularity(self, now: float, after: FloatArray) -> float:
        """Return the part of a motion to `after` (n,) that is left where it leads on towards one."""
        if now >= FAR_FROM_SINGULAR_M:  # no single step leads from here into one: most ticks end here
            return 1.0
        then = float(np.linalg.svd(self._jacobian(after, self.pose(after)), compute_uv=False)[-1])
        if then >= min(now, SLOW_BELOW_M):
            return 1.0
        return float(np.clip((then - STOP_BELOW_M) / (SLOW_BELOW_M - STOP_BELOW_M), 0.0, 1.0))


def tool_point(rig: Rig, arm: str) -> FloatArray:
    """Return where the tool of an arm is in its flange (3,) [m]: midway between its tactile sensors."""
    held = [s for s in rig.tactile.values() if s.mount.partition(".")[0] == arm]
    if not held:
        return np.zeros(3)
    return np.asarray(np.mean([sensor.T_mount_sensor[:3, 3] for sensor in held], axis=0))


def _weighed(twist: FloatArray) -> FloatArray:
    return twist * np.array([1, 1, 1, LEVER_M, LEVER_M, LEVER_M])


def _apart(line: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how the tool must slide [m] and turn [rad] to be on its line."""
    return line[:3, 3] - T[:3, 3], rotation_to_vector(line[:3, :3] @ T[:3, :3].T)


def _is_far(moved: FloatArray, turned: FloatArray) -> bool:
    return bool(np.linalg.norm(moved) > FAR_M or np.linalg.norm(turned) > FAR_RAD)


def _advanced(T: FloatArray, twist: FloatArray, dt: float) -> FloatArray:
    after = T.copy()
    after[:3, 3] += twist[:3] * dt
    after[:3, :3] = rotation_from_vector(twist[3:] * dt) @ T[:3, :3]
    return after
