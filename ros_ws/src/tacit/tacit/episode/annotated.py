"""What a person or a simulator says of an episode: its steps, what went wrong, and the steps of its task.

Steps and failures are tables of a name and the first and last tick, which both belong to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from tacit.config.documents import json_list
from tacit.episode import schema
from tacit.episode.columns import set_attributes
from tacit.episode.steps import Step
from tacit.errors import EpisodeError


def read_step_table(file: h5py.File, path: str) -> list[Step]:
    """Return the rows of the table at `path`, in its order; [] where there is none."""
    group = file.get(path)
    if group is None:
        return []
    names = group["step"].asstr()[:]
    return [
        Step(str(name), int(start), int(end))
        for name, start, end in zip(names, group["start_frame"][:], group["end_frame"][:], strict=True)
    ]


def write_step_table(file: h5py.File, steps: Sequence[Step], path: str = schema.STEPS) -> None:
    """Write names and frames as the table at `path`, in the place of one that is there."""
    if path in file:
        del file[path]
    group = file.create_group(path)
    group.create_dataset("step", data=np.array([s.name for s in steps], dtype=object), dtype=schema.TEXT)
    group.create_dataset("start_frame", data=np.array([s.start_frame for s in steps], dtype=np.int32))
    group.create_dataset("end_frame", data=np.array([s.end_frame for s in steps], dtype=np.int32))


def write_failures(file: h5py.File, failures: Sequence[Step]) -> None:
    """Write what went wrong as `/annotations/failures`, and the first of it as root attributes.

    `failure` is its kind, `failure_stage` the step that ran when it began. Steps must be there already.
    """
    write_step_table(file, failures, schema.FAILURES)
    first = failures[0] if failures else None
    steps = read_step_table(file, schema.STEPS) if first is not None else []
    running = [s.name for s in steps if first and s.start_frame <= first.start_frame <= s.end_frame]
    stage = running[0] if running else ""
    set_attributes(file, {"failure": first.name if first else "", "failure_stage": stage})


def read_task_steps(file: h5py.File, source: str) -> tuple[str, ...]:
    """Return the steps of the whole task, in order, also those that the episode lacks; () where unknown.

    Those that were labelled, else the names of the stream of steps that was recorded.
    """
    where = f"{source}: {schema.TASK_STEPS}"
    labelled = json_list(str(file.attrs.get(schema.TASK_STEPS, "[]")), where, EpisodeError)
    if labelled:
        return tuple(str(name) for name in labelled)
    recorded = file.get(schema.STEP_INDEX)
    return () if recorded is None else tuple(schema.names_of(recorded))


def read_sources(file: h5py.File) -> np.ndarray:
    """Return who commanded at each tick (T,) i8, an index into `schema.SOURCES`; -1 where nobody said."""
    if schema.SOURCE_COLUMN not in file:
        return np.full(len(file[schema.TICK_NS]), -1, dtype=np.int64)
    values = np.asarray(file[schema.SOURCE_COLUMN][:], dtype=np.float64).reshape(-1)
    return np.where(np.isfinite(values), np.nan_to_num(values), -1).astype(np.int64)
