"""Progress from annotations and from travelled distance: targets, predictions, their loss and its weight.

One convention: frame t of a segment s..e (inclusive, L = e-s+1 frames) has gone (t-s+1)/L of it, so the
last frame is 1 and no frame of an action is 0. Pure functions; legend: B videos, T frames, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from tacit.config import Config, parse

Level = Literal["video", "action", "proportional"]
EPS = 1e-12
"""Added under the root: identical frames then lie 1e-6 apart, which keeps gradients finite and makes
the travelled distance of a still video linear in time."""


class Step(Protocol):
    """One segment: name, first and last frame (inclusive), and its length in frames."""

    @property
    def name(self) -> str:
        """Name of the action."""

    @property
    def start(self) -> int:
        """First frame s."""

    @property
    def end(self) -> int:
        """Last frame e, inclusive."""

    @property
    def length(self) -> int:
        """L = e - s + 1."""


class StepAnnotation(Protocol):
    """What the targets read of an annotation (`data.annotations.Annotation`)."""

    @property
    def num_frames(self) -> int:
        """T."""

    def action_segments(self) -> Sequence[Step]:
        """Return the segments that are no background, in order of time."""


class LambdaCurriculum(Config):
    """A weight that moves linearly from `start` in the first epoch to `end` in the last."""

    enabled: bool = False
    start: float = 0.0
    end: float = 1.0


class ProgressWeight(Config):
    """Weight of the progress loss beside the alignment loss; both are means, so 1 means 1."""

    lambda_fixed: float = 1.0
    lambda_curriculum: LambdaCurriculum = LambdaCurriculum()


def progress_lambda(epoch: int, num_epochs: int, config: ProgressWeight | Mapping[str, object]) -> float:
    """Compute the weight of the progress loss: fixed, or start + (end-start) epoch / max(num_epochs-1, 1).

    Args:
        epoch: From 0; beyond the last epoch the weight stays at its end.
        num_epochs: Epochs of the whole training.
        config: The weights, or a mapping with the keys `lambda_fixed` and `lambda_curriculum`.
    """
    if isinstance(config, Mapping):
        known = {name: config[name] for name in ProgressWeight.model_fields if name in config}
        config = parse(ProgressWeight, known, "progress_lambda")
    curriculum = config.lambda_curriculum
    if not curriculum.enabled:
        return config.lambda_fixed
    share = min(max(epoch / max(num_epochs - 1, 1), 0.0), 1.0)
    return curriculum.start + (curriculum.end - curriculum.start) * share


def action_progress(annotation: StepAnnotation) -> Tensor:
    """Compute p_t = (t-s+1)/L inside each action; 0 in the background (mask it: `action_mask`).

    Returns:
        Progress (T,) float32.
    """
    progress = torch.zeros(annotation.num_frames)
    for action in annotation.action_segments():
        progress[action.start : action.end + 1] = _ramp(action)
    return progress


def video_progress(annotation: StepAnnotation) -> Tensor:
    """Compute p_t = (n-1)/A + (t-s+1)/(A L) in the n-th of A actions; background holds the last value.

    Returns:
        Progress (T,) float32; 0 before the first action. Without any action all 0, with a warning:
        such a video has no target and its `progress_mask` is empty.
    """
    found = annotation.action_segments()
    return _staircase(annotation, found, [1.0] * len(found))


def proportional_progress(annotation: StepAnnotation, shares: Mapping[str, float]) -> Tensor:
    """Compute `video_progress` with steps as long as they are on average in the data set.

    p_t = sum of the weights before + weight_n (t-s+1)/L (SARM, arXiv:2509.25358). Weights are the
    mean shares of the actions that occur, renormalised: a missing step gives its part to the others,
    a repeated step counts as often as it occurs, and every video ends at 1.

    Args:
        annotation: Annotation of one video.
        shares: What `mean_shares` returned.
    """
    found = annotation.action_segments()
    return _staircase(annotation, found, [shares[action.name] for action in found])


def mean_shares(annotations: Iterable[StepAnnotation]) -> dict[str, float]:
    """Compute per action name the mean share of one occurrence in the action frames of its video."""
    collected: dict[str, list[float]] = {}
    for annotation in annotations:
        found = annotation.action_segments()
        total = sum(action.length for action in found)
        for action in found:
            collected.setdefault(action.name, []).append(action.length / total)
    return {name: sum(values) / len(values) for name, values in collected.items()}


def action_mask(annotation: StepAnnotation) -> Tensor:
    """Return which frames belong to an action (T,)."""
    return action_progress(annotation) > 0


def progress_mask(annotation: StepAnnotation, level: Level) -> Tensor:
    """Return which frames have a target (T,): those of actions, or all of a video with any action."""
    inside = action_mask(annotation)
    return inside if level == "action" else torch.full_like(inside, bool(inside.any()))


def progress_target(
    annotation: StepAnnotation, level: Level, shares: Mapping[str, float] | None = None
) -> Tensor:
    """Return the target (T,) of a level; `proportional` needs `shares`."""
    if level == "action":
        return action_progress(annotation)
    if level == "video":
        return video_progress(annotation)
    if shares is None:
        raise ValueError("progress_target: level 'proportional' needs shares")
    return proportional_progress(annotation, shares)


def cumulative_distance(embeddings: Tensor) -> Tensor:
    """Compute how far the embedding has travelled: c_0 = 0, c_t = sum over i<=t of |u_i - u_(i-1)|.

    Args:
        embeddings: (..., T, D).

    Returns:
        Distance (..., T), never falling. A root is taken of |.|^2 + 1e-12, so it has a gradient everywhere.
    """
    return torch.nn.functional.pad(increments(embeddings), (1, 0)).cumsum(-1)


def increments(embeddings: Tensor) -> Tensor:
    """Compute |u_t - u_(t-1)| (..., T-1) for t >= 1."""
    difference = embeddings[..., 1:, :] - embeddings[..., :-1, :]
    return (difference.square().sum(-1) + EPS).sqrt()


class Spans(NamedTuple):
    """For every frame, the first and last frame of the stretch that its progress is measured over.

    start, end: (B, T) i8; mask: (B, T), which frames count (stretches of one frame do not).
    """

    start: Tensor
    end: Tensor
    mask: Tensor


def self_normalised(distance: Tensor, spans: Spans) -> Tensor:
    """Compute (c_t - c_s + m) / (c_e - c_s + m), m = (c_e - c_s)/(L-1): exact at constant speed.

    It uses the end of the stretch, that is the future: for training only.

    Args:
        distance: What `cumulative_distance` returned (B, T).
        spans: Stretches.

    Returns:
        Progress (B, T) in 0..1; 1 where the stretch is one frame long.
    """
    first = distance.gather(-1, spans.start)
    total = distance.gather(-1, spans.end) - first
    step = total / (spans.end - spans.start).clamp(min=1)
    return ((distance - first + step) / (total + step).clamp(min=EPS)).where(spans.end > spans.start, 1.0)


def train_normalised(distance: Tensor, spans: Spans, total: Tensor, step: Tensor) -> Tensor:
    """Compute (c_t - c_s + step) / (total + step), as deployed: nothing of the future is used.

    Args:
        distance: What `cumulative_distance` returned (B, T).
        spans: Stretches; only their starts are read.
        total: Mean distance of a whole stretch over all training videos, broadcast to (B, T).
        step: Mean distance of one frame in them, likewise.

    Returns:
        Progress (B, T), not clipped: clip it to 0..1 where it is shown.
    """
    return share_of_total(distance - distance.gather(-1, spans.start), total, step)


def share_of_total(travelled: Tensor, total: Tensor, step: Tensor) -> Tensor:
    """Compute (travelled + step) / (total + step); see `train_normalised`."""
    return (travelled + step) / (total + step).clamp(min=EPS)


def progress_error(
    prediction: Tensor, target: Tensor, mask: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Compute the mean |prediction - target| over the frames of `mask` (B, T).

    Args:
        prediction: (B, T).
        target: (B, T).
        mask: Which frames count; with none the loss is 0 and has a (zero) gradient.
        generator: Where given, one random frame of one random video counts, as in the original recipe.
    """
    if generator is not None:
        mask = one_random_frame(mask, generator)
    error = (prediction - target).abs().masked_fill(~mask, 0.0)
    return error.sum() / mask.sum().clamp(min=1)


