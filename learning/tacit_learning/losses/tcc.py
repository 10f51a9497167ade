"""Temporal cycle-consistency: go to the soft nearest neighbour in another video and come back.

For frame i of video U and another video V, s a similarity and t_k = steps_k / seq_len:
    n_i = sum_j softmax_j s(u_i, v_j) v_j;  B_ik = softmax_k s(n_i, u_k)
    p_i = sum_k B_ik t_k;  v_i = sum_k B_ik (t_k - p_i)^2
    regression_mse: (t_i - p_i)^2;  regression_mse_var: (t_i - p_i)^2 / v_i + variance_lambda log v_i
    regression_huber: Huber of t_i - p_i;  classification: cross-entropy of s(n_i, .) against i
Source: Dwibedi et al. 2019, arXiv:1904.07846; formulas of google-research/tcc@0c1bbe5, whose defaults
are those of the functions. For training set `scale_by_dim=False` (with 128 unit-norm features the
logits would stay within 0.31, nearly uniform) and `variance_floor` near (1/T)^2 (without a floor
exp(-log v) explodes where a frame returns to a single frame). Legend: B videos, P cycles (ordered
pairs of videos, or sampled ones), Q frames where a cycle starts, T frames, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from tacit_learning.losses.distances import euclidean_distances, full_precision

LossType = Literal["regression_mse", "regression_mse_var", "regression_huber", "classification"]
Similarity = Literal["l2", "euclidean", "cosine"]
LOSS_TYPES = ("regression_mse", "regression_mse_var", "regression_huber", "classification")
SIMILARITIES = ("l2", "euclidean", "cosine")
# A return within a millionth of the video; below it the squared error over v leaves float32.
SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class TccOptions:
    """What a cycle costs; the same names and defaults as the arguments of `tcc_loss`."""

    loss_type: LossType = "regression_mse_var"
    similarity: Similarity = "l2"
    temperature: float = 0.1
    variance_lambda: float = 0.001
    huber_delta: float = 0.1
    label_smoothing: float = 0.1
    normalize_indices: bool = True
    scale_by_dim: bool = True
    variance_floor: float = 0.0

    def __post_init__(self) -> None:
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"tcc_loss: loss_type {self.loss_type!r}, expected one of {LOSS_TYPES}")
        if self.similarity not in SIMILARITIES:
            raise ValueError(f"tcc_loss: similarity {self.similarity!r}, expected one of {SIMILARITIES}")
        for field in fields(self)[2:]:
            if not getattr(self, field.name) >= 0 or (field.name == "temperature" and not self.temperature):
                raise ValueError(f"tcc_loss: {field.name} {getattr(self, field.name)}, expected positive")


@full_precision
def tcc_loss(
    embeddings: Tensor,
    *,
    steps: Tensor | None = None,
    seq_lens: Tensor | None = None,
    mask: Tensor | None = None,
    loss_type: LossType = "regression_mse_var",
    similarity: Similarity = "l2",
    temperature: float = 0.1,
    variance_lambda: float = 0.001,
    huber_delta: float = 0.1,
    label_smoothing: float = 0.1,
    normalize_indices: bool = True,
    scale_by_dim: bool = True,
    variance_floor: float = 0.0,
) -> Tensor:
    """Compute the mean of the loss above over all frames of all ordered pairs of videos.

    Args:
        embeddings: Frames (B, T, D), B >= 2; not normalised here.
        steps: Frame positions (B, T); None: 0..T-1.
        seq_lens: Lengths that the positions are divided by (B,); None: the number of valid frames.
        mask: True at frames that exist (B, T); the others are never read.
        loss_type: One of `LOSS_TYPES`.
        similarity: s: "l2" -|a-b|^2, "euclidean" -|a-b|, "cosine" a.b of the vectors as they come.
        temperature: Divides s.
        variance_lambda: Weight of log v.
        huber_delta: Where Huber turns linear, in the unit of t.
        label_smoothing: Label smoothing of the cross-entropy.
        normalize_indices: Divide the positions by seq_lens.
        scale_by_dim: Divide s by D as well.
        variance_floor: Added to v.

    Returns:
        Scalar; 0 with zero gradient where no two videos have frames.
    """
    scale = (temperature, variance_lambda, huber_delta, label_smoothing)
    options = TccOptions(loss_type, similarity, *scale, normalize_indices, scale_by_dim, variance_floor)
    videos = _videos(embeddings, steps, seq_lens, mask, options)
    source, target = _ordered_pairs(videos.keep)
    if len(source) == 0:
        return torch.nan_to_num(embeddings).sum() * 0
    labels = torch.arange(embeddings.shape[1], device=embeddings.device).expand(len(source), -1)
    neighbours = _soft_neighbours(videos.frames[source], videos, target, options)
    losses = _cycle_back(neighbours, labels, videos, source, options)
    counted = videos.keep[source]
    return torch.where(counted, losses, 0.0).sum() / counted.sum()


@full_precision
def stochastic_tcc_loss(
    embeddings: Tensor,
    generator: torch.Generator,
    *,
    steps: Tensor | None = None,
    seq_lens: Tensor | None = None,
    mask: Tensor | None = None,
    num_cycles: int = 20,
    cycle_length: int = 2,
    options: TccOptions | None = None,
) -> Tensor:
    """Compute the same loss on `num_cycles` sampled cycles through `cycle_length` different videos.

    Every cycle starts at one random frame of one random video and visits the others in random order.

    Args:
        embeddings: Frames (B, T, D), every video with at least one valid frame.
        generator: Source of randomness, on the CPU.
        steps: As in `tcc_loss`; so are seq_lens and mask.
        seq_lens: See there.
        mask: See there.
        num_cycles: Cycles averaged.
        cycle_length: Videos per cycle, 2 <= cycle_length <= B.
        options: What a cycle costs.

    Returns:
        Scalar.
    """
    options = options or TccOptions()
    videos = _videos(embeddings, steps, seq_lens, mask, options)
    if not 2 <= cycle_length <= len(embeddings):
        raise ValueError(f"tcc: cycle_length {cycle_length}, expected 2..{len(embeddings)} (videos)")
    order = [torch.randperm(len(embeddings), generator=generator) for _ in range(num_cycles)]
    cycles = torch.stack(order)[:, :cycle_length].to(embeddings.device)
    chances = videos.keep[cycles[:, 0]].float().cpu()
    labels = torch.multinomial(chances, 1, generator=generator).to(embeddings.device)
    queries = videos.frames[cycles[:, :1], labels]
    for stop in range(1, cycle_length):
        queries = _soft_neighbours(queries, videos, cycles[:, stop], options)
    return _cycle_back(queries, labels, videos, cycles[:, 0], options).mean()


@dataclass(frozen=True)
class _Videos:
    """Padded videos: frames (B, T, D) with zeros where nothing is, times and keep (B, T)."""

    frames: Tensor
    times: Tensor
    keep: Tensor
    padded: bool


def _videos(
    embeddings: Tensor,
    steps: Tensor | None,
    seq_lens: Tensor | None,
    mask: Tensor | None,
    options: TccOptions,
) -> _Videos:
    if embeddings.ndim != 3 or len(embeddings) < 2 or 0 in embeddings.shape:
        raise ValueError(f"tcc_loss: embeddings {tuple(embeddings.shape)}, expected (B >= 2, T, D)")
    shape = embeddings.shape[:2]
    for name, given, expected in (
        ("steps", steps, shape),
        ("seq_lens", seq_lens, shape[:1]),
        ("mask", mask, shape),
    ):
        if given is not None and given.shape != expected:
            raise ValueError(f"tcc_loss: {name} {tuple(given.shape)}, expected {tuple(expected)}")
    times = torch.arange(shape[1], device=embeddings.device) if steps is None else steps.detach()
    times = times.to(embeddings.dtype).expand(shape)
    keep = torch.ones(shape, dtype=torch.bool, device=embeddings.device) if mask is None else mask.bool()
    if options.normalize_indices:
        lengths = keep.sum(1).clamp(min=1) if seq_lens is None else seq_lens
        times = times / lengths.to(embeddings.dtype).unsqueeze(1)
    frames = embeddings if mask is None else torch.where(keep.unsqueeze(-1), embeddings, 0.0)
    if options.similarity == "l2":  # as in `squared_distances`
        shift = frames.detach().sum((0, 1)) / keep.sum().clamp(min=1)
        frames = torch.where(keep.unsqueeze(-1), frames - shift, 0.0) if mask is not None else frames - shift
    return _Videos(frames, times, keep, mask is not None)


def _ordered_pairs(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of all pairs i != j of videos that have frames, (P,) each."""
    present = keep.any(1)
    pairs = present.unsqueeze(0) & present.unsqueeze(1)
    source, target = torch.nonzero(pairs.fill_diagonal_(False), as_tuple=True)
    return source, target


