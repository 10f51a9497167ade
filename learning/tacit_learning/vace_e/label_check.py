"""`tacit check labels`: whether labels stay the same however the data are read, and what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tacit.config import parse
from tacit.convert.vace_e_files import METADATA_NAME
from tacit_learning.data.labels import UNKNOWN, LabelMaps, load_labels
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.label_trials import LabelReport, check_labels

LABELS_NAME = "labels.json"


@dataclass(frozen=True)
class Options:
    """Check the labels of a VACE-E data set: equal in every batch, shuffle, subset, process and resume.

    Exit code 0 when they are, 1 when not, 2 when nothing could be checked.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Folder of the task folders (dataset_base_path)."""
    metadata: Path | None = None
    """Metadata of the tasks (JSON); metadata.json in the data folder if there is one."""
    labels: Path | None = None
    """Maps to use, and to extend by what these data add: labels.json, or a checkpoint that holds one."""
    older: Path | None = None
    """Maps of an earlier run: their ids must be the same now."""
    task_label_by: Literal["prompt", "task_type"] = "prompt"
    """What makes a task class."""
    embodiment_label: Literal["coarse", "fine"] = "coarse"
    """human and robot, or every embodiment_type by itself."""
    seed: int = 0
    """Of the shuffles and subsets."""
    write: Path | None = None
    """Write the maps here as labels.json."""
    json: Path | None = None
    """Write the report here."""


def main(argv: list[str]) -> int:
    """Run `tacit check labels DATA`; return 0, 1 (inconsistent) or 2 (usage)."""
    options = tyro.cli(Options, args=argv, prog="tacit check labels")
    stored = None if options.labels is None else _stored(options.labels)
    dataset = VaceEDataset(_data_options(options), labels=stored, require_target=False)
    older = None if options.older is None else _stored(options.older)
    report = check_labels(dataset, older, options.seed)
    _print(Console(highlight=False), dataset, report)
    if options.write is not None:
        dataset.labels.save(options.write)
    if options.json is not None:
        content = {
            **report._asdict(),
            "checks": [check._asdict() for check in report.checks],
            "ok": report.ok,
        }
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0 if report.ok else 1


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
    default = options.data / METADATA_NAME
    metadata = options.metadata or (default if default.is_file() else None)
    content = {
        "dataset_base_path": str(options.data),
        "task_metadata_path": None if metadata is None else str(metadata),
        "task_label_by": options.task_label_by,
        "embodiment_label": options.embodiment_label,
        "control_from_mask": True,  # labels do not depend on the control video
    }
    return parse(DataOptions, content, "tacit check labels")


def _stored(path: Path) -> LabelMaps:
    return load_labels(path / LABELS_NAME if path.is_dir() else path)
