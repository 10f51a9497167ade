"""`tacit view`: write a page that shows an episode or a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.episode import EpisodeReader, check_dataset, check_episode
from tacit.view.dataset_page import dataset_page
from tacit.view.episode_page import episode_page


@dataclass(frozen=True)
class Options:
    """Write a self-contained HTML page (no network needed) that shows an episode, boxes included.

    For a folder the page lists all its episodes, with their checks, first and last frames.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """An episode file, or the folder of a data set."""
    out: Path | None = None
    """The page; `<episode>.html` or `<folder>/reports/index.html` when left out."""


def main(argv: list[str]) -> int:
    """Run `tacit view EPISODE_OR_ROOT [--out page.html]`."""
    options = tyro.cli(Options, args=argv, prog="tacit view")
    if options.path.is_dir():
        page = dataset_page(check_dataset(options.path))
        target = options.out or options.path / "reports" / "index.html"
    else:
        with EpisodeReader(options.path) as reader:
            page = episode_page(reader, check_episode(options.path))
        target = options.out or options.path.with_suffix(".html")
    path = page.save(target)
    Console(highlight=False, soft_wrap=True).print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
