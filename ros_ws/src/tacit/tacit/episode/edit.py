"""Change what an episode says of itself: labels, steps; the old values stay in its history.

A file is never changed in place: a copy is changed and takes its name in one step, so that a kill or a
full disk leaves the old one.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import tacit
from tacit.config.documents import json_list
from tacit.episode import schema
from tacit.episode.annotated import read_step_table, write_failures, write_step_table
from tacit.episode.columns import Attributes, set_attributes
from tacit.episode.files import locked_folder, rename_new, sync_folder
from tacit.episode.finish import content_sha256
from tacit.episode.reader import EpisodeReader
from tacit.episode.steps import Step
from tacit.errors import EpisodeError

HISTORY = "history_json"
EARLIER_HISTORY = "recalibrations_json"
"""Where the first changes, of the calibration alone, used to be listed; the later list begins with them."""
TEMPORARY_SUFFIX = ".editing"
"""Not `.hdf5`: a copy that is killed halfway must never be taken for an episode."""


@dataclass(frozen=True)
class Labels:
    """What a person says of an episode; None leaves it as it is.

    Attributes:
        success: "yes", "no" or "unlabelled".
        outcome: A word on how it ended.
        instruction: What a person would say to have it done.
        steps: The steps, in order; an empty list takes them away.
        failures: What went wrong, by kind, as steps are given.
        task_steps: The steps of the whole task, in order, also those that the episode lacks.
    """

    success: str | None = None
    outcome: str | None = None
    instruction: str | None = None
    steps: Sequence[Step] | None = None
    failures: Sequence[Step] | None = None
    task_steps: Sequence[str] | None = None


SUCCESS = {"yes": 1, "no": 0, "unlabelled": -1}


def label(path: str | Path, labels: Labels) -> dict[str, list[object]]:
    """Label a finished episode.

    Returns:
        {label: [old value, new value]} of what has changed; empty where nothing has, and the file is as
        it was.

    Raises:
        EpisodeError: Not a finished episode, a text that is none, steps that overlap or lie outside it, or
            steps of the task without a name or named twice.
    """
    path = finished(path)
    _check_texts(path, labels)
    with EpisodeReader(path) as reader:
        wanted: Attributes = {}
        if labels.success is not None:
            wanted["success"] = np.int8(SUCCESS[labels.success])
        if labels.outcome is not None:
            wanted["outcome"] = labels.outcome
        if labels.instruction is not None:
            wanted["language_instruction"] = labels.instruction
        if labels.task_steps is not None:
            wanted[schema.TASK_STEPS] = json.dumps(list(labels.task_steps))
        new = {key: value for key, value in wanted.items() if reader.attribute(key, "") != value}
        changes = {key: [reader.attribute(key, ""), _plain(value)] for key, value in new.items()}
        tables = _new_tables(reader, labels, changes)
    if changes:
        with edited(path) as file:
            set_attributes(file, new)
            for table, rows in tables.items():
                write_step_table(file, rows, table)
            if tables and schema.FAILURES in file:  # the stage of a failure is told by the steps
                write_failures(file, read_step_table(file, schema.FAILURES))
            if tables:
                renew_content_hash(file)
            note_change(file, "labelled", {"changes": changes})
    return changes


def _check_texts(path: Path, labels: Labels) -> None:
    """Check what people wrote, before a file is opened to write."""
    names = tuple(labels.task_steps or ())
    if not all(name.strip() for name in names) or len(set(names)) < len(names):
        raise EpisodeError(f"{path}: steps of the task {list(names)}: expected names, each of them once")
    steps = [step.name for step in (*(labels.steps or ()), *(labels.failures or ()))]
    for text in (labels.outcome or "", labels.instruction or "", *names, *steps):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise EpisodeError(f"{path}: {text!a} is no UTF-8; set the terminal to that") from None


def check_steps(steps: Sequence[Step], num_ticks: int, source: str) -> None:
    """Check that steps lie in an episode, in order, and apart.

    Raises:
        EpisodeError: One that does not.
    """
    last = -1
    for step in steps:
        if not last < step.start_frame <= step.end_frame < num_ticks:
            raise EpisodeError(
                f"{source}: step {step.name}:{step.start_frame}-{step.end_frame}: expected first and last "
                f"tick within {last + 1}..{num_ticks - 1}, in the order of the steps; both belong to the step"
            )
        last = step.end_frame


def finished(path: str | Path) -> Path:
    """Return the path if it is a finished episode of ours.

    Raises:
        EpisodeError: Foreign, damaged, or not finished.
    """
    path = Path(path)
    with EpisodeReader(path) as reader:
        if reader.is_foreign:
            raise EpisodeError(
                f"{path}: not recorded by tacit; bring it in with `tacit convert` before you change it"
            )
        if reader.state not in schema.FINAL_STATES:
            raise EpisodeError(f"{path}: expected a finished tacit episode; finish it with `tacit recover`")
    return path


@contextlib.contextmanager
def edited(path: Path, target: Path | None = None, suffix: str = TEMPORARY_SUFFIX) -> Iterator[h5py.File]:
    """Yield a copy of an episode, open for writing, that takes the name `target` in one step.

    Args:
        path: The episode.
        target: Where the result goes, by the next number if the name is taken meanwhile; over the episode
            itself when left out.
        suffix: Of the copy's name, while it is written.

    Raises:
        EpisodeError: The disk is full; the episode is then as it was.
    """
    place = path if target is None else target
    temporary = place.with_name(place.name + suffix)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked_folder(place.parent):
            shutil.copyfile(path, temporary)
            with h5py.File(temporary, "r+") as file:
                yield file
                file.flush()
                os.fsync(file.id.get_vfd_handle())
            if target is None:
                os.replace(temporary, place)
            else:
                rename_new(temporary, place)
    except (OSError, RuntimeError) as problem:  # h5py raises either, by the place of the failure
        raise EpisodeError(f"{place}: cannot be written ({problem}); {path} is as it was") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(place.parent)


def note_change(file: h5py.File, change: str, data: Mapping[str, object]) -> None:
    """Add a line to the history of an episode.

    Args:
        file: Open for writing.
        change: What was done: labelled, trimmed, ...
        data: With what; anything JSON can hold.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    line = {"date": now, "change": change, **data, "software_version": tacit.__version__}
    file.attrs[HISTORY] = json.dumps([*history_of(file), line])


