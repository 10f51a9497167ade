"""One window for video and motion: frames 4 k + 1, one cut for all videos, rows that keep their time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import ConfigError
from tacit_learning.vace_e.data.windows import (
    check_size,
    choose_windows,
    fit_mask,
    fit_video,
    fitting_frames,
    model_times,
    rows_in_window,
    thinned,
)


def first_window(*told: Any) -> np.ndarray:
    return choose_windows(*told)[0]


@given(st.integers(0, 300), st.integers(5, 120))
def test_the_largest_whole_number_of_latent_frames_fits(available: int, wanted: int) -> None:
    allowed = [n for n in range(5, min(available, wanted) + 1) if n % 4 == 1]
    assert fitting_frames(available, wanted) == max(allowed, default=0)


@given(st.integers(5, 200), st.sampled_from(["first", "uniform", "random"]), st.integers(0, 9))
def test_a_window_lies_in_the_video_and_moves_on(available: int, mode: str, seed: int) -> None:
    frames = first_window(available, 17, mode, "a/episode_0", seed)  # type: ignore[arg-type]
    assert len(frames) == fitting_frames(available, 17)
    assert frames[0] >= 0 and frames[-1] < available and (np.diff(frames) > 0).all()
    if mode != "uniform":
        assert (np.diff(frames) == 1).all()
    if mode == "first":
        assert frames[0] == 0
    if mode == "uniform":
        assert (frames[0], frames[-1]) == (0, available - 1)


def test_a_random_window_is_fixed_by_name_and_seed() -> None:
    def start(name: str, seed: int) -> int:
        return int(first_window(400, 17, "random", name, seed)[0])

    assert start("a/episode_0", 0) == start("a/episode_0", 0)
    assert len({start(f"a/episode_{i}", 0) for i in range(8)}) > 4
    assert len({start("a/episode_0", seed) for seed in range(8)}) > 4


def test_four_frames_are_no_window() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        first_window(4, 17, "first", "a")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((100, 96, 17), "height: 100 is no multiple of 16; the nearest are 96 and 112"),
        ((96, 8, 17), "width: 8"),
        ((96, 96, 16), r"num_frames: 16 is not 4 k \+ 1; the nearest are 13 and 17"),
        ((96, 96, 1), "num_frames: 1"),
    ],
)
def test_odd_sizes_are_refused_with_the_nearest(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_size(*size)


def test_motion_of_the_videos_length_has_one_row_per_frame() -> None:
    rows = rows_in_window(40, np.arange(40), np.arange(10, 27), 512)
    assert rows.rows.tolist() == list(range(10, 27))
    np.testing.assert_array_equal(rows.times, np.arange(17))


def test_one_row_more_or_less_is_the_frame_that_was_cut() -> None:
    for length in (39, 41):
        rows = rows_in_window(length, np.arange(40), np.arange(17), 512)
        assert rows.rows.tolist() == list(range(17))
        np.testing.assert_array_equal(rows.times, np.arange(17))


def test_faster_motion_spans_the_same_time() -> None:
    """Rows at four times the rate of the video: the window's first second is theirs too."""
    rows = rows_in_window(4 * 39 + 1, np.arange(40), np.arange(8, 25), 512)
    np.testing.assert_allclose(rows.times, rows.rows / 4 - 8)
    assert rows.times[0] == -0.5 and rows.times[-1] == 16.5
    assert (np.diff(rows.rows) == 1).all()


def test_slower_motion_keeps_its_own_rows() -> None:
    rows = rows_in_window(9, np.arange(81), np.arange(20, 41), 512)
    assert rows.rows.tolist() == [2, 3, 4]
    np.testing.assert_allclose(rows.times, [0, 10, 20])


def test_a_window_between_two_rows_takes_the_nearest() -> None:
    rows = rows_in_window(2, np.arange(201), np.arange(60, 77), 512)
    assert rows.rows.tolist() == [0]
    np.testing.assert_allclose(rows.times, [-60])


def test_a_spread_window_maps_time_at_its_own_pace() -> None:
    frames = first_window(161, 17, "uniform", "a")
    rows = rows_in_window(161, np.arange(161), frames, 512)
    assert len(rows.rows) == 161
    np.testing.assert_allclose(rows.times[frames], np.arange(17), atol=1e-6)
    np.testing.assert_allclose(rows.times, np.linspace(0, 16, 161), atol=1e-5)


@given(st.integers(1, 300), st.integers(5, 200), st.integers(2, 60))
def test_long_motion_is_thinned_with_its_ends_and_times(length: int, video: int, longest: int) -> None:
    frames = first_window(video, 81, "first", "a")
    full, short = (
        rows_in_window(length, np.arange(video), frames, 10_000),
        rows_in_window(length, np.arange(video), frames, longest),
    )
    assert len(short.rows) == min(len(full.rows), longest)
    assert (short.rows[0], short.rows[-1]) == (full.rows[0], full.rows[-1])
    when = dict(zip(full.rows.tolist(), full.times.tolist(), strict=True))
    assert [when[row] for row in short.rows.tolist()] == short.times.tolist()


