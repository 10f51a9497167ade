"""The alignment losses of a batch: every loss that is on, over all pairs of its videos.

All are means over frames and pairs with positions divided by length, so coefficients near 1 are a
sensible start. Legend: B videos, T frames, N frames drawn, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from tacit_learning.alignment.model.encoder import DropNetwork
from tacit_learning.alignment.settings import AlignmentLossConfig
from tacit_learning.losses.gtcc import gtcc_loss
from tacit_learning.losses.lav import lav_loss
from tacit_learning.losses.tcc import tcc_loss
from tacit_learning.losses.vava import vava_loss


class Drawn(NamedTuple):
    """Frames that the losses see: embeddings (B, N, D), their positions (B, N), which exist (B, N), and
    the lengths of the videos (B,)."""

    embeddings: Tensor
    positions: Tensor
    mask: Tensor
    lengths: Tensor

    def videos(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Yield embeddings (N_i, D), positions divided by length (N_i,) and length of each video."""
        rows = zip(self.embeddings, self.positions, self.mask, self.lengths, strict=True)
        for embeddings, positions, mask, length in rows:
            yield embeddings[mask], positions[mask] / length, float(length)


class Moment(NamedTuple):
    """Where the training stands, for losses that change with it."""

    step: int
    epoch: int
    task: int


def draw_frames(
    embeddings: Tensor, mask: Tensor, count: int | None, generator: torch.Generator | None
) -> Drawn:
    """Draw one frame in each of `count` equal parts of every video.

    Args:
        embeddings: (B, T, D).
        mask: Frames that exist (B, T), the first ones of each row.
        count: N; None, or no less than T: every frame.
        generator: None: the middle of each part.
    """
    lengths = mask.sum(1)
    every = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    if count is None or count >= mask.shape[1]:
        return Drawn(embeddings, every, mask, lengths)
    within = torch.full((len(mask), count), 0.5)
    if generator is not None:
        within = torch.rand(len(mask), count, generator=generator)
    parts = (torch.arange(count) + within).to(mask.device) / count
    drawn = (parts * lengths.unsqueeze(1)).long().clamp(max=mask.shape[1] - 1)
    short = (lengths <= count).unsqueeze(1)
    positions = torch.where(short, every[:, :count], drawn)
    kept = ~short | mask[:, :count]
    index = positions.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1])
    return Drawn(embeddings.gather(1, index), positions, kept, lengths)


def alignment_losses(
    drawn: Drawn, config: AlignmentLossConfig, moment: Moment, drop: DropNetwork | None
) -> dict[str, Tensor]:
    """Compute every loss that is on, without its coefficient; a batch of one video has losses of 0."""
    zero = drawn.embeddings.sum() * 0.0
    losses: dict[str, Callable[[], Tensor]] = {
        "tcc": lambda: _tcc(drawn, config),
        "gtcc": lambda: _gtcc(drawn, config, moment, drop),
        "lav": lambda: _lav(drawn, config),
        "vava": lambda: _vava(drawn, config, moment),
    }
    alone = len(drawn.embeddings) < 2
    return {name: zero if alone else losses[name]() for name in config.coefficients()}


def _tcc(drawn: Drawn, config: AlignmentLossConfig) -> Tensor:
    options = config.tcc.model_dump()
    if options["variance_floor"] is None:
        options["variance_floor"] = float(drawn.lengths.float().mean()) ** -2
    return tcc_loss(
        drawn.embeddings, steps=drawn.positions, seq_lens=drawn.lengths, mask=drawn.mask, **options
    )


def _gtcc(drawn: Drawn, config: AlignmentLossConfig, moment: Moment, drop: DropNetwork | None) -> Tensor:
    sequences = [embeddings for embeddings, _, _ in drawn.videos()]
    dropouts = None if drop is None else [drop(embeddings, moment.task) for embeddings in sequences]
    options = config.gtcc.model_dump(exclude={"drop"})
    # Frames and windows are another draw at every step, and the same again after a resume.
    draws = torch.Generator().manual_seed(moment.step)
    return gtcc_loss(sequences, dropouts, epoch=moment.epoch, generator=draws, **options)


def _lav(drawn: Drawn, config: AlignmentLossConfig) -> Tensor:
    options = config.lav.model_dump()
    losses = [
        lav_loss(x, y, x_indices=x_at, y_indices=y_at, x_length=x_length, y_length=y_length, **options)
        for (x, x_at, x_length), (y, y_at, y_length) in combinations(drawn.videos(), 2)
    ]
    return torch.stack(losses).mean()


def _vava(drawn: Drawn, config: AlignmentLossConfig, moment: Moment) -> Tensor:
    pairs = combinations(drawn.videos(), 2)
    losses = [vava_loss(x, y, step=moment.step, **config.vava.model_dump()) for (x, *_), (y, *_) in pairs]
    return torch.stack(losses).mean()
