"""Which episodes a command is about: paths, and what their entries in the index must say."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tacit.config.arguments import Within
from tacit.episode.index import Listed, list_episodes
from tacit.errors import EpisodeError

SuccessWord = Literal["yes", "no", "unlabelled"]
WORDS: dict[bool | None, SuccessWord] = {True: "yes", False: "no", None: "unlabelled"}


@dataclass(frozen=True)
class Filter:
    """What episodes must be like to be chosen."""

    task: str | None = None
    """Only of this task."""
    success: SuccessWord | None = None
    """Only with this label."""
    outcome: str | None = None
    """Only with this outcome."""
    state: Literal["complete", "recovered", "aborted"] | None = None
    """Only those that ended so."""
    operator: str | None = None
    """Only by this operator."""
    step: str | None = None
    """Only with this step."""
    min_seconds: Annotated[float, Within(0, 1e9)] = 0.0
    """Only those that are at least so long [s]."""
    max_seconds: Annotated[float, Within(0, float("inf"))] = float("inf")
    """Only those that are at most so long [s]."""

    def accepts(self, item: Listed) -> bool:
        """Whether an episode is one of them."""
        entry = item.entry
        told = (entry.task, success_word(entry.success), entry.outcome, entry.state, entry.operator)
        wanted = (self.task, self.success, self.outcome, self.state, self.operator)
        return (
            all(want is None or want == is_so for want, is_so in zip(wanted, told, strict=True))
            and (self.step is None or self.step in entry.steps)
            and self.min_seconds <= entry.seconds <= self.max_seconds
        )


@dataclass(frozen=True)
class Choice:
    """Episodes by path, and by what is known of them."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Episodes, or folders to search for them."""
    only: Filter = Filter()

    def chosen(self) -> list[Listed]:
        """Return the episodes that are meant, each once.

        Raises:
            EpisodeError: No path is given, or one does not exist.
        """
        return [item for item in listed(self.paths) if self.only.accepts(item)]

    def chosen_to_change(self) -> list[Listed]:
        """Return the chosen episodes; a whole folder only where something is said of those in it.

        Raises:
            EpisodeError: None is chosen, or a folder without any condition.
        """
        folders = [path for path in self.paths if path.is_dir()]
        if folders and self.only == Filter():
            raise EpisodeError(
                f"{folders[0]}: a whole folder; name episodes, or say which of it: --only.success no, "
                "--only.max-seconds 2, ..."
            )
        items = self.chosen()
        if not items:
            raise EpisodeError("no episode is chosen; `tacit episodes ls` with the same options shows which")
        return items


def listed(paths: Sequence[Path]) -> list[Listed]:
    """Return the episodes below all paths, each once; a bar shows how far reading is."""
    if not paths:
        raise EpisodeError("give an episode or the folder of a data set")
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn())
    found: list[Listed] = []
    with Progress(*columns, console=console(), transient=True, disable=not sys.stdout.isatty()) as progress:

        def track(items: Sequence[Path]) -> Iterator[Path]:
            return iter(progress.track(items)) if items else iter(())

        for path in paths:
            found += list_episodes(path, track)
    if len(paths) == 1:
        return found
    return list({item.path.resolve(): item for item in found}.values())


def success_word(success: bool | None) -> SuccessWord:
    """Return the label as it is written on the command line."""
    return WORDS[success]


def console() -> Console:
    """Return where lines go; they are not folded, so that paths can be copied."""
    return Console(highlight=False, soft_wrap=True)
