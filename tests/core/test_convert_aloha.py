"""HDF5 files of ACT, ACT++ and X-Trainer: ours go out as their programs read them, and theirs come in."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from episode_kit import drawn_image, rig, write_episode

from tacit import cli
from tacit.episode import EpisodeReader, check_dataset, find_episodes
from tacit.images import encode_jpeg

TICKS = 8


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ours")
    for number, success in enumerate((True, None)):
        write_episode(root, TICKS + number, success)
    return root


def convert(*words: object) -> int:
    return cli.main(["convert", *map(str, words)])


def psnr(a: Any, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def aloha_file(path: Path, num_frames: int = 6, *, width: int = 14, qpos: np.ndarray | None = None) -> Path:
    """A file as ACT++ writes it: swapped JPEG padded with zeros, no attribute but two."""
    moves = 0.1 * np.arange(num_frames)[:, None] + np.arange(width) / 100 if qpos is None else qpos
    pictures = [encode_jpeg(drawn_image(i, 48, 64)[..., ::-1]) for i in range(num_frames)]
    padded = np.zeros((num_frames, max(map(len, pictures)) + 7), np.uint8)
    for row, data in zip(padded, pictures, strict=True):
        row[: len(data)] = data
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, True
        file["action"] = moves.astype("f4")
        file["base_action"] = np.ones((num_frames, 2), "f4")
        file["observations/qpos"] = moves.astype("f4")
        file["observations/images/cam_high"] = padded
    return path


@pytest.mark.parametrize(("style", "least_db"), [("act", 38), ("act++", 34), ("xtrainer", 100)])
def test_a_set_goes_out_and_comes_back(ours: Path, tmp_path: Path, style: str, least_db: float) -> None:
    """Only pictures whose channels are swapped, or that were stored raw, are encoded anew."""
    assert convert(ours, tmp_path / "theirs", "--to", "aloha", "--style", style) == 0
    assert convert(tmp_path / "theirs", tmp_path / "back") == 0, "recognised by itself"
    report = check_dataset(tmp_path / "back", full=True)
    assert report.ok and len(report.episodes) == 2
    for before, after in zip(find_episodes(ours), find_episodes(tmp_path / "back"), strict=True):
        with EpisodeReader(before) as a, EpisodeReader(after) as b:
            np.testing.assert_allclose(a.qpos, b.qpos, atol=1e-6)
            np.testing.assert_allclose(a.action, b.action, atol=1e-6)
            np.testing.assert_array_equal(a.tick_ns, b.tick_ns)
            assert (a.task, a.instruction, a.success) == (b.task, b.instruction, b.success)
            assert b.attribute("stamps") == "true" and b.steps == a.steps
            np.testing.assert_array_equal(a.reference("left"), b.reference("left"))
            assert psnr(a.image("wrist", 3), b.image("wrist", 3)) > least_db
            if style == "xtrainer":
                assert b.touch("left", 3).shape == a.touch("left", 3).shape
                assert (a.image_bytes("right", 3) == b.image_bytes("right", 3)).all()


@pytest.mark.parametrize(("style", "is_rgb"), [("act++", True), ("xtrainer", False)])
def test_their_loaders_get_the_colours_they_expect(
    ours: Path, tmp_path: Path, style: str, is_rgb: bool
) -> None:
    assert convert(ours, tmp_path / "out", "--to", "aloha", "--style", style, "--rename", "top=cam_high") == 0
    path = find_episodes(tmp_path / "out")[0]
    assert path.name == ("episode_0.hdf5" if is_rgb else "episode_init_0.hdf5")
    with h5py.File(path) as file, EpisodeReader(find_episodes(ours)[0]) as reader:
        decoded = cv2.imdecode(file["observations/images/cam_high"][2], 1)
        assert decoded is not None
        assert psnr(decoded if is_rgb else decoded[..., ::-1], reader.image("top", 2)) > 34
        used = np.count_nonzero(file["observations/images/cam_high"][2][::-1].cumsum())
        lengths = file["compress_len"][:]
        assert lengths.shape == (4, TICKS) and used in lengths[:, 2]
        opening = reader.qpos[:, 6] / 0.08
        np.testing.assert_allclose(file["observations/qpos"][:, 6], opening, atol=1e-6)
        assert ("tactile1" in file["observations"]) is not is_rgb


def test_what_a_foreign_file_lacks_stays_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (10, 9):  # by number, not by letter
        aloha_file(tmp_path / "fold" / f"episode_{number}.hdf5", number)
    (tmp_path / "fold" / "notes.txt").write_text("foreign")
    with h5py.File(tmp_path / "fold" / "other.hdf5", "w") as file:
        file["something"] = 1
    (finding,) = check_dataset(tmp_path / "fold/episode_9.hdf5").episodes[0].findings
    assert "tacit convert FILE_OR_FOLDER TARGET" in finding.message
    assert convert(tmp_path / "fold", tmp_path / "out", "--instruction", "fold it") == 0
    said = capsys.readouterr().out
    assert "1 other HDF5 files left alone: other.hdf5" in said and "channels taken to be rgb" in said
    assert check_dataset(tmp_path / "out").ok
    first, second = find_episodes(tmp_path / "out")
    with EpisodeReader(first) as reader, EpisodeReader(second) as longer:
        assert (reader.num_ticks, longer.num_ticks) == (9, 10)
        assert reader.task == "fold" and reader.instruction == "fold it" and reader.success is None
        assert reader.state_names[6] == "left_gripper" and reader.qvel is None and not reader.tactile
        assert (
            reader.attribute("stamps") == "nominal" and np.diff(reader.tick_ns).tolist() == [20_000_000] * 8
        )
        assert not [name for name in ("sensor_bbox", "camera_pose") if name in reader.file]
        np.testing.assert_array_equal(reader.file["observations/extra/base_action"][:], 1)
        assert psnr(reader.image("cam_high", 4), drawn_image(4, 48, 64)) > 30, "red is red again"


def test_a_rig_says_what_the_grippers_are_and_an_action_may_be_late(tmp_path: Path) -> None:
    """X-Trainer's servo coefficient 1 is an opening of 106.3 mm."""
    qpos = np.zeros((6, 14))
    qpos[:, 6] = 1.0
    qpos[:, 13] = np.linspace(0, 1, 6)
    aloha_file(tmp_path / "episode_0.hdf5", qpos=qpos)
    with h5py.File(tmp_path / "episode_0.hdf5", "a") as file:
        file.move("observations/images/cam_high", "observations/images/left_wrist")
        file["observations/images/left_wrist"].attrs["color"] = "rgb"
    words = ["--rig", small_xtrainer(tmp_path), "--action-delay", "1", "--label", "success"]
    assert convert(tmp_path / "episode_0.hdf5", tmp_path / "out", *words) == 0
    with EpisodeReader(find_episodes(tmp_path / "out")[0]) as reader:
        assert reader.success is True
        np.testing.assert_allclose(reader.qpos[:, 6], 0.1063, atol=2e-4)
        np.testing.assert_allclose(reader.action[1:, 13], reader.qpos[:-1, 13])


