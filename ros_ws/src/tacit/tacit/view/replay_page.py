"""`tacit replay bundle EPISODE BUNDLE [OTHER]`: a table and a page of what policies say along a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from tacit.bundle import load_bundle
from tacit.bundle.runtime import OnnxPolicy
from tacit.config.arguments import Count, NewFile, parse_words
from tacit.episode import EpisodeReader
from tacit.episode.files import report_target
from tacit.errors import ConfigError
from tacit.rig import Rig
from tacit.view.page import Cell, Judged, Page
from tacit.view.plot import Series, line_plot
from tacit.view.replay import Replay, groups, replay

UNITS = {"joints": ("mrad", 1e3), "grippers": ("mm", 1e3)}
SHOWN_CHUNKS = 40
"""Most answers drawn over the recorded action of one joint."""


@dataclass(frozen=True)
class Options:
    """Run one policy, or two, over a recorded episode: error by how far it looks ahead.

    Nothing moves. The same bundle on the same machine gives the same bits, which --again checks. A small
    error is no success in the world; a large one is a policy that has not learned, or another camera.
    """

    episode: Annotated[Path, tyro.conf.Positional]
    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One policy, or two to compare."""
    every: Count = 5
    """Ticks from one question to the next."""
    out: NewFile | None = None
    """The page; `<episode>.replay.html` when left out."""
    again: bool = False
    """Ask everything twice; exit code 1 where the answers differ in a bit."""


def main(argv: list[str]) -> int:
    """Run `tacit replay bundle`; returns 1 where `--again` found a difference."""
    options = parse_words(Options, argv, "tacit replay bundle")
    if not 1 <= len(options.bundles) <= 2 or options.every < 1:
        raise ConfigError("replay bundle: give an episode and one or two bundles; --every at least 1")
    target = options.out or options.episode.with_suffix(".replay.html")
    report_target(target)
    say = Console(highlight=False, soft_wrap=True, markup=False).print
    same = True
    with EpisodeReader(options.episode) as reader:
        replays = [_run(path, reader, options.every) for path in options.bundles]
        if options.again:
            again = [_run(path, reader, options.every) for path in options.bundles]
            same = all(a.digest == b.digest for a, b in zip(replays, again, strict=True))
            say("the same bits twice" if same else "the answers differ when asked again")
        for row in table(replays, reader.rig):
            say("  ".join(f"{cell:>14}" if i else f"{cell:<28}" for i, cell in enumerate(row)))
        say(str(page(replays, reader).save(target)))
    return 0 if same else 1


def _run(path: Path, reader: EpisodeReader, every: int) -> Replay:
    return replay(OnnxPolicy(load_bundle(path), reader.rig), reader, every)


def table(replays: list[Replay], rig: Rig) -> list[tuple[str, ...]]:
    """Return rows of text: what, then one cell for each policy."""
    rows = [("", *(Path(r.name).name for r in replays))]
    for group, columns in groups(rig).items():
        unit, scale = UNITS[group]
        for label, at in (("next row", 0), ("last row", -1)):
            cells = (f"{scale * r.error_by_horizon(columns)[at]:.2f}" for r in replays)
            rows.append((f"{group}, {label} [{unit}]", *cells))
        standing = (f"{scale * float(np.nanmean(r.standing_error_by_horizon(columns))):.2f}" for r in replays)
        rows.append((f"{group}, mean [{unit}]", *(f"{scale * _over_all(r, columns):.2f}" for r in replays)))
        rows.append((f"{group}, if it stood [{unit}]", *standing))
        rows.append((f"{group}, seams [{unit}]", *(_told(scale * r.inconsistency(columns)) for r in replays)))
    rows.append(("inference [ms]", *(f"{r.median_ms:.1f}" for r in replays)))
    rows.append(("answers (sha256)", *(r.digest[:12] for r in replays)))
    return rows


def _told(value: float) -> str:
    """A number, or a dash where nothing was there to measure."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def _over_all(one: Replay, columns: list[int]) -> float:
    return float(np.nanmean(one.error_by_horizon(columns)))


def page(replays: list[Replay], reader: EpisodeReader) -> Page:
    """Return the page: the table, error by horizon, and what was said over what was done."""
    names = " and ".join(Path(r.name).name for r in replays)
    made = Page(
        f"Replay of {reader.path.name}", f"{names}, asked at {len(replays[0].ticks)} ticks; nothing moved"
    )
    head, *rows = table(replays, reader.rig)
    made.section("Errors", "Seams: how far two answers lie apart where they speak of the same moment.")
    made.table(head, _judged(rows))
    for group, columns in groups(reader.rig).items():
        unit, scale = UNITS[group]
        ahead = np.arange(replays[0].chunks.shape[1]) / reader.fps
        lines = [
            Series(
                Path(r.name).name,
                np.arange(r.chunks.shape[1]) / reader.fps,
                scale * r.error_by_horizon(columns),
            )
            for r in replays
        ]
        stands = scale * replays[0].standing_error_by_horizon(columns)
        lines.append(Series("a policy that stands", ahead, stands, dashed=True))
        svg = line_plot(lines, x_label="looking ahead [s]", y_label=f"mean error of {group} [{unit}]")
        made.plot(svg, f"Error of {group} by how far ahead the row is.")
    made.section("What it says, over what was done")
    for i, name in enumerate(reader.rig.state_names):
        made.plot(_joint(replays, reader, i), name)
    return made


def _judged(rows: list[tuple[str, ...]]) -> list[tuple[Cell, ...]]:
    """Hold the mean error of each group against that of a policy which stands."""
    standing = {name.partition(",")[0]: cells for name, *cells in rows if "if it stood" in name}
    judged: list[tuple[Cell, ...]] = []
    for name, *cells in rows:
        bars = standing.get(name.partition(",")[0]) if ", mean [" in name else None
        if bars is None:
            judged.append((name, *cells))
            continue
        verdicts = (
            Judged(cell, float(cell) < float(bar), f"below {bar}, if it stood")
            for cell, bar in zip(cells, bars, strict=True)
        )
        judged.append((name, *verdicts))
    return judged


def _joint(replays: list[Replay], reader: EpisodeReader, column: int) -> str:
    times = np.arange(reader.num_ticks) / reader.fps
    lines = [Series("recorded", times, reader.action[:, column], color=0)]
    for number, one in enumerate(replays, start=1):
        some = np.unique(np.linspace(0, len(one.ticks) - 1, SHOWN_CHUNKS).astype(int))
        rows = one.chunks.shape[1]
        x = [np.append((one.ticks[i] + np.arange(rows)) / reader.fps, np.nan) for i in some]
        y = [np.append(one.chunks[i, :, column], np.nan) for i in some]
        lines.append(Series(Path(one.name).name, np.concatenate(x), np.concatenate(y), color=number))
    is_gripper = column in reader.rig.gripper_indices
    label = "opening [m]" if is_gripper else "angle [rad]"
    return line_plot(lines, x_label="time [s]", y_label=label, height=180)
