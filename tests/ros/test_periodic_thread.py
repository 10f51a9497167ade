"""The thread that commands at a fixed rate: late steps, stopped clocks, and errors in a step."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benches.testing import wait_until
from tacit.control.periodic import PeriodicThread, SimulatedClock
from tacit.threads import Failure

PERIOD = 40_000_000


@pytest.fixture
def said() -> list[Failure]:
    """What a loop reports."""
    return []


class ManualClock:
    """A clock that a test moves; sleeping past the end of the script stops the loop."""

    def __init__(self, wakes_ns: list[int]) -> None:
        self.wakes_ns, self.now = wakes_ns, 0

    def now_ns(self) -> int:
        return self.now

    def sleep_until(self, deadline_ns: int, stop: threading.Event) -> None:
        if not self.wakes_ns:
            stop.set()
            return
        self.now = max(deadline_ns, self.wakes_ns.pop(0))


def test_late_steps_are_skipped_and_counted_never_fired_twice(said: list) -> None:
    clock, fired = ManualClock([10, 20, 57, 60, 70]), []
    loop = PeriodicThread(10, lambda: fired.append(clock.now), said.append, clock, priority=0)
    loop.start()
    wait_until(lambda: not loop.is_at_work, "the end of the script")
    assert fired == [10, 20, 57, 64, 71]  # back on the grid of tens by three each
    assert (loop.steps, loop.missed) == (5, 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
def test_however_late_the_steps_no_two_are_closer_than_the_shortest_gap(delays: list[int]) -> None:
    """Delays are of each wake-up, in thousandths of a period; what is not fired is counted."""
    clock, fired = LateClock(delays), []
    loop = PeriodicThread(1000, lambda: fired.append(clock.now), [].append, clock, priority=0)
    loop.start()
    wait_until(lambda: not loop.is_at_work, "the end of the delays")
    assert len(fired) == len(delays) and (np.diff(fired) >= 700).all()
    grid = (fired[-1] - 1000) // 1000 + 1  # how many deadlines had passed by the last step
    assert loop.steps + loop.missed in (grid, grid - 1)


class LateClock:
    """A clock that wakes a step by the next of the given delays too late."""

    def __init__(self, delays: list[int]) -> None:
        self.delays, self.now = list(delays), 0

    def now_ns(self) -> int:
        return self.now

    def sleep_until(self, deadline_ns: int, stop: threading.Event) -> None:
        if not self.delays:
            stop.set()
            return
        self.now = max(deadline_ns, self.now) + self.delays.pop(0)


def test_steps_come_at_the_rate_of_the_clock(said: list) -> None:
    stamps: list[int] = []
    loop = PeriodicThread(5_000_000, lambda: stamps.append(time.monotonic_ns()), said.append, priority=0)
    loop.start()
    deadline = time.monotonic() + 20
    while loop.steps < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.stop()
    expected = (stamps[-1] - stamps[0]) / 5_000_000
    assert len(stamps) - 1 + loop.missed == pytest.approx(expected, abs=1.5)
    count = loop.steps
    assert loop.jitter().steps == count and np.isfinite(loop.jitter().p99_ms)


def test_simulated_clock_that_stands_still_fires_nothing(said: list) -> None:
    now = [0]
    fired: list[int] = []
    clock = SimulatedClock(lambda: now[0])
    loop = PeriodicThread(10**7, lambda: fired.append(now[0]), said.append, clock, priority=0)
    loop.start()
    now[0] = 10**7
    deadline = time.monotonic() + 10
    while not fired and time.monotonic() < deadline:
        time.sleep(0.002)
    loop.stop()
    assert fired == [10**7]


@pytest.mark.parametrize("error", [ValueError, AttributeError, MemoryError, SystemExit])
def test_any_error_in_a_step_is_reported_and_ends_the_loop(error: type[BaseException], said: list) -> None:
    def fail() -> None:
        raise error("broken")

    loop = PeriodicThread(1_000_000, fail, said.append, priority=0)
    loop.start()
    wait_until(lambda: said, "a report")
    loop.stop()
    assert isinstance(said[0].error, error) and "fail" in said[0].traceback
    assert loop.steps == 1 and not loop.is_at_work
