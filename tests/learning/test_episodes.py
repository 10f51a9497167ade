"""Reading episodes: one image transform, boxes that follow their image, honest refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import drawn_image, opening_at, tick_at, writer_at

from tacit.config import parse
from tacit.episode import EpisodeReader, EpisodeWriter, video_progress
from tacit.errors import ConfigError, EpisodeError
from tacit.geometry.footprint import clip_box
from tacit.images.depth import encode_depth
from tacit.rig import load_rig, parse_rig
from tacit.streams import Tick
from tacit_learning.data.episodes import find_training_episodes, load_table
from tacit_learning.data.view import DataConfig

NUM_TICKS = 12
SIZES = {"image_height": 48, "image_width": 64, "touch_height": 24, "touch_width": 32}


def write(path: Path, success: bool = True, **options: object) -> Path:
    writer = writer_at(path, sync=False, **options)
    for i in range(NUM_TICKS):
        writer.append(tick_at(i))
    return writer.close(success)


def config(root: Path, **options: object) -> DataConfig:
    return DataConfig(datasets=(str(root),), trim_idle=False, **(SIZES | options))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for number, success in enumerate((True, False, True)):
        write(folder / f"episode_{number}.hdf5", success)
    return folder


def test_failures_are_left_out_unless_wanted(root: Path) -> None:
    assert [p.stem for p in find_training_episodes(config(root))] == ["episode_0", "episode_2"]
    assert len(find_training_episodes(config(root, only_success=False))) == 3


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_images_equal_the_files_through_the_one_transform(root: Path, cache: str) -> None:
    paths = find_training_episodes(config(root))
    table = load_table(paths, config(root, cache=cache, decode="whole"))
    cameras, touch = table.images([3, NUM_TICKS + 5])
    for row, (path, tick) in enumerate([(paths[0], 3), (paths[1], 5)]):
        with EpisodeReader(path) as reader:
            for n, (name, transform) in enumerate(table.view.cameras.items()):
                np.testing.assert_array_equal(cameras[row, n], transform.image(reader.image(name, tick)))
            for s, (name, transform) in enumerate(table.view.sensors.items()):
                np.testing.assert_array_equal(touch[row, s], transform.image(reader.touch(name, tick)))


def test_a_picture_decoded_at_half_its_sides_is_the_one_that_the_robot_sees(root: Path) -> None:
    paths = find_training_episodes(config(root))
    half, whole = (load_table(paths, config(root, decode=how)) for how in ("reduced", "whole"))
    assert {t.reduction for t in half.view.cameras.values()} == {2}
    (cameras, touch), (as_seen, felt) = (table.images([0, 7]) for table in (half, whole))
    np.testing.assert_array_equal(touch, felt)
    difference = np.abs(cameras.astype(int) - as_seen.astype(int))
    assert 0 < difference.mean() < 1.0  # grey levels; a shift by half a pixel would give 4
    np.testing.assert_array_equal(half.boxes, whole.boxes)


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_an_image_that_is_cut_off_is_named_by_file_stream_and_tick(tmp_path: Path, cache: str) -> None:
    path = write(tmp_path / "episode_0.hdf5")
    with h5py.File(path, "r+") as file:
        file["observations/images/top"][9] = file["observations/images/top"][9][:-2]
    with pytest.raises(EpisodeError, match=r"episode_0.hdf5: top, tick 9: .*end marker"):
        load_table([path], config(tmp_path, cache=cache)).images([9])


@pytest.fixture(scope="module")
def depth_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode whose rig has a depth camera `range` beside the others."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["cameras"]["range"] = data["cameras"]["top"] | {"kind": "depth", "topic": "/range"}
    folder = tmp_path_factory.mktemp("depth")
    writer = EpisodeWriter(folder / "episode_0.hdf5", parse_rig(data, "test"), task="t", sync=False)
    for i in range(NUM_TICKS):
        tick = tick_at(i)
        mm = np.full((120, 160), 500 + 10 * i, np.uint16)
        mm[:60] = 0
        seen = replace(tick.samples["top"], value=encode_depth(mm))
        writer.append(Tick(tick.stamp_ns, tick.index, {**tick.samples, "range": seen}))
    writer.close(True)
    return folder


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_depth_is_an_input_on_demand_and_becomes_levels(depth_root: Path, cache: str) -> None:
    paths = find_training_episodes(config(depth_root, sensors=()))
    assert list(load_table(paths, config(depth_root, sensors=())).view.cameras) == ["wrist", "top"]
    wanted = {"cameras": ("range", "top"), "sensors": (), "depth_range_m": (0.5, 1.5)}
    table = load_table(paths, config(depth_root, cache=cache, image_height=120, image_width=160, **wanted))
    cameras, _ = table.images([0, 11])
    # 1 + 254 (z - 0.5) / 1: level 1 at 0.5 m, 28.9 at 0.61 m; a hole is 0
    assert cameras.shape == (2, 2, 120, 160, 3)
    assert (cameras[0, 0, 60:] == 1).all() and (cameras[1, 0, 60:] == 29).all()
    assert not cameras[:, 0, :60].any()
    with EpisodeReader(paths[0]) as reader:
        np.testing.assert_array_equal(cameras[1, 1], reader.image("top", 11))


def test_depth_without_its_range_is_refused_with_the_cure(depth_root: Path) -> None:
    paths = find_training_episodes(config(depth_root))
    with pytest.raises(EpisodeError, match="'range' is a depth camera; give data.depth_range_m"):
        load_table(paths, config(depth_root, cameras=("range",), sensors=()))
    with pytest.raises(ConfigError, match="depth_range_m: .*near < far"):
        parse(DataConfig, {"datasets": ["x"], "depth_range_m": [1.0, 0.5]}, "run.yaml")


def test_boxes_scale_with_each_axis_of_the_image(root: Path) -> None:
    paths = find_training_episodes(config(root))
    table = load_table(paths, config(root, image_height=30, image_width=80))
    with EpisodeReader(paths[0]) as reader:
        stored = reader.boxes("wrist", "left") + 0.5
    np.testing.assert_allclose(table.boxes[:NUM_TICKS, 0, 0], stored * [0.5, 0.25, 0.5, 0.25], rtol=1e-5)


def test_a_box_is_usable_where_enough_of_it_is_in_the_image(root: Path) -> None:
    table = load_table(find_training_episodes(config(root)), config(root))
    for n, camera in enumerate(table.view.cameras.values()):
        stored = (table.boxes[:, n] / [0.4, 0.4, 0.4, 0.4]) - 0.5
        clipped = clip_box(stored, camera.source_width, camera.source_height)
        area = (clipped[..., 2] - clipped[..., 0]) * (clipped[..., 3] - clipped[..., 1])
        usable = table.box_valid[:, n]
        assert (area[usable] >= 15.9).all()
        assert (table.visibility[:, n][usable] >= 0.25).all()


def test_a_gel_turned_away_is_no_row_of_a_camera_in_the_world(tmp_path: Path) -> None:
    path = write(tmp_path / "episode_0.hdf5")
    with h5py.File(path, "r+") as file:  # to both cameras the left gel shows its face, the right one its back
        for camera, (sensor, flags) in itertools.product(("wrist", "top"), {"left": 15, "right": 11}.items()):
            file[f"sensor_bbox/{camera}/{sensor}"][:] = [30, 20, 60, 50]
            file[f"sensor_corners/{camera}/{sensor}"][:] = 40
            file[f"sensor_visibility/{camera}/{sensor}"][:] = 1
            file[f"sensor_flags/{camera}/{sensor}"][:] = flags
    table = load_table([path], config(tmp_path))
    assert list(table.view.cameras) == ["wrist", "top"]
    assert table.box_valid.all(axis=0).tolist() == [[True, True], [True, False]]
    assert not table.box_valid[:, 1, 1].any()


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_touch_is_told_against_the_gel_of_its_own_episode(tmp_path: Path, cache: str) -> None:
    gels = [drawn_image(number, 60, 80) for number in (3, 8)]
    for number, gel in enumerate(gels):
        write(tmp_path / f"episode_{number}.hdf5", references={"left": gel, "right": gel})
    paths = find_training_episodes(config(tmp_path))
    raw = load_table(paths, config(tmp_path, cache=cache))
    run = load_table(paths, config(tmp_path, cache=cache, touch_reference="run"))
    rows = [1, NUM_TICKS + 2]
    own = np.stack([raw.view.sensors["left"].image(gel) for gel in gels]).astype(int)[:, None]
    expected = np.clip(128 + raw.images(rows)[1].astype(int) - own, 0, 255)
    np.testing.assert_array_equal(run.images(rows)[1], expected)
    assert (own[0] != own[1]).any()
    # what a touched gel is told by in a bundle: the mean of the free ones
    np.testing.assert_array_equal(run.references[0], np.rint(own.mean(axis=(0, 1))))


def test_state_and_steps_come_as_recorded(root: Path) -> None:
    table = load_table(find_training_episodes(config(root)), config(root))
    assert table.state[4, 6] == pytest.approx(opening_at(4), abs=1e-6)
    episode = table.episodes[0]
    with EpisodeReader(episode.path) as reader:
        assert list(episode.steps) == list(reader.steps) and episode.steps
    assert video_progress(episode.steps, episode.num_ticks)[-1] == pytest.approx(1.0)
    assert table.fps == 25.0


def test_a_sensor_without_reference_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "episode_0.hdf5", references=None)
    with pytest.raises(EpisodeError, match="tactile/left: no no-contact reference"):
        load_table(find_training_episodes(config(tmp_path)), config(tmp_path))


def test_an_unknown_camera_is_refused_with_the_valid_ones(root: Path) -> None:
    with pytest.raises(EpisodeError, match="data.cameras: no stream 'wirst'.*wrist"):
        load_table(find_training_episodes(config(root)), config(root, cameras=("wirst",)))


def test_an_empty_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no successful episode there"):
        find_training_episodes(config(tmp_path))
    write(tmp_path / "episode_0.hdf5", False)
    with pytest.raises(EpisodeError, match="no successful episode among 1; label"):
        find_training_episodes(config(tmp_path))


def test_files_of_aloha_are_no_failures_but_to_be_converted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file["action"] = file["observations/qpos"] = np.zeros((3, 14))
    with pytest.raises(EpisodeError, match="1 files of ACT or ALOHA.*tacit convert"):
        find_training_episodes(config(tmp_path))
