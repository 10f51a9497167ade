"""Hand and object trajectories from HDF5: fp32, natural lengths, a validity for every value.

Motion is [left position 3, left rotation 6, right position 3, right rotation 6, left gripper, right
gripper], rotations as they are stored. What is missing or not finite is 0 and not valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from tacit.episode.secure import check_links
from tacit.errors import ConfigError, EpisodeError
from tacit_learning.vace_e.config_model import MOTION_WIDTH, OBJECT_WIDTH
from tacit_learning.vace_e.data.grippers import gripper_states

SIDES = ("left", "right")
WRIST_WIDTH = 9
LEGACY_WIDTH = WRIST_WIDTH + 1
MAX_LENGTH_DIFFERENCE = 0.1
"""Share of the longest array; beyond it arrays of one hand belong to different recordings."""
UNIT_TOLERANCE = 0.1
"""How far the length of a rotation's column may be from 1; further off it is no rotation."""


class TrajectoryError(EpisodeError):
    """A trajectory file is damaged or contradicts itself; the episode may go on as video alone."""


@dataclass(frozen=True)
class Motion:
    """Both hands of one episode."""

    values: np.ndarray  # (T, 20) f4
    valid: np.ndarray  # (T, 20) bool
    warnings: tuple[str, ...] = ()

    @property
    def mask(self) -> np.ndarray:
        """Whether the left and the right wrist are known (T, 2)."""
        return self.valid[:, [0, WRIST_WIDTH]]


@dataclass(frozen=True)
class Objects:
    """All objects of one episode, shorter ones padded."""

    values: np.ndarray  # (N, T, 9) f4
    valid: np.ndarray  # (N, T) bool
    ids: np.ndarray  # (N,) i8
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Hand:
    """Arrays of one side as stored."""

    wrist: np.ndarray  # (t, 9) f8
    gripper: np.ndarray | None  # (t,)
    notes: list[str] = field(default_factory=list)


def load_motion(path: Path, open_values: Sequence[int] | None = None) -> Motion | None:
    """Read the hand trajectories; None when no wrist is ever known.

    Accepted: groups `{left,right}_wrist` with `positions` and `rotations_6d`, and
    `{left,right}_hand_states`; one of the sides alone; and arrays (T, 10) = [wrist 9, gripper].

    Raises:
        TrajectoryError: Damaged, no hand in it, or lengths that differ by more than a tenth.
        ConfigError: Gripper codes whose meaning must be told.
    """
    with _open(path) as file:
        hands = _hands(file, path)
    if not hands:
        raise TrajectoryError(
            f"{path}: no hand in it; expected left_wrist or right_wrist with positions and rotations_6d, or "
            f"an array (T, {LEGACY_WIDTH})"
        )
    motion = _assemble(hands, path, open_values)
    return motion if motion.mask.any() else None


def motion_from_array(array: np.ndarray, side: str = "right") -> Motion:
    """Return the motion of an array (T, 20), or (T, 10) of one hand: [wrist 9, gripper 0..1].

    A wrist of nine zeros is a missing one: no rotation has two columns of zeros.

    Raises:
        TrajectoryError: Another shape.
    """
    array = np.asarray(array)
    if array.ndim == 2 and array.shape[1] == LEGACY_WIDTH:
        hands = {side: _Hand(array[:, :WRIST_WIDTH], array[:, WRIST_WIDTH])}
        return _assemble(hands, Path("motion"), None)
    if array.ndim != 2 or array.shape[1] != MOTION_WIDTH:
        raise TrajectoryError(
            f"motion of shape {array.shape}, expected (T, {MOTION_WIDTH}) or (T, {LEGACY_WIDTH})"
        )
    wrists = np.split(array[:, : 2 * WRIST_WIDTH].astype(np.float64), 2, axis=1)
    hands = {
        side: _Hand(np.where(wrist.any(axis=1, keepdims=True), wrist, np.nan), array[:, 2 * WRIST_WIDTH + i])
        for i, (side, wrist) in enumerate(zip(SIDES, wrists, strict=True))
        if wrist.any()
    }
    return _assemble(hands, Path("motion"), None, len(array))


