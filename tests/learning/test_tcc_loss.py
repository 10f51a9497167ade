"""TCC: golden values, a plain numpy derivation on videos of unequal length, finite differences."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tacit_learning.losses.tcc import LOSS_TYPES, SIMILARITIES, TccOptions, stochastic_tcc_loss, tcc_loss

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "tcc.npz", allow_pickle=False)
LENGTHS = (6, 4, 5)


def ragged() -> tuple[torch.Tensor, torch.Tensor]:
    """Three videos of 6, 4 and 5 frames, padded with NaN, and their mask."""
    frames = torch.randn(3, 6, 8, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    return frames.masked_fill(~mask.unsqueeze(-1), torch.nan), mask


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def by_hand(videos: list[np.ndarray], loss_type: str, similarity: str, temperature: float) -> float:
    """The defaults of the loss, pair by pair."""

    def logits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = ((a[:, None] - b[None]) ** 2).sum(-1)
        kinds = {"l2": -squared, "euclidean": -np.sqrt(squared), "cosine": a @ b.T}
        return kinds[similarity] / (a.shape[1] * temperature)

    losses = []
    for u, v in itertools.permutations(videos, 2):
        back = logits(softmax(logits(u, v)) @ v, u)
        arrival, times = softmax(back), np.arange(len(u)) / len(u)
        predicted = arrival @ times
        error = times - predicted
        spread = (arrival * (times[None] - predicted[:, None]) ** 2).sum(1)
        smooth = 0.9 * np.eye(len(u)) + 0.1 / len(u)
        losses.append(
            {
                "regression_mse": error**2,
                "regression_mse_var": error**2 / spread + 0.001 * np.log(spread),
                "regression_huber": np.where(np.abs(error) <= 0.1, error**2 / 2, 0.1 * np.abs(error) - 0.005),
                "classification": -(smooth * np.log(arrival)).sum(1),
            }[loss_type]
        )
    return float(np.concatenate(losses).mean())


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_meet_the_golden_values(loss_type: str, dtype: torch.dtype) -> None:
    embeddings = torch.from_numpy(GOLDEN["embs"]).to(dtype).requires_grad_()
    steps, lengths = torch.from_numpy(GOLDEN["steps"]), torch.from_numpy(GOLDEN["seq_lens"])
    loss = tcc_loss(embeddings, steps=steps, seq_lens=lengths, loss_type=loss_type)
    loss.backward()
    expected = GOLDEN[f"grad__{loss_type}__l2__norm"]
    np.testing.assert_allclose(loss.item(), GOLDEN[f"loss__{loss_type}__l2__norm"], rtol=2e-6)
    np.testing.assert_allclose(embeddings.grad, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_of_unequal_videos_equals_the_derivation_pair_by_pair(loss_type: str, similarity: str) -> None:
    embeddings, mask = ragged()
    videos = [video[:length].numpy() for video, length in zip(embeddings, LENGTHS, strict=True)]
    loss = tcc_loss(embeddings, mask=mask, loss_type=loss_type, similarity=similarity, temperature=0.7)
    assert loss.item() == pytest.approx(by_hand(videos, loss_type, similarity, 0.7), rel=1e-9)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_gradient_equals_finite_differences(loss_type: str, similarity: str) -> None:
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    embeddings = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)

    def loss(x: torch.Tensor) -> torch.Tensor:
        options = {
            "loss_type": loss_type,
            "similarity": similarity,
            "variance_floor": 0.01,
            "scale_by_dim": False,
        }
        return tcc_loss(x, mask=mask, temperature=2.0, huber_delta=0.23, **options)

    assert torch.autograd.gradcheck(loss, (embeddings,))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_padding_has_no_gradient_and_is_never_read(loss_type: str) -> None:
    embeddings, mask = ragged()
    other = embeddings.masked_fill(~mask.unsqueeze(-1), 1e6)
    embeddings.requires_grad_()
    loss = tcc_loss(embeddings, mask=mask, loss_type=loss_type)
    loss.backward()
    torch.testing.assert_close(loss.detach(), tcc_loss(other, mask=mask, loss_type=loss_type))
    assert torch.isfinite(embeddings.grad).all()
    assert not embeddings.grad[~mask].any()


def test_order_of_the_videos_does_not_matter() -> None:
    embeddings, mask = ragged()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(tcc_loss(embeddings[order], mask=mask[order]), tcc_loss(embeddings, mask=mask))


@pytest.mark.parametrize("loss_type", ["regression_mse", "regression_huber", "classification"])
def test_videos_that_match_frame_by_frame_cost_nothing(loss_type: str) -> None:
    video = torch.eye(10).unsqueeze(0).expand(2, -1, -1)
    sharp = {"temperature": 0.01, "scale_by_dim": False, "label_smoothing": 0.0}
    assert tcc_loss(video, loss_type=loss_type, **sharp).item() == pytest.approx(0, abs=1e-6)
    shuffled = torch.stack((video[0], video[0].flip(0)))
    assert tcc_loss(shuffled, loss_type=loss_type, **sharp).item() == pytest.approx(0, abs=1e-6)
    assert tcc_loss(torch.ones(2, 10, 4), loss_type=loss_type, **sharp).item() > 0.01


def test_positions_scale_the_error_as_stated() -> None:
    embeddings = torch.randn(2, 8, 4, dtype=torch.float64)
    steps, lengths = torch.arange(8).expand(2, -1) * 5, torch.tensor([40, 40])
    options = {"loss_type": "regression_mse", "steps": steps}
    plain = tcc_loss(embeddings, loss_type="regression_mse")
    torch.testing.assert_close(tcc_loss(embeddings, seq_lens=lengths, **options), plain)
    raw = tcc_loss(embeddings, normalize_indices=False, **options)
    torch.testing.assert_close(raw, plain * 40**2)


def test_a_variance_of_zero_stays_finite() -> None:
    video = (100 * torch.eye(10)).unsqueeze(0).repeat(2, 1, 1).requires_grad_()
    for floor in (0.0, 0.01):
        video.grad = None
        loss = tcc_loss(video, variance_floor=floor)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(video.grad).all()
    assert loss.item() == pytest.approx(0.001 * np.log(0.01), rel=1e-3)


def test_no_pair_with_frames_gives_zero_with_zero_gradient() -> None:
    embeddings, mask = ragged()
    mask = mask & torch.tensor([[True], [False], [False]])
    embeddings.requires_grad_()
    loss = tcc_loss(embeddings, mask=mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_an_empty_video_takes_no_part() -> None:
    embeddings, mask = ragged()
    mask[1] = False
    expected = tcc_loss(embeddings[[0, 2]], mask=mask[[0, 2]])
    torch.testing.assert_close(tcc_loss(embeddings, mask=mask), expected)


@pytest.mark.parametrize("loss_type", ["regression_mse", "classification"])
def test_sampled_cycles_tend_to_all_cycles(loss_type: str) -> None:
    embeddings = torch.randn(2, 9, 16)
    options = TccOptions(loss_type=loss_type)
    sampled = stochastic_tcc_loss(
        embeddings, torch.Generator().manual_seed(3), num_cycles=4000, options=options
    )
    assert sampled.item() == pytest.approx(tcc_loss(embeddings, loss_type=loss_type).item(), rel=0.05)


def test_sampled_cycles_are_those_of_the_generator_and_avoid_padding() -> None:
    embeddings, mask = ragged()
    embeddings.requires_grad_()

    def loss(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return stochastic_tcc_loss(embeddings, generator, mask=mask, cycle_length=3, num_cycles=30)

    assert loss(1) == loss(1) != loss(2)
    loss(1).backward()
    assert torch.isfinite(embeddings.grad).all()
    assert not embeddings.grad[~mask].any()
    assert all(embeddings.grad[b].any() for b in range(3))


def test_half_precision_is_computed_in_float32() -> None:
    embeddings = torch.randn(2, 12, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tcc_loss(embeddings), tcc_loss(embeddings))
        loss = tcc_loss(embeddings)
    assert torch.equal(loss, tcc_loss(embeddings))
    assert tcc_loss(embeddings.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 5, 4), {}, r"embeddings \(1, 5, 4\), expected \(B >= 2, T, D\)"),
        ((2, 5), {}, "expected"),
        ((2, 5, 4), {"loss_type": "mse"}, "loss_type 'mse', expected one of"),
        ((2, 5, 4), {"similarity": "dot"}, "similarity 'dot', expected one of"),
        ((2, 5, 4), {"temperature": 0.0}, "temperature 0.0, expected"),
        ((2, 5, 4), {"variance_floor": -1.0}, "variance_floor -1.0, expected"),
        ((2, 5, 4), {"steps": torch.arange(5)}, r"steps \(5,\), expected \(2, 5\)"),
        ((2, 5, 4), {"seq_lens": torch.ones(3)}, r"seq_lens \(3,\), expected \(2,\)"),
        ((2, 5, 4), {"mask": torch.ones(2, 4)}, r"mask \(2, 4\), expected \(2, 5\)"),
    ],
)
def test_wrong_input_is_named(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tcc_loss(torch.randn(shape), **options)


def test_cycles_need_enough_videos() -> None:
    with pytest.raises(ValueError, match="cycle_length 4, expected"):
        stochastic_tcc_loss(torch.randn(3, 5, 4), torch.Generator(), cycle_length=4)
