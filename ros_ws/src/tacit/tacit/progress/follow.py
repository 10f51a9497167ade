"""Follow a recorded episode with a progress bundle, as the progress node would have done live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tacit.bundle.runtime import OnnxProgress
from tacit.episode import EpisodeReader
from tacit.progress.decimator import Decimator
from tacit.progress.detector import CompletionDetector, DetectorConfig, TaskState, detector_of
from tacit.progress.recorded import recorded_observation


class Reading(NamedTuple):
    """What the estimator says at one tick of the episode: progress, done, success and failure in 0..1, the
    state of the task, and the kind of what fails or might."""

    tick: int
    stamp_ns: int
    progress: float
    done: float
    state: TaskState
    success: float | None = None
    failure: float | None = None
    kind: str = ""


def follow(
    estimator: OnnxProgress, reader: EpisodeReader, detector: DetectorConfig | None = None
) -> Iterator[Reading]:
    """Yield a reading for every tick that is due at the rate of the bundle.

    Args:
        estimator: Is reset first.
        reader: An open episode with the streams that the bundle asks for.
        detector: Thresholds of done, failure, stall and regression; None: those of the bundle.

    Raises:
        BundleError: The episode lacks a stream, or its images are of another size.
    """
    manifest = estimator.manifest
    estimator.reset()
    judge, due = CompletionDetector(detector or detector_of(manifest)), Decimator(manifest.rate_hz)
    for tick in range(reader.num_ticks):
        stamp_ns = int(reader.tick_ns[tick])
        if not due.is_due(stamp_ns):
            continue
        observation = recorded_observation(reader, manifest, tick)
        estimate = estimator.step(observation)
        state = judge.take(estimate, stamp_ns)
        said = (estimate.success, estimate.failure, judge.failure or estimate.kind)
        yield Reading(tick, stamp_ns, estimate.progress, estimate.done, state, *said)


def changes(readings: list[Reading]) -> list[Reading]:
    """Return the readings at which the state becomes another one."""
    before: list[TaskState] = ["running", *(reading.state for reading in readings[:-1])]
    return [reading for reading, last in zip(readings, before, strict=True) if reading.state != last]
