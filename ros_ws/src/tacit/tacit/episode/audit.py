"""Check episodes against the rules of the format: `check_episode`, `check_dataset`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tacit.episode import schema
from tacit.episode.files import find_episodes
from tacit.episode.findings import Audit, AuditReport, DatasetReport, Finding, Level, Rule
from tacit.episode.reader import EpisodeReader
from tacit.episode.rules_claims import CLAIM_ERRORS, CLAIM_WARNINGS
from tacit.episode.rules_errors import ERROR_RULES
from tacit.episode.rules_touch import TOUCH_WARNINGS
from tacit.episode.rules_warnings import GAP_ERROR_MS, WARNING_RULES, action_lag_s
from tacit.errors import TacitError

MIN_FOR_OUTLIERS = 8
"""Quartiles of fewer episodes say nothing."""


def check_episode(path: str | Path, full: bool = False) -> AuditReport:
    """Check one episode.

    Args:
        path: The file.
        full: Decode every image and recompute the content hash, rather than a sample.

    Returns:
        The report; a file that cannot be opened has the single finding E01.
    """
    path = Path(path)
    try:
        reader = EpisodeReader(path)
    except TacitError as problem:
        return AuditReport(path, (Finding("E01", "error", path.name, str(problem)),))
    with reader:
        if reader.is_foreign:
            message = (
                "a file of ACT or ALOHA, no episode of tacit: tacit convert FILE_OR_FOLDER TARGET makes one"
            )
            return AuditReport(path, (Finding("E01", "error", path.name, message),))
        audit = Audit(reader, full)
        findings = [*_state(reader)]
        errors, warnings = ERROR_RULES | CLAIM_ERRORS, WARNING_RULES | CLAIM_WARNINGS | TOUCH_WARNINGS
        for rules, level in ((errors, "error"), (warnings, "warning")):
            for name, rule in rules.items():
                findings += _apply(name, level, rule, audit)  # type: ignore[arg-type]
        return AuditReport(path, tuple(findings), _facts(audit, findings))


def check_dataset(root: str | Path, full: bool = False) -> DatasetReport:
    """Check every episode below `root`, and what only shows between them (E12, W08, W11).

    Args:
        root: Folder or file.
        full: As in `check_episode`.
    """
    reports = [check_episode(path, full) for path in find_episodes(root)]
    return DatasetReport(Path(root), tuple(reports), tuple(compare(reports)))


def compare(reports: Sequence[AuditReport]) -> list[Finding]:
    """Return what shows between episodes: duplicates, odd lengths, mixed settings."""
    readable = [report for report in reports if "ticks" in report.facts]
    return [*_duplicates(readable), *_lengths(readable), *_mixtures(readable)]


def _state(reader: EpisodeReader) -> Iterable[Finding]:
    if reader.state not in schema.FINAL_STATES:
        yield Finding("E01", "error", "state", f"{reader.state!r} is not final; run `tacit recover`")
    if reader.num_ticks == 0:
        yield Finding("E01", "error", "action", "no tick")


def _apply(name: str, level: Level, rule: Rule, audit: Audit) -> list[Finding]:
    """Run one rule; what it cannot read is a finding of its own."""
    try:
        return [Finding(name, _level(name, level, message), where, message) for where, message in rule(audit)]
    except (TacitError, KeyError, ValueError, OSError) as problem:
        return [Finding(name, "error", rule.__name__, f"cannot be checked: {problem}")]


def _level(name: str, level: Level, message: str) -> Level:
    """W03 becomes an error when the hole is a second long."""
    if name == "W03" and float(message.split()[2]) >= GAP_ERROR_MS:
        return "error"
    return level


def _facts(audit: Audit, findings: list[Finding]) -> dict[str, object]:
    reader = audit.reader
    broken = {finding.rule for finding in findings if finding.level == "error"}
    lag = None if broken & {"E02", "E03", "E05"} else action_lag_s(audit)
    return {
        "task": reader.task,
        "ticks": reader.num_ticks,
        "seconds": round(float(np.ptp(reader.tick_ns)) / 1e9, 3) if reader.num_ticks else 0.0,
        "fps": reader.fps,
        "success": reader.success,
        "state": reader.state,
        "bytes": reader.path.stat().st_size,
        "lag_ms": None if lag is None else round(lag * 1e3, 1),
        "uuid": reader.attribute("episode_uuid"),
        "content_sha256": reader.attribute("content_sha256"),
        "embodiment": reader.attribute("embodiment"),
        "calibration_id": reader.attribute("calibration_id"),
    }


def _duplicates(reports: Sequence[AuditReport]) -> Iterable[Finding]:
    """E12: no episode is there twice."""
    for key in ("uuid", "content_sha256"):
        places: dict[object, list[str]] = defaultdict(list)
        for report in reports:
            places[report.facts[key]].append(str(report.path))
        for value, paths in places.items():
            if value and len(paths) > 1:
                yield Finding("E12", "error", ", ".join(paths), f"the same {key}: one episode stored twice")


def _lengths(reports: Sequence[AuditReport]) -> Iterable[Finding]:
    """W08: no length is far outside the quartiles of its task."""
    by_task: dict[object, list[AuditReport]] = defaultdict(list)
    for report in reports:
        by_task[report.facts["task"]].append(report)
    for members in by_task.values():
        if len(members) < MIN_FOR_OUTLIERS:
            continue
        ticks = np.array([float(str(report.facts["ticks"])) for report in members])
        q1, q3 = np.percentile(ticks, [25, 75])
        margin = 1.5 * (q3 - q1)
        for report, count in zip(members, ticks, strict=True):
            if not q1 - margin <= count <= q3 + margin:
                message = f"{count:.0f} ticks, the task usually takes {q1:.0f} to {q3:.0f}"
                yield Finding("W08", "warning", str(report.path), message)


def _mixtures(reports: Sequence[AuditReport]) -> Iterable[Finding]:
    """W11: one rate, one embodiment, one calibration."""
    for key in ("fps", "embodiment", "calibration_id"):
        counts = Counter(str(report.facts[key])[:16] for report in reports)
        if len(counts) > 1:
            found = ", ".join(f"{value} ({count})" for value, count in counts.most_common(4))
            yield Finding("W11", "warning", key, f"mixed: {found}")
