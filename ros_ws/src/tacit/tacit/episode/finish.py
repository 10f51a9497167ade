"""What is derived once an episode has all its ticks: steps, velocities, statistics, drops, content hash.

Shared by the writer and by recovery, so a recovered file is finished like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.annotated import read_sources, write_step_table
from tacit.episode.columns import datasets, hash_rows, set_attributes
from tacit.episode.steps import segments
from tacit.streams.counts import StreamCounts
from tacit.streams.interpolation import interpolate

HASH_BLOCK = 256


def write_derived(file: h5py.File, counts: Mapping[str, StreamCounts] | None = None) -> None:
    """Write everything that follows from the ticks and the native streams, but the content hash.

    Args:
        file: The episode with all its ticks.
        counts: Counts of the aligner; without them they are taken from the stored stamps.
    """
    write_steps(file)
    write_sources(file)
    write_action_source(file)
    write_joint_rates(file)
    write_statistics(file)
    write_drops(file, counts)


def write_steps(file: h5py.File) -> None:
    """Write `/annotations/steps` from the step index of each tick, where the rig has one."""
    if schema.STEP_INDEX not in file or schema.STEPS in file:
        return
    dataset = file[schema.STEP_INDEX]
    write_step_table(file, segments(dataset[:], schema.names_of(dataset)))


def write_sources(file: h5py.File) -> None:
    """Say on the column of who commanded which ticks were whose: a person's are corrections of a policy."""
    if schema.SOURCE_COLUMN in file:
        told = segments(read_sources(file), schema.SOURCES)
        set_attributes(file[schema.SOURCE_COLUMN], {schema.SEGMENTS: json.dumps(told)})


def write_action_source(file: h5py.File) -> None:
    """Say on `/action` where its values come from: `command`, `measured` (led by hand) or `mixed`."""
    action = file[schema.ACTION]
    commanded = [seen for _, seen in schema.commanded_rows(file)]
    if not commanded or all(seen.all() for seen in commanded):
        source = "command"
    else:
        source = "mixed" if any(seen.any() for seen in commanded) else "measured"
    set_attributes(action, {"action_source": source})


def write_joint_rates(file: h5py.File) -> None:
    """Write `/observations/qvel` and `/observations/effort` (T, S) f4, where any driver reports them.

    By the rule that gave qpos; NaN for joints whose driver is silent on it, and before its first sample.
    """
    names = schema.names_of(file[schema.QPOS])
    for field, path in (("velocity", schema.QVEL), ("effort", schema.EFFORT)):
        rates = np.full((len(file[schema.TICK_NS]), len(names)), np.nan, dtype=np.float32)
        for table in file.get("streams", {}).values():
            members = schema.names_of(table)
            if field in table and len(table[field]) and set(members) <= set(names):
                rates[:, [names.index(name) for name in members]] = _at_ticks(file, table, field)
        if np.isfinite(rates).any():
            dataset = file.create_dataset(path, data=rates)
            set_attributes(dataset, {"names": json.dumps(names), "source": f"streams, field {field}"})


def _at_ticks(file: h5py.File, table: h5py.Group, field: str) -> np.ndarray:
    """One field (T, n) of a native table at the ticks, as the aligner brought its positions there.

    Where it held a position it holds the rate too; `/timestamps/<stream>/fresh` flags both.
    """
    latency_ns = round(1e6 * float(table.attrs.get("latency_ms", 0.0)))
    period_ns = round(1e9 / float(table.attrs["expected_hz"]))
    stamps_ns = table["stamp_ns"][:] - latency_ns
    return interpolate(stamps_ns, table[field][:], file[schema.TICK_NS][:], period_ns).values


def statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean, std, min, max, q01, q99 over the rows (each (D,) f8) and count.

    Mean, std (population), min, max and count merge exactly over episodes without rereading.
    """
    values = np.asarray(values, dtype=np.float64)
    found = {name: getattr(values, name)(axis=0) for name in ("mean", "std", "min", "max")}
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    return found | {"q01": q01, "q99": q99, "count": np.int64(len(values))}


def write_statistics(file: h5py.File) -> None:
    """Write `/stats/action` and `/stats/qpos`."""
    for feature, path in (("action", schema.ACTION), ("qpos", schema.QPOS)):
        for name, value in statistics(file[path][:]).items():
            file.create_dataset(f"stats/{feature}/{name}", data=value)


def write_drops(file: h5py.File, counts: Mapping[str, StreamCounts] | None) -> None:
    """Write `/drops/<stream>`: the counts of the aligner, else what the stored stamps show."""
    if counts is None:
        counts = {name: counts_of_file(file, name) for name in file["timestamps"] if name != "tick_ns"}
    for name, count in counts.items():
        set_attributes(file.require_group(f"drops/{name}"), count.as_dict())


def counts_of_file(file: h5py.File, name: str) -> StreamCounts:
    """Count a stream from the file: its native table where there is one, else its ticks."""
    ticks = file[f"timestamps/{name}"]
    fresh = ticks["fresh"][:].astype(bool)
    table = file.get(f"streams/{name}")
    if table is not None and len(table["stamp_ns"]):
        stamps, received = table["stamp_ns"][:], table["recv_ns"][:]
        period_ns = round(1e9 / float(table.attrs["expected_hz"]))
    else:
        stamps, received = ticks["stamp_ns"][:][fresh], ticks["recv_ns"][:][fresh]
        period_ns = round(1e9 / float(file.attrs["fps"]))
    counts = StreamCounts(period_ns)
    for stamp_ns, recv_ns in zip(stamps.tolist(), received.tolist(), strict=True):
        if counts.last_ns is None or stamp_ns > counts.last_ns:
            counts.arrived(stamp_ns, recv_ns)
    skews = ticks["stamp_ns"][:] - file[schema.TICK_NS][:]
    for skew, is_fresh in zip(skews.tolist(), fresh.tolist(), strict=True):
        counts.used(skew, is_fresh)
    return counts


def content_sha256(file: h5py.File, digests: Mapping[str, str] | None = None) -> str:
    """Return the hash of an episode's contents.

    Recipe: every dataset except `/stats` and `/drops` is hashed on its own (raw little-endian
    bytes; encoded images and strings each preceded by their length, 8 bytes little-endian); the
    result is the sha256 of the lines "path digest", sorted. Attributes and file layout are left
    out, so a relabelled or repacked episode is still recognised.

    Args:
        file: The episode.
        digests: Digests already known by path (the writer hashes rows as it writes them).
    """
    known = digests or {}
    lines = [f"{path} {known.get(path) or _digest(file[path])}" for path in _hashed_paths(file)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _hashed_paths(file: h5py.File) -> Iterable[str]:
    """Yield dataset paths; a tactile stream counts once, at its own place and not at its link."""
    skipped = {f"{schema.IMAGES}/{name}" for name in file.get("tactile", ())}
    for path, _ in datasets(file):
        if path not in skipped and path.partition("/")[0] not in ("stats", "drops"):
            yield path


def _digest(dataset: h5py.Dataset) -> str:
    sha = hashlib.sha256()
    if dataset.shape == ():
        hash_rows(sha, np.asarray(dataset[()]))
        return sha.hexdigest()
    for start in range(0, dataset.shape[0], HASH_BLOCK):
        hash_rows(sha, dataset[start : start + HASH_BLOCK])
    return sha.hexdigest()
