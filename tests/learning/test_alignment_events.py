"""Clips change time as they say, and events are counted as found or false by what the detector says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import tiny_progress

from tacit.progress import DetectorConfig
from tacit_learning.alignment.data.batches import ELAPSED, MASK, PROGRESS, REMAINING, gather
from tacit_learning.alignment.data.videos import Annotated, make_videos, still_frames
from tacit_learning.alignment.data.warp import Clip, warp
from tacit_learning.alignment.judge.events import event_scores
from tacit_learning.alignment.settings import WarpConfig
from tacit_learning.data.annotations import Annotation, AnnotationSet, Event

FPS = 10.0
DETECTOR = DetectorConfig(stall_after_s=2.0, stall_gain=0.02, regression_drop=0.15, regression_recovery=0.05)
QUIET = WarpConfig(
    offset=0,
    slowest=1,
    fastest=1,
    pause=0,
    hold=0,
    rewind=0,
    truncate=0,
    noise=0,
    shift=0,
    pause_s=3,
    rewind_s=3,
)


def annotation(frames: int, *events: Event) -> Annotation:
    return Annotation("v", frames, FPS, ("lift",), (0,), (frames - 1,), events=events)


@given(st.integers(2, 120), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_clips_show_frames_of_the_video_and_never_jump_ahead(length: int, seed: int) -> None:
    frames = warp(length, FPS, WarpConfig(), np.random.default_rng(seed)).frames
    assert len(frames) >= 1 and frames.min() >= 0 and frames.max() < length
    assert np.diff(frames, prepend=frames[0]).max() <= np.ceil(WarpConfig().fastest)


def test_without_chances_a_clip_is_its_video() -> None:
    clip = warp(30, FPS, QUIET, np.random.default_rng(0))
    assert clip.frames.tolist() == list(range(30)) and not clip.rests.any()


def test_a_pause_repeats_a_frame_and_a_rewind_plays_backwards_step_by_step() -> None:
    paused, rests = warp(40, FPS, QUIET.model_copy(update={"pause": 1.0}), np.random.default_rng(1))
    assert rests.sum() == len(paused) - 40 and len(set(paused[rests])) == 1
    assert set(np.diff(paused)) == {0, 1} and (np.diff(paused) == 0).sum() == len(paused) - 40
    back = warp(40, FPS, QUIET.model_copy(update={"rewind": 1.0}), np.random.default_rng(3)).frames
    assert set(np.diff(back)) == {-1, 1} and back[-1] == 39


def test_a_pause_that_sways_wanders_about_its_frame_and_is_a_rest_all_the_same() -> None:
    config, deviation = QUIET.model_copy(update={"pause": 1.0, "pause_s": 60.0, "sway_s": 0.3}), 3
    frames, rests = warp(40, FPS, config, np.random.default_rng(5))
    wandered = frames[rests] - frames[~rests][int(rests.argmax())]
    assert len(wandered) > 100 and np.abs(wandered).max() <= 2 * deviation
    assert abs(wandered.mean()) < 1 and deviation / 2 < wandered.std() < 2 * deviation
    assert frames[~rests].tolist() == list(range(40))


def test_clips_of_the_progress_preset_end_at_the_end() -> None:
    config, rng = tiny_progress(Path("unused"), None).warp, np.random.default_rng(0)
    for _ in range(50):
        frames, rests = warp(60, 25.0, config, rng)
        assert frames.min() >= 0 and frames.max() < 60 and len(rests) == len(frames)
        assert frames[-1] == 59


def test_progress_stands_still_in_a_pause() -> None:
    video = annotation(30)
    annotated = Annotated(AnnotationSet.of_videos([video]), {"v": np.zeros((30, 3), np.float32)})
    videos = make_videos(annotated, [video], "video").videos
    clip = warp(30, FPS, QUIET.model_copy(update={"pause": 1.0}), np.random.default_rng(1))
    progress, same = gather(videos, [clip], FPS)[PROGRESS][0].numpy(), np.diff(clip.frames) == 0
    assert same.any() and (np.diff(progress)[same] == 0).all() and (np.diff(progress)[~same] > 0).all()


def test_targets_of_a_clip_follow_what_is_seen_and_time_runs_on() -> None:
    video = annotation(6)
    annotated = Annotated(AnnotationSet.of_videos([video]), {"v": np.zeros((6, 3), np.float32)})
    videos = make_videos(annotated, [video], "video")
    clips = [Clip(np.array(rows), np.zeros(len(rows), bool)) for rows in ([0, 3, 3, 2], [5])]
    batch = gather(videos.videos * 2, clips, FPS)
    np.testing.assert_allclose(batch[PROGRESS][0], np.array([1, 4, 4, 3]) / 6, atol=1e-6)
    np.testing.assert_allclose(batch[REMAINING][0], [0.5, 0.2, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(batch[ELAPSED][0], [0, 0.1, 0.2, 0.3], atol=1e-6)
    assert batch[MASK].tolist() == [[True] * 4, [True, False, False, False]]


def test_an_annotated_stall_stands_still_and_a_fall_leaves_no_target() -> None:
    video = annotation(10, Event("stall", 2, 6))
    features = {"v": np.zeros((10, 3), np.float32)}
    (made,) = make_videos(Annotated(AnnotationSet.of_videos([video]), features), [video], "video").videos
    expected = np.array([1, 2, 2, 2, 2, 2, 2, 3, 4, 5]) / 5
    np.testing.assert_allclose(made.action, expected, atol=1e-6)
    np.testing.assert_allclose(made.progress, expected, atol=1e-6)
    assert still_frames(video).sum() == 5
    fallen = annotation(10, Event("regression", 2, 6))
    (made,) = make_videos(Annotated(AnnotationSet.of_videos([fallen]), features), [fallen], "video").videos
    assert not made.progress_mask.any() and bool((made.labels == 1).all())


def test_true_progress_finds_every_event_without_false_alarm() -> None:
    rise, hold = np.linspace(0, 0.5, 40), np.full(40, 0.5)
    stalled = np.concatenate([rise, hold, np.linspace(0.5, 1, 40)])
    fallen = np.concatenate([np.linspace(0, 0.8, 40), np.linspace(0.8, 0.4, 20), np.linspace(0.4, 1, 60)])
    known = [annotation(120, Event("stall", 40, 79)), annotation(120, Event("regression", 40, 99))]
    scores = event_scores(known, [stalled, fallen], DETECTOR)
    assert (scores.found, scores.events, scores.alarmed, scores.videos) == (2, 2, 0, 2)
    assert scores.recall == 1.0 and scores.false_alarms == 0.0 and 0 < scores.delay_s < 3


def test_a_clock_misses_every_stall_and_a_still_estimate_cries_wolf() -> None:
    clock, still = np.linspace(0, 1, 120), np.full(120, 0.3)
    missed = event_scores([annotation(120, Event("stall", 40, 79))], [clock], DETECTOR)
    assert (missed.found, missed.alarmed) == (0, 0)
    alarm = event_scores([annotation(120)], [still], DETECTOR)
    assert alarm.alarmed == 1 and np.isnan(alarm.recall)


def test_an_event_of_another_kind_is_not_counted_as_found() -> None:
    fallen = np.concatenate([np.linspace(0, 0.8, 60), np.linspace(0.8, 0.2, 8), np.full(52, 0.2)])
    scores = event_scores([annotation(120, Event("stall", 60, 80))], [fallen], DETECTOR)
    assert scores.found == 0


def test_warped_clips_are_the_same_for_the_same_seed() -> None:
    a, b = (warp(50, FPS, WarpConfig(), np.random.default_rng([1, 2])) for _ in range(2))
    assert torch.equal(torch.from_numpy(a.frames), torch.from_numpy(b.frames))
    with pytest.raises(ValueError, match="unknown|extra"):
        WarpConfig(spin=1)
