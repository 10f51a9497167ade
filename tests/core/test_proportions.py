"""The Wilson interval against published numbers and against its defining equation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.view.proportions import Z_95, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(32, 40, 0.652, 0.895), (40, 40, 0.912, 1.0), (0, 10, 0.0, 0.278)],
)
def test_interval_is_the_published_one(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, trials)
    assert interval.low == pytest.approx(low, abs=1e-3)
    assert interval.high == pytest.approx(high, abs=1e-3)


@given(st.integers(1, 500), st.data())
def test_ends_are_where_the_observed_rate_is_z_deviations_off(trials: int, data: st.DataObject) -> None:
    rate = data.draw(st.integers(0, trials)) / trials
    for end in wilson_interval(round(rate * trials), trials):
        if 1e-6 < end < 1.0 - 1e-6:
            deviation = math.sqrt(end * (1 - end) / trials)
            assert abs(rate - end) == pytest.approx(Z_95 * deviation, rel=1e-6)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_nothing_tried_tells_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
