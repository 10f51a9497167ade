"""Write an episode of others as one of ours: what it has at its ticks, and nothing else.

A stream that the other data set lacks is absent here too; the rig calls it optional, or this refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tacit.episode import EpisodeWriter, Step
from tacit.errors import EpisodeError, did_you_mean
from tacit.rig import Rig, StreamSpec, parse_rig
from tacit.streams import Sample, Tick
from tacit.streams.counts import StreamCounts


@dataclass(frozen=True)
class Incoming:
    """One episode of others, in the words of a rig.

    Attributes:
        source: What to call it in messages.
        stamps_ns: When each tick was (T,) i8, increasing.
        stamps: "true" where these are what clocks said, "nominal" where they are counted from a rate.
        qpos, action: (T, S), order of the rig. An action None is one that nobody commanded.
        pictures: Encoded pictures of each camera and sensor, one for each tick, read as they are needed.
        extras: Further numbers (T, n) by stream of the rig, and readings (T, R, C, K) by array of taxels.
        velocity, effort: (T, S) where the robot told.
        task, instruction, success, outcome: As of `EpisodeWriter`.
        steps: Steps by name and inclusive ticks; the rig needs a stream of role `steps` for them.
        references: No-contact pictures (H, W, 3) by sensor.
        metadata: Further root attributes.
    """

    source: str
    stamps_ns: np.ndarray
    stamps: str
    qpos: np.ndarray
    action: np.ndarray | None
    task: str
    pictures: Mapping[str, Iterator[np.ndarray]] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    velocity: np.ndarray | None = None
    effort: np.ndarray | None = None
    instruction: str = ""
    success: bool | None = None
    outcome: str = ""
    steps: Sequence[Step] = ()
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def write_incoming(place: Path, rig: Rig, episode: Incoming) -> Path:
    """Write one episode below `place`, or to it where it ends in `.hdf5`; returns its path.

    Raises:
        EpisodeError: Numbers that are not finite, shapes or names that are not those of the rig, a stream
            that the rig requires and the episode lacks, or a full disk.
    """
    _check(rig, episode)
    rig = _with_optional_commands(rig, episode)
    writer = EpisodeWriter(
        place,
        rig,
        task=episode.task,
        instruction=episode.instruction,
        references=episode.references,
        metadata={"stamps": episode.stamps, **episode.metadata},
        sync=False,  # the whole data set is brought to the disk before it gets its name
    )
    fixed = _tables(rig, episode)
    period_ns = round(1e9 / rig.alignment.rate_hz)  # whatever the rig says of a driver: here are only frames
    counts = {name: StreamCounts(period_ns) for name in (*fixed, *episode.pictures)}
    for index, stamp in enumerate(np.asarray(episode.stamps_ns, np.int64).tolist()):
        values = {name: table[index] for name, table in fixed.items()}
        for name, pictures in episode.pictures.items():
            values[name] = _next(pictures, episode, name, index)
        writer.append(
            Tick(stamp, index, {n: Sample(value, stamp, stamp, index, True) for n, value in values.items()})
        )
        for name in values:
            counts[name].arrived(stamp, stamp)
            counts[name].used(0, True)
        if episode.velocity is None and episode.effort is None:
            continue  # nothing is known of a native rate; rates of joints have their place there alone
        for name, spec in rig.states.items():
            writer.append_stream(name, stamp, stamp, _message(rig, spec, episode, index))
    return writer.close(episode.success, outcome=episode.outcome, counts=counts)


def _check(rig: Rig, episode: Incoming) -> None:
    """Refuse what would make a file that no check passes."""
    width = len(rig.state_names)
    for label, table in (("state", episode.qpos), ("action", episode.action)):
        if table is None:
            continue
        if table.shape != (len(episode.stamps_ns), width):
            raise EpisodeError(
                f"{episode.source}: {label} of shape {table.shape}, expected "
                f"({len(episode.stamps_ns)}, {width}): {', '.join(rig.state_names)}"
            )
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0].tolist()
            raise EpisodeError(
                f"{episode.source}: {label}: {rig.state_names[column]} is {table[row, column]} at frame "
                f"{row}; mend or remove the episode in its source"
            )
    for name in (*episode.pictures, *episode.extras):
        if name not in rig.specs:
            raise EpisodeError(
                f"{episode.source}: the rig has no stream {name!r}; {did_you_mean(name, rig.specs)}"
            )
    sensed = {**rig.images, **rig.taxels}
    given = {*episode.pictures, *episode.extras}
    lacking = [n for n, spec in sensed.items() if spec.required and n not in given]
    if lacking:
        what = "pictures" if lacking[0] in rig.images else "readings"
        raise EpisodeError(
            f"{episode.source}: no {what} of {', '.join(lacking)}, which the rig requires; set `required: "
            "false` there, for what a data set lacks stays absent"
        )


def _with_optional_commands(rig: Rig, episode: Incoming) -> Rig:
    """Commands of a data set that has none are optional."""
    if episode.action is not None or not any(spec.required for spec in rig.commands.values()):
        return rig
    data = rig.model_dump(mode="json")
    for command in data["commands"].values():
        command["required"] = False
    return parse_rig(data, episode.source)


def _tables(rig: Rig, episode: Incoming) -> dict[str, np.ndarray]:
    """Return the numbers (T, n) of each stream of the rig that the episode has."""
    tables = {name: episode.qpos[:, rig.index_of(spec.names)] for name, spec in rig.states.items()}
    if episode.action is not None:
        for name, command in rig.commands.items():
            tables[name] = episode.action[:, rig.index_of(command.names)]
    tables |= episode.extras
    marker = next((name for name, spec in rig.streams.items() if spec.role == "steps"), None)
    if marker is not None and episode.steps:
        tables[marker] = _step_indices(rig.streams[marker].names, episode)
    return tables


def _step_indices(names: Sequence[str], episode: Incoming) -> np.ndarray:
    indices = np.full((len(episode.stamps_ns), 1), -1.0)
    for step in episode.steps:
        if step.name not in names:
            raise EpisodeError(f"{episode.source}: step {step.name!r}; {did_you_mean(step.name, names)}")
        indices[step.start_frame : step.end_frame + 1] = names.index(step.name)
    return indices


def _message(rig: Rig, spec: StreamSpec, episode: Incoming, index: int) -> np.ndarray | dict[str, np.ndarray]:
    """What a driver would have said at a tick."""
    columns = rig.index_of(spec.names)
    if not spec.type.endswith("JointState"):
        return episode.qpos[index, columns]
    fields = {"position": episode.qpos, "velocity": episode.velocity, "effort": episode.effort}
    return {name: table[index, columns] for name, table in fields.items() if table is not None}


def _next(pictures: Iterator[np.ndarray], episode: Incoming, name: str, index: int) -> np.ndarray:
    try:
        return next(pictures)
    except StopIteration:
        raise EpisodeError(
            f"{episode.source}: {name}: {index} pictures for {len(episode.stamps_ns)} frames"
        ) from None


def provenance(kind: str, version: str, name: str, index: int) -> dict[str, str]:
    """Return the root attribute that says where an imported episode comes from."""
    told = {"format": kind, "version": version, "dataset": name, "episode": index}
    return {"imported_json": json.dumps(told)}
