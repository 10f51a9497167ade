"""LAV: golden values, a derivation from its two parts, finite differences, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tacit_learning.losses.lav import lav_loss

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "lav.npz", allow_pickle=False)


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def soft_dtw_by_hand(cost: np.ndarray, gamma: float) -> float:
    """The recursion as it is written."""
    n, m = cost.shape
    table = np.full((n + 1, m + 1), np.inf)
    table[0, 0] = 0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            before = np.array([table[i - 1, j - 1], table[i - 1, j], table[i, j - 1]])
            table[i, j] = cost[i - 1, j - 1] - gamma * np.log(np.exp(-before / gamma).sum())
    return float(table[n, m])


def idm_by_hand(x: np.ndarray) -> float:
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            distance, gap = ((x[i] - x[j]) ** 2).sum(), abs(i - j)
            total += distance if gap <= 10 else (1 + (gap / len(x)) ** 2) * max(0.0, 2 - distance)
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradients_meet_the_golden_values(dtype: torch.dtype) -> None:
    x, y = (torch.from_numpy(GOLDEN[name][0]).to(dtype).requires_grad_() for name in "xy")
    loss = lav_loss(
        x,
        y,
        x_indices=torch.from_numpy(GOLDEN["a_idx"]),
        y_indices=torch.from_numpy(GOLDEN["b_idx"]),
        x_length=float(GOLDEN["a_len"]),
        y_length=float(GOLDEN["b_len"]),
        num_frames=int(GOLDEN["num_frames"]),
    )
    loss.backward()
    assert loss.item() == pytest.approx(float(GOLDEN["loss"][0]), rel=1e-6)
    np.testing.assert_allclose(x.grad, GOLDEN["gx"][0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(y.grad, GOLDEN["gy"][0], rtol=0, atol=1e-5)


def test_loss_equals_its_parts_by_hand_with_defaults() -> None:
    x, y = unit(14, 5), unit(25, 5)
    a, b = x.numpy(), y.numpy()
    expected = soft_dtw_by_hand(((a[:, None] - b[None]) ** 2).sum(-1), 0.1)
    expected += 0.5 * (idm_by_hand(a) + idm_by_hand(b))
    assert lav_loss(x, y).item() == pytest.approx(expected / 14, rel=1e-9)


def test_alpha_zero_leaves_soft_dtw_per_frame() -> None:
    x, y = unit(6, 4), unit(9, 4)
    cost = ((x[:, None] - y[None]) ** 2).sum(-1).numpy()
    expected = soft_dtw_by_hand(cost, 0.3) / 6
    assert lav_loss(x, y, alpha=0.0, gamma=0.3).item() == pytest.approx(expected, rel=1e-9)


def test_the_two_videos_may_change_places() -> None:
    x, y = unit(12, 4), unit(9, 4)
    torch.testing.assert_close(lav_loss(x, y, num_frames=10), lav_loss(y, x, num_frames=10))


def test_gradient_equals_finite_differences() -> None:
    x, y = unit(7, 3).requires_grad_(), unit(5, 3).requires_grad_()
    mask = torch.tensor([True, True, False, True, True])

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return lav_loss(a, b, sigma=2.0, margin=1.5, y_mask=mask, bandwidth=3)

    assert torch.autograd.gradcheck(loss, (x, y))


def test_padding_changes_nothing_whatever_it_holds() -> None:
    x, y = unit(8, 4), unit(11, 4)
    padded = torch.cat((x, torch.full((5, 4), torch.nan, dtype=torch.float64))).requires_grad_()
    mask = torch.arange(13) < 8
    loss = lav_loss(padded, y, x_mask=mask)
    loss.backward()
    torch.testing.assert_close(loss, lav_loss(x, y))
    indices = torch.arange(13).double() / 8
    given = lav_loss(padded, y, x_mask=mask, x_indices=indices, x_length=8, sigma=3.5)
    torch.testing.assert_close(given, lav_loss(x, y, sigma=3.5))
    assert torch.isfinite(padded.grad).all()
    assert not padded.grad[8:].any()


def test_aligned_videos_cost_less_than_reversed_ones() -> None:
    x = unit(30, 16).cumsum(0)
    x = torch.nn.functional.normalize(x, dim=-1)
    assert lav_loss(x, x[::2]) < lav_loss(x, x[::2].flip(0))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"lav_loss: x \(4, 3\), y \(4, 2\)"):
        lav_loss(torch.randn(4, 3), torch.randn(4, 2))
    with pytest.raises(ValueError, match="with a frame that exists"):
        lav_loss(torch.randn(4, 3), torch.randn(4, 3), x_mask=torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask \(3,\), expected \(4,\)"):
        lav_loss(torch.randn(4, 3), torch.randn(4, 3), y_mask=torch.ones(3, dtype=torch.bool))
