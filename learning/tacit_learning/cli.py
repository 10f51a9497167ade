"""`tacit train` and `tacit export`: the command line of learning."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tacit.bundle.player import PlayFlags
from tacit.config import Config, load
from tacit.config.arguments import NewFile, Writes, parse_known_words, parse_words
from tacit.config.claims import sole_writer
from tacit.config.pace import in_words
from tacit.errors import ConfigError, did_you_mean
from tacit_learning.config_help import groups_of
from tacit_learning.options import ACT_HSA, TABLES, find_config, overrides

SHOWN = (
    "loss",
    "l1",
    "l1_z0",
    "l1_copy",
    "mae",
    "mae_half",
    "mae_clock",
    "hsa",
    "hsa_chance",
    "hsa_pull",
    "alignment_loss",
    "progress_loss",
    "combined",
    "flow",
    "task_excess",
    "embodiment_excess",
    "club_mi",
    "samples_per_s",
)


class Model(NamedTuple):
    """A kind of model: `module:Class` of its options, and the module whose `train(config, reporter)` runs."""

    config: str
    training: str


MODELS: dict[str, Model] = {
    "act_hsa": Model("tacit_learning.act_hsa.config:ActHsaConfig", "tacit_learning.act_hsa.train"),
    "alignment": Model(
        "tacit_learning.alignment.settings:AlignmentConfig", "tacit_learning.alignment.train_alignment"
    ),
    "progress": Model(  # alignment training whose configuration learns progress alone
        "tacit_learning.alignment.settings:AlignmentConfig", "tacit_learning.alignment.train_alignment"
    ),
    "vace_e": Model("tacit_learning.vace_e.config:VaceEConfig", "tacit_learning.vace_e.run"),
}


FOREIGN_FLAGS = ("--from-lerobot", "--from-act")
"""Words of `tacit export` that ask for a policy of others."""

WITH_DEFAULTS = ("alignment",)
"""Models whose shipped configuration suits data that nobody has seen."""


@dataclass(frozen=True)
class TrainArguments:
    """Train a model from recorded episodes; options after it override the file: key.path=value.

    Example: tacit train act_hsa --config learning/configs/act_hsa_demo.yaml train.max_seconds=60
    """

    kind: Annotated[str, tyro.conf.Positional]
    """What to train: act_hsa (the touch-aware policy), progress (a small estimator for its node),
    alignment (embeddings, steps and progress of annotated videos or episodes), vace_e."""
    config: Path | None = None
    """YAML file with the options of the run; alignment has one where none is given: alignment.yaml."""


@dataclass(frozen=True)
class ExportArguments:
    """Pack a checkpoint into one ONNX file that the robot side can run.

    A policy's file also says how its chunks are played. What usually does best is written unless a flag
    says otherwise; `tacit evaluate --choose-playing` measures it in the simulated cell and writes it.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run folder (then its last checkpoint) or a checkpoint folder."""
    out: NewFile
    """File to write, ending in .onnx."""
    task: str | None = None
    """The task to follow, where an alignment model knows several."""
    play: Annotated[PlayFlags, tyro.conf.arg(name="")] = PlayFlags()


class ConsoleReporter:
    """A progress bar with the last metrics on a terminal, one line per report elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._first: tuple[float, float] | None = None

    def metrics(self, kind: str, step: int, share: float, values: Mapping[str, float]) -> None:
        """Show metrics of `kind` train or val."""
        text = "  ".join(f"{key} {values[key]:.4g}" for key in SHOWN if key in values)
        if not self._console.is_terminal or kind == "val":
            left = self._left(share) if kind == "train" else ""
            self._console.print(
                f"{kind:5s} step {step:6d} {100 * min(share, 1):3.0f} %  {text}{left}", highlight=False
            )
        if self._console.is_terminal:
            self._show(share, step, text)

    def _left(self, share: float) -> str:
        """Return how long it will still take, by what this run has done since its first report."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, share)
        began, first = self._first
        if share <= first or share >= 1:
            return ""
        return f"  {in_words((1 - share) * (now - began) / (share - first))} left"

    def message(self, text: str) -> None:
        """Show one line."""
        self._console.print(text, highlight=False)

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()

    def _show(self, share: float, step: int, text: str) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._bar.add_task("train", total=1.0)
        self._bar.update(self._bar.task_ids[0], completed=min(share, 1.0), description=f"step {step}  {text}")


def train(argv: Sequence[str]) -> int:
    """Run `tacit train`; returns the exit code."""
    if argv and argv[0] in MODELS and {"-h", "--help"} & set(argv):
        _print_keys(argv[0])
        return 0
    arguments, rest = parse_known_words(TrainArguments, argv, "tacit train")
    changes = overrides(rest, TABLES.get(arguments.kind, ACT_HSA))
    reporter = ConsoleReporter(Console())
    try:
        _train(arguments, changes, reporter)
    finally:
        reporter.close()
    return 0


def export(argv: Sequence[str]) -> int:
    """Run `tacit export`; returns the exit code."""
    if any(word.partition("=")[0] in FOREIGN_FLAGS for word in argv):
        from tacit_learning.export_foreign import ForeignArguments, export_foreign

        given = parse_words(ForeignArguments, argv, "tacit export")
        with sole_writer(given.out, is_file=True):
            done = export_foreign(given)
    else:
        arguments = parse_words(ExportArguments, argv, "tacit export")
        from tacit_learning.export import export_checkpoint  # torch, which --help can do without

        with sole_writer(arguments.out, is_file=True):
            done = export_checkpoint(arguments.checkpoint, arguments.out, arguments.task, arguments.play)
    size = done.path.stat().st_size / 1e6
    Console().print(
        f"{done.path}: {size:.1f} MB, differs from torch by at most {done.max_difference:.1e}; "
        f"sha256 {done.sha256}",
        highlight=False,
    )
    return 0


def _options_of(kind: str) -> type[Config]:
    module, _, name = MODELS[kind].config.partition(":")
    options: type[Config] = getattr(importlib.import_module(module), name)
    return options


def _print_keys(kind: str) -> None:
    """Print every key of a model's configuration, as wide as the terminal."""
    console = Console(highlight=False)
    console.print(f"usage: tacit train {kind} --config FILE_OR_NAME [KEY=VALUE ...]", markup=False)
    console.print("Keys, defaults and values; learning/configs has files to begin with.\n")
    for group in groups_of(_options_of(kind)):
        console.print(f"[bold]{group.name}[/]")
        console.print(Padding(group.text, (0, 0, 0, 2)), style="dim", markup=False)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        for key in group.keys:
            table.add_row(f"  {key.path}", Text(key.default), Text(key.values))
        console.print(table)


