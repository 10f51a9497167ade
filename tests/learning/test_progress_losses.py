"""Targets and predictions of progress follow one convention, and every edge case of a video has a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit_learning.data.annotations import Annotation
from tacit_learning.losses import progress as pr
from tacit_learning.losses.progress_recipes import dense_loss, sample_frames, segment_loss

BACKGROUND = frozenset({"SIL"})


def annotation(num_frames: int, *segments: tuple[str, int, int]) -> Annotation:
    names, starts, ends = zip(*segments, strict=True) if segments else ((), (), ())
    return Annotation("video", num_frames, 10.0, names, starts, ends, BACKGROUND)


THREE = annotation(12, ("SIL", 0, 1), ("a", 2, 5), ("SIL", 6, 6), ("b", 7, 8), ("a", 10, 10))


def test_action_progress_counts_the_frames_of_its_action_and_is_zero_between() -> None:
    expected = [0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 0, 1 / 2, 1, 0, 1, 0]
    np.testing.assert_allclose(pr.action_progress(THREE), expected, atol=1e-7)


def test_video_progress_gives_each_action_the_same_part_and_holds_between() -> None:
    quarter = [1 / 12, 2 / 12, 3 / 12, 4 / 12]
    expected = [0, 0, *quarter, 1 / 3, 1 / 2, 2 / 3, 2 / 3, 1, 1]
    np.testing.assert_allclose(pr.video_progress(THREE), expected, atol=1e-6)


def test_proportional_progress_weighs_steps_by_their_mean_share() -> None:
    shares = pr.mean_shares([THREE])
    assert shares == pytest.approx({"a": (4 / 7 + 1 / 7) / 2, "b": 2 / 7})
    progress = pr.proportional_progress(THREE, shares)
    weights = np.array([5 / 14, 4 / 14, 5 / 14])
    np.testing.assert_allclose(progress[[5, 8, 10, 11]], [*np.cumsum(weights) / weights.sum(), 1], atol=1e-6)


def test_background_alone_has_no_target_and_says_so() -> None:
    empty = annotation(5, ("SIL", 0, 4))
    with pytest.warns(UserWarning, match="no action"):
        assert not pr.video_progress(empty).any()
    assert not pr.progress_mask(empty, "video").any()
    assert not pr.make_spans(empty, "video").mask.any()


def test_an_unannotated_frame_is_background_too() -> None:
    assert pr.action_mask(THREE).tolist() == [t in (2, 3, 4, 5, 7, 8, 10) for t in range(12)]


def test_travelled_distance_is_the_sum_of_the_steps() -> None:
    x = np.random.default_rng(0).normal(size=(2, 9, 4))
    expected = np.concatenate(
        [np.zeros((2, 1)), np.linalg.norm(np.diff(x, axis=1), axis=-1).cumsum(1)], axis=1
    )
    np.testing.assert_allclose(pr.cumulative_distance(torch.from_numpy(x)), expected, rtol=1e-9)


def test_constant_speed_is_predicted_without_bias() -> None:
    still = annotation(7, ("a", 1, 5))
    spans = batch(pr.make_spans(still, "action"))
    line = torch.arange(7.0)[None, :, None] * torch.tensor([0.3, 0.4])
    predicted = pr.self_normalised(pr.cumulative_distance(line), spans)
    np.testing.assert_allclose(predicted[0, 1:6], pr.action_progress(still)[1:6], atol=1e-6)


def test_identical_frames_progress_evenly_and_have_a_gradient_of_zero() -> None:
    still = torch.ones(1, 6, 3, requires_grad=True)
    spans = batch(pr.make_spans(annotation(6, ("a", 0, 5)), "action"))
    predicted = pr.self_normalised(pr.cumulative_distance(still), spans)
    np.testing.assert_allclose(predicted[0].detach(), np.arange(1, 7) / 6, atol=1e-6)
    predicted.sum().backward()
    assert torch.equal(still.grad, torch.zeros_like(still))


def test_a_segment_of_one_frame_is_masked_and_a_video_without_pairs_has_a_loss_of_zero() -> None:
    spans = batch(pr.make_spans(annotation(4, ("a", 2, 2)), "action"))
    assert not spans.mask.any()
    embeddings = torch.randn(1, 4, 3, requires_grad=True)
    predicted = pr.self_normalised(pr.cumulative_distance(embeddings), spans)
    loss = pr.progress_error(predicted, torch.zeros(1, 4), spans.mask)
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_trained_normaliser_is_the_deployed_one() -> None:
    speeds = torch.tensor([1.0, 3.0])
    videos = speeds[:, None, None] * torch.arange(5.0)[None, :, None]
    distance = pr.cumulative_distance(videos)
    spans = pr.Spans(torch.zeros(2, 5, dtype=torch.long), torch.full((2, 5), 4), torch.ones(2, 5).bool())
    predicted = pr.train_normalised(distance, spans, total=torch.tensor(8.0), step=torch.tensor(2.0))
    torch.testing.assert_close(predicted, (speeds[:, None] * torch.arange(5.0) + 2) / 10)


def test_one_random_frame_is_drawn_among_videos_first_and_by_the_generator_alone() -> None:
    mask = torch.zeros(3, 50, dtype=torch.bool)
    mask[0, 3], mask[2] = True, True
    drawn = [pr.one_random_frame(mask, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert all(int(one.sum()) == 1 and bool((one & mask).any()) for one in drawn)
    assert 60 < sum(bool(one[0].any()) for one in drawn) < 140
    again = pr.one_random_frame(mask, torch.Generator().manual_seed(7))
    assert torch.equal(again, drawn[7])


@pytest.mark.parametrize("level", ["video", "action"])
@given(
    st.integers(2, 60),
    st.lists(st.integers(1, 12), max_size=5),
    st.sampled_from([1e-3, 1.0, 1e3]),
    st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_losses_are_finite_for_any_scale_and_any_video(
    level: pr.Level, extra: int, lengths: list[int], scale: float, seed: int
) -> None:
    edges = np.cumsum([0, *lengths])
    steps = [
        ("SIL" if i % 3 == 0 else f"s{i}", int(a), int(b) - 1)
        for i, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    ]
    video = annotation(int(edges[-1]) + extra, *steps)
    embeddings = (
        scale * torch.randn(1, video.num_frames, 5, generator=torch.manual_seed(seed))
    ).requires_grad_()
    spans = batch(pr.make_spans(video, level))
    predicted = pr.self_normalised(pr.cumulative_distance(embeddings), spans)
    target = pr.action_progress(video)[None]
    loss = pr.progress_error(predicted, target, spans.mask)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()
    inside = predicted[spans.mask]
    assert bool(((inside > 0) & (inside <= 1 + 1e-5)).all())


def test_gradient_of_the_distance_loss_equals_finite_differences() -> None:
    video = annotation(8, ("a", 0, 3), ("b", 4, 7))
    spans = batch(pr.make_spans(video, "action"))
    target = torch.rand(1, 8, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        predicted = pr.self_normalised(pr.cumulative_distance(x), spans)
        return (predicted - target)[spans.mask].square().mean()

    x = torch.randn(1, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (x,))


def test_weight_is_fixed_or_moves_from_start_to_end() -> None:
    assert pr.progress_lambda(3, 10, pr.ProgressWeight(lambda_fixed=0.7)) == 0.7
    config = {"lambda_curriculum": {"enabled": True, "start": 0.01, "end": 0.5}, "level": "video"}
    assert [pr.progress_lambda(e, 3, config) for e in range(4)] == pytest.approx([0.01, 0.255, 0.5, 0.5])
    assert pr.progress_lambda(0, 1, config) == pytest.approx(0.01)


def test_the_inverse_weights_of_v4_pull_to_a_low_median_and_dense_does_not() -> None:
    target = torch.linspace(0.01, 1, 100)[None].expand(1, 100)
    mask = torch.ones(1, 100, dtype=torch.bool)

    def best_constant(mode: str) -> float:
        candidates = torch.linspace(0, 1, 101)
        losses = [segment_loss(torch.full((1, 100), float(c)), target, mask, mode=mode) for c in candidates]
        return float(candidates[int(torch.stack(losses).argmin())])

    assert best_constant("legacy") < 0.2
    assert best_constant("dense") == pytest.approx(0.5, abs=0.02)


def test_legacy_loss_equals_its_formula() -> None:
    q, g = torch.tensor([[0.2, 0.5, 0.9]]), torch.tensor([[0.04, 0.5, 1.0]])
    weights = np.array([20.0, 2.0, 1.0])  # min(1/max(g, 1/20), 20)
    main = (weights * np.abs([0.16, 0.0, 0.1])).sum() / weights.sum()
    boundary = torch.tensor([[0.3, 0.8]]), torch.tensor([[0.1, 1.0]])
    loss = segment_loss(q, g, torch.ones(1, 3).bool(), mode="legacy", boundary=boundary)
    assert float(loss) == pytest.approx(main + 5 * 0.2, rel=1e-5)


def test_the_hinge_allows_a_fall_where_the_target_falls_and_asks_no_more_than_its_rise() -> None:
    target = torch.tensor([[0.5, 0.501, 0.502, 0.4]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert float(dense_loss(target, target, mask, monotonic_weight=1.0)) == pytest.approx(0.0, abs=1e-6)
    flat = torch.full((1, 4), 0.5)
    plain = float(dense_loss(flat, target, mask))
    assert float(dense_loss(flat, target, mask, monotonic_weight=1.0)) == pytest.approx(
        plain + 0.001, abs=1e-5
    )


@given(st.integers(1, 80), st.integers(1, 12), st.booleans(), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_sampled_frames_lie_in_the_segment_and_strata_are_all_met(
    length: int, count: int, stratified: bool, shortest: int
) -> None:
    generator = torch.Generator().manual_seed(length * 100 + count)
    frames = sample_frames(length, count, stratified, generator, shortest)
    assert len(frames) == count and bool((frames.diff() >= 0).all())
    assert min(shortest, length) - 1 <= int(frames.min()) and int(frames.max()) < length
    if stratified and count >= 3 and length >= 20:
        progress = (frames + 1) / length
        assert progress.min() <= 0.33 and progress.max() > 0.67
        assert bool(((progress > 0.33) & (progress <= 0.67)).any())


def batch(spans: pr.Spans) -> pr.Spans:
    return pr.Spans(*(field[None] for field in spans))
