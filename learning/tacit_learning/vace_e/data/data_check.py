"""`tacit check vace_e`: what a data set holds, what of it cannot be used and why, how it will be batched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tacit.config import parse
from tacit.config.arguments import parse_words
from tacit_learning.vace_e.arguments import CheckArguments as Options
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.batch_choice import BucketSampler
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata

LOOKED_AT = 8  # windows whose masks are read


def main(argv: list[str]) -> int:
    """Run `tacit check vace_e DATA`; return 0, 1 (some episodes cannot be used) or 2 (none, or usage)."""
    options = parse_words(Options, argv, "tacit check vace_e")
    dataset = VaceEDataset(data_options(options))
    console = Console(highlight=False)
    for line in dataset.report.lines():
        console.print(escape(line), soft_wrap=True)
    console.print(_table(dataset))
    white = white_fractions(dataset)
    console.print(
        f"masks: {100 * np.mean(white):.1f} % white, to be generated "
        f"({100 * min(white):.1f} to {100 * max(white):.1f} % in {len(white)} windows)",
        soft_wrap=True,
    )
    sampler = BucketSampler([dataset.bucket(i) for i in range(len(dataset))], options.batch_size)
    for line in sampler.lines():
        console.print(line, soft_wrap=True)
    if options.json is not None:
        options.json.write_text(json.dumps(_content(dataset, white), indent=1), encoding="utf-8")
    return 1 if dataset.report.excluded else 0


def data_options(options: Options) -> DataOptions:
    """Return the options of the data set; `metadata.json` beside the tasks is taken unasked."""
    content = {
        "dataset_base_path": str(options.data),
        "task_metadata_path": options.metadata and str(options.metadata),
        "robot_data_path": options.robot_data and str(options.robot_data),
        "height": options.height,
        "width": options.width,
        "num_frames": options.num_frames,
        "fps": options.fps,
        "window": options.window,
        "gripper_open_values": options.gripper_open_values or None,
        "control_from_mask": options.control_from_mask,
    }
    return find_metadata(parse(DataOptions, content, "tacit check vace_e"))


def white_fractions(dataset: VaceEDataset, count: int = LOOKED_AT) -> list[float]:
    """Return the share of white of the masks of a few windows, spread over the data set."""
    numbers = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)).tolist()
    return [float(dataset.mask(i).mean()) for i in numbers]


def _table(dataset: VaceEDataset) -> Table:
    """One row per task folder: episodes, frames, what they have, and the prompt."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("episodes", "frames", "motion", "objects", "image"):
        table.add_column(name, justify="right")
    for name in ("task", "prompt"):
        table.add_column(name, overflow="fold")
    for task, count in Counter(record.task for record in dataset.records).items():
        records = [record for record in dataset.records if record.task == task]
        have = [sum(getattr(r, f) for r in records) for f in ("has_motion", "has_objects")] + [
            sum(r.reference is not None for r in records)
        ]
        cells = (count, _span([record.frames for record in records]), *have)
        table.add_row(*map(str, cells), escape(task), escape(dataset.texts[task].prompt))
    return table


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def _content(dataset: VaceEDataset, white: Sequence[float]) -> dict[str, object]:
    report = dataset.report
    return {
        "found": report.found,
        "valid": report.valid,
        "excluded": report.counts,
        "notes": report.note_counts,
        "findings": [asdict(finding) for finding in (*report.excluded, *report.notes)],
        "white": list(white),
    }
