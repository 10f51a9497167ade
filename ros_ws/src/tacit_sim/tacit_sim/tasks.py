"""Tasks of the cell: the part, where it starts, what counts as done, and which stage it is in.

A task is data; the stage machine looks only at physical truth (contact, height, goal, release).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.transforms import FloatArray

STAGES = ("reach", "lift", "carry", "place", "retreat")
"""Stage names in order; a rig's `steps` stream of the simulator holds indices into them."""

OVER = -1
"""Index of no stage: the tool has left the part where it belongs, and the task is over."""

CLEAR_M = 0.040
"""Height of the tool above the part's centre at which it has left it: a pad is half as high."""

LIFTED_M = 0.080
"""How far a part must have been raised for the episode to count: no pushing along the table."""

CARRY_M = 0.060
"""Height gained at which lifting has become carrying."""

LOOK_NS = 10_000_000
"""How often the stage machine looks at the truth."""

RELEASE_LOOKS = 8
"""Looks without touch before a part counts as let go: contact may flicker."""

Ridge = Literal["along", "upright"]
"""Which way a ridge on a side face of a box runs."""


@dataclass(frozen=True)
class Hidden:
    """What an episode decides and no camera shows.

    Attributes:
        kind: Which ridges the part bears, and so on which of the task's marks it belongs.
        shift_m: How far the part that is felt stands from the middle of the sleeve that is seen, along
            the pads [m].
    """

    kind: int = 0
    shift_m: float = 0.0


@dataclass(frozen=True)
class Task:
    """One task of the cell; lengths in metres, angles in radians, positions in the world frame.

    Attributes:
        part_size: MuJoCo half sizes of the part: box (x, y, z) or cylinder (r, half height).
        start_xy, start_spread: Centre and full width of the uniform square of start positions.
        start_yaw: Largest start angle to either side.
        marks: Where a part of each kind belongs.
        goal_tolerance: Largest distance from the goal in the plane.
        goal_height: Largest height of the part's centre at success.
        instruction: What one would tell a person.
        noise_heights: Tool heights between which the disturbance fades from none to full.
        noise_yaw: Standard deviation of the disturbance about the vertical. Far wider than what a
            robot suffers: the wrist camera must have seen a part askew to learn how to turn to it.
        grasp_spread: Largest offset of the expert's grasp to either side: along the pads [m], in
            height [m], about the vertical. No person grasps twice alike, and a policy that has
            only felt perfect grasps is lost after its first imperfect one.
        ridges: What stands out of the side faces of a box, for each kind. Of several kinds each episode
            draws one, and only touch tells which.
        hole_width: Of the hole at the goal; 0 where there is a mark instead.
        sleeve: Half sizes of the box that cameras see in place of the part; touch feels the part.
        shift: Largest distance to either side between part and sleeve, drawn for each episode.
        goal: Which of the marks is the goal: that of the kind of the episode.
    """

    name: str
    part_shape: str
    part_size: tuple[float, ...]
    start_xy: tuple[float, float]
    start_spread: tuple[float, float]
    start_yaw: float
    marks: tuple[tuple[float, float], ...]
    goal_tolerance: float
    goal_height: float
    instruction: str
    noise_heights: tuple[float, float]
    noise_yaw: float
    grasp_spread: tuple[float, float, float]
    ridges: tuple[tuple[Ridge, ...], ...] = ()
    hole_width: float = 0.0
    sleeve: tuple[float, float, float] | None = None
    shift: float = 0.0
    goal: int = 0

    @property
    def goal_xy(self) -> tuple[float, float]:
        """Where the part belongs."""
        return self.marks[self.goal]

    @property
    def half_height(self) -> float:
        """Height of the part's centre when it stands on the table."""
        return self.part_size[-1]

    def draw(self, seed: int) -> Hidden:
        """Draw what is hidden in the episode of a seed; independent of where the part starts."""
        random = np.random.default_rng([seed, 7])
        kind = int(random.integers(len(self.marks)))
        return Hidden(kind, float(random.uniform(-1.0, 1.0) * self.shift) if self.shift else 0.0)

    def of(self, hidden: Hidden) -> Task:
        """Return the task as it is in an episode where this is hidden."""
        return replace(self, goal=hidden.kind)


MARK_XY = (-0.32, 0.16)
START_XY = (-0.35, -0.04)

