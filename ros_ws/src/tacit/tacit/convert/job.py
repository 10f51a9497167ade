"""What every converter is given, and what it gives back; `registry` says how one is added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol, TypeVar

import tyro

from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import EpisodeError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversion: from where, to where."""

    source: Annotated[Path, tyro.conf.Positional]
    """What to convert: a file, or the folder of a data set."""
    target: Annotated[Path, tyro.conf.Positional]
    """What to make; it must not exist yet, and appears when it is complete."""


@dataclass(frozen=True, kw_only=True)
class Import(Job):
    """A data set of others becomes a folder of tacit episodes."""

    rig: str | None = None
    """Rig by name or path; without one it is drafted from what the data set says of itself."""
    task: str | None = None
    """Name of the task, which becomes a folder; made from the instruction, if left out."""
    label: Literal["success", "failure"] | None = None
    """Whether the task was done, in every episode; as the data set says, if left out."""

    def success(self, told: bool | None) -> bool | None:
        """Return whether the task was done: the word of the user, else that of the data set."""
        return told if self.label is None else self.label == "success"


@dataclass(frozen=True, kw_only=True)
class Export(Job):
    """Tacit episodes become a data set of others."""

    only_success: bool = False
    """Leave out episodes that are not labelled a success."""


class Track(Protocol):
    """Goes through items and shows how far it is."""

    def __call__(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """Yield each item; `what` names the work, such as "episodes"."""


class Converted(NamedTuple):
    """What was made, and what the user should know of it: what was left out, and why."""

    episodes: int
    frames: int
    notes: tuple[str, ...] = ()


def episodes_to_export(job: Export) -> tuple[list[Path], tuple[str, ...]]:
    """Return the episodes of a job in their order, and a note on those left out.

    Raises:
        EpisodeError: There is none, or an unreadable one.
    """
    paths = find_episodes(job.source)
    if not paths:
        raise EpisodeError(f"{job.source}: no episode (*.hdf5) in it; give an episode or a folder of them")
    if not job.only_success:
        return paths, ()
    kept = [path for path in paths if _succeeded(path)]
    if not kept:
        raise EpisodeError(f"{job.source}: no episode is labelled a success; leave out --only-success")
    left = len(paths) - len(kept)
    return kept, (f"{left} episodes without success left out",) if left else ()


def _succeeded(path: Path) -> bool:
    with EpisodeReader(path) as reader:
        return reader.success is True
