"""Contrastive terms within and between videos, against loops over the frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit_learning.losses.sequence_terms import inter_contrastive, intra_contrastive

WEIGHTS = {"one": lambda g: 1.0, "growing": lambda g: 1 + g**2, "shrinking": lambda g: 1 / (1 + g**2)}


@pytest.mark.parametrize("near", WEIGHTS)
@pytest.mark.parametrize("far", WEIGHTS)
def test_term_within_a_video_equals_a_loop_over_its_pairs(near: str, far: str) -> None:
    x, positions = torch.randn(7, 3, dtype=torch.float64), torch.tensor([0.0, 1, 2, 5, 6, 9, 10])
    total = 0.0
    for i in range(7):
        for j in range(7):
            gap, distance = abs(float(positions[i] - positions[j])), float((x[i] - x[j]).square().sum())
            attraction = WEIGHTS[near](gap / 4) * distance
            total += attraction if gap <= 2 else WEIGHTS[far](gap / 4) * max(0.0, 4.0 - distance)
    options = {"window": 2, "margin": 4.0, "unit": 4.0, "near_weight": near, "far_weight": far}
    loss = intra_contrastive(x, positions.double(), reduction="sum", **options)
    assert loss.item() == pytest.approx(total, rel=1e-12)
    mean = intra_contrastive(x, positions.double(), **options)
    assert mean.item() == pytest.approx(total / 49, rel=1e-12)


def test_near_frames_attract_and_far_frames_repel() -> None:
    x = torch.tensor([[0.0, 0], [0.5, 0], [0.5, 0.5]], requires_grad=True)
    intra_contrastive(x, torch.tensor([0.0, 1, 9]), window=1, margin=2.0).backward()
    downhill = -x.grad
    assert downhill[1, 0] < 0 < downhill[2, 1]


def test_frames_beyond_the_margin_feel_nothing() -> None:
    x = torch.tensor([[0.0], [3.0]], requires_grad=True)
    loss = intra_contrastive(x, torch.tensor([0.0, 9]), window=1, margin=2.0)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(x.grad, torch.zeros(2, 1))


def test_gradients_equal_finite_differences() -> None:
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 5))
    positions, matches = torch.arange(6).double(), torch.randn(6, 5)

    def within(a: torch.Tensor) -> torch.Tensor:
        return intra_contrastive(a, positions, window=2, margin=5.0, near_weight="shrinking")

    assert torch.autograd.gradcheck(within, (x,))
    assert torch.autograd.gradcheck(lambda a, b: inter_contrastive(a, b, matches), (x, y))


def test_term_between_videos_is_a_two_way_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    x, y, matches = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=(4, 6))

    def distance(pick) -> float:
        there, back = pick(matches, 1), pick(matches, 0)
        return ((x - y[there]) ** 2).sum(1).mean() + ((y - x[back]) ** 2).sum(1).mean()

    logits = np.array([distance(np.argmax), distance(np.argmin)]) / 0.5
    expected = -np.log(np.exp(logits[1]) / np.exp(logits).sum())
    tensors = [torch.from_numpy(array) for array in (x, y, matches)]
    assert inter_contrastive(*tensors).item() == pytest.approx(expected, rel=1e-12)


def test_term_between_videos_is_ln_2_where_nothing_is_told_apart() -> None:
    same = torch.ones(4, 3)
    assert inter_contrastive(same, same, torch.eye(4)).item() == pytest.approx(math.log(2))
    apart = 100 * torch.eye(4)
    assert inter_contrastive(apart, apart, torch.eye(4)).item() == pytest.approx(0, abs=1e-6)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"positions \(3,\); expected"):
        intra_contrastive(torch.randn(4, 2), torch.arange(3.0), window=1)
    with pytest.raises(ValueError, match="weight 'far', expected"):
        intra_contrastive(torch.randn(4, 2), torch.arange(4.0), window=1, near_weight="far")
    with pytest.raises(ValueError, match=r"matches \(4, 4\), expected \(4, 5\)"):
        inter_contrastive(torch.randn(4, 2), torch.randn(5, 2), torch.randn(4, 4))
