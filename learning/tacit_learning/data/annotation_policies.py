"""What to do with segments of foreign files that are not sorted, overlap, leave gaps or run too long.

Nothing is clamped in silence: every repair is chosen by name and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tacit.config import Config
from tacit.errors import AnnotationError
from tacit_learning.data.annotations import Segment, check_segments, describe


class SegmentPolicy(Config):
    """How strict an import is; the defaults refuse everything that is not a clean annotation."""

    order: Literal["error", "sort"] = "error"
    """Steps that are not in order of their starts."""
    overlap: Literal["error", "trim"] = "error"
    """Steps that overlap: trim ends one before the next starts."""
    beyond: Literal["error", "drop"] = "error"
    """Steps that reach past the last frame; they are never cut short."""
    empty: Literal["error", "drop"] = "error"
    """Steps in which no frame lies at this rate."""
    gap: Literal["background", "error"] = "background"
    """Frames that belong to no step."""


@dataclass
class Repairs:
    """What an import changed, by video."""

    sorted: list[str] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    @classmethod
    def of_all(cls, parts: Iterable[Repairs]) -> Repairs:
        """Return the repairs of several tasks together."""
        together = cls()
        for part in parts:
            for name, entries in vars(part).items():
                getattr(together, name).extend(entries)
        return together

    def __str__(self) -> str:
        counts = (
            (len(self.sorted), "videos sorted"),
            (len(self.trimmed), "steps trimmed"),
            (len(self.dropped), "steps beyond the end or without a frame dropped"),
            (len(self.missing), "videos without annotation or features left out"),
            (len(self.cut), "videos cut at the end"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count) or "none"


def clean_segments(
    segments: Iterable[Segment], num_frames: int, where: str, policy: SegmentPolicy, repairs: Repairs
) -> tuple[Segment, ...]:
    """Apply `policy` to the steps of one video and note in `repairs` what changed.

    Args:
        segments: As read.
        num_frames: Length T of the video.
        where: Start of error messages.
        policy: What may be repaired.
        repairs: Gains an entry per repair.

    Returns:
        Sorted segments without overlap inside 0 .. num_frames - 1.

    Raises:
        AnnotationError: Something is wrong that the policy does not repair.
    """
    steps = list(segments)
    if policy.order == "sort":
        ordered = sorted(steps, key=lambda segment: segment.start)
        if ordered != steps:
            repairs.sorted.append(where)
        steps = ordered
    if policy.empty == "drop":
        repairs.dropped += [f"{where}: {describe(s)}" for s in steps if s.end < s.start]
        steps = [segment for segment in steps if segment.end >= segment.start]
    if policy.beyond == "drop":
        repairs.dropped += [f"{where}: {describe(s)}" for s in steps if s.end >= num_frames]
        steps = [segment for segment in steps if segment.end < num_frames]
    if policy.overlap == "trim":
        steps = _trim(steps, where, repairs)
    check_segments(steps, num_frames, where)
    if policy.gap == "error":
        _refuse_gaps(steps, num_frames, where)
    return tuple(steps)


def _trim(steps: list[Segment], where: str, repairs: Repairs) -> list[Segment]:
    """End each step before the next one starts, where that leaves it a frame."""
    trimmed = []
    for number, step in enumerate(steps):
        after = steps[number + 1].start if number + 1 < len(steps) else step.end + 1
        if step.start < after <= step.end:
            repairs.trimmed.append(f"{where}: {describe(step)}")
            step = step._replace(end=after - 1)
        trimmed.append(step)
    return trimmed


def _refuse_gaps(steps: list[Segment], num_frames: int, where: str) -> None:
    expected = 0
    for segment in [*steps, Segment("", num_frames, num_frames)]:
        if segment.start != expected:
            raise AnnotationError(
                f"{where}: frames {expected}..{segment.start - 1} belong to no step; annotate them, or "
                "import with gap: background"
            )
        expected = segment.end + 1
