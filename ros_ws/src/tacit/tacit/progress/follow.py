"""Follow a recorded episode with a progress bundle, as the progress node would have done live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tacit.bundle.runtime import OnnxProgress
from tacit.episode import EpisodeReader
from tacit.progress.decimator import Decimator
from tacit.progress.detector import CompletionDetector, DetectorConfig, TaskState
from tacit.progress.recorded import recorded_observation


class Reading(NamedTuple):
    """What the estimator says at one tick of the episode."""

    tick: int
    stamp_ns: int
    progress: float
    done: float
    state: TaskState


def follow(
    estimator: OnnxProgress, reader: EpisodeReader, detector: DetectorConfig | None = None
) -> Iterator[Reading]:
    """Yield a reading for every tick that is due at the rate of the bundle.

    Args:
        estimator: Is reset first.
        reader: An open episode with the streams that the bundle asks for.
        detector: Thresholds of done, stall and regression.

    Raises:
        BundleError: The episode lacks a stream, or its images are of another size.
    """
    manifest = estimator.manifest
    estimator.reset()
    judge, due = CompletionDetector(detector), Decimator(manifest.rate_hz)
    for tick in range(reader.num_ticks):
        stamp_ns = int(reader.tick_ns[tick])
        if not due.is_due(stamp_ns):
            continue
        observation = recorded_observation(reader, manifest, tick)
        estimate = estimator.step(observation)
        state = judge.update(estimate.progress, stamp_ns, estimate.motion)
        yield Reading(tick, stamp_ns, estimate.progress, estimate.done, state)


def changes(readings: list[Reading]) -> list[Reading]:
    """Return the readings at which the state becomes another one."""
    before: list[TaskState] = ["running", *(reading.state for reading in readings[:-1])]
    return [reading for reading, last in zip(readings, before, strict=True) if reading.state != last]
