"""Words of the command line become options within bounds: a wrong number or place is refused before work.

A verb writes what a number may be, and what a path is for, beside its type: `episodes: Count = 60`,
`out: NewFile`. What says nothing is held to what a number of that kind can mean at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from tacit.errors import ConfigError

Options = TypeVar("Options")


@dataclass(frozen=True)
class Within:
    """What a number may be: `low` to `high`, or above `low` where `above` says so."""

    low: float
    high: float
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within; NaN never is."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return (
            f"above {self.low:g} and at most {self.high:g}"
            if self.above
            else f"{_plain(self.low)} to {_plain(self.high)}"
        )


@dataclass(frozen=True)
class Writes:
    """A path that will be made: a file or a folder."""

    kind: Literal["file", "folder"]

    def problem(self, path: Path) -> str:
        """Return why it cannot be made there, "" where it can."""
        if self.kind == "file" and path.is_dir():
            return "is a folder, expected the name of a file"
        if self.kind == "folder" and path.exists() and not path.is_dir():
            return "is a file, expected the name of a folder"
        if path.is_symlink() and not path.exists():
            return f"is a link to {os.readlink(path)}, which does not exist; remove the link"
        if path.exists() and not os.access(path, os.W_OK):
            return "may not be written by you; choose another place, or change its owner or mode"
        holder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
        if not holder.is_dir():
            return f"cannot be made, for {holder} is a file; give a name in a folder"
        if not path.exists() and not os.access(holder, os.W_OK):
            return f"cannot be made, for you may not write in {holder}; choose another place"
        return ""


MILLION = 1_000_000
Count = Annotated[int, Within(1, MILLION)]
"""At least one of something."""
CountOrNone = Annotated[int, Within(0, MILLION)]
"""How many; 0 leaves it out."""
Seed = Annotated[int, Within(0, 2**31 - 1)]
"""Where a random generator begins."""
Share = Annotated[float, Within(0, 1)]
"""A part of a whole."""
Seconds = Annotated[float, Within(0, 86_400, above=True)]
"""How long something may take [s], at most a day."""
Positive = Annotated[float, Within(0, 1e9, above=True)]
"""A size of something, in whatever unit its name says."""
Rate = Annotated[float, Within(0, 10_000, above=True)]
"""How often something comes [Hz]."""
NewFile = Annotated[Path, Writes("file")]
"""A file to write."""
NewFolder = Annotated[Path, Writes("folder")]
"""A folder to write in."""

WHOLE = Within(-(2**53), 2**53)
"""What an integer may be that says nothing of itself."""
REAL = Within(-1e12, 1e12)
"""What a real number may be that says nothing of itself: in SI units nothing here is larger."""
HELP_WORDS = ("-h", "--help")


def parse_words(options: type[Options], words: Sequence[str] | None, prog: str, **settings: Any) -> Options:
    """Return the options that words of the command line say.

    Args:
        options: Dataclass of the verb.
        words: What stands after the verb; the words of the process when None.
        prog: The verb, for messages: `tacit check`.
        settings: Further arguments of `tyro.cli`, such as `default`.

    Raises:
        ConfigError: A number is out of its bounds, or nothing can be written at a path.
        SystemExit: Unknown or missing words (2), or the help was asked for (0).
    """
    return parse_known_words(options, words, prog, known_only=True, **settings)[0]


def parse_known_words(
    options: type[Options], words: Sequence[str] | None, prog: str, known_only: bool = False, **settings: Any
) -> tuple[Options, list[str]]:
    """Return the options, and the words that are none of them; arguments and errors as of `parse_words`."""
    given = list(sys.argv[1:] if words is None else words)
    rest: list[str] = []
    with _tidy_help(given):
        if known_only:
            chosen = tyro.cli(options, args=given, prog=prog, **settings)
        else:
            chosen, rest = tyro.cli(options, args=given, prog=prog, return_unknown_args=True, **settings)
    check(chosen, prog)
    return chosen, rest


def check(options: object, prog: str) -> None:
    """Hold every number and every path to be written against what its type says.

    Raises:
        ConfigError: The first that is not as it must be.
    """
    for flag, value, marks in _members(options, ""):
        problem = _problem(value, marks)
        if problem:
            raise ConfigError(f"{prog}: {flag} {value}: {problem}")


def _members(options: object, prefix: str) -> Iterator[tuple[str, object, tuple[object, ...]]]:
    """Yield (flag, value, marks of its type) for every field, those of groups too."""
    hints = typing.get_type_hints(type(options), include_extras=True)
    for name, value in vars(options).items():
        marks = tuple(_marks(hints[name]))
        names = (getattr(mark, "name", None) for mark in marks)
        shown = next((str(given) for given in names if given is not None), name)
        flat = tyro.conf.OmitArgPrefixes in marks
        positional = any(getattr(mark, "__name__", mark) is tyro.conf.Positional for mark in marks)
        # Asked by its fields: pydantic costs a tenth of a second, and a listing of episodes needs none of it.
        if dataclasses.is_dataclass(value) or hasattr(type(value), "model_fields"):
            yield from _members(value, prefix if flat or shown == "" else f"{prefix}{shown}.")
            continue
        flag = name.upper() if positional else f"--{prefix}{shown}".replace("_", "-")
        for each in value if isinstance(value, tuple) else (value,):
            yield flag, each, marks


def _marks(hint: object) -> Iterator[object]:
    """Yield what `Annotated` says anywhere in a type."""
    yield from getattr(hint, "__metadata__", ())
    if typing.get_origin(hint) is Annotated:
        yield from _marks(typing.get_args(hint)[0])
    else:
        for part in typing.get_args(hint):
            yield from _marks(part)


def _problem(value: object, marks: Sequence[object]) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        usual = WHOLE if isinstance(value, int) else REAL
        bounds = [mark for mark in marks if isinstance(mark, Within)] or [usual]
        return next((f"expected {bound}" for bound in bounds if not bound.holds(value)), "")
    if isinstance(value, Path):
        places = [mark.problem(value) for mark in marks if isinstance(mark, Writes)]
        return next(filter(None, places), "")
    return ""


def _plain(bound: float) -> str:
    return f"{int(bound):,}" if math.isfinite(bound) and bound == int(bound) else f"{bound:g}"


TIDY = (
    (re.compile(r"\{None\}\|(\S+)"), r"\1"),
    (re.compile(r"\[\[(\w+) \[\w+ \.\.\.\]\]\]"), r"[\1 ...]"),
    (re.compile(r"\[(\w+) \[\w+ \.\.\.\]\]"), r"[\1 ...]"),
    (re.compile(r"\(default: (None|''|)\)"), ""),
)
"""Words of the parsing library that say nothing to a person, and what stands there instead."""


class _Heard(io.StringIO):
    """Keeps what is written, and is coloured where the terminal is."""

    def isatty(self) -> bool:
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


@contextlib.contextmanager
def _tidy_help(words: Sequence[str]) -> Iterator[None]:
    """Print the help without the types of a library; columns stay where they are."""
    if not set(words) & set(HELP_WORDS):
        yield
        return
    heard = _Heard()
    try:
        with contextlib.redirect_stdout(heard):
            yield
    finally:
        sys.stdout.write(tidy(heard.getvalue()))


def _filled_up(plain: str, found: re.Match[str]) -> str:
    return found.expand(plain).ljust(len(found[0]))


def tidy(text: str) -> str:
    """Return a help text with plain types; in its table a word that gets shorter is filled up behind."""
    usage, blank, table = text.partition("\n\n")
    for pattern, plain in TIDY:
        usage = pattern.sub(plain, usage)
        table = pattern.sub(partial(_filled_up, plain), table)
    return usage + blank + table
