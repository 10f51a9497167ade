"""Turn a tick into the rows of an episode: images, joints, action, stamps, and where touch is seen."""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.columns import Table
from tacit.episode.layout import create_columns, image_path, located
from tacit.errors import EpisodeError
from tacit.images.depth import is_depth_png
from tacit.rig import CommandSpec, Rig, StreamSpec, is_depth
from tacit.rig.scene import RigGeometry
from tacit.streams import Sample, Tick

ABSENT = Sample(None, 0, 0, -1, False)
"""Stands for an optional stream that has not been seen yet."""


class TickRows(Table):
    """The per-tick datasets of an episode; columns are called by their paths.

    Attributes:
        pending_bytes: Encoded images that `flush` will write.
    """

    def __init__(self, file: h5py.File, rig: Rig) -> None:
        super().__init__(create_columns(file, rig))
        self._rig = rig
        self._geometry = RigGeometry(rig)
        self._states = {name: rig.index_of(spec.names) for name, spec in rig.states.items()}
        self._commands = {name: rig.index_of(spec.names) for name, spec in rig.commands.items()}
        self._step_stream = next((n for n, s in rig.streams.items() if s.role == "steps"), None)
        self._extras = [name for name, spec in rig.streams.items() if spec.role in schema.EXTRA_ROLES]
        self._images, self._taxels = rig.images, rig.taxels
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
        row: dict[str, object] = {
            schema.TICK_NS: tick.stamp_ns,
            schema.QPOS: qpos,
            schema.ACTION: self._gather(samples, self._commands, "command", measured=qpos),
        }
        images = {image_path(self._rig, name): self._image(samples, name) for name in self._images}
        row |= images
        row |= {f"{schema.TAXELS}/{name}": self._reading(samples, name) for name in self._taxels}
        row |= {f"observations/extra/{name}": self._extra(samples, name) for name in self._extras}
        if self._step_stream is not None:
            row[schema.STEP_INDEX] = _step_index(samples.get(self._step_stream))
        for name in self._rig.specs:
            sample = samples.get(name, ABSENT)
            row |= {f"timestamps/{name}/{field}": getattr(sample, field) for field in schema.STAMP_FIELDS}
        self.append_row(row)
        self.pending_bytes += sum(len(data) for data in images.values())
        self._pending.append((qpos, all(samples[name].fresh for name in self._states)))

    def flush(self) -> None:
        """Compute the geometry of the ticks since the last flush, then write all columns.

        Poses and footprints are those of the joints as stored (f4), so a reader can recompute them.
        In blocks they cost a tenth of what they cost tick by tick.
        """
        if self._pending:
            states = np.asarray([qpos for qpos, _ in self._pending], dtype=np.float64)
            fresh = np.asarray([fresh for _, fresh in self._pending])
            for path, rows in located(self._geometry, states, fresh).items():
                self.columns[path].extend(rows)
            self._pending.clear()
            self.pending_bytes = 0
        super().flush()

    def _gather(
        self,
        samples: Mapping[str, Sample],
        parts: Mapping[str, list[int]],
        label: str,
        measured: np.ndarray | None = None,
    ) -> np.ndarray:
        """Assemble a state vector (S,) f4 from its streams.

        Args:
            samples: What the tick holds.
            parts: Where the values of each stream stand in the vector.
            label: What the streams are, for messages.
            measured: The state (S,) that stands in for an optional command nobody has given yet: the arm
                was led by hand, so where it is, is where it was wanted.
        """
        row = np.empty(len(self._rig.state_names), dtype=np.float32)
        for name, indices in parts.items():
            if name not in samples and measured is not None and not self._spec(name).required:
                row[indices] = measured[indices]
                continue
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
            if self._images[name].required:
                raise EpisodeError(f"tick without image stream {name!r}; is it published?")
            return np.empty(0, dtype=np.uint8)
        data = np.asarray(sample.value)
        if data.ndim != 1 or data.dtype != np.uint8:
            raise EpisodeError(
                f"image stream {name!r}: found an array {data.shape} {data.dtype}, expected encoded bytes "
                "(1-D uint8): use tacit.images.encode_jpeg"
            )
        if is_depth(self._images[name]) and not is_depth_png(data):
            raise EpisodeError(
                f"depth stream {name!r}: expected a 16-bit grey PNG: use tacit.images.depth.encode_depth"
            )
        column = self.columns[image_path(self._rig, name)]
        if column.num_rows == 0:
            column.dataset.attrs["encoding"] = schema.image_format(data)
        return data

    def _reading(self, samples: Mapping[str, Sample], name: str) -> np.ndarray:
        """The reading of an array; NaN for an optional one that has not been seen."""
        spec = self._taxels[name]
        if name not in samples:
            if spec.required:
                raise EpisodeError(f"tick without touch stream {name!r}; is it published?")
            return np.full(spec.array.shape, np.nan, np.float32)
        value = np.asarray(samples[name].value, np.float32)
        if value.shape != spec.array.shape:
            raise EpisodeError(f"touch stream {name!r}: shape {value.shape}, expected {spec.array.shape}")
        return value

    def _extra(self, samples: Mapping[str, Sample], name: str) -> np.ndarray:
        width = len(self._rig.streams[name].names)
        if name not in samples:
            return np.full(width, np.nan, dtype=np.float32)
        return np.atleast_1d(np.asarray(samples[name].value, dtype=np.float32)).reshape(width)

    def _spec(self, name: str) -> StreamSpec | CommandSpec:
        return self._rig.streams.get(name) or self._rig.commands[name]


def _step_index(sample: Sample | None) -> int:
    """Index of the step in force; -1 before the first marker."""
    return -1 if sample is None else int(np.asarray(sample.value).reshape(-1)[0])
