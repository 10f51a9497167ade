"""`tacit view`: write a page that shows an episode or a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.config.arguments import CountOrNone, NewFile, parse_words
from tacit.episode import EpisodeReader, check_dataset, check_episode
from tacit.episode.files import report_target
from tacit.episode.measures import measure
from tacit.episode.ranking import rank
from tacit.errors import ConfigError
from tacit.view.dataset_page import save_dataset
from tacit.view.episode_page import episode_page
from tacit.view.rrd import write_rrd


@dataclass(frozen=True)
class Options:
    """Write a self-contained HTML page (no network needed) that shows an episode, boxes included.

    For a folder the page lists all its episodes, with their checks, first and last frames, and those to
    look at first with a page each.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """An episode file, or the folder of a data set."""
    out: NewFile | None = None
    """The page; `<episode>.html` or `<folder>/reports/index.html` when left out."""
    rrd: bool = False
    """Write an episode for the rerun viewer instead (`<episode>.rrd`; open it with `rerun FILE`)."""
    pages: CountOrNone = 12
    """How many episodes of a folder get a page of their own."""


def main(argv: list[str]) -> int:
    """Run `tacit view EPISODE_OR_ROOT [--out page.html]`."""
    options = parse_words(Options, argv, "tacit view")
    if options.out:
        report_target(options.out)
    if options.rrd:
        return _rrd(options)
    if options.path.is_dir():
        report = check_dataset(options.path)
        if not report.episodes:
            raise ConfigError(f"{options.path}: no episode (*.hdf5) below it; give one, or their folder")
        ranked = rank(report.episodes, [measure(episode.path) for episode in report.episodes])
        target = options.out or options.path / "reports" / "index.html"
        path = save_dataset(report, ranked, target, options.pages)
    else:
        with EpisodeReader(options.path) as reader:
            page = episode_page(reader, check_episode(options.path))
        path = page.save(options.out or options.path.with_suffix(".html"))
    _say(path)
    return 0


def _rrd(options: Options) -> int:
    if options.path.is_dir():
        raise ConfigError(f"--rrd: {options.path} is a folder; expected one episode")
    target = options.out or options.path.with_suffix(".rrd")
    if not target.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {target.parent}")
    with EpisodeReader(options.path) as reader:
        _say(write_rrd(reader, target))
    return 0


def _say(path: Path) -> None:
    Console(highlight=False, soft_wrap=True).print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
