"""Tables with lengths of their own: low-dimensional streams at their native rate, and events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.columns import AttributeValue, Column, set_attributes
from tacit.errors import EpisodeError
from tacit.rig import CommandSpec, StreamSpec

FIELDS = ("position", "velocity", "effort")


class NativeStream:
    """`/streams/<name>/`: stamp_ns, recv_ns and the values (N, n) f8 of one topic.

    JointState topics have `position` and, when the first message carries them, `velocity` and
    `effort`; other topics have `data`. Values are in canonical units, in the order of `spec.names`.
    """

    def __init__(self, file: h5py.File, name: str, spec: StreamSpec | CommandSpec) -> None:
        self._file = file
        self._name = name
        # a step marker is one index into its names
        self._width = 1 if getattr(spec, "role", "") == "steps" else len(spec.names)
        self._main = "position" if spec.type.endswith("JointState") else "data"
        self._stamp = Column(file, f"streams/{name}/stamp_ns", chunk=schema.STAMP_CHUNK)
        self._recv = Column(file, f"streams/{name}/recv_ns", chunk=schema.STAMP_CHUNK)
        self._values: dict[str, Column] = {self._main: self._column(self._main)}
        attributes: dict[str, AttributeValue] = {
            "topic": spec.topic,
            "type": spec.type,
            "qos": json.dumps(spec.qos.model_dump()),
            "expected_hz": float(spec.rate_hz),
            "latency_ms": float(spec.latency_ms),
            "names": json.dumps(spec.names),
        }
        set_attributes(file[f"streams/{name}"], attributes)

    def append(self, stamp_ns: int, recv_ns: int, values: object) -> None:
        """Take one message: an array (n,), a number, or a mapping of field to array.

        Raises:
            EpisodeError: Wrong length, or the main field is missing.
        """
        fields = values if isinstance(values, Mapping) else {self._main: values}
        if self._main not in fields:
            raise EpisodeError(f"stream {self._name}: message without {self._main!r}")
        if self._stamp.num_rows == 0:
            for field in set(fields) & set(FIELDS) - set(self._values):
                self._values[field] = self._column(field)
        rows = {field: self._row(fields.get(field)) for field in self._values}
        self._stamp.append(stamp_ns)
        self._recv.append(recv_ns)
        for field, row in rows.items():
            self._values[field].append(row)

    @property
    def num_rows(self) -> int:
        """Rows taken so far."""
        return self._stamp.num_rows

    def flush(self) -> None:
        """Write what has come since the last flush."""
        for column in self.columns():
            column.flush()

    def columns(self) -> Iterable[Column]:
        """Yield the columns of the table."""
        return (self._stamp, self._recv, *self._values.values())

    def _column(self, field: str) -> Column:
        return Column(self._file, f"streams/{self._name}/{field}", (self._width,), np.float64)

    def _row(self, values: object) -> np.ndarray:
        """A message that lacks an optional field gets NaN there: absent is not zero."""
        if values is None:
            return np.full(self._width, np.nan)
        row = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if row.shape != (self._width,):
            raise EpisodeError(f"stream {self._name}: values of shape {row.shape}, expected ({self._width},)")
        return row


class EventTable:
    """`/events/`: stamp_ns, kind, data (JSON) of marks, gaps, losses and stops."""

    def __init__(self, file: h5py.File) -> None:
        self._stamp = Column(file, "events/stamp_ns", chunk=schema.STAMP_CHUNK)
        self._kind = Column(file, "events/kind", (), schema.TEXT, schema.VLEN_CHUNK)
        self._data = Column(file, "events/data", (), schema.TEXT, schema.VLEN_CHUNK)

    def append(self, stamp_ns: int, kind: str, data: object) -> None:
        """Take one event; `data` is anything JSON can hold."""
        self._stamp.append(stamp_ns)
        self._kind.append(kind)
        self._data.append(json.dumps(data))

    @property
    def num_rows(self) -> int:
        """Rows taken so far."""
        return self._stamp.num_rows

    def flush(self) -> None:
        """Write what has come since the last flush."""
        for column in self.columns():
            column.flush()

    def columns(self) -> Iterable[Column]:
        """Yield the columns of the table."""
        return (self._stamp, self._kind, self._data)
