"""Soft-DTW: golden values, the sum over all paths, finite differences, bands and padding, both paths."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit_learning.losses import soft_dtw as module
from tacit_learning.losses.soft_dtw import band, soft_dtw, soft_dtw_divergence

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "soft_dtw.npz", allow_pickle=False)
IMPLEMENTATIONS = ("numba", "torch")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return request.param


def paths(n: int, m: int) -> Iterator[list[tuple[int, int]]]:
    """Every monotonic path from (0, 0) to (n - 1, m - 1)."""

    def extend(path: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        i, j = path[-1]
        if (i, j) == (n - 1, m - 1):
            yield path
        for cell in ((i + 1, j + 1), (i + 1, j), (i, j + 1)):
            if cell[0] < n and cell[1] < m:
                yield from extend([*path, cell])

    return extend([(0, 0)])


def value_and_gradient(cost: torch.Tensor, gamma: float, **options) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = cost.clone().requires_grad_()
    value = soft_dtw(leaf, gamma, **options)
    value.sum().backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize("gamma", [1.0, 0.1])
def test_values_and_gradients_meet_the_golden_ones(gamma: float, implementation: str) -> None:
    value, gradient = value_and_gradient(torch.from_numpy(GOLDEN["D"]), gamma, implementation=implementation)
    np.testing.assert_allclose(value, GOLDEN[f"value_{gamma}"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(gradient, GOLDEN[f"E_{gamma}"], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("n", "m"), [(4, 5), (1, 4), (5, 1), (3, 3), (2, 6)])
def test_value_sums_over_all_paths_and_gradient_is_the_expected_path(
    n: int, m: int, implementation: str
) -> None:
    cost, gamma = torch.rand(1, n, m, dtype=torch.float64), 0.3
    table = cost[0].numpy()
    lengths = np.array([sum(table[cell] for cell in path) for path in paths(n, m)])
    chances = np.exp(-lengths / gamma) / np.exp(-lengths / gamma).sum()
    use = np.zeros((n, m))
    for chance, path in zip(chances, paths(n, m), strict=True):
        for cell in path:
            use[cell] += chance
    value, gradient = value_and_gradient(cost, gamma, implementation=implementation)
    np.testing.assert_allclose(value, -gamma * np.log(np.exp(-lengths / gamma).sum()), atol=1e-12)
    np.testing.assert_allclose(gradient[0], use, atol=1e-12)


def test_small_gamma_gives_the_cheapest_path(implementation: str) -> None:
    cost = torch.rand(1, 4, 5, dtype=torch.float64)
    cheapest = min(sum(cost[0, i, j].item() for i, j in path) for path in paths(4, 5))
    assert soft_dtw(cost, 1e-4, implementation=implementation).item() == pytest.approx(cheapest, abs=1e-6)


def test_gradient_equals_finite_differences(implementation: str) -> None:
    cost = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 3]), torch.tensor([7, 4])

    def loss(c: torch.Tensor) -> torch.Tensor:
        return soft_dtw(
            c, 0.4, bandwidth=2, x_lengths=lengths[0], y_lengths=lengths[1], implementation=implementation
        )

    assert torch.autograd.gradcheck(loss, (cost,))


def test_upstream_gradients_are_applied_per_pair(implementation: str) -> None:
    cost = torch.rand(3, 4, 6, dtype=torch.float64)
    _, unit = value_and_gradient(cost, 0.5, implementation=implementation)
    leaf = cost.clone().requires_grad_()
    (soft_dtw(leaf, 0.5, implementation=implementation) * torch.tensor([2.0, -1.0, 0.5])).sum().backward()
    torch.testing.assert_close(leaf.grad, unit * torch.tensor([2.0, -1.0, 0.5])[:, None, None].double())


@pytest.mark.parametrize(("n", "m", "bandwidth"), [(5, 5, 0), (5, 5, 1), (3, 6, 1), (6, 3, 0), (4, 5, 2)])
def test_band_leaves_exactly_the_paths_inside_it(n: int, m: int, bandwidth: int, implementation: str) -> None:
    longest = max(n, m) - 1
    half = max(bandwidth, longest / (min(n, m) - 1) / 2) + 1e-9

    def inside(path: list[tuple[int, int]]) -> bool:
        return all(abs(i / (n - 1) - j / (m - 1)) * longest <= half for i, j in path)

    cost, gamma = torch.rand(1, n, m, dtype=torch.float64), 0.2
    lengths = np.array([sum(cost[0, i, j].item() for i, j in path) for path in paths(n, m) if inside(path)])
    value = soft_dtw(cost, gamma, bandwidth=bandwidth, implementation=implementation)
    assert value.item() == pytest.approx(-gamma * np.log(np.exp(-lengths / gamma).sum()), abs=1e-12)


def test_band_is_the_usual_one_for_equal_lengths() -> None:
    for bandwidth in (0, 1, 3):
        starts, stops = band(8, 8, bandwidth)
        cells = {(i, d - i) for d in range(15) for i in range(starts[d], stops[d])}
        assert cells == {(i, j) for i in range(8) for j in range(8) if abs(i - j) <= bandwidth}


@given(
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    bandwidth=st.none() | st.floats(0, 30),
    gamma=st.floats(0.01, 10),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_a_path_always_exists_and_both_implementations_agree(
    n: int, m: int, bandwidth: float | None, gamma: float, seed: int
) -> None:
    pytest.importorskip("numba")
    cost = torch.rand(2, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    (value, gradient), (other, other_gradient) = (
        value_and_gradient(cost, gamma, bandwidth=bandwidth, implementation=which)
        for which in IMPLEMENTATIONS
    )
    assert torch.isfinite(value).all()
    torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-8, atol=1e-10)
    corners = gradient[:, [0, -1], [0, -1]]
    torch.testing.assert_close(corners, torch.ones_like(corners))


def test_padding_is_never_read(implementation: str) -> None:
    cost = torch.full((2, 6, 8), torch.nan, dtype=torch.float64)
    cost[0, :6, :5], cost[1, :3, :8] = torch.rand(6, 5), torch.rand(3, 8)
    sizes = {"x_lengths": torch.tensor([6, 3]), "y_lengths": torch.tensor([5, 8])}
    value, gradient = value_and_gradient(cost, 0.1, implementation=implementation, **sizes)
    for b, (n, m) in enumerate([(6, 5), (3, 8)]):
        alone, gradient_alone = value_and_gradient(
            cost[b : b + 1, :n, :m], 0.1, implementation=implementation
        )
        torch.testing.assert_close(value[b : b + 1], alone)
        torch.testing.assert_close(gradient[b, :n, :m], gradient_alone[0])
    assert torch.equal(gradient[0, :, 5:], torch.zeros(6, 3, dtype=torch.float64))
    assert torch.equal(gradient[1, 3:], torch.zeros(3, 8, dtype=torch.float64))


def test_an_infinite_cost_closes_a_cell(implementation: str) -> None:
    cost = torch.rand(1, 3, 3, dtype=torch.float64)
    cost[0, 1, 1] = torch.inf
    around = [p for p in paths(3, 3) if (1, 1) not in p]
    lengths = np.array([sum(cost[0, i, j].item() for i, j in path) for path in around])
    value, gradient = value_and_gradient(cost, 0.5, implementation=implementation)
    assert value.item() == pytest.approx(-0.5 * np.log(np.exp(-lengths / 0.5).sum()), abs=1e-12)
    assert gradient[0, 1, 1] == 0
    assert torch.isfinite(gradient).all()


def test_where_no_path_is_open_the_value_is_infinite_and_nothing_moves(implementation: str) -> None:
    cost = torch.rand(2, 3, 4)
    cost[0, 1] = torch.inf
    value, gradient = value_and_gradient(cost, 0.5, implementation=implementation)
    assert value[0] == torch.inf
    assert torch.isfinite(value[1])
    assert not gradient[0].any()
    assert gradient[1].any()


def test_an_undefined_cost_is_not_passed_over_in_silence(implementation: str) -> None:
    cost = torch.rand(2, 3, 4)
    cost[0, 1, 2] = torch.nan
    value, gradient = value_and_gradient(cost, 0.5, implementation=implementation)
    assert torch.isnan(value).tolist() == [True, False]
    assert torch.isnan(gradient[0]).all()
    assert torch.isfinite(gradient[1]).all()


def test_two_thousand_float32_frames_are_as_good_as_float64(implementation: str) -> None:
    cost = torch.rand(1, 2000, 1900) * 4
    value, gradient = value_and_gradient(cost, 0.1, implementation=implementation)
    exact, exact_gradient = value_and_gradient(cost.double(), 0.1)  # the compiled one, where there is one
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value, exact.float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, exact_gradient.float(), rtol=1e-5, atol=1e-7)


def test_divergence_of_a_video_from_itself_is_zero_and_positive_otherwise() -> None:
    x, y = torch.randn(2, 1, 12, 4, dtype=torch.float64)
    assert soft_dtw_divergence(x, x, 0.1).item() == pytest.approx(0, abs=1e-9)
    assert soft_dtw_divergence(x, y[:, :9], 0.1).item() > 0


def test_half_precision_is_computed_in_full() -> None:
    cost = torch.rand(1, 20, 20).bfloat16()
    torch.testing.assert_close(soft_dtw(cost, 0.1), soft_dtw(cost.float(), 0.1))


def test_without_numba_the_torch_path_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = torch.rand(1, 9, 9, dtype=torch.float64)
    expected = soft_dtw(cost, 0.1)
    kernels = "tacit_learning.losses.soft_dtw_kernels"
    monkeypatch.setitem(sys.modules, kernels, ModuleType("empty"))  # importing from it would fail
    monkeypatch.setattr(module, "numba_is_installed", lambda: False)
    torch.testing.assert_close(soft_dtw(cost, 0.1), expected)


@pytest.mark.gpu
def test_the_gpu_gives_the_values_of_the_cpu() -> None:
    cost = torch.rand(3, 40, 33)
    lengths = {"x_lengths": torch.tensor([40, 20, 7]), "y_lengths": torch.tensor([33, 30, 9])}
    for bandwidth in (None, 5):
        value, gradient = value_and_gradient(cost, 0.1, bandwidth=bandwidth, **lengths)
        there, gradient_there = value_and_gradient(cost.cuda(), 0.1, bandwidth=bandwidth, **lengths)
        torch.testing.assert_close(there.cpu(), value)
        torch.testing.assert_close(gradient_there.cpu(), gradient)
    with pytest.raises(ValueError, match="'numba' on cuda"):
        soft_dtw(cost.cuda(), 0.1, implementation="numba")


@pytest.mark.parametrize(
    ("cost", "gamma", "options", "message"),
    [
        (torch.rand(4, 5), 0.1, {}, r"cost \(4, 5\), expected \(B, N, M\)"),
        (torch.rand(1, 0, 5), 0.1, {}, "at least one frame"),
        (torch.rand(1, 4, 5), 0.0, {}, "gamma 0.0, expected > 0"),
        (torch.rand(1, 4, 5), 0.1, {"bandwidth": -1}, "bandwidth -1"),
        (torch.rand(1, 4, 5), 0.1, {"implementation": "cuda"}, "implementation 'cuda', expected"),
        (
            torch.rand(1, 4, 5),
            0.1,
            {"x_lengths": torch.tensor([5])},
            r"x_lengths \[5\], expected 1 lengths in 1..4",
        ),
        (torch.rand(1, 4, 5), 0.1, {"y_lengths": torch.tensor([0])}, r"y_lengths \[0\]"),
    ],
)
def test_wrong_input_is_named(cost: torch.Tensor, gamma: float, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_dtw(cost, gamma, **options)
