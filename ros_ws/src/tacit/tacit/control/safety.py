"""What stands between a policy and a robot: gates that name a fault, and the motion limiter.

Pure: stamps and times are passed in. Gates return None or a `Fault`; the policy node brakes, holds
and reports. None of this is safety-rated: the robot's own emergency stop stays in reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

AHEAD_LIMIT_NS = 50_000_000
"""A stamp further in the future than this is another clock, not jitter."""

RANGE_MARGIN = 0.1
"""Slack of the input range, as a part of the width seen in training; a policy answers 1e6 rad plausibly."""

RANGE_FLOOR = 0.02
"""Smallest slack [rad, m]: a joint that never moved in training has a width of zero."""

LONGEST_STEP = 3.0
"""Longest time between two commands, in periods, after which motion goes on where it was. After a longer
silence the arm stands at its last command (drivers give up after as much, and a command is dead by then): it
starts from rest, and by one period, so that a stall never ends in a leap."""

SAME_POSITION = 1e-9
"""A command this close to its target was not clamped [rad, m]: rounding."""


@dataclass(frozen=True)
class Fault:
    """Why the robot must hold: a fixed name for programs, and the numbers for people.

    One that `latches` is an emergency stop: what moves stays stopped until a reset.
    """

    reason: str
    detail: str
    latches: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def first_fault(faults: Iterable[Fault | None]) -> Fault | None:
    """Return the first fault, in the order of the gates; later gates are not evaluated."""
    return next((fault for fault in faults if fault is not None), None)


def check_finite(name: str, values: NDArray[np.floating]) -> Fault | None:
    """Refuse NaN and infinity: one of them makes every output of a network NaN."""
    bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
    return Fault("not_finite", f"{name} has {bad} values that are not finite") if bad else None


def check_range(
    names: Sequence[str], state: NDArray[np.floating], low: ArrayLike, high: ArrayLike
) -> Fault | None:
    """Refuse a state outside what training saw, widened by `RANGE_MARGIN` of its width.

    Args:
        names: Names of the state elements (S,).
        state: Measured state (S,) [rad, m].
        low, high: Least and greatest values of the training split (S,).
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    margin = np.maximum(RANGE_MARGIN * (high - low), RANGE_FLOOR)
    outside = ~((state >= low - margin) & (state <= high + margin))
    if not outside.any():
        return None
    i = int(np.flatnonzero(outside)[0])
    return Fault(
        "out_of_range",
        f"{names[i]} is {state[i]:.4g}, training saw {low[i]:.4g} to {high[i]:.4g}; move the robot back",
    )


def check_age(name: str, stamp_ns: int, now_ns: int, limit_ms: float) -> Fault | None:
    """Refuse what is older than `limit_ms`, or stamped in the future."""
    age_ns = now_ns - stamp_ns
    if age_ns < -AHEAD_LIMIT_NS:
        return Fault(
            "stamp_ahead", f"{name} is stamped {-age_ns / 1e6:.0f} ms in the future; check its clock"
        )
    if age_ns > limit_ms * 1e6:
        return Fault("stale", f"{name} is {age_ns / 1e6:.0f} ms old, allowed {limit_ms:.0f} ms")
    return None


def skew_ms(stamps_ns: Iterable[int]) -> float:
    """Return the time between the earliest and the latest stamp [ms]; 0 for fewer than two."""
    stamps = list(stamps_ns)
    return (max(stamps) - min(stamps)) / 1e6 if stamps else 0.0


def check_skew(stamps_ns: Mapping[str, int], limit_ms: float) -> Fault | None:
    """Refuse an observation whose parts, after alignment, lie more than `limit_ms` apart."""
    spread = skew_ms(stamps_ns.values())
    if spread <= limit_ms:
        return None
    oldest = min(stamps_ns, key=lambda name: stamps_ns[name])
    return Fault("skew", f"parts lie {spread:.0f} ms apart, allowed {limit_ms:.0f} ms; oldest is {oldest}")


def check_chunk(chunk: NDArray[np.floating], num_rows: int, num_actions: int) -> Fault | None:
    """Refuse a chunk that is not (num_rows, num_actions) finite numbers."""
    if chunk.shape != (num_rows, num_actions):
        return Fault("bad_output", f"chunk of shape {chunk.shape}, expected ({num_rows}, {num_actions})")
    return check_finite("chunk", chunk)


def check_tracking(
    names: Sequence[str], command: FloatArray, measured: FloatArray, limit: float
) -> Fault | None:
    """Refuse to go on where a joint is not a number, or further than `limit` [rad, m] from its command."""
    fault = check_finite("measured state", measured)
    if fault is not None:
        return fault
    error = np.abs(command - measured)
    i = int(np.argmax(error))
    if error[i] <= limit:
        return None
    return Fault("tracking", f"{names[i]} is {error[i]:.3g} away from its command, allowed {limit:.3g}")


