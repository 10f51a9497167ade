"""Progress losses of a batch for each method: travelled distance, dense head, ProTAS.

Each returns its total under `progress` and the parts of it for the log. Legend: B videos, T frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.model.heads import HeadOutputs
from tacit_learning.alignment.model.model import AlignmentModel
from tacit_learning.alignment.model.normalisers import Stretches
from tacit_learning.alignment.model.outcome import Outcome
from tacit_learning.alignment.model.plain import PlainNet
from tacit_learning.alignment.model.protas import ProtasHead, ProtasTargets, protas_loss
from tacit_learning.alignment.recipes import draw_segments
from tacit_learning.alignment.settings import DenseConfig, ProgressConfig
from tacit_learning.data.windows import Batch
from tacit_learning.losses.progress import Spans, cumulative_distance, progress_error, self_normalised
from tacit_learning.losses.progress_recipes import dense_loss


class SegmentRates(NamedTuple):
    """Actions drawn per video, share of them whose class is told, frames per second."""

    per_video: int
    told: float
    fps: float


def distance_loss(
    model: AlignmentModel,
    embeddings: Tensor,
    batch: Batch,
    config: ProgressConfig,
    one_frame: torch.Generator | None,
) -> dict[str, Tensor]:
    """Compute the error of the travelled distance, and of telling actions from the background."""
    distance = cumulative_distance(embeddings) if config.level == "action" else model.travel(embeddings)
    target, mask = batch[keys.PROGRESS], batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    if config.level == "action":
        target, mask = batch[keys.ACTION], batch[keys.ACTION_MASK] & batch[keys.SPAN_MASK]
        spans = action_spans(batch)
        prediction = (
            self_normalised(distance, spans)
            if config.normaliser == "self"
            else model.distances.of_action(distance, batch[keys.LABELS], spans.start)
        )
    elif config.normaliser == "self":
        prediction = self_normalised(distance, whole_spans(batch))
    else:
        prediction = model.distances.of_video(distance, batch[keys.TASK])
    error = progress_error(prediction, target, mask, one_frame)
    logits = model.foreground_logits(embeddings)
    told = F.binary_cross_entropy_with_logits(logits, (batch[keys.LABELS] > 0).float(), reduction="none")
    foreground = _mean(told, batch[keys.MASK])
    return {"progress": error + foreground, "distance": error, "foreground": foreground}


def dense_terms(outputs: HeadOutputs, batch: Batch, config: ProgressConfig) -> dict[str, Tensor]:
    """Compute every term of the dense head on every frame."""
    weights = config.terms
    actions = batch[keys.ACTION_MASK] & batch[keys.MASK]
    told = batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    extra = {"monotonic_weight": weights.monotonic, "end_weight": weights.end}
    action = dense_loss(outputs.action, batch[keys.ACTION], actions, **extra)
    video = dense_loss(outputs.video, batch[keys.PROGRESS], told, **extra)
    ends = (batch[keys.ACTION], actions) if config.level == "action" else (batch[keys.PROGRESS], told)
    late = torch.log1p(outputs.remaining) - torch.log1p(batch[keys.REMAINING])
    classes = F.cross_entropy(outputs.classes.transpose(1, 2), batch[keys.LABELS], reduction="none")
    terms = {
        "action": action,
        "video": video,
        "classes": _mean(classes, batch[keys.MASK]),
        "remaining": _mean(F.huber_loss(late, torch.zeros_like(late), reduction="none"), told),
        "done": _done(outputs, *ends, weights),
    }
    total = sum((getattr(weights, name) * value for name, value in terms.items()), action * 0.0)
    return {"progress": total, **terms}


def segment_terms(
    model: AlignmentModel,
    embeddings: Tensor,
    features: Tensor,
    batch: Batch,
    rates: SegmentRates,
    config: DenseConfig,
    generator: torch.Generator,
) -> Tensor:
    """Compute the error on actions whose start is told, each a sequence of its own, some with its class.

    Args:
        model: In training.
        embeddings: Embeddings of whole videos (B, T, D).
        features: What they were made of (B, T, F).
        batch: Whole videos, from `batches.whole_videos`.
        rates: How many actions, how often the class is told, at which rate frames come.
        config: Weights of the loss.
        generator: Source of chance of this step.
    """
    both = torch.cat([embeddings, features], dim=-1)
    segments = draw_segments(both, batch, True, rates.per_video, 2, generator)
    if segments is None:
        return embeddings.sum() * 0.0
    told = (torch.rand(len(segments.labels), generator=generator) < rates.told).to(embeddings.device)
    seconds = torch.arange(segments.targets.shape[1]).to(embeddings) / rates.fps
    own, seen = segments.embeddings.split([embeddings.shape[-1], features.shape[-1]], dim=-1)
    seconds = seconds.expand(segments.targets.shape)
    task = batch[keys.TASK][:1].expand(len(segments.labels))  # all videos of a batch are of one
    outputs = model.read_segments(own, seen, seconds, segments.labels, told, task)
    weights = {"monotonic_weight": config.monotonic, "end_weight": config.end}
    return dense_loss(outputs.action, segments.targets, segments.mask, **weights)


def plain_loss(
    net: PlainNet, scaled: Tensor, batch: Batch, actions: int, generator: torch.Generator
) -> Tensor:
    """Compute the mean errors of the plain net: of the stream, and of actions whose start is told.

    Args:
        net: In training.
        scaled: Features of whole videos (B, T, F).
        batch: From `batches.whole_videos`.
        actions: Drawn of each video.
        generator: Source of chance of this step.
    """
    said = net(scaled)
    told = batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    loss = _mean((said.video - batch[keys.PROGRESS]).abs(), told)
    inside = batch[keys.ACTION_MASK] & batch[keys.MASK]
    loss = loss + _mean((said.action - batch[keys.ACTION]).abs(), inside)
    segments = draw_segments(scaled, batch, True, actions, 2, generator)
    if segments is None:
        return loss
    errors = (net.from_start(segments.embeddings) - segments.targets).abs()
    return loss + sum((_mean(error, segments.mask) for error in errors), torch.zeros(()).to(loss))


def motion_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Compute the cross-entropy of motion (B, T, 3) on the frames whose progress is known."""
    told = batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    return _mean(F.cross_entropy(logits.transpose(1, 2), batch[keys.MOTION], reduction="none"), told)


