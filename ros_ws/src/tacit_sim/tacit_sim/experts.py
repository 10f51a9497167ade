"""Scripted experts: where the tool should be at each tick, and the joints that put it there.

An expert sees the part once, at the start, then plays a schedule of waypoints in tool space
(position, angle about the vertical, opening) with smoothstep between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import FloatArray, from_rotation, invert
from tacit.rig import Rig
from tacit_sim.cell import HOME
from tacit_sim.failures import Mishap, Plan, plan_random, spoil
from tacit_sim.model import only_arm, tool_in_flange
from tacit_sim.tasks import Hidden, Task
from tacit_sim.waypoints import CLOSED_M, HOVER_M, OPEN_M, Waypoint, at_tick

TOOL_DOWN = np.diag([1.0, -1.0, -1.0])

STAY_TICKS = 12
"""How long an expert stays above the part that it has left: what comes after the end shows that it is one."""


@dataclass(frozen=True)
class GraspOffset:
    """How a grasp misses the ideal one: along the pads [m], in height [m], about the vertical [rad]."""

    along: float
    up: float
    yaw: float


def draw_grasp(task: Task, T_world_part: FloatArray) -> GraspOffset:
    """Draw a grasp within the task's spread; the same start gives the same grasp."""
    start = np.abs(np.round(T_world_part[:2, 3] * 1e9)).astype(np.uint64)
    along, up, yaw = np.random.default_rng(start).uniform(-1, 1, 3) * task.grasp_spread
    return GraspOffset(float(along), float(up), float(yaw))


def schedule(
    task: Task,
    T_world_part: FloatArray,
    start: Waypoint,
    offset: GraspOffset | None = None,
    shift_m: float = 0.0,
) -> list[Waypoint]:
    """Return the waypoints of one episode at 25 Hz.

    Args:
        task: What to do.
        T_world_part: Pose (4, 4) of the part at the start.
        start: Tool and opening at tick 0.
        offset: How the grasp misses the ideal one; not at all by default.
        shift_m: How far the part stands from the middle of its sleeve, which is where one grasps.
    """
    offset = offset or GraspOffset(0.0, 0.0, 0.0)
    yaw = float(np.arctan2(T_world_part[1, 0], T_world_part[0, 0]))
    yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4 if task.part_shape == "box" else 0.0
    yaw += offset.yaw
    seen = T_world_part[:2, 3] - shift_m * T_world_part[:2, 1]
    x, y = seen + offset.along * np.array([-np.sin(yaw), np.cos(yaw)])
    gx, gy = task.goal_xy
    if task.hole_width:  # it forgives no offset: bring the part there, not the tool
        gy += offset.along - shift_m * np.cos(yaw)
    above_centre = 0.012 if task.hole_width else 0.0
    grasp = task.half_height + above_centre + offset.up
    approach, placed = (0.080, 0.049) if task.hole_width else (0.029, 0.025)
    approach, placed = approach + offset.up, placed + offset.up
    release = 140 + (15 if task.hole_width else 0)
    return [
        start,
        Waypoint(25, x, y, HOVER_M, yaw, OPEN_M),
        Waypoint(45, x, y, grasp, yaw, OPEN_M),
        Waypoint(57, x, y, grasp, yaw, CLOSED_M),
        Waypoint(75, x, y, HOVER_M, yaw, CLOSED_M),
        Waypoint(105, gx, gy, HOVER_M, 0.0, CLOSED_M),
        Waypoint(125, gx, gy, approach, 0.0, CLOSED_M),
        Waypoint(release, gx, gy, placed, 0.0, CLOSED_M),
        Waypoint(release + 10, gx, gy, placed, 0.0, OPEN_M),
        Waypoint(release + 28, gx, gy, HOVER_M, 0.0, OPEN_M),
        Waypoint(release + 28 + STAY_TICKS, gx, gy, HOVER_M, 0.0, OPEN_M),
    ]


class ToolInverse:
    """Joints for a pose of the tool, warm started: `Robot.inverse` seen from between the gel faces."""

    def __init__(self, rig: Rig) -> None:
        self._robot = Robot.from_rig(rig)
        self._T_world_base = np.asarray(only_arm(rig)[1].T_world_base)
        self._T_flange_tool = tool_in_flange(rig)
        # The first solution imports the solver, some seconds: here, not at the first tick of an episode.
        self.solve(self.pose(np.array(HOME)), np.array(HOME))

    def pose(self, q: FloatArray) -> FloatArray:
        """Return T_world_tool (4, 4) at joints (6,)."""
        return np.asarray(self._T_world_base @ self._robot.forward(q) @ self._T_flange_tool)

    def solve(self, T_world_tool: FloatArray, q: FloatArray) -> FloatArray:
        """Return joints (6,) that reach the pose, starting at `q`; `q` itself where none do."""
        T_base_flange = invert(self._T_world_base) @ T_world_tool @ invert(self._T_flange_tool)
        return self._robot.inverse(T_base_flange, q).q


class Expert:
    """The scripted expert of one task.

    Args:
        rig: The cell's rig.
        task: What to do.
    """

    def __init__(self, rig: Rig, task: Task) -> None:
        self.task = task
        self._inverse = ToolInverse(rig)
        self._plan = Plan([])

    def start(
        self,
        state: FloatArray,
        T_world_part: FloatArray,
        failure: str = "",
        hidden: Hidden = Hidden(),  # noqa: B008  (frozen)
    ) -> None:
        """Plan an episode.

        Args:
            state: Measured state (S,).
            T_world_part: Pose (4, 4) of the part.
            failure: What shall go wrong, one of `failures.FAILURES`; "" nothing.
            hidden: What no camera shows, and the expert knows.
        """
        task = self.task.of(hidden)
        T = self._inverse.pose(state[:-1])
        yaw = float(np.arctan2(T[1, 0], T[0, 0]))
        x, y, z = (float(value) for value in T[:3, 3])
        first = Waypoint(0, x, y, z, yaw, float(state[-1]))
        waypoints = schedule(task, T_world_part, first, draw_grasp(task, T_world_part), hidden.shift_m)
        self._plan = spoil(failure, waypoints, task, plan_random(failure, T_world_part))
        self._q = np.array(state[:-1])

    @property
    def num_ticks(self) -> int:
        """Length of the planned episode in ticks."""
        return self._plan.waypoints[-1].tick

    @property
    def mishaps(self) -> tuple[Mishap, ...]:
        """What goes wrong in the planned episode."""
        return self._plan.mishaps

    def target(self, tick: int) -> FloatArray:
        """Return the clean target (S,) for `tick` (0 is the first); call in order, IK is warm started."""
        x, y, z, yaw, opening = at_tick(self._plan.waypoints, tick + 1)
        T = from_rotation(rotation_from_rpy((0, 0, yaw)) @ TOOL_DOWN, (x, y, z))
        self._q = self._inverse.solve(T, self._q)
        return np.append(self._q, opening)
