"""Turn a tick into the rows of an episode: images, joints, action, stamps, and where touch is seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tacit.episode import schema
from tacit.episode.columns import Column
from tacit.episode.layout import Columns
from tacit.errors import EpisodeError
from tacit.geometry.footprint import FRESH
from tacit.rig import CommandSpec, Rig, StreamSpec
from tacit.rig.scene import RigGeometry
from tacit.streams import Sample, Tick

ABSENT = Sample(None, 0, 0, -1, False)
"""Stands for an optional stream that has not been seen yet."""


class TickRows:
    """Appends ticks to the columns of an episode.

    Attributes:
        pending_bytes: Encoded images that `flush` will write.
    """

    def __init__(self, rig: Rig, columns: Columns) -> None:
        self.columns = columns
        self._rig = rig
        self._geometry = RigGeometry(rig)
        states = {name: spec for name, spec in rig.streams.items() if spec.role == "state"}
        self._states = {name: rig.index_of(spec.names) for name, spec in states.items()}
        self._commands = {name: rig.index_of(spec.names) for name, spec in rig.commands.items()}
        self._step_stream = next((n for n, s in rig.streams.items() if s.role == "steps"), None)
        self._sizes = {**rig.cameras, **rig.tactile}
        self._pending: list[tuple[np.ndarray, bool]] = []
        self.pending_bytes = 0

    def append(self, tick: Tick) -> None:
        """Append one tick to every column.

        Raises:
            EpisodeError: A state, command or image stream is missing or has the wrong shape; then
                no column has changed.
        """
        samples = tick.samples
        qpos = self._gather(samples, self._states, "state")
        action = self._gather(samples, self._commands, "command")
        images = {name: self._image(samples, name) for name in self._sizes}
        extra = {name: self._extra(samples, name) for name in self.columns.extra}
        self.columns.tick_ns.append(tick.stamp_ns)
        self.columns.qpos.append(qpos)
        self.columns.action.append(action)
        for name, row in {**images, **extra}.items():
            (self.columns.extra if name in extra else self.columns.images)[name].append(row)
        if self.columns.step_index is not None:
            self.columns.step_index.append(_step_index(samples.get(self._step_stream or "")))
        for name, columns in self.columns.timestamps.items():
            _append_stamps(columns, samples.get(name, ABSENT))
        self.pending_bytes += sum(len(data) for data in images.values())
        self._pending.append((qpos, all(samples[name].fresh for name in self._states)))

    def flush(self) -> None:
        """Compute the geometry of the ticks since the last flush, then write all columns.

        Poses and footprints are those of the joints as stored (f4), so a reader can recompute them.
        In blocks they cost a tenth of what they cost tick by tick.
        """
        if self._pending:
            states = np.asarray([qpos for qpos, _ in self._pending], dtype=np.float64)
            self._extend_geometry(states, np.asarray([fresh for _, fresh in self._pending]))
            self._pending.clear()
            self.pending_bytes = 0
        for column in self.columns.all():
            column.flush()

    def _extend_geometry(self, states: np.ndarray, fresh: np.ndarray) -> None:
        """Append poses and footprints for states (N, S); `fresh` (N,) says where joints are."""
        columns = self.columns
        for arm, poses in self._geometry.flange_poses(states).items():
            columns.ee_pose[arm].extend(poses)
        if columns.camera_pose:
            camera_poses = self._geometry.camera_poses(states)
            for name, column in columns.camera_pose.items():
                column.extend(camera_poses[name])
        for name, poses in self._geometry.sensor_poses(states).items():
            columns.sensor_pose[name].extend(poses)
        for pair, track in self._geometry.footprint_tracks(states).items():
            box, corners, visibility, flags = columns.footprints[pair]
            box.extend(track.box)
            corners.extend(track.corners)
            visibility.extend(track.visibility)
            flags.extend(track.flags | np.where(fresh, FRESH, 0))

    def _gather(
        self, samples: Mapping[str, Sample], parts: Mapping[str, list[int]], label: str
    ) -> np.ndarray:
        """Assemble a state vector (S,) f4 from its streams."""
        row = np.empty(len(self._rig.state_names), dtype=np.float32)
        for name, indices in parts.items():
            if name not in samples:
                raise EpisodeError(f"tick without {label} stream {name!r}; is it published?")
            value = np.atleast_1d(np.asarray(samples[name].value, dtype=np.float64))
            if value.shape != (len(indices),):
                expected = self._spec(name).names
                raise EpisodeError(
                    f"{label} stream {name!r}: values of shape {value.shape}, expected {expected}"
                )
            row[indices] = value
        return row

    def _image(self, samples: Mapping[str, Sample], name: str) -> np.ndarray:
        """The encoded image of a stream; empty bytes for an optional one that has not been seen."""
        sample = samples.get(name)
        if sample is None:
            if self._sizes[name].required:
                raise EpisodeError(f"tick without image stream {name!r}; is it published?")
            return np.empty(0, dtype=np.uint8)
        data = np.asarray(sample.value)
        if data.ndim != 1 or data.dtype != np.uint8:
            raise EpisodeError(
                f"image stream {name!r}: found an array {data.shape} {data.dtype}, expected encoded bytes "
                "(1-D uint8): use tacit.images.encode_jpeg"
            )
        column = self.columns.images[name]
        if column.num_rows == 0:
            column.dataset.attrs["encoding"] = schema.image_format(data)
        return data

    def _extra(self, samples: Mapping[str, Sample], name: str) -> np.ndarray:
        width = len(self._rig.streams[name].names)
        if name not in samples:
            return np.full(width, np.nan, dtype=np.float32)
        return np.atleast_1d(np.asarray(samples[name].value, dtype=np.float32)).reshape(width)

    def _spec(self, name: str) -> StreamSpec | CommandSpec:
        return self._rig.streams.get(name) or self._rig.commands[name]


def _append_stamps(columns: tuple[Column, Column, Column, Column], sample: Sample) -> None:
    stamp, recv, index, fresh = columns
    stamp.append(sample.stamp_ns)
    recv.append(sample.recv_ns)
    index.append(sample.index)
    fresh.append(sample.fresh)


def _step_index(sample: Sample | None) -> int:
    """Index of the step in force; -1 before the first marker."""
    return -1 if sample is None else int(np.asarray(sample.value).reshape(-1)[0])
