"""Training steps of the recipes v1 to v4: random actions of each video, random prefixes of each.

A head that streams judges all prefixes of an action in one pass; positions and counts make every
prefix a sequence of its own. Legend: S segments, K prefixes of each, L frames, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.model.recipe_head import RecipeHead, Version
from tacit_learning.alignment.settings import RecipeConfig
from tacit_learning.data.windows import Batch
from tacit_learning.losses.progress_recipes import Mode, sample_frames, segment_loss


@dataclass(frozen=True)
class RecipeLoss:
    """How the head is trained: actions per video, prefixes of each; weight_cap None: unweighted."""

    mode: Mode
    weight_cap: float | None
    boundary: bool
    stratified: bool
    actions: int
    prefixes: int


CAPS: dict[Version, float | None] = {"v1": None, "v2": None, "v3": 10.0, "v4": 20.0}
DRAWS: dict[Version, tuple[int, int]] = {"v1": (1, 1), "v2": (5, 3), "v3": (10, 5), "v4": (10, 5)}
"""Actions of each video, and prefixes of each action, in one step."""


def recipe_loss(version: Version, config: RecipeConfig) -> RecipeLoss:
    """Return the loss of a version; the switches of `config` can turn its parts off."""
    cap = CAPS[version] if config.weight_cap is None or CAPS[version] is None else config.weight_cap
    actions, prefixes = DRAWS[version]
    return RecipeLoss(
        config.mode,
        cap if config.weighted_loss else None,
        config.boundary_loss and version == "v4",
        config.stratified_sampling and version in ("v3", "v4"),
        config.samples_per_video or actions,
        config.frames_per_segment or prefixes,
    )


class Segments(NamedTuple):
    """Sampled stretches: embeddings (S, L, D), targets (S, L), lengths and classes (S,)."""

    embeddings: Tensor
    targets: Tensor
    lengths: Tensor
    labels: Tensor

    @property
    def mask(self) -> Tensor:
        """Frames that exist (S, L)."""
        frames = torch.arange(self.targets.shape[1], device=self.lengths.device)
        return frames < self.lengths.unsqueeze(1)


def recipe_step(
    head: RecipeHead,
    embeddings: Tensor,
    batch: Batch,
    config: RecipeConfig,
    loss: RecipeLoss,
    generator: torch.Generator,
) -> Tensor:
    """Sample segments and prefixes and compute the loss of the recipe.

    Args:
        head: In training.
        embeddings: Scaled embeddings of whole videos (B, T, D).
        batch: Whole videos, from `batches.whole_videos`.
        config: The shortest action that is sampled, and the weight of its ends.
        loss: What the recipe minimises.
        generator: Source of chance of this step and process.

    Returns:
        Scalar; 0 with a zero gradient where no video has a segment of the least length.
    """
    by_action = head.level == "action"
    count = loss.actions if by_action else 1
    segments = draw_segments(embeddings, batch, by_action, count, config.min_segment_len, generator)
    if segments is None:
        return sum((p.sum() for p in head.parameters()), embeddings.sum()) * 0.0
    frames = torch.stack(
        [
            sample_frames(n, loss.prefixes, loss.stratified, generator, config.min_segment_len)
            for n in segments.lengths.tolist()
        ]
    ).to(embeddings.device)
    # The boundary term also asks for the first and the last frame of every segment.
    ends = torch.stack([torch.zeros_like(segments.lengths), segments.lengths - 1], dim=1)
    answers = judge(head, segments, torch.cat([frames, ends], dim=1))
    targets = segments.targets.gather(1, torch.cat([frames, ends], dim=1))
    count = frames.shape[1]
    return segment_loss(
        answers[:, :count],
        targets[:, :count],
        torch.ones_like(frames, dtype=torch.bool),
        mode=loss.mode,
        weight_cap=loss.weight_cap,
        boundary=(answers[:, count:], targets[:, count:]) if loss.boundary else None,
        boundary_weight=config.boundary_weight,
    )


def judge(head: RecipeHead, segments: Segments, frames: Tensor) -> Tensor:
    """Return the progress (S, K) of the prefixes that end at `frames` (S, K)."""
    if head.streams:
        return head.every(segments.embeddings).gather(1, frames)
    repeated = segments.embeddings.repeat_interleave(frames.shape[1], dim=0)
    return head.last(repeated, frames.flatten() + 1).view(frames.shape)


def draw_segments(
    embeddings: Tensor, batch: Batch, by_action: bool, count: int, shortest: int, generator: torch.Generator
) -> Segments | None:
    """Draw `count` actions of each video (or the video as a whole) of at least `shortest` frames.

    Returns:
        The stretches; None where there is none.
    """
    chosen: list[tuple[int, int, int]] = []
    for video in range(len(embeddings)):
        stretches = _actions(batch, video) if by_action else _whole(batch, video)
        stretches = [(s, e) for s, e in stretches if e - s + 1 >= shortest]
        if not stretches:
            continue
        for draw in torch.randint(len(stretches), (count,), generator=generator):
            chosen.append((video, *stretches[int(draw)]))
    if not chosen:
        return None
    table = torch.tensor(chosen, device=embeddings.device)
    rows, starts = table[:, :1], table[:, 1]
    lengths = table[:, 2] - starts + 1
    within = torch.arange(int(lengths.max()), device=embeddings.device)
    within = torch.minimum(within, lengths.unsqueeze(1) - 1)
    frames = starts.unsqueeze(1) + within
    target = batch[keys.ACTION if by_action else keys.PROGRESS]
    labels = batch[keys.LABELS][rows[:, 0], starts]
    return Segments(embeddings[rows, frames], target[rows, frames], lengths, labels)


def _actions(batch: Batch, video: int) -> list[tuple[int, int]]:
    counted = batch[keys.SPAN_MASK][video] & batch[keys.ACTION_MASK][video]
    starts = batch[keys.SPAN_START][video][counted].unique()
    return [(int(s), int(batch[keys.SPAN_END][video][s])) for s in starts]


def _whole(batch: Batch, video: int) -> list[tuple[int, int]]:
    return (
        [(0, int(batch[keys.MASK][video].sum()) - 1)] if bool(batch[keys.PROGRESS_MASK][video].any()) else []
    )
