"""Metrics against independent computations: scipy, scikit-learn, brute force, and examples worked by hand."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import precision_recall_fscore_support, r2_score
from sklearn.svm import SVC

from tacit_learning.alignment import metrics
from tacit_learning.alignment.judge import metrics_progress, metrics_segments
from tacit_learning.data.annotations import Annotation, Segment

RNG = np.random.default_rng(0)


def line(length: int, start: float = 0.0, end: float = 1.0) -> np.ndarray:
    """Embeddings (T, 2) that move along a line."""
    return np.stack([np.linspace(start, end, length), np.zeros(length)], axis=1)


# -- order -------------------------------------------------------------------------------------


def test_kendall_tau_of_embeddings_counts_concordant_pairs() -> None:
    a, b = RNG.normal(size=(30, 4)), RNG.normal(size=(25, 4))
    nearest = [min(range(25), key=lambda j: np.sum((x - b[j]) ** 2)) for x in a]
    signs = [np.sign(nearest[j] - nearest[i]) for i, j in combinations(range(30), 2)]
    untied = sum(s != 0 for s in signs)
    expected = sum(signs) / np.sqrt(untied * len(signs))  # tau-b: ties on one side only
    assert metrics.kendall_tau(a, b) == pytest.approx(expected, abs=1e-12)


@given(st.permutations(list(range(12))))
def test_kendall_tau_of_numbers_is_that_of_scipy(order: list[int]) -> None:
    assert metrics.kendall_tau(np.arange(12.0), np.array(order, float)) == pytest.approx(
        kendalltau(range(12), order).statistic
    )


def test_kendall_tau_of_forward_backward_and_constant_videos() -> None:
    assert metrics.kendall_tau(line(20), line(30)) == pytest.approx(1.0)
    assert metrics.kendall_tau(line(20), line(30)[::-1]) == pytest.approx(-1.0)
    assert metrics.kendall_tau(line(20), np.zeros((30, 2))) == 0.0
    assert metrics.kendall_tau(torch.tensor(line(20)), torch.tensor(line(20))) == pytest.approx(1.0)


REORDERED = ((Segment("a", 0, 4), Segment("b", 5, 9)), (Segment("b", 0, 4), Segment("a", 5, 9)))


def test_a_re_ordered_video_is_no_mistake_in_the_wild() -> None:
    video = np.arange(10.0)[:, None]
    swapped = np.concatenate([video[5:], video[:5]])
    matches = metrics.true_matches(*REORDERED, (10, 10))
    assert metrics.kendall_tau(video, swapped) < 0.2
    assert metrics.kendall_tau_wild(video, swapped, matches) == pytest.approx(1.0)
    assert metrics.enclosed_area(video, swapped, matches) == 0.0


# -- area --------------------------------------------------------------------------------------


def test_true_matches_lay_one_step_evenly_over_the_other() -> None:
    matches = metrics.true_matches([Segment("a", 1, 3)], [Segment("a", 2, 6), Segment("b", 7, 8)], (5, 9))
    assert np.argwhere(matches).tolist() == [[1, 2], [2, 4], [3, 6]]


def test_enclosed_area_of_a_worked_example() -> None:
    # b: background 0..3, a 4..7. Frames of a find b's frames 4, 0, 6, 7 where 4, 5, 6, 7 were right.
    a, b = np.array([[4.0], [0.0], [6.0], [7.0]]), np.arange(8.0)[:, None]
    matches = metrics.true_matches([Segment("a", 0, 3)], [Segment("a", 4, 7)], (4, 8))
    assert metrics.enclosed_area(a, b, matches) == pytest.approx(5 / (4 * 8))
    # In the wild only frame 4 lies between 0 and 5 and can be aligned; 4 frames can in all.
    assert metrics.enclosed_area(a, b, matches, wild=True) == pytest.approx(1 / (4 * 4))


def test_the_nearest_of_several_right_answers_counts() -> None:
    a = np.array([[9.0]])
    matches = metrics.true_matches([Segment("a", 0, 0)], [Segment("a", 1, 1), Segment("a", 8, 8)], (1, 10))
    assert metrics.enclosed_area(a, np.arange(10.0)[:, None], matches) == pytest.approx(1 / 10)


def test_without_a_shared_action_there_is_no_area() -> None:
    matches = metrics.true_matches([Segment("a", 0, 3)], [Segment("b", 0, 3)], (4, 4))
    assert np.isnan(metrics.enclosed_area(line(4), line(4), matches))
    assert metrics.kendall_tau_wild(line(4), line(4), matches) == 0.0


# -- actions -----------------------------------------------------------------------------------


def test_nearest_action_accuracy_of_a_worked_example() -> None:
    a, b = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]]), np.array([[0.0], [1.0], [2.0], [3.0]])
    labels_a, labels_b = np.array([0, 0, 1, -1, 2]), np.array([0, 1, -1, 0])
    # Frames 0, 1, 2 count (3 is background, action 2 does not occur in b); only frame 0 is right.
    assert metrics.nearest_action_accuracy(a, b, labels_a, labels_b) == pytest.approx(1 / 3)
    assert np.isnan(metrics.nearest_action_accuracy(a, b, np.full(5, -1), labels_b))


def blobs(videos: int, shift: float = 0.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    labels = [RNG.permutation(np.repeat([0, 1, 2], 8)) for _ in range(videos)]
    return [RNG.normal(size=(24, 5)) + 1.5 * y[:, None] + shift for y in labels], labels


def test_phase_classification_is_an_svm_on_standardised_train_frames() -> None:
    train, y = blobs(6)
    test, wanted = blobs(3)
    x, mean, std = np.concatenate(train), np.concatenate(train).mean(0), np.concatenate(train).std(0)
    svm = SVC().fit((x - mean) / std, np.concatenate(y))
    expected = (svm.predict((np.concatenate(test) - mean) / std) == np.concatenate(wanted)).mean()
    assert 0.5 < expected < 1
    assert metrics.phase_classification(train, y, test, wanted) == pytest.approx(expected)


def test_phase_classification_does_not_see_the_test_videos() -> None:
    train, y = blobs(6)
    test = [RNG.normal(size=(24, 5)) for _ in range(6)]
    assert metrics.phase_classification(train, y, test, y) < 0.5


def test_a_share_of_the_training_videos_is_used() -> None:
    train, y = blobs(10)
    y = [np.full(24, number % 3) for number in range(10)]
    assert metrics.phase_classification(train, y, train, y, share=0.05) in (0.3, 0.4)  # one video, one class


def test_phase_progression_is_one_for_embeddings_that_are_linear_in_time() -> None:
    video = Annotation("v", 20, 10.0, ("a", "b"), (0, 8), (7, 19))
    targets = metrics.boundary_targets(video, ("a", "b", "c"))
    np.testing.assert_allclose(targets[3], [3 / 20, -5 / 20, np.nan])
    embeddings = line(20) @ RNG.normal(size=(2, 6))
    assert metrics.phase_progression([embeddings], [targets], [embeddings], [targets]) == pytest.approx(1.0)


def test_phase_progression_of_noise_is_below_zero_on_other_videos() -> None:
    train, test = [RNG.normal(size=(30, 8)) for _ in range(2)]
    assert metrics.phase_progression(train, np.linspace(0, 1, 30), test, np.linspace(0, 1, 30)) < 0


# -- progress ----------------------------------------------------------------------------------


def test_always_half_is_off_by_a_quarter() -> None:
    ramp = np.arange(1, 101) / 100
    assert metrics.overall_progress_error(np.full(100, 0.5), ramp) == pytest.approx(0.25, abs=1e-12)
    assert metrics_progress.normalised_error(0.05, 0.25) == pytest.approx(0.8)


def test_progress_error_takes_tensors_masks_and_clips() -> None:
    pred, target = torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([0.0, 0.5, 1.0])
    assert metrics.overall_progress_error(pred, target) == pytest.approx(1.0)
    assert metrics.overall_progress_error(pred, target, clip=True) == 0.0
    assert metrics.overall_progress_error(pred, target, np.array([True, True, False])) == pytest.approx(0.5)
    assert np.isnan(metrics.overall_progress_error(pred, target, np.zeros(3, bool)))


def test_progress_of_other_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        metrics.overall_progress_error(np.zeros(3), np.zeros(4))


@given(st.lists(st.integers(0, 6), min_size=3, max_size=30))
def test_spearman_is_that_of_scipy_and_zero_for_constants(values: list[int]) -> None:
    target = np.arange(len(values), dtype=float)
    expected = 0.0 if len(set(values)) == 1 else spearmanr(values, target).statistic
    assert metrics_progress.spearman(values, target) == pytest.approx(expected, abs=1e-9)


def test_r_squared_is_that_of_scikit_learn() -> None:
    pred, true = RNG.normal(size=50), RNG.normal(size=50)
    assert metrics_progress.r_squared(pred, true) == pytest.approx(r2_score(true, pred))
    assert np.isnan(metrics_progress.r_squared(pred, np.ones(50)))


def test_monotonicity_counts_frames_that_do_not_fall() -> None:
    assert metrics_progress.monotonicity([0.0, 0.1, 0.1, 0.05, 0.3]) == pytest.approx(3 / 4)
    assert metrics_progress.monotonicity([0.4]) == 1.0


def test_errors_at_the_ends() -> None:
    assert metrics_progress.first_error([0.2, 0.9], [0.5, 1.0]) == pytest.approx(0.3)
    assert metrics_progress.last_error([0.2, 0.9], [0.5, 1.0]) == pytest.approx(0.1)


def test_errors_by_length_go_to_the_bin_of_the_segment() -> None:
    pred, target = (
        np.zeros(100),
        np.concatenate([np.full(8, 0.2), np.full(7, 0.4), np.full(70, 0.6), np.zeros(15)]),
    )
    segments = [Segment("a", 0, 7), Segment("b", 8, 14), Segment("c", 15, 84)]
    found = metrics_progress.error_by_length(pred, target, segments)
    assert {k: (round(v, 9), n) for k, (v, n) in found.items()} == {
        "8-15": (0.2, 1),
        "1-7": (0.4, 1),
        "64+": (0.6, 1),
    }


# -- segments ----------------------------------------------------------------------------------


def test_f1_of_a_worked_example() -> None:
    true = np.repeat([0, 1, -1, 0], [10, 10, 5, 10])
    said = np.repeat([0, 1, 0, -1, 0], [8, 6, 6, 5, 10])
    # IoU: 0 8/10, 1 6/12 (frames 8..13 against 10..19: 4/12), 0 (14..19) none, 0 (25..34) 1.
    counts = metrics_segments.segment_counts(said, true, 0.25)
    assert counts == (3, 1, 0)
    assert metrics_segments.segment_counts(said, true, 0.5) == (2, 2, 1)
    assert metrics_segments.segmental_f1([said], [true], 0.25) == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_a_segment_is_hit_once() -> None:
    true, said = np.zeros(10, int), np.array([0] * 4 + [-1] * 2 + [0] * 4)
    assert metrics_segments.segment_counts(said, true, 0.1) == (1, 1, 0)


def test_f1_of_perfect_empty_and_wrong_predictions() -> None:
    true = np.repeat([0, 1], 5)
    assert metrics_segments.segmental_f1([true], [true], 0.5) == 1.0
    assert metrics_segments.segmental_f1([np.full(10, -1)], [true], 0.1) == 0.0
    assert metrics_segments.segmental_f1([1 - true], [true], 0.1) == 0.0


@given(st.lists(st.integers(-1, 2), max_size=9), st.lists(st.integers(-1, 2), max_size=9))
def test_edit_score_is_the_levenshtein_distance_of_the_steps(a: list[int], b: list[int]) -> None:
    def steps(labels: list[int]) -> tuple[int, ...]:
        return tuple(x for i, x in enumerate(labels) if x >= 0 and (i == 0 or labels[i - 1] != x))

    @lru_cache
    def distance(x: tuple[int, ...], y: tuple[int, ...]) -> int:
        if not x or not y:
            return len(x) + len(y)
        change = distance(x[1:], y[1:]) + (x[0] != y[0])
        return min(change, distance(x[1:], y) + 1, distance(x, y[1:]) + 1)

    x, y = steps(a), steps(b)
    expected = 1 - distance(x, y) / max(len(x), len(y), 1)
    assert metrics_segments.segmental_edit(np.array(a, int), np.array(b, int)) == pytest.approx(expected)


def test_drop_scores_are_those_of_scikit_learn() -> None:
    said, true = RNG.random(200) < 0.4, RNG.random(200) < 0.3
    expected = precision_recall_fscore_support(true, said, average="binary")[:3]
    np.testing.assert_allclose(metrics_segments.drop_counts(said, true).scores(), expected)
    assert metrics_segments.drop_counts(np.zeros(3, bool), np.zeros(3, bool)).scores() == (0.0, 0.0, 0.0)


def test_dropped_are_frames_whose_action_the_other_video_lacks() -> None:
    found = metrics_segments.dropped_frames([Segment("a", 1, 2), Segment("b", 3, 4)], [Segment("b", 0, 9)], 6)
    assert found.tolist() == [True, True, True, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12))
def test_the_drop_threshold_is_the_best_of_all(pairs: list[tuple[int, bool]]) -> None:
    distance, true = (np.array(column) for column in zip(*pairs, strict=True))

    def f1(threshold: float) -> float:
        return metrics_segments.drop_counts(distance > threshold, true).scores().f1

    chosen = metrics_segments.best_threshold(distance.astype(float), true)
    assert f1(chosen) == pytest.approx(max(f1(t) for t in (-1, *np.unique(distance))))


def test_one_video_may_be_given_as_it_is() -> None:
    train, y = blobs(2)
    listed = metrics.phase_classification([train[0]], [y[0]], [train[1]], [y[1]])
    assert metrics.phase_classification(train[0], y[0], train[1], y[1]) == listed
    assert (
        metrics.phase_classification(train[0].tolist(), y[0].tolist(), train[1], torch.tensor(y[1])) == listed
    )
