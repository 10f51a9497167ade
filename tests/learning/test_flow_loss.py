"""Flow matching: noise levels, weights and errors against the reference and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit_learning.losses.flow import (
    add_noise,
    flow_loss_per_sample,
    flow_weight,
    mask_share,
    sample_uniform,
    share_weight,
    shift_sigma,
    timestep_of,
    velocity_target,
)

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "club_supcon_flow.npz", allow_pickle=False)


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[f"flow.{name}"])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shift", [3, 5])
def test_noisy_latents_and_targets_meet_the_reference(
    shift: int, dtype: torch.dtype, tolerance: float
) -> None:
    latents, noise = golden("x0").to(dtype), golden("noise").to(dtype)
    sigma = shift_sigma(golden("u").to(dtype), shift)
    torch.testing.assert_close(sigma, golden(f"shift{shift}.sigma").to(dtype), rtol=tolerance, atol=0)
    expected = golden(f"shift{shift}.xt").to(dtype)
    torch.testing.assert_close(add_noise(latents, noise, sigma), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        velocity_target(latents, noise), golden("target").to(dtype), rtol=tolerance, atol=tolerance
    )
    assert torch.equal(timestep_of(sigma), 1000 * sigma)


def test_the_target_is_the_derivative_of_the_path() -> None:
    latents, noise = torch.randn(2, 3, 1, 2, 2, dtype=torch.float64), torch.randn(2, 3, 1, 2, 2).double()
    low, high = torch.tensor([0.3, 0.6]).double(), torch.tensor([0.3, 0.6]).double() + 1e-6
    slope = (add_noise(latents, noise, high) - add_noise(latents, noise, low)) / 1e-6
    torch.testing.assert_close(slope, velocity_target(latents, noise), rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 1000))
def test_draws_fill_every_stratum_of_the_global_batch_once(batch: int, world: int, seed: int) -> None:
    parts = [
        sample_uniform(batch, generator=torch.Generator().manual_seed(seed), rank=rank, world=world)
        for rank in range(world)
    ]
    strata = (torch.cat(parts) * batch * world).floor().long().sort().values
    assert strata.tolist() == list(range(batch * world))


def test_logit_normal_draws_have_normal_logits() -> None:
    u = sample_uniform(4000, generator=torch.Generator().manual_seed(0), logit_normal=True)
    assert torch.logit(u).mean().item() == pytest.approx(0, abs=0.01)
    assert torch.logit(u).std().item() == pytest.approx(1, abs=0.01)
    assert u.min() > 0 and u.max() < 1


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_bell_weights_average_one_over_the_shifted_grid_and_vanish_at_full_noise(shift: float) -> None:
    u = np.arange(1000, 0, -1) / 1000
    sigma = shift * u / (1 + (shift - 1) * u)
    y = np.exp(-2 * ((1000 * sigma - 500) / 1000) ** 2)
    expected = 1000 * (y - y.min()) / (y - y.min()).sum()
    found = flow_weight(torch.from_numpy(sigma), "bell", shift)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert found.mean().item() == pytest.approx(1) and found[0].item() == 0


@pytest.mark.parametrize("kind", ["none", "logit_normal"])
def test_other_weightings_weigh_one(kind: str) -> None:
    assert flow_weight(torch.rand(5), kind, 3.0).tolist() == [1.0] * 5  # type: ignore[arg-type]


def test_loss_of_a_sample_is_its_weighted_mean_square() -> None:
    generator = np.random.default_rng(0)
    shape = (3, 4, 2, 3, 5)
    predicted, latents, noise = (generator.normal(size=shape) for _ in range(3))
    weight, cells = generator.uniform(size=3), generator.uniform(size=(3, 1, 2, 3, 5))
    expected = weight * (cells * (predicted - (noise - latents)) ** 2).mean((1, 2, 3, 4))
    tensors = [torch.from_numpy(array) for array in (predicted, latents, noise)]
    options = {"weight": torch.from_numpy(weight), "cell_weight": torch.from_numpy(cells)}
    found = flow_loss_per_sample(*tensors, **options)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_skipped_reference_slots_have_no_influence_and_no_gradient() -> None:
    predicted = torch.randn(2, 4, 3, 2, 2, requires_grad=True)
    latents, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    loss = flow_loss_per_sample(predicted, latents, noise, skip_frames=1).mean()
    alone = flow_loss_per_sample(predicted[:, :, 1:], latents[:, :, 1:], noise[:, :, 1:]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(alone.item())
    assert predicted.grad[:, :, 0].abs().sum() == 0


def test_bf16_predictions_are_compared_in_float32() -> None:
    predicted = torch.full((1, 1, 1, 1, 2), 256.0).bfloat16()
    latents = torch.tensor([0.0, -1.0]).view(1, 1, 1, 1, 2)  # 256 and 257: bf16 rounds 257 to 256
    loss = flow_loss_per_sample(predicted, latents, torch.full_like(latents, 256.0))
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0.5)


def test_the_share_of_a_cell_counts_the_pixels_of_its_own_frames() -> None:
    mask = torch.zeros(1, 9, 16, 32)
    mask[0, 0, :8, :8] = 1  # frame 0 alone
    mask[0, 4, :4, 16:24] = 1  # a quarter of the frames 1..4, half of the rows
    share = mask_share(mask, (4, 2, 4), num_reference=1)
    expected = torch.zeros(1, 1, 4, 2, 4)
    expected[0, 0, 1, 0, 0] = 1
    expected[0, 0, 2, 0, 2] = 1 / 8
    assert torch.equal(share, expected)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 20), st.integers(0, 1), st.integers(0, 1000))
def test_mask_weights_average_one_per_sample_and_keep_their_ratio(
    gain: float, reference: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, 5, 16, 16, generator=generator) > 0.7).float()
    mask[:, :, :8, :8], mask[:, :, 8:, 8:] = 1, 0
    share = mask_share(mask, (2 + reference, 2, 2), reference)
    weight = share_weight(share, gain, reference)[:, :, reference:]
    assert weight.mean((1, 2, 3, 4)).tolist() == pytest.approx([1, 1], rel=1e-5)
    white, black = weight[:, 0, 0, 0, 0], weight[:, 0, 0, 1, 1]
    torch.testing.assert_close(white / black, torch.full((2,), gain), rtol=1e-4, atol=0)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        flow_loss_per_sample(
            torch.zeros(1, 2, 1, 1, 1), torch.zeros(1, 2, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1)
        )
