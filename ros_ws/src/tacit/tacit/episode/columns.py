"""Growing datasets: rows collect in memory and go to the file in blocks, hashed on the way.

Resizes and writes cost the same in HDF5 whatever the number of rows, and an episode has some ninety
columns: so rows are written a flush interval at a time, and numbers as whole chunks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping

import h5py
import numpy as np

from tacit.episode import schema

AttributeValue = str | int | float | bool | np.ndarray | np.generic
Attributes = dict[str, AttributeValue]


class Column:
    """One dataset (N, ...) that grows along its first axis.

    Args:
        file: The open episode.
        path: Where the dataset is created.
        shape: Shape of one row.
        dtype: Stored type; `schema.VLEN_U1` for encoded images, `schema.TEXT` for strings.
        chunk: Rows per chunk.
        attributes: Written to the dataset.
    """

    def __init__(
        self,
        file: h5py.File,
        path: str,
        shape: tuple[int, ...] = (),
        dtype: object = np.int64,
        chunk: int = schema.LOW_DIM_CHUNK,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self.dataset = file.create_dataset(
            path, shape=(0, *shape), maxshape=(None, *shape), dtype=dtype, chunks=(chunk, *shape)
        )
        set_attributes(self.dataset, attributes or {})
        self.path = path
        self.num_rows = 0
        self._shape = shape
        self._objects = self.dataset.dtype.kind == "O"
        self._dtype = np.dtype(dtype)  # type: ignore[call-overload]
        self._rows: list[object] = []
        self._blocks: list[np.ndarray] = []  # rows that came before those in `_rows`
        self._written = 0
        self._chunk = np.zeros((chunk, *shape), self._dtype)  # the rows of the file's last chunk
        self._sha = hashlib.sha256()

    def append(self, row: object) -> None:
        """Take one row; it reaches the file with the next `flush`."""
        self._rows.append(row)
        self.num_rows += 1

    def extend(self, rows: np.ndarray) -> None:
        """Take several rows (N, ...)."""
        if self._rows:
            self._rows.extend(rows)
        else:
            self._blocks.append(rows)
        self.num_rows += len(rows)

    def flush(self) -> None:
        """Write the collected rows."""
        if self._written == self.num_rows:
            return
        rows, dtype = self._rows, self._dtype
        if self._objects:
            block = object_array(rows, dtype)
        else:
            parts = [*self._blocks, rows] if rows else self._blocks
            arrays = [np.asarray(part, dtype=dtype) for part in parts]
            block = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        self.dataset.id.set_extent((self.num_rows, *self._shape))
        if self._objects:
            write_rows(self.dataset.id, self._written, block)
        else:
            self._write_chunks(block)
        hash_rows(self._sha, block)
        self._written = self.num_rows
        self._rows.clear()
        self._blocks.clear()

    def _write_chunks(self, block: np.ndarray) -> None:
        """Write rows chunk by chunk, the last one anew with what it has gained.

        Half of the time of a write by rows, most of which goes into selections of a few numbers. A chunk
        that is written anew says the same of the rows it held: whatever cuts the write off, they stay.
        """
        size, start = len(self._chunk), self._written
        while len(block):
            place = start % size
            part, block = block[: size - place], block[size - place :]
            self._chunk[place : place + len(part)] = part
            self._chunk[place + len(part) :] = 0
            first = (start - place, *(0 for _ in self._shape))
            write_chunk(self.dataset.id, first, self._chunk)
            start += len(part)

    def digest(self) -> str:
        """Return the sha256 (hex) of all flushed rows."""
        return self._sha.hexdigest()


class Table:
    """Columns that grow together, a row at a time.

    Attributes:
        columns: By what `append_row` calls them; the first one says how many rows there are.
    """

    def __init__(self, columns: dict[str, Column]) -> None:
        self.columns = columns

    @property
    def num_rows(self) -> int:
        """Rows taken so far."""
        return next(iter(self.columns.values())).num_rows

    def append_row(self, row: Mapping[str, object]) -> None:
        """Take one value for each of the named columns."""
        for name, value in row.items():
            self.columns[name].append(value)

    def flush(self) -> None:
        """Write what has come since the last flush."""
        for column in self.columns.values():
            column.flush()


def object_array(rows: Iterable[object], dtype: object) -> np.ndarray:
    """Return a 1-D array of rows that may have equal lengths (numpy would make it 2-D).

    Args:
        rows: Byte arrays or strings.
        dtype: `schema.VLEN_U1` or `schema.TEXT`.
    """
    items = list(rows)
    array = np.empty(len(items), dtype=dtype)  # type: ignore[call-overload]
    for index, item in enumerate(items):
        array[index] = item
    return array


def write_rows(dataset: h5py.h5d.DatasetID, start: int, block: np.ndarray) -> None:
    """Write `block` at rows `start`...; by the low level, for h5py's slices would turn images of
    equal length into a 2-D array, and cost three times as much."""
    target = dataset.get_space()
    target.select_hyperslab((start, *(0 for _ in block.shape[1:])), block.shape)
    source = h5py.h5s.create_simple(block.shape)
    of = None if block.dtype.kind == "O" else _memory_type(block.dtype)
    dataset.write(source, target, np.ascontiguousarray(block), of)


def write_chunk(dataset: h5py.h5d.DatasetID, first: tuple[int, ...], chunk: np.ndarray) -> None:
    """Write a whole chunk as it lies in memory, past HDF5's conversions; `first` is its first element."""
    dataset.write_direct_chunk(first, chunk)


@functools.cache
def _memory_type(dtype: np.dtype) -> h5py.h5t.TypeID:
    """Made once per type: made anew it costs as much as the write. Not for objects, which compare equal
    whatever they hold."""
    return h5py.h5t.py_create(dtype)


def hash_rows(sha: hashlib._Hash, block: np.ndarray) -> None:
    """Add rows to a content hash: raw little-endian bytes; elements of variable length carry theirs."""
    if block.dtype.kind != "O":
        sha.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        return
    for item in block:
        data = item.encode() if isinstance(item, str) else memoryview(item)  # of bytes
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)


def set_attributes(target: h5py.HLObject, attributes: Mapping[str, AttributeValue]) -> None:
    """Write attributes; texts as variable-length strings (fixed ones fail above 64 KB)."""
    for name, value in attributes.items():
        target.attrs[name] = value


def datasets(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield (path, dataset) of everything below `group`; a hard link counts under each of its names."""
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from datasets(item, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", item
