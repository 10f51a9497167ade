"""The HSA term of the policy: which rows, which negatives, and how it compares with chance.

Rows are (sample, sensor) pairs, in training those of all processes. A wrist camera sees the sensors of
its own arm; a camera in the world is a third person, weighted by visibility. Touch and vision have heads
of their own. Legend: B batch, N cameras, S sensors, R = B*S rows, T tokens per image, D width, F feature,
k negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, did_you_mean
from tacit.rig import Rig
from tacit_learning.act_hsa.config import HsaConfig
from tacit_learning.act_hsa.model import ModelOutput, Tokens
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.engine.distributed import gather_rows
from tacit_learning.layers.pooling import dilate, pool, token_weights
from tacit_learning.losses.hsa import hsa_loss


@dataclass(frozen=True)
class ViewPairs:
    """Which sensors each camera is aligned with: (N, S) bool for both kinds of view."""

    wrist: Tensor
    third: Tensor


@dataclass(frozen=True)
class Negatives:
    """What rows are compared with."""

    pair_mask: Tensor  # (R, R) True = may serve
    tokens: Tensor | None  # (R, k, F)
    token_mask: Tensor | None  # (R, k)
    in_batch: bool


def view_pairs(rig: Rig, cameras: list[str], sensors: list[str], wanted: tuple[str, ...] | None) -> ViewPairs:
    """Read from the rig which camera is a wrist view of which sensor.

    Raises:
        ConfigError: `hsa.cameras` names an unknown camera, or no camera sees any sensor.
    """
    for name in wanted or ():
        if name not in cameras:
            raise ConfigError(f"hsa.cameras: no camera {name!r}; {did_you_mean(name, cameras)}")
    wrist = torch.zeros(len(cameras), len(sensors), dtype=torch.bool)
    third = torch.zeros_like(wrist)
    for n, camera in enumerate(cameras):
        if wanted is not None and camera not in wanted:
            continue
        parent = rig.cameras[camera].parent
        for s, sensor in enumerate(sensors):
            arm = rig.tactile[sensor].mount.rsplit(".", 1)[0]
            wrist[n, s] = parent == f"{arm}.flange"
            third[n, s] = parent == "world"
    if not (wrist | third).any():
        raise ConfigError("hsa: no camera of the policy is paired with a touch sensor; set hsa.weight=0")
    return ViewPairs(wrist, third)


class Head(nn.Sequential):
    """LayerNorm, linear, GELU, linear."""

    def __init__(self, width: int, feature: int) -> None:
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, feature), nn.GELU(), nn.Linear(feature, feature)
        )


class TouchAlignment(nn.Module):
    """Compute the HSA loss of a batch from the tokens that the policy itself reads.

    Args:
        config: Options.
        dim: Width of the tokens.
        pairs: From `view_pairs`.
        gripper_indices: Elements of the state that the touch head reads beside the tokens.
        image_size: (height, width) of the policy image [px].
        image_grid: (rows, columns) of its tokens.
    """

    wrist: Tensor
    third: Tensor

    def __init__(
        self,
        config: HsaConfig,
        dim: int,
        pairs: ViewPairs,
        gripper_indices: tuple[int, ...],
        image_size: tuple[int, int],
        image_grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.config = config
        self.gripper_indices = list(gripper_indices)
        self.image_size = image_size
        self.image_grid = image_grid
        self.touch_head = Head(dim + len(gripper_indices) + 1, config.feature_dim)
        self.vision_head = Head(dim, config.feature_dim)
        self.register_buffer("wrist", pairs.wrist, persistent=False)
        self.register_buffer("third", pairs.third, persistent=False)

    def forward(
        self, output: ModelOutput, batch: Batch, state: Tensor, contact: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute HSA_w + tp_weight * visibility * HSA_tp, without the overall weight.

        Args:
            output: What the model returned.
            batch: Boxes, their validity and visibility, episode and frame numbers.
            state: Normalised state (B, A).
            contact: Mean change of each touch image against its reference (B, S) [grey levels].

        Returns:
            The scalar loss and its metrics (detached scalars).
        """
        config = self.config
        tokens = output.backbone_tokens if config.source == "backbone" else output.layer_tokens[config.layer]
        touching = contact > config.contact_threshold
        touch = self._rows(self.touch_features(tokens.touch, state, touching))
        episode, frame = self._rows(batch[keys.EPISODE]), self._rows(batch[keys.FRAME])
        pair_mask = negative_pairs(episode, frame, self._rows(touching), config.time_gap)
        wrist_loss, third_loss = touch.new_zeros(()), touch.new_zeros(())
        metrics: list[dict[str, Tensor]] = []
        for n in range(self.wrist.shape[0]):
            weights, outside = self._weights(batch, n)
            vision = self.vision_head(pool(tokens.image[:, n].unsqueeze(1), weights))
            vision = self._rows(vision.flatten(0, 1))
            covered = (weights.sum((-2, -1)) > 0) & batch[keys.BOX_VALID][:, n]
            if bool(self.wrist[n].any()):
                valid = self._rows((covered & self.wrist[n]).flatten())
                negatives = self._negatives(tokens, n, outside, pair_mask)
                losses = self._losses(touch, vision, valid, negatives)
                wrist_loss = wrist_loss + _mean(losses, valid) / self.wrist.any(1).sum()
                metrics.append(alignment_metrics(touch, vision, valid, negatives, losses))
            if bool(self.third[n].any()):
                valid = self._rows((covered & self.third[n]).flatten())
                losses = self._losses(touch, vision, valid, Negatives(pair_mask, None, None, True))
                losses = losses * self._rows(batch[keys.VISIBILITY][:, n].flatten())
                third_loss = third_loss + _mean(losses, valid) / self.third.any(1).sum()
        result = {"hsa_w": wrist_loss.detach(), "hsa_tp": third_loss.detach()}
        for name in metrics[0] if metrics else ():
            result[name] = torch.stack([item[name] for item in metrics]).mean()
        return wrist_loss + config.tp_weight * third_loss, result

    def touch_features(self, tokens: Tensor, state: Tensor, touching: Tensor) -> Tensor:
        """Map touch tokens (B, S, T', D), gripper openings and contact (B, S) to features (R, F)."""
        mean = tokens.mean(2)
        opening = state[:, None, self.gripper_indices].expand(-1, mean.shape[1], -1)
        context = torch.cat([opening, touching.unsqueeze(-1).to(state)], dim=-1)
        return self.touch_head(torch.cat([mean, context.to(mean)], dim=-1)).flatten(0, 1)

    def _rows(self, rows: Tensor) -> Tensor:
        """Rows of all processes while training, with gradient: negatives do not depend on their number."""
        return gather_rows(rows, check=False) if self.training else rows

    def _weights(self, batch: Batch, camera: int) -> tuple[Tensor, Tensor]:
        """Return token weights of the boxes and which tokens lie outside the dilated boxes."""
        boxes = batch[keys.BOXES][:, camera]
        size, grid = self.image_size, self.image_grid
        extent = torch.stack([boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]], dim=-1)
        grown = boxes + self.config.dilate * torch.cat([-extent, extent], dim=-1)
        one_token = (size[0] / grid[0], size[1] / grid[1])
        outside = token_weights(dilate(grown, one_token), size, grid) == 0
        return token_weights(grown, size, grid), outside

    def _negatives(self, tokens: Tokens, camera: int, outside: Tensor, pair_mask: Tensor) -> Negatives:
        """Draw tokens of the same image outside the box: the same count for every row."""
        in_batch = "batch" in self.config.negatives
        if "tokens" not in self.config.negatives:
            return Negatives(pair_mask, None, None, in_batch)
        image = tokens.image[:, camera]
        candidates = outside.flatten(2)
        order = torch.rand(candidates.shape, device=image.device).masked_fill(~candidates, -1.0)
        drawn, index = order.topk(min(self.config.num_tokens, candidates.shape[-1]), dim=-1)
        features = self.vision_head(image)
        sample = torch.arange(len(image), device=image.device)[:, None, None]
        chosen = self._rows(features[sample, index].flatten(0, 1))
        return Negatives(pair_mask, chosen, self._rows((drawn >= 0).flatten(0, 1)), in_batch)

    def _losses(self, touch: Tensor, vision: Tensor, valid: Tensor, negatives: Negatives) -> Tensor:
        return hsa_loss(
            touch,
            vision,
            temperature=self.config.temperature,
            negatives=negatives.tokens,
            negative_mask=negatives.token_mask,
            pair_mask=negatives.pair_mask,
            valid=valid,
            in_batch=negatives.in_batch,
            reduction="none",
        )


