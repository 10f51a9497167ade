"""`tacit convert --from lerobot`: a LeRobot data set v3.0, v2.1 or v2.0 becomes our episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.convert.draft import plain_name
from tacit.convert.incoming import Incoming, provenance, write_incoming
from tacit.convert.job import Converted, Import, Track
from tacit.convert.lerobot import layout
from tacit.convert.lerobot.ours import Notes, read_notes, read_references
from tacit.convert.lerobot.robot import Roles, draft_for, fit, order, roles_of, without_arrays
from tacit.convert.lerobot.source import Entry, Source, open_source
from tacit.convert.lerobot.videos import read_video
from tacit.errors import EpisodeError
from tacit.images import encode_jpeg
from tacit.images.encoded import read_header
from tacit.rig import Rig, load_rig

QUALITY = 95
"""Of the JPEG that a frame of a video becomes; the video has lost more than it will."""
SUCCESS = "next.success"


@dataclass(frozen=True, kw_only=True)
class Reading(Import):
    """Read a LeRobot data set (v3.0, v2.1, v2.0); what it lacks stays absent.

    Example: tacit convert downloads/so101_pick data/so101_pick --from lerobot
    """


def recognises(source: Path) -> bool:
    """Whether a folder says that it is a LeRobot data set."""
    return (source / layout.INFO).is_file()


def draft(source: Path) -> Rig:
    """Return the rig that the data set came with, or one drafted from what it says of itself.

    Raises:
        TacitError: It is none, or damaged.
    """
    opened = open_source(source)
    notes = _notes(opened)
    return notes.rig_of(0) if notes is not None else draft_for(opened, roles_of(opened))


def read(job: Reading, place: Path, track: Track) -> Converted:
    """Make a folder of episodes at `place`.

    Raises:
        TacitError: The data set is damaged, of an unknown version, or not of the given rig.
    """
    source = open_source(job.source)
    roles, notes = roles_of(source), _notes(source)
    given = load_rig(job.rig) if job.rig else None
    roles = roles if given or notes else without_arrays(roles)
    drafted = None if given or notes else draft_for(source, roles)
    remarks = _remarks(roles, drafted)
    frames = 0
    for number, entry in enumerate(track(source.entries, "episodes")):
        rig = given or drafted or _noted(notes, number)
        fitted = roles if drafted else fit(rig, roles, source)
        remarks |= dict.fromkeys(fitted.left_out)
        episode = _episode(source, entry, fitted, rig)
        if notes is not None:
            episode = _with_notes(episode, notes, number, source.folder, rig)
        if job.task:
            episode = _replace(episode, task=job.task)
        episode = _replace(episode, success=job.success(episode.success))
        folder = job.task or (episode.task if notes else _folder(source))
        write_incoming(place / plain_name(folder, "task") / f"episode_{entry.number}.hdf5", rig, episode)
        frames += entry.length
    return Converted(len(source.entries), frames, tuple(remarks))


def _episode(source: Source, entry: Entry, roles: Roles, rig: Rig) -> Incoming:
    """Return one episode in the words of the rig."""
    keys = [*roles.columns, *((layout.STAMP_NS,) if layout.STAMP_NS in source.features else ())]
    columns = source.numbers(entry, keys)
    chosen = order(rig, roles)
    stamps, kind = source.stamps(entry, columns)

    def state_like(key: str, there: bool) -> np.ndarray | None:
        return columns[key][:, chosen].astype(np.float64) if there else None

    success = source_success(columns.get(roles.extras.get(SUCCESS, ""), None))
    return Incoming(
        source=f"{source.folder}: episode {entry.number}",
        stamps_ns=stamps,
        stamps=kind,
        qpos=columns[layout.STATE][:, chosen].astype(np.float64),
        action=state_like(layout.ACTION, roles.is_commanded),
        task=plain_name(entry.task, "task"),
        pictures={
            stream: _pictures(source, entry, key, columns["timestamp"])
            for stream, key in roles.pictures.items()
        },
        extras={stream: columns[key].astype(np.float64) for stream, key in roles.extras.items()},
        velocity=state_like(layout.VELOCITY, roles.has_velocity),
        effort=state_like(layout.EFFORT, roles.has_effort),
        instruction=entry.task,
        success=success,
        metadata=provenance("lerobot", source.version, source.folder.name, entry.number),
    )


def source_success(told: np.ndarray | None) -> bool | None:
    """Return whether any frame is a success; None where the data set does not say."""
    return None if told is None else bool((told > 0).any())


def _pictures(source: Source, entry: Entry, key: str, times_s: np.ndarray) -> Iterator[np.ndarray]:
    """Yield encoded pictures: those of a table as they are, those of a video as JPEG."""
    height, width, _ = source.features[key].shape
    if key not in entry.videos:
        yield from _table_pictures(source, entry, key)
        return
    part = entry.videos[key]
    times = part.begins_s + times_s.astype(np.float64)
    for frame in read_video(part.path, times, source.fps):
        if frame.shape[:2] != (height, width):
            raise EpisodeError(
                f"{part.path}: frames of {frame.shape[1]}x{frame.shape[0]} px, and info.json says "
                f"{width}x{height}"
            )
        yield encode_jpeg(frame, QUALITY)


def _table_pictures(source: Source, entry: Entry, key: str) -> Iterator[np.ndarray]:
    height, width, _ = source.features[key].shape
    column = source.frames(entry, [key, "episode_index"]).column(key)
    for index, cell in enumerate(column):
        value = cell.as_py()
        data = np.frombuffer((value or {}).get("bytes") or b"", np.uint8)
        header = read_header(data)
        if header is None or (header.height, header.width) != (height, width):
            found = f"{header.width}x{header.height} px" if header else "no JPEG or PNG in it"
            raise EpisodeError(
                f"{entry.table}: {key}: frame {index} of episode {entry.number}: {found}, expected "
                f"{width}x{height} px"
            )
        yield data


def _with_notes(episode: Incoming, notes: Notes, number: int, folder: Path, rig: Rig) -> Incoming:
    """Return an episode with what we noted when we wrote it."""
    note = notes.episodes[number]
    references = read_references(folder, note)
    return _replace(
        episode,
        task=note.task,
        instruction="" if episode.instruction == note.task else episode.instruction,
        success=note.success,
        outcome=note.outcome,
        action=None if note.action == "measured" else episode.action,
        stamps=str(note.attributes.get("stamps", episode.stamps)),
        steps=notes.steps_of(number),
        references={name: value for name, value in references.items() if name in rig.tactile},
        metadata={**note.attributes, **episode.metadata},
    )


def _replace(episode: Incoming, **changes: object) -> Incoming:

    return dataclasses.replace(episode, **changes)  # type: ignore[arg-type]


def _notes(source: Source) -> Notes | None:
    return read_notes(source.folder, [entry.length for entry in source.entries])


def _noted(notes: Notes | None, number: int) -> Rig:
    assert notes is not None
    return notes.rig_of(number)


def _folder(source: Source) -> str:
    """Return one folder for all episodes, so that they keep their order: the task, or the data set's name."""
    tasks = {entry.task for entry in source.entries}
    return tasks.pop() if len(tasks) == 1 else source.folder.name


def _remarks(roles: Roles, drafted: Rig | None) -> dict[str, None]:
    """Return notes, each once and in their order."""
    remarks = dict.fromkeys(roles.left_out)
    if drafted is not None:
        remarks[
            f"rig {drafted.name}: drafted; units are those of the data set, and without geometry no boxes "
            "(tacit rig new --from-dataset writes it down, --rig takes it back)"
        ] = None
    return remarks
