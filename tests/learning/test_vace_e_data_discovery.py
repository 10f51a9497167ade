"""Every rule of the folder form, broken once: a count under its reason, and a clear story."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from benches.drawn_clips import SyntheticConfig, SyntheticTask, write_dataset
from tacit import cli
from tacit.convert.vace_e_files import TaskAttributes
from tacit.convert.video import read_frames, write_video
from tacit.errors import ConfigError, EpisodeError
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data import episode_check
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata
from tacit_learning.vace_e.data.discovery import discover
from tacit_learning.vace_e.data.episode_check import DiscoveryReport, EpisodeRecord
from tacit_learning.vace_e.data.items import VaceEItem, signals_of
from tacit_learning.vace_e.model.signals import Signals

TASK = "12 grasp it_2024_05_18-18_49"
ATTRIBUTES = TaskAttributes("grasping", "h9_claw", False, True, "cup.")
CONFIG = SyntheticConfig(height=32, width=48, num_frames=9, num_objects=1)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    write_dataset(root, (SyntheticTask(TASK, ATTRIBUTES, num_episodes=2),), CONFIG)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """Two good episodes; tests spoil episode_1."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def options(root: Path, **changes: object) -> DataOptions:
    base = {"height": 32, "width": 48, "num_frames": 9, "task_metadata_path": str(root / "metadata.json")}
    return DataOptions.model_validate({"dataset_base_path": str(root), **base, **changes})


def signals(items: list[VaceEItem]) -> Signals:
    return signals_of(items, [torch.ones(1, 4)] * len(items), [None] * len(items), 4, 3, 8)


def found(root: Path, **changes: object) -> tuple[list[EpisodeRecord], DiscoveryReport]:
    return discover(options(root, **changes))


def spoiled(root: Path, suffix: str) -> Path:
    return root / TASK / "episode_1" / f"episode_1{suffix}"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    write_video(path, change(read_frames(path, range(9))), 15.0)


def test_a_good_set_has_no_finding(root: Path) -> None:
    records, report = found(root)
    assert [record.identity for record in records] == [f"{TASK}/episode_0", f"{TASK}/episode_1"]
    assert (records[0].frames, records[0].height, records[0].width) == (9, 32, 48)
    assert records[0].has_motion and records[0].has_objects and records[0].reference
    assert (report.counts, report.note_counts) == ({}, {})


def test_episodes_come_in_the_order_of_their_numbers(root: Path) -> None:
    for number in (10, 2):
        shutil.copytree(root / TASK / "episode_0", root / TASK / f"episode_{number}")
        for path in (root / TASK / f"episode_{number}").glob("episode_0*"):
            path.rename(path.with_name(path.name.replace("episode_0", f"episode_{number}", 1)))
    assert [r.episode for r in found(root)[0]] == ["episode_0", "episode_1", "episode_2", "episode_10"]


