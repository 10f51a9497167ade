"""A perfect signal on long tasks, drawn with the statistics of real annotations: no stall is invented in a
rest between steps, and nothing is done before its last step is over.

Everyday videos: 22 steps, 57 % of the frames in no step. Surgical tasks: 8 to 11 kinds of step, many of
which come again, one after the other. Lengths of steps and rests vary as lognormal variables do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tacit.episode import Step, video_progress
from tacit.progress import CompletionDetector, DetectorConfig

SPREAD = 0.8
"""Standard deviation of the logarithm of a length: the longest of twenty is some ten times the shortest."""


@dataclass(frozen=True)
class Task:
    """Steps in frames, the number of frames and their rate."""

    steps: list[Step]
    num_frames: int
    fps: float

    @property
    def progress(self) -> np.ndarray:
        return video_progress(self.steps, self.num_frames)

    @property
    def is_background(self) -> np.ndarray:
        rests = np.ones(self.num_frames, bool)
        for step in self.steps:
            rests[step.start_frame : step.end_frame + 1] = False
        return rests


def lengths(random: np.random.Generator, count: int, mean: float) -> np.ndarray:
    drawn = random.lognormal(0.0, SPREAD, count)
    return np.maximum(np.round(drawn * mean / np.exp(SPREAD**2 / 2)), 1).astype(int)


def everyday(random: np.random.Generator) -> Task:
    """About 22 steps with rests before, between and after them; 57 % of 3 to 20 minutes are rests."""
    fps, count = 1.0, int(random.integers(14, 31))
    frames = random.uniform(180, 1200) * fps
    acts, rests = (
        lengths(random, count, 0.43 * frames / count),
        lengths(random, count + 1, 0.57 * frames / count),
    )
    steps, now = [], 0
    for number, (rest, act) in enumerate(zip(rests[:-1], acts, strict=True)):
        now += int(rest)
        steps.append(Step(f"step {number}", now, now + int(act) - 1))
        now += int(act)
    return Task(steps, now + int(rests[-1]), fps)


def surgical(random: np.random.Generator) -> Task:
    """15 to 30 steps of 8 to 11 kinds without a rest, 3 s each in the mean; then the tools are still."""
    fps, kinds = 5.0, int(random.integers(8, 12))
    steps, now = [], 0
    for length in lengths(random, int(random.integers(15, 31)), 4.0 * fps):
        steps.append(Step(f"gesture {random.integers(kinds)}", now, now + int(length) - 1))
        now += int(length)
    return Task(steps, now + round(3 * fps), fps)


def states_of(task: Task, config: DetectorConfig | None = None, tells_background: bool = False) -> list[str]:
    detector = CompletionDetector(config)
    rests = task.is_background if tells_background else [None] * task.num_frames
    return [
        detector.update(float(p), round(t * 1e9 / task.fps), background=None if rest is None else float(rest))
        for t, (p, rest) in enumerate(zip(task.progress, rests, strict=True))
    ]


@pytest.fixture(scope="module")
def tasks() -> dict[str, list[Task]]:
    random = np.random.default_rng(161)
    drawn = {
        "everyday": [everyday(random) for _ in range(80)],
        "surgical": [surgical(random) for _ in range(50)],
    }
    rests = np.concatenate([task.is_background for task in drawn["everyday"]])
    assert np.mean(rests) == pytest.approx(0.57, abs=0.03)
    assert np.mean([len(task.steps) for task in drawn["everyday"]]) == pytest.approx(22, abs=1)
    return drawn


@pytest.mark.parametrize("name", ["everyday", "surgical"])
def test_truth_through_the_default_detector_is_no_stall_and_done_only_at_the_end(
    tasks: dict[str, list[Task]], name: str
) -> None:
    stalls = early = missed = 0
    for task in tasks[name]:
        states = states_of(task)
        stalls += "stalled" in states
        done = states.index("done") if "done" in states else None
        early += done is not None and done <= task.steps[-1].end_frame
        missed += done is None and task.num_frames - task.steps[-1].end_frame > 2 * task.fps
        assert "regressed" not in states
    assert stalls <= 0.05 * len(tasks[name])
    assert (early, missed) == (0, 0)


def test_background_that_is_told_is_unknown_and_not_still(tasks: dict[str, list[Task]]) -> None:
    impatient, some = DetectorConfig(stall_share=0.0, stall_after_s=30.0), tasks["everyday"][:30]
    blind = sum("stalled" in states_of(task, impatient) for task in some)
    told = sum("stalled" in states_of(task, impatient, tells_background=True) for task in some)
    assert blind > 0.7 * len(some) > 5 * told


def test_a_long_task_that_stops_for_good_is_stalled_in_proportion_to_its_length(
    tasks: dict[str, list[Task]],
) -> None:
    for task in tasks["surgical"][:10]:
        middle = task.steps[len(task.steps) // 2].end_frame
        seen = np.concatenate([task.progress[:middle], np.full(task.num_frames, task.progress[middle - 1])])
        detector = CompletionDetector(DetectorConfig(length_s=task.num_frames / task.fps))
        states = [detector.update(float(p), round(t * 1e9 / task.fps)) for t, p in enumerate(seen)]
        waited_s = (states.index("stalled") - middle) / task.fps
        patience_s = max(5.0, 0.25 * task.num_frames / task.fps)
        assert patience_s - 1.0 <= waited_s <= 1.3 * patience_s + 1.0
