"""The causal progress estimator: frozen image features, state and elapsed time through a GRU.

Dense loss on every frame (design: prefixes and broadcast lengths leak or starve). The value of
frame t uses frames up to t only; a streamed run equals the batch. Legend: B batch, T time,
N cameras, S sensors, F features, A state, H hidden.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config
from tacit_learning.alignment.config import HeadConfig
from tacit_learning.data.spec import ModelSizes
from tacit_learning.data.windows import Batch
from tacit_learning.layers.backbone import Backbone, BackboneIdentity, ConvSpec, build_backbone
from tacit_learning.layers.inputs import prepare_images, prepare_touch
from tacit_learning.layers.pooling import token_weights

FEATURES, STATE, ELAPSED, PROGRESS, MASK = "features", "state", "elapsed", "progress", "mask"
OUTLIER = 10.0  # standard deviations; a feature beyond is no measurement (and would cost float precision)
START_BIAS = -2.0  # sigmoid(-2) = .12: an untrained head says "near the start"


class EncoderSpec(Config):
    """How to rebuild the frozen encoder of a checkpoint."""

    backbone: str
    conv: ConvSpec
    touch_backbone: str
    touch_conv: ConvSpec
    identities: tuple[BackboneIdentity, BackboneIdentity] | None = None
    grid: int = 2


class FrameEncoder(nn.Module):
    """Frozen features of one frame: every camera over grid x grid fields, every touch as a whole.

    Args:
        spec: Backbones.
        sizes: Number and size of the images.
    """

    references: Tensor
    fields: Tensor

    def __init__(self, spec: EncoderSpec, sizes: ModelSizes) -> None:
        super().__init__()
        camera, touch = spec.identities or (None, None)
        self.backbone = build_backbone(spec.backbone, spec.conv, identity=camera)
        self.touch_backbone: Backbone | None = None
        if spec.touch_backbone != "shared":
            self.touch_backbone = build_backbone(spec.touch_backbone, spec.touch_conv, identity=touch)
        self.sizes = sizes
        blank = torch.zeros(sizes.num_sensors, *sizes.touch_size, 3, dtype=torch.uint8)
        self.register_buffer("references", blank)
        fields = _field_weights(spec.grid, self.backbone.grid(*sizes.image_size))
        self.register_buffer("fields", fields, persistent=False)
        touch_channels = (self.touch_backbone or self.backbone).channels
        self.num_features = sizes.num_cameras * spec.grid**2 * self.backbone.channels
        self.num_features += sizes.num_sensors * touch_channels
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> FrameEncoder:
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    def forward(self, images: Tensor, touch: Tensor) -> Tensor:
        """Map images (B, N, H, W, 3) u1 and touch (B, S, h, w, 3) u1 to features (B, F)."""
        grid = self.backbone(prepare_images(images).flatten(0, 1)).flatten(2)
        features = [torch.einsum("bcl,gl->bgc", grid, self.fields).reshape(len(images), -1)]
        if self.sizes.num_sensors:
            difference, _ = prepare_touch(touch, self.references)
            backbone = self.backbone if self.touch_backbone is None else self.touch_backbone
            features.append(backbone(difference.flatten(0, 1)).mean((2, 3)).reshape(len(images), -1))
        return torch.cat(features, dim=1)


class ProgressModel(nn.Module):
    """Progress and done probability of every frame.

    Args:
        config: Sizes of the head.
        encoder: Frozen encoder.
        state_dim: A.
        done_at: Progress that counts as done.
        done_weight: Weight of the done term.
    """

    feature_mean: Tensor
    feature_std: Tensor
    state_mean: Tensor
    state_std: Tensor

    def __init__(
        self, config: HeadConfig, encoder: FrameEncoder, state_dim: int, done_at: float, done_weight: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden_size = config.hidden
        self.cap = math.log1p(config.elapsed_cap_s)
        self.done_at = done_at
        self.done_weight = done_weight
        self.input = nn.Linear(encoder.num_features + state_dim + 1, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.width, config.hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2)
        )
        nn.init.constant_(self.head[2].bias, START_BIAS)  # type: ignore[arg-type]
        for name, size in (("feature", encoder.num_features), ("state", state_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def forward(self, batch: Batch, step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute mean |progress - target| + done_weight BCE over the frames that exist.

        Args:
            batch: features (B, T, F), state (B, T, A), elapsed (B, T) [s], progress (B, T),
                mask (B, T).
            step: Ignored.
        """
        logits, _ = self.sequence(batch[FEATURES], batch[STATE], batch[ELAPSED])
        mask, target = batch[MASK], batch[PROGRESS]
        count = mask.sum().clamp(min=1)
        error = (logits[..., 0].sigmoid() - target).abs().masked_fill(~mask, 0.0).sum() / count
        done = (target >= self.done_at).to(logits)
        cross_entropy = F.binary_cross_entropy_with_logits(logits[..., 1], done, reduction="none")
        done_loss = cross_entropy.masked_fill(~mask, 0.0).sum() / count
        loss = error + self.done_weight * done_loss
        return loss, {"loss": loss.detach(), "mae": error.detach(), "done_bce": done_loss.detach()}

    def sequence(
        self, features: Tensor, state: Tensor, elapsed: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over frames in order.

        Args:
            features: Of the encoder (B, T, F).
            state: Canonical units (B, T, A).
            elapsed: Seconds since the start of the clip (B, T).
            hidden: Memory (B, H); None: zero.

        Returns:
            Logits of progress and done (B, T, 2), and the memory (B, H).
        """
        x = ((features - self.feature_mean) / self.feature_std).clamp(-OUTLIER, OUTLIER)
        s = (state - self.state_mean) / self.state_std
        time = (torch.log1p(elapsed.clamp(min=0.0)) / self.cap).unsqueeze(-1)
        entered = self.dropout(torch.relu(self.input(torch.cat([self.dropout(x), s, time], dim=-1))))
        start = hidden.unsqueeze(0) if hidden is not None else entered.new_zeros(1, len(x), self.hidden_size)
        outputs, last = self.gru(entered, start)
        return self.head(outputs), last.squeeze(0)

    def step(
        self, state: Tensor, images: Tensor, touch: Tensor, hidden: Tensor, elapsed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one frame with explicit memory: what the exported graph does.

        Args:
            state: (1, A) canonical units.
            images: (1, N, H, W, 3) u1.
            touch: (1, S, h, w, 3) u1.
            hidden: (1, H).
            elapsed: (1, 1) [s].

        Returns:
            Progress (1, 1), done (1, 1), new memory (1, H).
        """
        features = self.encoder(images, touch)
        logits, last = self.sequence(features.unsqueeze(1), state.unsqueeze(1), elapsed, hidden)
        values = logits[:, 0].sigmoid()
        return values[:, :1], values[:, 1:], last

    def set_normalisation(self, features: Tensor, state_mean: Tensor, state_std: Tensor) -> None:
        """Store the statistics of training features (T, F) and of the state."""
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp(min=1e-2 * float(features.std()) + 1e-6))
        self.state_mean.copy_(state_mean)
        self.state_std.copy_(state_std)


def _field_weights(grid: int, size: tuple[int, int]) -> Tensor:
    """Return the average over each of grid x grid equal fields of h x w cells (grid^2, h*w)."""
    rows, columns = size
    edges_y = torch.linspace(0, rows, grid + 1)
    edges_x = torch.linspace(0, columns, grid + 1)
    boxes = [
        [edges_x[j], edges_y[i], edges_x[j + 1], edges_y[i + 1]] for i in range(grid) for j in range(grid)
    ]
    return token_weights(torch.tensor(boxes), size, size).flatten(1)
