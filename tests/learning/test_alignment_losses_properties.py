"""What holds for every alignment loss: finite at any scale and length, sums per video, full precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tacit_learning.losses.distances import squared_distances
from tacit_learning.losses.gtcc import gtcc_loss
from tacit_learning.losses.lav import lav_loss
from tacit_learning.losses.soft_dtw import soft_dtw, soft_dtw_divergence
from tacit_learning.losses.tcc import LOSS_TYPES, SIMILARITIES, tcc_loss
from tacit_learning.losses.vava import vava_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def padded(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two videos as a batch and its mask."""
    batch = torch.nn.utils.rnn.pad_sequence([x, y], batch_first=True)
    lengths = torch.tensor([[len(x)], [len(y)]], device=x.device)
    return batch, torch.arange(batch.shape[1], device=x.device) < lengths


def tcc(loss_type: str, similarity: str, **options) -> Loss:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        batch, mask = padded(x, y)
        return tcc_loss(batch, mask=mask, loss_type=loss_type, similarity=similarity, **options)

    return loss


def gtcc(**options) -> Loss:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        drops = [torch.cat((video.mean(0), video.new_ones(1))) for video in (x, y)]
        return gtcc_loss([x, y], drops, epoch=30, **options)

    return loss


LOSSES: dict[str, Loss] = {
    **{f"tcc {loss} {kind}": tcc(loss, kind) for loss in LOSS_TYPES for kind in SIMILARITIES},
    "tcc for training": tcc("regression_mse_var", "l2", scale_by_dim=False, variance_floor=1e-4),
    "gtcc": gtcc(n_components=15),
    "gtcc of the reference code": gtcc(variance="none", form="code"),
    "lav": lav_loss,
    "lav in a band": lambda x, y: lav_loss(x, y, bandwidth=5),
    "vava at first": lambda x, y: vava_loss(x, y, step=0),
    "vava later": lambda x, y: vava_loss(x, y, step=10**7, lambda2=1e-3),
    "soft-DTW": lambda x, y: soft_dtw(squared_distances(x, y).unsqueeze(0), 0.1).sum(),
    "soft-DTW divergence": lambda x, y: soft_dtw_divergence(x.unsqueeze(0), y.unsqueeze(0), 0.1).sum(),
}


def assert_finite(loss: Loss, *videos: Tensor) -> None:
    leaves = [video.clone().requires_grad_() for video in videos]
    value = loss(*leaves)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)


@pytest.mark.parametrize("name", LOSSES)
@given(
    scale=st.sampled_from([1e-3, 1e-2, 1.0, 30.0, 1e3]),
    lengths=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    offset=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=12)
def test_loss_and_gradient_are_finite_at_any_scale(
    name: str, scale: float, lengths: tuple[int, int], offset: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    videos = [scale * (torch.randn(n, 16, generator=generator) + offset) for n in lengths]
    assert_finite(LOSSES[name], *videos)


@pytest.mark.parametrize("name", LOSSES)
def test_videos_without_any_motion_are_no_special_case(name: str) -> None:
    for still in (torch.zeros(9, 8), torch.ones(9, 8), torch.randn(9, 8)):
        assert_finite(LOSSES[name], still, torch.full((5, 8), 0.5))
        assert_finite(LOSSES[name], still, still)


@pytest.mark.parametrize("name", LOSSES)
def test_the_shortest_videos_are_no_special_case(name: str) -> None:
    for n, m in ((1, 1), (1, 7), (2, 2), (3, 1)):
        assert_finite(LOSSES[name], torch.randn(n, 8), torch.randn(m, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["tcc for training", "gtcc", "lav", "vava at first", "soft-DTW", "soft-DTW divergence"]
)
def test_two_thousand_frames_are_no_special_case(name: str) -> None:
    videos = torch.nn.functional.normalize(torch.randn(2, 2000, 16), dim=-1)
    assert_finite(LOSSES[name], *videos)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_close_to_float64(name: str) -> None:
    x, y = (torch.nn.functional.normalize(torch.randn(n, 16), dim=-1) for n in (25, 30))
    exact = LOSSES[name](x.double(), y.double()).item()
    assert LOSSES[name](x, y).item() == pytest.approx(exact, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in LOSSES if "cosine" not in name])
def test_what_all_frames_have_in_common_does_not_swallow_their_differences(name: str) -> None:
    frames = [torch.randn(n, 16) * 0.3 + 100 for n in (25, 30)]
    single, double = (
        [x.detach().clone().to(kind).requires_grad_() for x in frames]
        for kind in (torch.float32, torch.float64)
    )
    for leaves in (single, double):
        LOSSES[name](*leaves).backward()
    for found, expected in zip(single, double, strict=True):
        assert (found.grad - expected.grad).norm() <= 0.02 * expected.grad.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(name: str) -> None:
    x, y = torch.randn(12, 16).bfloat16(), torch.randn(9, 16).bfloat16()
    expected = LOSSES[name](x.float(), y.float())
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(LOSSES[name](x.float(), y.float()), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", LOSSES)
def test_the_gpu_gives_the_values_of_the_cpu(name: str) -> None:
    videos = [torch.nn.functional.normalize(torch.randn(n, 16), dim=-1) for n in (25, 30)]
    there = [video.cuda().requires_grad_() for video in videos]
    here = [video.requires_grad_() for video in videos]
    loss, expected = LOSSES[name](*there), LOSSES[name](*here)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss.cpu(), expected, rtol=2e-3, atol=1e-5)
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=2e-2, atol=1e-4)
