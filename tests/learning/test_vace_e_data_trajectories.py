"""Trajectories from HDF5: the forms people store, and what is missing is masked and never invented."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tacit.errors import ConfigError
from tacit_learning.vace_e.data.grippers import gripper_states
from tacit_learning.vace_e.data.trajectories import (
    Motion,
    TrajectoryError,
    load_motion,
    load_objects,
    motion_from_array,
)

RNG = np.random.default_rng(0)
T = 20


def pose(length: int = T) -> tuple[np.ndarray, np.ndarray]:
    """Random positions and the two columns of a rotation about z."""
    angle = np.linspace(0, 1, length)
    zero = np.zeros(length)
    columns = np.stack([np.cos(angle), np.sin(angle), zero, -np.sin(angle), np.cos(angle), zero], axis=1)
    return RNG.normal(size=(length, 3)), columns


def write(path: Path, sides: str = "left right", length: int = T, **states: object) -> dict[str, np.ndarray]:
    """Write wrists and whatever states are given; returns the wrists (T, 9)."""
    wrists = {}
    with h5py.File(path, "w") as file:
        for side in sides.split():
            positions, rotations = pose(length)
            file[f"{side}_wrist/positions"], file[f"{side}_wrist/rotations_6d"] = positions, rotations
            wrists[side] = np.hstack([positions, rotations]).astype(np.float32)
        for name, value in states.items():
            file[name] = value
    return wrists


def loaded(path: Path, **options: object) -> Motion:
    motion = load_motion(path, **options)  # type: ignore[arg-type]
    assert motion is not None
    return motion


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hands.hdf5"


def test_both_hands_stand_in_their_columns(path: Path) -> None:
    states = RNG.integers(0, 2, T)
    wrists = write(path, left_hand_states=states, right_hand_states=1 - states)
    motion = loaded(path)
    expected = np.hstack([wrists["left"], wrists["right"], states[:, None], 1 - states[:, None]])
    np.testing.assert_array_equal(motion.values, expected.astype(np.float32))
    assert motion.valid.all() and motion.mask.all() and motion.values.dtype == np.float32
    assert motion.warnings == ()


def test_motion_keeps_a_millimetre_far_from_the_origin(path: Path) -> None:
    """Half precision would move a hand one metre away by up to 4 mm."""
    write(path)
    with h5py.File(path, "r+") as file:
        file["left_wrist/positions"][:] = 1.0 + 0.001 * np.arange(T)[:, None]
    np.testing.assert_allclose(np.diff(loaded(path).values[:, 0]), 0.001, atol=2e-7)


@pytest.mark.parametrize(
    ("side", "columns", "grip"), [("left", slice(0, 9), 18), ("right", slice(9, 18), 19)]
)
def test_a_lone_wrist_is_one_hand_and_the_other_is_masked(
    path: Path, side: str, columns: slice, grip: int
) -> None:
    wrists = write(path, side, **{f"{side}_hand_states": np.ones(T, int)})
    motion = loaded(path)
    np.testing.assert_array_equal(motion.values[:, columns], wrists[side])
    expected = np.zeros(20, bool)
    expected[columns] = expected[grip] = True
    np.testing.assert_array_equal(motion.valid, np.broadcast_to(expected, (T, 20)))
    assert not motion.values[:, ~expected].any()
    assert motion.mask[:, int(side == "right")].all() and not motion.mask[:, int(side == "left")].any()


@pytest.mark.parametrize(("name", "first"), [("left_wrist", 0), ("right_hand", 9), ("hand_motion", 9)])
def test_the_old_form_holds_wrist_and_gripper_in_ten_columns(path: Path, name: str, first: int) -> None:
    array = np.hstack([*pose(), RNG.integers(0, 2, (T, 1))])
    with h5py.File(path, "w") as file:
        file[name] = array
    motion = loaded(path)
    np.testing.assert_array_equal(motion.values[:, first : first + 9], array[:, :9].astype(np.float32))
    np.testing.assert_array_equal(motion.values[:, 18 if first == 0 else 19], array[:, 9])
    assert motion.valid.sum() == 10 * T


def test_an_array_of_one_hand_or_two_is_motion_too() -> None:
    one = np.hstack([*pose(), np.ones((T, 1))])
    np.testing.assert_array_equal(
        motion_from_array(one, "left").valid.any(0), [True] * 9 + [False] * 9 + [True, False]
    )
    two = np.zeros((T, 20))
    two[3:, 9:18], two[:, 19] = one[3:, :9], 1
    motion = motion_from_array(two)
    assert not motion.mask[:, 0].any() and motion.mask[3:, 1].all() and not motion.mask[:3, 1].any()
    with pytest.raises(TrajectoryError, match=r"\(20, 7\), expected \(T, 20\) or \(T, 10\)"):
        motion_from_array(np.zeros((T, 7)))


def test_absent_grippers_are_zero_and_not_valid(path: Path) -> None:
    write(path)
    motion = loaded(path)
    assert not motion.values[:, 18:].any() and not motion.valid[:, 18:].any()


def test_a_gripper_that_is_not_known_is_not_valid_though_its_wrist_is(path: Path) -> None:
    write(path, "right", right_hand_states=np.where(np.arange(T) == 4, np.nan, 1.0))
    motion = loaded(path)
    assert np.flatnonzero(~motion.valid[:, 19]).tolist() == [4] and motion.values[4, 19] == 1
    assert motion.mask[:, 1].all()


def test_rows_that_are_not_finite_are_zero_and_masked_for_that_hand_alone(path: Path) -> None:
    wrists = write(path)
    with h5py.File(path, "r+") as file:
        file["left_wrist/positions"][3, 1] = np.nan
        file["right_wrist/rotations_6d"][5] = np.inf
    motion = loaded(path)
    assert np.flatnonzero(~motion.mask[:, 0]).tolist() == [3]
    assert np.flatnonzero(~motion.mask[:, 1]).tolist() == [5]
    assert not motion.values[3, :9].any() and not motion.values[5, 9:18].any()
    np.testing.assert_array_equal(motion.values[3, 9:18], wrists["right"][3])
    assert np.isfinite(motion.values).all()


def test_motion_without_a_known_wrist_is_missing(path: Path) -> None:
    write(path, "right", right_hand_states=np.ones(T, int))
    with h5py.File(path, "r+") as file:
        file["right_wrist/positions"][:] = np.nan
    assert load_motion(path) is None


def test_arrays_that_differ_a_little_are_cut_and_said(path: Path) -> None:
    write(path, length=T, left_hand_states=np.ones(T - 2, int))
    motion = loaded(path)
    assert len(motion.values) == T - 2
    assert any("cut to 18" in text for text in motion.warnings)


@pytest.mark.parametrize("kind", ["positions", "hands", "states"])
def test_arrays_that_differ_by_more_than_a_tenth_are_refused(path: Path, kind: str) -> None:
    write(path, left_hand_states=np.ones(T if kind != "states" else T - 3, int))
    with h5py.File(path, "r+") as file:
        if kind == "positions":
            del file["left_wrist/positions"]
            file["left_wrist/positions"] = np.zeros((T - 3, 3))
        elif kind == "hands":
            del file["left_wrist"]
            file["left_wrist/positions"], file["left_wrist/rotations_6d"] = pose(T - 3)
    with pytest.raises(TrajectoryError, match="more than a tenth"):
        load_motion(path)


def test_rotations_are_used_as_they_are_and_a_strange_length_is_said(path: Path) -> None:
    write(path)
    with h5py.File(path, "r+") as file:
        file["left_wrist/rotations_6d"][:] *= 3
        stored = file["left_wrist/rotations_6d"][:]
    motion = loaded(path)
    np.testing.assert_array_equal(motion.values[:, 3:9], stored.astype(np.float32))
    assert any("off 1 by 2" in text for text in motion.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("truncated", "cannot be read as HDF5"),
        ("text", "cannot be read as HDF5"),
        ("gone", "no such file"),
        ("empty", "no hand in it"),
        ("no rotations", "right_wrist/rotations_6d is missing"),
        ("four columns", r"shape \(20, 4\), expected \(T, 3\)"),
        ("words", "expected numbers"),
        ("nine columns", r"shape \(20, 9\), expected \(T, 10\)"),
    ],
)
def test_damaged_motion_says_what_is_wrong(path: Path, change: str, message: str) -> None:
    write(path, "right")
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif change == "text":
        path.write_text("not hdf5")
    elif change == "gone":
        path.unlink()
    else:
        with h5py.File(path, "r+") as file:
            edit(file, change)
    with pytest.raises(TrajectoryError, match=message):
        load_motion(path)


def edit(file: h5py.File, change: str) -> None:
    if change == "empty":
        del file["right_wrist"]
    elif change == "no rotations":
        del file["right_wrist/rotations_6d"]
    elif change == "four columns":
        del file["right_wrist/positions"]
        file["right_wrist/positions"] = np.zeros((T, 4))
    elif change == "words":
        del file["right_wrist/positions"]
        file["right_wrist/positions"] = np.full((T, 3), b"x")
    elif change == "nine columns":
        del file["right_wrist"]
        file["right_wrist"] = np.zeros((T, 9))


@pytest.mark.parametrize(
    ("states", "opened"),
    [
        (np.array([True, False, True]), [1, 0, 1]),
        (np.array([1, 0, 1]), [1, 0, 1]),
        (np.array([0.0, 0.49, 0.5, 1.0]), [0, 0, 1, 1]),
        (np.array([b"open", b"closed", b"Open"]), [1, 0, 1]),
        (np.array(["closed", "open"], object), [0, 1]),
    ],
)
def test_grippers_are_open_one_closed_zero(states: np.ndarray, opened: list[int]) -> None:
    found = gripper_states(states, "here")
    assert found.open.tolist() == opened and found.valid.all() and found.warnings == []


def test_an_unknown_gripper_holds_its_last_state_and_is_not_valid() -> None:
    found = gripper_states(np.array([np.nan, 1.0, np.nan, np.inf, 0.0, np.nan]), "here")
    assert found.open.tolist() == [0, 1, 1, 1, 0, 0]
    assert found.valid.tolist() == [False, True, False, False, True, False]
    assert 0.5 not in found.open
    words = gripper_states(np.array([b"open", b"", b"closed"]), "here")
    assert words.open.tolist() == [1, 1, 0] and words.valid.tolist() == [True, False, True]


def test_integer_codes_must_be_told() -> None:
    codes = np.array([2, 3, 2])
    with pytest.raises(ConfigError, match=r"here: integer codes \[2, 3\].*gripper_open_values"):
        gripper_states(codes, "here")
    assert gripper_states(codes, "here", (3,)).open.tolist() == [0, 1, 0]
    assert gripper_states(codes.astype(float), "here", (2,)).open.tolist() == [1, 0, 1]
    assert gripper_states(np.array([0.2, 0.9]), "here", (2,)).open.tolist() == [0, 1], (
        "fractions are no codes"
    )


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="'ajar'"):
        gripper_states(np.array([b"open", b"ajar"]), "here")


@pytest.mark.parametrize(
    ("states", "doubt"), [([0.0, 0.08], "metres"), ([0.0, 80.0], r"0..80, expected 0..1")]
)
def test_numbers_that_look_like_lengths_are_doubted(states: list[float], doubt: str) -> None:
    (warning,) = gripper_states(np.array(states), "here").warnings
    assert doubt in warning


def write_objects(path: Path, tracks: dict[str, tuple[int, object]]) -> dict[str, np.ndarray]:
    """Write groups by name with (length, object_id or None); returns their poses."""
    poses = {}
    with h5py.File(path, "w") as file:
        for name, (length, identity) in tracks.items():
            group = file.create_group(name)
            group["positions"], group["rotations_6d"] = pose(length)
            poses[name] = np.hstack([group["positions"][:], group["rotations_6d"][:]]).astype(np.float32)
            if identity is not None:
                group.attrs["object_id"] = identity
    return poses


def test_objects_come_in_the_order_of_their_numbers(path: Path) -> None:
    poses = write_objects(path, dict.fromkeys(("object_10", "object_2", "object_0"), (T, None)))
    objects = load_objects(path, 10)
    assert objects is not None and objects.ids.tolist() == [0, 2, 10]
    for row, name in zip(objects.values, ("object_0", "object_2", "object_10"), strict=True):
        np.testing.assert_array_equal(row, poses[name])


def test_an_object_is_named_by_its_attribute_else_by_its_suffix(path: Path) -> None:
    write_objects(path, {"object_0": (T, 7), "object_1": (T, None), "object_cup": (T, 3)})
    objects = load_objects(path, 10)
    assert objects is not None and objects.ids.tolist() == [7, 1, 3]


def test_a_short_object_is_padded_and_masked(path: Path) -> None:
    poses = write_objects(path, {"object_0": (T, None), "object_1": (T - 8, None)})
    objects = load_objects(path, 10)
    assert objects is not None
    assert objects.valid.sum(axis=1).tolist() == [T, T - 8]
    np.testing.assert_array_equal(objects.values[1, : T - 8], poses["object_1"])
    assert not objects.values[1, T - 8 :].any(), "the last pose must not be repeated"


def test_above_the_limit_the_lowest_ids_stay_and_it_is_said(path: Path) -> None:
    write_objects(path, {f"object_{i}": (T, 20 - i) for i in range(5)})
    objects = load_objects(path, 3)
    assert objects is not None and objects.ids.tolist() == [18, 17, 16]
    assert "kept the 3 lowest ids" in objects.warnings[0]


def test_object_rows_that_are_not_finite_are_masked(path: Path) -> None:
    write_objects(path, {"object_0": (T, None)})
    with h5py.File(path, "r+") as file:
        file["object_0/positions"][4, 0] = np.inf
    objects = load_objects(path, 10)
    assert objects is not None and np.flatnonzero(~objects.valid[0]).tolist() == [4]
    with h5py.File(path, "r+") as file:
        file["object_0/positions"][:] = np.nan
    assert load_objects(path, 10) is None


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ({"object_0": (T, 1), "object_1": (T, None)}, "each may occur once"),
        ({"object_cup": (T, None)}, "object_id 'cup' is no integer"),
        ({"thing": (T, None)}, "no object in it"),
    ],
)
def test_objects_that_contradict_themselves_are_refused(
    path: Path, tracks: dict[str, tuple[int, object]], message: str
) -> None:
    write_objects(path, tracks)
    with pytest.raises(TrajectoryError, match=message):
        load_objects(path, 10)
