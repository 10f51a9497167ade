"""Write one episode: a `.part` file that a kill leaves readable, renamed when it is complete.

One thread owns a writer. Rows go to the file in blocks of at most `FLUSH_NS`, so a kill at any
instant costs less than half a second; `recover` then finishes the file.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.annotated import write_failures
from tacit.episode.columns import Table, set_attributes
from tacit.episode.commit import TICKS, CommitMark
from tacit.episode.files import episode_number, move_to_trash, next_episode_path, part_path, rename_new
from tacit.episode.finish import content_sha256, write_derived
from tacit.episode.layout import root_attributes, write_static
from tacit.episode.native import EventTable, NativeStream
from tacit.episode.reserve import Reserve
from tacit.episode.rows import TickRows
from tacit.episode.steps import Step
from tacit.errors import EpisodeError, did_you_mean
from tacit.rig import CommandSpec, Rig, StreamSpec, TaxelSpec
from tacit.streams import Tick
from tacit.streams.counts import GAP_PERIODS, StreamCounts

FLUSH_NS = 250_000_000
"""Flush interval: below the promised 0.5 s by a tick and a slow flush on a loaded machine."""
SYNC_NS = 1_000_000_000


class EpisodeWriter:
    """Writes `episode_<n>.hdf5` (schema `tacit-episode` 1.0).

    Args:
        path: Root of the data set (the file becomes `<root>/<task>/episode_<n>.hdf5`), or a path
            that ends in `.hdf5`.
        rig: The robot that is recorded.
        task: Identifier of the task; a plain name.
        instruction: What a person would say to have it done.
        sim: Recorded in simulation.
        session_id: Names a recording session.
        operator: Who demonstrated.
        started_ns: ROS time of the start; the first tick where it is None.
        references: Per touch sensor what it says without contact: image (H, W, 3) RGB uint8 of a gel, offset
            (R, C, K) of taxels.
        metadata: Further root attributes (`host`, `ros_distro`, `rmw`, `git_commit`, `task_json`, ...).
        sync: Call fsync each second (a simulator that can repeat its episode needs none).

    Raises:
        EpisodeError: The file exists, cannot be made, or an argument is wrong.
    """

    def __init__(
        self,
        path: str | Path,
        rig: Rig,
        *,
        task: str,
        instruction: str = "",
        sim: bool = False,
        session_id: str = "",
        operator: str = "",
        started_ns: int | None = None,
        references: Mapping[str, np.ndarray] | None = None,
        metadata: Mapping[str, str | int | float | bool] | None = None,
        sync: bool = True,
    ) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".hdf5" else next_episode_path(path, task)
        self.part = part_path(self.path)
        self.rig = rig
        self.num_ticks = 0
        self._sync = sync
        self._started_ns = started_ns
        self._last_tick_ns = 0
        self._flushed_at: int | None = None
        self._synced_at = 0
        for name, reference in (references or {}).items():
            _check_reference(rig, name, reference)
        self._file = self._create()
        self._reserve = Reserve(self._file)
        attributes = root_attributes(rig) | {
            "task": task,
            "language_instruction": instruction,
            "sim": sim,
            "session_id": session_id,
            "operator": operator,
            "episode_index": max(episode_number(self.path), 0),
            "episode_uuid": str(uuid.uuid4()),
            "wall_start_iso": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "clock_domain": "sim" if sim else "system",
            "success": np.int8(-1),
            "outcome": "",
            "task_json": "{}",
        }
        with self._disk_errors():
            set_attributes(self._file, attributes | dict(metadata or {}))
            write_static(self._file, rig, references or {})
            self._rows = TickRows(self._file, rig)
            low_dim: dict[str, StreamSpec | CommandSpec | TaxelSpec]
            low_dim = {**rig.streams, **rig.taxels, **rig.commands}
            self._streams = {name: NativeStream(self._file, name, spec) for name, spec in low_dim.items()}
            self._events = EventTable(self._file)
            self._tables: dict[str, Table] = {
                TICKS: self._rows,
                **{f"streams/{name}": stream for name, stream in self._streams.items()},
                "events": self._events,
            }
            self._mark = CommitMark(self._file, list(self._tables))
            self._file.flush()

    def append(self, tick: Tick, now_ns: int | None = None) -> None:
        """Take one tick; camera and tactile values are encoded images, 1-D uint8.

        Args:
            tick: From the aligner; state and command values in canonical units (rad, m), in the
                order of their stream's `names`.
            now_ns: Any monotonic clock; it then drives the flushes instead of the stamps.

        Raises:
            EpisodeError: The tick is not after the last one, lacks a state or command stream, holds
                values of a wrong shape, or the disk is full.
        """
        if tick.stamp_ns <= self._last_tick_ns:
            raise EpisodeError(
                f"{self.part.name}: tick at {tick.stamp_ns} ns is not after the last one at "
                f"{self._last_tick_ns} ns; ticks of one aligner always increase"
            )
        self._require_open()
        self._rows.append(tick)
        self._note_gap(tick.stamp_ns)
        self._last_tick_ns = tick.stamp_ns
        if self._started_ns is None:
            self._started_ns = tick.stamp_ns
        self.num_ticks += 1
        self.flush_if_due(tick.stamp_ns if now_ns is None else now_ns)

    def append_stream(self, name: str, stamp_ns: int, recv_ns: int, values: object) -> None:
        """Take one message of a low-dimensional stream or command at its native rate.

        Args:
            name: Stream or command of the rig.
            stamp_ns: Stamp of its header.
            recv_ns: Time of reception.
            values: Array (n,) in canonical units, a reading of taxels (R, C, K), or a mapping with
                position, velocity, effort.

        Raises:
            EpisodeError: Unknown stream, or a wrong shape.
        """
        if name not in self._streams:
            raise EpisodeError(f"stream {name!r} is not low-dimensional; {did_you_mean(name, self._streams)}")
        self._streams[name].append(stamp_ns, recv_ns, values)

    def event(self, stamp_ns: int, kind: str, data: object = None) -> None:
        """Note an event (mark, gap, loss, e-stop); `data` is anything JSON can hold."""
        self._events.append(stamp_ns, kind, data)

    def flush_if_due(self, now_ns: int) -> None:
        """Flush when the last flush is `FLUSH_NS` ago; call it by a timer where ticks may stop."""
        if self._flushed_at is None:
            self._flushed_at = self._synced_at = now_ns
        if now_ns - self._flushed_at >= FLUSH_NS:
            self._flushed_at = now_ns
            self.flush(sync=now_ns - self._synced_at >= SYNC_NS)
            if now_ns - self._synced_at >= SYNC_NS:
                self._synced_at = now_ns

    def flush(self, sync: bool = False) -> None:
        """Bring all rows to the file; with `sync` also to the disk (against power loss).

        Raises:
            EpisodeError: The disk is full; what was flushed before stays recoverable.
        """
        self._require_open()
        self._reserve.take(self._rows.pending_bytes)
        with self._disk_errors():
            self._write_pending()
            self._mark.write({name: table.num_rows for name, table in self._tables.items()})
            self._file.flush()
            if sync and self._sync:
                os.fsync(self._file.id.get_vfd_handle())
        self._reserve.take()

    def close(
        self,
        success: bool | None,
        *,
        outcome: str = "",
        reason: str = "stopped",
        counts: Mapping[str, StreamCounts] | None = None,
        failures: Sequence[Step] = (),
    ) -> Path:
        """Finish the file and give it its name.

        Args:
            success: Whether the task was done; None when nobody said.
            outcome: A word on how it ended.
            reason: Why recording ended: stopped, timeout, error or estop (the last two: `aborted`).
            counts: Counts of the aligner; without them they are taken from the stored stamps.
            failures: What went wrong, by kind and ticks, where somebody knows.

        Returns:
            The path of the finished episode.

        Raises:
            EpisodeError: There is no tick (use `discard`), or the disk is full.
        """
        if reason not in schema.REASONS:
            raise EpisodeError(f"termination reason {reason!r}; {did_you_mean(reason, schema.REASONS)}")
        if self.num_ticks == 0:
            raise EpisodeError(
                f"{self.part}: no tick was recorded, so there is no episode to keep; discard it and check "
                "that every required stream of the rig is published"
            )
        with contextlib.suppress(EpisodeError):  # full: the margin still holds what is pending
            self._reserve.take()
        with self._disk_errors():
            self._write_pending()
            self._finish(success, outcome, reason, counts, failures)
            self._file.flush()
            self._reserve.release()
            if self._sync:
                os.fsync(self._file.id.get_vfd_handle())
            self._file.close()
        self.path = rename_new(self.part, self.path)
        return self.path

    def discard(self) -> Path:
        """Close the file and move it to `trash/`, where it is kept as `episode_<n>.hdf5.trashed`."""
        with contextlib.suppress(EpisodeError):  # a full disk must not keep a bad take from the trash
            if self._file:
                self.flush()
                self._reserve.release()
        self._file.close()
        return move_to_trash(self.part)

    def _note_gap(self, stamp_ns: int) -> None:
        """Lost reference frames leave an event, so that checks know the hole for what it is."""
        interval_ns = stamp_ns - self._last_tick_ns
        if self.num_ticks and interval_ns > GAP_PERIODS * 1e9 / self.rig.alignment.rate_hz:
            self.event(stamp_ns, "gap", {"stream": "ticks", "ms": interval_ns / 1e6})

    def _write_pending(self) -> None:
        for table in self._tables.values():
            table.flush()
        self._file.flush()

    def _finish(
        self,
        success: bool | None,
        outcome: str,
        reason: str,
        counts: Mapping[str, StreamCounts] | None,
        failures: Sequence[Step],
    ) -> None:
        write_derived(self._file, counts)
        if failures:
            write_failures(self._file, failures)
        columns = [column for table in self._tables.values() for column in table.columns.values()]
        digests = {column.path: column.digest() for column in columns}
        attributes = {
            "state": schema.ABORTED if reason in schema.ABORTING_REASONS else schema.COMPLETE,
            "termination_reason": reason,
            "success": np.int8(-1 if success is None else success),
            "outcome": outcome,
            "num_ticks": np.int64(self.num_ticks),
            "started_ns": np.int64(self._started_ns or 0),
            "ended_ns": np.int64(self._last_tick_ns),
            "content_sha256": content_sha256(self._file, digests),
        }
        set_attributes(self._file, attributes)

    def _create(self) -> h5py.File:
        if self.path.exists():
            raise EpisodeError(f"{self.path}: exists and is never overwritten; choose another name")
        if self.part.exists():
            raise EpisodeError(
                f"{self.part}: a recording of this name is in progress or was interrupted; "
                "run `tacit recover` on it first"
            )
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            return h5py.File(self.part, "x", rdcc_nbytes=schema.APPEND_CACHE)
        except OSError as problem:
            raise EpisodeError(f"{self.part}: cannot be created: {problem}") from None

    def _require_open(self) -> None:
        if not self._file:
            raise EpisodeError(f"{self.part}: the writer is closed; start a new episode")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn a failed write into an error that says what is safe; the file takes no more."""
        try:
            yield
        except (OSError, RuntimeError) as problem:  # h5py raises either, by the place of the failure
            self._reserve.detach()
            raise EpisodeError(
                f"{self.part}: writing failed after {self.num_ticks} ticks ({_short(problem)}); what was "
                "flushed before is on the disk: free some space, then run `tacit recover` on this file"
            ) from problem


def _check_reference(rig: Rig, name: str, reference: np.ndarray) -> None:
    if name not in rig.tactile:
        raise EpisodeError(f"reference of sensor {name!r}; {did_you_mean(name, rig.tactile)}")
    expected = rig.taxels[name].array.shape if name in rig.taxels else None
    if expected is not None and not (reference.shape == expected and np.isfinite(reference).all()):
        raise EpisodeError(
            f"reference of {name!r}: shape {reference.shape}, expected {expected} finite numbers"
        )


def _short(problem: OSError | RuntimeError) -> str:
    """The cause inside HDF5's long message."""
    text = str(problem)
    start = text.find("error message = '")
    return text[start:].split("'")[1] if start >= 0 else text