def small_xtrainer(folder: Path) -> Path:
    """The shipped rig with a wrist camera of another size, and without what the files lack."""
    from tacit.rig import load_rig, parse_rig

    data = load_rig("xtrainer").model_dump(mode="json")
    data["cameras"] = {"left_wrist": data["cameras"]["left_wrist"] | {"width": 64, "height": 48}}
    data["tactile"], data["alignment"] = {}, {"tick_source": "camera:left_wrist", "rate_hz": 50.0}
    (folder / "rig.yaml").write_text(parse_rig(data, "test").to_yaml())
    return folder / "rig.yaml"


def test_a_damaged_file_does_not_hide_what_a_folder_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --from, too, it is the damaged file that is named."""
    truncate(aloha_file(tmp_path / "in/episode_0.hdf5"))
    aloha_file(tmp_path / "in/episode_1.hdf5")
    assert convert(tmp_path / "in", tmp_path / "out") == 2
    assert "episode_0.hdf5: cannot be opened" in capsys.readouterr().err


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "a") as file:
            change(file)

    return apply


def cut_picture(file: h5py.File) -> None:
    pictures = file["observations/images/cam_high"]
    pictures[3, 300:] = 0


def put_nan(file: h5py.File) -> None:
    file["observations/qpos"][4, 2] = np.nan


def other_size(file: h5py.File) -> None:
    del file["observations/images/cam_high"]
    file["observations/images/cam_high"] = np.zeros((6, 10, 10, 3), np.uint8)


def grey(file: h5py.File) -> None:
    del file["observations/images/cam_high"]
    file["observations/images/cam_high"] = np.zeros((6, 10, 10), np.uint8)


def say_bgr(file: h5py.File) -> None:
    file["observations/images/cam_high"].attrs["color"] = "bgr"


@pytest.mark.parametrize(
    ("damage", "words", "message"),
    [
        (truncate, [], "episode_1.hdf5: cannot be opened"),
        (edit(cut_picture), [], "frame 3: the picture has no end"),
        (edit(put_nan), [], "state: left_elbow is nan at frame 4"),
        (edit(put_nan), ["--rig", "nova2_sim"], "14 joints, the rig nova2_sim has 7"),
        (edit(other_size), [], "other cameras, sizes or joints"),
        (edit(grey), [], "expected 6 pictures"),
        (edit(say_bgr), ["--colour", "rgb"], "says that its channels are bgr"),
        (None, ["--rename", "cam_low=top"], "no such camera"),
        (None, ["--rename", "cam_high"], "expected OLD=NEW"),
        (None, ["--rename", "cam_high=../../top"], "cameras.../../top"),
        (None, ["--task", "../above"], "expected a plain name"),
        (None, ["--fps", "-3"], "rate_hz"),
    ],
)
def test_what_cannot_be_taken_over_is_named_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None] | None,
    words: list[str],
    message: str,
) -> None:
    files = [aloha_file(tmp_path / "in" / f"episode_{i}.hdf5") for i in range(2)]
    if damage is not None:
        damage(files[1])
    assert convert(tmp_path / "in", tmp_path / "out", "--from", "aloha", *words) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in"] and len(os.listdir(tmp_path / "in")) == 2


def test_a_full_disk_leaves_nothing(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert convert(ours, tmp_path / "out", "--to", "aloha", "--style", "act") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_a_folder_without_such_files_is_no_source(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(ours, tmp_path / "out", "--from", "aloha") == 2
    assert "no HDF5 file with /action" in capsys.readouterr().err
    assert convert(ours, tmp_path / "out", "--to", "aloha", "--rename", "top=x", "wrist=x") == 2
    assert "same name" in capsys.readouterr().err and rig().name == "nova2_sim"
