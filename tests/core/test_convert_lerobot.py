"""LeRobot data sets: ours to theirs and back, and one that LeRobot 0.4.4 itself wrote."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from episode_kit import START_NS, write_episode
from taxel_kit import write_taxel_episode

from tacit import cli
from tacit.episode import EpisodeReader, check_episode, find_episodes
from tacit.rig import load_rig

av = pytest.importorskip("av")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = (9, 6)
THEIRS = Path(__file__).parent.parent / "data" / "lerobot_v3.zip"
"""Two episodes of 12 and 13 frames at 20 Hz by LeRobot 0.4.4: the state is (0.1 i, episode, sin(i)), the
action the next one; a video of 128x96 px, pictures of 64x48 px, a force (i, -i)."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ours")
    for length, success in zip(LENGTHS, (True, False), strict=True):
        write_episode(root, length, success, operator="ada")
    return root


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs") / "so101_pick"
    with zipfile.ZipFile(THEIRS) as archive:
        archive.extractall(folder)
    return folder


def convert(source: Path, target: Path, *words: str) -> Path:
    assert cli.main(["convert", str(source), str(target), *words]) == 0
    return target


def errors(root: Path) -> list[str]:
    return [
        f"{f.rule} {f.where} {f.message}" for path in find_episodes(root) for f in check_episode(path).errors
    ]


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - two) ** 2), 1e-9)))


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_single_pictures_come_back_bit_by_bit_and_all_else_with_them(
    ours: Path, tmp_path: Path, version: str
) -> None:
    made = convert(ours, tmp_path / "set", "--to", "lerobot", "--version", version, "--pictures", "image")
    back = convert(made, tmp_path / "back")
    assert errors(back) == []
    pairs = list(zip(find_episodes(ours), find_episodes(back), strict=True))
    for before, after in pairs:
        assert before.relative_to(ours) == after.relative_to(back)
        with EpisodeReader(before) as one, EpisodeReader(after) as two:
            for name in ("qpos", "action", "tick_ns"):
                np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            for name in ("success", "steps", "instruction", "task", "rig", "cameras", "tactile"):
                assert getattr(one, name) == getattr(two, name)
            for name in ("outcome", "operator", "sim"):
                assert one.attribute(name) == two.attribute(name)
            np.testing.assert_array_equal(one.boxes("wrist", "left"), two.boxes("wrist", "left"))
            np.testing.assert_array_equal(one.reference("left"), two.reference("left"))
            for stream in ("wrist", "left"):
                np.testing.assert_array_equal(one.image_bytes(stream, 4), two.image_bytes(stream, 4))


def test_arrays_of_taxels_are_features_of_their_own_and_come_back(tmp_path: Path) -> None:
    write_taxel_episode(tmp_path / "ours", 8)
    made = convert(tmp_path / "ours", tmp_path / "set", "--to", "lerobot", "--pictures", "image")
    features = json.loads((made / "meta/info.json").read_text())["features"]
    shapes = {name: features[f"observation.tactile_arrays.{name}"]["shape"] for name in ("left", "right")}
    assert shapes == {"left": [12, 10, 1], "right": [4, 4, 3]}
    back = convert(made, tmp_path / "back")
    assert errors(back) == []
    (before,), (after,) = find_episodes(tmp_path / "ours"), find_episodes(back)
    with EpisodeReader(before) as one, EpisodeReader(after) as two:
        for name in one.taxels:
            np.testing.assert_array_equal(one.readings(name), two.readings(name))
            np.testing.assert_array_equal(one.reference(name), two.reference(name))
            np.testing.assert_array_equal(one.boxes("wrist", name), two.boxes("wrist", name))
    (made / "meta/tacit/episodes.jsonl").unlink()  # as a data set of others: nobody says where they are
    (drafted,) = find_episodes(convert(made, tmp_path / "drafted", "--label", "success"))
    with EpisodeReader(drafted) as two:
        assert two.taxels == () and two.num_ticks == 8