def _soft_neighbours(queries: Tensor, videos: _Videos, where: Tensor, options: TccOptions) -> Tensor:
    """Return the soft nearest neighbours (P, Q, D) of `queries` (P, Q, D) in the videos `where` (P,)."""
    return torch.softmax(_logits(queries, videos, where, options), dim=-1) @ videos.frames[where]


def _logits(queries: Tensor, videos: _Videos, where: Tensor, options: TccOptions) -> Tensor:
    """Return s(query, frame) / scale (P, Q, T), -inf at padding, up to a constant of each row.

    The constant, -|query|^2 of "l2", drops out of softmax and cross-entropy; leaving it out saves a
    pass over the matrix and the cancellation that would need a clamp at 0.
    """
    candidates = videos.frames[where]
    scale = options.temperature * (candidates.shape[-1] if options.scale_by_dim else 1)
    transposed = candidates.transpose(1, 2)
    if options.similarity == "l2":
        offsets = candidates.square().sum(-1).div(-scale).unsqueeze(1)
        logits = torch.baddbmm(offsets, queries, transposed, alpha=2 / scale)
    elif options.similarity == "cosine":
        logits = torch.bmm(queries, transposed) / scale
    else:
        logits = euclidean_distances(queries, candidates) / -scale
    if videos.padded:
        logits = logits.masked_fill(~videos.keep[where].unsqueeze(1), -torch.inf)
    return logits


