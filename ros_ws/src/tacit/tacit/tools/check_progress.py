"""`tacit check progress`: which episodes hesitate, try again, or have probably failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from tacit.config.arguments import CountOrNone, NewFile, parse_words
from tacit.episode import EpisodeReader, find_episodes
from tacit.episode.files import report_target
from tacit.errors import EpisodeError
from tacit.progress.doubts import Doubt, Followed, doubts

SIGNALS = ".parquet"
COLUMNS = ["episode", "timestamp", "progress_sparse", "done"]


@dataclass(frozen=True)
class Options:
    """Rank the episodes of a task by what their progress says against them, the most doubtful first.

    Example: tacit check progress runs/progress.onnx data/place_cube
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A progress bundle (.onnx), or a file of `tacit export signals` (.parquet)."""
    data: Annotated[Path | None, tyro.conf.Positional] = None
    """Recorded episodes, for a bundle."""
    first: CountOrNone = 12
    """How many are printed."""
    json: NewFile | None = None
    """Write what is said of all episodes to this file."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit check progress`; returns 0, or 1 where an episode has probably failed."""
    options = parse_words(Options, argv, "tacit check progress")
    if options.json is not None:
        report_target(options.json)
    if options.source.suffix == SIGNALS:
        episodes = list(of_signals(options.source))
    elif options.data is None:
        raise EpisodeError("tacit check progress: a bundle needs the episodes to look at; give their folder")
    else:
        episodes = list(of_bundle(options.source, options.data))
    ranked = doubts(episodes)
    _print(ranked, options.first, Console(highlight=False, soft_wrap=True))
    if options.json is not None:
        rows = [asdict(doubt) | {"reasons": doubt.reasons} for doubt in ranked]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(any(doubt.failure > 0.5 for doubt in ranked))


def of_bundle(bundle: Path, data: Path) -> Iterator[Followed]:
    """Follow every episode below a folder with a bundle.

    Raises:
        EpisodeError: There is none.
        BundleError: An episode lacks a stream of the bundle.
    """
    from tacit.bundle.runtime import OnnxProgress
    from tacit.progress.follow import follow

    files = find_episodes(data)
    if not files:
        raise EpisodeError(f"{data}: holds no episode; give the folder that `tacit record` wrote to")
    for file in files:
        with EpisodeReader(file) as reader:
            readings = list(follow(OnnxProgress(bundle, reader.rig), reader))
        name = file.relative_to(data).as_posix() if data.is_dir() else file.name
        seconds = np.array([reading.stamp_ns - readings[0].stamp_ns for reading in readings]) / 1e9
        progress, done = (
            np.array(column) for column in zip(*[(r.progress, r.done) for r in readings], strict=True)
        )
        yield Followed(name, progress, seconds, done)


def of_signals(source: Path) -> Iterator[Followed]:
    """Read the progress of every episode from a file of signals.

    Raises:
        EpisodeError: Not such a file, or one without a row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source, columns=COLUMNS)
    except (OSError, pa.ArrowException, KeyError, ValueError) as problem:
        note = " ".join(str(problem).split())[:200]
        raise EpisodeError(f"{source}: no file of `tacit export signals` ({note})") from None
    if not len(table):
        raise EpisodeError(f"{source}: holds no frame; export it again")
    names = np.array(table["episode"].to_pylist())
    for name in dict.fromkeys(names.tolist()):
        rows = table.filter(pa.array(names == name))
        done = rows["done"].to_numpy()
        known = None if np.isnan(np.asarray(done, float)).any() else done
        yield Followed(name, rows["progress_sparse"].to_numpy(), rows["timestamp"].to_numpy(), known)


def _print(ranked: Sequence[Doubt], first: int, console: Console) -> None:
    doubtful = [doubt for doubt in ranked if doubt.reasons]
    for doubt in doubtful[:first]:
        console.print(f"  {doubt.score:4.1f}  {escape(doubt.name)}: {doubt.reasons}")
    failed = sum(doubt.failure > 0.5 for doubt in ranked)
    again = sum(doubt.retries > 0 for doubt in ranked)
    console.print(f"{len(ranked)} episodes: {failed} have probably failed, {again} show retries")
