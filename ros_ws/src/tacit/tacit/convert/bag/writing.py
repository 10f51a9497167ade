"""Our episodes as ROS 2 bags in MCAP: one folder for each, which Foxglove and `ros2 bag` open."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tacit.convert.bag.contents import entries_of
from tacit.convert.bag.messages import Messages
from tacit.convert.job import Converted, Export, Track, episodes_to_export
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError

BAG_VERSION: Literal[8] = 8
"""Of the metadata: read since ROS 2 Iron."""
LABELS, RIG = "tacit_labels", "tacit_rig"
"""What of an episode is in no message goes along in the metadata of the bag, under these keys."""


@dataclass(frozen=True, kw_only=True)
class Writing(Export):
    """Write episodes as MCAP, to look at in Foxglove or to play with `ros2 bag`.

    Example: tacit convert data/place_cube data/bags --to rosbag2
    """


def write(job: Writing, place: Path, track: Track) -> Converted:
    """Write every episode of the job as `<task>/episode_<n>/`."""
    paths, notes = episodes_to_export(job)
    messages, frames = Messages(), 0
    for number, path in enumerate(track(paths, "episodes")):
        with EpisodeReader(path) as reader:
            if reader.is_foreign:
                raise EpisodeError(f"{path}: is no episode of tacit; convert it to one first")
            write_bag(place / (reader.task or "task") / f"episode_{number}", reader, messages)
            frames += reader.num_ticks
    return Converted(len(paths), frames, notes)


def write_bag(folder: Path, reader: EpisodeReader, messages: Messages) -> None:
    """Write one bag.

    Raises:
        OSError: The disk is full.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    labels = {name: reader.attribute(name) for name in ("task", "language_instruction", "success", "outcome")}
    with Writer(folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as bag:
        bag.set_custom_data(LABELS, json.dumps(labels))
        bag.set_custom_data(RIG, reader.rig.to_yaml())
        connections = {}
        for entry in entries_of(reader, messages):
            key = (entry.topic, entry.kind)
            if key not in connections:
                connections[key] = bag.add_connection(*key, typestore=messages.store)
            data = messages.store.serialize_cdr(entry.make(), entry.kind)
            bag.write(connections[key], entry.log_ns, data)
