"""Step annotations: what is refused and how it is said, resampling by true time, the folder on disk."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.episode.steps import runs
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_files import load_annotation_set, load_features, save_annotation_set
from tacit_learning.data.annotation_policies import Repairs, SegmentPolicy, clean_segments
from tacit_learning.data.annotations import Annotation, AnnotationSet, Event, Segment
from tacit_learning.data.frame_times import frames_at_stamps, resample_frames

STEPS = (Segment("pick", 2, 5), Segment("background", 6, 7), Segment("place", 8, 11), Segment("pick", 12, 14))


def annotation(
    steps: tuple[Segment, ...] = STEPS, frames: int = 16, fps: float = 10.0, **f: object
) -> Annotation:
    return Annotation.of_segments("video", frames, fps, steps, **f)


@st.composite
def random_annotations(draw: st.DrawFn) -> Annotation:
    """Steps of random lengths with random gaps."""
    pieces = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30)), min_size=1, max_size=8))
    steps, at = [], 0
    for number, (gap, length) in enumerate(pieces):
        steps.append(Segment(f"step {number % 3}", at + gap, at + gap + length - 1))
        at += gap + length
    return annotation(tuple(steps), at + draw(st.integers(0, 5)))


# -- what an annotation refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Segment("b", 5, 8), Segment("a", 0, 3)), "step 1 'a' (frames 0..3): starts before step 0 'b'"),
        ((Segment("a", 0, 5), Segment("b", 5, 8)), "step 1 'b' (frames 5..8): overlaps step 0 'a'"),
        ((Segment("a", 0, 16),), "step 0 'a' (frames 0..16): ends after the last frame 15"),
        ((Segment("a", -1, 3),), "expected 0 <= start <= end"),
        ((Segment("a", 4, 3),), "expected 0 <= start <= end"),
        ((Segment("", 4, 5),), "has no name"),
        ((Segment("a", 1.5, 3),), "start_frame: frames must be whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_step_is_named(steps: tuple[Segment, ...], message: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        annotation(steps)
    assert message in str(caught.value) and "'video'" in str(caught.value)


@pytest.mark.parametrize("fields", [{"fps": 0.0}, {"fps": float("nan")}, {"frames": 0}])
def test_a_video_without_frames_or_rate_is_refused(fields: dict) -> None:
    with pytest.raises(AnnotationError, match="expected"):
        annotation((), **fields)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(AnnotationError, match="have 2, 1, 1 entries"):
        Annotation("video", 9, 10.0, ("a", "b"), (0,), (3,))


def test_an_event_outside_the_video_is_refused() -> None:
    with pytest.raises(AnnotationError, match="event 'stall'"):
        annotation(events=(Event("stall", 10, 16),))


def test_an_annotation_does_not_change_with_the_lists_it_was_made_of() -> None:
    names, starts, ends = ["a", "b"], [0, 4], [3, 7]
    made = Annotation("video", 9, 10.0, names, starts, ends)  # type: ignore[arg-type]
    starts[0], ends[1] = 2, 99
    assert made.segments() == (Segment("a", 0, 3), Segment("b", 4, 7))
    with pytest.raises(AttributeError):
        made.fps = 3.0  # type: ignore[misc]


# -- frames ------------------------------------------------------------------------------------


def test_labels_per_frame_leave_background_and_gaps_at_minus_one() -> None:
    ids = annotation().labels_per_frame(("place", "pick"))
    assert ids.tolist() == [-1, -1, 1, 1, 1, 1, -1, -1, 0, 0, 0, 0, 1, 1, 1, -1]
    np.testing.assert_array_equal(annotation().action_mask(), ids >= 0)


def test_an_unknown_label_is_answered_with_the_close_one() -> None:
    with pytest.raises(AnnotationError, match="'place'.*unknown label; did you mean 'plaice'"):
        annotation().labels_per_frame(("pick", "plaice"))


def test_runs_tell_where_values_change() -> None:
    assert runs(np.array([3, 3, -1, 4, 4, 4])) == [(3, 0, 1), (-1, 2, 2), (4, 3, 5)]
    assert runs(np.array([], dtype=np.int64)) == []


# -- resampling --------------------------------------------------------------------------------


@given(random_annotations(), st.integers(1, 7))
def test_a_stride_keeps_frames_ceil_of_start_to_floor_of_end(video: Annotation, stride: int) -> None:
    thinned = video.resampled(stride=stride, lost="drop")
    expected = [(s.name, -(-s.start // stride), s.end // stride) for s in video.segments()]
    assert [tuple(s) for s in thinned.segments()] == [e for e in expected if e[1] <= e[2]]
    assert thinned.num_frames == len(range(0, video.num_frames, stride))
    assert thinned.fps == pytest.approx(video.fps / stride)


@given(random_annotations(), st.fractions(Fraction(1, 2), Fraction(40), max_denominator=1001))
def test_every_resampled_frame_keeps_the_step_that_was_seen_at_its_time(
    video: Annotation, rate: Fraction
) -> None:
    thinned = video.resampled(fps=float(rate), lost="drop")
    inside = thinned.step_per_frame() >= 0
    for j in range(thinned.num_frames):
        seen = int(Fraction(j) / rate * 10)  # floor: the last frame at or before j / rate seconds, at 10 fps
        assert inside[j] == any(s.start <= seen <= s.end for s in video.segments())


def test_rates_that_are_no_binary_fractions_stay_exact() -> None:
    frames = resample_frames(30_000, 30_000 / 1001, 10_000 / 1001)
    np.testing.assert_array_equal(frames, np.arange(0, 30_000, 3))


def test_resampling_makes_a_new_object_and_leaves_the_old_one() -> None:
    video = annotation()
    assert video.resampled(stride=2).resampled(stride=2).num_frames == 4
    assert video == annotation()


def test_a_step_that_would_vanish_is_refused_by_name_or_dropped() -> None:
    short = annotation((Segment("a", 0, 8), Segment("blink", 9, 9), Segment("b", 10, 15)))
    with pytest.raises(AnnotationError, match="no frame is kept of 'blink'"):
        short.resampled(stride=2)
    assert short.resampled(stride=2, lost="drop").steps == ("a", "b")


def test_a_pause_lengthens_a_step_and_a_rewind_repeats_it() -> None:
    video = annotation((Segment("a", 0, 3), Segment("b", 4, 7)), 8)
    paused = video.at_frames([0, 1, 1, 1, 2, 3, 4, 5, 6, 7], 10.0)
    assert paused.segments() == (Segment("a", 0, 5), Segment("b", 6, 9))
    rewound = video.at_frames([0, 1, 2, 3, 4, 3, 2, 3, 4, 5], 10.0)
    assert [s.name for s in rewound.segments()] == ["a", "b", "a", "b"]


def test_events_move_with_their_frames() -> None:
    video = annotation(events=(Event("stall", 4, 9),)).resampled(stride=3, lost="drop")
    assert video.events == (Event("stall", 2, 3),)


@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda kept: kept[0] and kept[-1]))
def test_lost_frames_do_not_stretch_time(kept: list[bool]) -> None:
    period = Fraction(10**9, 30)
    stamps = np.array([round(i * period) for i, there in enumerate(kept) if there]) + 12345
    latest, chosen = -1, []
    for there in kept:
        latest += there
        chosen.append(latest)
    np.testing.assert_array_equal(frames_at_stamps(stamps, 30.0), chosen)


def test_stamps_that_fall_back_are_refused() -> None:
    with pytest.raises(AnnotationError, match="strictly rising"):
        frames_at_stamps(np.array([0, 10, 10]), 30.0)


# -- policies ----------------------------------------------------------------------------------


def clean(steps: list[Segment], **policy: str) -> tuple[tuple[Segment, ...], Repairs]:
    repairs = Repairs()
    return clean_segments(steps, 10, "v", SegmentPolicy(**policy), repairs), repairs  # type: ignore[arg-type]


def test_trim_ends_a_step_before_the_next() -> None:
    steps, repairs = clean([Segment("a", 0, 4), Segment("b", 4, 9)], overlap="trim")
    assert steps == (Segment("a", 0, 3), Segment("b", 4, 9)) and len(repairs.trimmed) == 1


def test_two_steps_with_one_start_cannot_be_trimmed() -> None:
    with pytest.raises(AnnotationError, match="overlaps"):
        clean([Segment("a", 0, 4), Segment("b", 0, 9)], overlap="trim")


def test_a_step_beyond_the_end_is_dropped_and_counted_never_clamped() -> None:
    steps, repairs = clean([Segment("a", 0, 4), Segment("b", 5, 10)], beyond="drop")
    assert steps == (Segment("a", 0, 4),) and "1 steps beyond the end" in str(repairs)


def test_sort_orders_by_start_and_says_so() -> None:
    steps, repairs = clean([Segment("b", 5, 8), Segment("a", 0, 4)], order="sort")
    assert [s.name for s in steps] == ["a", "b"] and repairs.sorted == ["v"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Segment("a", 1, 9)], "frames 0..0 belong to no step"),
        ([Segment("a", 0, 3), Segment("b", 6, 9)], "frames 4..5 belong to no step"),
        ([Segment("a", 0, 7)], "frames 8..9 belong to no step"),
    ],
)
def test_gaps_can_be_refused(steps: list[Segment], message: str) -> None:
    assert clean(steps)[0] == tuple(steps)
    with pytest.raises(AnnotationError, match=message):
        clean(steps, gap="error")


# -- sets and files ----------------------------------------------------------------------------


def two_videos() -> AnnotationSet:
    first = annotation(features="features/video.npy", events=(Event("stall", 3, 4),))
    second = Annotation.of_segments("other", 5, 10.0, [Segment("place", 0, 4)], split="test", task="t")
    return AnnotationSet.of_videos([first, second])


def test_labels_are_the_actions_in_order_of_appearance() -> None:
    assert two_videos().labels == ("pick", "place")
    assert two_videos().splits == ("train", "test")
    assert [v.name for v in two_videos().split("test")] == ["other"]


def test_a_set_comes_back_from_its_file(tmp_path: Path) -> None:
    save_annotation_set(two_videos(), tmp_path)
    assert load_annotation_set(tmp_path) == two_videos()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["pick", "plce"]}, "unknown label; did you mean 'plce'"),
        ({"labels": ["pick", "place", "place"]}, "label 'place' comes twice"),
        ({"labels": ["pick", "place", "background"]}, "labels and background at once"),
        ({"schema": "tacit-annotations 2"}, "expected 'tacit-annotations 1'"),
        ({"colour": 3}, "colour: unknown key"),
        ({"videos": []}, "holds no video"),
        ({"fps": "fast"}, "fps"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(tmp_path: Path, change: dict, message: str) -> None:
    path = save_annotation_set(two_videos(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AnnotationError, match=message) as caught:
        load_annotation_set(path)
    assert str(path) in str(caught.value) or message == "holds no video"


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(AnnotationError, match="annotations.json"):
        load_annotation_set(tmp_path)


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="give an annotations file or its folder"):
        load_annotation_set(tmp_path)


def test_a_missing_split_names_those_that_exist() -> None:
    with pytest.raises(AnnotationError, match="valid: test, train"):
        two_videos().split("validation")


def test_one_name_twice_and_two_rates_are_refused() -> None:
    with pytest.raises(AnnotationError, match="video 'video' comes twice"):
        AnnotationSet.of_videos([annotation(), annotation()])
    other = Annotation.of_segments("other", 5, 12.0, [])
    with pytest.raises(AnnotationError, match="12 fps, the first has 10; resample first"):
        AnnotationSet.of_videos([annotation(), other])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((15, 4)), "15 frames of features, the video has 16"),
        (np.zeros((4, 16)), "they look transposed"),
        (np.zeros(16), "expected numbers"),
        (np.full((16, 4), "a"), "expected numbers"),
        (np.where(np.arange(64).reshape(16, 4) == 9, np.nan, 0), "features of frame 2 are not finite"),
    ],
)
def test_features_that_do_not_fit_their_video_are_refused(
    tmp_path: Path, features: np.ndarray, message: str
) -> None:
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "video.npy", features)
    with pytest.raises(AnnotationError, match=message):
        load_features(tmp_path, two_videos().videos[0])


def test_features_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such file; extract its features"):
        load_features(tmp_path, two_videos().videos[0])
    with pytest.raises(AnnotationError, match="names no features"):
        load_features(tmp_path, two_videos().videos[1])


def test_the_example_of_the_readme_is_valid(root: Path, tmp_path: Path) -> None:
    text = (root / "learning" / "ALIGNMENT.md").read_text()
    example = next(block for block in text.split("```json\n")[1:] if "tacit-annotations" in block)
    (tmp_path / "annotations.json").write_text(example.partition("```")[0])
    found = load_annotation_set(tmp_path)
    assert found.splits == ("train", "test") and found.split("test")[0].events == (Event("stall", 20, 40),)
