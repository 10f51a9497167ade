"""`tacit recover`: finish interrupted recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.episode.files import find_parts
from tacit.episode.reader import EpisodeReader
from tacit.episode.recovery import recover
from tacit.errors import EpisodeError


@dataclass(frozen=True)
class Options:
    """Finish interrupted recordings: keep every whole tick, move the source to trash/.

    A recording that is still running is locked and left alone. Exit code 1 when one of the files
    could not be recovered.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files `episode_<n>.hdf5.part`, or folders to search for them."""
    dry_run: bool = False
    """Only list what would be recovered."""


def main(argv: list[str]) -> int:
    """Run `tacit recover PATH...`; return 0, or 1 when a file could not be recovered."""
    options = tyro.cli(Options, args=argv, prog="tacit recover")
    console = Console(highlight=False, soft_wrap=True)
    if not options.paths:
        raise EpisodeError("tacit recover: give a .part file or the folder of a data set")
    parts = [part for path in options.paths for part in _parts(path)]
    if not parts:
        console.print("nothing to recover: no *.hdf5.part below " + ", ".join(map(str, options.paths)))
        return 0
    failures = 0
    for part in parts:
        if options.dry_run:
            console.print(f"would recover {part}")
            continue
        try:
            console.print(_describe(part, recover(part)))
        except EpisodeError as problem:
            failures += 1
            console.print(f"[red]not recovered[/] {problem}")
    return 1 if failures else 0


def _parts(path: Path) -> list[Path]:
    if not path.exists():
        raise EpisodeError(f"{path}: no such file or folder; give a .part file or the root of a dataset")
    return find_parts(path)


def _describe(part: Path, recovered: Path) -> str:
    with EpisodeReader(recovered) as reader:
        seconds = reader.num_ticks / reader.fps
        return f"[green]recovered[/] {recovered}: {reader.num_ticks} ticks ({seconds:.1f} s) of {part.name}"
