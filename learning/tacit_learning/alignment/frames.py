"""Frozen features of recorded frames: every camera over a few fields, every touch image as a whole.

The encoder is a copy of the backbones of a trained policy, or a backbone by name. It runs once over all
frames of a data set, and again inside the exported graph. Legend: B batch, N cameras, S sensors, T frames
of a table, F features, A state.
"""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor, nn

from tacit.config import Config
from tacit_learning.act_hsa.train import TrainedPolicy
from tacit_learning.data.episodes import EpisodeTable
from tacit_learning.data.spec import ModelSizes, PolicySpec
from tacit_learning.data.view import DataConfig
from tacit_learning.layers.backbone import Backbone, BackboneIdentity, ConvSpec, build_backbone
from tacit_learning.layers.inputs import prepare_images, prepare_touch
from tacit_learning.layers.pooling import token_weights

ENCODE_BATCH = 64  # frames at once: 128 camera images of a small backbone fit any accelerator


class EncoderConfig(Config):
    """Where frozen image features come from: a trained ACT-HSA policy (`checkpoint`) or a `backbone` by name.

    With a checkpoint, stream names, image sizes and touch references are those of the policy. `grid`: each
    camera image is averaged over grid x grid equal fields; a touch image is averaged as a whole.
    """

    checkpoint: str | None = None
    backbone: str | None = None
    conv: ConvSpec = ConvSpec()
    grid: int = 2

    @model_validator(mode="after")
    def _one_source(self) -> EncoderConfig:
        if (self.checkpoint is None) == (self.backbone is None):
            raise ValueError("give exactly one of checkpoint (a trained policy) and backbone")
        return self


class EncoderSpec(Config):
    """How to rebuild the frozen encoder of a checkpoint without the policy that it came from."""

    backbone: str
    conv: ConvSpec
    touch_backbone: str
    touch_conv: ConvSpec
    identities: tuple[BackboneIdentity, BackboneIdentity] | None = None
    grid: int = 2


class FrameEncoder(nn.Module):
    """Frozen features of one frame.

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
        """Stay in evaluation mode: the encoder is frozen, so its normalisation must not follow batches."""
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


def make_encoder(
    config: EncoderConfig, spec: PolicySpec, policy: TrainedPolicy | None
) -> tuple[FrameEncoder, EncoderSpec]:
    """Build the frozen encoder: a copy of the policy's backbones, or a backbone by name."""
    if policy is None:
        blank = EncoderSpec(
            backbone=str(config.backbone),
            conv=config.conv,
            touch_backbone="shared",
            touch_conv=config.conv,
            grid=config.grid,
        )
        encoder = FrameEncoder(blank, spec.sizes)
        assert spec.references is not None
        encoder.references.copy_(spec.references)
        identity = encoder.backbone.identity
        return encoder, blank.model_copy(update={"identities": (identity, identity)})
    model, trained = policy.config.model, policy.policy.model
    encoder_spec = EncoderSpec(
        backbone=model.backbone,
        conv=model.conv,
        touch_backbone=model.touch_backbone,
        touch_conv=model.touch_conv,
        identities=trained.identities(),
        grid=config.grid,
    )
    encoder = FrameEncoder(encoder_spec, spec.sizes)
    encoder.backbone.load_state_dict(trained.backbone.state_dict())
    if encoder.touch_backbone is not None and trained.touch_backbone is not None:
        encoder.touch_backbone.load_state_dict(trained.touch_backbone.state_dict())
    # a policy that reads touch against the gel of each run has none of its own; the difference is the same
    own = spec.references if policy.policy.touch_reference == "run" else policy.policy.references
    assert own is not None
    encoder.references.copy_(own)
    return encoder, encoder_spec


@torch.no_grad()
def encode(encoder: FrameEncoder, table: EpisodeTable, device: torch.device) -> Tensor:
    """Compute the features of every frame once.

    Args:
        encoder: It is moved to `device` and stays there.
        table: T frames.
        device: Where images are encoded. Of a short run this is most of the work, so it belongs on the
            accelerator that trains.

    Returns:
        Features (T, F) on the CPU, where batches are gathered.
    """
    encoder = encoder.to(device).eval()
    features = []
    for start in range(0, len(table), ENCODE_BATCH):
        images, touch = table.images(range(start, min(start + ENCODE_BATCH, len(table))))
        found = encoder(torch.from_numpy(images).to(device), torch.from_numpy(touch).to(device))
        features.append(found.cpu())
    return torch.cat(features)


def frame_features(images: Tensor, state: Tensor) -> Tensor:
    """Put features of the images (..., F) and the state (..., A) together (..., F + A)."""
    return torch.cat([images, state], dim=-1)


def like_policy(data: DataConfig, policy: DataConfig) -> DataConfig:
    """Take stream names and sizes from the policy whose encoder is used."""
    names = ("cameras", "sensors", "image_height", "image_width", "touch_height", "touch_width", "resize")
    return data.model_copy(update={name: getattr(policy, name) for name in names})


def _field_weights(grid: int, size: tuple[int, int]) -> Tensor:
    """Return the average over each of grid x grid equal fields of h x w cells (grid^2, h*w)."""
    rows, columns = size
    edges_y = torch.linspace(0, rows, grid + 1)
    edges_x = torch.linspace(0, columns, grid + 1)
    boxes = [
        [edges_x[j], edges_y[i], edges_x[j + 1], edges_y[i + 1]] for i in range(grid) for j in range(grid)
    ]
    return token_weights(torch.tensor(boxes), size, size).flatten(1)
