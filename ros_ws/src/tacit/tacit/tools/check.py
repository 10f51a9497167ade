"""`tacit check`: audit episodes and say what is wrong, as a table, JSON or HTML."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tacit.config.arguments import CountOrNone, NewFile, parse_words
from tacit.episode.audit import check_episode, compare
from tacit.episode.files import find_episodes, find_parts, report_target
from tacit.episode.findings import AuditReport, DatasetReport, Finding
from tacit.episode.measures import measure
from tacit.episode.ranking import Ranked, rank
from tacit.errors import EpisodeError

WORTH_A_LOOK, REASONS = 1.0, 2
STYLES = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True)
class Options:
    """Check episodes: structure, time, images, kinematics, boxes, labels, duplicates; and say which ones to
    look at first: unlike the others of their task, shown twice, or doubtfully labelled.

    Give two data sets, such as training and validation, and what is in both is told.

    Exit code 0 when there is no error (warnings may be), 1 when there is one, 2 when nothing could be
    checked.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episode files, or folders to search for them."""
    full: bool = False
    """Decode every image and recompute the content hashes, rather than a sample."""
    json: NewFile | None = None
    """Write the reports as JSON."""
    html: NewFile | None = None
    """Write the reports as a page, and a page of each episode to look at first."""
    pages: CountOrNone = 12
    """How many episodes get a page of their own."""
    first: CountOrNone = 8
    """How many episodes to look at first are printed; 0 measures none."""
    quiet: bool = False
    """Print only the episodes with findings."""


def main(argv: list[str]) -> int:
    """Run `tacit check ROOT_OR_FILES`; return 0, 1 (errors) or 2 (usage)."""
    options = parse_words(Options, argv, "tacit check")
    for target in filter(None, (options.json, options.html)):
        report_target(target)
    console = Console(highlight=False)
    if not options.paths:
        raise EpisodeError("tacit check: give an episode or the folder of a data set")
    paths = list(dict.fromkeys(path for root in options.paths for path in find_episodes(root)))
    parts = [part for root in options.paths if root.is_dir() for part in find_parts(root)]
    if not paths and not parts:
        raise EpisodeError(f"no episode below {', '.join(map(str, options.paths))}")
    report = _check(_common(options.paths), paths, options.full, console)
    ranked = _rank(report, options.paths, console) if options.first and len(paths) > 1 else []
    _print(console, report, options.quiet)
    _print_first(console, report, ranked[: options.first])
    for part in parts:
        console.print(
            f"[yellow]interrupted[/] {escape(str(part))}: run `tacit recover` on it", soft_wrap=True
        )
    if options.json:
        first = {"look_first": [item.as_json() for item in ranked if item.doubts]}
        options.json.write_text(json.dumps(report.as_json() | first, indent=1), encoding="utf-8")
    if options.html:
        from tacit.view.dataset_page import save_dataset  # a page is built only when asked for

        with _progress(console, "writing pages") as progress:
            save_dataset(report, ranked, options.html, options.pages, progress.track)
    return 0 if report.ok else 1


def _check(root: Path, paths: Sequence[Path], full: bool, console: Console) -> DatasetReport:
    """Check all episodes, with a progress bar on a terminal."""
    reports: list[AuditReport] = []
    with _progress(console, "checking") as progress:
        for path in progress.track(paths):
            reports.append(check_episode(path, full))
    return DatasetReport(root, tuple(reports), tuple(compare(reports)))


def _rank(report: DatasetReport, roots: Sequence[Path], console: Console) -> list[Ranked]:
    """Measure all episodes and hold them against each other."""
    with _progress(console, "comparing") as progress:
        measures = [measure(episode.path) for episode in progress.track(report.episodes)]
    return rank(report.episodes, measures, [root for root in roots if root.is_dir()])


def _common(paths: Sequence[Path]) -> Path:
    """Return the folder that names are told from: the one above all, or the first where there is none."""
    if len(paths) == 1 or len({path.is_absolute() for path in paths}) > 1:
        return paths[0]
    return Path(os.path.commonpath(paths))


def _progress(console: Console, word: str) -> Progress:
    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print_first(console: Console, report: DatasetReport, ranked: Sequence[Ranked]) -> None:
    """Print the episodes about which there is doubt, with their heaviest reasons."""
    doubtful = [item for item in ranked if item.score >= WORTH_A_LOOK]
    if doubtful:
        console.print("\n[bold]look at first[/]")
    for item in doubtful:
        reasons = "; ".join(doubt.text for doubt in item.doubts[:REASONS])
        name = escape(_name(report.root, item.report.path))
        console.print(f"  {item.score:4.1f}  {name}: {escape(reasons)}", soft_wrap=True)


def _print(console: Console, report: DatasetReport, quiet: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (("episode", "left"), ("ticks", "right"), ("s", "right"), ("lag ms", "right")):
        table.add_column(name, justify=justify, no_wrap=name != "episode")  # type: ignore[arg-type]
    table.add_column("success")
    table.add_column("verdict")
    shown = [e for e in report.episodes if e.findings or not quiet]
    for episode in shown:
        table.add_row(*_row(report.root, episode))
    if shown:
        console.print(table)
    for episode in report.episodes:
        _print_findings(console, escape(_name(report.root, episode.path)), episode.findings)
    _print_findings(console, "between episodes", report.findings)
    bad = sum(not episode.ok for episode in report.episodes)
    warned = sum(bool(episode.ok and episode.warnings) for episode in report.episodes)
    between = f", {len(report.findings)} findings between episodes" if report.findings else ""
    console.print(f"{len(report.episodes)} checked: {bad} with errors, {warned} with warnings only{between}")


def _print_findings(console: Console, title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    console.print(f"\n[bold]{title}[/]")
    for f in findings:
        line = f"  [{STYLES[f.level]}]{f.rule} {f.level}[/] {escape(f.where)}: {escape(f.message)}"
        console.print(line, soft_wrap=True)


def _row(root: Path, episode: AuditReport) -> tuple[str, ...]:
    facts = episode.facts
    success = {True: "yes", False: "no"}.get(facts.get("success"), "-")  # type: ignore[call-overload]
    verdict = (
        "[red]error[/]" if not episode.ok else ("[yellow]warning[/]" if episode.warnings else "[green]ok[/]")
    )
    name = escape(_name(root, episode.path))
    values = (facts.get("ticks"), facts.get("seconds"), facts.get("lag_ms"))
    return (name, *("-" if value is None else f"{value:g}" for value in values), success, verdict)  # type: ignore[str-format]


def _name(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if root.is_dir() and path.is_relative_to(root) else str(path)
