"""robomimic and zarr: what their loaders find equals what the episodes hold."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import write_episode

from tacit import cli
from tacit.episode import EpisodeReader, find_episodes
from tacit.geometry.rotations import rotation_from_quaternion, rotation_from_vector

TICKS = (4, 6, 3)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ours")
    for ticks, success in zip(TICKS, (True, False, None), strict=True):
        write_episode(root, ticks, success)
    return root


@pytest.fixture(scope="module")
def readers(ours: Path) -> list[EpisodeReader]:
    return [EpisodeReader(path) for path in find_episodes(ours)]


def convert(*words: object) -> int:
    return cli.main(["convert", *map(str, words)])


def test_a_demonstration_of_robomimic_is_an_episode_less_its_last_tick(
    ours: Path, readers: list[EpisodeReader], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "set.hdf5"
    assert convert(ours, target, "--to", "robomimic", "--valid-every", "3") == 0
    told = capsys.readouterr().out
    assert "1 episodes are unlabelled" in told and "last tick of each episode is its last next_obs" in told
    with h5py.File(target, swmr=True, libver="latest") as file:  # as robomimic opens it
        assert [d.decode() for d in file["mask/train"]] == ["demo_0", "demo_1"]
        assert [d.decode() for d in file["mask/success"]] == ["demo_0"]
        assert file["data"].attrs["total"] == sum(TICKS) - 3
        low, high = (file["data"].attrs[f"action_{end}"] for end in ("low", "high"))
        for number, reader in enumerate(readers):
            demo, count = file[f"data/demo_{number}"], TICKS[number] - 1
            assert demo.attrs["num_samples"] == count == len(demo["actions"])
            assert np.abs(demo["actions"][:]).max() <= 1
            restored = low + (demo["actions"][:] + 1) / 2 * (high - low)
            np.testing.assert_allclose(restored, reader.targets[:-1], atol=1e-6)
            np.testing.assert_array_equal(demo["obs/robot0_joint_pos"], reader.qpos[:-1, :6])
            np.testing.assert_array_equal(demo["next_obs/robot0_gripper_qpos"], reader.qpos[1:, 6:])
            pose = reader.file["observations/ee_pose/arm"][:-1]
            np.testing.assert_allclose(demo["obs/robot0_eef_pos"], pose[:, :3, 3], atol=1e-6)
            rotations = rotation_from_quaternion(demo["obs/robot0_eef_quat"][:].astype(float))
            np.testing.assert_allclose(rotations, pose[:, :3, :3], atol=1e-6)
            np.testing.assert_array_equal(demo["obs/wrist_image"][1], reader.image("wrist", 1))
            np.testing.assert_array_equal(demo["next_obs/left_image"][1], reader.touch("left", 2))
            assert demo["dones"][:].tolist() == [0] * (count - 1) + [1]
        assert file["data/demo_0/rewards"][-1] == 1 and not file["data/demo_1/rewards"][:].any()
        assert "rewards" not in file["data/demo_2"], "nobody said whether it succeeded"
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "nova2_sim"


def test_pictures_may_be_smaller_and_next_ones_left_out(ours: Path, tmp_path: Path) -> None:
    words = ["--size", "40", "30", "--no-next-obs", "--no-scale-actions"]
    assert convert(ours, tmp_path / "set.hdf5", "--to", "robomimic", *words) == 0
    with h5py.File(tmp_path / "set.hdf5") as file:
        demo = file["data/demo_1"]
        assert demo["obs/top_image"].shape == (6, 30, 40, 3) and "next_obs" not in demo
        assert "action_low" not in file["data"].attrs


def test_a_replay_buffer_holds_all_episodes_one_after_the_other(
    ours: Path, readers: list[EpisodeReader], tmp_path: Path
) -> None:
    zarr = pytest.importorskip("zarr")
    assert convert(ours, tmp_path / "set.zarr", "--to", "zarr") == 0
    root = zarr.open_group(str(tmp_path / "set.zarr"), mode="r")
    ends = root["meta/episode_ends"][:]
    assert ends.tolist() == np.cumsum(TICKS).tolist() and ends.dtype == np.int64
    assert json.loads((tmp_path / "set.zarr/.zgroup").read_text())["zarr_format"] == 2, "what they can read"
    for start, end, reader in zip([0, *ends[:-1]], ends, readers, strict=True):
        np.testing.assert_array_equal(root["data/action"][start:end], reader.targets)
        np.testing.assert_array_equal(root["data/state"][start:end], reader.qpos)
        np.testing.assert_array_equal(root["data/right"][end - 1], reader.touch("right", end - start - 1))
        assert root["data/timestamp"][start] == 0 and root["data/wrist"].chunks == (1, 120, 160, 3)
    assert {array.shape[0] for _, array in root["data"].arrays()} == {sum(TICKS)}


def test_umi_finds_poses_widths_and_numbered_cameras(
    ours: Path, readers: list[EpisodeReader], tmp_path: Path
) -> None:
    zarr = pytest.importorskip("zarr")
    assert convert(ours, tmp_path / "set.zarr", "--to", "zarr", "--keys", "umi", "--size", "64", "64") == 0
    data = zarr.open_group(str(tmp_path / "set.zarr"), mode="r")["data"]
    pose = readers[0].file["observations/ee_pose/arm"][3]
    np.testing.assert_allclose(
        rotation_from_vector(data["robot0_eef_rot_axis_angle"][3]), pose[:3, :3], atol=1e-6
    )
    np.testing.assert_allclose(data["robot0_gripper_width"][:4], readers[0].qpos[:, 6:])
    np.testing.assert_allclose(data["robot0_demo_start_pose"][3, :3], data["robot0_eef_pos"][0], atol=1e-6)
    assert data["camera0_rgb"].shape == (sum(TICKS), 64, 64, 3) and "camera1_rgb" in data


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set", "--to", "robomimic"], "name that ends in .hdf5"),
        (["set.hdf5", "--to", "robomimic", "--valid-every", "1"], "expected 2 or more"),
        (["set.hdf5", "--to", "robomimic", "--size", "0", "40"], "--size"),
        (["set.zarr", "--to", "zarr", "--only-success"], "no episode is labelled a success"),
    ],
)
def test_wrong_options_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_episode(tmp_path / "ours", 3, None)
    assert convert(tmp_path / "ours", tmp_path / words[0], *words[1:]) == 2
    assert message in capsys.readouterr().err and os.listdir(tmp_path) == ["ours"]


def test_two_robots_do_not_fit_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "ours", 3)
    with h5py.File(tmp_path / "ours" / "other.hdf5", "w") as file:
        file["action"] = file["observations/qpos"] = np.zeros((3, 14))
    for name in ("set.hdf5", "set.zarr"):
        way = "robomimic" if name.endswith("hdf5") else "zarr"
        assert convert(tmp_path / "ours", tmp_path / name, "--to", way) == 2
        assert "other.hdf5: is no episode of tacit" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["ours"]


@pytest.mark.parametrize(("way", "limit"), [("robomimic", 30_000), ("zarr", 2_000)])
def test_a_full_disk_leaves_nothing(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str, limit: int
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        assert convert(ours, tmp_path / "set.hdf5", "--to", way) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in capsys.readouterr().err and os.listdir(tmp_path) == []
