"""The HSA term of the policy: which rows, which negatives, and how it compares with chance.

Rows are (sample, sensor) pairs, in training those of all processes. A wrist camera sees the sensors of
its own arm; a camera in the world is a third person, weighted by visibility. Touch and vision have heads
of their own. The head of touch reads the gel and which sensor it is, and nothing else: gripper opening and
contact would tell the place of the box without any touch. Legend: B batch, N cameras, S sensors, R = B*S
rows, T tokens per image, D width, F feature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, did_you_mean
from tacit.rig import Rig
from tacit_learning.act_hsa.config import HsaConfig
from tacit_learning.act_hsa.model import Tokens
from tacit_learning.act_hsa.negatives import (
    Bank,
    Negatives,
    Rows,
    alignment_metrics,
    draw_tokens,
    may_differ,
    mean_of,
    rows_of,
)
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.engine.distributed import gather_rows
from tacit_learning.layers.pooling import dilate, pool, token_weights

IDENTITY_STD = 0.1  # of the code of a sensor at first: small beside what the gel says
TEMPERATURES = (0.01, 0.5)  # a learnt kappa stays between them; CLIP's floor is .01


@dataclass(frozen=True)
class ViewPairs:
    """Which sensors each camera is aligned with: (N, S) bool for both kinds of view."""

    wrist: Tensor
    third: Tensor


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


def displaced(weights: Tensor) -> Tensor:
    """Move weights over tokens (..., h, w) by half the picture, round its edges: none leaves it."""
    return weights.roll((weights.shape[-2] // 2, weights.shape[-1] // 2), (-2, -1))


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
        image_size: tuple[int, int],
        image_grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.image_grid = image_grid
        self.sensor = nn.Parameter(IDENTITY_STD * torch.randn(pairs.wrist.shape[1], dim))
        self.touch_head = Head(dim, config.feature_dim)
        self.vision_head = Head(dim, config.feature_dim)
        start = torch.tensor(math.log(config.temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=config.learn_temperature)
        if "camera" in config.negatives and int(pairs.wrist.any(1).sum()) < 2:
            raise ConfigError(
                "hsa.negatives: camera compares the wrist cameras of several arms; this policy has "
                f"{int(pairs.wrist.any(1).sum())}; leave it out"
            )
        self.banks = nn.ModuleList(
            Bank(config.queue_size, config.feature_dim)
            for _ in range(pairs.wrist.shape[0])
            if "queue" in config.negatives
        )
        self.register_buffer("wrist", pairs.wrist, persistent=False)
        self.register_buffer("third", pairs.third, persistent=False)

    def forward(self, tokens: Tokens, batch: Batch, contact: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute HSA_w + tp_weight * visibility * HSA_tp, without the overall weight.

        Args:
            tokens: That enter the policy's encoder.
            batch: Boxes, their validity and visibility, episode and frame numbers.
            contact: Mean change of each touch image against its reference (B, S) [grey levels].

        Returns:
            The scalar loss and its metrics (detached scalars); those of single rows are of wrist cameras.
        """
        touch = self.touch_features(tokens.touch)
        touching = contact > self.config.contact_threshold
        episode, frame = self._rows(batch[keys.EPISODE]), self._rows(batch[keys.FRAME])
        rows = rows_of(episode, frame, self._rows(touching))
        pair_mask = may_differ(rows, rows, self.config.time_gap)
        terms = {"wrist": touch.new_zeros(()), "third": touch.new_zeros(())}
        metrics: list[dict[str, Tensor]] = []
        for n in range(self.wrist.shape[0]):
            for name, pairs in (("wrist", self.wrist), ("third", self.third)):
                if not bool(pairs[n].any()):
                    continue
                seen = (n, pairs[n], tokens, touch, batch, touching, rows, pair_mask, name == "third")
                loss, measured = self._view(*seen)
                terms[name] = terms[name] + loss / pairs.any(1).sum()
                metrics += [measured] if name == "wrist" else []
        result = {"hsa_w": terms["wrist"].detach(), "hsa_tp": terms["third"].detach()}
        for name in metrics[0] if metrics else ():
            result[name] = torch.stack([item[name] for item in metrics]).mean()
        if self.config.learn_temperature:
            result["hsa_temperature"] = self.temperature().detach()
        return terms["wrist"] + self.config.tp_weight * terms["third"], result

    def temperature(self) -> Tensor:
        """Return kappa, within limits where it is learnt."""
        return self.log_temperature.exp().clamp(*TEMPERATURES)

    def touch_features(self, tokens: Tensor) -> Tensor:
        """Map touch tokens (B, S, T', D) to features (B, S, F), which also tell the sensor."""
        return self.touch_head(tokens.mean(2) + self.sensor)

    def weights(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return token weights (..., h, w) of boxes (..., 4) and which tokens lie outside them, dilated."""
        size, grid = self.image_size, self.image_grid
        extent = torch.stack([boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]], dim=-1)
        grown = boxes + self.config.dilate * torch.cat([-extent, extent], dim=-1)
        one_token = (size[0] / grid[0], size[1] / grid[1])
        outside = token_weights(dilate(grown, one_token), size, grid) == 0
        return token_weights(grown, size, grid), outside

    def _view(
        self,
        camera: int,
        paired: Tensor,
        tokens: Tokens,
        touch: Tensor,
        batch: Batch,
        touching: Tensor,
        origin: Rows,
        pair_mask: Tensor,
        is_third: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one camera with the sensors that are paired with it, and its metrics."""
        weights, outside = self.weights(batch[keys.BOXES][:, camera])
        if self.config.control == "displaced":
            weights, outside = displaced(weights), displaced(outside)
        image = tokens.image[:, camera]
        vision = self._rows(self.vision_head(pool(image.unsqueeze(1), weights)).flatten(0, 1))
        covered = (weights.sum((-2, -1)) > 0) & batch[keys.BOX_VALID][:, camera]
        if is_third and self.config.third_person == "seen":
            covered = covered & ~touching
        valid, rows = self._rows((covered & paired).flatten()), self._rows(touch.flatten(0, 1))
        if self.config.control == "shuffled":  # of the next sample, all processes taken together
            rows = rows.roll(touch.shape[1], 0)
        negatives = self._negatives(camera, tokens, touch, outside, batch, origin, pair_mask)
        losses = negatives.losses(rows, vision, valid, self.temperature())
        if (bank := self._bank(camera)) is not None:
            bank.push(vision, origin, valid)
        if is_third:  # nobody reads how well single rows of it do
            losses = losses * self._rows(batch[keys.VISIBILITY][:, camera].flatten())
            return mean_of(losses, valid), {}
        return mean_of(losses, valid), alignment_metrics(rows, vision, valid, negatives, losses)

    def _negatives(
        self,
        camera: int,
        tokens: Tokens,
        touch: Tensor,
        outside: Tensor,
        batch: Batch,
        origin: Rows,
        pair_mask: Tensor,
    ) -> Negatives:
        """Gather what the rows of one camera are compared with, as `hsa.negatives` names it."""
        config = self.config
        own: list[tuple[Tensor, Tensor]] = []
        if "tokens" in config.negatives:
            features = self.vision_head(tokens.image[:, camera])
            own.append(draw_tokens(features, touch, outside.flatten(2), config.num_tokens, config.hard_share))
        if "camera" in config.negatives and bool(self.wrist[camera].any()):
            own.append(self._other_wrists(camera, tokens, batch))
        found = self._rows(torch.cat([features for features, _ in own], 1)) if own else None
        mask = self._rows(torch.cat([each for _, each in own], 1)) if own else None
        bank = self._bank(camera)
        held, may = (None, None) if bank is None else bank.negatives(origin, config.time_gap)
        return Negatives(pair_mask, found, mask, "batch" in config.negatives, held, may)

    def _bank(self, camera: int) -> Bank | None:
        """Return the queue of a camera; validation has none, for its batches are the same each time."""
        if not (self.banks and self.training):
            return None
        bank = self.banks[camera]
        assert isinstance(bank, Bank)
        return bank

    def _other_wrists(self, camera: int, tokens: Tokens, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what other wrist cameras see of their sensors at that time (R, k, F), and if so (R, k)."""
        found, seen = [], []
        for n in torch.nonzero(self.wrist.any(1)).flatten().tolist():
            if n != camera:
                weights, _ = self.weights(batch[keys.BOXES][:, n])
                found.append(self.vision_head(pool(tokens.image[:, n].unsqueeze(1), weights)))
                seen.append((weights.sum((-2, -1)) > 0) & batch[keys.BOX_VALID][:, n] & self.wrist[n])
        sensors = self.wrist.shape[1]
        features, mask = torch.cat(found, 1), torch.cat(seen, 1)
        return features.repeat_interleave(sensors, 0), mask.repeat_interleave(sensors, 0)

    def _rows(self, rows: Tensor) -> Tensor:
        """Rows of all processes while training, with gradient: negatives do not depend on their number."""
        return gather_rows(rows, check=False) if self.training else rows