def one_random_frame(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Keep one frame of `mask` (B, T): first a video is drawn among those that have any, then a frame."""
    kept = torch.zeros_like(mask)
    videos = mask.any(-1).nonzero().flatten()
    if len(videos):
        video = videos[_draw(len(videos), generator)]
        frames = mask[video].nonzero().flatten()
        kept[video, frames[_draw(len(frames), generator)]] = True
    return kept


def make_spans(annotation: StepAnnotation, level: Level) -> Spans:
    """Return the stretches (T,) of one video: its actions, or from the first to the last action frame."""
    starts = torch.zeros(annotation.num_frames, dtype=torch.long)
    ends = torch.zeros_like(starts)
    found = annotation.action_segments()
    if level == "action":
        stretches = [(action.start, action.end) for action in found]
    else:
        stretches = [(found[0].start, found[-1].end)] if found else []
    for start, end in stretches:
        starts[start : end + 1], ends[start : end + 1] = start, end
    inside = action_mask(annotation) & (ends > starts)
    return Spans(starts, ends, inside)


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _ramp(action: Step) -> Tensor:
    return torch.arange(1, action.length + 1, dtype=torch.float32) / action.length


def _staircase(annotation: StepAnnotation, found: Sequence[Step], weights: list[float]) -> Tensor:
    """Climb by weight / sum(weights) in each action; level ground between them."""
    progress = torch.zeros(annotation.num_frames)
    if not found:
        warnings.warn("a video has no action, so no progress: its frames are masked", stacklevel=3)
        return progress
    total, before = sum(weights), 0.0
    for action, weight in zip(found, weights, strict=True):
        progress[action.start : action.end + 1] = (before + weight * _ramp(action)) / total
        before += weight
        progress[action.end + 1 :] = before / total
    return progress