def history_of(file: h5py.File) -> list[dict[str, object]]:
    """Return what was done to an episode since it was recorded, oldest first."""
    name = HISTORY if HISTORY in file.attrs else EARLIER_HISTORY
    return json_list(str(file.attrs.get(name, "[]")), f"{file.filename}: {name}", EpisodeError)


def renew_content_hash(file: h5py.File) -> None:
    """Bring `content_sha256` up to date; that of the recording stays under `recorded_content_sha256`."""
    if "content_sha256" in file.attrs and "recorded_content_sha256" not in file.attrs:
        file.attrs["recorded_content_sha256"] = file.attrs["content_sha256"]
    file.attrs["content_sha256"] = content_sha256(file)


def _new_tables(
    reader: EpisodeReader, labels: Labels, changes: dict[str, list[object]]
) -> dict[str, Sequence[Step]]:
    """Return the tables of names and frames that become others, and note them in `changes`."""
    tables: dict[str, Sequence[Step]] = {}
    told = (("steps", schema.STEPS, labels.steps), ("failures", schema.FAILURES, labels.failures))
    for name, path, rows in told:
        if rows is None:
            continue
        check_steps(rows, reader.num_ticks, reader.path.name)
        known: list[Step] = getattr(reader, name)
        if list(rows) != known:
            tables[path] = rows
            changes[name] = [[list(row) for row in given] for given in (known, rows)]
    return tables


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
