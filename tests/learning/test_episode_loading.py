"""Reading many episodes, of several rigs, each frame as often as wanted."""

from __future__ import annotations

import json
import os
import resource
import shutil
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_kit import tick_at, writer_at

from tacit.config import parse
from tacit.episode import EpisodeReader, EpisodeWriter, secure
from tacit.episode.cut import trim
from tacit.episode.edit import Labels, label
from tacit.errors import ConfigError, EpisodeError
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Tick
from tacit_learning.alignment.signals import EpisodeProgress, write_signals
from tacit_learning.data.episodes import EpisodeTable, find_training_episodes, load_table
from tacit_learning.data.pictures import ReaderImages
from tacit_learning.data.rows import CACHE_NAME
from tacit_learning.data.view import DataConfig
from tacit_learning.data.weights import row_weights
from tacit_learning.data.windows import StepSampler

NUM_TICKS = 6
SIZES = {"image_height": 48, "image_width": 64, "touch_height": 24, "touch_width": 32}
THEIRS = {"cam_high": "top", "cam_wrist": "wrist"}


def config(*roots: Path, **options: object) -> DataConfig:
    return DataConfig(datasets=tuple(map(str, roots)), trim_idle=False, **(SIZES | options))


def write(path: Path, first: int = 0) -> Path:
    writer = writer_at(path, sync=False)
    for i in range(NUM_TICKS):
        writer.append(tick_at(first + i))
    return writer.close(True)


def table_of(settings: DataConfig) -> EpisodeTable:
    return load_table(find_training_episodes(settings), settings)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "place"
    for number in range(3):
        write(folder / f"episode_{number}.hdf5", 10 * number)
    return folder


def other_rig() -> Rig:
    """The same cell of another lab: cameras have other names, two joints are called the other way round."""
    text = load_rig("nova2_sim").model_dump_json()
    for old, new in (("joint1", "joint"), ("joint2", "joint1"), ("joint", "joint2")):
        text = text.replace(f'"{old}"', f'"{new}"')
    data = json.loads(text)
    data["cameras"] = {theirs: data["cameras"][ours] for theirs, ours in THEIRS.items()}
    data["alignment"]["tick_source"] = "camera:cam_wrist"
    return parse_rig(data, "other")


@pytest.fixture(scope="module")
def other_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "theirs"
    writer = EpisodeWriter(folder / "episode_0.hdf5", other_rig(), task="t", sync=False, references=None)
    for i in range(NUM_TICKS):
        tick = tick_at(i)
        samples = {{"top": "cam_high", "wrist": "cam_wrist"}.get(n, n): s for n, s in tick.samples.items()}
        writer.append(Tick(tick.stamp_ns, tick.index, samples))
    writer.close(True)
    return folder


def test_no_more_files_are_open_than_allowed_and_images_stay_the_same(root: Path) -> None:
    table = table_of(config(root))
    images = table._images
    assert isinstance(images, ReaderImages)
    images._max_open = 2
    rows = [0, 7, 13, 1, 8, 14]
    seen, _ = table.images(rows)
    assert images.num_open == 2
    for row, picture in zip(rows, seen, strict=True):
        np.testing.assert_array_equal(table.images([row])[0][0], picture)
    images.close()
    assert images.num_open == 0