def objects_from_array(array: np.ndarray) -> Objects:
    """Return the objects of an array (T, N, 9) of positions and 6-D rotations; NaN = missing.

    Raises:
        ConfigError: Another shape.
    """
    tracks = np.asarray(array, np.float32)
    if tracks.ndim != 3 or tracks.shape[-1] != OBJECT_WIDTH:
        raise ConfigError(
            f"vace_e_object_trajectory_sequence: {tracks.shape}, expected (T, N, {OBJECT_WIDTH})"
        )
    values, valid = _finite(tracks.transpose(1, 0, 2))
    return Objects(values, valid, np.arange(len(values)))


def load_objects(path: Path, max_objects: int) -> Objects | None:
    """Read the object trajectories; None when no pose in it is valid.

    Groups `object_*` in the order of their numbers. Above `max_objects` the lowest ids stay.

    Raises:
        TrajectoryError: Damaged, no object in it, or two objects of one id.
    """
    with _open(path) as file:
        warnings: list[str] = []
        tracks = [_object(file[name], path, warnings) for name in sorted(_object_names(file), key=_numeric)]
    ids = [number for number, _ in tracks]
    if not tracks:
        raise TrajectoryError(f"{path}: no object in it; expected groups object_0, object_1, ...")
    if len(set(ids)) < len(ids):
        raise TrajectoryError(f"{path}: object ids {ids}: each may occur once; mend the attribute object_id")
    warnings += _norm_warnings((track for _, track in tracks), path)
    if len(tracks) > max_objects:
        kept = set(sorted(ids)[:max_objects])
        warnings.append(f"{path}: {len(tracks)} objects, kept the {max_objects} lowest ids (max_objects)")
        tracks = [(number, track) for number, track in tracks if number in kept]
    objects = _stack_objects(tracks, warnings)
    return objects if objects.valid.any() else None


