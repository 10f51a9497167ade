"""The limiter never exceeds its limits, whatever the targets; the gates name what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.control.safety import (
    LONGEST_STEP,
    Fault,
    MotionLimiter,
    check_age,
    check_chunk,
    check_finite,
    check_range,
    check_skew,
    check_tracking,
    first_fault,
    skew_ms,
)
from tacit.rig import load_rig

MS = 1_000_000
SEQUENCES, STEPS = 10_000, 400
ROUNDING = 1e-9


def random_limits(random: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    lower = random.uniform(-4, 0, n)
    upper = lower + random.uniform(0.05, 8, n)
    return lower, upper, random.uniform(0.05, 5, n), random.uniform(0.5, 40, n)


def random_targets(random: np.random.Generator, n: int, steps: int) -> np.ndarray:
    """Jumps, noise, sweeps and non-finite values, inside and outside the limits."""
    jumps = np.repeat(random.uniform(-8, 8, (steps // 20 + 1, n)), 20, axis=0)[:steps]
    sweep = 6 * np.sin(np.arange(steps)[:, None] * random.uniform(0.01, 1.5, n))
    noise = random.normal(0, random.uniform(0, 3, n), (steps, n))
    targets = np.where(random.random(n) < 0.5, jumps, sweep) + noise
    targets[random.random((steps, n)) < 0.02] = np.nan
    targets[random.random((steps, n)) < 0.01] = np.inf
    return targets


def test_ten_thousand_sequences_stay_within_every_limit() -> None:
    random = np.random.default_rng(7)
    lower, upper, velocity, acceleration = random_limits(random, SEQUENCES)
    dt = float(random.choice([0.005, 0.02, 0.04]))
    limiter = MotionLimiter(lower, upper, velocity, acceleration, dt)
    limiter.seed(random.uniform(lower, upper))
    q, v = limiter.position, np.zeros(SEQUENCES)
    excess = np.zeros(3)
    for target in random_targets(random, SEQUENCES, STEPS):
        q_new = limiter.step(target)
        v_new = (q_new - q) / dt
        found = (
            np.maximum(lower - q_new, q_new - upper).max(),
            (np.abs(v_new) - velocity).max(),
            (np.abs(v_new - v) - acceleration * dt).max() / dt,
        )
        excess, q, v = np.maximum(excess, found), q_new, v_new
    assert excess[0] < ROUNDING and excess[1] < ROUNDING and excess[2] < 1e-6, excess


def late_ticks(random: np.random.Generator, steps: int) -> np.ndarray:
    """Periods from one command to the next: mostly one, often early or late, sometimes a stall."""
    usual = 1 + random.normal(0, 0.02, steps)
    uneven = random.uniform(0.7, 3.0, steps)
    stalls = random.uniform(3.0, 200.0, steps)
    kind = random.random(steps)
    return np.select([kind < 0.5, kind < 0.95], [usual, uneven], stalls)


def test_ten_thousand_sequences_of_late_ticks_stay_within_every_limit_over_the_true_time() -> None:
    """Speed and its change are judged from outside: position over the time that really passed.

    After a silence of more than `LONGEST_STEP` periods the arm stands at its last command: its speed then is
    0, and the next step may be no longer than that of one period.
    """
    random = np.random.default_rng(11)
    lower, upper, velocity, acceleration = random_limits(random, SEQUENCES)
    period = 0.02
    limiter = MotionLimiter(lower, upper, velocity, acceleration, period)
    limiter.seed(random.uniform(lower, upper))
    q, v = limiter.position, np.zeros(SEQUENCES)
    excess = np.zeros(3)
    targets = random_targets(random, SEQUENCES, STEPS)
    for target, periods in zip(targets, late_ticks(random, STEPS), strict=True):
        limiter.elapse(float(periods) * period)
        stood = periods > LONGEST_STEP
        dt, v = (period, np.zeros_like(v)) if stood else (float(periods) * period, v)
        q_new = limiter.brake() if random.random() < 0.1 else limiter.step(target, random.random() < 0.2)
        v_new = (q_new - q) / dt
        found = (
            np.maximum(lower - q_new, q_new - upper).max(),
            (np.abs(v_new) - velocity).max(),
            (np.abs(v_new - v) - acceleration * dt).max() / dt,
        )
        excess = np.maximum(excess, found)
        q, v = q_new, v_new
    assert excess[0] < ROUNDING and excess[1] < ROUNDING and excess[2] < 1e-6, excess


def test_clock_that_was_set_back_counts_as_one_period() -> None:
    limiter, twin = one_joint(), one_joint()
    for elapsed in (0.02, 0.0, -5.0, None):
        limiter.elapse(elapsed)
        assert limiter.step([1.0])[0] == twin.step([1.0])[0]


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**31), dt=st.sampled_from([0.001, 0.01, 0.04, 0.1]))
def test_limits_hold_for_any_step_time_and_any_braking(seed: int, dt: float) -> None:
    random = np.random.default_rng(seed)
    lower, upper, velocity, acceleration = random_limits(random, 8)
    limiter = MotionLimiter(lower, upper, velocity, acceleration, dt)
    limiter.seed(random.uniform(lower, upper))
    v = np.zeros(8)
    for target in random_targets(random, 8, 60):
        choice = random.random()
        q = limiter.brake() if choice < 0.2 else limiter.step(target, approach=choice < 0.4)
        assert (q >= lower - ROUNDING).all() and (q <= upper + ROUNDING).all()
        assert (np.abs(limiter.speed) <= velocity + ROUNDING).all()
        assert (np.abs(limiter.speed - v) <= acceleration * dt + ROUNDING).all()
        v = limiter.speed


def one_joint(dt: float = 0.02) -> MotionLimiter:
    limiter = MotionLimiter([-3.0], [3.0], [1.5], [8.0], dt)
    limiter.seed([0.0])
    return limiter


def test_reachable_targets_pass_unchanged() -> None:
    limiter = one_joint()
    for k in range(200):
        target = 0.5 * np.sin(2 * np.pi * 0.25 * k * 0.02)
        command = limiter.step([target])[0]
        if k > 20:
            assert abs(command - target) < 1e-9


def test_approach_does_not_overshoot_and_settles_sooner() -> None:
    settled, overshoot = {}, {}
    for approach in (False, True):
        limiter = one_joint()
        path = np.array([limiter.step([1.0], approach)[0] for _ in range(200)])
        overshoot[approach] = path.max() - 1.0
        settled[approach] = int(np.flatnonzero(np.abs(path - 1.0) > 0.01)[-1])
    assert overshoot[True] < 1e-9 < 0.05 < overshoot[False]
    assert settled[True] < settled[False]


def test_target_that_is_not_finite_means_stay() -> None:
    limiter = one_joint()
    for _ in range(10):
        assert limiter.step([np.nan])[0] == 0.0
    assert limiter.clamps.tolist() == [10]


def test_brake_stops_within_the_stopping_distance() -> None:
    limiter = one_joint()
    while limiter.speed[0] < 1.5 - 1e-9:
        limiter.step([3.0])
    start = limiter.position[0]
    for _ in range(20):
        limiter.brake()
    assert limiter.is_at_rest
    assert limiter.position[0] - start <= 1.5**2 / (2 * 8.0) + 1.5 * 0.02


def test_a_step_taken_back_leaves_position_and_speed_as_before() -> None:
    limiter, twin = one_joint(), one_joint()
    for one in (limiter, twin):
        one.seed(np.zeros(1))
        for _ in range(5):
            one.step(np.ones(1))
    position, speed = limiter.position, limiter.speed
    limiter.step(np.ones(1))
    limiter.go_back(position, speed)
    assert speed[0] > 0.1 and limiter.speed[0] == speed[0]
    # Without its speed the limiter would stop the joint dead: braking must go on from what was commanded.
    assert [limiter.brake()[0] for _ in range(30)] == [twin.brake()[0] for _ in range(30)]


def test_start_outside_the_limits_moves_back_inside() -> None:
    limiter = one_joint()
    limiter.seed([3.2])
    path = [limiter.step([3.2])[0] for _ in range(200)]
    assert max(path) <= 3.2 and path[-1] == pytest.approx(3.0, abs=1e-6)


def test_speed_scaling_of_the_robot_bounds_the_velocity_and_slows_down_gently() -> None:
    limiter = one_joint()
    while limiter.speed[0] < 1.5 - 1e-9:
        limiter.step([3.0])
    limiter.speed_scale = 0.2
    speeds = [limiter.speed[0]]
    for _ in range(12):
        limiter.step([3.0])
        speeds.append(limiter.speed[0])
    assert (np.diff(speeds) >= -8.0 * 0.02 - ROUNDING).all()
    assert speeds[-1] == pytest.approx(0.3)


def test_limiter_of_a_rig_uses_its_limits() -> None:
    rig = load_rig("nova2_sim")
    limiter = MotionLimiter.from_rig(rig, 0.04)
    assert limiter.upper.tolist() == rig.limits("upper").tolist()
    assert limiter.velocity[-1] == 0.25


def test_limits_that_are_not_positive_are_a_bug() -> None:
    with pytest.raises(ValueError, match="above 0"):
        MotionLimiter([0.0], [1.0], [1.0], [1.0], 0.0)


def reason(fault: Fault | None) -> str | None:
    return fault.reason if fault else None


def test_range_gate_knows_training_range_and_margin() -> None:
    names, low, high = ("a", "b"), [-1.0, 0.0], [1.0, 0.0]
    assert check_range(names, np.array([1.19, 0.019]), low, high) is None
    fault = check_range(names, np.array([1.21, 0.0]), low, high)
    assert fault and fault.reason == "out_of_range" and fault.detail.startswith("a is 1.21")
    assert reason(check_range(names, np.array([0.0, 0.021]), low, high)) == "out_of_range"
    assert reason(check_range(names, np.array([1e6, 0.0]), low, high)) == "out_of_range"
    assert reason(check_range(names, np.array([np.nan, 0.0]), low, high)) == "out_of_range"


@pytest.mark.parametrize(
    ("age_ms", "expected"), [(149, None), (151, "stale"), (-49, None), (-51, "stamp_ahead")]
)
def test_age_gate_refuses_the_old_and_the_future(age_ms: int, expected: str | None) -> None:
    assert reason(check_age("wrist", 10**12, 10**12 + age_ms * MS, 150.0)) == expected


def test_skew_is_the_span_of_all_parts() -> None:
    stamps = {"wrist": 100 * MS, "top": 60 * MS, "joints": 100 * MS}
    assert skew_ms(stamps.values()) == 40.0
    assert check_skew(stamps, 40.0) is None
    fault = check_skew(stamps, 39.0)
    assert fault and fault.reason == "skew" and "top" in fault.detail


def test_chunk_gate_checks_shape_and_every_number() -> None:
    chunk = np.zeros((5, 7))
    assert check_chunk(chunk, 5, 7) is None
    assert reason(check_chunk(chunk, 6, 7)) == "bad_output"
    chunk[4, 6] = np.nan
    assert reason(check_chunk(chunk, 5, 7)) == "not_finite"


def test_tracking_gate_names_the_joint() -> None:
    fault = check_tracking(("a", "b"), np.array([0.0, 1.0]), np.array([0.1, 0.5]), 0.35)
    assert fault and fault.detail.startswith("b is 0.5")
    assert check_tracking(("a",), np.array([0.0]), np.array([0.3]), 0.35) is None


def test_first_fault_wins_and_later_gates_do_not_run() -> None:
    def gates():  # type: ignore[no-untyped-def]
        yield None
        yield Fault("a", "first")
        raise AssertionError("evaluated too far")

    assert first_fault(gates()) == Fault("a", "first")
    assert first_fault([None, None]) is None


def test_finite_gate_counts() -> None:
    assert check_finite("state", np.array([0.0, np.inf, np.nan])) == Fault(
        "not_finite", "state has 2 values that are not finite"
    )