def test_too_many_open_files_are_not_taken_for_a_damaged_one(root: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (root / "episode_0.hdf5").open() as one:
        resource.setrlimit(resource.RLIMIT_NOFILE, (one.fileno() + 1, limits[1]))
        try:
            with pytest.raises(EpisodeError, match="too many files open.*ulimit"):
                held = [EpisodeReader(root / f"episode_{i % 3}.hdf5") for i in range(one.fileno() + 2)]
                assert held
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_who_relabels_an_episode_does_not_stop_a_training_and_who_cuts_it_does(tmp_path: Path) -> None:
    path = write(tmp_path / "place" / "episode_0.hdf5")
    table = table_of(config(tmp_path))
    before = table.images([3])
    table._images.close()  # type: ignore[attr-defined]
    label(path, Labels(outcome="better"))
    np.testing.assert_array_equal(table.images([3])[0], before[0])
    table._images.close()  # type: ignore[attr-defined]
    trim(path, 1, NUM_TICKS - 1)
    with pytest.raises(EpisodeError, match="other ticks than when its rows were read"):
        table.images([3])


@pytest.fixture
def kept(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """A set that counts as large, whose rows have been read once."""
    monkeypatch.setattr("tacit_learning.data.episodes.MANY", 3)
    shutil.copytree(root, tmp_path / "place")
    settings = config(tmp_path)
    table_of(settings)
    return settings


def test_rows_of_a_large_set_are_read_once(
    kept: DataConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table_of(config(root))
    monkeypatch.delattr("tacit.episode.EpisodeReader.qpos")  # no file is asked
    again = table_of(kept)
    for name in ("state", "action", "boxes", "box_valid", "visibility", "references", "starts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))
    assert [e.steps for e in again.episodes] == [e.steps for e in expected.episodes]
    np.testing.assert_array_equal(again.images([3, 8])[0], expected.images([3, 8])[0])


def test_kept_rows_of_a_file_that_changed_or_of_a_broken_cache_do_not_count(kept: DataConfig) -> None:
    folder = Path(kept.datasets[0]) / "place"
    before = table_of(kept)
    trim(folder / "episode_1.hdf5", 1, NUM_TICKS - 1)
    after = table_of(kept)
    assert len(after) == len(before) - 1
    np.testing.assert_array_equal(
        after.state[NUM_TICKS : 2 * NUM_TICKS - 1], before.state[NUM_TICKS + 1 : 12]
    )
    whole = (folder / CACHE_NAME).read_bytes()
    for broken in (b"", whole[:100], whole[:-100], whole.replace(b'\\"fps', b'\\"fsp')):
        (folder / CACHE_NAME).write_bytes(broken)
        np.testing.assert_array_equal(table_of(kept).state, after.state)


def test_a_file_is_checked_before_its_pictures_though_its_rows_are_known(kept: DataConfig) -> None:
    path = Path(kept.datasets[0]) / "place" / "episode_1.hdf5"
    state = path.stat()
    bait = path.with_name("bait")
    with h5py.File(path, "r") as source, h5py.File(bait, "w") as target:
        for key, value in source.attrs.items():
            target.attrs[key] = value
        for name in source:
            if name != "events":
                source.copy(name, target)
        target["events"] = h5py.ExternalLink("/etc/elsewhere.hdf5", "/")
    assert bait.stat().st_size <= state.st_size
    with bait.open("ab") as file:
        file.truncate(state.st_size)
    bait.rename(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(EpisodeError, match="events: a link to another file"):
        table_of(kept).images([NUM_TICKS])  # of another inode, as after a copy that keeps times: rows count


def test_the_structure_of_a_file_is_walked_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "place" / "episode_0.hdf5")
    walked: list[str] = []
    real = secure.check_links
    monkeypatch.setattr(secure, "check_links", lambda file: (walked.append(file.filename), real(file)))
    settings = config(tmp_path)
    table_of(settings).images([3])
    table_of(settings).images([3])
    assert len(walked) == 1
    label(path, Labels(outcome="better"))
    walked.clear()
    table_of(settings).images([3])
    assert len(walked) == 1


def test_another_rig_is_refused_with_both_ways_out(root: Path, other_root: Path) -> None:
    with pytest.raises(EpisodeError, match="another rig.*recompute-boxes.*by_name"):
        table_of(config(root, other_root, sensors=()))


def test_another_rig_is_read_by_names(root: Path, other_root: Path) -> None:
    wanted = config(root, other_root, sensors=(), other_rigs="by_name", names=THEIRS)
    table = table_of(wanted)
    same = table.images([1])[0][0], table.images([3 * NUM_TICKS + 1])[0][0]
    np.testing.assert_array_equal(*same)  # tick 1 of both sets shows the same
    ours, theirs = table.state[1], table.state[3 * NUM_TICKS + 1]
    np.testing.assert_array_equal(theirs, ours[[1, 0, 2, 3, 4, 5, 6]])  # by name, not by place


def test_a_name_that_another_rig_lacks_is_asked_for(root: Path, other_root: Path) -> None:
    with pytest.raises(EpisodeError, match="0 cameras for 'top' of the first episode.*data.names"):
        table_of(config(root, other_root, sensors=(), other_rigs="by_name", names={"cam_wrist": "wrist"}))


def test_rows_are_drawn_as_often_as_their_weights_say() -> None:
    weights = np.array([0.0, 1.0, 3.0, 0.5, 0.0])
    drawn = [row for batch in islice(StepSampler(5, 5, seed=2, weights=weights), 200) for row in batch]
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == counts[4] == 0
    np.testing.assert_allclose(counts / 1000, weights / weights.sum(), atol=0.03)
    in_a_pass = np.bincount(drawn[:5], minlength=5) - 5 * weights / weights.sum()
    assert (np.abs(in_a_pass) < 1).all()


def test_data_sets_have_the_shares_that_they_are_given(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "episode_0.hdf5")
    settings = config(root, tmp_path, dataset_weights=(1.0, 3.0))
    table = table_of(settings)
    weights = row_weights(table, settings)
    assert weights is not None and len(weights) == 4 * NUM_TICKS
    assert weights[: 3 * NUM_TICKS].sum() * 3 == pytest.approx(weights[3 * NUM_TICKS :].sum())
    assert row_weights(table, config(root, tmp_path)) is None


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_shares_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="dataset_weights"):
        parse(DataConfig, {"datasets": ["a", "b"], "dataset_weights": weights}, "run.yaml")


def signals(path: Path, *names: str, ticks: int = NUM_TICKS) -> Path:
    """Progress that goes back in the second half of every episode: those frames have no weight."""
    values = np.concatenate([np.linspace(0, 1, ticks // 2), np.linspace(0.8, 0, ticks - ticks // 2)])
    progress = [EpisodeProgress(name, values.astype(np.float32), np.arange(ticks) / 25.0) for name in names]
    write_signals(path, progress, chunk=1)
    return path


def test_frames_have_the_weights_of_the_exported_file(root: Path, tmp_path: Path) -> None:
    names = [f"place/episode_{i}" for i in (2, 0, 1)]
    source = signals(tmp_path / "w.parquet", *names)
    settings = config(root, frame_weights=str(source))
    weights = row_weights(table_of(settings), settings)
    exported = pq.read_table(source, columns=["weight"])["weight"].to_numpy()[:NUM_TICKS]
    assert weights is not None and 0 < (exported == 0).sum() < NUM_TICKS
    np.testing.assert_array_equal(weights, np.tile(exported, 3))


def test_frames_that_were_trimmed_have_no_weights(tmp_path: Path) -> None:
    writer = writer_at(tmp_path / "episode_0.hdf5", sync=False)
    for i in (0, 0, 0, *range(NUM_TICKS)):  # it waits at first
        writer.append(tick_at(i, stamp_ns=tick_at(writer.num_ticks).stamp_ns))
    writer.close(True)
    source = signals(tmp_path / "w.parquet", "episode_0", ticks=NUM_TICKS + 3)
    settings = config(tmp_path, frame_weights=str(source)).model_copy(update={"trim_idle": True})
    table = table_of(settings)
    first, kept = table.episodes[0].first, table.episodes[0].num_ticks
    assert first > 0
    exported = pq.read_table(source, columns=["weight"])["weight"].to_numpy()
    np.testing.assert_array_equal(row_weights(table, settings), exported[first : first + kept])


def test_weights_that_do_not_fit_are_refused(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "w.parquet"
    settings = config(root, frame_weights=str(source))
    table = table_of(settings)

    def refused(match: str) -> None:
        with pytest.raises(EpisodeError, match=match):
            row_weights(table, settings)

    refused("no file of `tacit export signals`")
    source.write_bytes(b"PAR1 no more")
    refused("no file of `tacit export signals`")
    signals(source, "episode_0")
    refused("no weights for .*episode_1")
    signals(source, "episode_0", "episode_1", "episode_2", ticks=NUM_TICKS + 1)
    refused("7 frames of .*which has 6")
    rows = {"episode": ["episode_0"] * 6, "frame_index": range(6), "weight": [float("nan")] * 6}
    pq.write_table(pa.table({k: list(v) for k, v in rows.items()}), source)
    refused("not finite")


def test_one_name_for_two_episodes_is_refused(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "other" / "episode_0.hdf5")
    source = signals(tmp_path / "w.parquet", *(f"episode_{i}" for i in range(3)))
    settings = config(root, tmp_path / "other", frame_weights=str(source))
    with pytest.raises(EpisodeError, match="'episode_0' may be"):
        row_weights(table_of(settings), settings)
