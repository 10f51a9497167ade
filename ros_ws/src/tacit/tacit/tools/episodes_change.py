"""The commands of `tacit episodes` that change a data set; what they take away can be brought back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tacit.config.arguments import Count, CountOrNone, NewFolder
from tacit.episode import Step, move_to_trash, recover
from tacit.episode.copies import copy_episode, duplicates, is_known
from tacit.episode.cut import join, split, trim
from tacit.episode.edit import Labels, label
from tacit.episode.files import TRASH_FOLDER, take_from_trash
from tacit.episode.index import list_episodes, read_entry
from tacit.errors import EpisodeError
from tacit.tools.episodes_choice import Choice, SuccessWord, console, listed

STEP = re.compile(r"^(?P<name>.+):(?P<first>\d+)-(?P<last>\d+)$")


@dataclass(frozen=True)
class Label(Choice):
    """Say how episodes ended, what was asked, or which steps they have; old values stay in their history."""

    success: SuccessWord | None = None
    """Whether the task was done."""
    outcome: str | None = None
    """A word on how it ended."""
    instruction: str | None = None
    """What a person would say to have it done."""
    steps: tuple[str, ...] | None = None
    """Steps as name:first-last, ticks that both belong to the step; `none` takes all steps away."""

    failures: tuple[str, ...] | None = None
    """What went wrong, as kind:first-last, such as miss:52-95; `none` takes all failures away."""
    task_steps: tuple[str, ...] | None = None
    """The steps of the whole task, in order, also those that an episode lacks; progress counts them."""

    def run(self) -> int:
        """Label each."""
        tables = (_table_of(self.steps), _table_of(self.failures))
        labels = Labels(self.success, self.outcome, self.instruction, *tables, self.task_steps)
        if labels == Labels():
            raise EpisodeError(
                "give --success, --outcome, --instruction, --steps, --failures or --task-steps: what to say"
            )

        def say(path: Path) -> str:
            changes = label(path, labels)
            told = ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changes.items())
            return f"{path}: {told or 'is labelled so already'}"

        return _each([item.path for item in self.chosen_to_change()], say)


def _table_of(words: Sequence[str] | None) -> list[Step] | None:
    """Return what was told: nothing, that there are none, or names with their ticks."""
    if words is None:
        return None
    return [] if tuple(words) == ("none",) else _steps(words)


def _steps(words: Sequence[str]) -> list[Step]:
    steps = []
    for word in words:
        match = STEP.match(word)
        if match is None:
            raise EpisodeError(f"step {word!r}: expected name:first-last, such as reach:0-40")
        steps.append(Step(match["name"], int(match["first"]), int(match["last"])))
    return steps


@dataclass(frozen=True)
class Delete(Choice):
    """Move episodes to the trash beside them; `tacit episodes restore` brings them back."""

    dry_run: bool = False
    """Only list what would be moved."""

    def run(self) -> int:
        """Move each."""
        move = (lambda path: f"would move {path}") if self.dry_run else _trash
        return _each([item.path for item in self.chosen_to_change()], move)


def _trash(path: Path) -> str:
    if not path.name.endswith(".hdf5"):
        raise EpisodeError(f"{path}: no episode (*.hdf5); an interrupted one is finished by `tacit recover`")
    return f"{path} -> {move_to_trash(path)}"


@dataclass(frozen=True)
class Restore:
    """Bring episodes back from the trash; under the next number where their name is taken."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files in trash/ (`tacit episodes ls --trash` lists them), or episodes as they were called."""

    def run(self) -> int:
        """Bring each back."""
        if not self.paths:
            raise EpisodeError("give what to bring back; `tacit episodes ls --trash FOLDER` lists it")
        return _each(self.paths, _restore)


def _restore(path: Path) -> str:
    if path.is_dir():
        raise EpisodeError(
            f"{path}: a folder; name what is to come back, of what `tacit episodes ls --trash {path}` lists"
        )
    trashed = path
    if path.parent.name != TRASH_FOLDER:
        trashed = path.parent / TRASH_FOLDER / f"{path.name}.trashed"
        if not trashed.is_file():
            raise EpisodeError(
                f"{path}: nothing of that name is in {trashed.parent}; `tacit episodes ls --trash "
                f"{path.parent}` lists what is"
            )
    place = take_from_trash(trashed)
    if read_entry(place).state != "recording":
        return f"{trashed} -> {place}"
    try:
        return f"{trashed} -> {recover(place)} (it was not finished, and is now)"
    except EpisodeError:
        move_to_trash(place)
        raise


