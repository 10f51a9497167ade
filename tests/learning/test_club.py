"""CLUB against the reference, its definition, and what each step may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tacit_learning.losses.club import ClubEstimator, fit_club

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "club_supcon_flow.npz", allow_pickle=False)


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[f"club_a.{name}"])


def golden_estimator(dtype: torch.dtype) -> ClubEstimator:
    club = ClubEstimator(6, 4, 10).to(dtype)
    for ours, theirs in ((club.mean, "p_mu"), (club.log_variance, "p_logvar")):
        for layer in (0, 2):
            ours[layer].weight.data = golden(f"q.{theirs}.{layer}.weight").to(dtype)
            ours[layer].bias.data = golden(f"q.{theirs}.{layer}.bias").to(dtype)
    return club


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_estimate_and_its_gradients_meet_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    club = golden_estimator(dtype)
    x, y = (golden(name).to(dtype).requires_grad_() for name in "xy")
    estimate = club.mutual_information(x, y)
    estimate.backward()
    assert estimate.item() == pytest.approx(float(golden("mi")), rel=tolerance)
    torch.testing.assert_close(x.grad, golden("grad_x").to(dtype), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(y.grad, golden("grad_y").to(dtype), rtol=tolerance, atol=tolerance)
    assert all(parameter.grad is None for parameter in club.parameters())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_learning_loss_and_its_gradients_meet_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    club = golden_estimator(dtype)
    loss = club.learning_loss(golden("x").to(dtype), golden("y").to(dtype))
    loss.backward()
    assert loss.item() == pytest.approx(float(golden("learning_loss")), rel=tolerance)
    assert loss.item() == pytest.approx(-float(golden("loglikeli")), rel=tolerance)
    for ours, theirs in ((club.mean, "p_mu"), (club.log_variance, "p_logvar")):
        for layer in (0, 2):
            for kind in ("weight", "bias"):
                expected = golden(f"qgrad.{theirs}.{layer}.{kind}").to(dtype)
                found = getattr(ours[layer], kind).grad
                torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def pairs_by_definition(club: ClubEstimator, x: Tensor, y: Tensor) -> np.ndarray:
    """log q(y_j | x_i) up to a constant, for all i, j."""
    with torch.no_grad():
        mean, log_variance = club.mean(x).numpy(), club.log_variance(x).numpy()
    difference = y.numpy()[None] - mean[:, None]
    return (-(difference**2) / (2 * np.exp(log_variance))[:, None]).sum(-1)


def test_estimate_is_the_mean_over_pairs_of_its_definition() -> None:
    club = ClubEstimator(5, 3, 8).double()
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    pairs = pairs_by_definition(club, x, y)
    expected = np.diagonal(pairs).mean() - pairs.mean()
    assert club.mutual_information(x, y).item() == pytest.approx(expected, rel=1e-12)


def test_the_estimate_never_trains_the_estimator() -> None:
    club = ClubEstimator(4, 3, 8)
    x, y = torch.randn(6, 4, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    club.mutual_information(x, y).backward()
    assert x.grad is not None and y.grad is not None and x.grad.any() and y.grad.any()
    assert all(parameter.grad is None for parameter in club.parameters())


def test_fitting_never_trains_the_features() -> None:
    club = ClubEstimator(4, 3, 8)
    x, y = torch.randn(6, 4, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    before = [parameter.clone() for parameter in club.parameters()]
    fit_club(club, torch.optim.Adam(club.parameters(), 1e-2), x, y, steps=2)
    assert x.grad is None and y.grad is None
    changed = zip(before, club.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in changed)
    assert all(parameter.grad is None for parameter in club.parameters())


def test_q_converges_on_fixed_features_to_the_likelihood_of_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2048, 2, generator=generator)
    y = 0.8 * x + 0.6 * torch.randn(2048, 2, generator=generator)  # unit variance, correlation 0.8
    club = ClubEstimator(2, 2, 32)
    loss = fit_club(club, torch.optim.Adam(club.parameters(), 1e-2), x, y, steps=150)
    truth = 2 * (1 + np.log(0.36))  # sum_d [E (y - mu)^2 / variance + ln variance]
    assert loss.item() == pytest.approx(truth, abs=0.25)
    # for q = p the estimate is rho^2 / (1 - rho^2) in each of two dimensions, above -ln(1 - rho^2) / 2
    assert club.mutual_information(x, y).item() == pytest.approx(2 * 0.64 / 0.36, rel=0.25)


def test_an_estimate_may_be_negative_where_q_is_poor() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    club = ClubEstimator(3, 3, 8)
    y = -club.mean(x).detach() * 5  # q expects the opposite
    assert club.mutual_information(x, y).item() < 0


def test_one_row_and_unequal_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="one row has no other row"):
        ClubEstimator(3, 2, 8).mutual_information(torch.zeros(1, 3), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="equal numbers of rows"):
        ClubEstimator(3, 2, 8).learning_loss(torch.zeros(3, 3), torch.zeros(2, 2))
