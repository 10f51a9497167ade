"""Names and places of episode files: next number, trash, scanning, and renames that never overwrite."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tacit.errors import EpisodeError

PART_SUFFIX = ".part"
TRASH_FOLDER = "trash"
TRASH_SUFFIX = ".trashed"
_NUMBER = re.compile(r"^episode_(\d+)\.hdf5")
_SKIPPED_WORDS = ("features", "mirror")
"""Derived files of ACT++ and X-Trainer trees; their own scanners skip these names too."""


def next_episode_path(root: str | Path, task: str) -> Path:
    """Return `<root>/<task>/episode_<n>.hdf5` with n above every existing, trashed or partial one.

    Raises:
        EpisodeError: `task` is not a plain name (letters, digits, `._-`, at most 64).
    """
    from tacit.rig import NAME_PATTERN  # who only looks for files needs no rig

    if not re.match(NAME_PATTERN, task) or ".." in task:
        raise EpisodeError(
            f"task {task!r}: expected a plain name of letters, digits, '.', '_' and '-' (at most 64), "
            "since it becomes a folder"
        )
    return next_path_in(Path(root) / task)


def next_path_in(folder: Path) -> Path:
    """Return `<folder>/episode_<n>.hdf5` with n above every existing, trashed or partial one."""
    names = [path.name for place in (folder, folder / TRASH_FOLDER) for path in place.glob("episode_*")]
    numbers = [int(match.group(1)) for match in map(_NUMBER.match, names) if match]
    return folder / f"episode_{max(numbers, default=-1) + 1}.hdf5"


def episode_number(path: str | Path) -> int:
    """Return n of `episode_<n>.hdf5`; -1 for another name."""
    return _number_in(Path(path).name)


def _number_in(name: str) -> int:
    match = _NUMBER.match(name)
    return int(match.group(1)) if match else -1


def find_episodes(root: str | Path) -> list[Path]:
    """Return the finished episodes below `root`, in order of folder and number.

    Skips `.part` files, `trash/`, hidden folders, and names with "features" or "mirror". A file is itself.

    Raises:
        EpisodeError: `root` does not exist.
    """
    return [Path(place) for place in find_places(root)]


def find_places(root: str | Path) -> list[str]:
    """Return what `find_episodes` does, as texts: ten thousand paths would cost half a second."""
    root = Path(root)
    if root.is_file():
        return [str(root)]
    if not root.is_dir():
        raise EpisodeError(f"{root}: no such file or folder; give an episode or the root of a dataset")
    found: list[tuple[str, int, str]] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != TRASH_FOLDER and not name.startswith(".")]
        found += [(folder, _number_in(name), name) for name in names if _counts_as_episode(name)]
    return [os.path.join(folder, name) for folder, _, name in sorted(found)]


def find_parts(root: str | Path) -> list[Path]:
    """Return the interrupted episodes (`*.hdf5.part`) below `root`."""
    root = Path(root)
    if root.is_file():
        return [root]
    return sorted(p for p in root.rglob("*.hdf5" + PART_SUFFIX) if TRASH_FOLDER not in p.parts)


def part_path(path: Path) -> Path:
    """Return the name an episode has while it is written."""
    return path.with_name(path.name + PART_SUFFIX)


def rename_new(source: Path, target: Path) -> Path:
    """Rename `source`, never over another file: where `target` is taken, the next number is used.

    The folder is synced, so the name survives a power loss.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            _link_then_unlink(source, target)
            break
        except FileExistsError:
            target = _next_free(target)
    sync_folder(target.parent)
    return target


def move_to_trash(path: str | Path) -> Path:
    """Move an episode to `trash/` beside it, as `<name>.trashed`; nothing is ever deleted.

    Raises:
        EpisodeError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EpisodeError(f"{path}: no such episode to discard")
    name = path.name.removesuffix(PART_SUFFIX) + TRASH_SUFFIX
    return rename_new(path, path.parent / TRASH_FOLDER / name)


def find_trashed(root: str | Path) -> list[Path]:
    """Return what lies in the `trash/` folders below `root`, in order of folder and number."""
    paths = Path(root).rglob(f"{TRASH_FOLDER}/*{TRASH_SUFFIX}")
    return sorted(paths, key=lambda p: (str(p.parent), episode_number(p), p.name))


def take_from_trash(path: str | Path) -> Path:
    """Move a trashed episode back beside its trash; under the next number where its name is taken.

    Returns:
        Where it is now.

    Raises:
        EpisodeError: It is not in a trash.
    """
    path = Path(path)
    if path.parent.name != TRASH_FOLDER or not path.name.endswith(TRASH_SUFFIX) or not path.is_file():
        raise EpisodeError(
            f"{path}: not in a trash; expected .../{TRASH_FOLDER}/episode_<n>.hdf5{TRASH_SUFFIX} "
            "(`tacit episodes ls --trash` lists what is there)"
        )
    name = re.sub(r"(\.hdf5)(\.\d+)?$", r"\1", path.name.removesuffix(TRASH_SUFFIX))
    return rename_new(path, path.parent.parent / name)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder against others that edit its episodes; whoever is killed gives it back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _counts_as_episode(name: str) -> bool:
    return name.endswith(".hdf5") and not any(word in name for word in _SKIPPED_WORDS)


def _link_then_unlink(source: Path, target: Path) -> None:
    """Rename without replacing: a hard link fails where the name exists, a rename would not."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # file systems without hard links (exFAT, some network mounts)
        if target.exists():
            raise FileExistsError(target) from None
        os.rename(source, target)
        return
    os.unlink(source)


def _next_free(target: Path) -> Path:
    """Return a free name like `target`: the next episode number, or `.1`, `.2` before the suffix."""
    match = _NUMBER.match(target.name)
    if target.name.endswith(TRASH_SUFFIX) or not match:
        suffix = TRASH_SUFFIX if target.name.endswith(TRASH_SUFFIX) else target.suffix
        stem = target.name.removesuffix(suffix)
        candidates = (target.with_name(f"{stem}.{n}{suffix}") for n in range(1, 1_000_000))
        return next(path for path in candidates if not path.exists())
    number = int(match.group(1))
    while (candidate := target.with_name(f"episode_{number}.hdf5")).exists() or part_path(candidate).exists():
        number += 1
    return candidate


def report_target(path: Path) -> Path:
    """Return where a report is to be written; its folder is made.

    Raises:
        EpisodeError: An episode has that name , or nothing can be made there.
    """
    if path.suffix in (".hdf5", ".h5", PART_SUFFIX):
        raise EpisodeError(f"{path}: no report replaces an episode; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{os.getpid()}")
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise EpisodeError(f"{path}: cannot be written ({problem}); choose another place") from None
    return path
