"""The ACT network with touch: image and touch tokens, latent and proprioception to a chunk.

Source: Zhao et al. 2023, arXiv:2304.13705; tonyzhaozh/act@742c753. Differences: touch tokens,
every decoder layer counts, optional camera embedding, pre-norm and a backbone of choice. Legend:
B batch, N cameras, S sensors, T tokens per image, C channels, D width, K chunk, A action, L latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit_learning.act_hsa.config import ModelConfig
from tacit_learning.data.spec import ModelSizes
from tacit_learning.layers.backbone import Backbone, BackboneIdentity, build_backbone
from tacit_learning.layers.positions import sine_1d, sine_2d
from tacit_learning.layers.taxels import TaxelEncoder
from tacit_learning.layers.transformer import Decoder, Encoder, xavier_uniform_


@dataclass(frozen=True)
class Tokens:
    """Tokens of one place in the network."""

    image: Tensor  # (B, N, T, D)
    touch: Tensor  # (B, S, T', D)


@dataclass(frozen=True)
class ModelOutput:
    """A chunk of normalised actions and what the losses need beside it."""

    chunk: Tensor  # (B, K, A)
    mu: Tensor | None  # (B, L)
    logvar: Tensor | None  # (B, L)
    tokens: Tokens  # that enter the encoder
    steps: Tensor  # of the chunk, as the decoder leaves them (B, K, D)
    encoded: Tensor  # what the decoder reads (B, L, D)


class LatentEncoder(nn.Module):
    """The CVAE posterior: [CLS, state, actions] to the mean and log variance of z."""

    position: Tensor

    def __init__(self, config: ModelConfig, action_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.state = nn.Linear(action_dim, dim)
        self.action = nn.Linear(action_dim, dim)
        self.encoder = Encoder(
            config.num_latent_layers, dim, config.heads, config.feedforward, config.dropout, config.norm
        )
        self.output = nn.Linear(dim, 2 * config.latent_dim)
        # start at the prior: with torch's default the weighted KL term is 40 at first, L1 below 1, and
        # both share one clipped gradient
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.register_buffer("position", sine_1d(2 + config.chunk_size, dim), persistent=False)

    def forward(self, state: Tensor, action: Tensor, is_pad: Tensor) -> tuple[Tensor, Tensor]:
        """Map state (B, A), actions (B, K, A), is_pad (B, K) to mu and logvar (B, L)."""
        keep = is_pad.unsqueeze(-1)
        tokens = [
            self.cls.expand(len(state), -1, -1),
            self.state(state).unsqueeze(1),
            self.action(action.masked_fill(keep, 0.0)),
        ]
        padding = torch.cat([is_pad.new_zeros(len(state), 2), is_pad], dim=1)
        encoded = self.encoder(torch.cat(tokens, dim=1), self.position, padding)
        mu, logvar = self.output(encoded[:, 0]).chunk(2, dim=-1)
        return mu, logvar


class ActModel(nn.Module):
    """Observation tokens through an encoder, K learned queries through a decoder.

    Args:
        config: Structure.
        sizes: What rig and data decide.
        identities: Backbones of a checkpoint (camera, touch), to rebuild without weight files.
    """

    image_position: Tensor
    touch_position: Tensor

    def __init__(
        self,
        config: ModelConfig,
        sizes: ModelSizes,
        identities: tuple[BackboneIdentity, BackboneIdentity] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.sizes = sizes
        self._build_encoders(identities)
        dim = config.dim
        arguments = (dim, config.heads, config.feedforward, config.dropout, config.norm)
        self.encoder = Encoder(config.num_encoder_layers, *arguments)
        self.decoder = Decoder(config.num_decoder_layers, *arguments)
        xavier_uniform_(self.encoder)
        xavier_uniform_(self.decoder)
        self.state = nn.Linear(sizes.action_dim, dim)
        self.state_position = nn.Parameter(torch.randn(1, dim))
        self.queries = nn.Parameter(torch.randn(config.chunk_size, dim))
        self.head = nn.Linear(dim, sizes.action_dim)
        if config.latent_dim:
            self.latent_encoder = LatentEncoder(config, sizes.action_dim)
            self.latent = nn.Linear(config.latent_dim, dim)
            self.latent_position = nn.Parameter(torch.randn(1, dim))

    def forward(
        self,
        state: Tensor,
        images: Tensor,
        touch: Tensor,
        action: Tensor | None = None,
        is_pad: Tensor | None = None,
        taxels: Tensor | None = None,
        features: Tensor | None = None,
    ) -> ModelOutput:
        """Predict a chunk; the posterior is used when `action` is given, else z = 0.

        Args:
            state: Normalised state (B, A).
            images: RGB in 0..1 (B, N, 3, H, W).
            touch: 0.5 + (RGB - no-contact reference) / 255 (B, S, 3, h, w).
            action: Normalised actions (B, K, A).
            is_pad: True beyond the end (B, K).
            taxels: Prepared readings of arrays (B, M), where there are any.
            features: Of the images, where they are known (B, N, C, h, w).
        """
        seen = self.encode_images(images) if features is None else _project(self.image_projection, features)
        tokens = Tokens(seen, self.encode_touch(touch, taxels))
        mu, logvar, latent = self._latent(state, action, is_pad)
        memory, position = self._sequence(state, tokens, latent)
        in_tokens = self.config.positions == "tokens"
        encoded = self.encoder(memory + position if in_tokens else memory, position)
        start = self.queries if in_tokens else None
        steps = self.decoder(self.queries, encoded, position, start)
        return ModelOutput(self.head(steps), mu, logvar, tokens, steps, encoded)

    def encode_images(self, images: Tensor) -> Tensor:
        """Map images (B, N, 3, H, W) to tokens (B, N, T, D), all cameras in one pass."""
        return _tokens(self.backbone, self.image_projection, images)

    def encode_touch(self, touch: Tensor, taxels: Tensor | None = None) -> Tensor:
        """Map touch images (B, S, 3, h, w) and readings of arrays (B, M) to tokens (B, S, T', D)."""
        felt = []
        if self.sizes.num_sensors:
            backbone = self.backbone if self.touch_backbone is None else self.touch_backbone
            felt.append(_tokens(backbone, self.touch_projection, touch))
        if taxels is not None and self.sizes.taxels:
            felt.append(self.taxel_encoder(taxels))
        return torch.cat(felt, 1) if felt else touch.new_zeros(len(touch), 0, 0, self.config.dim)

    def identities(self) -> tuple[BackboneIdentity, BackboneIdentity]:
        """Return what a checkpoint stores about the backbones."""
        touch = self.backbone if self.touch_backbone is None else self.touch_backbone
        return self.backbone.identity, touch.identity

    def _build_encoders(self, identities: tuple[BackboneIdentity, BackboneIdentity] | None) -> None:
        config, sizes = self.config, self.sizes
        camera, touch = identities or (None, None)
        self.backbone = build_backbone(
            config.backbone, config.conv, config.freeze_batch_norm, camera, config.train_backbone
        )
        shared = config.touch_backbone == "shared"
        self.touch_backbone = (
            None
            if shared
            else build_backbone(config.touch_backbone, config.touch_conv, config.freeze_batch_norm, touch)
        )
        touch_channels = (self.touch_backbone or self.backbone).channels
        self.image_projection = nn.Conv2d(self.backbone.channels, config.dim, 1)
        self.touch_projection = nn.Conv2d(touch_channels, config.dim, 1)
        self.image_grid = self.backbone.grid(*sizes.image_size)
        self.touch_grid = (self.touch_backbone or self.backbone).grid(*sizes.touch_size)
        self.register_buffer("image_position", _grid_positions(self.image_grid, config.dim), persistent=False)
        self.register_buffer("touch_position", _grid_positions(self.touch_grid, config.dim), persistent=False)
        if sizes.taxels:
            self.taxel_encoder = TaxelEncoder(sizes.taxels, config.dim, self.touch_grid)
        self.camera_embedding = (
            nn.Parameter(torch.randn(sizes.num_cameras, 1, config.dim)) if config.camera_embedding else None
        )
        self.touch_embedding = nn.Parameter(torch.randn(sizes.num_touch, 1, config.dim))

    def felt(self, output: ModelOutput) -> Tensor:
        """Return the mean of what the encoder makes of each touch sensor (B, S, D)."""
        sensors, tokens = output.tokens.touch.shape[1:3]
        first = 2 if self.config.latent_dim else 1  # as `_sequence` joins them
        return output.encoded[:, first : first + sensors * tokens].unflatten(1, (sensors, tokens)).mean(2)

    def _latent(
        self, state: Tensor, action: Tensor | None, is_pad: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return mu, logvar and the latent token (B, 1, D); None where the model has no CVAE."""
        if not self.config.latent_dim:
            return None, None, None
        if action is None or is_pad is None:
            zero = state.new_zeros(len(state), self.config.latent_dim)
            return None, None, self.latent(zero).unsqueeze(1)
        mu, logvar = self.latent_encoder(state, action, is_pad)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu) if self.training else mu
        return mu, logvar, self.latent(z).unsqueeze(1)

    def _sequence(self, state: Tensor, tokens: Tokens, latent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Join [latent, state, touch, images] (B, L, D) and their positions (L, D)."""
        image_position = self.image_position.expand(self.sizes.num_cameras, -1, -1)
        if self.camera_embedding is not None:
            image_position = image_position + self.camera_embedding
        touch_position = self.touch_position + self.touch_embedding
        memory = [self.state(state).unsqueeze(1), tokens.touch.flatten(1, 2), tokens.image.flatten(1, 2)]
        position = [self.state_position, touch_position.flatten(0, 1), image_position.flatten(0, 1)]
        if latent is not None:
            memory.insert(0, latent)
            position.insert(0, self.latent_position)
        return torch.cat(memory, dim=1), torch.cat(position, dim=0)


def _tokens(backbone: Backbone, projection: nn.Conv2d, images: Tensor) -> Tensor:
    """Map (B, N, 3, H, W) to (B, N, T, D) in one pass over all images."""
    return _project(projection, backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2]))


def _project(projection: nn.Conv2d, features: Tensor) -> Tensor:
    """Map features (B, N, C, h, w) to tokens (B, N, T, D)."""
    grid = projection(features.flatten(0, 1))
    return grid.flatten(2).transpose(1, 2).unflatten(0, features.shape[:2])


def _grid_positions(grid: tuple[int, int], dim: int) -> Tensor:
    return sine_2d(*grid, dim).flatten(0, 1)
