"""The gate before an episode: every reason not to start, each with what to do about it.

An operator learns of an unplugged camera before the demonstration, not when training on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tacit.record.monitor import StreamMonitor
from tacit.rig import CommandSpec, Rig, StreamBase
from tacit.streams import Finding, Kind

MIN_MESSAGES = 5  # fewer give no rate
MAX_AGE_NS = 1_000_000_000
PASSING: tuple[Kind, ...] = ("duplicate", "out_of_order", "truncated", "undecodable")
"""Refusals that cost one sample: reasons not to start only where nothing else comes."""


@dataclass(frozen=True)
class Surroundings:
    """What the gate needs to know beside the streams.

    Attributes:
        now_ns: On the clock of the stamps.
        num_publishers: Number of publishers of a stream, by name.
        findings: What is wrong with each stream now, by name.
        free_bytes: On the disk of the episodes.
        min_free_bytes: Below this nothing is started.
        rate_tolerance: Accepted relative difference to the rate of the rig.
    """

    now_ns: int
    num_publishers: Callable[[str], int]
    findings: Mapping[str, Finding]
    free_bytes: int
    min_free_bytes: int
    rate_tolerance: float


def reasons_not_to_start(rig: Rig, monitors: Mapping[str, StreamMonitor], around: Surroundings) -> list[str]:
    """Return every reason, one sentence each with its cure; empty when all is well.

    A command stream only needs a publisher: before the demonstration nobody commands. Streams that
    are not required are not checked.
    """
    reasons = []
    for name, spec in rig.specs.items():
        if not spec.required:
            continue
        if name in rig.commands:
            reasons += _unseen(name, spec, monitors[name], around)
        else:
            reasons += _first(_stream_reasons(name, spec, monitors[name], around))
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
    name: str, spec: StreamBase, monitor: StreamMonitor, around: Surroundings
) -> Iterator[str]:
    yield from _unseen(name, spec, monitor, around)
    age_ns = around.now_ns - monitor.stamp_ns
    found = around.findings.get(name)
    if found is not None and (found.kind not in PASSING or age_ns > MAX_AGE_NS):
        yield f"{name} ({spec.topic}): {found.text}"
    if age_ns > MAX_AGE_NS and abs(around.now_ns - monitor.recv_ns) <= MAX_AGE_NS:
        yield (
            f"{name}: {spec.topic} is stamped {age_ns / 1e9:.1f} s behind the clock of this computer; "
            f"synchronise the two (chrony, PTP), or set `stamps: receive` of {name} in the rig"
        )
    elif age_ns > MAX_AGE_NS:
        yield f"{name}: the last message on {spec.topic} is {age_ns / 1e9:.1f} s old; is its driver alive?"
    if monitor.num_recent < MIN_MESSAGES:
        yield f"{name}: only {monitor.num_recent} messages on {spec.topic} yet; wait a moment"
    if all(abs(monitor.hz / rate_hz - 1) > around.rate_tolerance for rate_hz in _rates(spec)):
        yield (
            f"{name}: {spec.topic} runs at {monitor.hz:.1f} Hz, the rig says {spec.rate_hz:g} Hz; "
            f"set the driver, or rate_hz of {name} in the rig"
        )


def _rates(spec: StreamBase) -> list[float]:
    """Rates that a topic may run at: commands come from a person's device, or upsampled from a policy."""
    upsampled = spec.output_hz if isinstance(spec, CommandSpec) else None
    return [spec.rate_hz, *([upsampled] if upsampled else [])]


def _unseen(name: str, spec: StreamBase, monitor: StreamMonitor, around: Surroundings) -> list[str]:
    """Return why nothing was heard; a command topic may be silent but not unowned."""
    if monitor.received:
        return []
    if name in around.findings:
        return [f"{name} ({spec.topic}): {around.findings[name].text}"]
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