def outcome_loss(outcome: Outcome, batch: Batch) -> Tensor:
    """Compute the cross-entropies of success and of failure on the frames that know them."""
    done = F.binary_cross_entropy_with_logits(outcome.success, batch[keys.SUCCESS], reduction="none")
    loss = _mean(done, batch[keys.SUCCESS_MASK] & batch[keys.MASK])
    if outcome.failure.shape[-1] > 1:
        wrong = F.cross_entropy(outcome.failure.transpose(1, 2), batch[keys.FAILURE], reduction="none")
        loss = loss + _mean(wrong, batch[keys.FAILURE_MASK] & batch[keys.MASK])
    return loss


def protas_terms(head: ProtasHead, inputs: Tensor, batch: Batch, config: ProgressConfig) -> dict[str, Tensor]:
    """Compute the loss of all stages, and of progress of the video and completion read from the last."""
    stages = head.net(inputs)
    mask = batch[keys.MASK] & (batch[keys.ACTION_MASK] | (batch[keys.LABELS] == 0))
    terms = protas_loss(head.net, stages, ProtasTargets(batch[keys.LABELS], batch[keys.ACTION], mask))
    outputs, told = head.read(stages), batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    video = dense_loss(outputs.video, batch[keys.PROGRESS], told)
    done = _done(outputs, batch[keys.PROGRESS], told, config.dense)
    total = terms.pop("protas") + config.dense.video * video + config.dense.done * done
    return {"progress": total, "video": video, "done": done, **terms}


@torch.no_grad()
def update_statistics(model: AlignmentModel, embeddings: Tensor, batch: Batch, momentum: float) -> None:
    """Move the normalisers towards the embeddings (B, T, D) of whole videos."""
    if model.encodes:
        model.follow_embeddings(embeddings[batch[keys.MASK]], momentum)
    if not model.travels:
        return
    for name, stretches in travelled(model, embeddings, batch).items():
        model.distances.follow(name, stretches, momentum)


@torch.no_grad()
def travelled(model: AlignmentModel, embeddings: Tensor, batch: Batch) -> dict[str, Stretches]:
    """Measure videos (a row per task) and actions (a row per class) of whole videos."""
    mask, distance = batch[keys.MASK], model.travel(embeddings)
    lengths = mask.sum(1)
    known = batch[keys.PROGRESS_MASK].any(1) & (lengths > 1)
    last = distance.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
    spans = action_spans(batch)
    ends = (spans.end == torch.arange(mask.shape[1], device=mask.device)) & spans.mask
    every = cumulative_distance(embeddings)  # within an action all frames count
    gone = (every - every.gather(1, spans.start))[ends]
    frames = (spans.end - spans.start + 1)[ends]
    return {
        "video": Stretches(last[known], lengths[known], batch[keys.TASK][known]),
        "action": Stretches(gone, frames, batch[keys.LABELS][ends]),
    }


def action_spans(batch: Batch) -> Spans:
    """Return the stretches of the actions of whole videos."""
    mask = batch[keys.SPAN_MASK] & batch[keys.MASK] & batch[keys.ACTION_MASK]
    return Spans(batch[keys.SPAN_START], batch[keys.SPAN_END], mask)


def whole_spans(batch: Batch) -> Spans:
    """Return one stretch per video: from its first to its last frame."""
    mask = batch[keys.MASK]
    start = torch.zeros_like(mask, dtype=torch.long)
    return Spans(start, (mask.sum(1, keepdim=True) - 1).expand(mask.shape), mask)


def _done(outputs: HeadOutputs, progress: Tensor, mask: Tensor, weights: DenseConfig) -> Tensor:
    is_done = (progress >= weights.done_at).to(outputs.done)
    return _mean(F.binary_cross_entropy_with_logits(outputs.done, is_done, reduction="none"), mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
