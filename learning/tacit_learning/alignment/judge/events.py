"""Stalls and falls in the progress of videos: how many the detector finds, how often it cries wolf.

The detector is the one that runs on the robot (`tacit.progress`), fed frame by frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from tacit.progress import CompletionDetector, DetectorConfig, TaskState
from tacit_learning.data.annotations import Annotation, Event

STATE_OF: dict[str, TaskState] = {"stall": "stalled", "regression": "regressed"}
"""What the detector says of an annotated event."""
AFTERMATH_S = 2.0
"""After an event its state may last this long: the estimate needs new frames to recover."""


@dataclass(frozen=True)
class EventScores:
    """Counts over the videos of one part.

    found, events: annotated stalls and falls in which the right state was reported, and their number.
    alarmed, videos: videos in which either state was reported away from any event, and their number.
    delay_s: median time from the start of a found event to its report.
    """

    found: int
    events: int
    alarmed: int
    videos: int
    delay_s: float

    @property
    def recall(self) -> float:
        """Share of events that were found; nan without events."""
        return self.found / self.events if self.events else float("nan")

    @property
    def false_alarms(self) -> float:
        """Share of videos with a false alarm."""
        return self.alarmed / self.videos


def states_of(
    progress: np.ndarray, fps: float, config: DetectorConfig, motion: np.ndarray | None = None
) -> list[TaskState]:
    """Return what the detector says at every frame of one video.

    Args:
        progress: Estimates (T,).
        fps: Rate of the frames [Hz].
        config: Thresholds.
        motion: Whether the task goes back, stands or goes on (T,) in -1..1; None: unknown.
    """
    detector = CompletionDetector(config)
    moves = [None] * len(progress) if motion is None else motion.tolist()
    values = zip(progress.tolist(), moves, strict=True)
    return [detector.update(p, round(t * 1e9 / fps), m) for t, (p, m) in enumerate(values)]


def event_scores(
    annotations: Sequence[Annotation],
    progress: Sequence[np.ndarray],
    config: DetectorConfig,
    motion: Sequence[np.ndarray | None] | None = None,
) -> EventScores:
    """Compare the detector's states with the annotated events of videos.

    Args:
        annotations: Annotations of the videos.
        progress: Estimated progress of each video (T,).
        config: Thresholds.
        motion: Motion of each video (T,), where the model tells it.
    """
    moves = [None] * len(progress) if motion is None else motion
    delays: list[float] = []
    events = alarmed = 0
    for annotation, values, moved in zip(annotations, progress, moves, strict=True):
        states = states_of(values, annotation.fps, config, moved)
        known = [event for event in annotation.events if event.kind in STATE_OF]
        events += len(known)
        for event in known:
            first = _first(states, event, annotation.fps)
            delays += [] if first is None else [(first - event.start) / annotation.fps]
        alarmed += _is_false(states, known, annotation.fps)
    delay = float(np.median(delays)) if delays else float("nan")
    return EventScores(len(delays), events, alarmed, len(annotations), delay)


def event_table(rows: Mapping[str, EventScores]) -> Table:
    """Lay out the scores of several parts."""
    table = Table(title="Stalls and falls found by the detector", title_justify="left")
    for column in ("", "events", "found", "median delay [s]", "videos", "with false alarm"):
        table.add_column(column, justify="right" if column else "left")
    for name, score in rows.items():
        found = f"{score.found} ({100 * score.recall:.0f} %)" if score.events else ""
        delay = f"{score.delay_s:.1f}" if score.found else ""
        alarms = f"{score.alarmed} ({100 * score.false_alarms:.0f} %)"
        table.add_row(name, str(score.events), found, delay, str(score.videos), alarms)
    return table


def _first(states: Sequence[TaskState], event: Event, fps: float) -> int | None:
    """Return the frame of the first right report during an event or shortly after it."""
    end = event.end + 1 + round(AFTERMATH_S * fps)
    right = [t for t in range(event.start, min(end, len(states))) if states[t] == STATE_OF[event.kind]]
    return right[0] if right else None


def _is_false(states: Sequence[TaskState], events: Sequence[Event], fps: float) -> bool:
    quiet = np.ones(len(states), bool)
    for event in events:
        quiet[event.start : event.end + 1 + round(AFTERMATH_S * fps)] = False
    return any(quiet[t] and state in STATE_OF.values() for t, state in enumerate(states))
