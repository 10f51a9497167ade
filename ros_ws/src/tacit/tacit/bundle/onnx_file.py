"""An ONNX file seen from outside: its metadata and the digest of its graph, without `onnx`.

`ModelProto` is read one level deep (fields and lengths only), so a manifest can be judged before
any byte reaches the inference engine; `bundle` stands on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from tacit.errors import BundleError

METADATA_FIELD = 14
"""`metadata_props` of ModelProto in onnx.proto: repeated StringStringEntryProto {key = 1, value = 2}."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf that ModelProto may hold."""

MAX_VARINT_BYTES = 10


class ProtoField(NamedTuple):
    """One field of a protobuf message: number, whole extent and extent of the payload, in bytes."""

    number: int
    start: int
    end: int
    value_start: int


def read_metadata(model_bytes: bytes) -> dict[str, str]:
    """Return the metadata map of a serialised ONNX model.

    Raises:
        BundleError: The bytes are not a protobuf message, or a key appears twice.
    """
    metadata: dict[str, str] = {}
    for field in _fields(model_bytes, "model"):
        if field.number == METADATA_FIELD:
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
    return hashlib.sha256(without_metadata(model_bytes)).hexdigest()


def _entry(data: bytes) -> tuple[str, str]:
    values = {field.number: data[field.value_start : field.end] for field in _fields(data, "metadata")}
    try:
        return values.get(1, b"").decode(), values.get(2, b"").decode()
    except UnicodeDecodeError:
        raise BundleError("ONNX metadata: an entry is not UTF-8 text; the file is damaged") from None


def _fields(data: bytes, what: str) -> Iterator[ProtoField]:
    """Walk the top level of a protobuf message."""
    position = 0
    while position < len(data):
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


def _varint(data: bytes, position: int, what: str) -> tuple[int, int]:
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
