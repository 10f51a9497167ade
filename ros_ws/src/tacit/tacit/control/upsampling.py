"""From the policy's rate to the driver's: a smooth path through the limited commands, and a sure end.

A driver of 100 to 500 Hz that is told a new position 25 times a second is told steps. The path here is the
line through the commands at their true times, smoothed twice over one period: for even times that is the
uniform cubic B-spline with the commands as control points. Being a weighted mean of the line, it keeps
position and velocity limits whatever the times, and the acceleration limit where they are even; a second
limiter at the driver's rate keeps it where they are not. Position, velocity and acceleration are continuous.
The price is a lag of two periods.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from typing import Literal, NamedTuple

import numpy as np

from tacit.control.last_sent import LastSent
from tacit.control.safety import LONGEST_STEP, MotionLimiter
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

LAG_PERIODS = 2.0
"""How far the path lies behind the commands: one period until the next command is known, one of smoothing."""

BRIDGED_PERIODS = 0.5
"""A command this late is bridged at the speed of the last one; later than that the arm brakes until it is
there."""

ARRIVED = 1e-9
"""Distance and speed below which the end of a path counts as reached [rad, m, per second]: rounding."""

Motion = Literal["resting", "following", "finishing", "braking"]


def lag_ticks(rig: Rig) -> int:
    """Return how many commands are still on their way to the robot while the newest is given."""
    return round(LAG_PERIODS) if any(command.output_hz for command in rig.commands.values()) else 0


class _Bend(NamedTuple):
    """Where the line through the commands changes its velocity, by `change` (S,), at `time` [s]."""

    time: float
    change: FloatArray


class SmoothPath:
    """The line through points at their times, convolved with a triangle two periods wide.

    y(t) = line(t - T) before the bends + sum of change_k R(t - t_k), where R'' is the triangle: a cubic.

    Args:
        period: T, the width of each of the two means [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._bends: deque[_Bend] = deque()

    def begin(self, time: float, position: FloatArray) -> None:
        """Start anew, at rest at `position` (S,)."""
        self._bends.clear()
        self._time = self._end_time = time
        self._start, self._end = position.copy(), position.copy()
        self._velocity, self._end_velocity = np.zeros_like(position), np.zeros_like(position)

    @property
    def end_time(self) -> float:
        """Time of the last point [s]."""
        return self._end_time

    @property
    def end(self) -> FloatArray:
        """The last point (S,)."""
        return self._end

    def add(self, time: float, position: FloatArray) -> None:
        """Go on to `position` (S,) at `time`, which is later than the last point."""
        velocity = (position - self._end) / (time - self._end_time)
        self._bend(velocity)
        self._end_time, self._end = time, position.copy()

    def stop(self) -> None:
        """Stay at the last point from its time on."""
        self._bend(np.zeros_like(self._end))

    def at(self, time: float) -> FloatArray:
        """Return the path (S,) at `time`, which never falls from call to call."""
        while self._bends and time - self._bends[0].time >= 2 * self._period:
            bend = self._bends.popleft()
            self._start = self._start + self._velocity * (bend.time - self._time)
            self._time, self._velocity = bend.time, self._velocity + bend.change
        result = self._start + self._velocity * (time - self._period - self._time)
        for bend in self._bends:
            result = result + bend.change * self._ramp(time - bend.time)
        return result

    def _bend(self, velocity: FloatArray) -> None:
        self._bends.append(_Bend(self._end_time, velocity - self._end_velocity))
        self._end_velocity = velocity

    def _ramp(self, since: float) -> float:
        """A ramp of slope 1 from 0 on, smoothed twice."""
        width = self._period
        if since <= 0:
            return 0.0
        if since <= width:
            return since**3 / (6 * width**2)
        return since - width + max(2 * width - since, 0.0) ** 3 / (6 * width**2)


class Upsampler:
    """Commands in at the policy's rate, from one thread; positions out at the driver's, from another.

    It starts at rest at the position before the first command. When commands are `finish`ed it goes to the
    last one; when it is told to `brake`, or no command has come for three periods, it comes to rest at once
    within the acceleration limits, and then gives nothing. A step counts the true time since the one before,
    one period of the policy at most: a late one goes further, and is never caught up by a leap.

    Args:
        limiter: Has the rig's limits and the driver's period; its own from now on.
        period: Period of the commands [s].

    Attributes:
        starved: How often it had to brake because no command came.
    """

    def __init__(self, limiter: MotionLimiter, period: float) -> None:
        self._limiter, self._period = limiter, period
        self._path = SmoothPath(period)
        self._motion: Motion = "resting"
        self._last_sent = LastSent()
        self._is_interrupted = (
            False  # rests in the middle of a run: it goes on from here, not from the command
        )
        self._lock = threading.Lock()
        self.starved = 0

    @property
    def motion(self) -> Motion:
        """What it does."""
        return self._motion

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, and nothing is on its way."""
        return self._motion == "resting"

    def follow(self, command: FloatArray, speed: FloatArray, dt: float, now: float) -> None:
        """Take a limited command (S,).

        Args:
            command: Position [rad, m].
            speed: Velocity of that command (S,), as the limiter counts it.
            dt: Time that the limiter counted for it [s].
            now: The present on a steady clock [s].
        """
        with self._lock:
            silence = now - self._path.end_time if self._motion != "resting" else np.inf
            if self._motion != "following" or not 0 < silence <= LONGEST_STEP * self._period:
                before = command - speed * dt
                self._path.begin(now - dt, before)
                if self._motion == "resting" and not self._is_interrupted:
                    self._limiter.seed(before)
                    self._last_sent.forget()
            self._path.add(now, command)
            self._motion, self._is_interrupted = "following", False

    def finish(self) -> None:
        """No command comes any more: go to the last one."""
        with self._lock:
            self._is_interrupted = False
            if self._motion == "following":
                self._path.stop()
                self._motion = "finishing"

    def brake(self) -> None:
        """Come to rest as fast as the limits allow, from where it is now."""
        with self._lock:
            self._is_interrupted = False
            if self._motion != "resting":
                self._motion = "braking"

    def step(self, now: float) -> FloatArray | None:
        """Return the position (S,) for the driver at `now` [s]; None at rest."""
        with self._lock:
            return None if self._motion == "resting" else self._advance(now)

    def sent(self, now: float) -> None:
        """Note that the newest position has left by `now` [s]."""
        with self._lock:
            self._last_sent.left(now)

    def plan(self, now: float, longest: float) -> FloatArray:
        """Return the next positions (N, S), one driver's period apart, the first that long after `now`.

        They follow the path for one period of the commands, which is what is known of it, then brake: a
        controller that is given them whole comes to rest by itself where nothing more comes. For an output
        that is planned with, and never stepped; what was planned is taken to have been done.

        Args:
            now: The present [s].
            longest: Time that the plan may take [s].
        """
        with self._lock:
            dt, rows = self._limiter.period, []
            self._catch_up(now)
            moved = self._path, self._limiter, self._last_sent
            before = copy.deepcopy(moved), self._motion, self.starved
            for i in range(1, int(longest / dt) + 1):
                if self._motion == "following" and i * dt > self._period:
                    self._motion = "braking"
                if self._motion != "resting":
                    rows.append(self._advance(now + i * dt))
            (self._path, self._limiter, self._last_sent), self._motion, self.starved = before
            return np.array(rows)

    def _catch_up(self, now: float) -> None:
        """Do what was planned until `now`."""
        dt = self._limiter.period
        done = self._last_sent.since(now)
        if done is None or not 0 <= done <= LONGEST_STEP * self._period:
            self._last_sent.made(now)
            return
        stepped = now - done
        while self._motion != "resting" and now - stepped >= dt / 2:
            stepped = min(stepped + dt, now)
            self._advance(stepped)

    def _advance(self, now: float) -> FloatArray:
        self._elapse(now)
        return self._next(now)

    def _elapse(self, now: float) -> None:
        """Let the limiter count the true time since the last position left."""
        passed = self._last_sent.since(now)
        self._limiter.dt = self._limiter.period
        if passed is not None and passed > LONGEST_STEP * self._period:
            self._limiter.seed(self._limiter.position)  # the arm has come to rest meanwhile
        elif passed is not None and passed > 0:
            self._limiter.dt = min(passed, max(self._period, self._limiter.period))
        self._last_sent.made(now)

    def _next(self, now: float) -> FloatArray:
        due = now - self._period
        if self._motion == "following" and due > self._path.end_time + BRIDGED_PERIODS * self._period:
            return self._starve(now)
        if self._motion == "braking":
            command = self._limiter.brake()
            self._rest_if(True)
            return command
        command = self._limiter.step(self._path.at(due))
        ended = self._motion == "finishing" and due - self._path.end_time >= 2 * self._period
        self._rest_if(ended and bool(np.abs(command - self._path.end).max() <= ARRIVED))
        return command

    def _starve(self, now: float) -> FloatArray:
        """No command has come: brake, for good after three periods."""
        self.starved += 1
        if now - self._path.end_time > LONGEST_STEP * self._period:
            self._motion, self._is_interrupted = "braking", True
        return self._limiter.brake()

    def _rest_if(self, ended: bool) -> None:
        if ended and np.abs(self._limiter.speed).max() <= ARRIVED:
            self._motion = "resting"
