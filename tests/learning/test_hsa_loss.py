"""HSA loss: golden values, gradients by finite differences, and the rules of its masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tacit_learning.losses.hsa import chance_level, hsa_loss

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "hsa.npz", allow_pickle=False)
KAPPA = 0.07
CHANCE = "chance__table_N_k_lnN1_random768"


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def small() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return golden("small__h_tau"), golden("small__h_w"), golden("small__neg")


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("in_batch", {}),
        ("in_batch_sym", {"symmetric": True}),
        ("explicit_only", {"negatives": "small__neg"}),
        ("explicit_masked", {"negatives": "small__neg", "negative_mask": "small__neg_mask"}),
        ("both", {"negatives": "small__neg", "negative_mask": "small__neg_mask", "in_batch": True}),
        ("in_batch_pair_mask", {"pair_mask": "small__pair_mask"}),
        ("valid", {"valid": "small__valid"}),
    ],
)
def test_option_matrix_meets_the_golden_values(expected: str, options: dict) -> None:
    touch, vision, _ = small()
    options = {k: golden(v) if isinstance(v, str) else v for k, v in options.items()}
    losses = hsa_loss(touch, vision, temperature=KAPPA, reduction="none", **options)
    wanted = golden(f"small__k0.07__{expected}")
    valid = options.get("valid", torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(losses[valid], wanted[valid], rtol=0, atol=1e-9)


def test_a_bank_is_as_negatives_that_all_rows_share() -> None:
    touch, vision, _ = small()
    bank, mask = torch.randn(5, touch.shape[1], dtype=touch.dtype), torch.rand(4, 5) < 0.6
    shared = hsa_loss(touch, vision, temperature=KAPPA, bank=bank, bank_mask=mask)
    own = {"negatives": bank.expand(4, -1, -1), "negative_mask": mask, "in_batch": True}
    torch.testing.assert_close(shared, hsa_loss(touch, vision, temperature=KAPPA, **own), rtol=0, atol=1e-12)
    whole = hsa_loss(touch, vision, temperature=KAPPA, bank=bank)
    assert float(whole) > float(shared)


def test_mean_is_over_valid_rows_only() -> None:
    touch, vision, _ = small()
    loss = hsa_loss(touch, vision, temperature=KAPPA, valid=golden("small__valid"))
    assert float(loss) == pytest.approx(float(GOLDEN["small__k0.07__valid_mean"]), abs=1e-9)


def test_self_test_of_the_notes() -> None:
    torch.manual_seed(42)
    touch = torch.randn(8, 768, requires_grad=True)
    vision = torch.randn(8, 768, requires_grad=True)
    negatives, third = torch.randn(8, 5, 768), torch.randn(8, 768)
    in_batch = hsa_loss(touch, vision, temperature=KAPPA)
    explicit = hsa_loss(touch, vision, temperature=KAPPA, negatives=negatives)
    tp = hsa_loss(touch, third, temperature=KAPPA)
    assert in_batch.item() == pytest.approx(1.8813, abs=5e-5)
    assert explicit.item() == pytest.approx(1.7129, abs=5e-5)
    assert tp.item() == pytest.approx(2.4428, abs=5e-5)
    assert (in_batch + 0.5 * tp).item() == pytest.approx(3.1027, abs=5e-5)
    in_batch.backward()
    assert touch.grad.norm().item() == pytest.approx(0.1650, abs=5e-5)
    assert vision.grad.norm().item() == pytest.approx(0.1666, abs=5e-5)


def test_gradients_of_the_notes_inputs_meet_the_golden_values() -> None:
    touch = golden("seed42__h_tau").requires_grad_()
    vision = golden("seed42__h_w").requires_grad_()
    hsa_loss(touch, vision, temperature=KAPPA).backward()
    torch.testing.assert_close(touch.grad, golden("seed42__grad_h_tau"), rtol=0, atol=1e-6)
    torch.testing.assert_close(vision.grad, golden("seed42__grad_h_w"), rtol=0, atol=1e-6)


def test_loss_equals_a_few_lines_of_numpy() -> None:
    rng = np.random.default_rng(3)
    t, v, n = rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), rng.normal(size=(5, 2, 7))
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (t, v, n)]
    logits = np.concatenate([unit[0] @ unit[1].T, np.einsum("bd,bnd->bn", unit[0], unit[2])], 1) / 0.2
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), np.arange(5)]
    tensors = [torch.from_numpy(x) for x in (t, v, n)]
    loss = hsa_loss(tensors[0], tensors[1], negatives=tensors[2], in_batch=True, temperature=0.2)
    assert loss.item() == pytest.approx(expected.mean(), abs=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_equals_finite_differences(symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    touch, vision = (torch.randn(4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    negatives = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    valid = torch.tensor([True, True, False, True])

    def loss(t: torch.Tensor, v: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return hsa_loss(t, v, negatives=n, in_batch=True, valid=valid, symmetric=symmetric, temperature=0.3)

    inputs = tuple(x.requires_grad_() for x in (touch, vision, negatives))
    assert torch.autograd.gradcheck(loss, inputs)


def test_permuting_the_rows_changes_nothing() -> None:
    touch, vision, _ = small()
    order = torch.tensor([2, 0, 3, 1])
    before = hsa_loss(touch, vision, pair_mask=golden("small__pair_mask"))
    after = hsa_loss(touch[order], vision[order], pair_mask=golden("small__pair_mask")[order][:, order])
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("symmetric", [False, True])
def test_an_invalid_row_changes_nothing_whatever_it_holds(symmetric: bool) -> None:
    touch, vision, _ = small()
    valid = torch.tensor([True, False, True, True])
    kept = hsa_loss(touch[valid], vision[valid], symmetric=symmetric)
    touch[1], vision[1] = float("nan"), float("inf")
    torch.testing.assert_close(hsa_loss(touch, vision, valid=valid, symmetric=symmetric), kept)


def test_no_valid_row_gives_zero_with_zero_gradient() -> None:
    touch = torch.randn(3, 4, requires_grad=True)
    loss = hsa_loss(touch, torch.randn(3, 4), valid=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(touch.grad, torch.zeros(3, 4))


def test_a_row_without_negatives_has_zero_loss_and_stays_in_the_mean() -> None:
    touch, vision = torch.randn(2, 4), torch.randn(2, 4)
    negatives, mask = torch.randn(2, 3, 4), torch.tensor([[True] * 3, [False] * 3])
    losses = hsa_loss(touch, vision, negatives=negatives, negative_mask=mask, reduction="none")
    assert losses[1] == 0
    mean = hsa_loss(touch, vision, negatives=negatives, negative_mask=mask)
    torch.testing.assert_close(mean, losses[0] / 2)


def test_features_without_direction_are_at_chance() -> None:
    zeros = torch.zeros(6, 4, requires_grad=True)
    loss = hsa_loss(zeros, torch.zeros(6, 4))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(6), abs=1e-6)
    assert torch.isfinite(zeros.grad).all()
    assert hsa_loss(torch.zeros(6, 4), torch.randn(6, 4)).item() == pytest.approx(math.log(6), abs=1e-6)


def test_collapsed_features_are_at_chance() -> None:
    row = torch.randn(1, 8).expand(5, -1)
    assert hsa_loss(row, row).item() == pytest.approx(chance_level(4), abs=1e-5)


def test_a_single_row_without_direction_is_left_out_and_its_gradient_stays_small() -> None:
    touch, vision = torch.randn(4, 6), torch.randn(4, 6)
    touch[2] = 0
    touch.requires_grad_()
    loss = hsa_loss(touch, vision)
    loss.backward()
    assert touch.grad.abs().max() < 100
    assert torch.equal(touch.grad[2], torch.zeros(6))
    keep = torch.tensor([0, 1, 3])
    torch.testing.assert_close(loss.detach(), hsa_loss(touch.detach()[keep], vision[keep]))


def test_small_temperature_does_not_overflow() -> None:
    touch = torch.randn(8, 16, requires_grad=True)
    loss = hsa_loss(touch, torch.randn(8, 16), temperature=1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(touch.grad).all()


def test_half_precision_is_computed_in_float32() -> None:
    touch, vision = torch.randn(8, 16), torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = hsa_loss(touch, vision)
    torch.testing.assert_close(loss, hsa_loss(touch, vision), rtol=0, atol=0)
    assert hsa_loss(touch.bfloat16(), vision.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("num_negatives", [1, 3, 15, 127])
def test_features_that_carry_no_information_have_the_loss_of_chance(num_negatives: int) -> None:
    same = torch.ones(2, 8, dtype=torch.float64)
    loss = hsa_loss(same, same, negatives=same[:, None].expand(2, num_negatives, 8))
    assert float(loss) == pytest.approx(chance_level(num_negatives), abs=1e-12)


@pytest.mark.parametrize("row", [1, 7, 9, 14], ids=lambda row: str(GOLDEN[CHANCE][row, :2]))
def test_unrelated_unit_features_start_where_the_table_says(row: int) -> None:
    """The table is a simulation in numpy of random unit vectors with 768 features."""
    num_negatives, kappa, _, expected = GOLDEN[CHANCE][row]
    touch, vision, negatives = torch.randn(1024, 768), torch.randn(1024, 768), int(num_negatives)
    loss = hsa_loss(touch, vision, temperature=kappa, negatives=torch.randn(1024, negatives, 768))
    assert float(loss) == pytest.approx(expected, abs=0.05)  # three standard errors of the mean


def test_a_negative_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    touch, vision, negatives = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3, 6)
    without_direction = negatives.clone()
    negatives[1, 2], without_direction[1, 2] = torch.nan, 0.0
    loss = hsa_loss(touch, vision, negatives=negatives)
    torch.testing.assert_close(loss, hsa_loss(touch, vision, negatives=without_direction))
    assert torch.isfinite(loss)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="negatives"):
        hsa_loss(torch.randn(3, 4), torch.randn(3, 4), negatives=torch.randn(3, 4))
    with pytest.raises(ValueError, match="negatives"):
        hsa_loss(torch.randn(3, 4), torch.randn(3, 4), negatives=torch.randn(3, 2, 5))
    with pytest.raises(ValueError, match="negatives"):
        hsa_loss(torch.randn(3, 4), torch.randn(3, 4), negatives=torch.randn(2, 2, 4))
    with pytest.raises(ValueError, match="both"):
        hsa_loss(torch.randn(3, 4), torch.randn(2, 4))
