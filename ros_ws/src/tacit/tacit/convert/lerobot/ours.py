"""What LeRobot has no place for, kept in `meta/tacit` for the way back: rigs, labels, steps, references."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from tacit.config import Config, load_json, parse
from tacit.config.documents import inside
from tacit.convert.lerobot.layout import read_lines, write_json, write_lines
from tacit.episode import EpisodeReader, Step
from tacit.errors import EpisodeError
from tacit.images import Image, encode_png, load_image
from tacit.rig import NAME_PATTERN, Rig, parse_rig

FOLDER = "meta/tacit"
RIGS, NOTES = f"{FOLDER}/rigs.json", f"{FOLDER}/episodes.jsonl"
CARRIED = ("session_id", "operator", "sim", "task_json", "clock_domain", "stamps")
"""Root attributes that come back."""

TaskName = Annotated[str, Field(pattern=NAME_PATTERN)]


class EpisodeNote(Config):
    """One episode: which rig, what it is labelled, and what its sensors say without contact: pictures of
    gels, readings (R, C, K) of arrays."""

    rig: str
    length: int
    task: TaskName
    success: bool | None = None
    outcome: str = ""
    action: Literal["command", "measured", "mixed"] = "command"
    steps: tuple[tuple[str, int, int], ...] = ()
    references: dict[str, str] = {}
    offsets: dict[str, list[list[list[float]]]] = {}
    attributes: dict[str, str | int | float | bool] = {}


class Notes(NamedTuple):
    """All episodes in their order, and their rigs by `rig_id`."""

    rigs: dict[str, dict[str, Any]]
    episodes: tuple[EpisodeNote, ...]

    def rig_of(self, index: int) -> Rig:
        """Return the rig of an episode.

        Raises:
            TacitError: It is not there, or wrong.
        """
        name = self.episodes[index].rig
        if name not in self.rigs:
            raise EpisodeError(f"{RIGS}: no rig {name[:16]}, which episode {index} was recorded with")
        return parse_rig(self.rigs[name], f"{RIGS}: {name[:16]}")

    def steps_of(self, index: int) -> tuple[Step, ...]:
        """Return the steps of an episode."""
        return tuple(Step(*step) for step in self.episodes[index].steps)


class NoteTaker:
    """Collects the notes of episodes as they are written."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._rigs: dict[str, dict[str, Any]] = {}
        self._episodes: list[EpisodeNote] = []

    def add(self, reader: EpisodeReader) -> None:
        """Take what an episode says beyond its frames."""
        rig = reader.rig
        self._rigs.setdefault(rig.rig_id, rig.model_dump(mode="json"))
        references = {name: reader.reference(name) for name in reader.gels}
        arrays = {name: reader.reference(name) for name in reader.taxels}
        note = EpisodeNote(
            rig=rig.rig_id,
            length=reader.num_ticks,
            task=reader.task,
            success=reader.success,
            outcome=str(reader.attribute("outcome")),
            action=reader.action_source,  # type: ignore[arg-type]
            steps=tuple((step.name, step.start_frame, step.end_frame) for step in reader.steps),
            references={name: self._keep(image) for name, image in references.items() if image is not None},
            offsets={name: array.tolist() for name, array in arrays.items() if array is not None},
            attributes={
                name: _plain(reader.attribute(name)) for name in CARRIED if name in reader.file.attrs
            },
        )
        self._episodes.append(note)

    def write(self) -> None:
        """Write the notes."""
        write_json(self._place / RIGS, self._rigs)
        write_lines(self._place / NOTES, (note.model_dump(mode="json") for note in self._episodes))

    def _keep(self, image: Image) -> str:
        """Store a picture under the hash of its bytes, so that equal ones are one file."""
        data = encode_png(image).tobytes()
        path = self._place / FOLDER / f"{hashlib.sha256(data).hexdigest()[:24]}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return path.name


def read_notes(folder: Path, lengths: list[int]) -> Notes | None:
    """Return the notes of a data set that we wrote; None without, or where its episodes are others by now.

    Raises:
        TacitError: They are wrong.
    """
    path = folder / NOTES
    if not path.is_file():
        return None
    lines = enumerate(read_lines(path), 1)
    notes = tuple(parse(EpisodeNote, line, f"{path}: line {number}") for number, line in lines)
    if [note.length for note in notes] != lengths:
        return None
    return Notes(load_json(folder / RIGS, EpisodeError), notes)


def read_references(folder: Path, note: EpisodeNote) -> dict[str, np.ndarray]:
    """Return the no-contact pictures and readings of an episode by sensor.

    Raises:
        TacitError: One is missing, damaged, or named out of its folder.
    """
    found: dict[str, np.ndarray] = {
        name: np.array(values, np.float32) for name, values in note.offsets.items()
    }
    for sensor, name in note.references.items():
        path = inside(folder / FOLDER, name, f"{folder / NOTES}: references.{sensor}", EpisodeError)
        if not path.is_file():
            raise EpisodeError(f"{path}: no such picture; it was not copied with the data set")
        found[sensor] = load_image(path)
    return found


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, (str, int, float, bool)) else str(value)
