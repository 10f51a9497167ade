"""Progress from steps: the formula frame by frame, background that holds, the end at one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.episode import Step, video_progress


def by_the_formula(steps: list[Step], num_ticks: int) -> list[float]:
    """p_t = (n - 1) / A + (t - s + 1) / (A L), the last value between steps, one frame at a time."""
    values: list[float] = []
    for t in range(num_ticks):
        value = values[-1] if values else 0.0
        for n, (_, s, e) in enumerate(steps, 1):
            if s <= t <= e:
                value = (n - 1) / len(steps) + (t - s + 1) / (len(steps) * (e - s + 1))
        values.append(value)
    return values


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=6), st.integers(0, 5))
def test_progress_is_the_formula_at_every_frame(pieces: list[tuple[int, int]], tail: int) -> None:
    steps, frame = [], 0
    for gap, length in pieces:
        steps.append(Step("step", frame + gap, frame + gap + length - 1))
        frame += gap + length
    progress = video_progress(steps, frame + tail)
    np.testing.assert_allclose(progress, by_the_formula(steps, frame + tail), atol=1e-6)
    assert np.all(np.diff(progress) >= 0)
    assert progress[-1] == pytest.approx(1.0)


def test_background_is_no_step() -> None:
    steps = [Step("SIL", 0, 3), Step("reach", 4, 7), Step("background", 8, 9)]
    np.testing.assert_allclose(video_progress(steps, 10), [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])


def test_an_episode_without_steps_makes_no_progress() -> None:
    assert not video_progress([], 5).any()


def test_a_step_that_the_end_of_the_recording_cuts_stays_below_one() -> None:
    np.testing.assert_allclose(video_progress([Step("reach", 0, 9)], 5), [0.1, 0.2, 0.3, 0.4, 0.5])
