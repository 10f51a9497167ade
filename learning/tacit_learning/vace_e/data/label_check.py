"""`tacit check labels`: whether labels stay the same however the data are read, and what they say.

A label that changes between batches, subsets or runs makes a contrastive loss pull the wrong items
together, and nothing else complains. So it is tried here, on the data themselves.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tacit.config import parse
from tacit.config.arguments import parse_words
from tacit.errors import ConfigError
from tacit_learning.data.labels import CONFLICT_NAT, UNKNOWN, LabelMaps, load_labels, mutual_information
from tacit_learning.vace_e.arguments import CheckLabels as Options
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata

LABELS_NAME = "labels.json"
UNKNOWN_TEXT = "(unknown)"


class Check(NamedTuple):
    """One question and its answer."""

    name: str
    ok: bool
    detail: str


class LabelReport(NamedTuple):
    """All answers, and what the labels are like."""

    checks: list[Check]
    warnings: list[str]
    task_counts: dict[str, int]
    embodiment_counts: dict[str, int]
    information: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def main(argv: list[str]) -> int:
    """Run `tacit check labels DATA`; return 0, 1 (inconsistent) or 2 (usage)."""
    options = parse_words(Options, argv, "tacit check labels")
    stored = None if options.labels is None else _stored(options.labels)
    dataset = VaceEDataset(_data_options(options), labels=stored, require_target=False)
    older = None if options.older is None else _stored(options.older)
    report = check_labels(dataset, older, options.seed)
    _print(Console(highlight=False), dataset, report)
    if options.write is not None:
        dataset.labels.save(options.write)
    if options.json is not None:
        checks = [check._asdict() for check in report.checks]
        content = report._asdict() | {"checks": checks, "ok": report.ok}
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0 if report.ok else 1


Labels = dict[str, tuple[int, int]]
"""Task folder and episode -> task label, embodiment label."""


def check_labels(dataset: VaceEDataset, older: LabelMaps | None = None, seed: int = 0) -> LabelReport:
    """Try the labels of a data set in every way in which they are used.

    Args:
        dataset: With the maps to be checked.
        older: Maps of an earlier run, whose ids must be the same.
        seed: Seed of the shuffles and subsets.
    """
    expected = _labels_of(dataset)
    rng = random.Random(seed)
    checks = [_check_shuffles(dataset, expected, rng), _check_subsets(dataset, expected, rng)]
    if older is not None:
        checks.append(_check_older(dataset.labels, older))
    texts = [dataset.texts[record.task] for record in dataset.records]
    task = Counter(text.task or UNKNOWN_TEXT for text in texts)
    embodiment = Counter(text.embodiment or UNKNOWN_TEXT for text in texts)
    information = _information(dataset)
    warnings = _warnings(task, embodiment, information["episodes"])
    return LabelReport(checks, warnings, dict(task), dict(embodiment), information)


def _labels_of(dataset: VaceEDataset) -> Labels:
    return {
        dataset.record(i).identity: (dataset.task_label(i), dataset.embodiment_label(i))
        for i in range(len(dataset))
    }


def _check_shuffles(dataset: VaceEDataset, expected: Labels, rng: random.Random) -> Check:
    """Read the whole set as items several times, in another order each time."""
    wrong = set()
    for _ in range(3):
        order = rng.sample(range(len(dataset)), len(dataset))
        items = [dataset.item(i, video=False, reference=False) for i in order]
        found = {f"{e.task_name}/{e.episode_name}": (e.task_label, e.embodiment_label) for e in items}
        wrong |= {key for key, labels in found.items() if expected[key] != labels}
    return _check("equal in every batch and shuffle", wrong, f"{len(expected)} items in 3 orders")


def _check_subsets(dataset: VaceEDataset, expected: Labels, rng: random.Random) -> Check:
    """Take subsets of several sizes."""
    wrong, sizes = set(), [max(1, round(share * len(dataset.records))) for share in (0.2, 0.5, 0.9)]
    for size in sizes:
        part = _labels_of(dataset.subset(sorted(rng.sample(range(len(dataset.records)), size))))
        wrong |= {key for key, labels in part.items() if expected[key] != labels}
    return _check("equal in every subset", wrong, f"subsets of {sizes} episodes")


def _check_older(labels: LabelMaps, older: LabelMaps) -> Check:
    name = "equal to an earlier run"
    try:
        labels.check_extends(older)
    except ConfigError as problem:
        return Check(name, False, str(problem))
    return Check(name, True, f"{len(older.task)} task ids kept, {len(labels.task) - len(older.task)} new")


def _information(dataset: VaceEDataset) -> dict[str, float]:
    """Return I(task; embodiment), H(embodiment) [nat]: by episode as labelled, and by folder both ways."""
    information, entropy = dataset.dependence()
    found = {"episodes": information, "entropy": entropy}
    if dataset.metadata is not None:
        known = {n: t for n, t in dataset.metadata.per_task_attributes.items() if t.embodiment_type}
        bodies = [dataset.texts[name].embodiment for name in known]
        prompts = [dataset.texts[name].prompt for name in known]
        types = [task.task_type for task in known.values()]
        found["folders by prompt"] = mutual_information(prompts, bodies).information
        found["folders by task_type"] = mutual_information(types, bodies).information
    return found


def _warnings(task: Counter[str], embodiment: Counter[str], information: float) -> list[str]:
    found = []
    if information > CONFLICT_NAT:
        found.append(
            f"task and embodiment labels share {information:.3f} nat (more than {CONFLICT_NAT}): "
            "a feature that tells the task tells the body, so the task loss and CLUB pull against each "
            "other; try task_label_by: task_type"
        )
    for name, counts in (("task", task), ("embodiment", embodiment)):
        if unknown := counts[UNKNOWN_TEXT]:
            found.append(
                f"{unknown} episodes have no {name} label (-1): the metadata do not name their folder"
            )
    alone = [text for text, count in task.items() if count == 1 and text != UNKNOWN_TEXT]
    if alone:
        found.append(
            f"{len(alone)} task classes have one episode, so no positive but its own views: {alone[:3]}"
        )
    return found


def _check(name: str, wrong: set[str], good: str) -> Check:
    """Return the answer of a trial that found `wrong` episodes, whose labels changed."""
    return Check(name, not wrong, f"{len(wrong)} episodes change: {sorted(wrong)[:3]}" if wrong else good)


def _print(console: Console, dataset: VaceEDataset, report: LabelReport) -> None:
    for check in report.checks:
        verdict = "[green]ok[/]" if check.ok else "[red]WRONG[/]"
        console.print(f"{verdict:>11}  {check.name}: {escape(check.detail)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("id", "episodes", "label"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for ids, counts in (
        (dataset.labels.embodiment, report.embodiment_counts),
        (dataset.labels.task, report.task_counts),
    ):
        for text in sorted(counts, key=lambda text: ids.get(text, UNKNOWN)):
            table.add_row(str(ids.get(text, UNKNOWN)), str(counts[text]), escape(text))
    console.print(table)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in report.information.items())
    console.print(f"I(task; embodiment) in nat: {shown}", soft_wrap=True)
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)


def _data_options(options: Options) -> DataOptions:
    content = {
        "dataset_base_path": str(options.data),
        "task_metadata_path": options.metadata and str(options.metadata),
        "task_label_by": options.task_label_by,
        "embodiment_label": options.embodiment_label,
        "control_from_mask": True,  # labels do not depend on the control video
    }
    return find_metadata(parse(DataOptions, content, "tacit check labels"))


def _stored(path: Path) -> LabelMaps:
    return load_labels(path / LABELS_NAME if path.is_dir() else path)
