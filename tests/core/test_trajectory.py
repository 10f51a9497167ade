"""A command of many points is followed by its times, in ticks and in the table of its stream."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.streams import Aligner, Arrival, Follower, Trajectory, align
from tacit.streams.aligner import StreamPlan

MS = 1_000_000
SECOND = 1_000 * MS
BASE = 1_700_000_000 * SECOND


def trajectory(*points: tuple[float, float]) -> Trajectory:
    """Points (seconds, position) of one joint."""
    times, positions = zip(*points, strict=True)
    return Trajectory(np.array([round(t * SECOND) for t in times]), np.array(positions, float)[:, None])


def test_command_lies_between_the_points_and_stays_at_the_last() -> None:
    motion = trajectory((0.5, 1.0), (1.5, 3.0), (2.0, 0.0))
    seconds = [0.0, 0.5, 1.0, 1.5, 1.75, 2.0, 60.0]
    found = [float(motion.at(round(s * SECOND))[0]) for s in seconds]
    assert found == pytest.approx([1.0, 1.0, 2.0, 3.0, 1.5, 0.0, 0.0])


def commands_at_ticks(arrivals: list[tuple[float, object]], num_ticks: int) -> list[float]:
    """Actions at ticks every 100 ms, of commands (seconds, value)."""
    plans = [StreamPlan("camera", "nearest", 100 * MS), StreamPlan("command", "hold", 50 * MS)]
    pushed = [Arrival("command", BASE + round(s * SECOND), BASE + round(s * SECOND), v) for s, v in arrivals]
    pushed += [Arrival("camera", BASE + k * 100 * MS, BASE + k * 100 * MS + 1, k) for k in range(num_ticks)]
    ticks = align(Aligner(plans, "camera"), pushed)
    return [float(np.asarray(tick.samples["command"].value)[0]) for tick in ticks]


def test_ticks_follow_a_planned_motion() -> None:
    motion = trajectory((0.0, 0.0), (0.4, 0.4))
    found = commands_at_ticks([(0.0, motion)], 7)
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_newer_command_replaces_what_is_left() -> None:
    motion = trajectory((0.0, 0.0), (0.4, 0.4))
    other = trajectory((0.0, 0.15), (0.1, 5.0), (0.2, 6.0))
    assert commands_at_ticks([(0.0, motion), (0.15, np.array([9.0]))], 4) == pytest.approx(
        [0.0, 0.1, 9.0, 9.0]
    )
    assert commands_at_ticks([(0.0, motion), (0.2, other)], 5) == pytest.approx([0.0, 0.1, 0.15, 5.0, 6.0])


def test_a_motion_may_claim_to_last_for_years() -> None:
    years = 2**31 - 1
    follower = Follower(trajectory((0.0, 0.0), (years, years)), BASE, 10 * MS)
    assert [float(v[0]) for _, v in follower.due(BASE + 25 * MS)] == pytest.approx([0.0, 0.01, 0.02])


def test_follower_gives_each_command_once_at_the_rate_of_the_stream_and_the_last_point() -> None:
    follower = Follower(trajectory((0.0, 0.0), (0.25, 2.5)), BASE, 100 * MS)
    assert [(s - BASE, float(v[0])) for s, v in follower.due(BASE + 1)] == [(0, 0.0)]
    assert list(follower.due(BASE + 100 * MS)) == []  # not before its time
    rest = [(round((s - BASE) / MS), float(v[0])) for s, v in follower.due(BASE + 10 * SECOND)]
    assert rest == [(100, pytest.approx(1.0)), (200, pytest.approx(2.0)), (250, pytest.approx(2.5))]
    assert list(follower.due(BASE + 20 * SECOND)) == []
