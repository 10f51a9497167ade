"""What the detector says of whole episodes, against what happened: done, failure, false alarms.

The detector is the one that runs on the robot (`tacit.progress`), fed frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tacit.progress import CompletionDetector, DetectorConfig, TaskState
from tacit.view.proportions import wilson_interval
from tacit_learning.alignment.data.outcomes import is_complete
from tacit_learning.alignment.judge.predict import Prediction
from tacit_learning.data.annotations import Annotation, Event

ALARMS: frozenset[TaskState] = frozenset({"failed", "stalled", "regressed"})
SOON_S = 2.0
"""A failure that is named later is named too late to be of use."""


class Said(NamedTuple):
    """What the detector says at one frame: the state, and the kind of failure where one holds."""

    state: TaskState
    kind: str


@dataclass(frozen=True)
class Verdict:
    """One episode: what was true, and what was said of it.

    success: whether the task was done; None: nobody knows, and done is not judged. end_s: when its last step
    was over. done_s: when it was first called done. events: kind of each failure, how long until any alarm
    [s], and how long until its right name; nan never. is_false: an alarm where nothing was wrong.
    """

    name: str
    success: bool | None
    end_s: float
    done_s: float
    events: tuple[tuple[str, float, float], ...] = ()
    is_false: bool = False

    @property
    def is_done_well(self) -> bool:
        """Called done, after the end of a success."""
        return bool(self.success) and self.done_s >= self.end_s

    @property
    def is_done_badly(self) -> bool:
        """Called done where it failed, or before its last step was over."""
        return self.success is not None and math.isfinite(self.done_s) and not self.is_done_well


class Share(NamedTuple):
    """So many of so many, with the Wilson interval at 95 %."""

    right: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = wilson_interval(self.right, self.total)
        return f"{self.right}/{self.total} ({100 * low:.0f}-{100 * high:.0f} %)"


@dataclass(frozen=True)
class Tally:
    """Counts over episodes.

    done_recall: successes that were called done, after their end. done_precision: of all that were called
    done. false_done: failures that were called done. early: successes called done before their end.
    found, named: failures with any alarm, and with their right name within `SOON_S`. alarm_precision:
    episodes with an alarm that had a failure. false_alarms: successes with an alarm where nothing was wrong.
    by_kind: named and all failures of each kind. Delays are medians [s].
    """

    done_recall: Share
    done_precision: Share
    false_done: Share
    early: Share
    found: Share
    named: Share
    alarm_precision: Share
    false_alarms: Share
    done_delay_s: float
    alarm_delay_s: float
    by_kind: dict[str, Share] = field(default_factory=dict)
    found_by_kind: dict[str, Share] = field(default_factory=dict)

    def rows(self) -> dict[str, str]:
        """Return the counts in words."""
        shares = {
            "done, of successes": self.done_recall,
            "right, of those called done": self.done_precision,
            "called done, of failures": self.false_done,
            "called done early, of successes": self.early,
            "failures found": self.found,
            f"failures named within {SOON_S:g} s": self.named,
            "right, of episodes with an alarm": self.alarm_precision,
            "false alarm, of successes": self.false_alarms,
        }
        shares |= {f"named, {kind}": share for kind, share in self.by_kind.items()}
        shares |= {f"found, {kind}": share for kind, share in self.found_by_kind.items()}
        delays = {"median delay of done [s]": self.done_delay_s, "of an alarm [s]": self.alarm_delay_s}
        return {name: str(share) for name, share in shares.items()} | {
            name: f"{value:.2f}" for name, value in delays.items()
        }


def said_of(prediction: Prediction, fps: float, config: DetectorConfig, kinds: Sequence[str]) -> list[Said]:
    """Return what the detector says at every frame of one video.

    Args:
        prediction: Tells the progress of the video.
        fps: Rate of the frames [Hz].
        config: Thresholds.
        kinds: Of failure, in the order of the prediction.
    """
    detector = CompletionDetector(config)
    assert prediction.video is not None
    found = []
    for t, progress in enumerate(prediction.video.tolist()):
        failure = None if prediction.failure is None or not kinds else prediction.failure[t]
        state = detector.update(
            progress,
            round(t * 1e9 / fps),
            None if prediction.motion is None else float(prediction.motion[t]),
            success=None if prediction.success is None else float(prediction.success[t]),
            failure=None if failure is None else float(1.0 - failure[0]),
            kind="" if failure is None else kinds[int(failure[1:].argmax())],
            background=None if prediction.background is None else float(prediction.background[t]),
        )
        found.append(Said(state, detector.failure))
    return found


def judge(annotation: Annotation, said: Sequence[Said]) -> Verdict:
    """Hold what was said of a video against its annotation."""
    fps, states = annotation.fps, [one.state for one in said]
    steps = annotation.action_segments()
    failures = [event for event in annotation.events if event.failure]
    end = steps[-1].end if steps else annotation.num_frames - 1
    done_s = states.index("done") / fps if "done" in states else float("nan")
    events = tuple(_event(event, said, fps) for event in failures)
    quiet = np.ones(len(states), bool)
    for event in failures:
        quiet[event.start : event.end + 1 + round(SOON_S * fps)] = False
    false = any(states[t] in ALARMS for t in np.flatnonzero(quiet))
    return Verdict(annotation.name, is_complete(annotation), end / fps, done_s, events, false)


def tally(verdicts: Iterable[Verdict]) -> Tally:
    """Count."""
    known = list(verdicts)
    good = [v for v in known if v.success]
    bad = [v for v in known if v.success is False]
    done = [v for v in good if v.is_done_well]
    called = [v for v in known if v.is_done_well or v.is_done_badly]
    events = [event for v in known for event in v.events]
    named = [soon for _, _, soon in events if soon <= SOON_S]
    heard = [alarm for _, alarm, _ in events if math.isfinite(alarm)]
    alarmed = [v for v in known if v.is_false or any(math.isfinite(alarm) for _, alarm, _ in v.events)]
    kinds = sorted({kind for kind, _, _ in events})
    return Tally(
        done_recall=Share(len(done), len(good)),
        done_precision=Share(len(done), len(called)),
        false_done=Share(sum(v.is_done_badly for v in bad), len(bad)),
        early=Share(sum(v.is_done_badly for v in good), len(good)),
        found=Share(len(heard), len(events)),
        named=Share(len(named), len(events)),
        alarm_precision=Share(sum(bool(v.events) for v in alarmed), len(alarmed)),
        false_alarms=Share(sum(v.is_false for v in good), len(good)),
        done_delay_s=_median([v.done_s - v.end_s for v in done]),
        alarm_delay_s=_median(heard),
        by_kind={k: Share(*_counts(k, [(kind, soon <= SOON_S) for kind, _, soon in events])) for k in kinds},
        found_by_kind={
            k: Share(*_counts(k, [(kind, math.isfinite(a)) for kind, a, _ in events])) for k in kinds
        },
    )


def as_json(found: Tally) -> Mapping[str, object]:
    """Return the counts as plain values; a share is [count, of, low, high]."""
    return {name: _plain(value) for name, value in vars(found).items()}


def _plain(value: object) -> object:
    if isinstance(value, Share):
        return [*value, *wilson_interval(*value)]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _event(event: Event, said: Sequence[Said], fps: float) -> tuple[str, float, float]:
    """Return kind, time to any alarm and time to the right name [s]; nan never."""
    last = min(event.end + 1 + round(SOON_S * fps), len(said))
    during = range(event.start, last)
    alarm = next((t for t in during if said[t].state in ALARMS), None)
    name = next((t for t in during if said[t] == ("failed", event.failure)), None)
    times = [float("nan") if t is None else (t - event.start) / fps for t in (alarm, name)]
    return event.failure, times[0], times[1]


def _counts(kind: str, found: Sequence[tuple[str, bool]]) -> tuple[int, int]:
    of_kind = [is_right for name, is_right in found if name == kind]
    return sum(of_kind), len(of_kind)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")
