"""Items, batches and samplers: padding has no content, every draw depends on seed and place alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benches.drawn_clips import SyntheticConfig, example_tasks, write_dataset
from tacit.errors import ConfigError
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.config_model import preset
from tacit_learning.vace_e.data.batch_choice import BucketSampler, FeatureBatchSampler
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.items import VaceEItem, labels_of, signals_of
from tacit_learning.vace_e.data.jitter import JitterConfig, jittered
from tacit_learning.vace_e.model.encoders import Encoders
from tacit_learning.vace_e.model.signals import Signals


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("batches")
    write_dataset(root, example_tasks(1), SyntheticConfig(height=64, width=96, num_frames=20))
    return root


def dataset_of(root: Path, **changes: object) -> VaceEDataset:
    base = {"height": 48, "width": 64, "num_frames": 13, "task_metadata_path": str(root / "metadata.json")}
    base["fps"] = 15.0  # as drawn
    return VaceEDataset(DataOptions.model_validate({"dataset_base_path": str(root), **base, **changes}))


def item_of(rows: int, objects: int = 1, object_rows: int = 3) -> VaceEItem:
    rng = np.random.default_rng(rows)
    return VaceEItem(
        video=np.zeros((5, 16, 16, 3), np.uint8),
        control=np.zeros((5, 16, 16, 3), np.uint8),
        mask=np.ones((5, 16, 16), bool),
        reference=None,
        prompt="p",
        task_name="t",
        episode_name="e",
        task_label=1,
        embodiment_label=0,
        num_frames=5,
        motion=rng.normal(size=(rows, 20)).astype(np.float32),
        motion_valid=np.ones((rows, 20), bool),
        motion_times=np.linspace(0, 4, rows, dtype=np.float32),
        objects=rng.normal(size=(objects, object_rows, 9)).astype(np.float32),
        object_valid=np.ones((objects, object_rows), bool),
        object_ids=np.arange(objects),
        object_times=np.linspace(0, 4, object_rows, dtype=np.float32),
    )


def signals(items: list[VaceEItem]) -> Signals:
    return signals_of(items, [torch.ones(1, 4)] * len(items), [None] * len(items), 4, 3, 8)


def test_shared_prompts_and_pictures_are_held_once_and_encoded_as_if_apart() -> None:
    sizes = preset("tiny")
    items, width, long = [item_of(3), item_of(4), item_of(5)], sizes.encoders.image_dim, torch.randn(4, 32)
    texts, picture = [torch.randn(2, 32), long, long], torch.randn(5, width)
    shared = signals_of(items, texts, [None, picture, picture], width, 2, 8)
    apart = signals_of(items, [*texts[:2], long.clone()], [None, picture, picture.clone()], width, 2, 8)
    assert (shared.text.shape, shared.image.shape) == ((2, 4, 32), (1, 5, width)), "as long as the longest"
    assert (len(apart.text), len(apart.image)) == (3, 2)
    encoders = Encoders(sizes.encoders, 32)
    for one, other in zip(encoders(shared), encoders(apart), strict=True):
        pair = [[each] if isinstance(each, torch.Tensor) else each for each in (one, other)]
        for a, b in zip(*pair, strict=True):
            torch.testing.assert_close(a, b)
    last = encoders(shared.rows(slice(2, 3)))
    torch.testing.assert_close(last.z_task, encoders(apart).z_task[2:], rtol=1e-4, atol=1e-5)


def test_an_item_has_the_shapes_that_the_format_says(root: Path) -> None:
    item = dataset_of(root)[0]
    assert item.video is not None and item.mask is not None and item.control is not None
    assert item.video.shape == item.control.shape == (13, 48, 64, 3) and item.video.dtype == np.uint8
    assert item.mask.shape == (13, 48, 64) and item.mask.dtype == bool
    assert item.motion.shape == (13, 20) and item.motion.dtype == np.float32
    assert item.objects.shape == (2, 13, 9) and item.object_ids.tolist() == [0, 1]
    assert item.reference is not None and item.reference.shape == (48, 48, 3)
    np.testing.assert_array_equal(item.motion_times, np.arange(13))


@pytest.mark.parametrize("window", ["first", "random", "uniform"])
def test_the_hand_is_masked_where_the_motion_says_it_is(root: Path, window: str) -> None:
    """The generator draws the wrist at its x and y: video, mask and motion agree frame by frame."""
    dataset = dataset_of(root, height=64, width=96, window=window)
    item = next(i for i in dataset if i.motion_valid[:, 9:18].all() and not i.motion_valid[:, :9].any())
    assert item.mask is not None and item.control is not None
    assert not np.array_equal(item.motion[0], item.motion[-1])
    for frame in range(item.num_frames):
        x, y = (np.interp(frame, item.motion_times, item.motion[:, column]) for column in (9, 10))
        rows, columns = np.nonzero(item.mask[frame])
        assert (columns.min() + columns.max()) / 2 == pytest.approx(96 * x, abs=1.5)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(64 * y, abs=1.5)
    assert np.abs(item.control[item.mask].astype(int) - 128).mean() < 12


def test_pixels_are_left_unread_when_only_features_are_wanted(root: Path) -> None:
    item = dataset_of(root).item(0, video=False, reference=False)
    assert item.video is item.control is item.mask is item.reference is None
    assert item.has_motion and item.num_frames == 13


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=4, max_size=4)
)
def test_padding_keeps_each_item_and_is_zero_and_masked(lengths: list[int], counts: list[int]) -> None:
    items = [item_of(n, count) for n, count in zip(lengths, counts, strict=False)]
    batch = signals(items)
    assert batch.motion.shape[1] == max(1, *lengths, 1)
    for i, item in enumerate(items):
        n, count = len(item.motion), len(item.objects)
        np.testing.assert_array_equal(batch.motion[i, :n], item.motion)
        assert not batch.motion[i, n:].any() and not batch.motion_valid[i, n:].any()
        assert batch.motion_valid[i].any(-1).sum() == n
        np.testing.assert_array_equal(batch.objects[i, :count], item.objects)
        assert not batch.object_valid[i, count:].any() and (batch.object_ids[i, count:] == -1).all()


def test_no_window_makes_no_batch() -> None:
    with pytest.raises(ValueError, match="no window"):
        signals_of([], [], [], 4, 3, 8)


def test_a_batch_moves_as_a_whole_and_has_the_labels_of_its_windows() -> None:
    items = [item_of(3), replace(item_of(4), task_label=-1, embodiment_label=2)]
    batch = signals(items)
    moved = batch.to("meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"}
    assert batch.motion.device.type == "cpu"
    assert [labels.tolist() for labels in labels_of(items)] == [[1, -1], [0, 2]]


def test_short_episodes_have_a_bucket_of_their_own(tmp_path: Path) -> None:
    for number, frames in enumerate((20, 12, 6)):
        write_dataset(tmp_path, example_tasks(1)[number : number + 1], SyntheticConfig(32, 48, frames))
    dataset = dataset_of(tmp_path, task_metadata_path=None, height=32, width=48)
    assert sorted(dataset.bucket(i).frames for i in range(3)) == [5, 9, 13]
    for i in range(3):
        video = dataset[i].video
        assert video is not None and video.shape[:3] == dataset.bucket(i)


def test_a_standing_video_takes_the_standing_size(tmp_path: Path) -> None:
    for number, (height, width) in enumerate(((64, 96), (96, 64))):
        write_dataset(tmp_path, example_tasks(1)[number : number + 1], SyntheticConfig(height, width, 9))
    dataset = dataset_of(tmp_path, task_metadata_path=None, other_sizes=[[64, 48], [48, 48]])
    sizes = {dataset.record(i).height: dataset.bucket(i)[1:] for i in range(2)}
    assert sizes == {64: (48, 64), 96: (64, 48)}
    for i in range(2):
        item = dataset[i]
        assert item.video is not None and item.video.shape[:3] == dataset.bucket(i)
        assert item.mask is not None and item.mask.shape == dataset.bucket(i)
    with pytest.raises(ConfigError, match="width: 40"):
        dataset_of(tmp_path, other_sizes=[[64, 40]])


# -- buckets ---------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_batches_are_whole_of_one_bucket_and_nothing_is_dropped(
    buckets: list[str], size: int, world: int, epoch: int
) -> None:
    ranks = [BucketSampler(buckets, size, rank=r, world=world).epoch(epoch) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    drawn = Counter(item for batches in ranks for batch in batches for item in batch)
    assert set(drawn) == set(range(len(buckets)))
    for together in zip(*ranks, strict=True):
        assert all(len(batch) == size for batch in together)
        assert len({buckets[item] for batch in together for item in batch}) == 1
    padding = sum(BucketSampler(buckets, size, world=world).padding(epoch).values())
    assert sum(drawn.values()) == len(buckets) + padding


def test_repeats_that_fill_a_batch_are_reported() -> None:
    sampler = BucketSampler([(17, 64, 96)] * 5 + [(9, 64, 96)], 2, world=2)
    assert sampler.padding() == {(17, 64, 96): 3, (9, 64, 96): 3}
    assert "bucket 9x64x96: 1 items, 3 repeats fill batches of 4" in sampler.lines()


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    first = BucketSampler(["a"] * 20, 4, seed=1)
    again = BucketSampler(["a"] * 20, 4, seed=1)
    first.epoch(3)
    assert first.epoch(7) == again.epoch(7)
    assert first.epoch(7) != first.epoch(8) != BucketSampler(["a"] * 20, 4, seed=2).epoch(8)
    assert len(again.epoch(7)) == 5


def test_bodies_come_half_and_half_and_tasks_evenly() -> None:
    """90 human episodes of two tasks, 10 robot ones of one: an epoch of 100 has 50, 25 of each task."""
    bodies = [0] * 90 + [1] * 10
    tasks = ["pour"] * 80 + ["wipe"] * 10 + ["pour"] * 10
    sampler = BucketSampler(["a"] * 100, 1, embodiments=bodies, tasks=tasks)
    drawn = [item for batch in sampler.epoch(0) for item in batch]
    assert Counter(bodies[i] for i in drawn) == {0: 50, 1: 50}
    assert Counter(tasks[i] for i in drawn if bodies[i] == 0) == {"pour": 25, "wipe": 25}
    assert set(Counter(i for i in drawn if bodies[i] == 1).values()) == {5}


def test_repeat_lengthens_an_epoch() -> None:
    sampler = BucketSampler(["a"], 1, repeat=100)
    assert sampler.epoch(0) == [[0]] * 100


# -- feature batches -------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 1)), min_size=1, max_size=40),
    st.sampled_from([8, 16, 64]),
    st.integers(1, 3),
)
def test_every_row_of_a_feature_batch_has_a_positive(
    labels: list[tuple[int, int]], size: int, views: int
) -> None:
    tasks, bodies = [t for t, _ in labels], [b for _, b in labels]
    if max(tasks) < 0:
        with pytest.raises(ConfigError, match="no episode has a task label"):
            FeatureBatchSampler(tasks, bodies, size, views=views)
        return
    sampler = FeatureBatchSampler(tasks, bodies, size, views=views)
    rows = sampler.batch(0)
    counts = Counter(tasks[row.item] for row in rows)
    assert len(rows) == size and -1 not in counts
    assert len(counts) == sampler.classes_per_batch
    assert min(counts.values()) >= 2 and max(counts.values()) - min(counts.values()) <= 1
    assert {row.view for row in rows} <= set(range(views))


def test_a_class_of_one_episode_has_its_other_view_as_positive() -> None:
    rows = FeatureBatchSampler([0, 1, 1, 1], [0, 0, 1, 1], 8).batch(0)
    alone = [row.view for row in rows if row.item == 0]
    assert sorted(set(alone)) == [0, 1]


def test_a_small_batch_holds_fewer_classes_rather_than_lone_items() -> None:
    sampler = FeatureBatchSampler(range(6), [0] * 6, 8, views=2)
    assert sampler.classes_per_batch == 2
    assert sorted(Counter(row.item for row in sampler.batch(0)).values()) == [4, 4]
    seen = {row.item for step in range(20) for row in sampler.batch(step)}
    assert seen == set(range(6)), "over the steps every class comes"


def test_bodies_take_turns_in_a_class() -> None:
    tasks, bodies = [0] * 20, [0] * 18 + [1] * 2
    rows = FeatureBatchSampler(tasks, bodies, 16, views=1).batch(0)
    assert Counter(bodies[row.item] for row in rows) == {0: 8, 1: 8}


def test_ranks_share_a_feature_batch_without_overlap() -> None:
    tasks, bodies = list(range(6)) * 4, [0, 1] * 12
    whole = FeatureBatchSampler(tasks, bodies, 24).batch(5)
    shares = [FeatureBatchSampler(tasks, bodies, 24, rank=r, world=3).batch(5) for r in range(3)]
    assert [row for share in shares for row in share] == whole
    assert FeatureBatchSampler(tasks, bodies, 24).batch(6) != whole
    with pytest.raises(ConfigError, match="multiple of 3"):
        FeatureBatchSampler(tasks, bodies, 25, world=3)


# -- views -----------------------------------------------------------------------------------------


def test_a_view_turns_hands_and_objects_together_about_gravity(root: Path) -> None:
    item = dataset_of(root)[0]
    view = jittered(item, np.random.default_rng(1), JitterConfig(kept=1.0, noise_m=0.0))
    hand, thing = item.motion[:, 9:12] - item.objects[0, :, :3], view.motion[:, 9:12] - view.objects[0, :, :3]
    np.testing.assert_allclose(np.linalg.norm(hand, axis=1), np.linalg.norm(thing, axis=1), atol=1e-6)
    np.testing.assert_allclose(hand[:, 2], thing[:, 2], atol=1e-6)
    angle = np.arctan2(thing[:, 1], thing[:, 0]) - np.arctan2(hand[:, 1], hand[:, 0])
    moved = np.linalg.norm(hand[:, :2], axis=1) > 1e-3
    x, turned = item.motion[:, 12:15], view.motion[:, 12:15]
    turn = np.arctan2(turned[:, 1], turned[:, 0]) - np.arctan2(x[:, 1], x[:, 0])
    wrapped = (turn + np.pi) % (2 * np.pi) - np.pi
    assert np.ptp(wrapped) < 1e-5 and 0 < abs(wrapped[0]) <= 0.5
    np.testing.assert_allclose(((angle - turn)[moved] + np.pi) % (2 * np.pi) - np.pi, 0, atol=1e-3)


def test_a_view_keeps_times_and_invents_nothing(root: Path) -> None:
    item = dataset_of(root)[0]
    gone = replace(
        item, motion_valid=item.motion_valid & (np.arange(20) < 12), motion=item.motion * (np.arange(20) < 12)
    )
    view = jittered(gone, np.random.default_rng(2))
    assert set(view.motion_times.tolist()) <= set(item.motion_times.tolist())
    assert len(view.motion) >= 0.8 * 12 - 1
    assert not view.motion[~view.motion_valid].any()
    assert not np.array_equal(view.motion[:, 9:12], jittered(gone, np.random.default_rng(3)).motion[:, 9:12])


def test_a_view_of_a_video_only_item_is_itself() -> None:
    empty = VaceEItem(None, None, None, None, "p", "t", "e", 0, 0, 17)
    view = jittered(empty, np.random.default_rng(0))
    assert view.motion.shape == (0, 20) and view.objects.shape == (0, 0, 9)
