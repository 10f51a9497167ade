"""Every key of a model's configuration, with its default and what it takes: for `train MODEL --help`."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

UNITS = {
    "_ms": "ms",
    "_ns": "ns",
    "_hz": "Hz",
    "_px": "px",
    "_deg": "deg",
    "_seconds": "s",
    "_s": "s",
    "_m": "m",
    "_gb": "GB",
    "fps": "Hz",
    "lr": "per step",
    "height": "px",
    "width": "px",
}
"""What a number is in, by the end of its key."""
BOUNDS = (("ge", ">= {}"), ("gt", "> {}"), ("le", "<= {}"), ("lt", "< {}"))
WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null"}


class Key(NamedTuple):
    """One thing that can be set: its path, default and values, as words."""

    path: str
    default: str
    values: str


class Group(NamedTuple):
    """The keys of one section, and what its class says of them."""

    name: str
    text: str
    keys: tuple[Key, ...]


def groups_of(model: type[BaseModel], prefix: str = "") -> Iterator[Group]:
    """Yield the sections of a configuration, from the top down."""
    keys, inner = [], []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            keys.append(Key(f"{prefix}{name}", _default(field), _values(name, field)))
        else:
            inner.append((name, section))
    text = " ".join((model.__doc__ or "").replace("`", "").split())
    yield Group(prefix.rstrip(".") or "the run", text, tuple(keys))
    for name, section in inner:
        yield from groups_of(section, f"{prefix}{name}.")


def _section(kind: Any) -> type[BaseModel] | None:
    """Return the model behind a type, where a field holds one, or may."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if typing.get_origin(kind) in (Union, UnionType):
        found = [_section(part) for part in typing.get_args(kind) if part is not NoneType]
        return found[0] if len(found) == 1 else None
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    text = "null" if value is None else str(list(value)) if isinstance(value, tuple) else str(value)
    return re.sub(r"\bTrue\b", "true", re.sub(r"\bFalse\b", "false", text))


def _values(name: str, field: FieldInfo) -> str:
    """Say which values a key takes, and in which unit."""
    said = _kind(field.annotation)
    limits = _limits(field.metadata)
    unit = next((f"[{unit}]" for end, unit in UNITS.items() if name == end or name.endswith(end)), "")
    is_number = "number" in said
    return " ".join((said, *limits, *((unit,) if unit and is_number else ())))


def _limits(marks: Iterable[object]) -> list[str]:
    """Return the bounds among the marks of a type, as words."""
    pairs = ((text, getattr(mark, sign, None)) for mark in marks for sign, text in BOUNDS)
    return [text.format(bound) for text, bound in pairs if bound is not None]


def _kind(kind: Any) -> str:
    """Return a type in plain words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        marks = [inner for mark in kind.__metadata__ for inner in getattr(mark, "metadata", None) or (mark,)]
        limits = _limits(marks)
        return " ".join((_kind(parts[0]), *limits))
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in parts))
    if origin in (tuple, list):
        return f"list of {' and '.join(dict.fromkeys(_kind(part) for part in parts if part is not Ellipsis))}"
    if origin is dict:
        return f"mapping to {_kind(parts[1])}"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)).lower())
