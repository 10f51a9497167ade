"""Windows, draws, augmentation and statistics of training data."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import tiny_table

from tacit.errors import EpisodeError
from tacit_learning.data import keys
from tacit_learning.data.augment import AugmentConfig, augment, shift_boxes, shift_images
from tacit_learning.data.episodes import split_episodes
from tacit_learning.data.statistics import compute_statistics
from tacit_learning.data.windows import (
    NEVER,
    ChunkWindows,
    StepSampler,
    fixed_batches,
    make_loader,
    ticks_to_grip,
)


def test_chunk_holds_the_actions_from_the_observation_on() -> None:
    table = tiny_table(2, length=10)
    window = ChunkWindows(table, chunk_size=4)[3]
    np.testing.assert_array_equal(window[keys.ACTION], table.episodes[0].action[3:7])
    np.testing.assert_array_equal(window[keys.STATE], table.episodes[0].state[3])
    assert not window[keys.ACTION_IS_PAD].any()


def test_chunk_never_runs_into_the_next_episode() -> None:
    table = tiny_table(2, length=10)
    window = ChunkWindows(table, chunk_size=4)[8]
    last = table.episodes[0].action[9]
    np.testing.assert_array_equal(
        window[keys.ACTION], np.stack([table.episodes[0].action[8], last, last, last])
    )
    assert window[keys.ACTION_IS_PAD].tolist() == [False, False, True, True]


def test_ticks_are_counted_to_the_next_motion_of_a_gripper_and_touch_is_told_before_it_comes() -> None:
    opening = (
        np.array([80, 80, 80, 60, 40, 40, 40.5, 40, 40, 80, 80]) / 1000
    )  # half a millimetre is no motion
    assert ticks_to_grip(opening[:, None]).tolist() == [3, 2, 1, 0, 5, 4, 3, 2, 1, 0, NEVER]
    assert (ticks_to_grip(np.zeros((4, 0))) == NEVER).all()
    table = tiny_table(2, length=10)
    for number, episode in enumerate(table.episodes):
        episode.action[:, table.rig.gripper_indices] = 0.02 * (np.arange(10) >= 6 + number)[:, None]
    windows = ChunkWindows(table, chunk_size=4, future_ticks=3)
    batch = windows.__getitems__([3, 12, 18])
    assert batch[keys.TICKS_TO_GRIP].tolist() == [[3, 2, 1, 0], [5, 4, 3, 2], [NEVER] * 4]
    assert batch[keys.FUTURE_VALID].tolist() == [True, True, False]
    np.testing.assert_array_equal(batch[keys.FUTURE_TOUCH][:2], table.images([6, 15])[1])
    assert keys.FUTURE_TOUCH not in ChunkWindows(table, chunk_size=4)[0]


def test_offset_moves_the_chunk_but_not_the_observation() -> None:
    table = tiny_table(1, length=10)
    window = ChunkWindows(table, 2, action_offset=1)[4]
    np.testing.assert_array_equal(window[keys.ACTION], table.episodes[0].action[5:7])
    np.testing.assert_array_equal(window[keys.STATE], table.episodes[0].state[4])


def test_batch_equals_its_windows_one_by_one() -> None:
    windows = ChunkWindows(tiny_table(3), 5)
    rows = [2, 61, 33]
    batch = windows.__getitems__(rows)
    for i, row in enumerate(rows):
        for key, value in windows[row].items():
            assert torch.equal(batch[key][i], value)
    assert batch[keys.EPISODE].tolist() == [0, 2, 1]
    assert batch[keys.FRAME].tolist() == [2, 1, 3]


def test_a_pass_visits_every_row_once() -> None:
    drawn = [row for batch in islice(StepSampler(20, 5, seed=1), 4) for row in batch]
    assert sorted(drawn) == list(range(20))


def test_frames_of_an_episode_are_drawn_together_and_every_row_once() -> None:
    episodes = np.repeat(np.arange(3), [8, 12, 5])
    asked = {"together": 4, "episodes": episodes}
    batches = list(islice(StepSampler(25, 4, seed=1, **asked), 12))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows[:25]) == list(range(25))
    changes = int((np.diff(episodes[rows[:25]]) != 0).sum())
    assert changes <= 6, "seven groups at most"
    assert rows[:25] != sorted(rows[:25])
    assert list(islice(StepSampler(25, 4, seed=1, start=7, **asked), 5)) == batches[7:]


def test_draws_go_on_where_they_stopped() -> None:
    whole = list(islice(StepSampler(17, 5, seed=1), 12))
    assert list(islice(StepSampler(17, 5, seed=1, start=7), 5)) == whole[7:]


def test_processes_share_a_pass_without_overlap() -> None:
    halves = [list(islice(StepSampler(24, 4, 0, rank=r, world=2), 3)) for r in range(2)]
    rows = [row for half in halves for batch in half for row in batch]
    assert sorted(rows) == list(range(24))


def test_workers_deliver_the_same_batches() -> None:
    windows = ChunkWindows(tiny_table(1, length=12), 3)
    first = [next(iter(make_loader(windows, StepSampler(12, 4, 0), n))) for n in (0, 1)]
    for key in first[0]:
        assert torch.equal(first[0][key], first[1][key])


def test_fixed_batches_are_the_same_every_time_and_never_more_than_asked() -> None:
    windows = ChunkWindows(tiny_table(2, length=20), 3)
    first, second = (list(fixed_batches(windows, 6, 2)) for _ in range(2))
    assert sum(len(b[keys.STATE]) for b in first) == 12
    assert all(torch.equal(a[keys.FRAME], b[keys.FRAME]) for a, b in zip(first, second, strict=True))


def test_split_is_a_partition_that_depends_on_the_seed_alone() -> None:
    paths = [Path(f"{i}.hdf5") for i in range(10)]
    train, held_out = split_episodes(paths, 0.8, 3)
    assert sorted([*train, *held_out]) == sorted(paths)
    assert len(held_out) == 2
    assert (train, held_out) == split_episodes(paths, 0.8, 3)
    assert held_out != split_episodes(paths, 0.8, 4)[1]


def test_validation_is_never_empty_with_two_episodes() -> None:
    assert [len(part) for part in split_episodes([Path("a"), Path("b")], 0.99, 0)] == [1, 1]


def test_a_joint_that_never_moves_does_not_explode() -> None:
    state = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    state[:, 0], state[:, 2] = 1.0, 0.02
    statistics = compute_statistics(("a", "b", "g"), (2,), state, state)
    assert statistics.state_std[0] == pytest.approx(0.03)
    assert statistics.state_std[1] == pytest.approx(state[:, 1].std(), rel=1e-5)
    assert statistics.state_std[2] == pytest.approx(0.005)
    assert statistics.state_max[0] == 1.0


def test_statistics_refuse_what_is_not_finite() -> None:
    state = np.full((3, 1), np.nan)
    with pytest.raises(EpisodeError, match="finite"):
        compute_statistics(("a",), (), state, state)


def test_shift_moves_a_mark_and_its_box_together() -> None:
    images = torch.zeros(1, 1, 20, 20, 3, dtype=torch.uint8)
    images[0, 0, 8:11, 5:9] = 255
    boxes = torch.tensor([[[[5.0, 8.0, 9.0, 11.0]]]])
    offsets = torch.tensor([[[2, -3]]])
    moved, box = shift_images(images, offsets), shift_boxes(boxes, offsets)[0, 0, 0].int().tolist()
    inside = moved[0, 0, box[1] : box[3], box[0] : box[2]]
    assert (inside == 255).all()
    assert int((moved == 255).sum()) == inside.numel()


def test_shift_repeats_the_border() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4, 1).expand(-1, -1, -1, -1, 3)
    moved = shift_images(image, torch.tensor([[[1, 1]]]))[0, 0, :, :, 0]
    assert moved[0].tolist() == [0, 0, 1, 2]
    assert moved[3].tolist() == [8, 8, 9, 10]


def test_augmentation_leaves_touch_alone_and_repeats_with_its_seed() -> None:
    batch = ChunkWindows(tiny_table(1), 3).__getitems__([0, 5, 9])
    config = AugmentConfig(shift=0.1, brightness=0.2, contrast=0.2)
    first, second = (augment(batch, config, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first[keys.TOUCH], batch[keys.TOUCH])
    assert torch.equal(first[keys.IMAGES], second[keys.IMAGES])
    assert not torch.equal(first[keys.IMAGES], batch[keys.IMAGES])
    assert first[keys.IMAGES].dtype == torch.uint8
    assert not torch.equal(first[keys.BOXES], batch[keys.BOXES])


def test_depth_is_shifted_with_the_others_and_not_recoloured() -> None:
    batch = ChunkWindows(tiny_table(1), 3).__getitems__([0, 5, 9])
    config = AugmentConfig(shift=0.1, brightness=0.4, contrast=0.4)
    seen, moved = (
        augment(batch, each, torch.Generator().manual_seed(4), depth=[1])[keys.IMAGES]
        for each in (config, AugmentConfig(shift=0.1))
    )
    assert torch.equal(seen[:, 1], moved[:, 1]) and not torch.equal(seen[:, 0], moved[:, 0])


def test_no_augmentation_changes_nothing() -> None:
    batch = ChunkWindows(tiny_table(1), 3).__getitems__([0, 5])
    after = augment(batch, AugmentConfig(shift=0.0), torch.Generator())
    assert all(torch.equal(after[key], value) for key, value in batch.items())
