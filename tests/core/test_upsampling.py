"""From the policy's rate to the driver's: limits, smoothness, start, end, silence and late ticks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.bundle.player import ChunkPlayer
from tacit.control.controller import Controller
from tacit.control.safety import MotionLimiter
from tacit.control.upsampling import SmoothPath, Upsampler
from tacit.rig import load_rig, parse_rig

PERIOD = 0.04
LIMITS = {"lower": [-1.0, 0.0], "upper": [1.0, 0.08], "velocity": [2.0, 0.2], "acceleration": [8.0, 2.0]}


def limiter(dt: float) -> MotionLimiter:
    return MotionLimiter(*(np.array(LIMITS[name]) for name in LIMITS), dt)


class Bench:
    """A policy's limiter and an upsampler, each on ticks of its own, some of them late."""

    def __init__(self, hz: float = 250.0, start: tuple[float, float] = (0.0, 0.04)) -> None:
        self.policy, self.output = limiter(PERIOD), Upsampler(limiter(1 / hz), PERIOD)
        self.policy.seed(start)
        self.dt, self.now, self.next_command, self.commanded = 1 / hz, 0.0, PERIOD, None
        self.commands: list[tuple[float, np.ndarray]] = []
        self.sent: list[tuple[float, np.ndarray]] = []

    def command(self, target: np.ndarray | None, late: float = 0.0) -> None:
        """One tick of the policy: limited by the true time; None is a tick at which the thread hangs."""
        time = self.next_command + late
        self.run_to(time)
        self.next_command += PERIOD * max(1, round(late / PERIOD + 1))
        if target is None:
            return
        self.policy.elapse(None if self.commanded is None else time - self.commanded)
        command = self.policy.step(target)
        self.commanded = time
        self.commands.append((time, command))
        self.output.follow(command, self.policy.speed, self.policy.dt, time)

    def run_to(self, time: float, skip: int = 0) -> None:
        while self.now + (skip + 1) * self.dt <= time + 1e-9:
            self.now += (skip + 1) * self.dt
            skip = 0
            value = self.output.step(self.now)
            if value is not None:
                self.sent.append((self.now, value))

    def assert_within_limits(self, slack: float = 1e-7) -> None:
        times, path = np.array([t for t, _ in self.sent]), np.array([q for _, q in self.sent])
        assert (path >= np.array(LIMITS["lower"]) - 1e-9).all()
        assert (path <= np.array(LIMITS["upper"]) + 1e-9).all()
        dt = np.diff(times)[:, None]
        speed = np.diff(path, axis=0) / dt
        assert (np.abs(speed) <= np.array(LIMITS["velocity"]) + slack).all()
        change = np.abs(np.diff(speed, axis=0))
        assert (change <= np.array(LIMITS["acceleration"]) * dt[1:] + slack).all()


