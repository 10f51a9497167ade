"""The gate before an episode: every reason not to start, each with what to do about it.

An operator learns of an unplugged camera before the demonstration, not when training on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tacit.depth import decode_depth
from tacit.images import as_rgb
from tacit.record.monitor import StreamMonitor
from tacit.rig import CommandSpec, Rig, StreamBase, is_depth

MIN_MESSAGES = 5  # fewer give no rate
MAX_AGE_NS = 1_000_000_000
BLACK_LEVEL, BLACK_FRACTION = 10, 0.95  # as rule W04 of `tacit check`


@dataclass(frozen=True)
class Surroundings:
    """What the gate needs to know beside the streams.

    Attributes:
        now_ns: On the clock of the stamps.
        num_publishers: Number of publishers of a stream, by name.
        problems: The last refused message of a stream, if any.
        free_bytes: On the disk of the episodes.
        min_free_bytes: Below this nothing is started.
        rate_tolerance: Accepted relative difference to the rate of the rig.
    """

    now_ns: int
    num_publishers: Callable[[str], int]
    problems: Mapping[str, str]
    free_bytes: int
    min_free_bytes: int
    rate_tolerance: float


def reasons_not_to_start(rig: Rig, monitors: Mapping[str, StreamMonitor], around: Surroundings) -> list[str]:
    """Return every reason, one sentence each with its cure; empty when all is well.

    A command stream only needs a publisher: before the demonstration nobody commands. Streams that
    are not required are not checked.
    """
    reasons = []
    images = set(rig.image_names)
    for name, spec in rig.specs.items():
        if not spec.required:
            continue
        if name in rig.commands:
            reasons += _unseen(name, spec, monitors[name], around)
        else:
            reasons += _first(_stream_reasons(name, spec, monitors[name], around, name in images))
    if around.free_bytes < around.min_free_bytes:
        reasons.append(
            f"disk: {around.free_bytes / 1e9:.1f} GB free, at least {around.min_free_bytes / 1e9:.1f} GB "
            "needed; free some, or choose another `root`"
        )
    return reasons


def _first(reasons: Iterator[str]) -> list[str]:
    """The first reason of a stream: the later ones only follow from it."""
    reason = next(reasons, None)
    return [] if reason is None else [reason]


def _stream_reasons(
    name: str, spec: StreamBase, monitor: StreamMonitor, around: Surroundings, is_image: bool
) -> Iterator[str]:
    yield from _unseen(name, spec, monitor, around)
    if monitor.stamp_ns <= 0:
        yield (
            f"{name}: messages on {spec.topic} have an empty header stamp; have the driver fill it, or "
            "start the recorder with stamps:=receive"
        )
    age_ns = around.now_ns - monitor.stamp_ns
    if age_ns > MAX_AGE_NS:
        yield f"{name}: the last message on {spec.topic} is {age_ns / 1e9:.1f} s old; is its driver alive?"
    if monitor.num_recent < MIN_MESSAGES:
        yield f"{name}: only {monitor.num_recent} messages on {spec.topic} yet; wait a moment"
    if abs(monitor.hz / spec.rate_hz - 1) > around.rate_tolerance:
        yield (
            f"{name}: {spec.topic} runs at {monitor.hz:.1f} Hz, the rig says {spec.rate_hz:g} Hz; "
            f"set the driver, or rate_hz of {name} in the rig"
        )
    if is_depth(spec) and _measures_nothing(monitor):
        yield f"{name}: no pixel of {spec.topic} holds a distance; too near, too far, or projector off?"
    elif is_image and not is_depth(spec) and _is_black(monitor):
        yield f"{name}: the image on {spec.topic} is black; lens cap, exposure or lights?"


def _unseen(name: str, spec: StreamBase, monitor: StreamMonitor, around: Surroundings) -> list[str]:
    """Return why nothing was heard; a command topic may be silent but not unowned."""
    if monitor.received:
        return []
    if name in around.problems:
        return [f"{name} ({spec.topic}): {around.problems[name]}"]
    if around.num_publishers(name) == 0:
        return [
            f"{name}: nobody publishes {spec.topic} ({spec.type}); start its driver, or find the right "
            f"name with `ros2 topic list` and set it as topic of {name} in the rig"
        ]
    if isinstance(spec, CommandSpec):
        return []
    return [
        f"{name}: {spec.topic} has a publisher but no message has come; "
        f"check it with `ros2 topic hz {spec.topic}`"
    ]


def _measures_nothing(monitor: StreamMonitor) -> bool:
    value = np.asarray(monitor.value)
    return monitor.value is not None and not (decode_depth(value) if value.ndim == 1 else value).any()


def _is_black(monitor: StreamMonitor) -> bool:
    if monitor.value is None:
        return False
    return bool(np.mean(as_rgb(monitor.value) < BLACK_LEVEL) > BLACK_FRACTION)
