"""Tables with lengths of their own: low-dimensional streams at their native rate, and events."""

from __future__ import annotations

import json
from collections.abc import Mapping

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.columns import Column, Table, set_attributes
from tacit.errors import EpisodeError
from tacit.rig import CommandSpec, StreamSpec, TaxelSpec

FIELDS = ("position", "velocity", "effort")


class NativeStream(Table):
    """`/streams/<name>/`: stamp_ns, recv_ns and the values of one topic, (N, n) f8; of taxels
    (N, R, C, K) f4.

    JointState topics have `position` and, when the first message carries them, `velocity` and
    `effort`; other topics have `data`. Values are in canonical units, in the order of `spec.names`.
    """

    def __init__(self, file: h5py.File, name: str, spec: StreamSpec | CommandSpec | TaxelSpec) -> None:
        self._file, self._name = file, name
        self._dtype = np.float32 if isinstance(spec, TaxelSpec) else np.float64
        self._shape = _shape_of(spec)
        self._main = "position" if spec.type.endswith("JointState") else "data"
        self._fields = [self._main]
        group = f"streams/{name}"
        stamps = ("stamp_ns", "recv_ns")
        columns = {s: Column(file, f"{group}/{s}", chunk=schema.STAMP_CHUNK) for s in stamps}
        super().__init__(columns | {self._main: self._column(self._main)})
        set_attributes(
            file[group],
            {
                "topic": spec.topic,
                "type": spec.type,
                "qos": json.dumps(spec.qos.model_dump()),
                "expected_hz": float(spec.rate_hz),
                "latency_ms": float(spec.latency_ms),
                "names": json.dumps(getattr(spec, "names", ())),
            },
        )

    def append(self, stamp_ns: int, recv_ns: int, values: object) -> None:
        """Take one message: an array (n,), a number, or a mapping of field to array.

        Raises:
            EpisodeError: Wrong length, or the main field is missing.
        """
        given = values if isinstance(values, Mapping) else {self._main: values}
        if self._main not in given:
            raise EpisodeError(f"stream {self._name}: message without {self._main!r}")
        if self.num_rows == 0:  # only the first message decides what the topic reports
            for field in set(given) & set(FIELDS) - set(self._fields):
                self.columns[field] = self._column(field)
                self._fields.append(field)
        row = {field: self._row(given.get(field)) for field in self._fields}
        self.append_row({"stamp_ns": stamp_ns, "recv_ns": recv_ns, **row})

    def _column(self, field: str) -> Column:
        return Column(self._file, f"streams/{self._name}/{field}", self._shape, self._dtype)

    def _row(self, values: object) -> np.ndarray:
        """A message that lacks an optional field gets NaN there: absent is not zero."""
        if values is None:
            return np.full(self._shape, np.nan)
        row = np.atleast_1d(np.asarray(values, dtype=self._dtype))
        if row.shape != self._shape:
            raise EpisodeError(f"stream {self._name}: values of shape {row.shape}, expected {self._shape}")
        return row


def _shape_of(spec: StreamSpec | CommandSpec | TaxelSpec) -> tuple[int, ...]:
    if isinstance(spec, TaxelSpec):
        return spec.array.shape
    # a step marker is one index into its names
    return (1 if getattr(spec, "role", "") == "steps" else len(spec.names),)


class EventTable(Table):
    """`/events/`: stamp_ns, kind, data (JSON) of marks, gaps, losses and stops."""

    def __init__(self, file: h5py.File) -> None:
        texts = {s: Column(file, f"events/{s}", (), schema.TEXT, schema.VLEN_CHUNK) for s in ("kind", "data")}
        super().__init__({"stamp_ns": Column(file, "events/stamp_ns", chunk=schema.STAMP_CHUNK), **texts})

    def append(self, stamp_ns: int, kind: str, data: object) -> None:
        """Take one event; `data` is anything JSON can hold."""
        self.append_row({"stamp_ns": stamp_ns, "kind": kind, "data": json.dumps(data)})


def append_event(file: h5py.File, stamp_ns: int, kind: str, data: object) -> None:
    """Add one event to a file that has its table already, in the order of time."""
    table = file["events"]
    place = int(np.searchsorted(table["stamp_ns"][:], stamp_ns, side="right"))
    for name, value in (("stamp_ns", stamp_ns), ("kind", kind), ("data", json.dumps(data))):
        column = table[name]
        after = column[place:]
        column.resize(len(column) + 1, axis=0)
        column[place] = value
        column[place + 1 :] = after
