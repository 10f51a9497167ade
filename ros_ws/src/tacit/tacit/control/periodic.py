"""One thread on absolute deadlines: a late step is skipped and counted, never caught up.

With SCHED_FIFO the period error was 50 to 100 times smaller at the 99th percentile than without;
rclpy timers lost ticks under load and are not used for control.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tacit.threads import OnFailure, WatchedThread

JITTER_WINDOW = 3000
"""Periods that the jitter percentiles look back on: a minute at 50 Hz."""

SWITCH_INTERVAL_S = 0.0005
"""How long another Python thread may keep the interpreter; the default of 5 ms is a tenth of a period."""

SHORTEST_GAP = 0.7
"""Least time from one step to the next, as a part of the period. A step that comes late moves the next ones
back; they return to the grid of deadlines by 0.3 of a period each. Without it the step after a late one came
as early as 0.01 of a period later, and the robot was sent two commands at once."""

SIM_POLL_S = 0.002
"""Longest wait between looks at a simulated clock."""

JUMP_NS = 1_000_000_000
"""A clock this far from the deadline was set anew (a simulator that was reset, a machine that slept): the
steps go on from there, and what lies between does not count as missed."""


class Clock(Protocol):
    """What the loop runs on."""

    def now_ns(self) -> int:
        """Return the present."""

    def sleep_until(self, deadline_ns: int, stop: threading.Event) -> None:
        """Return at the deadline, or soon after `stop` is set."""


class SteadyClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return time.monotonic_ns()

    def sleep_until(self, deadline_ns: int, stop: threading.Event) -> None:
        """Sleep to the deadline; `stop` is honoured at the next step, one period later at most."""
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns > 0 and not stop.is_set():
            time.sleep(remaining_ns / 1e9)


class SimulatedClock:
    """A clock that someone else moves (`/clock`): looked at every 2 ms.

    Args:
        now_ns: Reads it.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._read = now_ns

    def now_ns(self) -> int:
        """Return the simulated time."""
        return self._read()

    def sleep_until(self, deadline_ns: int, stop: threading.Event) -> None:
        """Wait until the clock has reached the deadline; a jump back of a second ends the wait."""
        while not stop.is_set():
            remaining_ns = deadline_ns - self._read()
            if remaining_ns <= 0 or remaining_ns > JUMP_NS:
                return
            stop.wait(min(remaining_ns / 1e9, SIM_POLL_S))


@dataclass(frozen=True)
class JitterSummary:
    """|period error| percentiles [ms], steps done and steps missed."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    steps: int
    missed: int


class PeriodicThread:
    """Calls `step` once a period, from `start` to `stop`.

    A step that is a whole period late or more is left out and counted in `missed`. Two steps are never closer
    together than `SHORTEST_GAP` of a period.

    Args:
        period_ns: Period [ns].
        step: Called on the thread; any exception ends the loop and goes to `on_failure`.
        on_failure: Told on the thread what ended the loop.
        clock: Steady by default.
        priority: SCHED_FIFO priority, 0 for none. Where the system refuses it, `is_realtime` stays False.
    """

    def __init__(
        self,
        period_ns: int,
        step: Callable[[], None],
        on_failure: OnFailure,
        clock: Clock | None = None,
        priority: int = 10,
    ) -> None:
        self._period_ns, self._step = period_ns, step
        self._clock, self._priority = clock or SteadyClock(), priority
        self._ready = threading.Event()
        self._errors_ns: deque[int] = deque(maxlen=JITTER_WINDOW)
        self._thread = WatchedThread("command", self._run, on_failure)
        self.is_realtime = False
        self.steps = self.missed = 0

    def start(self) -> None:
        """Start; returns once the thread has its priority."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread.start()
        self._ready.wait(5.0)

    def stop(self) -> None:
        """Stop after the present step and join."""
        self._thread.stop()

    @property
    def is_at_work(self) -> bool:
        """Whether steps go on; False once one has raised, also while `on_failure` runs."""
        return self._thread.is_alive and self._thread.failure is None

    def jitter(self) -> JitterSummary:
        """Return period errors over the last steps; NaN before the second."""
        errors_ms = np.abs(np.array(self._errors_ns, dtype=np.float64)) / 1e6
        if errors_ms.size == 0:
            return JitterSummary(np.nan, np.nan, np.nan, self.steps, self.missed)
        p50, p99 = np.percentile(errors_ms, [50, 99])
        return JitterSummary(float(p50), float(p99), float(errors_ms.max()), self.steps, self.missed)

    def _run(self) -> None:
        self.is_realtime = self._priority > 0 and _set_fifo(self._priority)
        self._ready.set()
        gap_ns = int(SHORTEST_GAP * self._period_ns)
        deadline_ns = self._clock.now_ns() + self._period_ns
        before_ns: int | None = None
        while True:
            earliest_ns = deadline_ns if before_ns is None else max(deadline_ns, before_ns + gap_ns)
            self._clock.sleep_until(earliest_ns, self._thread.stopping)
            if self._thread.stopping.is_set():
                return
            now_ns = self._clock.now_ns()
            if abs(now_ns - earliest_ns) > JUMP_NS:
                deadline_ns, before_ns = now_ns, None
            late = max(0, (now_ns - deadline_ns) // self._period_ns)
            self.missed += late
            deadline_ns += (late + 1) * self._period_ns
            if before_ns is not None:
                self._errors_ns.append(now_ns - before_ns - self._period_ns)
            before_ns = now_ns
            self.steps += 1
            self._step()


def _set_fifo(priority: int) -> bool:
    """Ask for SCHED_FIFO for the calling thread; False where it is not allowed (no CAP_SYS_NICE)."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (PermissionError, AttributeError, OSError):
        return False
    return True