@dataclass(frozen=True)
class Trim:
    """Keep a part of an episode; the original goes to the trash."""

    path: Annotated[Path, tyro.conf.Positional]
    """The episode."""
    first: CountOrNone = 0
    """First tick to keep."""
    last: CountOrNone | None = None
    """Last tick to keep, that of the episode when left out."""

    def run(self) -> int:
        """Trim it."""
        before = read_entry(self.path)

        def cut(path: Path) -> str:
            made, trashed = trim(path, self.first, self.last)
            last = before.ticks - 1 if self.last is None else self.last
            told = (
                f"{made[0]}: ticks {self.first} to {last} of 0 to {before.ticks - 1} kept; {_whole(trashed)}"
            )
            if before.success is None:
                return told
            label = "success" if before.success else "failure"
            return f"{told}; it is still labelled a {label} (tacit episodes label says otherwise)"

        return _each([self.path], cut)


def _whole(trashed: Sequence[Path]) -> str:
    return f"as recorded: {', '.join(map(str, trashed))}"


@dataclass(frozen=True)
class Split:
    """Make several episodes of one, unlabelled; the original goes to the trash."""

    path: Annotated[Path, tyro.conf.Positional]
    """The episode."""
    at: tuple[Count, ...]
    """Ticks that begin a new part."""

    def run(self) -> int:
        """Split it."""

        def cut(path: Path) -> str:
            made, trashed = split(path, self.at)
            return f"{path} -> {', '.join(map(str, made))}, unlabelled; {_whole(trashed)}"

        return _each([self.path], cut)


@dataclass(frozen=True)
class Join:
    """Put pieces of one take together, as they follow in time: what `split` parted. The pieces go to the
    trash. Several data sets become one by `tacit episodes copy`.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Two or more episodes."""

    def run(self) -> int:
        """Join them."""
        made, trashed = join(self.paths)
        console().print(f"{made[0]}; {_whole(trashed)}", markup=False)
        return 0


@dataclass(frozen=True)
class Copy(Choice):
    """Copy chosen episodes of one or several data sets into another, where they get the next numbers.

    What is there already (the same recording with the same contents) is left out.
    """

    to: NewFolder = Path()
    """Folder of the data set to copy into; made if need be."""

    def run(self) -> int:
        """Copy each."""
        if self.to == Path():
            raise EpisodeError("tacit episodes copy: give --to, the folder of the data set to copy into")
        for path in self.paths:
            if self.to.resolve() == path.resolve() or self.to.resolve().is_relative_to(path.resolve()):
                raise EpisodeError(f"{self.to}: lies in what is copied; give a folder beside it")
        known = list_episodes(self.to) if self.to.is_dir() else []
        items = {item.path: item for item in self.chosen()}
        if not items:
            raise EpisodeError("no episode is chosen; `tacit episodes ls` with the same options shows which")

        def copy(path: Path) -> str:
            item = items[path]
            if item.entry.kind != "tacit":
                raise EpisodeError(f"{path}: {item.entry.problem or 'no tacit episode'}; see `tacit convert`")
            if is_known(item, known):
                return f"{path}: is there already"
            place = copy_episode(item, self.to)
            known.append(item)
            return f"{path} -> {place}"

        return _each(list(items), copy)


@dataclass(frozen=True)
class Dedupe:
    """Move all but the first of episodes with equal contents to the trash; contents are compared anew."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of data sets, in the order of preference."""
    dry_run: bool = False
    """Only list what would be moved."""

    def run(self) -> int:
        """Move each copy."""
        groups = duplicates(listed(self.paths))
        for first, *copies in groups:
            for item in copies:
                done = "would move" if self.dry_run else _trash(item.path).partition(" -> ")[2]
                console().print(f"{item.path} equals {first.path}: {done}", markup=False)
        if not groups:
            console().print("no two episodes have equal contents")
        return 0


def _each(paths: Sequence[Path], do: Callable[[Path], str]) -> int:
    """Do each and print what it says; one that fails does not keep the others from being done."""
    failures = 0
    for path in paths:
        try:
            console().print(do(path), markup=False)
        except EpisodeError as problem:
            failures += 1
            console().print("[red]not done[/] ", end="")
            console().print(str(problem), markup=False)
    return 1 if failures else 0
