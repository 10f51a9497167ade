"""The synthetic set: its truth agrees with its annotations where a clock may be trusted, and only there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benches.chores.dataset import SyntheticConfig, SyntheticSet, make_set, make_videos
from benches.chores.images import FeatureMap, ImageConfig, draw_images
from benches.chores.scripts import SPECIAL, Script, ScriptConfig, draw_script
from benches.chores.world import ACTIONS, LOWER, UPPER, Sites, joints
from tacit_learning.data.annotation_files import load_annotation_set, load_features
from tacit_learning.losses.progress import action_progress, video_progress

SEEDS = st.integers(0, 10_000)
TINY = SyntheticConfig(train=3, test=1, train_special=1, special=1, features=8, image=ImageConfig(size=16))


def script(kind: str, seed: int) -> Script:
    return draw_script(kind, ScriptConfig(), np.random.default_rng(seed))


@cache
def tiny_set() -> SyntheticSet:
    return make_set(TINY)


def test_the_truth_of_ordinary_videos_is_what_their_annotation_says() -> None:
    made = tiny_set()
    for video in made.annotations.split("train"):
        truth = made.truth[video.name]
        np.testing.assert_array_equal(truth.action, video.labels_per_frame(ACTIONS))
        np.testing.assert_allclose(truth.action_progress, action_progress(video), atol=1e-6)
        np.testing.assert_allclose(truth.video_progress, video_progress(video), atol=1e-6)
        assert not truth.stalled.any() and not truth.regressed.any()


@settings(max_examples=20)
@given(SEEDS)
def test_the_object_does_not_follow_while_the_hand_works_in_vain(seed: int) -> None:
    found = script("object_stays", seed)
    (stall,) = found.events
    course, frames = found.course, slice(stall.start, stall.end + 1)
    for thing in (course.cube, course.knob, course.lit, course.wiped, course.video_progress):
        assert np.ptp(thing[frames], axis=0).max() < 1e-9
    travelled = np.linalg.norm(np.diff(course.hand[frames], axis=0), axis=1).sum()
    assert stall.end - stall.start >= 40 and travelled > 0.3
    assert course.video_progress[-1] == pytest.approx(1)


@settings(max_examples=20)
@given(SEEDS)
def test_nothing_moves_in_a_pause(seed: int) -> None:
    found = script("paused", seed)
    (stall,) = found.events
    frames = slice(stall.start, stall.end + 1)
    assert np.ptp(found.course.video_progress[frames]) < 1e-9
    assert (np.abs(np.diff(found.course.hand[frames], axis=0)).max(axis=1) < 1e-9).sum() >= 49


@settings(max_examples=20)
@given(SEEDS, st.sampled_from(["rewound", "dropped"]))
def test_progress_falls_in_a_regression_and_recovers(seed: int, kind: str) -> None:
    found = script(kind, seed)
    (fall,) = found.events
    progress = found.course.video_progress
    before = progress[fall.start - 1]
    assert progress[fall.start : fall.end + 1].max() < before
    assert before - progress[fall.start : fall.end + 1].min() > 0.2
    assert progress[-1] == pytest.approx(1)


@settings(max_examples=20)
@given(SEEDS)
def test_a_cut_video_ends_before_the_task_does(seed: int) -> None:
    assert script("truncated", seed).course.video_progress[-1] < 0.95


@settings(max_examples=20)
@given(SEEDS)
def test_wrong_order_places_before_it_picks(seed: int) -> None:
    names = [segment.name for segment in script("wrong_order", seed).segments]
    assert names.index("place") < names.index("pick")


@settings(max_examples=20)
@given(SEEDS, st.sampled_from(["ordinary", *SPECIAL]))
def test_steps_cover_the_video_and_the_cube_ends_where_it_belongs(seed: int, kind: str) -> None:
    found = script(kind, seed)
    ends = [(s.start, s.end) for s in found.segments]
    assert ends[0][0] == 0 and ends[-1][1] == len(found.course) - 1
    assert all(after[0] == before[1] + 1 for before, after in zip(ends, ends[1:], strict=False))
    if kind in ("ordinary", "object_stays", "dropped"):
        assert np.linalg.norm(found.course.cube[-1] - found.sites.bin) < 0.05


def test_the_arm_reaches_its_hand() -> None:
    course = script("ordinary", 0).course
    angles, elbow = joints(course.hand)
    np.testing.assert_allclose(np.linalg.norm(course.hand - elbow, axis=1), LOWER, atol=1e-6)
    forward = angles.sum(1)
    np.testing.assert_allclose(
        elbow + LOWER * np.stack([np.cos(forward), np.sin(forward)], 1), course.hand, atol=1e-6
    )
    assert np.allclose(np.linalg.norm(elbow - [0.5, 0.02], axis=1), UPPER)


def test_the_cube_is_drawn_where_it_lies() -> None:
    found = script("ordinary", 3)
    still = ImageConfig(size=64, shift=0, shake=0, brightness=0, flicker=0, noise=0, distractor=0)
    first = found.course.at(np.array([0]))
    far = Sites(*(np.array([3.0, 3.0]) for _ in range(6)))  # nothing else in the picture
    image = draw_images(first, far, still, np.random.default_rng(0))[0].astype(int)
    red = image[..., 0] - image[..., 1]
    rows, columns = np.nonzero(red > 80)
    centre = np.array([(columns.mean() + 0.5) / 64, 1 - (rows.mean() + 0.5) / 64])
    assert np.linalg.norm(centre - found.course.cube[0]) < 0.5 / 64


def test_features_keep_the_distances_of_images_up_to_scale() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    features = FeatureMap.fit(images, 39, 0)(images)
    flat = images.reshape(40, -1) / 255
    ratio = np.linalg.norm(features[1:] - features[0], axis=1) / np.linalg.norm(flat[1:] - flat[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_a_seed_makes_a_set_and_more_videos_change_no_other() -> None:
    few = {v.annotation.name: v for v in make_videos(TINY.model_copy(update={"train": 1, "special": 0}))}
    for video in make_videos(TINY):
        if (same := few.get(video.annotation.name)) is not None:
            assert same.annotation == video.annotation
            np.testing.assert_array_equal(same.images, video.images)
    other = next(make_videos(TINY.model_copy(update={"seed": 1})))
    assert other.annotation != few[other.annotation.name].annotation


def test_the_folder_holds_what_was_made(tmp_path: Path) -> None:
    made = make_set(TINY.model_copy(update={"keep_frames": True, "train_special": 0, "special": 0}), tmp_path)
    annotations = load_annotation_set(tmp_path)
    assert annotations == made.annotations and annotations.splits == ("train", "test")
    video = annotations.videos[1]
    np.testing.assert_array_equal(load_features(tmp_path, video), made.features[video.name])
    truth = np.load(tmp_path / "truth" / f"{video.name}.npz")
    for name, values in vars(made.truth[video.name]).items():
        np.testing.assert_array_equal(truth[name], values)
    assert np.load(tmp_path / "frames" / f"{video.name}.npy").shape == (video.num_frames, 16, 16, 3)


def test_every_special_kind_has_a_test_split_and_training_videos() -> None:
    annotations = tiny_set().annotations
    assert annotations.splits == ("train", "test", "train_special", *SPECIAL)
    kinds = {name for v in annotations.split("train_special") for name in SPECIAL if name in v.name}
    assert kinds == set(SPECIAL)
