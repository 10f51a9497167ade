"""What a touch is compared with: other rows, tokens of the same image, other wrists, rows of steps before.

Legend: B batch, S sensors, R = B*S rows, T tokens per image, F feature, k negatives, Q rows kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit_learning.losses.hsa import hsa_loss


class Rows(NamedTuple):
    """Where rows come from; each (R,)."""

    episode: Tensor
    frame: Tensor
    sensor: Tensor
    touching: Tensor


class Negatives(NamedTuple):
    """What rows are compared with."""

    pair_mask: Tensor  # (R, R) True = may serve
    tokens: Tensor | None  # of the same image, or of other wrists (R, k, F)
    token_mask: Tensor | None  # (R, k)
    in_batch: bool
    bank: Tensor | None = None  # rows of steps before (Q, F)
    bank_mask: Tensor | None = None  # (R, Q)

    def losses(self, touch: Tensor, vision: Tensor, valid: Tensor, temperature: Tensor) -> Tensor:
        """Return the HSA loss of each row (R,); see `hsa_loss`."""
        return hsa_loss(
            touch,
            vision,
            temperature=temperature,
            negatives=self.tokens,
            negative_mask=self.token_mask,
            pair_mask=self.pair_mask,
            valid=valid,
            in_batch=self.in_batch,
            reduction="none",
            bank=self.bank,
            bank_mask=self.bank_mask,
        )


class Bank(nn.Module):
    """What rows of the last steps saw, without gradient: negatives where batches are small (He et al. 2020).

    All processes hold the rows of all, and checkpoints hold them too.

    Args:
        size: Q.
        feature: F.
    """

    features: Tensor
    tags: Tensor
    place: Tensor

    def __init__(self, size: int, feature: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(size, feature))
        self.register_buffer("tags", torch.zeros(size, len(Rows._fields) + 1, dtype=torch.long))  # last: held
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def negatives(self, rows: Rows, time_gap: int) -> tuple[Tensor, Tensor]:
        """Return what is held (Q, F), and what of it may serve as a negative of each row (R, Q)."""
        episode, frame, sensor, touching, held = self.tags.unbind(1)
        mask = may_differ(rows, Rows(episode, frame, sensor, touching.bool()), time_gap)
        return self.features.clone(), mask & held.bool()[None]

    @torch.no_grad()
    def push(self, features: Tensor, rows: Rows, valid: Tensor) -> None:
        """Replace the oldest by rows (R, F); those that are not valid (R,) serve nobody."""
        count = min(len(features), len(self.features))
        places = (self.place + torch.arange(count, device=features.device)) % len(self.features)
        tags = torch.stack([each.long() for each in (*rows, valid)], 1)
        self.features[places] = features.detach()[:count].to(self.features)
        self.tags[places] = tags[:count]
        self.place.copy_((self.place + count) % len(self.features))


def rows_of(episode: Tensor, frame: Tensor, touching: Tensor) -> Rows:
    """Return the rows of samples (B,) and their sensors (B, S)."""
    count = touching.shape[1]
    sensor = torch.arange(count, device=touching.device).repeat(len(touching))
    return Rows(episode.repeat_interleave(count), frame.repeat_interleave(count), sensor, touching.flatten())


def may_differ(rows: Rows, others: Rows, time_gap: int) -> Tensor:
    """Say which of the others may serve as negatives of each row.

    Never: the other finger in the same image, a neighbour within `time_gap` ticks of the same episode,
    or two rows of one sensor without contact, whose gels look alike.

    Args:
        rows: R of them.
        others: Q of them.
        time_gap: In ticks.

    Returns:
        (R, Q), True = may serve.
    """
    near = (rows.frame[:, None] - others.frame[None]).abs() <= time_gap
    neighbours = near & (rows.episode[:, None] == others.episode[None])
    blank = ~rows.touching[:, None] & ~others.touching[None]
    return ~(neighbours | (blank & (rows.sensor[:, None] == others.sensor[None])))


def draw_tokens(
    features: Tensor, touch: Tensor, outside: Tensor, count: int, hard_share: float
) -> tuple[Tensor, Tensor]:
    """Draw tokens of the same image outside the box: the same count for every row.

    Args:
        features: Of all tokens of an image (B, T, F).
        touch: (B, S, F).
        outside: Which tokens may be drawn (B, S, T).
        count: How many, at most.
        hard_share: Part of them that are those most like the touch; the others are drawn at random.

    Returns:
        Features (R, k, F), and which of them were outside (R, k).
    """
    count = min(count, outside.shape[-1])
    order = torch.rand(outside.shape, device=features.device)
    hardest = round(hard_share * count)
    if hardest:
        likeness = torch.einsum("bsf,btf->bst", normalize(touch, dim=-1), normalize(features, dim=-1))
        likeness = likeness.detach().masked_fill(~outside, -torch.inf)
        order = order.scatter(-1, likeness.topk(hardest, dim=-1).indices, 2.0)
    drawn, index = order.masked_fill(~outside, -1.0).topk(count, dim=-1)
    sample = torch.arange(len(features), device=features.device)[:, None, None]
    return features[sample, index].flatten(0, 1), (drawn >= 0).flatten(0, 1)


@torch.no_grad()
def alignment_metrics(
    touch: Tensor, vision: Tensor, valid: Tensor, negatives: Negatives, losses: Tensor
) -> dict[str, Tensor]:
    """Compare the loss with chance and count how often the right place is the most similar one.

    Args:
        touch: (R, F).
        vision: (R, F).
        valid: (R,).
        negatives: What each row was compared with.
        losses: (R,) of `hsa_loss`.

    Returns:
        hsa, hsa_chance (mean ln(1 + N)), hsa_ratio, hsa_top1, hsa_negatives (mean N), hsa_valid (share
        of valid rows).
    """
    t, v = normalize(touch.float(), dim=-1), normalize(vision.float(), dim=-1)
    others = ~torch.eye(len(t), dtype=torch.bool, device=t.device) & valid[None] & negatives.pair_mask
    allowed = others & negatives.in_batch
    similarity = t @ v.T
    best = similarity.masked_fill(~allowed, -2.0).amax(1)
    count = allowed.sum(1)
    if negatives.tokens is not None and negatives.token_mask is not None:
        n = normalize(negatives.tokens.float(), dim=-1)
        scores = torch.einsum("rf,rkf->rk", t, n).masked_fill(~negatives.token_mask, -2.0)
        best = torch.maximum(best, scores.amax(1))
        count = count + negatives.token_mask.sum(1)
    if negatives.bank is not None and negatives.bank_mask is not None:
        scores = t @ normalize(negatives.bank.float(), dim=-1).T
        best = torch.maximum(best, scores.masked_fill(~negatives.bank_mask, -2.0).amax(1))
        count = count + negatives.bank_mask.sum(1)
    compared = valid & (count > 0)
    chance = mean_of(torch.log1p(count.float()), valid)
    loss = mean_of(losses, valid)
    return {
        "hsa": loss,
        "hsa_chance": chance,
        "hsa_ratio": loss / chance.clamp(min=1e-6),
        "hsa_top1": mean_of((similarity.diagonal() > best).float(), compared),
        "hsa_negatives": mean_of(count.float(), valid),
        "hsa_valid": valid.float().mean(),
    }


def mean_of(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid ones; 0 where there are none."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)
