"""What an audit finds, and how it is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tacit.episode.reader import EpisodeReader

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One violated rule: `where` is a dataset, stream or tick, `message` says found and expected."""

    rule: str
    level: Level
    where: str
    message: str


@dataclass(frozen=True)
class Audit:
    """What a rule works on: the open episode, and whether every image is decoded."""

    reader: EpisodeReader
    full: bool = False


Rule = Callable[[Audit], Iterable[tuple[str, str]]]
"""Yields (where, message) for each violation; its docstring starts with its number, as `E02: ...`."""


def by_number(*rules: Rule) -> dict[str, Rule]:
    """Return {number: rule}, in the order given."""
    return {str(rule.__doc__).partition(":")[0]: rule for rule in rules}


@dataclass(frozen=True)
class AuditReport:
    """The findings on one episode, and facts for the table (ticks, seconds, lag, losses)."""

    path: Path
    findings: tuple[Finding, ...]
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that make the episode wrong."""
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that make it poor, or worth a look."""
        return tuple(f for f in self.findings if f.level == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON data."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "findings": [vars(finding) for finding in self.findings],
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class DatasetReport:
    """The reports of all episodes, and what only shows between them."""

    root: Path
    episodes: tuple[AuditReport, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether neither an episode nor the set has an error."""
        return all(e.ok for e in self.episodes) and not any(f.level == "error" for f in self.findings)

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON data."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "findings": [vars(finding) for finding in self.findings],
            "episodes": [episode.as_json() for episode in self.episodes],
        }
