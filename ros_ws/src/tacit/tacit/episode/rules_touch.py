"""Rule W16: touch that is no picture. What is no number there is E05's finding, what is absent W10's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tacit.episode.findings import Audit, by_number
from tacit.rig import ArraySpec

Violations = Iterable[tuple[str, str]]
SATURATED_SHARE = 0.01
"""A taxel at the end of its range in one reading of a hundred: what is pressed there is cut off."""
MOST_NAMED = 4


def taxels(audit: Audit) -> Violations:
    """W16: arrays are neither frozen, nor saturated, and no taxel of an array that is touched is dead."""
    reader = audit.reader
    for name, spec in reader.rig.taxels.items():
        readings = _as_sent(audit, name)
        if len(readings) < 2:
            continue
        longest, first = _longest_repeat(readings)
        if longest >= spec.frozen_after:
            yield name, f"the same reading {longest} times in a row, from reading {first}"
        yield from ((name, text) for text in _taxel_faults(readings, spec.array))


def _as_sent(audit: Audit, name: str) -> NDArray[np.float32]:
    """Return the readings (N, R, C, K) at their own rate where stored, else those that are new at a tick."""
    reader = audit.reader
    if name in reader.file.get("streams", ()):
        own = np.asarray(reader.stream(name)["data"], np.float32)
        if len(own):
            return own
    stamps = reader.timestamps(name)
    return reader.readings(name)[(stamps["fresh"] > 0) & (stamps["index"] >= 0)]


def _longest_repeat(readings: NDArray[np.float32]) -> tuple[int, int]:
    """Return how often one reading that is not all zero comes in a row at most, and where that begins."""
    flat = readings.reshape(len(readings), -1)
    same = np.append(False, (flat[1:] == flat[:-1]).all(axis=1) & flat[1:].any(axis=1))
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(flat))))
    runs = np.arange(len(flat)) - starts + 1
    last = int(np.argmax(runs))
    return int(runs[last]), int(starts[last])


def _taxel_faults(readings: NDArray[np.float32], array: ArraySpec) -> Iterator[str]:
    at_end = ((readings <= array.low) | (readings >= array.high)).mean(axis=0)
    if (at_end > SATURATED_SHARE).any():
        most = float(at_end.max())
        yield (
            f"saturated: {_listed((at_end > SATURATED_SHARE).any(axis=-1))} at the end of the range in up to "
            f"{most:.0%} of the readings; correct `range` in the rig, or the gain of the sensor"
        )
    still = (np.ptp(readings, axis=0) == 0).all(axis=-1)
    if still.all():
        yield "no taxel ever changes; is the sensor connected?"
    elif still.any():
        yield f"dead: {_listed(still)} never changes while others do"


def _listed(which: NDArray[np.bool_]) -> str:
    """Name some taxels (R, C) by row and column."""
    places = [f"[{row}, {column}]" for row, column in np.argwhere(which).tolist()]
    more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
    return f"taxel {', '.join(places[:MOST_NAMED])}{more}"


TOUCH_WARNINGS = by_number(taxels)
