"""`tacit check`: audit episodes and say what is wrong, as a table, JSON or HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tacit.episode.audit import check_episode, compare
from tacit.episode.files import find_episodes, find_parts
from tacit.episode.findings import AuditReport, DatasetReport, Finding
from tacit.errors import EpisodeError

STYLES = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True)
class Options:
    """Check episodes: structure, time, images, kinematics, boxes, labels, duplicates.

    Exit code 0 when there is no error (warnings may be), 1 when there is one, 2 when nothing could
    be checked.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episode files, or folders to search for them."""
    full: bool = False
    """Decode every image and recompute the content hashes, rather than a sample."""
    json: Path | None = None
    """Write the reports as JSON."""
    html: Path | None = None
    """Write the reports as a page."""
    quiet: bool = False
    """Print only the episodes with findings."""


def main(argv: list[str]) -> int:
    """Run `tacit check ROOT_OR_FILES`; return 0, 1 (errors) or 2 (usage)."""
    options = tyro.cli(Options, args=argv, prog="tacit check")
    console = Console(highlight=False)
    if not options.paths:
        raise EpisodeError("tacit check: give an episode or the folder of a data set")
    paths = list(dict.fromkeys(path for root in options.paths for path in find_episodes(root)))
    parts = [part for root in options.paths if root.is_dir() for part in find_parts(root)]
    if not paths and not parts:
        raise EpisodeError(f"no episode below {', '.join(map(str, options.paths))}")
    report = _check(options.paths[0], paths, options.full, console)
    _print(console, report, options.quiet)
    for part in parts:
        console.print(
            f"[yellow]interrupted[/] {escape(str(part))}: run `tacit recover` on it", soft_wrap=True
        )
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1), encoding="utf-8")
    if options.html:
        from tacit.view.dataset_page import dataset_page  # a page is built only when asked for

        dataset_page(report).save(options.html)
    return 0 if report.ok else 1


def _check(root: Path, paths: Sequence[Path], full: bool, console: Console) -> DatasetReport:
    """Check all episodes, with a progress bar on a terminal."""
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn())
    reports: list[AuditReport] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for path in progress.track(paths):
            reports.append(check_episode(path, full))
    return DatasetReport(root, tuple(reports), tuple(compare(reports)))


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
