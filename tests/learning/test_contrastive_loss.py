"""Supervised contrastive loss and cross-covariance against the reference, numpy and arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit_learning.losses.contrastive import contrastive_floor, supervised_contrastive_loss
from tacit_learning.losses.cross_covariance import cross_covariance_loss

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "club_supcon_flow.npz", allow_pickle=False)


def by_definition(features: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Equation 2 of Khosla et al., anchor by anchor."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit.T / temperature
    known = [i for i in range(len(labels)) if labels[i] >= 0]
    losses = []
    for i in known:
        others = [a for a in known if a != i]
        partners = [p for p in others if labels[p] == labels[i]]
        if partners:
            total = np.exp(similarity[i, others]).sum()
            losses.append(-np.mean([similarity[i, p] - np.log(total) for p in partners]))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_loss_and_gradient_meet_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    features = torch.from_numpy(GOLDEN["supcon_a.f"]).to(dtype).requires_grad_()
    labels = torch.from_numpy(GOLDEN["supcon_a.labels"])
    loss = supervised_contrastive_loss(features, labels, float(GOLDEN["supcon_a.T"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(GOLDEN["supcon_a.loss_mean_over_valid"]), rel=tolerance)
    expected = torch.from_numpy(GOLDEN["supcon_a.grad"]).to(dtype)
    torch.testing.assert_close(features.grad, expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9), st.integers(0, 2**31 - 1))
def test_loss_follows_the_definition_for_any_labels(labels: list[int], seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(len(labels), 5))
    loss = supervised_contrastive_loss(torch.from_numpy(features), torch.tensor(labels), 0.2)
    assert loss.item() == pytest.approx(by_definition(features, np.array(labels), 0.2), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("classes", "each"), [(4, 2), (2, 4), (3, 5)])
def test_perfect_clusters_reach_the_floor_and_it_is_ln_of_the_partners(classes: int, each: int) -> None:
    labels = torch.arange(classes).repeat_interleave(each)
    features = torch.eye(classes, dtype=torch.float64)[labels]
    loss = supervised_contrastive_loss(features, labels, 0.02)
    assert loss.item() == pytest.approx(math.log(each - 1), abs=1e-12)
    assert contrastive_floor(labels).item() == pytest.approx(math.log(each - 1), abs=1e-6)


def test_unequal_classes_have_the_mean_of_their_floors() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2, -1, -1])
    assert contrastive_floor(labels).item() == pytest.approx((2 * math.log(1) + 3 * math.log(2)) / 5)


def test_no_partner_gives_zero_and_a_zero_gradient_not_nan() -> None:
    features = torch.randn(4, 3, requires_grad=True)
    loss = supervised_contrastive_loss(features, torch.tensor([0, 1, 2, -1]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(features.grad, torch.zeros(4, 3))
    assert contrastive_floor(torch.tensor([0, 1])).item() == 0.0


def test_a_row_of_unknown_label_has_no_influence() -> None:
    features, labels = torch.randn(5, 4), torch.tensor([0, 0, 1, 1, -1])
    alone = supervised_contrastive_loss(features[:4], labels[:4])
    assert supervised_contrastive_loss(features, labels).item() == pytest.approx(alone.item(), rel=1e-6)


def test_order_and_length_of_features_do_not_matter() -> None:
    features, labels = torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 2, 2])
    loss = supervised_contrastive_loss(features, labels)
    order, scale = torch.randperm(6), torch.rand(6, 1) + 0.5
    moved = supervised_contrastive_loss((scale * features)[order], labels[order])
    assert moved.item() == pytest.approx(loss.item(), rel=1e-5)


def test_bf16_features_are_compared_in_float32() -> None:
    features, labels = torch.randn(6, 4).bfloat16(), torch.tensor([0, 1, 0, 1, 2, 2])
    loss = supervised_contrastive_loss(features, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(supervised_contrastive_loss(features.float(), labels).item())


def test_wrong_shapes_and_temperatures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features \(2, 3\), labels \(3,\)"):
        supervised_contrastive_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="temperature 0"):
        supervised_contrastive_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 0)


def test_cross_covariance_is_the_mean_square_of_numpys() -> None:
    x, y = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64)
    covariance = np.cov(x.numpy().T, y.numpy().T)[:3, 3:]
    assert cross_covariance_loss(x, y).item() == pytest.approx(np.square(covariance).mean(), rel=1e-12)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda value: cross_covariance_loss(value, y), (x,))


def test_cross_covariance_sees_linear_dependence_only() -> None:
    x = torch.linspace(-1, 1, 11, dtype=torch.float64).unsqueeze(1)
    assert cross_covariance_loss(x, x).item() > 0.1
    assert cross_covariance_loss(x, x.square()).item() == pytest.approx(0, abs=1e-20)


def test_cross_covariance_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="B >= 2"):
        cross_covariance_loss(torch.zeros(1, 3), torch.zeros(1, 2))