CUBE = Task(
    name="place_cube",
    part_shape="box",
    part_size=(0.018, 0.018, 0.025),
    start_xy=START_XY,
    start_spread=(0.08, 0.08),
    start_yaw=float(np.deg2rad(30)),
    marks=(MARK_XY,),
    goal_tolerance=0.020,
    goal_height=0.030,
    instruction="Pick up the cube and put it on the mark.",
    noise_heights=(0.060, 0.120),
    noise_yaw=0.25,
    grasp_spread=(0.004, 0.004, 0.4),
    ridges=(("along", "upright"),),
)
PEG = Task(
    name="insert_peg",
    part_shape="cylinder",
    part_size=(0.012, 0.035),
    start_xy=START_XY,
    start_spread=(0.06, 0.06),
    start_yaw=0.0,
    marks=(MARK_XY,),
    goal_tolerance=0.006,
    goal_height=0.045,
    instruction="Pick up the peg and put it into the hole.",
    noise_heights=(0.100, 0.138),
    noise_yaw=0.006,
    grasp_spread=(0.008, 0.003, 0.15),
    hole_width=0.027,
)
# A ridge is felt only where the pads lie flat on the face: starts and grasps are hardly turned. A small
# spread of starts leaves the policy's few samples to what touch must teach it.
SORT = replace(
    CUBE,
    name="sort_by_feel",
    start_spread=(0.03, 0.03),
    start_yaw=float(np.deg2rad(10)),
    marks=(MARK_XY, (-0.32, -0.24)),
    instruction="Pick up the box and put it on the left mark if its ridges lie along the table, "
    "on the right mark if they stand upright.",
    grasp_spread=(0.004, 0.004, 0.1),
    ridges=(("along",), ("upright",)),
)
# The sleeve is as thick as the peg, so the pads close on both; the peg stands anywhere along it.
IN_HAND = replace(
    PEG,
    name="insert_peg_in_hand",
    start_spread=(0.03, 0.03),
    instruction="Pick up the peg in its sleeve and put the peg into the hole.",
    grasp_spread=(0.002, 0.003, 0.02),
    hole_width=0.028,
    sleeve=(0.0118, 0.021, 0.035),
    shift=0.007,
)
# A millimetre is a third of a pixel of a small policy's picture, and two of its touch.
TIGHT = replace(
    PEG,
    name="insert_tight",
    start_spread=(0.03, 0.03),
    instruction="Pick up the peg and put it into the tight hole.",
    hole_width=0.0255,
)
TASKS = {task.name: task for task in (CUBE, PEG, SORT, IN_HAND, TIGHT)}


def find_task(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        ConfigError: There is no such task; the message lists the valid names.
    """
    if name not in TASKS:
        raise ConfigError(f"task {name!r}: not a task of the simulated cell; {did_you_mean(name, TASKS)}")
    return TASKS[name]


@dataclass(frozen=True)
class Truth:
    """What the simulator knows of the part at one instant.

    Attributes:
        position: Centre of the part (3,) [m], world frame.
        grasped: Both pads press on the part.
        touched: At least one pad presses on the part.
        upright: The part's own z axis is within 15 degrees of the vertical.
        tool_height: Height of the tool [m]; 0 where nobody looked.
    """

    position: FloatArray
    grasped: bool
    touched: bool
    upright: bool = True
    tool_height: float = 0.0


class StageMachine:
    """Stage of a task from physical truth; moves forward only, unless the part was dropped."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.index = 0
        self.lifted = False
        self.over = False
        self._looks_released = 0

    def update(self, truth: Truth) -> int:
        """Take one look at the truth and return the index into `STAGES`."""
        raised = float(truth.position[2]) - self._task.half_height
        self.lifted = self.lifted or raised > LIFTED_M
        self._looks_released = 0 if truth.touched else self._looks_released + 1
        if self._let_go:
            self.index = 4 if self._ended_well(truth) else min(self.index, 0)
        else:
            self.index = max(self.index, self._held_stage(truth, raised))
        clear = truth.tool_height - float(truth.position[2]) > CLEAR_M
        self.over = self.over or (self.index == len(STAGES) - 1 and clear and self.success(truth))
        return self.index

    @property
    def _let_go(self) -> bool:
        return 1 <= self.index <= 3 and self._looks_released >= RELEASE_LOOKS

    def _ended_well(self, truth: Truth) -> bool:
        return self.index == 3 and self.placed(truth)

    def _held_stage(self, truth: Truth, raised: float) -> int:
        """The stage that the truth alone shows while the part is held (or not yet)."""
        if self.index == 0:
            return 1 if truth.grasped else 0
        if self.index == 1:
            return 2 if raised > CARRY_M else 1
        if self.index == 2:
            near = distance_to_goal(self._task, truth.position) < self._task.goal_tolerance
            return 3 if near else 2
        return self.index

    def placed(self, truth: Truth) -> bool:
        """Tell whether the part is in its goal: near in the plane, low, upright."""
        near = distance_to_goal(self._task, truth.position) < self._task.goal_tolerance
        return near and float(truth.position[2]) < self._task.goal_height and truth.upright

    def success(self, truth: Truth) -> bool:
        """Tell whether the task is done: lifted before, now placed and let go."""
        return self.lifted and self.placed(truth) and not truth.touched

    def placed_on(self, truth: Truth) -> int | None:
        """Return the index of the mark, right or wrong, on which the part was placed and let go."""
        mark = mark_under(self._task, truth.position)
        if mark is None:
            return None
        there = StageMachine(replace(self._task, goal=mark))
        there.lifted = self.lifted
        return mark if there.success(truth) else None


def mark_under(task: Task, position: FloatArray) -> int | None:
    """Return the index of the mark nearest to a part at `position` (3,); None where its start is nearer."""
    places = [*task.marks, task.start_xy]
    distances = [math.hypot(position[0] - x, position[1] - y) for x, y in places]
    nearest = int(np.argmin(distances))
    return nearest if nearest < len(task.marks) else None


def distance_to_goal(task: Task, position: FloatArray) -> float:
    """Return the distance of a part at `position` (3,) from the goal in the plane [m]."""
    return math.hypot(position[0] - task.goal_xy[0], position[1] - task.goal_xy[1])