def test_folders_without_a_numbered_episode_are_no_tasks(root: Path) -> None:
    for name in ("notes/episode_x", ".hidden/episode_0", "empty", f"{TASK}/episode_1_old"):
        (root / name).mkdir(parents=True)
    assert len(found(root)[0]) == 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: spoiled(root, ".mp4").unlink(), "no target video"),
        (lambda root: spoiled(root, "_hands_masked.mp4").unlink(), "no control video"),
        (lambda root: spoiled(root, "_hands_mask.mp4").unlink(), "no mask video"),
        (lambda root: spoiled(root, ".mp4").write_bytes(b"no video"), "target video unreadable"),
        (lambda root: cut(spoiled(root, "_hands_mask.mp4")), "mask video unreadable"),
        (lambda root: rewrite(spoiled(root, ".mp4"), lambda v: v[:, :16]), "sizes differ"),
        (lambda root: rewrite(spoiled(root, "_hands_mask.mp4"), lambda v: v[:7]), "lengths differ"),
        (lambda root: shorten(root, 4), "too short"),
    ],
)
def test_videos_that_break_a_rule_are_counted_under_it(
    root: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(root)
    records, report = found(root)
    assert [record.episode for record in records] == ["episode_0"]
    assert report.counts == {reason: 1}
    assert f"excluded: {reason}: 1" in report.lines()
    assert report.excluded[0].where == f"{TASK}/episode_1"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shorten(root: Path, frames: int) -> None:
    for suffix in (".mp4", "_hands_masked.mp4", "_hands_mask.mp4"):
        rewrite(spoiled(root, suffix), lambda video: video[:frames])


def test_one_frame_more_is_cut(root: Path) -> None:
    rewrite(spoiled(root, "_hands_mask.mp4"), lambda video: video[:8])
    records, report = found(root)
    assert records[1].frames == 8 and report.counts == {}


def test_the_target_is_needed_for_training_alone(root: Path) -> None:
    spoiled(root, ".mp4").unlink()
    assert len(discover(options(root), require_target=False)[0]) == 2
    dataset = VaceEDataset(options(root), require_target=False)
    assert dataset[1].video is None and dataset[1].control is not None


def test_the_control_video_can_be_made_from_the_mask(root: Path) -> None:
    spoiled(root, "_hands_masked.mp4").unlink()
    item = VaceEDataset(options(root, control_from_mask=True))[1]
    assert item.control is not None and item.mask is not None and item.video is not None
    assert set(item.control[item.mask].ravel().tolist()) == {128}, "grey, not black"
    np.testing.assert_array_equal(item.control[~item.mask], item.video[~item.mask])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: spoiled(root, "_hand_trajectories.hdf5").unlink(), "motion missing"),
        (lambda root: spoiled(root, "_object_trajectories.hdf5").unlink(), "objects missing"),
        (lambda root: spoiled(root, "_hand_trajectories.hdf5").write_bytes(b"x"), "motion damaged"),
        (lambda root: spoiled(root, "_object_trajectories.hdf5").write_bytes(b"x"), "objects damaged"),
        (lambda root: fill(spoiled(root, "_hand_trajectories.hdf5"), np.nan), "motion missing"),
        (lambda root: fill(spoiled(root, "_object_trajectories.hdf5"), np.inf), "objects missing"),
    ],
)
def test_without_trajectories_an_episode_is_video_only_or_left_out(
    root: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(root)
    records, report = found(root)
    assert len(records) == 2 and report.note_counts == {reason: 1}
    item = VaceEDataset(options(root))[1]
    missing = reason.split()[0]
    assert (item.has_motion, item.has_objects) == (missing != "motion", missing != "objects")
    if missing == "motion":
        assert item.motion.shape == (0, 20) and item.motion_valid.shape == (0, 20)
    else:
        assert item.objects.shape == (0, 0, 9) and item.object_valid.shape == (0, 0)
    records, report = found(root, fallback_to_video_only=False)
    assert [record.episode for record in records] == ["episode_0"] and report.counts == {reason: 1}


def fill(path: Path, value: float) -> None:
    def spoil(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind == "f":
            node[...] = value

    with h5py.File(path, "r+") as file:
        for name in ("left_hand_states", "right_hand_states"):
            if name in file:
                del file[name]
        file.visititems(spoil)


def test_a_batch_with_a_video_only_episode_masks_it(root: Path) -> None:
    spoiled(root, "_hand_trajectories.hdf5").unlink()
    spoiled(root, "_object_trajectories.hdf5").unlink()
    next((root / TASK / "episode_1").glob("end_effector_*")).unlink()
    dataset = VaceEDataset(options(root))
    items = [dataset[0], dataset[1]]
    assert [item.reference is not None for item in items] == [True, False]
    batch = signals(items)
    assert batch.present[:, 1:3].tolist() == [[True, True], [False, False]]
    assert not batch.motion[1].any() and not batch.motion_valid[1].any() and not batch.objects[1].any()
    alone = signals(items[1:])
    assert alone.motion.shape == (1, 1, 20) and not alone.motion_valid.any()


def test_hands_left_visible_under_the_mask_are_said(root: Path) -> None:
    shutil.copy(spoiled(root, ".mp4"), spoiled(root, "_hands_masked.mp4"))
    records, report = found(root)
    assert len(records) == 2 and report.note_counts == {"hands visible under the mask": 1}
    assert found(root, control_from_mask=True)[1].note_counts == {}


def test_a_damaged_image_counts_as_none_and_the_next_is_taken(root: Path) -> None:
    folder = root / TASK / "episode_1"
    (folder / "end_effector_a.jpg").write_bytes(b"no image")
    records, report = found(root)
    assert records[1].reference == "end_effector_camera.png"
    assert report.note_counts == {"reference damaged": 1}
    (folder / "end_effector_camera.png").unlink()
    records, report = found(root)
    assert records[1].reference is None
    assert report.note_counts == {"reference damaged": 1, "reference missing": 1}


def test_two_folders_of_one_number_are_refused(root: Path) -> None:
    shutil.copytree(root / TASK / "episode_1", root / TASK / "episode_01")
    with pytest.raises(EpisodeError, match="episode_01 and episode_1 have one number"):
        found(root)


def test_all_episodes_spoiled_is_an_error_that_names_the_reason(root: Path) -> None:
    for path in root.rglob("*_hands_mask.mp4"):
        path.unlink()
    with pytest.raises(EpisodeError, match=r"no usable episode\nexcluded: no mask video: 2"):
        found(root)


def test_strict_refuses_one_spoiled_episode(root: Path) -> None:
    assert len(found(root, strict=True)[0]) == 2
    spoiled(root, "_hands_mask.mp4").unlink()
    with pytest.raises(EpisodeError, match="strict: 1 episodes cannot be used"):
        found(root, strict=True)


def test_more_than_half_spoiled_is_a_warning(root: Path) -> None:
    spoiled(root, "_hands_mask.mp4").unlink()
    assert not any("WARNING" in line for line in found(root)[1].lines()), "one of two is half, not more"
    shutil.copytree(root / TASK / "episode_1", root / TASK / "episode_2")
    assert any("WARNING: more than half" in line for line in found(root)[1].lines())


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere", "no such folder"), (TASK, "give its parent"), (f"{TASK}/episode_0", "<task>/episode_<N>")],
)
def test_a_wrong_folder_says_what_it_should_be(root: Path, place: str, message: str) -> None:
    with pytest.raises(EpisodeError, match=message):
        found(root / place)


def test_gripper_codes_stop_everything_until_they_are_told(root: Path) -> None:
    with h5py.File(spoiled(root, "_hand_trajectories.hdf5"), "r+") as file:
        file["right_hand_states"][...] = 2 + file["right_hand_states"][...]
    with pytest.raises(ConfigError, match="gripper_open_values"):
        found(root)
    assert len(found(root, gripper_open_values=(1, 3))[0]) == 2


def test_robot_data_may_lie_apart_in_either_form(root: Path, tmp_path: Path) -> None:
    apart = tmp_path / "robot"
    (apart / TASK / "episode_0").mkdir(parents=True)
    for kind in ("hand", "object"):
        name = f"episode_0_{kind}_trajectories.hdf5"
        shutil.move(root / TASK / "episode_0" / name, apart / TASK / "episode_0" / name)
        shutil.move(spoiled(root, f"_{kind}_trajectories.hdf5"), apart / TASK)
    records, _ = found(root, robot_data_path=str(apart))
    assert records[0].has_motion and records[0].has_objects
    item = VaceEDataset(options(root, robot_data_path=str(apart)))[0]
    assert item.has_motion
    assert not found(root)[0][0].has_motion


def test_the_index_spares_a_second_look_until_a_file_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, opened = tmp_path / "cache" / "index.json", []
    probe = episode_check.probe_video
    monkeypatch.setattr(episode_check, "probe_video", lambda path: opened.append(path) or probe(path))
    first = discover(options(root), index=index)
    assert len(opened) == 6
    assert discover(options(root), index=index) == first and len(opened) == 6
    rewrite(spoiled(root, ".mp4"), lambda video: video[:, :16])
    _, report = discover(options(root), index=index)
    assert report.counts == {"sizes differ": 1} and len(opened) == 9
    assert discover(options(root, fallback_to_video_only=False), index=index)[1].counts == report.counts
    assert len(opened) == 15, "another option, another look"


def test_a_broken_index_is_made_anew(root: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text("{")
    assert len(discover(options(root), index=index)[0]) == 2
    assert '"version"' in index.read_text()


def test_a_drawn_data_set_is_found_whole_and_lacks_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--height", "32", "--width", "48", "--num-frames", "9", "--episodes", "3", "--missing"]
    assert cli.main(["simulate", "vace_e", "--out", str(tmp_path / "drawn"), *words]) == 0
    assert "18 episodes of 6 tasks" in capsys.readouterr().out
    records, report = found(tmp_path / "drawn")
    assert len(records) == 18 and report.counts == {}
    assert report.note_counts == {"motion missing": 2, "objects missing": 1, "reference missing": 1}
    assert cli.main(["simulate", "vace_e", "--out", str(tmp_path / "drawn")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_equal_seeds_draw_equal_data_sets(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_dataset(
            tmp_path / name, (SyntheticTask(TASK, ATTRIBUTES, num_episodes=1),), replace(CONFIG, seed=seed)
        )
    motion = [VaceEDataset(options(tmp_path / name))[0].motion for name in "abc"]
    np.testing.assert_array_equal(motion[0], motion[1])
    assert np.abs(motion[0] - motion[2]).max() > 0.01


def test_the_check_says_what_cannot_be_used_and_how_batches_are_filled(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "vace_e", str(root), "--height", "32", "--width", "48", "--num-frames", "9"]
    report = tmp_path / "report.json"
    assert cli.main([*words, "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 episodes usable" in out and "grasping" in out
    assert "bucket 9x32x48: 2 items, 2 repeats fill batches of 4" in out
    spoiled(root, "_hands_mask.mp4").unlink()
    assert cli.main([*words, "--json", str(report)]) == 1
    assert "excluded: no mask video: 1" in capsys.readouterr().out
    assert json.loads(report.read_text())["excluded"] == {"no mask video": 1}
    assert cli.main(["check", "vace_e", str(root), "--height", "30"]) == 2
    assert "height" in capsys.readouterr().err


def test_metadata_beside_the_tasks_is_found_and_named_metadata_wins(tmp_path: Path) -> None:
    unnamed = options(tmp_path, task_metadata_path=None)
    assert find_metadata(unnamed) is unnamed
    (tmp_path / "metadata.json").touch()
    assert find_metadata(unnamed).task_metadata_path == str(tmp_path / "metadata.json")
    named = options(tmp_path, task_metadata_path="mine.json")
    assert find_metadata(named) is named