def _config_of(arguments: TrainArguments) -> Path:
    if arguments.config is None and arguments.kind not in WITH_DEFAULTS:
        raise ConfigError(f"tacit train {arguments.kind}: --config is missing; learning/configs has examples")
    return arguments.config or Path(f"{arguments.kind}.yaml")


def _require_output(config: object) -> None:
    """Refuse an output in which nothing can be written, before data are read."""
    output = getattr(config, "output_path", None) or getattr(getattr(config, "train", None), "output", None)
    if output and (problem := Writes("folder").problem(Path(output))):
        raise ConfigError(f"train.output: {output}: {problem}")


def _train(arguments: TrainArguments, changes: list[str], reporter: ConsoleReporter) -> None:
    if arguments.kind not in MODELS:
        hint = did_you_mean(arguments.kind, MODELS)
        raise ConfigError(f"tacit train {arguments.kind}: no such model; {hint}")
    model = MODELS[arguments.kind]
    config = load(_options_of(arguments.kind), find_config(_config_of(arguments)), changes)
    _require_output(config)
    result = importlib.import_module(model.training).train(config, reporter)
    if result is None:  # nothing but caches were asked for
        return
    reporter.message(
        f"{result.step} steps in {result.seconds:.0f} s, {result.samples_per_second:.0f} samples/s; "
        f"checkpoint in {result.folder}/checkpoints/last"
    )
