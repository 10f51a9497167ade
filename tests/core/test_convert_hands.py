"""VACE-E and PH2D: videos and tracks of hands become episodes, as they are and nothing more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import drawn_image, write_episode

from tacit import cli
from tacit.convert.vace_e_files import EpisodeFiles, ObjectTrack, write_objects
from tacit.episode import EpisodeReader, check_dataset, find_episodes
from tacit.images import encode_jpeg
from tacit.rig import load_rig

TICKS = 8


@pytest.fixture(scope="module")
def vace_e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of our episodes as VACE-E has it, and an object beside it."""
    root = tmp_path_factory.mktemp("vace_e")
    words = ["--objects", "cube.", "--task-type", "placing", "--embodiment", "human_glove"]
    assert convert("vace_e", write_episode(root / "ours", TICKS), "--out", root / "out", *words) == 0
    files = EpisodeFiles(root / "out/place_cube/episode_0")
    write_objects(files.objects, [ObjectTrack(3, np.ones((TICKS, 3)), np.ones((TICKS, 6)))])
    return root


def convert(*words: object) -> int:
    return cli.main(["convert", *map(str, words)])


def ph2d_file(path: Path, seed: int = 0, description: str = "pour the tea") -> Path:
    """A file as PH2D processes it: what a body lacks is zero, and red and blue are swapped."""
    state = np.zeros((5, 128), np.float32)
    state[:, 30:39] = state[:, 80:89] = np.random.default_rng(seed).normal(size=(5, 9))
    pictures = [encode_jpeg(drawn_image(i, 48, 64)[..., ::-1]) for i in range(5)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["action"], file["observation.state"] = np.roll(state, -1, axis=0), state
        for side in ("left", "right"):
            table = file.create_dataset(f"observation.image.{side}", (5,), h5py.vlen_dtype(np.uint8))
            for i, data in enumerate(pictures):
                table[i] = data
        file.attrs["description"], file.attrs["embodiment"] = description, "human_avp"
    return path


def test_a_video_and_its_hands_become_an_episode(vace_e: Path, tmp_path: Path) -> None:
    """The flange is the wrist, as it went out; what a hand was told, nobody knows."""
    assert convert(vace_e / "out", tmp_path / "back") == 0, "recognised by itself"
    assert check_dataset(tmp_path / "back", full=True).ok
    with (
        EpisodeReader(*find_episodes(vace_e / "ours")) as a,
        EpisodeReader(*find_episodes(tmp_path / "back")) as b,
    ):
        assert b.num_ticks == TICKS and b.task == "place_cube" and b.instruction == "placing cube."
        pose = a.file["observations/ee_pose/arm"][:]
        assert b.state_names[:3] == ("right_x", "right_y", "right_z") and b.state_names[-1] == "right_open"
        np.testing.assert_allclose(b.qpos[:, :3], pose[:, :3, 3], atol=1e-6)
        np.testing.assert_allclose(b.qpos[:, 3:6], pose[:, :3, 0], atol=1e-6)
        assert b.action_source == "measured" and b.attribute("embodiment_type") == "human"
        np.testing.assert_array_equal(b.file["observations/extra/object_0"][:], 1)
        assert np.abs(b.image("video", 3).astype(int) - a.image("top", 3)).mean() < 8
        assert not b.tactile and b.fps == 25


def test_the_elements_that_ph2d_uses_become_a_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ph2d_file(tmp_path / "in/processed_episode_0.hdf5")
    ph2d_file(tmp_path / "in/processed_episode_1.hdf5", 1, "drop")
    assert convert(tmp_path / "in", tmp_path / "out") == 0
    assert "1 takes left out" in capsys.readouterr().out
    assert check_dataset(tmp_path / "out", full=True).ok
    with EpisodeReader(*find_episodes(tmp_path / "out")) as reader:
        assert reader.task == "pour_the_tea" and reader.instruction == "pour the tea"
        assert len(reader.state_names) == 18, "what the format fills with zeros stays absent"
        assert reader.state_names[0] == "right_wrist_30" and reader.attribute("rotation_6d") == "rows"
        assert reader.cameras == ("left", "right")
        assert np.abs(reader.image("left", 2).astype(int) - drawn_image(2, 48, 64)).mean() < 5


def cut_video(root: Path) -> None:
    path = next(root.rglob("episode_0.mp4"))
    os.truncate(path, path.stat().st_size // 2)


def edit(pattern: str, change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        with h5py.File(next(root.rglob(pattern)), "a") as file:
            change(file)

    return apply


def shorter(file: h5py.File) -> None:
    positions = file["right_wrist/positions"][:-2]
    del file["right_wrist/positions"]
    file["right_wrist/positions"] = positions


def not_finite(file: h5py.File) -> None:
    file["right_wrist/positions"][2, 1] = np.nan


def no_hand(file: h5py.File) -> None:
    file.clear()


@pytest.mark.parametrize(
    ("damage", "words", "message"),
    [
        (cut_video, [], "episode_0.mp4"),
        (edit("*_hand_trajectories.hdf5", shorter), [], "6 rows for 8 frames"),
        (edit("*_hand_trajectories.hdf5", not_finite), [], "right_y is nan at frame 2"),
        (edit("*_hand_trajectories.hdf5", no_hand), [], "neither left_wrist nor right_wrist"),
        (lambda root: next(root.rglob("metadata.json")).write_text("{"), [], "metadata.json"),
        (lambda root: None, ["--task", "a/../../b"], "expected a plain name"),
        (lambda root: None, ["--rig", "nova2_sim"], "expected (8, 7)"),
    ],
)
def test_a_damaged_folder_is_named_and_leaves_nothing(
    vace_e: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    words: list[str],
    message: str,
) -> None:
    shutil.copytree(vace_e / "out", tmp_path / "in")
    damage(tmp_path / "in")
    assert convert(tmp_path / "in", tmp_path / "out", "--from", "vace_e", *words) == 2
    assert message in capsys.readouterr().err and os.listdir(tmp_path) == ["in"]


def of_another_length(file: h5py.File) -> None:
    del file["action"]
    file["action"] = np.zeros((4, 128), np.float32)


def cut_picture(file: h5py.File) -> None:
    file["observation.image.right"][3] = file["observation.image.right"][3][:-40]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_length, "expected frames and elements, both alike"),
        (cut_picture, "frame 3: the picture has no end"),
        (lambda file: file.attrs.update({"description": "drop"}), "no HDF5 file with observation.state"),
    ],
)
def test_a_damaged_file_of_ph2d_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[h5py.File], None], message: str
) -> None:
    ph2d_file(tmp_path / "in/processed_episode_0.hdf5")
    edit("*.hdf5", change)(tmp_path / "in")
    assert convert(tmp_path / "in", tmp_path / "out", "--from", "ph2d") == 2
    assert message in capsys.readouterr().err and os.listdir(tmp_path) == ["in"]


def test_a_rig_is_drafted_from_each(vace_e: Path, tmp_path: Path) -> None:
    ph2d_file(tmp_path / "in/processed_episode_0.hdf5")
    for source in (vace_e / "out", tmp_path / "in"):
        out = tmp_path / f"{source.name}.yaml"
        assert cli.main(["rig", "new", "--from-dataset", str(source), "--out", str(out)]) == 0
        assert load_rig(out).unmeasured[0] == "arms.arm"
