"""Completion on synthetic progress: 400 episodes at 30 Hz, 100 of which stall, with noise and spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.progress import CompletionDetector, DetectorConfig

HZ = 30
FRAME_NS = 1_000_000_000 // HZ


@dataclass(frozen=True)
class Episode:
    """True progress, what an estimator sees of it, and when (frame) it was complete or stuck."""

    truth: np.ndarray
    seen: np.ndarray
    complete: int | None
    stuck: int | None


def synthetic(random: np.random.Generator, stalls: bool) -> Episode:
    """A ramp of 5 to 20 s with uneven speed; it ends in 3 s at 1, or sticks for 20 s on the way."""
    length = int(random.uniform(5, 20) * HZ)
    ramp = np.cumsum(random.uniform(0.2, 1.8, length))
    ramp /= ramp[-1]
    stuck = int(random.uniform(0.2, 0.8) * length)
    truth = np.concatenate(
        [ramp[:stuck], np.full(20 * HZ, ramp[stuck])] if stalls else [ramp, np.ones(3 * HZ)]
    )
    noise = np.zeros(len(truth))
    for t in range(1, len(truth)):
        noise[t] = 0.8 * noise[t - 1] + random.normal(0, 0.04 * np.sqrt(1 - 0.8**2))
    spikes = np.where(random.random(len(truth)) < 0.01, random.uniform(-1, 1, len(truth)), 0.0)
    seen = np.clip(truth + noise + spikes, 0, 1)
    return Episode(truth, seen, None if stalls else length, stuck if stalls else None)


def run(episode: Episode) -> list[str]:
    detector = CompletionDetector()
    return [detector.update(float(p), k * FRAME_NS) for k, p in enumerate(episode.seen)]


@pytest.fixture(scope="module")
def runs() -> list[tuple[Episode, list[str]]]:
    random = np.random.default_rng(400)
    episodes = [synthetic(random, stalls=k % 4 == 0) for k in range(400)]
    return [(episode, run(episode)) for episode in episodes]


def test_no_episode_is_done_falsely_or_missed(runs: list[tuple[Episode, list[str]]]) -> None:
    false = missed = 0
    delays = []
    for episode, states in runs:
        done = states.index("done") if "done" in states else None
        if episode.complete is None:
            false += done is not None
        elif done is None:
            missed += 1
        else:
            false += episode.truth[done] < 0.9
            delays.append((done - episode.complete) / HZ)
    assert (false, missed) == (0, 0)
    assert float(np.median(delays)) <= 0.5


def test_threshold_alone_is_false_or_early_in_most(runs: list[tuple[Episode, list[str]]]) -> None:
    early = 0
    for episode, _ in runs:
        above = np.flatnonzero(episode.seen > 0.95)
        expected = episode.complete if episode.complete is not None else len(episode.seen) + HZ
        early += len(above) > 0 and above[0] < expected - HZ
    assert early > 100


def test_stalls_are_caught_and_none_is_invented(runs: list[tuple[Episode, list[str]]]) -> None:
    caught = sum("stalled" in states for episode, states in runs if episode.stuck is not None)
    invented = sum("stalled" in states for episode, states in runs if episode.stuck is None)
    assert caught >= 95 and invented == 0


def feed(detector: CompletionDetector, value: float, seconds: float, start_ns: int = 0) -> list[str]:
    return [detector.update(value, start_ns + k * FRAME_NS) for k in range(int(seconds * HZ))]


def test_done_waits_for_its_dwell_and_its_earliest_time() -> None:
    states = feed(CompletionDetector(), 1.0, 2.0)
    assert states.index("done") == pytest.approx(1.0 * HZ, abs=1)
    late = CompletionDetector(DetectorConfig(dwell_s=1.5))
    assert feed(late, 1.0, 3.0).index("done") == pytest.approx(1.5 * HZ, abs=1)


def test_done_is_latched_until_reset() -> None:
    detector = CompletionDetector()
    feed(detector, 1.0, 2.0)
    assert set(feed(detector, 0.0, 2.0, 2 * 10**9)) == {"done"}
    detector.reset()
    assert detector.update(0.0, 5 * 10**9) == "running" and not detector.is_done


def test_fall_back_is_regression_until_it_is_made_good() -> None:
    detector = CompletionDetector()
    feed(detector, 0.6, 1.0)
    assert feed(detector, 0.2, 2.0, 10**9)[-1] == "regressed"
    assert feed(detector, 0.45, 2.0, 3 * 10**9)[-1] == "regressed"
    assert feed(detector, 0.58, 1.0, 5 * 10**9)[-1] != "regressed"


def say(detector: CompletionDetector, seconds: float, **told: object) -> list[str]:
    """Say the same for a time, and go on from where the last call ended."""
    start_ns = detector._last_ns
    return [detector.update(0.7, start_ns + k * FRAME_NS, **told) for k in range(1, int(seconds * HZ) + 1)]


def test_success_that_is_told_decides_and_progress_has_no_say() -> None:
    detector = CompletionDetector()
    failed = [detector.update(1.0, k * FRAME_NS, success=0.1) for k in range(5 * HZ)]
    assert "done" not in failed, "the arm went through all the motions"
    assert say(detector, 1.0, success=0.9).index("done") == pytest.approx(0.15 * HZ, abs=1)


def test_a_failure_holds_with_its_kind_until_it_is_made_good() -> None:
    detector = CompletionDetector()
    assert set(say(detector, 1.0, success=0.0, failure=0.1)) == {"running"}
    states = say(detector, 1.0, success=0.0, failure=0.9, kind="miss")
    assert states.index("failed") == pytest.approx(0.3 * HZ, abs=1) and detector.failure == "miss"
    say(detector, 0.2, success=0.0, failure=0.7, kind="drop")
    assert detector.failure == "miss", "one name for most of the time, not the last one said"
    assert set(say(detector, 0.5, success=0.0, failure=0.5, kind="miss")) == {"failed"}, "hysteresis"
    assert say(detector, 1.0, success=0.0, failure=0.1)[-1] == "running" and detector.failure == ""
    assert say(detector, 1.0, success=0.9, failure=0.1)[-1] == "done"


def test_a_flicker_of_failure_or_success_is_neither() -> None:
    detector = CompletionDetector()
    for _ in range(20):
        assert set(say(detector, 0.1, success=0.9, failure=0.9, kind="drop")) == {"running"}
        assert set(say(detector, 0.1, success=0.1, failure=0.1)) == {"running"}


@given(st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf")]), min_size=1))
def test_values_that_are_not_finite_are_invalid_and_leave_no_trace(values: list[float]) -> None:
    detector, clean = CompletionDetector(), CompletionDetector()
    for k in range(60):
        expected = clean.update(0.5, k * FRAME_NS)
        assert detector.update(0.5, k * FRAME_NS) == expected
        if k == 30:
            assert {detector.update(v, k * FRAME_NS) for v in values} == {"invalid"}
    assert detector.smoothed == clean.smoothed


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_smoothed_progress_stays_within_what_was_seen(values: list[float]) -> None:
    detector = CompletionDetector()
    for k, value in enumerate(values):
        detector.update(value, k * FRAME_NS)
    assert min(values) - 1e-9 <= detector.smoothed <= max(values) + 1e-9


def test_stamps_not_counts_measure_time() -> None:
    slow, fast = CompletionDetector(), CompletionDetector()
    for k in range(20):
        slow.update(0.1 * (k % 7), k * 100_000_000)
        for part in range(4):
            fast.update(0.1 * (k % 7), k * 100_000_000 - (3 - part) * 25_000_000)
    assert slow.smoothed == pytest.approx(fast.smoothed, abs=1e-9)


def moved(values: np.ndarray, motion: list[float]) -> list[str]:
    detector = CompletionDetector(DetectorConfig(stall_after_s=2.0, regression_drop=0.1))
    pairs = zip(values.tolist(), motion, strict=True)
    return [detector.update(value, k * FRAME_NS, m) for k, (value, m) in enumerate(pairs)]


def test_a_task_that_goes_on_is_no_stall_and_no_regression_whatever_the_estimate() -> None:
    revised = np.concatenate([np.linspace(0, 0.6, 60), np.full(120, 0.6), np.full(60, 0.4)])
    assert set(moved(revised, [1.0] * len(revised))) == {"running"}
    blind = CompletionDetector(DetectorConfig(stall_after_s=2.0, regression_drop=0.1))
    states = [blind.update(float(v), k * FRAME_NS) for k, v in enumerate(revised)]
    assert {"stalled", "regressed"} <= set(states)


def test_a_task_that_stands_or_goes_back_is_still_found() -> None:
    stands = np.concatenate([np.linspace(0, 0.6, 60), np.full(120, 0.6)])
    assert moved(stands, [1.0] * 60 + [0.0] * 120)[-1] == "stalled"
    falls = np.concatenate([np.linspace(0, 0.6, 60), np.linspace(0.6, 0.2, 60)])
    assert moved(falls, [1.0] * 60 + [-1.0] * 60)[-1] == "regressed"
    forth_and_back = [1.0] * 60 + ([1.0] * 20 + [-1.0] * 20) * 3
    assert "stalled" in moved(np.full(180, 0.3), forth_and_back)  # the arm moves, nothing comes of it
    assert moved(falls, [float("nan")] * 120)[-1] == "regressed"
