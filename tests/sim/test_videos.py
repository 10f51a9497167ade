"""Demonstrations of the cell as video data: what the trajectories say is what the video shows."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit import cli
from tacit.convert.vace_e_files import EpisodeFiles
from tacit.convert.video import read_frames
from tacit.geometry.transforms import invert, transform_points
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("videos")
    words = ["--episodes", "1", "--task", "place_cube", "--stride", "6"]
    assert cli.main(["simulate", "videos", "--out", str(out), *words]) == 0
    return out


def test_the_part_is_where_its_trajectory_says(root: Path, rig: Rig) -> None:
    """Its position, projected, lies on red pixels in the first frame and in the last."""
    files, geometry = EpisodeFiles(root / "place_cube" / "episode_0"), RigGeometry(rig)
    with h5py.File(files.objects) as file:
        part, goal = file["object_0/positions"][:], file["object_1/positions"][:]
        assert [file[name].attrs["object_id"] for name in ("object_0", "object_1")] == [0, 1]
    ends = [0, len(part) - 1]
    T_camera_world = invert(geometry.camera_poses(np.zeros(7))["top"])
    pixels = np.rint(geometry.camera("top").project(transform_points(T_camera_world, part[ends]))).astype(int)
    for frame, (x, y) in zip(read_frames(files.target, ends).astype(int), pixels, strict=True):
        red, green, blue = frame[y, x]
        assert red > green + 60 and red > blue + 60
    assert np.linalg.norm(part[-1, :2] - goal[-1, :2]) < 0.02 < np.linalg.norm(part[0, :2] - goal[0, :2])


def test_the_hand_carries_the_part(root: Path) -> None:
    """While the part moves fast, it stays at one place in front of the flange."""
    files = EpisodeFiles(root / "place_cube" / "episode_0")
    with h5py.File(files.hands) as hands, h5py.File(files.objects) as objects:
        wrist, part = hands["right_wrist/positions"][:], objects["object_0/positions"][:]
        opened = hands["right_hand_states"][:]
    carried = np.linalg.norm(np.diff(part, axis=0), axis=1) > 0.01
    assert carried.sum() >= 3
    assert np.linalg.norm((wrist - part)[:-1][carried].std(axis=0)) < 0.01
    assert not opened[:-1][carried].any() and opened[0] and opened[-1]


def test_the_metadata_make_a_prompt(root: Path) -> None:
    task = json.loads((root / "metadata.json").read_text())["per_task_attributes"]["place_cube"]
    assert (task["task_type"], task["objects"], task["right_hand"]) == ("placing", "cube.", True)


def test_a_second_run_films_nothing_anew(root: Path) -> None:
    target = EpisodeFiles(root / "place_cube" / "episode_0").target
    before = target.stat().st_mtime_ns
    assert (
        cli.main(["simulate", "videos", "--out", str(root), "--episodes", "1", "--task", "place_cube"]) == 0
    )
    assert target.stat().st_mtime_ns == before


def test_an_unknown_camera_names_the_right_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "videos", "--out", str(root), "--camera", "tip"]) == 2
    assert "did you mean 'top'" in capsys.readouterr().err
