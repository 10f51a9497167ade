"""A LeRobot data set on disk: what it holds, checked before anything of it is used."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tacit.config import load_json
from tacit.convert.lerobot import layout
from tacit.convert.lerobot.layout import Version
from tacit.convert.lerobot.outgoing import Feature
from tacit.errors import EpisodeError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

MAX_NAMED = 3
NUMBERS = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
PICTURES = ("video", "image")
RATE_ERROR = 0.1
"""Share by which the median interval of an episode may differ from the rate of the data set."""
NOMINAL_ERROR = 0.02
"""Share of a period up to which a time counts as frame_index / fps; float32 seconds lose digits."""


class Part(NamedTuple):
    """Where the frames of an episode are in a video."""

    path: Path
    begins_s: float


class Entry(NamedTuple):
    """One episode: its number, frames, task, table, and videos by key."""

    number: int
    length: int
    task: str
    table: Path
    videos: dict[str, Part]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        folder: Where it is.
        version: v3.0, or v2.1 for both of the older layouts.
        robot: What it calls its robot.
        fps: Rate of the frames [Hz].
        features: By key, without the counters.
        entries: The episodes in their order.
    """

    folder: Path
    version: Version
    robot: str
    fps: float
    features: Mapping[str, Feature]
    entries: Sequence[Entry]

    @property
    def pictures(self) -> dict[str, Feature]:
        """The features that are pictures."""
        return {key: item for key, item in self.features.items() if item.dtype in PICTURES}

    def numbers(self, entry: Entry, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns (T, ...) of numbers of an episode.

        Raises:
            EpisodeError: The table is missing, damaged, or holds other frames than the list of episodes says.
        """
        wanted = [*keys, "timestamp", "frame_index", "episode_index"]
        table = self.frames(entry, wanted)
        rows = table.column("frame_index").to_numpy()
        if not np.array_equal(rows, np.arange(entry.length)):
            raise EpisodeError(
                f"{entry.table}: episode {entry.number} has {len(rows)} frames, and the list of episodes "
                f"says {entry.length} in order; the data set is cut off or damaged"
            )
        shapes = {key: self.features[key].shape for key in keys}
        return {name: _values(table, name, shapes.get(name, (1,)), entry) for name in wanted}

    def frames(self, entry: Entry, columns: Sequence[str]) -> pa.Table:
        """Return the rows of an episode; errors as of `numbers`."""
        import pyarrow.parquet as pq

        with table_problems(entry.table):
            return pq.read_table(
                entry.table, columns=list(columns), filters=[("episode_index", "=", entry.number)]
            )

    def stamps(self, entry: Entry, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        """Return when the frames of an episode were [ns], and whether that is "true" or "nominal".

        Raises:
            EpisodeError: They have another rate than the data set.
        """
        if layout.STAMP_NS in columns:
            return columns[layout.STAMP_NS].astype(np.int64), "true"
        times = columns["timestamp"].astype(np.float64)
        period = 1.0 / self.fps
        if len(times) > 1:
            step = float(np.median(np.diff(times)))
            if not abs(step - period) <= RATE_ERROR * period:
                raise EpisodeError(
                    f"{entry.table}: episode {entry.number} has a frame every {step:.4f} s, and info.json "
                    f"says {self.fps:g} Hz; mend fps, or convert episodes of other rates apart"
                )
        counted = np.arange(entry.length) * period
        nominal = bool((np.abs(times - times[0] - counted) <= NOMINAL_ERROR * period).all())
        seconds = counted if nominal else times - times[0]
        return np.round((seconds + period) * 1e9).astype(np.int64), "nominal" if nominal else "true"


def open_source(folder: Path) -> Source:
    """Read what a data set says of itself, and see that its files are there.

    Raises:
        EpisodeError: An unknown version, a damaged list, or missing files.
    """
    where = folder / layout.INFO
    if not where.is_file():
        below = next(folder.glob(f"*/{layout.INFO}"), None) if folder.is_dir() else None
        raise EpisodeError(
            f"{folder}: no LeRobot data set, for it has no {layout.INFO}; "
            + (
                f"did you mean {below.parent.parent}?"
                if below
                else "give the folder that holds meta/ and data/"
            )
        )
    info = load_json(where, EpisodeError)
    version = str(info.get("codebase_version"))
    if version not in layout.READABLE:
        raise EpisodeError(
            f"{where}: codebase_version {version[:40]!r}; {did_you_mean(version, layout.READABLE)}. Other "
            "layouts are brought to v3.0 by LeRobot's own lerobot.datasets.v30 scripts"
        )
    fps = info.get("fps")
    if not isinstance(fps, (int, float)) or not math.isfinite(fps) or fps <= 0:
        raise EpisodeError(f"{where}: fps: {fps!r}, expected frames per second")
    features = _features(info.get("features"), str(where))
    for key in (layout.STATE,):
        if key not in features:
            raise EpisodeError(f"{where}: features: no {key}, so nothing says what the robot did")
    videos = [key for key, feature in features.items() if feature.dtype == "video"]
    read = _entries_v3 if version == "v3.0" else _entries_v2
    entries = read(folder, info, videos)
    _require_files(folder, entries)
    kept: Version = "v3.0" if version == "v3.0" else "v2.1"
    robot = str(info.get("robot_type") or folder.name)
    return Source(folder, kept, robot, float(fps), features, entries)


@contextlib.contextmanager
def table_problems(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file into an error that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise EpisodeError(f"{path}: no such table; it was not copied with the data set") from None
    except (pa.ArrowException, OSError, KeyError) as problem:  # ArrowInvalid, ArrowKeyError, cut footers
        note = " ".join(str(problem).split())[:200]
        raise EpisodeError(f"{path}: cannot be read as a table ({note}); it is cut off or damaged") from None


def _features(data: object, where: str) -> dict[str, Feature]:
    if not isinstance(data, dict):
        raise EpisodeError(f"{where}: features: expected an object by name")
    found = {}
    for key, told in data.items():
        layout.check_key(str(key), where)
        if key in layout.COUNTERS:
            continue
        shape = told.get("shape") if isinstance(told, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise EpisodeError(f"{where}: features.{key}: expected dtype and shape")
        dtype, sides = str(told.get("dtype")), tuple(shape)
        if dtype in PICTURES:
            found[key] = Feature(dtype, _picture_shape(sides, told.get("names"), f"{where}: features.{key}"))
        else:
            found[key] = Feature(dtype, sides, tuple(layout.names_of(told.get("names"), math.prod(sides))))
    return found


def _picture_shape(shape: tuple[int, ...], names: object, where: str) -> tuple[int, int, int]:
    """Return (height, width, 3); some data sets have the colours first."""
    if len(shape) == 3 and isinstance(names, list) and names[:1] in (["channels"], ["channel"]):
        shape = (shape[1], shape[2], shape[0])
    if len(shape) != 3 or shape[2] != 3:
        raise EpisodeError(f"{where}: a picture of shape {shape}, expected height, width and 3 colours")
    return shape


def _entries_v3(folder: Path, info: Mapping[str, object], videos: Sequence[str]) -> list[Entry]:
    import pyarrow.parquet as pq

    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    video_columns = ("chunk_index", "file_index", "from_timestamp")
    columns += [f"videos/{key}/{name}" for key in videos for name in video_columns]
    rows: list[dict] = []
    paths = sorted(folder.glob("meta/episodes/*/*.parquet"))
    if not paths:
        raise EpisodeError(f"{folder}: no table of episodes (meta/episodes); it was not copied whole")
    for path in paths:
        with table_problems(path):
            lacking = set(columns) - set(pq.read_schema(path).names)
            if lacking:
                raise EpisodeError(f"{path}: no column {', '.join(sorted(lacking)[:MAX_NAMED])}")
            rows += pq.read_table(path, columns=columns).to_pylist()
    entries = []
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        table = layout.place_of(folder, _template(info, "data_path", layout.DATA_PATH["v3.0"]), place)
        parts = {}
        for key in videos:
            chunk, file, begins = (row[f"videos/{key}/{name}"] for name in video_columns)
            values = {"video_key": key, "chunk_index": chunk, "file_index": file}
            template = _template(info, "video_path", layout.VIDEO_PATH["v3.0"])
            parts[key] = Part(layout.place_of(folder, template, values), float(begins))
        entries.append(Entry(row["episode_index"], row["length"], _task(row["tasks"]), table, parts))
    return entries


def _entries_v2(folder: Path, info: Mapping[str, object], videos: Sequence[str]) -> list[Entry]:
    size = info.get("chunks_size", layout.CHUNK_SIZE)
    size = size if isinstance(size, int) and size > 0 else layout.CHUNK_SIZE
    entries = []
    path = folder / layout.EPISODES_V2
    for number, row in enumerate(layout.read_lines(path), 1):
        index, length = row.get("episode_index"), row.get("length")
        if not isinstance(index, int) or not isinstance(length, int) or length < 1:
            raise EpisodeError(f"{path}: line {number}: expected episode_index and length")
        values = {"episode_chunk": index // size, "episode_index": index}
        table = layout.place_of(folder, _template(info, "data_path", layout.DATA_PATH["v2.1"]), values)
        template = _template(info, "video_path", layout.VIDEO_PATH["v2.1"])
        parts = {
            key: Part(layout.place_of(folder, template, values | {"video_key": key}), 0.0) for key in videos
        }
        entries.append(Entry(index, length, _task(row.get("tasks")), table, parts))
    return sorted(entries, key=lambda entry: entry.number)


def _template(info: Mapping[str, object], key: str, otherwise: str) -> str:
    return str(info.get(key) or otherwise)


def _task(tasks: object) -> str:
    """Return the text of the task; an episode of several is said by the first."""
    return str(tasks[0]) if isinstance(tasks, list) and tasks else ""


def _require_files(folder: Path, entries: Sequence[Entry]) -> None:
    """Name missing tables and videos before anything is converted."""
    if not entries:
        raise EpisodeError(f"{folder}: a data set without episodes")
    wanted = {entry.table for entry in entries} | {part.path for e in entries for part in e.videos.values()}
    missing = sorted(str(path.relative_to(folder)) for path in wanted if not path.is_file())
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise EpisodeError(
            f"{folder}: not there: {', '.join(missing[:MAX_NAMED])}{more}; the data set was not copied whole "
            "(videos are often left behind by git without LFS)"
        )


def _values(table: pa.Table, name: str, shape: tuple[int, ...], entry: Entry) -> np.ndarray:
    """Return a column as (T,) for one number and (T, *shape) for more."""
    rows = table.column(name).to_pylist() if table.schema.field(name).type.num_fields else None
    try:
        values = np.asarray(table.column(name).to_numpy() if rows is None else rows)
        if values.dtype.kind not in "fiub":
            raise ValueError(f"values of type {values.dtype}")
        return values if name in layout.COUNTERS or name == layout.STAMP_NS else values.reshape(-1, *shape)
    except ValueError as problem:
        raise EpisodeError(
            f"{entry.table}: {name}: not {shape} numbers in every row of episode {entry.number} ({problem})"
        ) from None
