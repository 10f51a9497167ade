"""A command that left late: the next one counts from when it left, not from when it was made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.control.controller import Controller
from tacit.control.last_sent import SHORTEST_S, LastSent
from tacit.control.safety import MotionLimiter
from tacit.control.upsampling import Upsampler
from tacit.drivers.dobot.protocol import Feedback
from tacit.drivers.dobot.servo import Servo
from tacit.geometry.transforms import FloatArray
from tacit.rig import load_rig

RIG = load_rig("nova2_sim")
START = np.array([0.0, -0.3, 1.2, 0.1, -1.5, 0.0, 0.04])
VELOCITY = RIG.limits("velocity")
FASTER = 3 * VELOCITY
"""Asked for, so that every step is as long as the limiter allows [per second]."""
PERIOD_S = 0.01

Sender = tuple[Callable[[float], FloatArray | None], Callable[[float], None]]


def to_and_fro(now: float) -> FloatArray:
    """Go as fast as that for 60 ms, then back: the joints stay far from their limits."""
    return START + FASTER * abs(0.06 - now % 0.12)


class Hand:
    """A person who wants to go `to_and_fro`."""

    now = 0.0

    def begin(self) -> None:
        """From where the arm is."""

    def target(self, position: FloatArray, dt: float) -> FloatArray:
        return to_and_fro(self.now)


def controller() -> Sender:
    hand = Hand()
    made = Controller(RIG, None, PERIOD_S, person=hand)
    assert made.take_over(START, None).success

    def step(now: float) -> FloatArray | None:
        hand.now = now
        return made.step(round(1e9 * now), None)

    return step, lambda now: made.sent(round(1e9 * now))


def upsampler() -> Sender:
    made = Upsampler(MotionLimiter.from_rig(RIG, PERIOD_S), 4 * PERIOD_S)

    def step(now: float) -> FloatArray | None:
        made.follow(to_and_fro(now), np.zeros(7), PERIOD_S, now)
        return made.step(now)

    return step, made.sent


def servo() -> Sender:
    limits = (RIG.limits(name)[:6] for name in ("lower", "upper", "velocity", "acceleration"))
    made = Servo(MotionLimiter(*limits, PERIOD_S), 9.0, 0.2)

    def step(now: float) -> FloatArray | None:
        made.hear(Feedback(START[:6], np.zeros(6), 5, 1.0, round(1e6 * now), False, False), now)
        made.take(START[:6] if not made.is_moving else to_and_fro(now)[:6], now)
        return made.step(now)

    return step, made.sent


@pytest.mark.parametrize("make", [controller, upsampler, servo])
@settings(max_examples=30, deadline=None)
@given(delays=st.lists(st.sampled_from([0.0, 0.01, 0.5, 0.98, 2.4]), min_size=10, max_size=40))
def test_no_step_goes_further_than_the_time_between_two_sendings_allows(
    make: Callable[[], Sender], delays: list[float]
) -> None:
    """Delays are from making to sending, in periods; the next step begins at its deadline, or right after."""
    step, sent = make()
    now, before = 0.0, None
    for delay in delays:
        now = max(round(now / PERIOD_S + 0.5) * PERIOD_S, now + 1e-4)
        command = step(now)
        now += delay * PERIOD_S
        if command is None:
            before = None
            continue
        sent(now)
        if before is not None:
            reach = VELOCITY[: len(command)] * (now - before[0])
            assert (np.abs(command - before[1]) <= reach + 1e-9).all()
        before = now, command


def test_a_clock_that_stands_is_not_one_that_was_set_back() -> None:
    last = LastSent()
    assert last.since(1.0) is None
    last.made(1.0)
    assert last.since(1.5) == 0.5 and last.since(1.0) == 0.0 and last.since(0.5) == -0.5
    last.left(1.2)
    assert last.since(1.2) == SHORTEST_S and last.since(1.7) == pytest.approx(0.5)
    last.left(0.1)  # the clock was set back meanwhile
    assert last.since(1.7) == pytest.approx(0.5)
    last.forget()
    last.left(3.0)
    assert last.since(4.0) is None