def negative_pairs(episode: Tensor, frame: Tensor, touching: Tensor, time_gap: int) -> Tensor:
    """Say which rows may serve as negatives of each other.

    Never: the other finger in the same image, a neighbour within `time_gap` ticks of the same
    episode, or two rows without contact, whose gels look alike.

    Args:
        episode: (B,).
        frame: (B,).
        touching: (B, S).
        time_gap: In ticks.

    Returns:
        (R, R), True = may serve, symmetric.
    """
    num_sensors = touching.shape[1]
    rows_episode, rows_frame = (x.repeat_interleave(num_sensors) for x in (episode, frame))
    near = (rows_frame[:, None] - rows_frame[None]).abs() <= time_gap
    neighbours = near & (rows_episode[:, None] == rows_episode[None])
    blank = ~touching.flatten()
    return ~(neighbours | (blank[:, None] & blank[None]))


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
        hsa, hsa_chance (mean ln(1 + N)), hsa_ratio, hsa_top1, hsa_valid (share of valid rows).
    """
    t = torch.nn.functional.normalize(touch.float(), dim=-1)
    v = torch.nn.functional.normalize(vision.float(), dim=-1)
    others = ~torch.eye(len(t), dtype=torch.bool, device=t.device) & valid[None] & negatives.pair_mask
    allowed = others & negatives.in_batch
    similarity = t @ v.T
    best = similarity.masked_fill(~allowed, -2.0).amax(1)
    count = allowed.sum(1)
    if negatives.tokens is not None and negatives.token_mask is not None:
        n = torch.nn.functional.normalize(negatives.tokens.float(), dim=-1)
        scores = torch.einsum("rf,rkf->rk", t, n).masked_fill(~negatives.token_mask, -2.0)
        best = torch.maximum(best, scores.amax(1))
        count = count + negatives.token_mask.sum(1)
    compared = valid & (count > 0)
    chance = _mean(torch.log1p(count.float()), valid)
    loss = _mean(losses, valid)
    return {
        "hsa": loss,
        "hsa_chance": chance,
        "hsa_ratio": loss / chance.clamp(min=1e-6),
        "hsa_top1": _mean((similarity.diagonal() > best).float(), compared),
        "hsa_valid": valid.float().mean(),
    }


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)
