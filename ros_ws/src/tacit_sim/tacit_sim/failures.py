"""Demonstrations that go wrong on purpose: what a policy does that fails, played by the scripted expert.

A plan that is spoilt is played blindly to its end, as a policy that does not notice would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit_sim.tasks import Task
from tacit_sim.waypoints import HOVER_M, OPEN_M, Waypoint, at_tick

START, ABOVE, DOWN, CLOSED, LIFTED, OVER, APPROACH, PLACED, OPENED = range(9)
"""Waypoints of the plan of an expert by their place in it."""
PAD_HALF_M = 0.012
"""Half the width of a pad: a grasp beside the part by less would still touch it."""
EMPTY_TICKS = 6
"""Before the fingers are closed, so many ticks, they have passed the width of any part."""
OPENING_TICKS = 4
AGAIN_TICKS = (8, 23, 38)
"""After a miss: open, be up again, be above the part again."""
HANG_TICKS = (125, 175)
GO_HOME_TICKS, REST_TICKS = 30, 20


class Mishap(NamedTuple):
    """Something that goes wrong: its kind, and from which to which tick; None: until the end."""

    kind: str
    first: int
    last: int | None = None


@dataclass(frozen=True)
class Plan:
    """Waypoints, and what goes wrong in them."""

    waypoints: list[Waypoint]
    mishaps: tuple[Mishap, ...] = ()


def spoil(kind: str, waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Return the plan with a failure of this kind in it.

    Args:
        kind: One of `FAILURES`; "" changes nothing.
        waypoints: Of an episode that would succeed.
        task: Which part, and where it belongs.
        random: Decides how and when.

    Raises:
        ConfigError: No such kind.
    """
    if not kind:
        return Plan(waypoints)
    if kind not in FAILURES:
        raise ConfigError(f"failure {kind!r}: the experts cannot do it; {did_you_mean(kind, FAILURES)}")
    return FAILURES[kind](waypoints, task, random)


def plan_random(kind: str, T_world_part: FloatArray) -> np.random.Generator:
    """Return the chance of a plan: the same start and kind fail in the same way."""
    start = np.abs(np.round(T_world_part[:2, 3] * 1e9)).astype(np.uint64)
    return np.random.default_rng([*start.tolist(), *kind.encode()])


