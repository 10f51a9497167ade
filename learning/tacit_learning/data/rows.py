"""The numbers of an episode as its file holds them, whatever is made of them; kept beside a large data set.

Reading them from HDF5 costs tens of milliseconds per episode. `dataset.rows` is a cache like `dataset.jsonl`:
rows count only while their file has the size and the time of change that they were read at, so it may be
deleted at any time. It holds numbers alone, and no file counts as checked because its rows are in it.
Legend: T ticks, A states, C cameras and S sensors of the rig.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tacit.episode import EpisodeReader, Step
from tacit.episode.secure import FileState, file_state
from tacit.geometry.footprint import FACES, valid_for_alignment

CACHE_NAME = "dataset.rows"
CACHE_SCHEMA = "tacit-rows 4"
WORLD = "world"


class Told(NamedTuple):
    """What was said of an episode: what went wrong, the steps of its whole task, whether it was done, and the
    name of the task."""

    failures: tuple[Step, ...]
    task_steps: tuple[str, ...]
    success: bool | None
    task: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of one episode, in the order of its own rig.

    Attributes:
        path: Its file.
        state: Of the file, when it was read; None where it could change meanwhile.
        contract: Text of the rig.
        fps: Nominal tick rate [Hz].
        ticks_ns: First and last stamp, and the number of ticks.
        steps: As annotated.
        told: What else was said of it.
        references: Sensors whose no-contact image was recorded.
        qpos: (T, A) f4.
        targets: What a policy is to command (T, A) f4.
        boxes: (T, C, S, 4) f4 in pixels of the stored image; NaN where nobody says.
        usable: Where they are good enough to align touch with vision (T, C, S) bool; to a camera in the world
            the gel must show its face.
        visibility: (T, C, S) f4.
    """

    path: Path
    state: FileState | None
    contract: str
    fps: float
    ticks_ns: tuple[int, int, int]
    steps: tuple[Step, ...]
    told: Told
    references: tuple[str, ...]
    qpos: np.ndarray
    targets: np.ndarray
    boxes: np.ndarray
    usable: np.ndarray
    visibility: np.ndarray

    @property
    def num_ticks(self) -> int:
        """T."""
        return len(self.qpos)


ARRAYS = ("qpos", "targets", "boxes", "usable", "visibility")


def read_rows(path: Path) -> Rows:
    """Read the rows of an episode.

    Raises:
        EpisodeError: It cannot be read, or tells no rig.
    """
    state = file_state(path)
    with EpisodeReader(path) as reader:
        return _rows(reader, state)


def _rows(reader: EpisodeReader, state: FileState | None) -> Rows:
    rig = reader.rig
    shape = (reader.num_ticks, len(rig.cameras), len(rig.tactile))
    boxes = np.full((*shape, 4), np.nan, np.float32)
    usable, visibility = np.zeros(shape, bool), np.zeros(shape, np.float32)
    for c, (camera, spec) in enumerate(rig.cameras.items()):
        for s, sensor in enumerate(rig.tactile):
            if not reader.is_located(camera, sensor):
                continue  # a set of others, whose geometry nobody measured
            boxes[:, c, s] = reader.boxes(camera, sensor)
            visibility[:, c, s] = reader.visibility(camera, sensor)
            corners, flags = reader.corners(camera, sensor), reader.flags(camera, sensor)
            seen = (boxes[:, c, s], corners, visibility[:, c, s], flags, spec.width, spec.height)
            usable[:, c, s] = valid_for_alignment(*seen)
            if spec.parent == WORLD:  # turned away, it shows its back and the finger: 16 % of its pixels
                usable[:, c, s] &= (flags & FACES) != 0
    stamps = reader.tick_ns
    return Rows(
        path=reader.path,
        state=state,
        contract=str(reader.attribute("contract_yaml")),
        fps=float(reader.fps),
        ticks_ns=(int(stamps[0]), int(stamps[-1]), reader.num_ticks) if reader.num_ticks else (0, 0, 0),
        steps=tuple(reader.steps),
        told=Told(tuple(reader.failures), reader.task_steps, reader.success, reader.task),
        references=tuple(s for s in rig.tactile if f"tactile/{s}/reference" in reader.file),
        qpos=np.asarray(reader.qpos, np.float32),
        targets=np.asarray(reader.targets, np.float32),
        boxes=boxes,
        usable=usable,
        visibility=visibility,
    )


