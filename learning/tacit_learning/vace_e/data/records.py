"""What is known of the episodes of a data set: usable ones, findings, and the report of a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

WARN_EXCLUDED = 0.5
SHOWN_PER_REASON = 3


@dataclass(frozen=True)
class Finding:
    """Something about one episode: the kind, for counting, and the story."""

    where: str
    reason: str
    message: str


@dataclass(frozen=True)
class EpisodeRecord:
    """One usable episode: how long and large its videos are, and what else it has."""

    task: str
    episode: str
    frames: int
    height: int
    width: int
    fps: float
    has_motion: bool
    has_objects: bool
    reference: str | None  # file name

    @property
    def identity(self) -> str:
        """Name that is unique in the data set and the same on every machine."""
        return f"{self.task}/{self.episode}"


@dataclass(frozen=True)
class DiscoveryReport:
    """What was found: excluded episodes, and notes on those that stay."""

    root: Path
    found: int
    valid: int
    excluded: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Excluded episodes per reason, most frequent first."""
        return dict(Counter(finding.reason for finding in self.excluded).most_common())

    @property
    def note_counts(self) -> dict[str, int]:
        """Notes per reason, most frequent first."""
        return dict(Counter(finding.reason for finding in self.notes).most_common())

    def lines(self) -> list[str]:
        """Return the report as plain lines: totals, then each reason with its first cases."""
        lines = [f"{self.root}: {self.valid} of {self.found} episodes usable"]
        if self.valid and len(self.excluded) > WARN_EXCLUDED * self.found:
            lines.append(f"WARNING: more than half of the episodes are excluded ({len(self.excluded)})")
        return lines + told("excluded", self.excluded) + told("note", self.notes)


@dataclass
class Outcome:
    """What the check of one episode gave: a record, or why it is left out."""

    record: EpisodeRecord | None = None
    excluded: Finding | None = None
    notes: list[Finding] = field(default_factory=list)


def told(kind: str, findings: Sequence[Finding]) -> list[str]:
    """Return one line per reason with its count, and its first cases."""
    lines = []
    for reason, count in Counter(finding.reason for finding in findings).most_common():
        lines.append(f"{kind}: {reason}: {count}")
        cases = [finding for finding in findings if finding.reason == reason]
        lines += [f"  {case.where}: {case.message}" for case in cases[:SHOWN_PER_REASON]]
        if count > SHOWN_PER_REASON:
            lines.append(f"  and {count - SHOWN_PER_REASON} more")
    return lines