def test_thinning_is_even() -> None:
    assert thinned(9, 5).tolist() == [0, 2, 4, 6, 8]
    assert thinned(3, 5).tolist() == [0, 1, 2]
    assert np.ptp(np.diff(thinned(1000, 512))) <= 1


def test_no_rows_give_no_rows() -> None:
    rows = rows_in_window(0, np.arange(40), np.arange(17), 512)
    assert rows.rows.shape == rows.times.shape == (0,)


def test_every_frame_lies_in_a_chunk_and_the_last_one_ends_with_the_episode() -> None:
    chunks = choose_windows(40, 17, "chunked", "a")
    assert [(window[0], window[-1]) for window in chunks] == [(0, 16), (17, 33), (23, 39)]
    assert [window[0] for window in choose_windows(34, 17, "chunked", "a")] == [0, 17]
    assert [window[0] for window in choose_windows(40, 17, "sliding", "a", 0, 10)] == [0, 10, 20, 23]
    assert [window[0] for window in choose_windows(33, 17, "sliding", "a")] == [0, 8, 16]
    assert len(choose_windows(9, 17, "chunked", "a")) == len(choose_windows(9, 17, "sliding", "a")) == 1


def test_several_random_windows_differ_and_the_first_is_that_of_one() -> None:
    many = choose_windows(400, 17, "random", "a", 3, None, 6)
    assert len({int(window[0]) for window in many}) > 4
    assert many[0].tolist() == first_window(400, 17, "random", "a", 3).tolist()


def test_the_model_sees_moments_at_its_own_rate() -> None:
    shown = np.arange(61) / 30
    np.testing.assert_allclose(model_times(shown, 2.0, 16.0), np.arange(33) / 16)
    np.testing.assert_array_equal(model_times(shown, 1.0, None), shown[:31])


@given(st.lists(st.floats(0.01, 0.2), min_size=8, max_size=60), st.floats(20, 60), st.integers(0, 20))
def test_rows_keep_their_time_in_a_video_of_any_rate(periods: list[float], rate: float, start: int) -> None:
    """Hands at an even rate beside a video whose frames come as they please."""
    shown = np.concatenate([[0.0], np.cumsum(periods)])
    moments = (start + np.arange(5)) / 16
    count = int(shown[-1] * rate) + 1
    if abs(count - len(shown)) > 1:  # else a row per frame
        rows = rows_in_window(count, shown, moments, 10_000)
        at = rows.rows * shown[-1] / max(count - 1, 1)
        np.testing.assert_allclose(rows.times, 16 * at - start, atol=1e-3)


def test_a_row_per_frame_is_shown_when_its_frame_is() -> None:
    shown = np.array([0.0, 0.03, 0.06, 0.09, 0.19, 0.29, 0.39, 0.49])
    rows = rows_in_window(8, shown, np.arange(5) / 16, 100)
    np.testing.assert_allclose(rows.times, 16 * shown[:5], atol=0.1)
    np.testing.assert_allclose(rows.times, 16 * shown[rows.rows], rtol=1e-5)


@pytest.mark.parametrize("size", [(60, 80), (48, 96), (90, 90), (33, 47)])
def test_the_cut_is_about_the_centre_and_covers(size: tuple[int, int]) -> None:
    """A ramp along x has its middle value in the middle of what is left."""
    ramp = np.broadcast_to(np.linspace(0, 250, size[1])[None, :, None], (*size, 3)).astype(np.uint8)
    (frame,) = fit_video(ramp[None], 48, 64)
    assert frame.shape == (48, 64, 3)
    middle = frame[24, 31:33, 0].astype(float).mean()
    assert middle == pytest.approx(125, abs=3)
    assert abs(float(frame[24, 0, 0]) - (250 - float(frame[24, -1, 0]))) <= 6


def test_mask_and_video_are_cut_alike() -> None:
    """A white square stays where it is in both, to a pixel."""
    picture = np.zeros((1, 90, 140, 3), np.uint8)
    picture[:, 30:60, 50:90] = 255
    video = fit_video(picture, 48, 80)[0, ..., 0] > 127
    mask = fit_mask(picture, 48, 80)[0]
    for axis in (0, 1):
        seen, masked = np.flatnonzero(video.any(axis)), np.flatnonzero(mask.any(axis))
        assert abs(seen[0] - masked[0]) <= 1 and abs(seen[-1] - masked[-1]) <= 1


def test_a_mask_grows_by_whole_pixels_and_does_not_blend() -> None:
    """One light pixel of 200, doubled: four pixels; blended with black it would be none."""
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[0, 5, 7] = 200
    assert np.argwhere(fit_mask(picture, 32, 32)[0]).tolist() == [[10, 14], [10, 15], [11, 14], [11, 15]]


def test_a_mask_is_white_above_127_and_ringing_is_not() -> None:
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[0, 0, :4, 0] = (127, 128, 30, 255)
    assert fit_mask(picture, 16, 16)[0, 0, :4].tolist() == [False, True, False, True]
