"""The formats of others that `tacit convert` reads and writes: one table, and one file for each.

To add a converter, write one file here (or one package, where a file would be too long), name it in the
order of `tacit.convert`, and add one line to `FORMATS`. The file imports no other converter; what it needs
beyond our own requirements it imports inside functions, and `cli.EXTRA_OF` names the extra.

A module that reads has

    recognises(source: Path) -> bool                  is this path of my format? cheap, and never raises
    @dataclass class Reading(job.Import)              its options; `Reading` itself is enough without any
    read(job: Reading, place: Path, track: job.Track) -> job.Converted

    draft(source: Path) -> Rig                        where the format says enough of its robot

and writes `place/<task>/episode_<n>.hdf5`: `draft` makes a rig of what a data set says of itself, and
`incoming` the episodes. A module that writes has

    @dataclass class Writing(job.Export)
    write(job: Writing, place: Path, track: job.Track) -> job.Converted
    recognises(source: Path) -> bool                  where the format is only written: to say so

and makes `place`, a file or a folder. `place` does not exist yet, and is renamed to the target when the
function returns; when it raises, nothing remains of it (`target.new_target`). What the user can mend is an
`EpisodeError`; a full disk is reported by the caller.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tacit.convert.job import Converted, Job
from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import EpisodeError, RigError, did_you_mean
from tacit.rig import Rig

OURS = "tacit"
MOST_NAMED = 6
HDF5_NAMES = (".hdf5", ".h5")


class Format(NamedTuple):
    """A format: what it is, and the modules that read and write it (None: not that way)."""

    help: str
    reads: str | None = None
    writes: str | None = None


FORMATS: dict[str, Format] = {
    "lerobot": Format(
        "LeRobot data sets: v3.0, v2.1 (and GR00T's modality.json)",
        reads="tacit.convert.lerobot.reading",
        writes="tacit.convert.lerobot.writing",
    ),
    "aloha": Format(
        "ACT, ACT++, Mobile ALOHA and X-Trainer: one HDF5 file per episode",
        reads="tacit.convert.aloha.reading",
        writes="tacit.convert.aloha.writing",
    ),
    "vace_e": Format("VACE-E folders in (out: tacit convert vace_e)", reads="tacit.convert.vace_e_read"),
    "ph2d": Format("processed episodes of PH2D: human and robot", reads="tacit.convert.ph2d"),
    "robomimic": Format("robomimic: one HDF5 file of demonstrations", writes="tacit.convert.robomimic"),
    "zarr": Format("replay buffer of diffusion policy and UMI", writes="tacit.convert.zarr"),
    "rosbag2": Format(
        "ROS 2 bags: mcap and sqlite3 in, MCAP for Foxglove and ros2 bag out",
        reads="tacit_ros.bag",
        writes="tacit.convert.bag.writing",
    ),
}


class Converter(NamedTuple):
    """One way between a format and ours: the class of its options, and the function that does it."""

    options: type[Job]
    run: Callable[..., Converted]


def reader_of(name: str) -> Converter:
    """Return what reads a format.

    Raises:
        EpisodeError: No such format, or it is only written.
    """
    module = _load(name, "reads")
    return Converter(module.Reading, module.read)


def writer_of(name: str) -> Converter:
    """Return what writes a format; errors as of `reader_of`."""
    module = _load(name, "writes")
    return Converter(module.Writing, module.write)


def draft_of(source: Path) -> Rig:
    """Return the rig of a data set of others, drafted where it brings none.

    Raises:
        TacitError: Nothing reads it, its format says too little of a robot, or it is damaged.
    """
    name = format_of(source)
    if name is None:
        raise RigError(why_unknown(source))
    if not _drafts(name):
        able = ", ".join(other for other, entry in FORMATS.items() if entry.reads and _drafts(other))
        raise RigError(
            f"{source}: {name} says too little of a robot to draft its rig; that is done from {able}"
        )
    return _load(name, "reads").draft(source)


def why_unknown(source: Path) -> str:
    """Say what a path is that no reader recognises, and what to do."""
    if not source.exists():
        return f"{source}: no such file or folder"
    written = [name for name, entry in FORMATS.items() if entry.writes and not entry.reads]
    for name in written:
        if _recognises(name, source, "writes"):
            return f"{source}: a data set of {name}, which is only written; convert what it was made from"
    readable = ", ".join(name for name, entry in FORMATS.items() if entry.reads)
    if source.is_file() and source.suffix not in HDF5_NAMES:
        return f"{source}: a file that no reader knows; what is read: {readable} (tacit convert --help)"
    try:
        first = next(iter(find_episodes(source)), None)
        if first is not None:
            with EpisodeReader(first) as reader:
                if not reader.is_foreign:
                    goals = ", ".join(name for name, entry in FORMATS.items() if entry.writes)
                    return (
                        f"{source}: episodes of tacit already, and each holds its rig; `tacit convert` takes "
                        f"them to others: say what to make of them with --to ({goals})"
                    )
    except EpisodeError as problem:
        return f"{source}: not recognised as a data set of others: {problem}"
    held = f" It holds {_held(source)}." if source.is_dir() else ""
    return (
        f"{source}: not recognised as a data set of others.{held} What is read: {readable}; --from FORMAT "
        "says which it is, and what it lacks is then named"
    )


def _held(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "nothing") + more


def format_of(source: Path) -> str | None:
    """Return the format that recognises a path; None where none does."""
    readable = [name for name, entry in FORMATS.items() if entry.reads]
    return next((name for name in readable if _recognises(name, source)), None)


def _drafts(name: str) -> bool:
    """Whether a format says enough of a robot to draft its rig."""
    try:
        return hasattr(_load(name, "reads"), "draft")
    except ModuleNotFoundError:
        return False


def _recognises(name: str, source: Path, way: str = "reads") -> bool:
    try:
        return bool(_load(name, way).recognises(source))
    except ModuleNotFoundError:  # of an extra that is not installed here; --from names it
        return False


def _load(name: str, way: str) -> Any:
    """Import the module behind one way of a format."""
    ways = {n: getattr(entry, way) for n, entry in FORMATS.items() if getattr(entry, way)}
    if name not in ways:
        raise EpisodeError(f"tacit convert: nothing {way} {name!r}; {did_you_mean(name, ways)}")
    return importlib.import_module(ways[name])