class MotionLimiter:
    """Bounds position, velocity and acceleration of a stream of targets, elementwise.

    Per step, with q and v of the last command: v_des = clip((target - q) / dt, +-vmax), capped by
    the braking curve v_b(d) = -1.5 a dt + sqrt((1.5 a dt)^2 + 2 a d) at distance d to each
    position limit, then clipped to v +- a dt LAST, so that the acceleration bound always holds.
    A target that is not finite counts as "stay". Arrays may have leading batch axes. dt is the true time
    since the last command, where `elapse` was told it, else the period: braking ahead of a position limit
    holds for any sequence of them, because a step of dt takes away a dt of velocity before it moves.

    Args:
        lower, upper: Position limits (S,) [rad, m].
        velocity, acceleration: Limits (S,) per second and per second squared.
        dt: Period of the steps [s].

    Attributes:
        period: The same [s].
        dt: Time that the next step counts on [s].
        speed_scale: Part of the velocity limits that may be used now, 0 to 1: what the robot reports.
    """

    def __init__(
        self, lower: ArrayLike, upper: ArrayLike, velocity: ArrayLike, acceleration: ArrayLike, dt: float
    ) -> None:
        self.lower, self.upper, self.velocity, self.acceleration = (
            np.asarray(limit, dtype=np.float64) for limit in (lower, upper, velocity, acceleration)
        )
        if not (dt > 0 and (self.velocity > 0).all() and (self.acceleration > 0).all()):
            raise ValueError("dt, velocity and acceleration limits must be above 0")
        self.period = self.dt = dt
        self.speed_scale = 1.0
        self.seed((self.lower + self.upper) / 2)

    @classmethod
    def from_rig(cls, rig: Rig, dt: float) -> MotionLimiter:
        """Return a limiter with the rig's limits, in the order of its state names."""
        lower, upper = rig.limits("lower"), rig.limits("upper")
        return cls(lower, upper, rig.limits("velocity"), rig.limits("acceleration"), dt)

    @property
    def position(self) -> FloatArray:
        """The last command (S,) [rad, m]."""
        return self._q.copy()

    @property
    def speed(self) -> FloatArray:
        """The velocity of the last command (S,) per second."""
        return self._v.copy()

    @property
    def is_at_rest(self) -> bool:
        """Whether the last command does not move."""
        return not self._v.any()

    @property
    def braking_time(self) -> float:
        """How long coming to rest takes from here [s]."""
        return float((np.abs(self._v) / self.acceleration).max())

    def seed(self, measured: ArrayLike) -> None:
        """Start from measured positions (S,), at rest; the clamp counts start anew."""
        self._q = np.array(measured, dtype=np.float64)
        self._v = np.zeros_like(self._q)
        self.clamps = np.zeros(self._q.shape, dtype=np.int64)

    def elapse(self, elapsed: float | None) -> None:
        """Say how long ago the last command was [s]; None where nobody knows: one period.

        A time of 0 or less is a clock that was set back, which says nothing about how long it was.
        """
        if elapsed is None or elapsed <= 0:
            self.dt = self.period
        elif elapsed > LONGEST_STEP * self.period:
            self.dt, self._v = self.period, np.zeros_like(self._v)
        else:
            self.dt = elapsed

    @property
    def resting_place(self) -> FloatArray:
        """Where braking from the last command would end (S,), to within a tick of motion."""
        return self._q + np.sign(self._v) * self._v**2 / (2 * self.acceleration)

    def go_back(self, position: FloatArray, speed: FloatArray) -> None:
        """Take back the last step: `position` and `speed` (S,) are those from before it."""
        self._q, self._v = position.copy(), speed.copy()

    def step(self, target: ArrayLike, approach: bool = False) -> FloatArray:
        """Return the next command (S,) on the way to `target` (S,).

        Args:
            target: Wanted position [rad, m].
            approach: Brake before the target too, so as not to overshoot: for homing and resuming.
                Off while following a chunk, where it would lag behind (.03 rad at .25 Hz).
        """
        raw = np.asarray(target, dtype=np.float64)
        wanted = np.clip(np.where(np.isfinite(raw), raw, self._q), self.lower, self.upper)
        fastest = self.velocity * self.speed_scale
        desired = np.clip((wanted - self._q) / self.dt, -fastest, fastest)
        if approach:
            reach = self._braking_speed(np.abs(wanted - self._q))
            desired = np.clip(desired, -reach, reach)
        self._advance(desired)
        self.clamps += ~(np.abs(self._q - raw) <= SAME_POSITION)
        return self.position

    def brake(self) -> FloatArray:
        """Return the next command (S,) of stopping as fast as the limits allow."""
        self._advance(np.zeros_like(self._v))
        return self.position

    def _advance(self, desired: FloatArray) -> None:
        reach_up = self._braking_speed(self.upper - self._q)
        reach_down = self._braking_speed(self._q - self.lower)
        desired = np.clip(desired, -reach_down, reach_up)
        change = self.acceleration * self.dt
        self._v = np.clip(desired, self._v - change, self._v + change)
        self._q = self._q + self._v * self.dt

    def _braking_speed(self, distance: FloatArray) -> FloatArray:
        lead = 1.5 * self.acceleration * self.dt
        return np.sqrt(lead**2 + 2 * self.acceleration * np.maximum(distance, 0.0)) - lead