def _miss(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Close beside the part or above it, and carry nothing to the goal."""
    beside = _beside(waypoints, task, random)
    return Plan(beside, (Mishap("miss", beside[CLOSED].tick - EMPTY_TICKS),))


def _beside(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> list[Waypoint]:
    moved = list(waypoints)
    if random.random() < 0.3:  # above
        up = 2 * task.half_height + PAD_HALF_M + random.uniform(0.003, 0.02)
        for i in (DOWN, CLOSED):
            moved[i] = replace(moved[i], z=up)
        return moved
    yaw = waypoints[DOWN].yaw
    along = np.array([-np.sin(yaw), np.cos(yaw)]) * random.choice([-1.0, 1.0])
    dx, dy = along * (task.part_size[0] + PAD_HALF_M + random.uniform(0.006, 0.02))
    for i in (ABOVE, DOWN, CLOSED, LIFTED):
        moved[i] = replace(moved[i], x=moved[i].x + dx, y=moved[i].y + dy)
    return moved


def _retry(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Miss, notice, and do it again: the whole episode succeeds."""
    missed = _beside(waypoints, task, random)[: CLOSED + 1]
    opened, up, above = (missed[-1].tick + ticks for ticks in AGAIN_TICKS)
    again = [
        replace(missed[-1], tick=opened, opening=OPEN_M),
        replace(missed[-1], tick=up, z=HOVER_M, opening=OPEN_M),
    ]
    later = above - waypoints[ABOVE].tick
    rest = [replace(point, tick=point.tick + later) for point in waypoints[ABOVE:]]
    return Plan([*missed, *again, *rest], (Mishap("miss", missed[-1].tick - EMPTY_TICKS, above),))


def _drop(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Lose the part on the way, and go on with open fingers."""
    # Not above the goal yet: what is lost there may fall where it belongs.
    tick = int(random.integers(waypoints[LIFTED].tick - 6, waypoints[OVER].tick - 8))
    before, after = _cut(waypoints, tick)
    empty = Waypoint.of(tick + OPENING_TICKS, at_tick(waypoints, tick + OPENING_TICKS))
    rest = [empty, *(point for point in after if point.tick > empty.tick)]
    opened = [replace(point, opening=OPEN_M) for point in rest]
    return Plan([*before, *opened], (Mishap("drop", tick + OPENING_TICKS // 2),))


def _hang(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Stand still somewhere, and never go on."""
    tick = int(random.integers(waypoints[ABOVE].tick // 2, waypoints[PLACED].tick))
    before, _ = _cut(waypoints, tick)
    end = replace(before[-1], tick=tick + int(random.integers(*HANG_TICKS)))
    return Plan([*before, end], (Mishap("hang", tick),))


def _wrong_place(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Put the part down beside its goal, or on a mark where it does not belong, and leave."""
    dx, dy = _to_wrong_mark(task, random) if len(task.marks) > 1 else _to_beside(task, random)
    down = waypoints[DOWN].z  # as high as it was held when it stood on the table
    moved = [replace(p, x=p.x + dx, y=p.y + dy) if i >= OVER else p for i, p in enumerate(waypoints)]
    for i in (PLACED, OPENED):
        moved[i] = replace(moved[i], z=down)
    return Plan(moved, (Mishap("wrong_place", waypoints[PLACED].tick + OPENING_TICKS),))


def _to_wrong_mark(task: Task, random: np.random.Generator) -> FloatArray:
    """Draw another mark than the goal; return the way there from the goal (2,) [m]."""
    wrong = [mark for mark in task.marks if mark != task.goal_xy]
    return np.asarray(random.choice(wrong), dtype=np.float64) - task.goal_xy


def _to_beside(task: Task, random: np.random.Generator) -> FloatArray:
    """Draw a place beside the goal; return the way there (2,) [m]."""
    nearest = 0.06 if task.hole_width else 0.035  # beside the walls of a hole; beyond any tolerance
    angle, distance = random.uniform(0, 2 * np.pi), nearest + random.uniform(0, 0.03)
    return distance * np.array([np.cos(angle), np.sin(angle)])


def _abort(waypoints: list[Waypoint], task: Task, random: np.random.Generator) -> Plan:
    """Give up on the way: straight up, back to where it began, and rest there."""
    tick = int(random.integers(waypoints[ABOVE].tick // 2, waypoints[APPROACH].tick))
    before, _ = _cut(waypoints, tick)
    last, start = before[-1], waypoints[START]
    up = replace(last, tick=tick + GO_HOME_TICKS // 2, z=max(last.z, HOVER_M))
    home = replace(start, tick=tick + GO_HOME_TICKS, opening=last.opening)
    rest = replace(home, tick=home.tick + REST_TICKS)
    return Plan([*before, up, home, rest], (Mishap("abort", tick),))


def _cut(waypoints: list[Waypoint], tick: int) -> tuple[list[Waypoint], list[Waypoint]]:
    """Return the plan up to `tick`, which becomes a waypoint, and what came after."""
    here = Waypoint.of(tick, at_tick(waypoints, tick))
    before = [point for point in waypoints if point.tick < tick]
    return [*before, here], [point for point in waypoints if point.tick > tick]


Spoiler = Callable[[list[Waypoint], Task, np.random.Generator], Plan]
FAILURES: Mapping[str, Spoiler] = {
    "miss": _miss,
    "drop": _drop,
    "hang": _hang,
    "wrong_place": _wrong_place,
    "retry": _retry,
    "abort": _abort,
}
"""What the experts can do wrong; after `retry` the task is done all the same."""
