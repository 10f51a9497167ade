"""`tacit convert SOURCE TARGET`: between our episodes and the formats of others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tacit.config.arguments import parse_words
from tacit.convert.job import Converted, Item, Job
from tacit.convert.registry import FORMATS, OURS, Converter, format_of, reader_of, why_unknown, writer_of
from tacit.convert.target import abandoned, new_target, undone_by_sigterm
from tacit.errors import EpisodeError

HELP_WORDS = ("-h", "--help")


def main(argv: Sequence[str]) -> int:
    """Run `tacit convert SOURCE TARGET [--from FORMAT | --to FORMAT]`; returns 0."""
    console = Console(highlight=False, soft_wrap=True)
    words, origin = _take(argv, "--from")
    words, goal = _take(words, "--to")
    if not words or (set(words) & set(HELP_WORDS) and origin is None and goal is None):
        _print_formats(console)
        return 0 if words else 2
    converter, label = _choose(words, origin, goal)
    job = parse_words(converter.options, words, f"tacit convert {label}")
    with undone_by_sigterm():
        result = convert(job, converter, console)
    left = (f"{path} is left of a conversion that was killed; delete it" for path in abandoned(_folder(job)))
    for note in (*result.notes, *left):
        console.print(f"note: {note}", markup=False)
    console.print(f"{job.target}: {result.episodes} episodes, {result.frames} frames", markup=False)
    return 0


def _folder(job: Job) -> Path:
    return Path(os.path.abspath(job.target)).parent


def convert(job: Job, converter: Converter, console: Console) -> Converted:
    """Do one conversion, whole or not at all.

    Raises:
        EpisodeError: The source is missing or damaged, the target exists or lies in the source, another
            conversion is writing it, or the disk is full.
    """
    if not job.source.exists():
        raise EpisodeError(f"{job.source}: no such file or folder to convert")
    source, target = (Path(os.path.realpath(path)) for path in (job.source, job.target))
    if target == source or target.is_relative_to(source) or source.is_relative_to(target):
        raise EpisodeError(f"{job.target}: lies in what is converted, or holds it; give a folder beside it")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def track(items: Sequence[Item], what: str) -> Iterator[Item]:
            return iter(progress.track(items, description=what))

        with new_target(job.target) as place:
            return converter.run(job, place, track)


def _choose(words: Sequence[str], origin: str | None, goal: str | None) -> tuple[Converter, str]:
    """Return the converter that the words ask for, and the words that name it."""
    if goal not in (None, OURS):
        if origin not in (None, OURS):
            raise EpisodeError(
                f"tacit convert --from {origin} --to {goal}: one of both must be {OURS}; convert to {OURS} "
                "first, then from there"
            )
        return writer_of(str(goal)), f"--to {goal}"
    if origin in (None, OURS):
        origin = _recognised(words)
    return reader_of(origin), f"--from {origin}"


def _recognised(words: Sequence[str]) -> str:
    """Return the format of the first path among the words that some reader recognises."""
    places = [Path(word) for word in words if not word.startswith("-")]
    paths = [path for path in places if path.exists()]
    found = next((name for name in map(format_of, paths) if name is not None), None)
    if found is None:
        raise EpisodeError(f"tacit convert: {why_unknown((paths or places or [Path()])[0])}")
    return found


def _take(words: Sequence[str], flag: str) -> tuple[list[str], str | None]:
    """Take `flag VALUE` or `flag=VALUE` out of the words."""
    rest: list[str] = []
    value = None
    remaining = iter(words)
    for word in remaining:
        name, equals, given = word.partition("=")
        if name != flag:
            rest.append(word)
            continue
        value = given if equals else next(remaining, None)
        if not value:
            raise EpisodeError(f"tacit convert: {flag} needs a format: {', '.join(FORMATS)}")
    return rest, value


def _print_formats(console: Console) -> None:
    console.print("usage: tacit convert SOURCE TARGET --to FORMAT        our episodes become a data set of")
    console.print("       tacit convert SOURCE TARGET \\[--from FORMAT]    others, theirs become episodes\n")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, entry in FORMATS.items():
        ways = " ".join(word for word, way in (("--from", entry.reads), ("--to", entry.writes)) if way)
        table.add_row(f"[bold cyan]{name}[/]", ways, entry.help)
    console.print(table)
    console.print("\ntacit convert --to FORMAT --help (or --from) lists the options of one way. TARGET must")
    console.print("not exist; it appears when it is complete. See also: tacit convert vace_e, annotations.")
