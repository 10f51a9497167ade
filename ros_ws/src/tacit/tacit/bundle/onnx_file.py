"""An ONNX file seen from outside: its metadata and the digest of its graph, without `onnx`.

`ModelProto` is read one level deep (fields and lengths only), so a manifest can be judged before
any byte reaches the inference engine; `bundle` stands on it.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tacit.errors import BundleError

METADATA_FIELD = 14
"""`metadata_props` of ModelProto in onnx.proto: repeated StringStringEntryProto {key = 1, value = 2}."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf that ModelProto may hold."""

MAX_VARINT_BYTES = 10
MAX_MODEL_BYTES = 1 << 31
"""A protobuf message cannot be longer."""
MAX_FIELDS = 10_000
"""A model has a field for each operator set, metadata entry and local function: tens, seldom hundreds."""
MAX_ENTRY_BYTES = 4 << 20
"""One metadata entry."""


def check_file(path: Path) -> int:
    """Return the size of an ONNX file [bytes], before any of it is read.

    Raises:
        BundleError: There is no such file, or it is larger than any model.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such bundle; give the path of an exported .onnx file")
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise BundleError(f"{path}: {size >> 20} MB; an ONNX file has less than {MAX_MODEL_BYTES >> 20} MB")
    return size


class ProtoField(NamedTuple):
    """One field of a protobuf message: number, whole extent and extent of the payload, in bytes."""

    number: int
    start: int
    end: int
    value_start: int


def read_metadata(model_bytes: bytes | mmap.mmap) -> dict[str, str]:
    """Return the metadata map of a serialised ONNX model.

    Raises:
        BundleError: The bytes are not a protobuf message, or a key appears twice.
    """
    metadata: dict[str, str] = {}
    for field in _fields(model_bytes, "model"):
        if field.number == METADATA_FIELD:
            if field.end - field.value_start > MAX_ENTRY_BYTES:
                raise BundleError(f"ONNX metadata: an entry of more than {MAX_ENTRY_BYTES >> 20} MB")
            key, value = _entry(model_bytes[field.value_start : field.end])
            if key in metadata:
                raise BundleError(f"ONNX metadata: key {key!r} appears twice; export the bundle again")
            metadata[key] = value
    return metadata


def without_metadata(model_bytes: bytes) -> bytes:
    """Return the model with its metadata map removed and every other byte kept, in order."""
    kept = [
        model_bytes[field.start : field.end]
        for field in _fields(model_bytes, "model")
        if field.number != METADATA_FIELD
    ]
    return b"".join(kept)


def with_metadata(model_bytes: bytes, metadata: dict[str, str]) -> bytes:
    """Return the model with `metadata` as its whole metadata map, appended at its end."""
    parts = [without_metadata(model_bytes)]
    for key, value in metadata.items():
        entry = _bytes_field(1, key.encode()) + _bytes_field(2, value.encode())
        parts.append(_bytes_field(METADATA_FIELD, entry))
    return b"".join(parts)


def graph_sha256(model_bytes: bytes) -> str:
    """Return sha256 (hex) of everything but the metadata map: graph, weights and operator sets."""
    sha, whole = hashlib.sha256(), memoryview(model_bytes)
    for field in _fields(model_bytes, "model"):
        if field.number != METADATA_FIELD:
            sha.update(whole[field.start : field.end])
    return sha.hexdigest()


def _entry(data: bytes) -> tuple[str, str]:
    values = {field.number: data[field.value_start : field.end] for field in _fields(data, "metadata")}
    try:
        return values.get(1, b"").decode(), values.get(2, b"").decode()
    except UnicodeDecodeError:
        raise BundleError("ONNX metadata: an entry is not UTF-8 text; the file is damaged") from None


def _fields(data: bytes | mmap.mmap, what: str) -> Iterator[ProtoField]:
    """Walk the top level of a protobuf message."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise BundleError(f"ONNX {what}: more than {MAX_FIELDS} fields; no exporter writes that")
        start = position
        tag, position = _varint(data, position, what)
        wire_type, length = tag & 7, 0
        if wire_type == VARINT:
            value_start = position
            _, position = _varint(data, position, what)
        elif wire_type in (FIXED64, BYTES, FIXED32):
            if wire_type == BYTES:
                length, position = _varint(data, position, what)
            value_start = position
            position += {FIXED64: 8, FIXED32: 4, BYTES: length}[wire_type]
        else:
            raise _not_onnx(what)
        if position > len(data) or tag >> 3 == 0:
            raise _not_onnx(what)
        yield ProtoField(tag >> 3, start, position, value_start)


def _varint(data: bytes | mmap.mmap, position: int, what: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise _not_onnx(what)


def _bytes_field(number: int, payload: bytes) -> bytes:
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(payload)) + payload


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _not_onnx(what: str) -> BundleError:
    return BundleError(f"ONNX {what}: not a protobuf message; the file is cut off or is not an ONNX file")