def _stack_objects(tracks: list[tuple[int, np.ndarray]], warnings: list[str]) -> Objects:
    length = max(len(track) for _, track in tracks)
    values = np.zeros((len(tracks), length, OBJECT_WIDTH), np.float32)
    valid = np.zeros((len(tracks), length), bool)
    for row, ok, (_, track) in zip(values, valid, tracks, strict=True):
        row[: len(track)], ok[: len(track)] = _finite(track)
    return Objects(values, valid, np.array([number for number, _ in tracks], np.int64), tuple(warnings))


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; what h5py says of a damaged one becomes our error."""
    try:
        with h5py.File(path, "r") as file:
            check_links(file)
            yield file
    except EpisodeError as problem:
        raise TrajectoryError(str(problem)) from None
    except FileNotFoundError:
        raise TrajectoryError(f"{path}: no such file") from None
    except (OSError, RuntimeError) as problem:
        raise TrajectoryError(f"{path}: cannot be read as HDF5: {problem}") from None


def _hands(file: h5py.File, path: Path) -> dict[str, _Hand]:
    found: dict[str, _Hand] = {}
    for side in SIDES:
        node = next((file[name] for name in (f"{side}_wrist", f"{side}_hand") if name in file), None)
        states = file.get(f"{side}_hand_states")
        if isinstance(node, h5py.Group):
            found[side] = _grouped(node, None if states is None else states[()], path)
        elif isinstance(node, h5py.Dataset):
            found[side] = _legacy(node, path)
    if not found:
        loose = [
            node
            for node in file.values()
            if isinstance(node, h5py.Dataset) and node.shape[1:] == (LEGACY_WIDTH,)
        ]
        if len(loose) == 1:
            found["right"] = _legacy(loose[0], path)
    return found


def _legacy(node: h5py.Dataset, path: Path) -> _Hand:
    if node.ndim != 2 or node.shape[1] != LEGACY_WIDTH:
        raise TrajectoryError(f"{path}: {node.name}: shape {node.shape}, expected (T, {LEGACY_WIDTH})")
    array = _numbers(node, path)
    return _Hand(array[:, :WRIST_WIDTH], array[:, WRIST_WIDTH])


def _grouped(group: h5py.Group, states: np.ndarray | None, path: Path) -> _Hand:
    notes: list[str] = []
    wrist = _pose(group, path, notes)
    return _Hand(wrist, None if states is None else np.atleast_1d(states).reshape(-1), notes)


def _pose(group: h5py.Group, path: Path, notes: list[str]) -> np.ndarray:
    """Read positions and rotations (t, 9) of one wrist or object."""
    arrays = []
    for name, width in (("positions", 3), ("rotations_6d", 6)):
        node = group.get(name)
        if not isinstance(node, h5py.Dataset):
            raise TrajectoryError(f"{path}: {group.name}/{name} is missing")
        if node.ndim != 2 or node.shape[1] != width:
            raise TrajectoryError(f"{path}: {node.name}: shape {node.shape}, expected (T, {width})")
        arrays.append(_numbers(node, path))
    length = _common_length([len(array) for array in arrays], f"{path}: {group.name}", notes)
    return np.concatenate([array[:length] for array in arrays], axis=1)


def _numbers(node: h5py.Dataset, path: Path) -> np.ndarray:
    if node.dtype.kind not in "fiu":
        raise TrajectoryError(f"{path}: {node.name}: type {node.dtype}, expected numbers")
    return np.asarray(node[()], np.float64)


def _common_length(lengths: list[int], where: str, notes: list[str]) -> int:
    """Return the shortest length; a small difference is noted, a large one refused."""
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return shortest
    if longest - shortest > MAX_LENGTH_DIFFERENCE * longest:
        raise TrajectoryError(
            f"{where}: lengths {lengths} differ by more than a tenth; they belong together?"
        )
    notes.append(f"{where}: lengths {lengths}, cut to {shortest}")
    return shortest


def _assemble(
    hands: Mapping[str, _Hand], path: Path, open_values: Sequence[int] | None, length: int | None = None
) -> Motion:
    """Join the hands to one motion, as long as the shortest array unless `length` is given."""
    notes = [note for hand in hands.values() for note in hand.notes]
    if length is None:
        lengths = [len(a) for hand in hands.values() for a in (hand.wrist, hand.gripper) if a is not None]
        length = _common_length(lengths, str(path), notes)
    values, valid = np.zeros((length, MOTION_WIDTH), np.float32), np.zeros((length, MOTION_WIDTH), bool)
    for i, side in enumerate(SIDES):
        if side not in hands:
            continue
        columns = slice(i * WRIST_WIDTH, (i + 1) * WRIST_WIDTH)
        wrist, ok = _finite(hands[side].wrist[:length])
        values[:, columns], valid[:, columns] = wrist, ok[:, None]
        states = hands[side].gripper
        if states is not None:
            gripper = gripper_states(states[:length], f"{path}: {side}_hand_states", open_values)
            values[:, 2 * WRIST_WIDTH + i], valid[:, 2 * WRIST_WIDTH + i] = gripper.open, gripper.valid
            notes += gripper.warnings
    notes += _norm_warnings((hand.wrist for hand in hands.values()), path)
    return Motion(values, valid, tuple(notes))


def _finite(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return poses (..., 9) with rows that are not finite as 0, and which rows are finite (...)."""
    ok = np.isfinite(pose).all(axis=-1)
    return np.where(ok[..., None], pose, pose.dtype.type(0)), ok


def _norm_warnings(poses: Iterator[np.ndarray], path: Path) -> list[str]:
    """Say when columns of a rotation are not of unit length; they are used as they are."""
    worst = 0.0
    for pose in poses:
        columns = pose[np.isfinite(pose).all(axis=1), 3:].reshape(-1, 3)
        worst = max(worst, float(np.abs(np.linalg.norm(columns, axis=1) - 1).max(initial=0.0)))
    if worst <= UNIT_TOLERANCE:
        return []
    return [f"{path}: rotations_6d: a column's length is off 1 by {worst:.2g}; used as it is"]


def _object_names(file: h5py.File) -> list[str]:
    return [
        name for name, node in file.items() if name.startswith("object_") and isinstance(node, h5py.Group)
    ]


def _numeric(name: str) -> tuple[float, str]:
    """Order object_2 before object_10; names without a number come last."""
    match = re.fullmatch(r"object_(\d+)", name)
    return (float(match.group(1)) if match else float("inf"), name)


def _object(group: h5py.Group, path: Path, notes: list[str]) -> tuple[int, np.ndarray]:
    suffix = group.name.rpartition("object_")[2]
    number = group.attrs.get("object_id", suffix)
    try:
        identity = int(np.asarray(number).reshape(-1)[0])
    except (ValueError, IndexError):
        raise TrajectoryError(
            f"{path}: {group.name}: object_id {number!r} is no integer; set the attribute object_id"
        ) from None
    return identity, _pose(group, path, notes)