def load_rows(paths: Sequence[Path]) -> dict[Path, Rows]:
    """Return the rows of those episodes that the caches of their folders know, and that have not changed."""
    wanted: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        wanted[path.parent].add(path.name)
    found = [rows for folder, names in wanted.items() for rows in _load(folder, names)]
    return {rows.path: rows for rows in found}


def save_rows(rows: Sequence[Rows], least: int) -> None:
    """Add rows to the caches of their folders, where a folder has `least` of them; replaces each in one step.

    Where nothing may be written there simply is none.
    """
    by_folder: dict[Path, dict[str, Rows]] = defaultdict(dict)
    for one in rows:
        if one.state is not None:
            by_folder[one.path.parent][one.path.name] = one
    for folder, fresh in by_folder.items():
        if len(fresh) >= least or (folder / CACHE_NAME).exists():
            with contextlib.suppress(OSError, SafetensorError):
                _save(folder, list(({r.path.name: r for r in _load(folder, None)} | fresh).values()))


def _save(folder: Path, rows: Sequence[Rows]) -> None:
    groups: dict[str, list[Rows]] = defaultdict(list)
    for one in rows:
        groups[one.contract].append(one)
    tensors, facts = {}, {}
    for number, (contract, members) in enumerate(groups.items()):
        for name in ARRAYS:
            tensors[f"{number}/{name}"] = np.concatenate([getattr(one, name) for one in members])
        facts[str(number)] = {
            "contract": contract,
            "episodes": [
                [
                    one.path.name,
                    [one.state.size, one.state.time_ns],
                    one.fps,
                    one.ticks_ns,
                    one.steps,
                    one.references,
                    one.told,
                ]
                for one in members
                if one.state is not None
            ],
        }
    temporary = folder / f".{CACHE_NAME}.{os.getpid()}"
    try:
        save_file(tensors, temporary, {"schema": CACHE_SCHEMA, "groups": json.dumps(facts)})
        os.replace(temporary, folder / CACHE_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def _load(folder: Path, names: set[str] | None) -> list[Rows]:
    """Return what the cache of a folder holds of `names`, or of all; nothing where it cannot be used."""
    place = folder / CACHE_NAME
    if not place.is_file():
        return []
    try:
        with safe_open(place, "np") as file:
            about = file.metadata() or {}
            if about.get("schema") != CACHE_SCHEMA:
                return []
            groups = json.loads(about["groups"])
            held = {key: {n: file.get_tensor(f"{key}/{n}") for n in ARRAYS} for key in groups}
        return [
            rows
            for key, group in groups.items()
            for rows in _members(folder, group, held[key])
            if names is None or rows.path.name in names
        ]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return []  # a cache of another version, or cut off: everything is read again


def _members(folder: Path, group: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Iterator[Rows]:
    """Yield the rows of one rig whose files have not changed; ValueError where rows and episodes differ."""
    end, last = 0, sum(ticks[2] for _, _, _, ticks, *_ in group["episodes"])
    if any(len(array) != last for array in arrays.values()):
        raise ValueError("other rows than the episodes have")
    for name, seen, fps, ticks, steps, references, told in group["episodes"]:
        first, end = end, end + ticks[2]
        path = folder / Path(name).name
        state = file_state(path)
        if state is None or [state.size, state.time_ns] != seen:
            continue
        yield Rows(
            path=path,
            state=state,
            contract=group["contract"],
            fps=float(fps),
            ticks_ns=tuple(ticks),
            steps=tuple(Step(*step) for step in steps),
            told=Told(tuple(Step(*failure) for failure in told[0]), tuple(told[1]), *told[2:]),
            references=tuple(references),
            **{key: array[first:end] for key, array in arrays.items()},
        )