@pytest.mark.parametrize("words", [(), ("--pictures", "h264", "--version", "v2.1")])
def test_videos_come_back_frame_by_frame(ours: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    made = convert(ours, tmp_path / "set", "--to", "lerobot", *words)
    back = convert(made, tmp_path / "back")
    for before, after in zip(find_episodes(ours), find_episodes(back), strict=True):
        with EpisodeReader(before) as one, EpisodeReader(after) as two:
            found = [
                [psnr(one.image("top", tick), two.image("top", other)) for other in range(two.num_ticks)]
                for tick in range(one.num_ticks)
            ]
    assert np.min(np.diag(found)) > 35
    assert (np.argmax(found, axis=1) == np.arange(LENGTHS[-1])).all()  # no frame is its neighbour


def test_the_tables_say_what_lerobot_asks_for(ours: Path, tmp_path: Path) -> None:
    made = convert(ours, tmp_path / "set", "--to", "lerobot")
    info = json.loads((made / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 25, "nova2_sim")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, sum(LENGTHS), 1)
    assert info["features"]["observation.state"]["names"][-1] == "gripper"
    frames = pq.read_table(made / "data/chunk-000/file-000.parquet").to_pydict()
    assert frames["index"] == list(range(sum(LENGTHS)))
    assert frames["frame_index"] == [*range(LENGTHS[0]), *range(LENGTHS[1])]
    assert frames["observation.stamp_ns"][:2] == [START_NS, START_NS + 40_000_000]
    assert np.shape(frames["observation.sensor_pose.left"]) == (sum(LENGTHS), 4, 4)
    episodes = pq.read_table(made / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["videos/observation.images.top/from_timestamp"] == [0.0, LENGTHS[0] / 25]
    assert episodes["dataset_to_index"] == [LENGTHS[0], sum(LENGTHS)]
    stats = json.loads((made / "meta/stats.json").read_text())["observation.state"]
    states = np.array(frames["observation.state"], np.float64)
    np.testing.assert_allclose(stats["mean"], states.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(stats["std"], states.std(axis=0), atol=1e-9)
    modality = json.loads((made / "meta/modality.json").read_text())
    assert modality["state"] == {"arm": {"start": 0, "end": 6}, "gripper": {"start": 6, "end": 7}}
    assert modality["video"]["left"] == {"original_key": "observation.images.left"}


def test_a_set_that_lerobot_wrote_comes_in_and_nothing_is_invented(theirs: Path, tmp_path: Path) -> None:
    back = convert(theirs, tmp_path / "back")
    assert errors(back) == []
    paths = find_episodes(back)
    assert [path.parent.name for path in paths] == ["so101_pick"] * 2  # two tasks, and still in their order
    for number, path in enumerate(paths):
        with EpisodeReader(path) as reader:
            i = np.arange(12 + number)
            expected = np.stack([0.1 * i, np.full(len(i), number), np.sin(i)], axis=1)
            np.testing.assert_allclose(reader.qpos, expected, atol=1e-6)
            np.testing.assert_allclose(reader.action[:, 2], np.sin(i + 1), atol=1e-6)
            np.testing.assert_allclose(np.diff(reader.tick_ns), 50_000_000, atol=1)
            assert reader.instruction == ("put it there" if number else "Pick the cube!")
            assert reader.state_names == ("left_shoulder.pos", "left_elbow.pos", "gripper.pos")
            assert (reader.success, reader.qvel, reader.tactile) == (None, None, ())
            force = reader.file["observations/extra/observation.force"]
            np.testing.assert_array_equal(force, np.stack([i, -i], axis=1))
            drawn = np.stack([reader.image("top", tick)[2, 100] for tick in i]).astype(float)
            np.testing.assert_allclose(drawn[:, 1], 10 * i, atol=6)  # green counts the frames
            assert psnr(reader.image("top", 5)[::2, ::2], reader.image("wrist", 5)) > 25


def test_it_goes_back_with_the_same_features_and_values(theirs: Path, tmp_path: Path) -> None:
    again = convert(convert(theirs, tmp_path / "in"), tmp_path / "again", "--to", "lerobot")
    infos = [json.loads((folder / "meta/info.json").read_text()) for folder in (theirs, again)]
    assert set(infos[1]["features"]) == {*infos[0]["features"], "observation.stamp_ns"}
    assert infos[0]["robot_type"] == infos[1]["robot_type"] and infos[0]["fps"] == infos[1]["fps"]
    one, two = (pq.read_table(folder / "data/chunk-000/file-000.parquet") for folder in (theirs, again))
    for name in ("observation.state", "action", "observation.force", "timestamp", "task_index", "index"):
        np.testing.assert_array_equal(one.column(name).to_pylist(), two.column(name).to_pylist())


def test_without_our_notes_our_own_set_is_one_of_others(ours: Path, tmp_path: Path) -> None:
    made = convert(ours, tmp_path / "set", "--to", "lerobot", "--version", "v2.1")
    shutil.rmtree(made / "meta/tacit")
    back = convert(made, tmp_path / "drafted", "--task", "cube")
    with EpisodeReader(find_episodes(back)[0]) as reader:
        assert reader.task == "cube" and reader.rig.unmeasured and reader.tick_ns[0] == START_NS
        assert reader.cameras == ("left", "right", "top", "wrist")  # no name says that two of them feel
    fitted = convert(made, tmp_path / "fitted", "--rig", "nova2_sim", "--task", "cube")
    assert errors(fitted) == []
    with EpisodeReader(find_episodes(fitted)[0]) as reader, EpisodeReader(find_episodes(ours)[0]) as first:
        np.testing.assert_array_equal(reader.boxes("top", "right"), first.boxes("top", "right"))


def test_a_rig_is_drafted_from_a_data_set_and_taken_back(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    assert cli.main(["rig", "new", "--from-dataset", str(theirs), "--out", str(path)]) == 0
    assert "to be measured: arms.arm, cameras.top, cameras.wrist" in capsys.readouterr().out
    back = convert(theirs, tmp_path / "in", "--rig", str(path))
    with EpisodeReader(find_episodes(back)[1]) as reader:
        assert reader.rig == load_rig(path)
    assert cli.main(["rig", "new", "--from-dataset", str(theirs), "--out", str(path)]) == 2
    assert cli.main(["rig", "new", "--from-dataset", str(back), "--out", str(tmp_path / "b.yaml")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "never overwritten" in told and "episodes of tacit already, and each holds its rig" in told
