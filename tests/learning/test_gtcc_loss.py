"""GTCC: mixtures, a plain numpy derivation with one component, drop rules, finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tacit_learning.losses.gtcc import Cycle, DropRule, gtcc_loss, matches
from tacit_learning.losses.mixture import Mixture, fit_mixture


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def gaussian(num_bins: int, mean: float, variance: float) -> np.ndarray:
    heights = np.exp(-((np.arange(num_bins) - mean) ** 2) / (2 * variance))
    return heights / heights.sum()


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * ((p + 1e-300).log() - q.log())).sum(-1)


def by_hand(
    videos: list[np.ndarray], drops: list[np.ndarray] | None, keep_floor: float, form: str, variance: str
) -> float:
    """The loss with one component, whose best fit is known: mean and variance of the match."""
    losses = []
    for a, b in itertools.permutations(range(len(videos)), 2):
        u, v = videos[a], videos[b]
        alpha = softmax(-np.linalg.norm(u[:, None] - v[None], axis=-1) / 0.1)
        for i in range(len(u)):
            frames = np.arange(len(v))
            mean = alpha[i] @ frames
            spread = max(alpha[i] @ frames**2 - mean**2, 0.5)
            visited = gaussian(len(v), mean, spread) @ v
            times = np.arange(len(u))
            logits = -np.linalg.norm(visited - u, axis=-1) / 0.1
            logits[np.abs(times - i) > max(1, round(len(u) * 0.2 / 2))] = -np.inf
            beta, times = softmax(logits), times / len(u)
            mu = beta @ times
            s2 = beta @ (times - mu) ** 2 + 1 / len(u) ** 2
            loss = (times[i] - mu) ** 2
            if variance == "paper":
                loss = loss / s2 + 0.001 * math.log(math.sqrt(s2))
            if drops is not None:
                z = u @ drops[b][:-1] + drops[b][-1]
                wanted = (z - z.mean()) / z.std() if form == "code" else -z
                keep = keep_floor + (1 - keep_floor) / (1 + np.exp(-wanted[i]))
                even = 1.0 if variance == "paper" else 1 / len(u) ** 2
                loss = keep * loss + (1 - keep) * even / (max(loss, 0) / even + 0.1)
            losses.append(loss)
    return float(np.mean(losses))


@pytest.mark.parametrize("variance", ["paper", "none"])
@pytest.mark.parametrize("form", ["paper", "code", "no drop"])
def test_loss_with_one_component_equals_the_derivation(form: str, variance: str) -> None:
    videos = [unit(n, 4) for n in (12, 9, 15)]
    drops = None if form == "no drop" else [torch.randn(5, dtype=torch.float64) for _ in videos]
    loss = gtcc_loss(
        videos,
        drops,
        epoch=6,
        n_components=1,
        variance=variance,
        form="paper" if drops is None else form,
        max_frames=None,
        window="centred",
    )
    arrays = [video.numpy() for video in videos]
    drop_arrays = None if drops is None else [drop.numpy() for drop in drops]
    assert loss.item() == pytest.approx(by_hand(arrays, drop_arrays, 0.95**7, form, variance), rel=1e-6)


def test_mixture_of_a_mixture_is_found() -> None:
    histogram = 0.6 * gaussian(60, 12, 4) + 0.4 * gaussian(60, 42, 9)
    mixture = fit_mixture(torch.from_numpy(histogram).unsqueeze(0), 2)
    torch.testing.assert_close(mixture.shares[0], torch.tensor([0.6, 0.4]).double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(mixture.means[0], torch.tensor([12.0, 42.0]).double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(mixture.variances[0], torch.tensor([4.0, 9.0]).double(), rtol=5e-3, atol=0)


def test_one_component_is_the_mean_and_variance_of_the_histogram() -> None:
    histograms = torch.softmax(torch.randn(5, 30, dtype=torch.float64), dim=-1)
    frames = torch.arange(30).double()
    mixture = fit_mixture(histograms, 1, 1)
    mean = histograms @ frames
    torch.testing.assert_close(mixture.means.squeeze(1), mean)
    torch.testing.assert_close(mixture.variances.squeeze(1), histograms @ frames**2 - mean**2)
    torch.testing.assert_close(mixture.shares, torch.ones_like(mixture.shares))


def density(mixture: Mixture, num_bins: int) -> Tensor:
    """The mixture on the bins (R, T)."""
    return (mixture.shares.unsqueeze(1) @ mixture.components(num_bins)).squeeze(1)


@pytest.mark.parametrize("components", [1, 5, 15])
def test_iterations_bring_the_mixture_nearer(components: int) -> None:
    x, y = unit(2, 50, 16)
    histograms = matches(x, y, 0.1)
    far, near, nearer = (
        divergence(histograms, density(fit_mixture(histograms, components, steps), 50)).mean()
        for steps in (0, 4, 32)
    )
    assert nearer <= near + 1e-6 < far


@given(
    num_bins=st.integers(1, 80),
    components=st.integers(1, 20),
    sharpness=st.floats(0.01, 200),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_a_mixture_is_always_a_distribution(
    num_bins: int, components: int, sharpness: float, seed: int
) -> None:
    logits = sharpness * torch.randn(3, num_bins, generator=torch.Generator().manual_seed(seed))
    mixture = fit_mixture(torch.softmax(logits, dim=-1), components)
    torch.testing.assert_close(density(mixture, num_bins).sum(1), torch.ones(3))
    assert all(torch.isfinite(part).all() for part in mixture)
    assert mixture.variances.min() >= 0.5
    assert 0 <= mixture.means.min() <= mixture.means.max() <= num_bins - 1


def test_mass_far_from_every_component_pulls_the_nearest_one() -> None:
    histogram = torch.zeros(1, 200)
    histogram[0, [5, 190]] = torch.tensor([0.9, 0.1])
    mixture = fit_mixture(histogram, 2)
    assert sorted(round(mean) for mean in mixture.means[0].tolist()) == [5, 190]


@pytest.mark.parametrize("fit_gradient", ["shares", "none"])
@pytest.mark.parametrize("variance", ["paper", "none"])
def test_gradient_of_the_cycles_equals_finite_differences(variance: str, fit_gradient: str) -> None:
    u, v = unit(8, 3).requires_grad_(), unit(6, 3).requires_grad_()
    starts = torch.tensor([0, 3, 7])
    mixture = fit_mixture(matches(u[starts], v, 0.4), 2)
    options = {"variance": variance, "alignment_variance": 0.1, "fit_gradient": fit_gradient}
    cycle = Cycle(delta=0.6, softmax_temp=0.4, **options)
    centres = cycle.centres(starts, 8, torch.Generator().manual_seed(0))

    def losses(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return cycle.losses(a, b, starts, centres, matches(a[starts], b, 0.4), mixture)

    assert torch.autograd.gradcheck(losses, (u, v))


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradient_of_the_drop_rule_equals_finite_differences(form: str) -> None:
    rule, starts = DropRule(0.3, form), torch.tensor([1, 4])
    losses = torch.tensor([0.4, 3.0], dtype=torch.float64, requires_grad=True)
    u, drop = unit(6, 3).requires_grad_(), torch.randn(4, dtype=torch.float64, requires_grad=True)
    weigh = lambda a, b, c: rule.weigh(a, b, starts, c, "paper")  # noqa: E731
    assert torch.autograd.gradcheck(weigh, (losses, u, drop))


@pytest.mark.parametrize("fit_gradient", ["shares", "none"])
def test_gradient_of_the_loss_is_that_of_the_cycles_with_the_fit_held(fit_gradient: str) -> None:
    u, v = unit(7, 3).requires_grad_(), unit(6, 3).requires_grad_()
    loss = gtcc_loss([u, v], None, epoch=0, n_components=3, max_frames=None, fit_gradient=fit_gradient)
    whole = torch.autograd.grad(loss, (u, v))
    parts, cycle = [], Cycle(fit_gradient=fit_gradient)
    for a, b in ((u, v), (v, u)):
        starts, alpha = torch.arange(len(a)), matches(a, b, 0.1)
        mixture = fit_mixture(alpha.detach(), 3)
        parts.append(cycle.losses(a, b, starts, cycle.centres(starts, len(a), None), alpha, mixture))
    for found, expected in zip(whole, torch.autograd.grad(torch.cat(parts).mean(), (u, v)), strict=True):
        torch.testing.assert_close(found, expected)


def test_shares_with_gradient_are_those_of_the_fit() -> None:
    alpha = matches(unit(30, 8), unit(40, 8), 0.1)
    mixture = fit_mixture(alpha, 3, 400)
    shares = (alpha.unsqueeze(1) * mixture.responsibilities(40)).sum(-1)
    torch.testing.assert_close(shares, mixture.shares, rtol=0, atol=1e-2)
    torch.testing.assert_close(shares.sum(1), torch.ones(30).double())


@pytest.mark.parametrize("seed", [None, 0])
def test_shifted_windows_hold_the_frame_and_lie_on_either_side(seed: int | None) -> None:
    starts, cycle = torch.arange(100), Cycle(delta=0.1)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    shifts = cycle.centres(starts, 100, generator) - starts
    assert shifts.abs().max() <= 5
    assert shifts.min() < -4 and shifts.max() > 4 and abs(shifts.mean()) < 1
    assert torch.equal(Cycle(window="centred").centres(starts, 100, generator), starts.float())


@pytest.mark.parametrize("window", ["shifted", "centred"])
def test_the_window_bounds_the_error_and_holds_the_frame_itself(window: str) -> None:
    options = {"epoch": 0, "variance": "none", "delta": 0.1, "max_frames": None, "window": window}
    u = 10 * torch.eye(20, dtype=torch.float64)
    assert gtcc_loss([u, u.flip(0)], None, **options).item() == pytest.approx(0, abs=1e-3)
    far = gtcc_loss([unit(40, 4), unit(40, 4)], None, **options)
    assert far.item() <= (4 / 40) ** 2


def test_embeddings_that_are_all_alike_cost_nothing_inside_a_centred_window_alone() -> None:
    """Away from the ends a uniform beta has its mean at the frame: why the window is shifted."""
    alike = torch.ones(40, 4).double()
    starts, alpha = torch.arange(10, 30), torch.full((20, 40), 1 / 40).double()
    mixture = fit_mixture(alpha, 5)
    for window in ("centred", "shifted"):
        cycle = Cycle(alignment_variance=0.0, window=window)
        losses = cycle.losses(alike, alike, starts, cycle.centres(starts, 40, None), alpha, mixture)
        assert (losses.mean() < 1e-6) == (window == "centred")
        assert (losses.mean() > 0.5) == (window == "shifted")


def test_matching_videos_cost_less_than_unrelated_ones() -> None:
    u, v = unit(40, 16), unit(40, 16)
    for variance in ("paper", "none"):
        options = {"epoch": 0, "variance": variance, "max_frames": None}
        assert gtcc_loss([u, u], None, **options) < gtcc_loss([u, v], None, **options)


def test_gamma_one_and_the_first_epochs_keep_every_frame() -> None:
    videos, drops = [unit(9, 4), unit(11, 4)], [10 * torch.randn(5, dtype=torch.float64) for _ in range(2)]
    without = gtcc_loss(videos, None, epoch=40)
    torch.testing.assert_close(gtcc_loss(videos, drops, epoch=40, gamma=1.0), without)
    late = gtcc_loss(videos, drops, epoch=400, gamma=0.95)
    assert abs(gtcc_loss(videos, drops, epoch=0) - without) < abs(late - without)
    torch.testing.assert_close(late, gtcc_loss(videos, drops, epoch=0, gamma=0.0), rtol=1e-6, atol=0)


def test_drop_networks_learn_to_drop_what_costs_more_than_even() -> None:
    rule, u = DropRule(0.0), torch.ones(2, 1)
    for loss, sign in ((0.5, -1), (3.0, 1)):
        drop = torch.zeros(2, requires_grad=True)
        rule.weigh(torch.tensor([loss, loss]), u, torch.arange(2), drop, "paper").sum().backward()
        assert np.sign(-drop.grad[1].item()) == sign


def test_the_price_of_dropping_is_bounded() -> None:
    rule = DropRule(0.0)
    losses = torch.tensor([-5.0, 0.0, 1e-30], requires_grad=True)
    dropped = torch.tensor([0.0, 1000.0])
    prices = rule.weigh(losses, torch.ones(3, 1), torch.arange(3), dropped, "paper")
    prices.sum().backward()
    torch.testing.assert_close(prices, torch.full((3,), 10.0))
    assert torch.isfinite(losses.grad).all()


def test_frames_are_drawn_by_the_generator_or_spread_evenly() -> None:
    videos = [unit(50, 4), unit(60, 4)]

    def loss(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return gtcc_loss(videos, None, epoch=0, generator=generator, max_frames=7)

    assert loss(1) == loss(1) != loss(2)
    assert loss(None) == loss(None)
    exact = gtcc_loss(videos, None, epoch=0, max_frames=None)
    torch.testing.assert_close(gtcc_loss(videos, None, epoch=0, max_frames=60), exact)


def test_padding_changes_nothing_whatever_it_holds() -> None:
    u, v = unit(8, 4), unit(11, 4)
    padded = torch.cat((u, torch.full((5, 4), torch.nan, dtype=torch.float64))).requires_grad_()
    masks = [torch.arange(13) < 8, torch.ones(11, dtype=torch.bool)]
    loss = gtcc_loss([padded, v], None, epoch=0, masks=masks)
    loss.backward()
    torch.testing.assert_close(loss, gtcc_loss([u, v], None, epoch=0))
    assert torch.isfinite(padded.grad).all()
    assert not padded.grad[8:].any()


def test_one_video_alone_gives_zero_with_zero_gradient() -> None:
    u = unit(5, 3).requires_grad_()
    loss = gtcc_loss([u], None, epoch=0)
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(4, 3), (5, 2)], {}, r"sequences \[\(4, 3\), \(5, 2\)\], expected"),
        ([(4, 3), (0, 3)], {}, "expected"),
        (
            [(4, 3), (5, 3)],
            {"dropouts": [torch.zeros(4)]},
            r"dropouts \[\(4,\)\], expected one vector of D \+ 1",
        ),
        ([(4, 3), (5, 3)], {"dropouts": [torch.zeros(3)] * 2}, "expected one vector"),
        ([(4, 3), (5, 3)], {"variance": "code"}, r"variance 'code', expected one of \('paper', 'none'\)"),
        ([(4, 3), (5, 3)], {"window": "none"}, "window 'none', expected one of"),
        ([(4, 3), (5, 3)], {"fit_gradient": "all"}, "fit_gradient 'all', expected one of"),
        ([(4, 3), (5, 3)], {"form": "none"}, "form 'none', expected 'paper' or 'code'"),
        ([(4, 3), (5, 3)], {"softmax_temp": 0.0}, "softmax_temp 0.0"),
        ([(4, 3), (5, 3)], {"gamma": 1.5}, "expected 0..1"),
        ([(4, 3), (5, 3)], {"n_components": 0}, "components 0, expected"),
    ],
)
def test_wrong_input_is_named(shapes: list[tuple[int, int]], options: dict, message: str) -> None:
    dropouts = options.pop("dropouts", None)
    with pytest.raises(ValueError, match=message):
        gtcc_loss([torch.randn(shape) for shape in shapes], dropouts, epoch=0, **options)
