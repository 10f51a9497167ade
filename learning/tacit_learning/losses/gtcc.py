"""GTCC: cycle-consistency through several places at once, with frames that may have no match.

For every ordered pair of videos (U, V) and every frame i where a cycle starts:
    alpha_ij = softmax_j(-|u_i - v_j| / softmax_temp), fitted by sum_k psi_k p^(k) (`mixture`)
    w_k = sum_j p^(k)_j v_j;  beta = softmax(-|w_k - u_t| / softmax_temp) over a window that holds i
    mu_k, s_k^2 = mean and variance of the position under beta
    L = sum_k psi_k [(i - mu_k)^2 / s_k^2 + alignment_variance log s_k]
    keep = g + (1 - g) (1 - sigmoid([u_i; 1].c(V))),  g = gamma^(epoch + 1): at first every frame
    loss = keep L + (1 - keep) inverse(L),  inverse = e / (max(L, 0) / e + inverse_eps)
Source: Donahue and Elhamifar, CVPR 2024; gerardDonahue/GTCC_CVPR2024@6f17cc7 ("the reference code").
Where we differ from the code: positions divided by the length and a mean; EM for all frames at once;
softmax instead of exponentials that underflow; a bounded inverse. The decay g is the code's; gamma = 0
leaves the formula of the paper. Two more differences decide whether the loss aligns at all:
- The window is shifted at random, within where it holds i. Centred on i it is solved by embeddings that
  are all alike, since a uniform beta has its mean at i. The code's lies beside i in half the draws.
- psi_k = sum_j alpha_ij r_kj takes a gradient through alpha, with the responsibilities r of the fit held.
  Without it all K places are pulled towards i and nothing prefers the right one.
Legend: N, M frames of U and V, D features, F frames where cycles start, K components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor

from tacit_learning.losses.distances import euclidean_distances, existing_frames, full_precision
from tacit_learning.losses.mixture import Mixture, fit_mixture
from tacit_learning.losses.tcc import SMALLEST_VARIANCE

CHOICES = {
    "variance": ("paper", "none"),
    "window": ("shifted", "centred"),
    "fit_gradient": ("shares", "none"),
}
GOLDEN_RATIO = 0.6180339887498949
SMALLEST_DEVIATION = 1e-6  # of the drop logits over a video: constant logits stay 0


@full_precision
def gtcc_loss(
    sequences: Sequence[Tensor],
    dropouts: Sequence[Tensor] | None,
    *,
    epoch: int,
    n_components: int = 5,
    gamma: float = 0.95,
    delta: float = 0.2,
    softmax_temp: float = 0.1,
    variance: Literal["paper", "none"] = "paper",
    form: Literal["paper", "code"] = "paper",
    alignment_variance: float | None = None,
    variance_floor: float | None = None,
    break_even: float | None = None,
    inverse_eps: float = 0.1,
    max_gmm_iters: int = 32,
    max_frames: int | None = 20,
    generator: torch.Generator | None = None,
    masks: Sequence[Tensor] | None = None,
    window: Literal["shifted", "centred"] = "shifted",
    fit_gradient: Literal["shares", "none"] = "shares",
) -> Tensor:
    """Compute the mean over ordered pairs and frames of the loss above; 0 for fewer than two videos.

    Args:
        sequences: Videos (T_i, D).
        dropouts: c(V) of every video (D + 1,), from the drop network; None: no frame is dropped.
        epoch: From 0.
        n_components: K; 5 where steps keep their order, 15 in the wild.
        gamma: Decay of g; 1 drops nothing.
        delta: Width of the window as a share of the video.
        softmax_temp: Temperature of alpha and beta.
        variance: "none" leaves out the division by s_k^2 (the reference code).
        form: "code": keep = g + (1 - g) sigmoid(z), z = [u_i; 1].c standardised over the video.
        alignment_variance: Weight of log s_k; None: 0.001, with "none" 0.
        variance_floor: Added to s_k^2; None: (1/N)^2.
        break_even: e, the loss above which a frame is better dropped; None: 1, with "none" (1/N)^2.
        inverse_eps: Bounds the inverse by e / inverse_eps.
        max_gmm_iters: Iterations of EM.
        max_frames: Frames per video where cycles start; None: all.
        generator: Draws them and the shifts, on the CPU; None: evenly spaced, shifts by position.
        masks: True at frames that exist (T_i,); the others are left out, their values never read.
        window: "centred" puts it round i.
        fit_gradient: "none" holds psi as well (the reference code).
    """
    cycle = Cycle(delta, softmax_temp, variance, alignment_variance, variance_floor, window, fit_gradient)
    drop = DropRule(gamma ** (epoch + 1), form, break_even, inverse_eps)
    videos = _videos(sequences, dropouts, masks)
    starts = [_starts(len(u), max_frames, generator).to(u.device) for u in videos]
    losses = []
    for i, j in permutations(range(len(videos)), 2):
        alpha = matches(videos[i][starts[i]], videos[j], softmax_temp)
        mixture = fit_mixture(alpha, n_components, max_gmm_iters)
        centres = cycle.centres(starts[i], len(videos[i]), generator)
        loss = cycle.losses(videos[i], videos[j], starts[i], centres, alpha, mixture)
        if dropouts is not None:
            loss = drop.weigh(loss, videos[i], starts[i], dropouts[j].flatten(), variance)
        losses.append(loss)
    return torch.cat(losses).mean() if losses else sum(u.sum() for u in sequences) * torch.zeros(())


def matches(queries: Tensor, v: Tensor, temperature: float) -> Tensor:
    """Return alpha (F, M) of frames (F, D) and a video (M, D)."""
    return torch.softmax(euclidean_distances(queries, v) / -temperature, dim=-1)


@dataclass(frozen=True)
class Cycle:
    """What the way through the mixture and back costs; names as in `gtcc_loss`."""

    delta: float = 0.2
    softmax_temp: float = 0.1
    variance: str = "paper"
    alignment_variance: float | None = None
    variance_floor: float | None = None
    window: str = "shifted"
    fit_gradient: str = "shares"

    def __post_init__(self) -> None:
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"gtcc_loss: {name} {getattr(self, name)!r}, expected one of {valid}")
        if not (self.softmax_temp > 0 and self.delta > 0):
            raise ValueError(
                f"gtcc_loss: softmax_temp {self.softmax_temp}, delta {self.delta}; both have to be > 0"
            )

    def centres(self, starts: Tensor, num_frames: int, generator: torch.Generator | None) -> Tensor:
        """Return the middle of each window (F,), at most half its width away from `starts` (F,)."""
        if self.window == "centred":
            return starts.float()
        if generator is None:
            shares = (
                starts.double().mul(GOLDEN_RATIO).frac()
            )  # every stretch of frames has shifts of all sizes
        else:
            shares = torch.rand(len(starts), generator=generator).to(starts.device)
        return starts + (2 * shares - 1) * self._half_width(num_frames)

    def losses(
        self, u: Tensor, v: Tensor, starts: Tensor, centres: Tensor, alpha: Tensor, mixture: Mixture
    ) -> Tensor:
        """Return L (F,) of the cycles that start at frames `starts` of u (N, D) and visit v (M, D).

        The windows have their middle at `centres` (F,); `mixture` is the fit of `alpha` (F, M).
        """
        n = len(u)
        visited = mixture.components(len(v)).flatten(0, 1) @ v
        logits = (euclidean_distances(visited, u) / -self.softmax_temp).unflatten(0, (len(starts), -1))
        positions = torch.arange(n, device=u.device)
        outside = (positions - centres.unsqueeze(1)).abs() > self._half_width(n)
        back = torch.softmax(logits.masked_fill(outside.unsqueeze(1), -torch.inf), dim=-1)
        times = positions.to(u.dtype) / n
        mean = back @ times
        loss = (times[starts].unsqueeze(1) - mean).square()
        # The variance does not change with the mean that it is taken around: detaching that is exact.
        variance = (back * (times - mean.detach().unsqueeze(-1)).square()).sum(-1)
        floor = 1 / n**2 if self.variance_floor is None else self.variance_floor
        variance = (variance + floor).clamp(min=SMALLEST_VARIANCE)
        if self.variance == "paper":
            loss = loss / variance
        if self._log_weight:
            loss = loss + self._log_weight * 0.5 * variance.log()
        return (self._shares(alpha, mixture) * loss).sum(1)

    def _shares(self, alpha: Tensor, mixture: Mixture) -> Tensor:
        if self.fit_gradient == "none":
            return mixture.shares
        return (alpha.unsqueeze(1) * mixture.responsibilities(alpha.shape[1])).sum(-1)

    @property
    def _log_weight(self) -> float:
        if self.alignment_variance is None:
            return 0.001 if self.variance == "paper" else 0.0
        return self.alignment_variance

    def _half_width(self, num_frames: int) -> int:
        """Return half the window in frames; the neighbours of a frame are always inside a centred one."""
        return max(1, round(num_frames * self.delta / 2))


@dataclass(frozen=True)
class DropRule:
    """How much of a frame counts, and what dropping it costs; names as in `gtcc_loss`."""

    keep_floor: float
    form: str = "paper"
    break_even: float | None = None
    inverse_eps: float = 0.1

    def __post_init__(self) -> None:
        if self.form not in ("paper", "code"):
            raise ValueError(f"gtcc_loss: form {self.form!r}, expected 'paper' or 'code'")
        if not (0 <= self.keep_floor <= 1 and self.inverse_eps > 0):
            raise ValueError(
                f"gtcc_loss: gamma^(epoch + 1) {self.keep_floor}, inverse_eps {self.inverse_eps}; "
                "expected 0..1 and > 0"
            )

    def keep(self, u: Tensor, drop: Tensor) -> Tensor:
        """Return the weight of every frame of u (N, D) under drop vector c (D + 1,), within 0..1 (N,)."""
        logits = u @ drop[:-1] + drop[-1]
        if self.form == "code":
            logits = (logits - logits.mean()) / (logits.std(correction=0) + SMALLEST_DEVIATION)
        else:
            logits = -logits
        return self.keep_floor + (1 - self.keep_floor) * torch.sigmoid(logits)

    def weigh(self, losses: Tensor, u: Tensor, starts: Tensor, drop: Tensor, variance: str) -> Tensor:
        """Return keep L + (1 - keep) inverse(L) of losses L (F,)."""
        keep = self.keep(u, drop)[starts]
        default = 1.0 if variance == "paper" else len(u) ** -2
        even = default if self.break_even is None else self.break_even
        return keep * losses + (1 - keep) * even / (losses.relu() / even + self.inverse_eps)


def _starts(num_frames: int, most: int | None, generator: torch.Generator | None) -> Tensor:
    """Return the frames where cycles start, in order, at most `most`."""
    if most is None or most >= num_frames:
        return torch.arange(num_frames)
    if generator is None:
        return torch.linspace(0, num_frames - 1, most).round().long()
    return torch.randperm(num_frames, generator=generator)[:most].sort().values


def _videos(
    sequences: Sequence[Tensor], dropouts: Sequence[Tensor] | None, masks: Sequence[Tensor] | None
) -> list[Tensor]:
    shapes = [tuple(u.shape) for u in sequences]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] or 0 in shape for shape in shapes):
        raise ValueError(f"gtcc_loss: sequences {shapes}, expected (T_i, D) with one D")
    if dropouts is not None and [c.numel() for c in dropouts] != [shape[1] + 1 for shape in shapes]:
        found = [tuple(c.shape) for c in dropouts]
        raise ValueError(f"gtcc_loss: dropouts {found}, expected one vector of D + 1 numbers per sequence")
    if masks is None:
        return list(sequences)
    return [existing_frames("gtcc_loss", u, mask) for u, mask in zip(sequences, masks, strict=True)]
