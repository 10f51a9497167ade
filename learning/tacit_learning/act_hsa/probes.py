"""What alignment and touch are worth on held-out frames, against chance and against the touch of others.

Batches must mix episodes: neighbours in time look and feel alike, so telling them apart says nothing, and
taking the touch of one for that of another costs nothing. Values are NaN where a batch has no such row.
Legend: B batch, N cameras, S sensors, T tokens per image, F feature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tacit_learning.act_hsa.model import Tokens
from tacit_learning.act_hsa.touch_alignment import TouchAlignment
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.layers.pooling import pool


@torch.no_grad()
def likeness(alignment: TouchAlignment, tokens: Tokens, camera: int) -> Tensor:
    """Return the cosine of each touch with every token of a camera's image (B, S, T)."""
    touch = normalize(alignment.touch_features(tokens.touch).float(), dim=-1)
    seen = normalize(alignment.vision_head(tokens.image[:, camera]).float(), dim=-1)
    return torch.einsum("bsf,btf->bst", touch, seen)


@torch.no_grad()
def alignment_probes(
    alignment: TouchAlignment, tokens: Tokens, batch: Batch, touching: Tensor
) -> dict[str, Tensor]:
    """Measure in wrist cameras whether a touch finds its place, and its own moment among others.

    Args:
        alignment: Trained.
        tokens: That enter the encoder.
        batch: Of several episodes.
        touching: Which gels touch something (B, S).

    Returns:
        hsa_pointing: share of rows whose most similar token lies in the box, beside hsa_pointing_chance, the
        share of tokens that do; hsa_gallery_top1: share of touching rows to which their own box is more
        similar than that of the same sensor at any touching frame of another episode, beside
        hsa_gallery_chance.
    """
    found: dict[str, list[Tensor]] = {}
    touch = normalize(alignment.touch_features(tokens.touch).float(), dim=-1)
    episode = batch[keys.EPISODE]
    is_other = (episode[:, None] != episode[None])[:, :, None]
    for n in torch.nonzero(alignment.wrist.any(1)).flatten().tolist():
        weights, _ = alignment.weights(batch[keys.BOXES][:, n])
        inside = weights.flatten(2) > 0
        valid = inside.any(-1) & batch[keys.BOX_VALID][:, n] & alignment.wrist[n]
        best = likeness(alignment, tokens, n).argmax(-1, keepdim=True)
        found.setdefault("hsa_pointing", []).append(inside.gather(-1, best).squeeze(-1).float()[valid])
        found.setdefault("hsa_pointing_chance", []).append(inside.float().mean(-1)[valid])
        vision = alignment.vision_head(pool(tokens.image[:, n].unsqueeze(1), weights))
        similarity = torch.einsum("bsf,csf->bcs", touch, normalize(vision.float(), dim=-1))
        rows = valid & touching
        allowed = is_other & rows[None]
        asked = rows & allowed.any(1)
        rival = similarity.masked_fill(~allowed, -2.0).amax(1)
        own = similarity.diagonal().T
        found.setdefault("hsa_gallery_top1", []).append((own > rival).float()[asked])
        found.setdefault("hsa_gallery_chance", []).append((1.0 / (1 + allowed.sum(1)))[asked])
    return {name: torch.cat(values).mean() for name, values in found.items()}


def touch_of_others(batch: Batch, touching: Tensor) -> tuple[Tensor, Tensor]:
    """Give frames with contact the touch of the next such frame of another episode.

    Args:
        batch: Of several episodes.
        touching: Which gels touch something (B, S).

    Returns:
        Rows (n,) that have such a partner, and the partner of each (n,).
    """
    contact, episode = touching.any(1), batch[keys.EPISODE]
    allowed = contact[None] & (episode[:, None] != episode[None])
    # the first partner after the row, the batch taken as a ring
    places = torch.arange(len(contact), device=contact.device)
    distance = (places[None] - places[:, None]) % len(contact)
    partner = distance.masked_fill(~allowed, len(contact)).argmin(1)
    rows = torch.nonzero(contact & allowed.any(1)).flatten()
    return rows, partner[rows]
