"""Copy some rows of an episode: ticks together, native tables and events each on their own.

Recovery cuts what is not whole this way, editing what is not wanted. What follows from the rest (steps,
statistics, drops, content hash) is left out, for whoever copies writes it anew.
"""

from __future__ import annotations

from collections.abc import Callable

import h5py

from tacit.episode import schema
from tacit.episode.columns import write_rows
from tacit.episode.commit import ROWS, TABLES, TICKS
from tacit.episode.layout import link_tactile

BLOCK = 256
EVENTS = "events"

RowsOf = Callable[[str], slice]
"""Which rows of a table: `ticks`, `streams/<name>` or `events`; from one to another, without a step."""


def copy_excerpt(source: h5py.File, copy: h5py.File, rows_of: RowsOf) -> None:
    """Copy the chosen rows of every table, and all that is static.

    Args:
        source: An episode, finished or not.
        copy: A new file; or one that holds an excerpt already, to which the rows are appended.
        rows_of: The rows of each table.
    """
    _copy_group(source, copy, "", rows_of)
    if schema.IMAGES in copy:
        gels = [name for name in copy.get("tactile", ()) if f"observations/{name}" in copy]
        link_tactile(copy, [name for name in gels if f"{schema.IMAGES}/{name}" not in copy])


def table_of(path: str) -> str:
    """Return the table that the dataset at `path` belongs to; "" for what is static or derived."""
    axis = schema.axis_of(path)
    if axis == "tick":
        return TICKS
    if axis == "event":
        return EVENTS
    return "/".join(path.split("/")[:2]) if axis == "native" else ""


def _copy_group(source: h5py.Group, copy: h5py.Group, prefix: str, rows_of: RowsOf) -> None:
    for name, value in source.attrs.items():
        if name not in (ROWS, TABLES) and name not in copy.attrs:
            copy.attrs[name] = value
    for name in source:
        path = f"{prefix}{name}"
        item, axis = source[name], schema.axis_of(path)
        if axis == "derived" or _is_tactile_link(source.file, path):
            continue
        if isinstance(item, h5py.Group):
            _copy_group(item, copy.require_group(name), path + "/", rows_of)
        elif axis != "static":
            _append_rows(item, copy, name, rows_of(table_of(path)))
        elif name not in copy:
            source.copy(item, copy, name)


def _append_rows(source: h5py.Dataset, copy: h5py.Group, name: str, rows: slice) -> None:
    """Append rows to a dataset, made if need be."""
    if name not in copy:
        shape, limit = (0, *source.shape[1:]), (None, *source.shape[1:])
        chunks = source.chunks or True
        target = copy.create_dataset(name, shape, source.dtype, chunks=chunks, maxshape=limit)
        for key, value in source.attrs.items():
            target.attrs[key] = value
    target = copy[name]
    first, last, _ = rows.indices(len(source))
    written = len(target)
    target.resize(written + max(last - first, 0), axis=0)
    for start in range(first, last, BLOCK):
        block = source[start : min(start + BLOCK, last)]
        write_rows(target.id, written, block)
        written += len(block)


def _is_tactile_link(file: h5py.File, path: str) -> bool:
    return path.startswith(schema.IMAGES + "/") and path.rpartition("/")[2] in file.get("tactile", ())
