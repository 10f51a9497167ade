"""The files of a new LeRobot data set: tables, videos, and what lists them, in both layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tacit.convert.lerobot import layout
from tacit.convert.lerobot.layout import Version
from tacit.convert.lerobot.outgoing import Feature, Plan
from tacit.convert.lerobot.stats import QUANTILES, Stats, as_lists
from tacit.convert.lerobot.videos import PIXELS, VideoWriter
from tacit.images import Image

if TYPE_CHECKING:
    import pyarrow as pa

MB = 1 << 20
ROWS_AT_ONCE = 100
"""Of the table of episodes, which holds the statistics of each."""
STAT_NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
TASK_INDEX = "__index_level_0__"
"""LeRobot's table of tasks is a pandas frame whose index are the texts."""

Cell = int | float | list[str] | list[float] | list[list[list[float]]] | None


class Position(NamedTuple):
    """The number of a file."""

    chunk: int
    file: int


class Files:
    """Numbers the files of one kind: the next one at an episode where the current one is full."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._count = -1

    def is_full(self, num_bytes: int) -> bool:
        """Whether an episode is to begin the next file."""
        return self._count < 0 or num_bytes >= self._limit

    def next(self) -> Position:
        """Return the number of the next file."""
        self._count += 1
        return self.position

    @property
    def position(self) -> Position:
        """The number of the current file."""
        return Position(*divmod(self._count, layout.CHUNK_SIZE))


class TableFiles:
    """Parquet files of frames, one row group for each episode; the footer is written at `close`."""

    def __init__(self, place: Path, version: Version, plan: Plan) -> None:
        self._place, self._template = place, layout.DATA_PATH[version]
        self._schema = frame_schema(plan)
        self._files = Files(0 if version == "v2.1" else layout.DATA_FILE_MB * MB)
        self._num_bytes = 0
        self._writer: pa.parquet.ParquetWriter | None = None

    def add(self, episode: int, columns: dict[str, np.ndarray | list[dict[str, object]]]) -> Position:
        """Append the frames of an episode; returns the file that they are in."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        if self._files.is_full(self._num_bytes):
            self.close()
            values = place_values(self._files.next(), episode)
            path = layout.place_of(self._place, self._template, values)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._num_bytes = pq.ParquetWriter(path, self._schema), 0
        assert self._writer is not None
        self._writer.write_table(table)
        self._num_bytes += table.nbytes
        return self._files.position

    def close(self) -> None:
        """Finish the current file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VideoFiles:
    """The videos of one stream, with as many episodes in each as LeRobot would put there."""

    def __init__(self, place: Path, version: Version, stream: str, plan: Plan) -> None:
        self._place, self._template, self._plan = place, layout.VIDEO_PATH[version], plan
        self._stream = stream
        self._files = Files(0 if version == "v2.1" else layout.VIDEO_FILE_MB * MB)
        self._writer: VideoWriter | None = None

    def add(self, episode: int, frames: Iterator[Image]) -> Iterator[Image]:
        """Append the frames of an episode, and pass each on."""
        if self._files.is_full(self._writer.num_bytes if self._writer else 0):
            self.close()
            values = place_values(self._files.next(), episode) | {
                "video_key": layout.picture_key(self._stream)
            }
            path = layout.place_of(self._place, self._template, values)
            height, width, _ = self._plan.pictures[self._stream].shape
            codec = self._plan.codecs[self._stream]
            self._writer = VideoWriter(path, self._plan.fps, height, width, codec)
        assert self._writer is not None
        for frame in frames:
            self._writer.add(frame)
            yield frame

    def row(self, num_frames: int) -> dict[str, Cell]:
        """Return where the last episode is, in the words of the table of episodes."""
        assert self._writer is not None
        end, prefix = self._writer.num_frames, f"videos/{layout.picture_key(self._stream)}/"
        position = self._files.position
        return {
            prefix + "chunk_index": position.chunk,
            prefix + "file_index": position.file,
            prefix + "from_timestamp": (end - num_frames) / self._plan.fps,
            prefix + "to_timestamp": end / self._plan.fps,
        }

    def close(self) -> None:
        """Finish the current file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def abandon(self) -> None:
        """Close after a failure; a file that is finished is left as it is."""
        if self._writer is not None:
            self._writer.abandon()


