"""Text files from outside (YAML, JSON, tables), read within limits: a small file must not cost a gigabyte.

Every YAML and JSON text of the house goes through `yaml_of` and `json_of`, every path that a file names
through `inside`. The limits stand here and nowhere else; each ends in an error that says which file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tacit.errors import ConfigError, TacitError

MAX_YAML_BYTES = 4 << 20
"""The largest shipped rig has 7 KB; ten thousand calibration samples have 2 MB."""
MAX_YAML_NODES = 150_000
"""Values in a YAML text, each alias counted as all that it stands for: ten aliases of ten aliases of ten
grow a few lines beyond any memory."""
MAX_YAML_DEPTH = 64
"""Lists in lists; what reads them calls itself once for each."""
MAX_JSON_BYTES = 6 << 20
"""A byte of JSON can cost thirty in memory."""
MAX_TABLE_BYTES = 64 << 20
"""Tables and lists that are read row by row."""
MAX_URDF_BYTES = 4 << 20
"""The longest of 389 public URDFs has 150 KB."""
NOTE_LENGTH = 200

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml was built in


def read_text(path: str | Path, limit: int, what: str = "text", error: type[TacitError] = ConfigError) -> str:
    """Return the text of a regular file; a byte order mark is left out.

    Args:
        path: The file.
        limit: Largest size [bytes]; one of those above.
        what: What it should be, for messages.
        error: The error class to raise.

    Raises:
        TacitError: Missing, no regular file, not readable, too large, or not UTF-8.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder, or a pipe that would be waited for
            raise error(f"{path}: not a regular file; give the path of a {what} file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{path}: no such file; give the path of a {what} file") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise error(f"{path}: cannot be read ({problem})") from None
    if len(data) > limit:
        raise error(f"{path}: larger than {limit >> 20} MB, the most that is read of a {what} file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not valid {what}: byte {problem.start} is not utf-8 text") from None


def yaml_of(text: str, source: str, error: type[TacitError] = ConfigError) -> object:
    """Return what a YAML text says, read by the safe loader.

    Args:
        text: The YAML.
        source: Where it comes from; starts every message.
        error: The error class to raise.

    Raises:
        TacitError: Not YAML, too large, too deep, or aliases that stand for too much.
    """
    if len(text) > MAX_YAML_BYTES:
        raise error(f"{source}: larger than {MAX_YAML_BYTES >> 20} MB, the most that is read of YAML")
    try:
        _weigh(text, source, error)
        loader = _Loader(text)  # a safe one in either case
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as problem:
        raise error(f"{source}: not valid YAML: {_note(problem)}") from None


def json_of(text: str, source: str, error: type[TacitError] = ConfigError) -> object:
    """Return what a JSON text says; arguments and errors as of `yaml_of`."""
    if len(text) > MAX_JSON_BYTES:
        raise error(f"{source}: larger than {MAX_JSON_BYTES >> 20} MB, the most that is read of JSON")
    try:
        return json.loads(text)
    except RecursionError:
        raise error(f"{source}: not valid JSON: nested too deeply") from None
    except ValueError as problem:
        raise error(f"{source}: not valid JSON: {_note(problem)}") from None


def yaml_mapping(text: str, source: str, error: type[TacitError] = ConfigError) -> dict[str, Any]:
    """Return the mapping that a YAML text is; anything else is an error, as in `yaml_of`."""
    return _mapping(yaml_of(text, source, error), source, error)


def json_mapping(text: str, source: str, error: type[TacitError] = ConfigError) -> dict[str, Any]:
    """Return the object that a JSON text is; anything else is an error, as in `json_of`."""
    return _mapping(json_of(text, source, error), source, error)


def json_list(text: str, source: str, error: type[TacitError] = ConfigError) -> list[Any]:
    """Return the list that a JSON text is; anything else is an error, as in `json_of`."""
    data = json_of(text, source, error)
    if not isinstance(data, list):
        raise error(f"{source}: expected a list, found {type(data).__name__}")
    return data


def inside(folder: str | Path, name: str, source: str, error: type[TacitError] = ConfigError) -> Path:
    """Return the path of a file that another file names; it must lie in that file's folder.

    What comes from elsewhere may not choose what is read here: neither `..`, an absolute path to another
    place nor a symbolic link leads out. An absolute path into the folder is as good as a relative one.

    Args:
        folder: Where the naming file lies.
        name: What it says.
        source: File and key path, for messages.
        error: The error class to raise.

    Raises:
        TacitError: It leads out of the folder, whether or not there is such a file.
    """
    base, path = Path(folder), Path(folder) / name
    try:
        is_inside = path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a NUL
        is_inside = False
    if not is_inside:
        raise error(
            f"{source}: {name[:NOTE_LENGTH]!r} leads out of the folder {str(base)!r}; put a copy of the file "
            "there and give its path relative to it"
        )
    return path


def _mapping(data: object, source: str, error: type[TacitError]) -> dict[str, Any]:
    if not isinstance(data, dict):
        found = type(data).__name__
        raise error(f"{source}: expected a mapping (an object) at the top of the file, found {found}")
    return data


def _weigh(text: str, source: str, error: type[TacitError]) -> None:
    """Refuse a YAML text that is deep, or that its aliases make large, before anything of it is built."""
    sizes: dict[str, int] = {}
    total = 0
    opened: list[tuple[str, int]] = []
    for event in yaml.parse(text, Loader=_Loader):
        anchor = str(getattr(event, "anchor", None) or "")
        if isinstance(event, yaml.AliasEvent):
            if any(name == anchor for name, _ in opened):
                raise error(f"{source}: an alias stands inside what it names; write it out")
            total += sizes.get(anchor, 1)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            opened.append((anchor, total))
            total += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            name, before = opened.pop()
            if name:
                sizes[name] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
        if total > MAX_YAML_NODES:
            raise error(f"{source}: stands for more than {MAX_YAML_NODES} values; write out what is needed")
        if len(opened) > MAX_YAML_DEPTH:
            raise error(f"{source}: nested deeper than {MAX_YAML_DEPTH} levels")


def _note(problem: Exception) -> str:
    """Return what a parser says, on one short line."""
    return " ".join(str(problem).split())[:NOTE_LENGTH]