def _cycle_back(
    queries: Tensor, labels: Tensor, videos: _Videos, where: Tensor, options: TccOptions
) -> Tensor:
    """Return the loss (P, Q) of arriving at the frames `labels` (P, Q) of the videos `where` (P,)."""
    logits = _logits(queries, videos, where, options)
    if options.loss_type == "classification":
        return _cross_entropy(logits, labels, videos.keep[where], options.label_smoothing)
    times = videos.times[where]
    arrival = torch.softmax(logits, dim=-1)
    predicted = torch.bmm(arrival, times.unsqueeze(-1)).squeeze(-1)
    error = times.gather(1, labels) - predicted
    if options.loss_type == "regression_huber":
        zero = torch.zeros_like(error)
        return torch.nn.functional.huber_loss(error, zero, reduction="none", delta=options.huber_delta)
    if options.loss_type == "regression_mse":
        return error.square()
    # dv/dp = 0, as p is the mean: detaching p there is exact.
    deviations = (times.unsqueeze(1) - predicted.detach().unsqueeze(-1)).square()
    variance = (arrival * deviations).sum(-1) + options.variance_floor
    variance = variance.clamp(min=SMALLEST_VARIANCE)
    return error.square() / variance + options.variance_lambda * variance.log()


def _cross_entropy(logits: Tensor, labels: Tensor, keep: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy against (1 - smoothing) one-hot + smoothing / number of valid frames."""
    valid = keep.unsqueeze(1)
    at_label = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    average = torch.where(valid, logits, 0.0).sum(-1) / valid.sum(-1)
    expected = (1 - smoothing) * at_label + smoothing * average
    return torch.logsumexp(logits, dim=-1) - expected