def waves(seed: int, ticks: int) -> np.ndarray:
    """Targets (ticks, 2) that a policy may ask for: smooth, steps, beyond every limit."""
    rng = np.random.default_rng(seed)
    time = np.arange(ticks)[:, None] * PERIOD
    smooth = 0.6 * np.sin(2 * np.pi * rng.uniform(0.2, 1.5, 2) * time + rng.uniform(0, 6, 2))
    steps = np.repeat(rng.uniform(-2, 2, (ticks // 10 + 1, 2)), 10, axis=0)[:ticks]
    return np.where(rng.random(2) < 0.5, smooth, steps) * [1.0, 0.1]


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([100.0, 125.0, 333.0, 500.0]))
def test_every_output_is_within_the_limits_whatever_comes_late(seed: int, hz: float) -> None:
    bench, rng = Bench(hz), np.random.default_rng(seed)
    for target in waves(seed, 40):
        hangs, is_late = rng.random() < 0.05, rng.random() < 0.2
        bench.command(None if hangs else target, rng.uniform(0, 1.4 * PERIOD) if is_late else 0.0)
        if rng.random() < 0.1:
            bench.run_to(bench.now + 6 * bench.dt, skip=int(rng.integers(1, 4)))
    bench.output.brake()
    bench.run_to(bench.now + 2.0)
    bench.assert_within_limits()
    assert bench.output.is_at_rest and bench.output.step(bench.now + 1) is None


def test_path_is_the_cubic_b_spline_of_even_points() -> None:
    points = np.random.default_rng(0).normal(size=(12, 3))
    path = SmoothPath(PERIOD)
    path.begin(0.0, points[0])
    for i, point in enumerate(points[1:], start=1):
        path.add(i * PERIOD, point)
    for i in range(2, 10):
        for u in (0.0, 0.3, 0.9):  # the four basis functions, written out
            basis = (
                np.array([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6
            )
            expected = basis @ points[i - 2 : i + 2]
            np.testing.assert_allclose(path.at((i + u) * PERIOD), expected, atol=1e-12)


def test_even_commands_keep_the_limiter_at_the_rim_idle_and_acceleration_continuous() -> None:
    bench, hz = Bench(500.0), 500.0
    for target in waves(3, 60):
        bench.command(target)
    path = np.array([q for _, q in bench.sent])
    acceleration = np.diff(path, 2, axis=0) * hz**2
    jerk = np.abs(np.diff(acceleration, axis=0)) * hz
    # A step of 2 a from one tick of the policy to the next is the most that its limiter can ask for.
    assert (jerk <= 2.05 * np.array(LIMITS["acceleration"]) / PERIOD + 1e-3).all()
    bench.assert_within_limits()
    assert bench.output.starved == 0


def test_largest_step_is_that_of_the_drivers_period_not_of_the_policys() -> None:
    bench = Bench(250.0)
    for _ in range(30):
        bench.command(np.array([1.0, 0.08]))
    steps = np.abs(np.diff([q for _, q in bench.sent], axis=0)).max(axis=0)
    at_once = np.abs(np.diff([q for _, q in bench.commands], axis=0)).max(axis=0)
    assert (steps <= np.array(LIMITS["velocity"]) / 250.0 + 1e-9).all()
    assert at_once[0] > 5 * steps[0]


def test_it_lags_two_periods_and_ends_on_the_last_command() -> None:
    bench = Bench(500.0)
    for k in range(40):
        bench.command(np.array([0.5 * PERIOD * k, 0.04]))
    at_end = bench.sent[-1][1][0]
    assert at_end == pytest.approx(bench.commands[-1][1][0] - 0.5 * 2 * PERIOD, abs=0.5 / 500 + 1e-6)
    for _ in range(12):  # the policy itself comes to rest, as homing does
        bench.command(np.array([0.8, 0.04]))
    bench.output.finish()
    bench.run_to(bench.now + 0.5)
    assert bench.output.is_at_rest
    np.testing.assert_allclose(bench.sent[-1][1], bench.commands[-1][1], atol=1e-9)
    bench.assert_within_limits()


def test_it_starts_at_rest_where_the_arm_was_measured() -> None:
    bench = Bench(500.0, start=(0.3, 0.02))
    for _ in range(4):
        bench.command(np.array([1.0, 0.08]))
    np.testing.assert_allclose(bench.sent[0][1], [0.3, 0.02], atol=2e-5)
    bench.assert_within_limits()


@pytest.mark.parametrize("silence", [False, True])
def test_braking_is_at_once_and_silence_brakes_by_itself(silence: bool) -> None:
    bench = Bench(250.0)
    for _ in range(20):
        bench.command(np.array([1.0, 0.08]) * 0.9)
        if bench.policy.speed[0] > 1.5:
            break
    moving, since = bench.sent[-1][1][0], bench.now
    if not silence:
        bench.output.brake()
    bench.run_to(since + 1.5)
    assert bench.output.is_at_rest
    speed = bench.policy.speed[0]
    waited = PERIOD * 1.5 if silence else 0.0
    assert bench.sent[-1][0] - since <= speed / 8.0 + waited + 2 * bench.dt
    assert bench.sent[-1][1][0] - moving <= speed**2 / 16.0 + speed * (waited + bench.dt)
    assert (bench.output.starved > 0) == silence
    bench.assert_within_limits()


def test_a_run_that_begins_while_the_old_one_brakes_keeps_the_limits() -> None:
    bench = Bench(250.0)
    for _ in range(10):
        bench.command(np.array([0.9, 0.08]))
    bench.output.brake()
    bench.run_to(bench.now + 2 * bench.dt)
    bench.policy.seed(bench.sent[-1][1])
    bench.commanded, bench.next_command = None, bench.now + bench.dt
    for _ in range(20):
        bench.command(np.array([-0.5, 0.0]))
    bench.assert_within_limits()


def test_a_plan_is_what_the_steps_would_be_and_ends_at_rest() -> None:
    stepped, planned = Bench(100.0), Bench(100.0)
    for target in waves(5, 30):
        stepped.command(target)
        planned.now = planned.next_command  # its output is planned with, not stepped
        planned.command(target)
        plan = planned.output.plan(planned.now, 2.0)
        ahead = round(PERIOD * 100)
        planned.sent += [(planned.now + (i + 1) / 100, row) for i, row in enumerate(plan[:ahead])]
        speed = np.diff(np.vstack([plan, plan[-1:]]), axis=0) * 100  # it stays at its last row: at rest
        assert (np.abs(np.diff(speed, axis=0)) <= np.array(LIMITS["acceleration"]) / 100 + 1e-6).all()
    stepped.run_to(stepped.now + PERIOD)
    wanted = {round(t, 6): q for t, q in stepped.sent}
    common = [(wanted[round(t, 6)], q) for t, q in planned.sent if round(t, 6) in wanted]
    assert len(common) > 100
    for expected, found in common:
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(("lag", "state"), [(2, "RUNNING"), (6, "HOLD")])
def test_an_arm_as_far_behind_as_the_path_is_on_course(lag: int, state: str) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["safety"]["tracking_error"] = 0.1
    data["commands"]["command"]["output_hz"] = 250.0
    period_ns = round(PERIOD * 1e9)
    controller = Controller(parse_rig(data, "test"), ChunkPlayer(period_ns, "replace"), PERIOD)
    start = np.array([0.0] * 6 + [0.04])
    assert controller.start(start, None).success
    ramp = start + np.outer(np.arange(40), [1.5 * PERIOD] + [0.0] * 6)
    controller.add(ramp, 0)
    sent = [start] * lag
    for k in range(30):
        command = controller.step(k * period_ns, sent[-lag])
        sent.append(sent[-1] if command is None else command)
    assert controller.state == state, str(controller)
