"""What to look at first: every doubt about an episode with a weight, the most doubtful one first.

An episode is held against the others of its task, so what the whole set has in common weighs little; what
is wrong by the rules of the format weighs wherever it is found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.episode.findings import AuditReport
from tacit.episode.likeness import Likeness, near_duplicates, odd_ends
from tacit.episode.measures import Measures

MIN_PEERS = 6
"""The middle of fewer episodes says nothing about one more."""
FAR = 4.0
"""Robust deviations from which a value is odd; of ten thousand normal values one is."""
HEAVIEST = 6.0
WEIGHTS = {"W02": 2.0, "W03": 2.0, "W04": 6.0, "W06": 2.0, "W12": 3.0, "W14": 2.0}
ERROR_WEIGHT, WARNING_WEIGHT, DUPLICATE_WEIGHT = 8.0, 1.0, 7.0
IN_RANKING = ("W08",)
"""Rules that are told here by measure."""


class Scale(NamedTuple):
    """How a value is compared: on a log scale or not, what differs by chance at least, and in words.

    Without a word for low or high values, these are no reason to look: nobody minds a smooth motion.
    """

    log: bool
    floor: float
    low: str
    high: str
    unit: str = ""


SCALES = {
    "seconds": Scale(True, 0.10, "short", "long", " s"),
    "jerk": Scale(True, 0.25, "", "jerky", " rad/s^3"),
    "pauses": Scale(False, 0.05, "", "many pauses"),
    "contact": Scale(False, 0.06, "little contact", "much contact"),
    "unboxed": Scale(False, 0.05, "", "missing boxes"),
    "lag": Scale(False, 15.0, "action lags less", "action lags more", " ms"),
    "brightness": Scale(False, 6.0, "dark", "bright", " grey levels"),
    "sharpness": Scale(True, 0.25, "blurred", ""),
}


@dataclass(frozen=True)
class Doubt:
    """One reason to look: how much it weighs, and what it is in words."""

    kind: str
    weight: float
    text: str


@dataclass(frozen=True)
class Ranked:
    """An episode with all doubts about it, the heaviest first."""

    report: AuditReport
    doubts: tuple[Doubt, ...]

    @property
    def score(self) -> float:
        """Sum of the weights."""
        return sum(doubt.weight for doubt in self.doubts)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON data."""
        doubts = [vars(doubt) for doubt in self.doubts]
        return {"path": str(self.report.path), "score": round(self.score, 2), "doubts": doubts}


def rank(
    reports: Sequence[AuditReport], measures: Sequence[Measures | None], roots: Sequence[Path] = ()
) -> list[Ranked]:
    """Return the episodes, the one to look at first at the front.

    Args:
        reports: Of the audit.
        measures: Of the same episodes.
        roots: Data sets that were named apart, such as training and validation.
    """
    found: dict[int, list[Doubt]] = defaultdict(list)
    for number, doubt in _by_rules(reports):
        found[number].append(doubt)
    tasks: dict[object, list[int]] = defaultdict(list)
    for number, of_one in enumerate(measures):
        if of_one is not None:
            tasks[reports[number].facts.get("task")].append(number)
    for members in tasks.values():
        peers = {number: m for number in members if (m := measures[number]) is not None}
        labels = {number: reports[number].facts.get("success") for number in members}
        paths = {number: reports[number].path for number in members}
        for number, doubt in (
            *_odd_values(peers),
            *_doubtful_labels(peers, labels),
            *_repeated(near_duplicates(peers), paths, roots),
        ):
            found[number].append(doubt)
    ranked = [
        Ranked(report, tuple(sorted(found[number], key=lambda doubt: -doubt.weight)))
        for number, report in enumerate(reports)
    ]
    return sorted(ranked, key=lambda item: -item.score)


def _by_rules(reports: Sequence[AuditReport]) -> Iterator[tuple[int, Doubt]]:
    """Yield what the audit found; a warning that most episodes share weighs little."""
    shared = Counter(
        (f.rule, f.where) for r in reports for f in {(f.rule, f.where): f for f in r.findings}.values()
    )
    for number, report in enumerate(reports):
        for finding in {(f.rule, f.where): f for f in report.findings}.values():
            if finding.rule in IN_RANKING:
                continue
            weight = WEIGHTS.get(finding.rule, WARNING_WEIGHT)
            share = (shared[finding.rule, finding.where] - 1) / max(len(reports) - 1, 1)
            weight = ERROR_WEIGHT if finding.level == "error" else weight * (1 - share)
            yield number, Doubt(finding.rule, weight, f"{finding.where}: {finding.message}")


def _odd_values(peers: Mapping[int, Measures]) -> Iterator[tuple[int, Doubt]]:
    """Yield values far from the middle of the task."""
    names = list(dict.fromkeys(name for one in peers.values() for name in one.values))
    for name in names:
        scale = SCALES[name.partition(" ")[0]]
        known = {number: one.values[name] for number, one in peers.items() if name in one.values}
        if len(known) < MIN_PEERS:
            continue
        values = np.array(list(known.values()))
        levels = np.log(np.maximum(values, 1e-6)) if scale.log else values
        for number, value, far in zip(known, values, deviations(levels, scale.floor), strict=True):
            word = scale.high if far > 0 else scale.low
            if word and abs(far) > FAR:
                of = name.partition(" of ")[2]
                text = (
                    f"{of + ': ' * bool(of)}{word}: {value:.3g}{scale.unit}, usually {np.median(values):.3g}"
                )
                yield number, Doubt(name, float(min(abs(far) / 2, HEAVIEST)), text)


def deviations(values: np.ndarray, floor: float) -> np.ndarray:
    """Return how far values (n,) lie from their median, in robust standard deviations of at least `floor`."""
    away = values - np.median(values)
    return np.asarray(away / max(1.4826 * float(np.median(np.abs(away))), floor))


def _doubtful_labels(
    peers: Mapping[int, Measures], labels: Mapping[int, object]
) -> Iterator[tuple[int, Doubt]]:
    """Yield successes that do not end as the others do."""
    successes = {number: one for number, one in peers.items() if labels[number] is True}
    if len(successes) < MIN_PEERS:
        return
    usual = Counter(step for one in successes.values() for step in one.steps)
    always = [step for step, count in usual.items() if count > 0.9 * len(successes)]
    for number, one in successes.items():
        missing = [step for step in always if step not in one.steps]
        if missing:
            text = f"labelled a success, but these steps never come: {', '.join(missing)}"
            yield number, Doubt("label", HEAVIEST, text)
    for number, (far, what) in odd_ends(successes).items():
        if far > FAR:
            text = f"labelled a success, but {what} is unlike that of the other successes"
            yield number, Doubt("label", float(min(far / 2, HEAVIEST)), text)


def _repeated(
    pairs: Sequence[Likeness], paths: Mapping[int, Path], roots: Sequence[Path]
) -> Iterator[tuple[int, Doubt]]:
    """Yield the later one of each pair that shows the same, with the first that it repeats."""
    seen: set[int] = set()
    for pair in pairs:
        if pair.second in seen:
            continue
        seen.add(pair.second)
        first, second = (_root_of(paths[number], roots) for number in (pair.first, pair.second))
        leak = "; of two data sets: what is validated on was trained on" if first != second else ""
        text = f"shows the same as {paths[pair.first]}{leak}"
        yield pair.second, Doubt("duplicate", DUPLICATE_WEIGHT + bool(leak), text)


def _root_of(path: Path, roots: Sequence[Path]) -> Path | None:
    return next((root for root in roots if path.is_relative_to(root)), None)
