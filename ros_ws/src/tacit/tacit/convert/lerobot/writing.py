"""`tacit convert --to lerobot`: our episodes become a data set of LeRobot v3.0 or v2.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tacit.convert.job import Converted, Export, Track, episodes_to_export
from tacit.convert.lerobot import layout
from tacit.convert.lerobot.layout import Version
from tacit.convert.lerobot.ours import NoteTaker
from tacit.convert.lerobot.outgoing import Plan, make_plan, numbers_of
from tacit.convert.lerobot.stats import Stats, as_lists, merge, number_stats, picture_stats
from tacit.convert.lerobot.storage import Cell, EpisodeTable, TableFiles, VideoFiles, write_info, write_tasks
from tacit.episode import EpisodeReader

TAUGHT = "the action of hand-guided episodes is the state measured at the next tick"


@dataclass(frozen=True, kw_only=True)
class Writing(Export):
    """Write a LeRobot data set: state, action, videos, touch, boxes, poses and true stamps.

    Example: tacit convert data/place_cube data/place_cube_lerobot --to lerobot
    """

    version: Version = "v3.0"
    """Layout: v3.0 of LeRobot 0.4 and later; v2.1 of older ones and of GR00T (meta/modality.json)."""
    pictures: Literal["av1", "h264", "image"] = "av1"
    """Codec of the videos; `image` keeps each picture as it was recorded, without loss, in the tables."""


def write(job: Writing, place: Path, track: Track) -> Converted:
    """Make the data set at `place`.

    Raises:
        EpisodeError: No episode, or episodes that do not go into one data set.
    """
    import pyarrow  # noqa: F401  missing here, before anything is made, names the extra that brings it

    paths, notes = episodes_to_export(job)
    plan = make_plan(paths, None if job.pictures == "image" else job.pictures)
    place.mkdir()
    build = _Build(place, job.version, plan)
    try:
        for path in track(paths, "episodes"):
            with EpisodeReader(path) as reader:
                build.add(reader)
        build.finish()
    finally:
        build.abandon()
    taught = (TAUGHT,) if build.hand_guided else ()
    return Converted(len(paths), build.num_frames, (*notes, *plan.notes, *taught))


class _Build:
    """A data set that grows by episodes."""

    def __init__(self, place: Path, version: Version, plan: Plan) -> None:
        self._place, self._version, self._plan = place, version, plan
        self._tables = TableFiles(place, version, plan)
        self._videos = {name: VideoFiles(place, version, name, plan) for name in plan.codecs}
        self._list = EpisodeTable(place, version, plan)
        self._notes = NoteTaker(place)
        self._stats: dict[str, list[Stats]] = {}
        self._tasks: dict[str, int] = {}
        self._num_episodes = 0
        self.num_frames = 0
        self.hand_guided = False

    def add(self, reader: EpisodeReader) -> None:
        """Append one episode."""
        count, episode = reader.num_ticks, self._num_episodes
        task = reader.instruction or reader.task
        columns: dict[str, np.ndarray | list[dict[str, object]]] = {}
        columns |= {key: table for key, table in numbers_of(reader).items() if key in self._plan.numbers}
        columns |= self._counters(count, self._tasks.setdefault(task, len(self._tasks)))
        stats = {key: number_stats(np.asarray(table)) for key, table in columns.items()}
        row: dict[str, Cell] = {"episode_index": episode, "tasks": [task], "length": count}
        for name in self._plan.pictures:
            key = layout.picture_key(name)
            frames = reader.pictures(name, slice(0, count))
            if name in self._videos:
                stats[key] = picture_stats(self._videos[name].add(episode, frames))
                row |= self._videos[name].row(count)
            else:
                stats[key] = picture_stats(frames)
                columns[key] = list(_stored(reader, name))
        position = self._tables.add(episode, columns)
        row |= {"data/chunk_index": position.chunk, "data/file_index": position.file}
        row |= {"dataset_from_index": self.num_frames, "dataset_to_index": self.num_frames + count}
        known = {key: part for key, part in stats.items() if part is not None}
        self._list.add(row, known)
        for key, part in known.items():
            self._stats.setdefault(key, []).append(part)
        self._notes.add(reader)
        self._num_episodes += 1
        self.num_frames += count
        self.hand_guided |= reader.action_source != "command"

    def finish(self) -> None:
        """Write what is known at the end."""
        self._tables.close()
        self._list.close()
        for videos in self._videos.values():
            videos.close()
        write_tasks(self._place, self._version, list(self._tasks))
        layout.write_json(
            self._place / layout.STATS, as_lists({key: merge(parts) for key, parts in self._stats.items()})
        )
        counts = {
            "total_episodes": self._num_episodes,
            "total_frames": self.num_frames,
            "total_tasks": len(self._tasks),
        }
        write_info(self._place, self._version, self._plan, counts)
        self._notes.write()

    def abandon(self) -> None:
        """Stop encoders that a failure has left open: their folder is being removed."""
        for videos in self._videos.values():
            videos.abandon()

    def _counters(self, count: int, task: int) -> dict[str, np.ndarray]:
        rows = np.arange(count)
        return {
            "timestamp": (rows / self._plan.fps).astype(np.float32),
            "frame_index": rows,
            "episode_index": np.full(count, self._num_episodes),
            "index": self.num_frames + rows,
            "task_index": np.full(count, task),
        }


def _stored(reader: EpisodeReader, name: str) -> Iterator[dict[str, object]]:
    """Yield each picture as it was recorded, in the words of LeRobot's tables."""
    for tick in range(reader.num_ticks):
        data = reader.image_bytes(name, tick).tobytes()
        suffix = "jpg" if data[:2] == b"\xff\xd8" else "png"
        yield {"bytes": data, "path": f"frame-{tick:06d}.{suffix}"}
