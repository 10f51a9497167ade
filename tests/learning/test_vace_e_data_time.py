"""Videos of an episode are read by their own time: mixed rates, uneven ones, several windows, bad files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from coded_videos import ramp, shown, write_coded

from tacit import cli
from tacit.errors import EpisodeError
from tacit_learning.vace_e.config import DataOptions, VaceEStage
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.discovery import discover
from tacit_learning.vace_e.data.schedule import Schedule, make_sampler

Times = list[float] | float
UNEVEN = [0.033 * i for i in range(15)] + [0.033 * 14 + 0.1 * i for i in range(1, 7)]  # 1.06 s


def write(
    root: Path, target: Times, control: Times, mask: Times, rows: int = 33, codec: str = "libx264"
) -> None:
    """Write an episode of about a second whose frames tell their numbers; hands at x = time [s]."""
    folder = root / "pick" / "episode_0"
    folder.mkdir(parents=True)
    for name, times in (("", target), ("_hands_masked", control), ("_hands_mask", mask)):
        count = len(times) if isinstance(times, list) else round(UNEVEN[-1] * times) + 1
        write_coded(folder / f"episode_0{name}.mp4", ramp(count, 64, 64), times, codec)
    rows = 33
    with h5py.File(folder / "episode_0_hand_trajectories.hdf5", "w") as file:
        group = file.create_group("right_wrist")
        group["positions"] = np.linspace(0, UNEVEN[-1], rows)[:, None] * [1.0, 0, 0]
        group["rotations_6d"] = np.tile([1.0, 0, 0, 0, 1, 0], (rows, 1))


def options(root: Path, **changes: object) -> DataOptions:
    base = {"height": 64, "width": 64, "num_frames": 17, "dataset_base_path": str(root)}
    return DataOptions.model_validate(base | changes)


def test_an_uneven_video_and_its_motion_share_true_time(tmp_path: Path) -> None:
    """At 16 Hz frames and rows are those of the moment; by frame numbers the window would end at 0.6 s."""
    write(tmp_path, UNEVEN, UNEVEN, UNEVEN)
    dataset = VaceEDataset(options(tmp_path))
    assert dataset.report.note_counts["uneven frame rate"] == 1
    item = dataset[0]
    moments = np.arange(17) / 16
    nearest = [int(np.abs(np.array(UNEVEN) - moment).argmin()) for moment in moments]
    assert item.video is not None and shown(item.video) == nearest
    seen = dataset.moments(0)
    np.testing.assert_allclose(seen, moments, atol=0.051)
    np.testing.assert_allclose(item.motion[:, 9], np.interp(item.motion_times, range(17), seen), atol=0.02)


def test_frames_as_they_are_keep_the_time_of_their_rows(tmp_path: Path) -> None:
    write(tmp_path, UNEVEN, UNEVEN, UNEVEN)
    item = VaceEDataset(options(tmp_path, fps=None))[0]
    assert item.video is not None and shown(item.video) == list(range(17))
    np.testing.assert_allclose(item.motion[:, 9], np.interp(item.motion_times, range(21), UNEVEN), atol=3e-3)


def test_videos_of_several_rates_are_aligned_by_time(tmp_path: Path) -> None:
    write(tmp_path, 15.0, UNEVEN, 27.0)
    dataset = VaceEDataset(options(tmp_path))
    assert set(dataset.report.note_counts) >= {"rates differ", "uneven frame rate"}
    frames, moments = dataset.frames(0), dataset.moments(0)
    np.testing.assert_allclose(frames["target"] / 15, moments)
    np.testing.assert_allclose(moments, np.arange(17) / 16, atol=0.5 / 15 + 1e-6)
    np.testing.assert_allclose(frames["mask"] / 27, moments, atol=0.5 / 27 + 1e-6)
    item = dataset[0]
    assert item.video is not None and shown(item.video) == frames["target"].tolist()
    assert item.control is not None and shown(item.control) == frames["control"].tolist()


@pytest.mark.parametrize(
    ("rates", "reason"),
    [
        ((15.0, [i / 30 for i in range(17)], 15.0), "lengths differ"),
        ((15.0, 15.0, [0.0]), "lengths differ"),
        (([0.0], [0.0], [0.0]), "too short"),
    ],
    ids=["half as long", "one frame beside many", "one frame"],
)
def test_videos_that_cannot_be_brought_together_are_named(
    tmp_path: Path, rates: tuple[Times, Times, Times], reason: str
) -> None:
    write(tmp_path, *rates)
    with pytest.raises(EpisodeError, match=f"excluded: {reason}: 1"):
        discover(options(tmp_path))


def test_a_damaged_av1_video_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path, 15.0, 15.0, 15.0, codec="libsvtav1")
    assert len(VaceEDataset(options(tmp_path))) == 1
    path = tmp_path / "pick/episode_0/episode_0.mp4"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(EpisodeError, match=r"excluded: target video unreadable: 1\n.*episode_0.mp4"):
        discover(options(tmp_path))


def test_eleven_objects_nan_and_no_prompt_make_an_item_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, 16.0, 16.0, 16.0)
    folder = tmp_path / "pick" / "episode_0"
    with h5py.File(folder / "episode_0_hand_trajectories.hdf5", "r+") as file:
        file["right_wrist/positions"][3] = np.nan
    with h5py.File(folder / "episode_0_object_trajectories.hdf5", "w") as file:
        for number in range(11):
            group = file.create_group(f"object_{10 - number}")
            group["positions"] = np.full((18, 3), 10.0 - number)
            group["rotations_6d"] = np.tile([1.0, 0, 0, 0, 1, 0], (18, 1))
    dataset = VaceEDataset(options(tmp_path))
    item = dataset[0]
    assert item.object_ids.tolist() == list(range(10)), "the lowest ids stay"
    assert np.array_equal(item.objects[:, 0, 0], np.arange(10.0))
    notes = {note.reason: note.message for note in dataset.report.notes}
    assert "11 objects, kept the 10 lowest ids" in notes["objects doubtful"]
    assert "its prompt is its name" in notes["task without metadata"]
    assert item.prompt == "Robot manipulation task: pick" and item.embodiment_label == -1
    lost = ~item.motion_valid[:, 9]
    assert lost.sum() == 1 and np.isfinite(item.motion).all() and not item.motion[lost].any()


def test_a_slow_video_is_noted_and_the_check_takes_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 10.0, 10.0, 10.0)
    words = ["check", "vace_e", str(tmp_path), "--height", "64", "--width", "64", "--num-frames", "9"]
    assert cli.main(words) == 0
    assert "note: slower than the model: 1" in capsys.readouterr().out
    assert cli.main([*words, "--fps", "10", "--window", "chunked"]) == 0
    told = capsys.readouterr().out
    assert "slower" not in told and "bucket 9x64x64: 2 items" in told


def test_chunks_show_the_whole_episode_and_random_windows_take_turns(tmp_path: Path) -> None:
    write(tmp_path, 15.0, 15.0, 15.0)
    chunks = VaceEDataset(options(tmp_path, num_frames=5, window="chunked"))
    assert len(chunks) == 4 and len(chunks.records) == 1
    seen = np.concatenate([chunks.windows[i].frames for i in range(4)])
    assert set(seen.tolist()) == set(range(18))
    several = VaceEDataset(options(tmp_path, num_frames=5, window="random", random_windows=3))
    assert len(several) == 3 and several.turns() == [[0, 1, 2]]
    sampler = make_sampler(several, 1, repeat=1, seed=0, rank=0, world=1)
    schedule = Schedule(sampler, 1, several.turns())
    schedule.plan({"all": VaceEStage()}, 4, 1e-4)
    assert [schedule.numbers(step, 0) for step in range(4)] == [[0], [1], [2], [0]]
    assert len(several.subset([])) == 0
