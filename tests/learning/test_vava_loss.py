"""VAVA and its transport: plans of plain Sinkhorn, a loop over the cells, finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit_learning.losses import transport
from tacit_learning.losses.transport import plan_in_log_space, sinkhorn_plan
from tacit_learning.losses.vava import phi, vava_loss


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def sinkhorn_by_hand(kernel: np.ndarray, iterations: int) -> np.ndarray:
    n, m = kernel.shape
    v = np.ones(m)
    for _ in range(iterations):
        u = 1 / n / (kernel @ v)
        v = 1 / m / (kernel.T @ u)
    u = 1 / n / (kernel @ v)
    return u[:, None] * kernel * v


def vava_by_hand(x: np.ndarray, y: np.ndarray, phi: float, lambda1: float, lambda2: float) -> float:
    """The loss cell by cell, rows and columns counted from 1, the first being the virtual frame."""
    distances = ((x[:, None] - y[None]) ** 2).sum(-1)
    n, m = len(x) + 1, len(y) + 1
    match_of_row = {1: 1, **{i + 2: j + 2 for i, j in enumerate(distances.argmin(1))}}
    match_of_column = {1: 1, **{j + 2: i + 2 for j, i in enumerate(distances.argmin(0))}}
    l1, l2 = lambda1 * (len(x) + len(y)), lambda2 * len(x) * len(y) / 4
    scale, virtual = 1 / math.sqrt(1 / n**2 + 1 / m**2), 15 / (n + m)
    kernel, cost = np.zeros((n, m)), np.full((n, m), 0.5)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            g = abs(i / n - j / m)
            o = (abs(j - match_of_row[i]) / m + abs(i - match_of_column[j]) / n) / 2
            if (i == 1) != (j == 1):
                g = o = virtual
            if i > 1 and j > 1:
                cost[i - 1, j - 1] = distances[i - 2, j - 2]
            prior = phi * math.exp(-((g * scale) ** 2) / 8) + (1 - phi) * math.exp(-((o * scale) ** 2) / 8)
            pull = l1 * (phi / (g**2 + 1) + (1 - phi) / (o**2 + 1))
            kernel[i - 1, j - 1] = prior * math.exp((pull - cost[i - 1, j - 1]) / l2)
    plan = sinkhorn_by_hand(kernel, 20)
    return float((plan * cost).sum())


def test_plan_equals_plain_sinkhorn() -> None:
    log_kernel = torch.randn(5, 8, dtype=torch.float64)
    for iterations in (0, 1, 20):
        expected = sinkhorn_by_hand(log_kernel.exp().numpy(), iterations)
        np.testing.assert_allclose(sinkhorn_plan(log_kernel, iterations), expected, rtol=1e-10)


def test_rows_and_columns_of_a_plan_share_the_mass() -> None:
    plan = sinkhorn_plan(3 * torch.randn(6, 9, dtype=torch.float64), 200)
    torch.testing.assert_close(plan.sum(1), torch.full((6,), 1 / 6, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((9,), 1 / 9, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_kernel_beyond_the_range_of_numbers_has_a_plan() -> None:
    log_kernel = torch.full((4, 4), -5000.0)
    log_kernel.fill_diagonal_(-4000.0)
    torch.testing.assert_close(sinkhorn_plan(log_kernel, 20), torch.eye(4) / 4)
    one_far = torch.tensor([[0.0, -1000], [0, -1000]], requires_grad=True)
    plan = sinkhorn_plan(one_far, 20)
    torch.testing.assert_close(plan, torch.full((2, 2), 0.25))
    plan[0, 0].backward()
    torch.testing.assert_close(one_far.grad, torch.tensor([[0.125, -0.125], [-0.125, 0.125]]) / 2)


@pytest.mark.parametrize("iterations", [0, 1, 7])
def test_gradient_of_a_plan_equals_finite_differences(iterations: int) -> None:
    log_kernel = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    for plan in (sinkhorn_plan, plan_in_log_space):
        assert torch.autograd.gradcheck(lambda k, plan=plan: plan(k, iterations), (log_kernel,))


@pytest.mark.parametrize("spread", [1.0, 100.0, 1000.0, 1e5])
def test_scalings_and_log_space_agree_however_far_apart_the_entries_are(spread: float) -> None:
    log_kernel = spread * torch.randn(9, 7, dtype=torch.float64)
    for iterations in (0, 20, 200):
        plan = sinkhorn_plan(log_kernel, iterations)
        torch.testing.assert_close(plan, plan_in_log_space(log_kernel, iterations), rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(plan.sum(1), torch.full((9,), 1 / 9, dtype=torch.float64))


def test_unit_norm_videos_never_need_the_slow_log_space(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("log space")

    monkeypatch.setattr(transport, "plan_in_log_space", refuse)
    for n, m in ((20, 20), (256, 256), (300, 100)):
        for step in (0, 10**7):
            vava_loss(unit(n, 16), unit(m, 16), step=step)
    with pytest.raises(AssertionError, match="log space"):
        sinkhorn_plan(torch.tensor([[0.0, -1000], [0, -1000]]), 20)


@pytest.mark.parametrize("step", [0, 10**6])
@pytest.mark.parametrize("lambdas", [(1.0, 0.1), (0.2, 0.02)])
def test_transport_cost_equals_the_loop_over_the_cells(step: int, lambdas: tuple[float, float]) -> None:
    x, y = unit(9, 4), unit(7, 4)
    lambda1, lambda2 = lambdas
    loss = vava_loss(x, y, step=step, lambda1=lambda1, lambda2=lambda2, intra_weight=0.0, inter_weight=0.0)
    assert loss.item() == pytest.approx(
        vava_by_hand(x.numpy(), y.numpy(), phi(step), lambda1, lambda2), rel=1e-9
    )


def test_contrast_within_is_the_mean_over_all_pairs() -> None:
    x, y = unit(20, 4), unit(18, 4)
    expected = 0.0
    for video in (x.numpy(), y.numpy()):
        size = len(video)
        for i in range(size):
            for j in range(size):
                d, gap = ((video[i] - video[j]) ** 2).sum(), abs(i - j)
                expected += (d / (1 + gap**2) if gap <= 15 else max(0.0, 2 - d)) / size**2
    options = {"step": 5, "inter_weight": 0.0}
    difference = vava_loss(x, y, **options) - vava_loss(x, y, intra_weight=0.0, **options)
    assert difference.item() == pytest.approx(0.5 * expected, rel=1e-9)


def test_phi_moves_from_the_diagonal_to_the_matches_with_the_step() -> None:
    assert phi(0) == pytest.approx(0.999)
    assert phi(10**6) == pytest.approx(0.999**1000)
    assert phi(10**9) == 0.001
    assert all(phi(a) >= phi(b) for a, b in zip(range(100), range(1, 101), strict=True))


def test_gradient_equals_finite_differences() -> None:
    x, y = unit(7, 3).requires_grad_(), unit(5, 3).requires_grad_()

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return vava_loss(a, b, step=10**6, lambda2=0.01, window=1.0, inter_weight=0.5)

    assert torch.autograd.gradcheck(loss, (x, y))


def test_the_two_videos_may_change_places() -> None:
    x, y = unit(12, 4), unit(9, 4)
    options = {"step": 10**6, "max_iterations": 200}
    torch.testing.assert_close(vava_loss(x, y, **options), vava_loss(y, x, **options), rtol=1e-6, atol=0)


def test_the_transport_moves_the_embeddings() -> None:
    """It does not in a public port, where the regularisation makes the cost constant."""
    x, y = unit(30, 16).requires_grad_(), unit(40, 16)
    vava_loss(x, y, step=100, intra_weight=0.0, inter_weight=0.0).backward()
    assert x.grad.norm(dim=1).mean() > 0.1 / len(x)


def test_padding_changes_nothing_whatever_it_holds() -> None:
    x, y = unit(8, 4), unit(11, 4)
    padded = torch.cat((x, torch.full((5, 4), torch.nan, dtype=torch.float64))).requires_grad_()
    loss = vava_loss(padded, y, step=9, x_mask=torch.arange(13) < 8)
    loss.backward()
    torch.testing.assert_close(loss, vava_loss(x, y, step=9))
    assert torch.isfinite(padded.grad).all()
    assert not padded.grad[8:].any()


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"vava_loss: x \(4, 3\), y \(4, 2\)"):
        vava_loss(torch.randn(4, 3), torch.randn(4, 2), step=0)
    with pytest.raises(ValueError, match="step -1, expected"):
        vava_loss(torch.randn(4, 3), torch.randn(4, 3), step=-1)
    with pytest.raises(ValueError, match="lambda2 0.0, expected"):
        vava_loss(torch.randn(4, 3), torch.randn(4, 3), step=0, lambda2=0.0)
    with pytest.raises(ValueError, match=r"kernel \(3,\), expected \(N, M\)"):
        sinkhorn_plan(torch.randn(3), 5)
