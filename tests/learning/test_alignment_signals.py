"""Signals, baselines, tables and plots: what other trainers and readers are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from episode_kit import rig, write_episode
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundles import progress_bundle

from tacit.cli import main
from tacit.errors import AnnotationError
from tacit_learning.alignment.commands.plots import alignment_plot, progress_plot
from tacit_learning.alignment.judge.baselines import Aim, Labelled, fit_baselines
from tacit_learning.alignment.judge.scores import (
    baseline_scores,
    estimate_of,
    length_scores,
    pair_scores,
    phase_scores,
    progress_scores,
    score_table,
)
from tacit_learning.alignment.signals import EpisodeProgress, chunk_weights, write_signals
from tacit_learning.data.annotations import Annotation, Event, Segment

PROGRESS = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20)


def video(name: str, *lengths: int, noise: float = 0.0) -> Labelled:
    """Steps a, b, ... of some lengths; features are the number of the step and the progress in it."""
    starts = np.cumsum([0, *lengths[:-1]])
    steps = [
        Segment("abcdef"[i], int(s), int(s) + n - 1)
        for i, (s, n) in enumerate(zip(starts, lengths, strict=True))
    ]
    rows = [[10.0 * i, 5.0 * (k + 1) / n] for i, n in enumerate(lengths) for k in range(n)]
    rng = np.random.default_rng(0)
    features = np.array(rows) + noise * rng.normal(size=(len(rows), 2))
    return Labelled(Annotation.of_segments(name, len(rows), 10.0, steps), features)


ACTION = Aim("action")
TRAIN = (video("1", 8, 12), video("2", 12, 8), video("3", 10, 10))
TEST = (video("4", 5, 20), video("5", 10, 10))


# -- signals -----------------------------------------------------------------------------------


@given(st.lists(PROGRESS, min_size=1, max_size=4), st.integers(1, 5))
def test_weights_follow_their_formula(episodes: list[list[float]], chunk: int) -> None:
    gains = [[p[min(t + chunk, len(p) - 1)] - p[t] for t in range(len(p))] for p in episodes]
    every = [gain for part in gains for gain in part]
    mean = sum(every) / len(every)
    std = max((sum((g - mean) ** 2 for g in every) / len(every)) ** 0.5, 1e-6)
    mean = max(mean, 0.0)  # as LeRobot has it
    found = chunk_weights([np.array(p, np.float32) for p in episodes], chunk)
    for part, weights in zip(gains, found, strict=True):
        for gain, weight in zip(part, weights.weight, strict=True):
            soft = min(max((gain - (mean - 2 * std)) / (4 * std + 1e-6), 0), 1)
            assert weight == pytest.approx(1.0 if gain > 0.01 else 0.0 if gain < 0 else soft, abs=1e-6)


def test_standing_still_in_a_set_that_loses_ground_is_worth_a_half() -> None:
    (weights,) = chunk_weights([np.array([0.9, 0.5, 0.2, 0.2, 0.0], np.float32)], 1)
    assert weights.weight[2] == pytest.approx(0.5, abs=1e-4)


def test_a_sample_that_loses_ground_has_no_weight() -> None:
    (weights,) = chunk_weights([np.array([0.0, 0.4, 0.8, 0.5, 0.5], np.float32)], 1)
    assert weights.weight[2] == 0 and weights.weight[0] == 1 and 0 <= weights.weight[3] < 1


@pytest.mark.parametrize(("progress", "chunk"), [([0.1, np.nan], 1), ([], 1), ([0.1, 0.2], 0)])
def test_progress_that_is_not_finite_and_empty_chunks_are_refused(progress: list, chunk: int) -> None:
    with pytest.raises(AnnotationError, match="signals"):
        chunk_weights([np.array(progress, np.float32)], chunk)


def test_the_file_has_a_row_per_frame_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    one = EpisodeProgress("a", np.array([0.0, 0.5, 1.0], np.float32), np.arange(3) / 10)
    two = EpisodeProgress(
        "b", np.array([0.2, 0.1], np.float32), np.arange(2) / 10, np.array([0.0, 0.9], np.float32)
    )
    assert write_signals(tmp_path / "out" / "progress.parquet", [one, two], 1, source="model x") == 5
    table = pq.read_table(tmp_path / "out" / "progress.parquet")
    rows = table.to_pydict()
    assert rows["index"] == list(range(5)) and rows["episode_index"] == [0, 0, 0, 1, 1]
    assert rows["frame_index"] == [0, 1, 2, 0, 1] and rows["episode"] == ["a"] * 3 + ["b"] * 2
    np.testing.assert_allclose(rows["reward"], [0.5, 0.5, 0, -0.1, 0], atol=1e-6)
    assert rows["done"][:3] == [None] * 3 and rows["done"][4] == pytest.approx(0.9)
    np.testing.assert_allclose(rows["weight"][:2], 1.0)
    assert table.schema.metadata[b"source"] == b"model x" and table.schema.metadata[b"chunk"] == b"1"


# -- baselines ---------------------------------------------------------------------------------


def test_counts_divide_by_the_mean_train_length() -> None:
    fitted = fit_baselines(TRAIN, ACTION)
    test = TEST[0]
    plain = fitted["frame count"](test.annotation, test.features)
    np.testing.assert_allclose(plain, np.minimum(np.r_[1:6, 1:21] / 10, 1))
    skewed = fit_baselines((video("1", 4, 16), video("2", 6, 14)), ACTION)
    told = skewed["frame count with class"](test.annotation, test.features)
    np.testing.assert_allclose(told, np.minimum(np.r_[np.arange(1, 6) / 5, np.arange(1, 21) / 15], 1))


def test_a_count_at_video_level_does_not_know_the_actions() -> None:
    fitted = fit_baselines(TRAIN, Aim("video"))
    assert "frame count with class" not in fitted
    found = fitted["frame count"](TEST[0].annotation, TEST[0].features)
    np.testing.assert_allclose(found, np.minimum(np.arange(1, 26) / 20, 1))


def test_travelled_distance_is_divided_by_its_train_mean_per_class() -> None:
    found = fit_baselines(TRAIN, ACTION)["raw travelled distance"](TEST[1].annotation, TEST[1].features)
    totals = [[5 * (1 - 1 / n) for n in lengths] for lengths in ((8, 12, 10), (12, 8, 10))]
    for part, total in zip((slice(0, 10), slice(10, 20)), totals, strict=True):
        expected = np.arange(10) * 0.5 / np.mean(total)
        np.testing.assert_allclose(found[part], np.clip(expected, 0, 1))


def test_the_nearest_train_frame_tells_progress_where_features_do() -> None:
    scores = baseline_scores(TRAIN, TEST, ACTION)
    assert (
        scores["raw nearest frame"]["ope"] < 0.03 < scores["frame count"]["ope"] < scores["always 0.5"]["ope"]
    )
    assert scores["always 0.5"]["normalised"] == 0 and scores["always 0.5"]["spearman"] == 0
    assert scores["always 0"]["last_error"] == 1


def test_a_plain_gru_follows_what_features_tell_and_needs_starts_where_they_do_not() -> None:
    scores = baseline_scores(TRAIN, TEST, ACTION, gru_steps=60)
    assert scores["plain causal GRU"]["ope"] < 0.12 < scores["always 0.5"]["ope"]
    blind = [Labelled(v.annotation, np.zeros_like(v.features)) for v in (*TRAIN, *TEST)]
    alone = baseline_scores(blind[: len(TRAIN)], blind[len(TRAIN) :], ACTION, gru_steps=60)
    assert alone["plain causal GRU, start told"]["ope"] < alone["always 0.5"]["ope"]


def test_proportional_progress_is_scored_against_its_own_target() -> None:
    uneven = Aim("proportional", {"a": 0.8, "b": 0.2})
    target = uneven.target(TEST[1].annotation)
    assert target[9] == pytest.approx(0.8) and Aim("video").target(TEST[1].annotation)[9] == pytest.approx(
        0.5
    )
    assert baseline_scores(TRAIN, TEST, uneven)["raw nearest frame"]["ope"] < 0.05


# -- tables ------------------------------------------------------------------------------------


def test_features_that_tell_everything_score_best() -> None:
    pairs = pair_scores(TEST, ("a", "b"))
    assert pairs["nn_accuracy"] == 1 and pairs["kendall_tau"] > 0.95 and pairs["enclosed_area_wild"] < 0.05
    phases = phase_scores(TRAIN, TEST, ("a", "b"))
    assert phases["phase_classification_100"] == 1 and phases["phase_classification_10"] == 1
    assert pair_scores(TEST[:1], ("a", "b")) == {}


def test_a_step_that_the_other_video_lacks_is_found_by_its_distance() -> None:
    both, alone = video("both", 8, 8), video("alone", 8)
    found = phase_scores((both, alone), (both, alone), ("a", "b"))
    assert found["drop_precision"] == found["drop_recall"] == found["drop_f1"] == 1


def test_a_perfect_estimate_scores_so_at_both_levels() -> None:
    for level in ("action", "video"):
        perfect = [
            estimate_of(v, estimate_of(v, np.zeros(len(v.features)), Aim(level)).target, Aim(level))
            for v in TEST
        ]
        scores = progress_scores(perfect, level)
        assert scores["ope"] == 0 and scores["normalised"] == 1 and scores["spearman"] == pytest.approx(1)
        assert scores["monotonicity"] == 1 and scores["r2"] == 1


def test_lengths_are_pooled_over_videos() -> None:
    estimates = [estimate_of(v, np.zeros(len(v.features)), ACTION) for v in TEST]
    found = length_scores(estimates)
    assert list(found) == ["1-7", "8-15", "16-31"] and found["8-15"]["actions"] == 2
    assert found["1-7"]["error"] == pytest.approx(np.mean(np.arange(1, 6) / 5))


def test_a_video_without_actions_breaks_no_table() -> None:
    empty = Labelled(Annotation.of_segments("empty", 9, 10.0, []), np.zeros((9, 2)))
    assert pair_scores((*TEST, empty), ("a", "b"))["nn_accuracy"] == 1
    scores = baseline_scores(TRAIN, (*TEST, empty), ACTION)
    assert np.isfinite(scores["frame count"]["ope"])


def test_a_table_leaves_out_what_a_row_does_not_know() -> None:
    table = score_table("t", {"one": {"a": 1.0}, "two": {"b": 2.0}})
    assert [list(column.cells) for column in table.columns] == [["one", "two"], ["1.000", ""], ["", "2.000"]]


# -- plots -------------------------------------------------------------------------------------


def test_a_progress_plot_shows_steps_events_truth_and_estimates() -> None:
    shown = Annotation.of_segments("v", 9, 10.0, [Segment("cut", 0, 4)], events=(Event("stall", 5, 8),))
    svg = progress_plot(shown, np.linspace(0, 1, 9), {"ours": np.zeros(9)})
    assert all(text in svg for text in ("<title>cut", "<title>stall", "truth", "ours", "time [s]"))


def test_an_alignment_plot_draws_a_true_line_per_pair_of_equal_steps() -> None:
    a, b = video("a", 5, 5), video("b", 4, 8)
    twice = Annotation.of_segments(
        "c", 12, 10.0, [Segment("a", 0, 3), Segment("b", 4, 7), Segment("a", 8, 11)]
    )
    plain = alignment_plot(a.annotation, b.annotation, a.features, b.features)
    repeated = alignment_plot(a.annotation, twice, a.features, np.zeros((12, 2)))
    assert plain.count("<polyline") == 3 and repeated.count("<polyline") == 4


# -- commands ----------------------------------------------------------------------------------


def test_signals_of_a_bundle_have_a_row_per_tick(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = tmp_path / "data", tmp_path / "signals.parquet"
    data.mkdir()
    paths = [write_episode(data, ticks) for ticks in (20, 12)]
    progress_bundle(tmp_path, rig())
    arguments = ["export", "signals", str(tmp_path / "progress.onnx"), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--chunk", "5"]) == 0
    rows = pq.read_table(out).to_pydict()
    names = [f"{path.parent.name}/{path.stem}" for path in paths]  # several tasks may have an episode_0
    assert rows["episode"] == [names[0]] * 20 + [names[1]] * 12
    assert np.diff(rows["progress_sparse"][:20]).min() >= 0 and rows["frame_index"][19:21] == [19, 0]
    assert "32 frames of 2 episodes" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main([*arguments[:4], str(tmp_path / "empty"), *arguments[5:]]) == 2
    assert "holds no episode" in capsys.readouterr().err
