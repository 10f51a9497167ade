"""KL and masked L1 against the reference implementation and against arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tacit_learning.layers.positions import sine_1d, sine_2d
from tacit_learning.losses.act import kl_divergence, kl_per_dimension, masked_l1

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "act_losses.npz", allow_pickle=False)


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def test_kl_meets_the_reference() -> None:
    assert kl_divergence(golden("mu"), golden("logvar")).item() == pytest.approx(
        float(GOLDEN["kl_total"][0]), abs=1e-5
    )
    torch.testing.assert_close(
        kl_per_dimension(golden("mu"), golden("logvar")), golden("kl_dimwise"), rtol=0, atol=1e-6
    )


def test_kl_of_the_prior_is_zero_and_of_anything_else_positive() -> None:
    assert kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4)) == 0
    assert kl_divergence(torch.randn(3, 4), torch.randn(3, 4)) > 0


@pytest.mark.parametrize("over", ["valid", "all"])
def test_masked_l1_meets_the_reference(over: str) -> None:
    value = masked_l1(golden("actions_hat"), golden("actions"), golden("is_pad"), over=over)
    assert value.item() == pytest.approx(float(GOLDEN[f"l1_mean_over_{over}"]), abs=1e-6)


def test_padding_is_never_read() -> None:
    pred, target = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    is_pad = torch.tensor([[False, False, True, True], [False, True, True, True]])
    before = masked_l1(pred, target, is_pad)
    target[is_pad] = float("nan")
    torch.testing.assert_close(masked_l1(pred, target, is_pad), before)


def test_one_entry_that_exists_is_the_mean() -> None:
    pred, target = torch.tensor([[[3.0], [8.0]]]), torch.tensor([[[1.0], [1.0]]])
    assert float(masked_l1(pred, target, torch.tensor([[False, True]]))) == 2.0


def test_a_step_counts_as_often_as_its_weight_says() -> None:
    pred, target, weights = torch.randn(2, 3, 2), torch.randn(2, 3, 2), torch.tensor([[1.0, 4, 4], [1, 1, 4]])
    is_pad = torch.tensor([[False, False, True], [False, False, False]])
    error = np.abs(pred.numpy() - target.numpy())
    expected = sum(
        error[b, k].sum() * float(weights[b, k]) for b, k in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    )
    found = masked_l1(pred, target, is_pad, weights=weights)
    torch.testing.assert_close(found, torch.tensor(expected / 10, dtype=torch.float32), rtol=1e-6, atol=1e-6)
    halves = [masked_l1(pred[[b]], target[[b]], is_pad[[b]] & False, weights=weights[[b]]) for b in (0, 1)]
    whole = masked_l1(pred, target, is_pad & False, weights=weights)
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_only_padding_gives_zero_with_zero_gradient() -> None:
    pred = torch.randn(2, 3, 1, requires_grad=True)
    loss = masked_l1(pred, torch.randn(2, 3, 1), torch.ones(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(pred.grad, torch.zeros(2, 3, 1))


def test_one_dimensional_positions_meet_the_reference() -> None:
    for length, channels in ((12, 32), (47, 512)):
        expected = golden(f"sinusoid_1d_n{length}_d{channels}")
        torch.testing.assert_close(sine_1d(length, channels), expected, rtol=0, atol=1e-6)


def test_two_dimensional_positions_meet_the_reference() -> None:
    for height, width, channels in ((8, 10, 32), (3, 4, 512)):
        expected = golden(f"pos2d_h{height}_w{width}_c{channels}").permute(1, 2, 0)
        torch.testing.assert_close(sine_2d(height, width, channels), expected, rtol=0, atol=1e-6)
