"""`tacit recover` and `tacit recompute-boxes`: commands that mend recorded episodes, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.config.arguments import NewFolder, parse_words
from tacit.episode import EpisodeReader, Recomputed, find_episodes, find_parts, recompute_boxes, recover
from tacit.errors import EpisodeError
from tacit.rig import Rig, load_rig


@dataclass(frozen=True)
class RecoverOptions:
    """Finish interrupted recordings: keep every whole tick, move the source to trash/.

    A recording that is still running is locked and left alone. Exit code 1 when one of the files
    could not be recovered.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files `episode_<n>.hdf5.part`, or folders to search for them."""
    dry_run: bool = False
    """Only list what would be recovered."""


@dataclass(frozen=True)
class RecomputeOptions:
    """Derive poses and boxes of recorded episodes from a new calibration of the same robot.

    Images and what drivers said stay as they are; the calibration at recording is kept in the file.
    An episode that has the calibration already is left alone. Exit code 1 when one could not be done.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episodes, or folders to search for them."""
    rig: str
    """Rig with the new calibration, by name or path."""
    out: NewFolder | None = None
    """Write copies into this folder, in the order of the source, instead of changing the originals."""


def main_recover(argv: list[str]) -> int:
    """Run `tacit recover PATH...`; return 0, or 1 when a file could not be recovered."""
    options = parse_words(RecoverOptions, argv, "tacit recover")
    if not options.paths:
        raise EpisodeError("tacit recover: give a .part file or the folder of a data set")
    parts = [part for path in options.paths for part in _parts(path)]
    if not parts:
        _console().print("nothing to recover: no *.hdf5.part below " + ", ".join(map(str, options.paths)))
    mend = (lambda part: f"would recover {part}") if options.dry_run else _recover
    return _each("not recovered", (partial(mend, part) for part in parts))


def main_recompute(argv: list[str]) -> int:
    """Run `tacit recompute-boxes PATH... --rig RIG`; 0 done, 1 an episode could not be done."""
    options = parse_words(RecomputeOptions, argv, "tacit recompute-boxes")
    if not options.paths:
        raise EpisodeError("tacit recompute-boxes: give an episode or the folder of a data set")
    rig, jobs = load_rig(options.rig), []
    for root in options.paths:
        for path in find_episodes(root):
            relative = Path(path.name) if path == root else path.relative_to(root)
            target = None if options.out is None else options.out / relative
            jobs.append(partial(_recompute, path, rig, target))
    return _each("not recomputed", jobs)


def _each(failure: str, jobs: Iterable[Callable[[], str]]) -> int:
    """Do every job and print what it says; one that fails does not keep the others from being done."""
    failures = 0
    for job in jobs:
        try:
            _console().print(job())
        except EpisodeError as problem:
            failures += 1
            _console().print(f"[red]{failure}[/] {problem}")
    return 1 if failures else 0


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _parts(path: Path) -> list[Path]:
    if not path.exists():
        raise EpisodeError(f"{path}: no such file or folder; give a .part file or the root of a dataset")
    return find_parts(path)


def _recover(part: Path) -> str:
    recovered = recover(part)
    with EpisodeReader(recovered) as reader:
        seconds = reader.num_ticks / reader.fps
        return f"[green]recovered[/] {recovered}: {reader.num_ticks} ticks ({seconds:.1f} s) of {part.name}"


def _recompute(path: Path, rig: Rig, target: Path | None) -> str:
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
