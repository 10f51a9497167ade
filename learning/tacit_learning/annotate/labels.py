"""What a person, or an alignment, says of one clip: the frames at which another step begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tacit.errors import AnnotationError
from tacit_learning.data.annotations import Segment

NOTHING = ""
"""Name of the frames that belong to no step."""


class Cut(NamedTuple):
    """From `frame` on runs the step `name`; `confidence` 0..1 that this is the right frame."""

    frame: int
    name: str
    confidence: float = 1.0


@dataclass(frozen=True)
class Labelling:
    """The cuts of one clip, in order; `by_hand`: a person has set or seen them."""

    cuts: tuple[Cut, ...]
    by_hand: bool = True

    @classmethod
    def of_segments(cls, segments: Sequence[Segment]) -> Labelling:
        """Take the steps of an annotation over; frames between them belong to nothing."""
        cuts: list[Cut] = []
        at = 0
        for segment in segments:
            if segment.start > at:
                cuts.append(Cut(at, NOTHING))
            cuts.append(Cut(segment.start, segment.name))
            at = segment.end + 1
        return cls((*cuts, Cut(at, NOTHING)) if cuts else ())

    @property
    def confidence(self) -> float:
        """The least confidence of its cuts."""
        return min((cut.confidence for cut in self.cuts), default=0.0)

    def segments(self, num_frames: int) -> list[Segment]:
        """Return the steps with inclusive frames; cuts at or beyond the end of the clip have none."""
        ends = [*(cut.frame for cut in self.cuts[1:]), num_frames]
        pairs = zip(self.cuts, ends, strict=False)
        return [
            Segment(cut.name, cut.frame, min(end, num_frames) - 1)
            for cut, end in pairs
            if cut.name != NOTHING and cut.frame < min(end, num_frames)
        ]


def checked(rows: object, num_frames: int, name: str) -> tuple[Cut, ...]:
    """Return cuts that came from a page.

    Args:
        rows: Lists of [frame, name] or [frame, name, confidence].
        num_frames: T of the clip.
        name: Of the clip, for messages.

    Raises:
        AnnotationError: Not such lists, or frames that do not rise within the clip.
    """
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise AnnotationError(f"{name}: expected a list of [frame, step] or [frame, step, confidence]")
    cuts = tuple(Cut(row[0], row[1].strip(), float(row[2]) if len(row) > 2 else 1.0) for row in rows)
    frames = [cut.frame for cut in cuts]
    if frames and (frames[0] < 0 or frames[-1] > num_frames or any(a >= b for a, b in pairwise(frames))):
        raise AnnotationError(f"{name}: cuts at {frames}: expected rising frames within 0..{num_frames}")
    return cuts


def _is_row(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) in (2, 3)
        and isinstance(row[0], int)
        and isinstance(row[1], str)
        and all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in row[2:])
    )
