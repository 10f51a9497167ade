"""`tacit recompute-boxes`: bring recorded episodes to a new calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.episode.files import find_episodes
from tacit.episode.reader import EpisodeReader
from tacit.episode.recompute import Recomputed, recompute_boxes
from tacit.errors import EpisodeError
from tacit.rig import Rig, load_rig


@dataclass(frozen=True)
class Options:
    """Derive poses and boxes of recorded episodes from a new calibration of the same robot.

    Images and what drivers said stay as they are; the calibration at recording is kept in the file.
    An episode that has the calibration already is left alone. Exit code 1 when one could not be done.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episodes, or folders to search for them."""
    rig: str
    """Rig with the new calibration, by name or path."""
    out: Path | None = None
    """Write copies into this folder, in the order of the source, instead of changing the originals."""


def main(argv: list[str]) -> int:
    """Run `tacit recompute-boxes PATH... --rig RIG`; 0 done, 1 an episode could not be done."""
    options = tyro.cli(Options, args=argv, prog="tacit recompute-boxes")
    console = Console(highlight=False, soft_wrap=True)
    if not options.paths:
        raise EpisodeError("tacit recompute-boxes: give an episode or the folder of a data set")
    rig, failures = load_rig(options.rig), 0
    for path, target in _work(options):
        try:
            console.print(_renew(path, rig, target))
        except EpisodeError as problem:
            failures += 1
            console.print(f"[red]not recomputed[/] {problem}")
    return 1 if failures else 0


def _work(options: Options) -> Iterator[tuple[Path, Path | None]]:
    """Yield each episode and where its result goes."""
    for root in options.paths:
        for path in find_episodes(root):
            relative = Path(path.name) if path == root else path.relative_to(root)
            yield path, None if options.out is None else options.out / relative


def _renew(path: Path, rig: Rig, target: Path | None) -> str:
    with EpisodeReader(path) as reader:
        declared = str(reader.attribute("calibration_id"))
    if declared == rig.calibration_id and target is None:
        return f"unchanged {path}: has calibration {declared[:12]} already"
    return _describe(recompute_boxes(path, rig, target))


def _describe(result: Recomputed) -> str:
    moved = ", ".join(f"{camera}/{sensor} {shift:.1f}" for (camera, sensor), shift in result.shift_px.items())
    read = f"; read anew: {', '.join(result.converted)}" if result.converted else ""
    return (
        f"[green]recomputed[/] {result.path}: {result.before[:12]} -> {result.after[:12]}; boxes moved by "
        f"(median px) {moved}{read}"
    )
