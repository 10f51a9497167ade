"""What there is, at a glance: `dataset.jsonl` beside the episodes, a cache that is never believed blindly.

An entry counts only while its file has the size and the time of change that it was read at; what has
changed is read again, and what is gone is forgotten. So it is right whoever changed the folder, and may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tacit.config.documents import MAX_TABLE_BYTES, json_list, json_of, read_text
from tacit.episode.files import find_places
from tacit.episode.many import read_many
from tacit.errors import EpisodeError, TacitError

INDEX_NAME = "dataset.jsonl"
INDEX_SCHEMA = "tacit-dataset 1"

Track = Callable[[Sequence[Path]], Iterable[Path]]
"""Goes through the episodes that have to be read, and may show how far it is."""


class Entry(NamedTuple):
    """What is known of an episode without opening it.

    `kind` is `tacit`, `foreign` (an ALOHA-like file) or `damaged`, with the reason in `problem`. `success`
    is None where nobody said. `edits` counts what was done to it since it was recorded.
    """

    kind: str
    task: str = ""
    instruction: str = ""
    state: str = ""
    success: bool | None = None
    outcome: str = ""
    ticks: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    recorded: str = ""
    operator: str = ""
    session: str = ""
    embodiment: str = ""
    uuid: str = ""
    content_sha256: str = ""
    steps: Sequence[str] = ()
    edits: int = 0
    problem: str = ""


FIELDS = Entry._fields
NOTHING = (-1, -1, Entry("damaged"))


class Listed(NamedTuple):
    """An episode and its entry; `place` is its path as text, `size` in bytes."""

    place: str
    size: int
    entry: Entry

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)


def list_episodes(root: str | Path, track: Track = iter) -> list[Listed]:
    """Return all episodes below `root` with their entries, in order of folder and number.

    Reads what the indices do not know, and brings them up to date.

    Args:
        root: An episode, or a folder.
        track: Shows the progress of reading.

    Raises:
        EpisodeError: `root` does not exist.
    """
    places = find_places(root)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for place in places:
        by_folder[os.path.dirname(place)].append(place)
    known: dict[str, Entry] = {}
    states = {place: os.stat(place) for place in places}
    stale: dict[str, list[str]] = {}
    for folder, members in by_folder.items():
        index = _load(Path(folder))
        for place in members:
            size, time_ns, entry = index.get(os.path.basename(place), NOTHING)
            if size == states[place].st_size and time_ns == states[place].st_mtime_ns:
                known[place] = entry
        if len(index) != len(members) or any(place not in known for place in members):
            stale[folder] = members
    unknown = [place for place in places if place not in known]
    known |= _read(unknown, track)
    for folder, members in stale.items() if Path(root).is_dir() else ():
        _save(Path(folder), {os.path.basename(p): (states[p], known[p]) for p in members})
    return [Listed(place, states[place].st_size, known[place]) for place in places]


def _read(places: Sequence[str], track: Track) -> dict[str, Entry]:
    """Read the entries of episodes, {place: entry}; what other processes have walked counts as walked."""
    if not places:
        return {}
    from tacit.episode.secure import file_state, trust_checked  # HDF5, which a listing mostly does not need

    # Named as they were found: Path("./a") is "a" as text.
    paths = [Path(place) for place in places]
    states = [file_state(path) for path in paths]
    entries = [entry for _, entry in zip(track(paths), read_many(read_entry, paths), strict=True)]
    trust_checked(state for state, entry in zip(states, entries, strict=True) if entry.kind != "damaged")
    return dict(zip(places, entries, strict=True))


def read_entry(path: Path) -> Entry:
    """Read what the index says of an episode; damage becomes part of the entry."""
    from tacit.episode.edit import history_of  # what the index knows is told without HDF5
    from tacit.episode.reader import EpisodeReader

    try:
        with EpisodeReader(path) as reader:
            stamps = reader.tick_ns
            span_ns = int(stamps.max() - stamps.min()) if reader.num_ticks else 0
            texts = {
                field: str(reader.attribute(name))
                for field, name in (
                    ("outcome", "outcome"),
                    ("recorded", "wall_start_iso"),
                    ("operator", "operator"),
                    ("session", "session_id"),
                    ("embodiment", "embodiment"),
                    ("uuid", "episode_uuid"),
                    ("content_sha256", "content_sha256"),
                )
            }
            return Entry(
                kind="foreign" if reader.is_foreign else "tacit",
                task=reader.task,
                instruction=reader.instruction,
                state=reader.state,
                success=reader.success,
                ticks=reader.num_ticks,
                seconds=round(span_ns / 1e9, 3),
                fps=reader.fps,
                steps=list(dict.fromkeys(step.name for step in reader.steps)),
                edits=len(history_of(reader.file)),
                **texts,
            )
    except (TacitError, OSError, KeyError, ValueError) as problem:
        return Entry(kind="damaged", problem=str(problem))


def _load(folder: Path) -> dict[str, tuple[int, int, Entry]]:
    """Return {file name: (size, time of change [ns], entry)}; empty where the index cannot be used."""
    place = folder / INDEX_NAME
    if not place.is_file():
        return {}
    try:
        first, *lines = read_text(place, MAX_TABLE_BYTES, "index", EpisodeError).splitlines()
        if json_of(first, str(place), EpisodeError) != [INDEX_SCHEMA, *FIELDS]:
            return {}
        rows = [json_list(line, str(place), EpisodeError) for line in lines]
        return {name: (size, time, Entry(*values)) for name, size, time, *values in rows}
    except (TacitError, TypeError, ValueError):
        return {}  # a cache of another version, or cut off: everything is read again


def _save(folder: Path, members: Mapping[str, tuple[os.stat_result, Entry]]) -> None:
    """Write an index in one step; where nothing may be written there simply is none."""
    if all(entry.kind != "tacit" for _, entry in members.values()):
        return  # a folder of others: nothing of ours belongs there
    rows: list[list[object]] = [[INDEX_SCHEMA, *FIELDS]]
    for name, (state, entry) in members.items():
        rows.append([name, state.st_size, state.st_mtime_ns, *entry])
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    temporary = folder / f".{INDEX_NAME}.{os.getpid()}"
    with contextlib.suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / INDEX_NAME)
