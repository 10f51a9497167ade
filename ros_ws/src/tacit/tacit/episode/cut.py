"""Cut episodes and put them together: trim, split, join. The originals go to the trash.

The parts are written beside the original and finished before it moves; whoever is killed in between finds
all of it, in the folder or in its trash.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.annotated import write_failures, write_step_table
from tacit.episode.columns import Attributes, set_attributes
from tacit.episode.commit import TICKS
from tacit.episode.edit import finished, note_change, renew_content_hash
from tacit.episode.excerpt import EVENTS, copy_excerpt
from tacit.episode.files import episode_number, locked_folder, move_to_trash, next_path_in, rename_new
from tacit.episode.finish import write_derived
from tacit.episode.native import append_event
from tacit.episode.reader import EpisodeReader
from tacit.episode.steps import Step
from tacit.errors import EpisodeError
from tacit.streams.counts import GAP_PERIODS

TEMPORARY_SUFFIX = ".cutting"
LONGEST_PAUSE_NS = 1_000_000_000
"""Episodes further apart are two takes: a hole of a second makes an episode an error for `tacit check`."""


LABELS = ("success", "outcome", "language_instruction")


class Excerpt(NamedTuple):
    """The ticks `first` to `last`, both included, of an episode."""

    path: Path
    first: int
    last: int


class Cut(NamedTuple):
    """What an episode became, in order, and where in the trash it is itself."""

    made: list[Path]
    trashed: list[Path]


def trim(path: str | Path, first: int, last: int | None = None) -> Cut:
    """Keep the ticks `first` to `last` (both included; the last one when left out) of an episode.

    Labels stay as they are.

    Raises:
        EpisodeError: Not a finished episode, ticks that it does not have, or all of them; disk full.
    """
    path = finished(path)
    count = _num_ticks(path)
    last = count - 1 if last is None else last
    if (first, last) == (0, count - 1):
        raise EpisodeError(
            f"{path}: ticks 0 to {last} are all that it has, so nothing would be cut; give the first tick to "
            "keep, or the last, or both"
        )
    if not 0 <= first <= last < count:
        raise EpisodeError(
            f"{path}: keep ticks {first} to {last}: it has 0 to {count - 1}; give a first and a last tick "
            "within, in this order"
        )
    return _replace([path], [[Excerpt(path, first, last)]], "trimmed")


def split(path: str | Path, at: Sequence[int]) -> Cut:
    """Split an episode before each of the ticks `at`; the parts are unlabelled.

    The first part has the old name, the others the next numbers.

    Raises:
        EpisodeError: Not a finished episode, or ticks that are no places within it, in order; disk full.
    """
    path = finished(path)
    count = _num_ticks(path)
    places = [0, *at, count]
    if not at or (np.diff(places) < 1).any():
        raise EpisodeError(
            f"{path}: split before ticks {list(at)}; expected ticks from 1 to {count - 1}, rising"
        )
    parts = [Excerpt(path, a, b - 1) for a, b in zip(places[:-1], places[1:], strict=True)]
    return _replace([path], [[part] for part in parts], "split")


def join(paths: Sequence[str | Path]) -> Cut:
    """Put episodes of one take together, in order of time; the label is that of the last one.

    Raises:
        EpisodeError: Fewer than two, not finished, of several rigs, overlapping in time, or more than a
            second apart; disk full.
    """
    if len(set(map(str, paths))) < 2:
        raise EpisodeError("one episode alone cannot be joined; name two or more of one take")
    whole = [Excerpt(path, 0, _num_ticks(path) - 1) for path in map(finished, paths)]
    spans = {}
    for part in whole:
        with EpisodeReader(part.path) as reader:
            spans[part] = (int(reader.tick_ns[0]), int(reader.tick_ns[-1]), reader.attribute("rig_id"))
    whole.sort(key=lambda part: spans[part][0])
    for before, after in zip(whole[:-1], whole[1:], strict=True):
        pause_ns = spans[after][0] - spans[before][1]
        if spans[before][2] != spans[after][2]:
            raise EpisodeError(
                f"{before.path} and {after.path}: recorded with two rigs; they are not one take"
            )
        if not 0 < pause_ns <= LONGEST_PAUSE_NS:
            raise EpisodeError(
                f"{before.path} and {after.path}: {pause_ns / 1e9:.2f} s apart; expected two pieces of one "
                f"take, 0 to {LONGEST_PAUSE_NS / 1e9:g} s apart"
            )
    return _replace([part.path for part in whole], [whole], "joined")


def _num_ticks(path: Path) -> int:
    with EpisodeReader(path) as reader:
        return reader.num_ticks


def _replace(originals: Sequence[Path], plan: Sequence[Sequence[Excerpt]], change: str) -> Cut:
    """Write one new episode per entry of `plan`, then move the originals to the trash and name the new."""
    folder = originals[0].parent
    with locked_folder(folder), _temporaries(originals[0], len(plan)) as written:
        number = episode_number(next_path_in(folder))
        targets = [originals[0], *(folder / f"episode_{number + k}.hdf5" for k in range(len(plan) - 1))]
        for place, target, parts in zip(written, targets, plan, strict=True):
            _write(place, target, parts, change)
        trashed = [move_to_trash(path) for path in originals]
        made = [rename_new(place, target) for place, target in zip(written, targets, strict=True)]
        return Cut(made, trashed)


@contextlib.contextmanager
def _temporaries(path: Path, count: int) -> Iterator[list[Path]]:
    """Yield names to write to; what is left of them at the end vanishes.

    Raises:
        EpisodeError: The disk is full.
    """
    places = [path.with_name(f"{path.name}.{k}{TEMPORARY_SUFFIX}") for k in range(count)]
    for place in places:  # of somebody who was killed: we hold the folder
        place.unlink(missing_ok=True)
    try:
        yield places
    except (OSError, RuntimeError) as problem:  # h5py raises either, by the place of the failure
        raise EpisodeError(f"{path}: cannot be written anew ({problem}); nothing has changed") from None
    finally:
        for place in places:
            place.unlink(missing_ok=True)


def _write(place: Path, target: Path, parts: Sequence[Excerpt], change: str) -> None:
    """Write excerpts, one after the other, as one finished episode."""
    steps: list[Step] = []
    failures: list[Step] = []
    origin = []
    with h5py.File(place, "x") as copy:
        for part in parts:
            with EpisodeReader(part.path) as reader:
                before = len(copy[schema.TICK_NS]) if schema.TICK_NS in copy else 0
                last_ns = int(copy[schema.TICK_NS][-1]) if before else 0
                rows = _Rows(reader, part, copy)
                copy_excerpt(reader.file, copy, rows.of)
                rows.continue_counts(before)
                _continue(steps, _clipped(reader.steps, part, before))
                _continue(failures, _clipped(reader.failures, part, before))
                _note_pause(copy, last_ns, before)
                origin.append(_origin(reader, part))
                labels = {key: reader.attribute(key) for key in LABELS}
        if steps:
            write_step_table(copy, steps)
        write_derived(copy)
        if failures or "failure" in copy.attrs:
            write_failures(copy, failures)
        _identify(copy, target, labels if change != "split" else labels | {"success": -1, "outcome": ""})
        note_change(copy, change, {"from": origin})
        renew_content_hash(copy)
        copy.flush()
        os.fsync(copy.id.get_vfd_handle())


class _Rows:
    """Which rows of each table an excerpt needs, and how they follow on those that are there."""

    def __init__(self, reader: EpisodeReader, part: Excerpt, copy: h5py.File) -> None:
        self._reader, self._part, self._copy = reader, part, copy
        self._ticks_ns = reader.tick_ns
        self._is_first, self._is_last = part.first == 0, part.last == len(self._ticks_ns) - 1
        self._found: dict[str, slice] = {}

    def of(self, table: str) -> slice:
        """Return the rows of a table."""
        if table not in self._found:  # before its first column grows: what is there decides
            self._found[table] = self._rows(table)
        return self._found[table]

    def _rows(self, table: str) -> slice:
        if table == TICKS:
            return slice(self._part.first, self._part.last + 1)
        stamps = self._reader.file[f"{table}/stamp_ns"][:]
        latency_ms = float(self._reader.file[table].attrs.get("latency_ms", 0.0))
        stamps = stamps - round(1e6 * latency_ms)
        before_ns, last_ns = self._ticks_ns[max(self._part.first - 1, 0)], self._ticks_ns[self._part.last]
        if table == EVENTS:
            begin = np.searchsorted(stamps, before_ns, side="right")
            end = np.searchsorted(stamps, last_ns, side="right")
        else:  # one sample more on each side: the command in force, and what joints are interpolated with
            begin = np.searchsorted(stamps, before_ns, side="right") - 1
            end = np.searchsorted(stamps, last_ns, side="left") + 1
        begin = 0 if self._is_first else max(int(begin), 0)
        end = len(stamps) if self._is_last else int(end)
        known = self._copy.get(f"{table}/stamp_ns", ())
        if len(known) and table != EVENTS:  # the sample between two pieces is in both of them
            raw = self._reader.file[f"{table}/stamp_ns"][:]
            begin = max(begin, int(np.searchsorted(raw, known[-1], side="right")))
        return slice(begin, max(begin, end))

    def continue_counts(self, before: int) -> None:
        """Let sample numbers go on from those of the piece before, where they began anew."""
        if not before:
            return
        for name, group in self._copy["timestamps"].items():
            if name == "tick_ns":
                continue
            index = group["index"]
            last, rows = int(index[before - 1]), index[before:]
            if len(rows) and rows[0] <= last and (rows >= 0).any():
                index[before:] = np.where(rows >= 0, rows + last + 1 - max(int(rows[0]), 0), last)


def _clipped(steps: Sequence[Step], part: Excerpt, before: int) -> Iterator[Step]:
    """Yield what an excerpt keeps of the steps, counted from its place in the new episode."""
    for step in steps:
        start, end = max(step.start_frame, part.first), min(step.end_frame, part.last)
        if start <= end:
            yield Step(step.name, start - part.first + before, end - part.first + before)


def _continue(steps: list[Step], more: Iterable[Step]) -> None:
    """Add steps; one that was cut in two at the seam is one again."""
    for step in more:
        if steps and steps[-1].name == step.name and steps[-1].end_frame + 1 == step.start_frame:
            step = Step(step.name, steps.pop().start_frame, step.end_frame)
        steps.append(step)


def _note_pause(copy: h5py.File, last_ns: int, before: int) -> None:
    """A pause between two pieces is told as an event, so that checks know the hole for what it is."""
    if not before:
        return
    next_ns = int(copy[schema.TICK_NS][before])
    if next_ns - last_ns > GAP_PERIODS * 1e9 / float(copy.attrs["fps"]):
        data = {"stream": "ticks", "ms": (next_ns - last_ns) / 1e6, "joined": True}
        append_event(copy, next_ns, "gap", data)


def _origin(reader: EpisodeReader, part: Excerpt) -> dict[str, object]:
    """What the history says of the episode that an excerpt was taken from."""
    labels = {key: reader.attribute(key) for key in ("episode_uuid", "content_sha256", *LABELS)}
    return {"name": part.path.name, "ticks": [part.first, part.last], **labels}


def _identify(copy: h5py.File, target: Path, labels: dict[str, object]) -> None:
    """Give a new episode what it is called by; `aborted` and `recovered` stay."""
    stamps = copy[schema.TICK_NS]
    attributes: Attributes = {
        "episode_uuid": str(uuid.uuid4()),
        "episode_index": max(episode_number(target), 0),
        "num_ticks": np.int64(len(stamps)),
        "started_ns": np.int64(stamps[0]),
        "ended_ns": np.int64(stamps[-1]),
        "success": np.int8(int(str(labels["success"]))),
        "outcome": str(labels["outcome"]),
        "language_instruction": str(labels["language_instruction"]),
    }
    set_attributes(copy, attributes)