def place_values(position: Position, episode: int) -> dict[str, object]:
    """Return what the templates of both layouts ask for."""
    return {
        "chunk_index": position.chunk,
        "file_index": position.file,
        "episode_chunk": episode // layout.CHUNK_SIZE,
        "episode_index": episode,
    }


def frame_schema(plan: Plan) -> pa.Schema:
    """Return the columns of the tables of frames: numbers, single pictures, counters."""
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [(key, _arrow_type(feature)) for key, feature in plan.numbers.items()]
    fields += [(layout.picture_key(name), picture) for name in plan.pictures if name not in plan.codecs]
    fields += [(name, pa.type_for_alias(dtype)) for name, dtype in layout.COUNTERS.items()]
    return pa.schema(fields)


def write_info(place: Path, version: Version, plan: Plan, counts: dict[str, int]) -> None:
    """Write `info.json`; `counts` are its totals."""
    features = {key: _described(feature) for key, feature in plan.numbers.items()}
    for name, feature in plan.pictures.items():
        features[layout.picture_key(name)] = _described_picture(feature, plan, name)
    features |= {name: _described(Feature(dtype, (1,))) for name, dtype in layout.COUNTERS.items()}
    episodes = counts["total_episodes"]
    info: dict[str, object] = {"codebase_version": version, "robot_type": plan.robot, **counts}
    if version == "v2.1":
        info["total_videos"] = episodes * len(plan.codecs)
        info["total_chunks"] = -(-episodes // layout.CHUNK_SIZE)
    else:
        info["data_files_size_in_mb"], info["video_files_size_in_mb"] = (
            layout.DATA_FILE_MB,
            layout.VIDEO_FILE_MB,
        )
    info |= {
        "chunks_size": layout.CHUNK_SIZE,
        "fps": _rate(plan.fps),
        "splits": {"train": f"0:{episodes}"},
        "data_path": layout.DATA_PATH[version],
        "video_path": layout.VIDEO_PATH[version] if plan.codecs else None,
        "features": features,
    }
    layout.write_json(place / layout.INFO, info)
    layout.write_json(place / layout.MODALITY, layout.modality(plan.spans, plan.pictures))


def write_tasks(place: Path, version: Version, tasks: list[str]) -> None:
    """Write the texts of the tasks in the order of their index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = place / layout.TASKS[version]
    if version == "v2.1":
        layout.write_lines(path, ({"task_index": index, "task": task} for index, task in enumerate(tasks)))
        return
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), TASK_INDEX: pa.array(tasks)})
    column = {"field_name": "task_index", "name": "task_index", "numpy_type": "int64", "pandas_type": "int64"}
    index = {"field_name": TASK_INDEX, "name": None, "numpy_type": "object", "pandas_type": "unicode"}
    described = {
        "index_columns": [TASK_INDEX],
        "column_indexes": [],
        "columns": [item | {"metadata": None} for item in (column, index)],
        "pandas_version": "2.0.0",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path)


class EpisodeTable:
    """What lists the episodes: `meta/episodes` of v3.0, or the JSON lines of v2.1."""

    def __init__(self, place: Path, version: Version, plan: Plan) -> None:
        self._place, self._version, self._plan = place, version, plan
        self._rows: list[dict[str, Cell]] = []
        self._lines: list[dict[str, object]] = []
        self._stat_lines: list[dict[str, object]] = []
        self._writer: pa.parquet.ParquetWriter | None = None

    def add(self, row: dict[str, Cell], stats: dict[str, Stats]) -> None:
        """Append an episode; `row` holds at least `episode_index`, `tasks` and `length`."""
        if self._version == "v2.1":
            self._lines.append({name: row[name] for name in ("episode_index", "tasks", "length")})
            self._stat_lines.append({"episode_index": row["episode_index"], "stats": as_lists(stats)})
            return
        for key, part in stats.items():
            row |= {f"stats/{key}/{name}": part[name].tolist() for name in STAT_NAMES}
        self._rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        if len(self._rows) == ROWS_AT_ONCE:
            self._write_rows()

    def close(self) -> None:
        """Write what is left."""
        if self._version == "v2.1":
            layout.write_lines(self._place / layout.EPISODES_V2, self._lines)
            layout.write_lines(self._place / layout.EPISODE_STATS_V2, self._stat_lines)
            return
        if self._rows:
            self._write_rows()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_rows(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _episode_schema(self._plan)
        if self._writer is None:
            path = layout.place_of(self._place, layout.EPISODES_V3, place_values(Position(0, 0), 0))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, schema)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=schema))
        self._rows.clear()


def _episode_schema(plan: Plan) -> pa.Schema:
    import pyarrow as pa

    fields = [("episode_index", pa.int64()), ("tasks", pa.list_(pa.string())), ("length", pa.int64())]
    fields += [
        (name, pa.int64())
        for name in ("data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")
    ]
    for name in plan.codecs:
        prefix = f"videos/{layout.picture_key(name)}/"
        fields += [(prefix + column, pa.int64()) for column in ("chunk_index", "file_index")]
        fields += [(prefix + column, pa.float64()) for column in ("from_timestamp", "to_timestamp")]
    shapes = {key: feature.shape for key, feature in plan.numbers.items()}
    shapes |= {layout.picture_key(name): (3, 1, 1) for name in plan.pictures}
    shapes |= dict.fromkeys(layout.COUNTERS, (1,))
    for key, shape in shapes.items():
        for stat in STAT_NAMES:
            nested = pa.int64() if stat == "count" else pa.float64()
            for _ in (1,) if stat == "count" else shape:
                nested = pa.list_(nested)
            fields.append((f"stats/{key}/{stat}", nested))
    fields += [(f"meta/episodes/{name}", pa.int64()) for name in ("chunk_index", "file_index")]
    return pa.schema(fields)


def _arrow_type(feature: Feature) -> pa.DataType:
    import pyarrow as pa

    value = pa.type_for_alias(feature.dtype)
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return pa.list_(value, feature.shape[0])
    for _ in feature.shape:
        value = pa.list_(value)
    return value


def _array(column: np.ndarray | list[dict[str, object]], kind: pa.DataType) -> pa.Array:
    """Return a column (T, ...) as its type; vectors without a copy of each row."""
    import pyarrow as pa

    if isinstance(column, list):
        return pa.array(column, kind)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(
            pa.array(column.reshape(-1), kind.value_type), kind.list_size
        )
    return pa.array(column.reshape(-1) if not pa.types.is_list(kind) else column.tolist(), kind)


def _described(feature: Feature) -> dict[str, object]:
    names = None if feature.names is None else list(feature.names)
    return {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}


def _described_picture(feature: Feature, plan: Plan, name: str) -> dict[str, object]:
    if name not in plan.codecs:
        return _described(feature._replace(dtype="image"))
    height, width, channels = feature.shape
    told: dict[str, object] = {
        "height": height,
        "width": width,
        "codec": plan.codecs[name],
        "pix_fmt": PIXELS,
    }
    told |= {"is_depth_map": False, "fps": _rate(plan.fps), "channels": channels}
    return _described(feature) | {"info": {f"video.{k}": v for k, v in told.items()} | {"has_audio": False}}


def _rate(fps: float) -> int | float:
    return int(fps) if fps == int(fps) else fps
