"""VACE-E: the Wan2.1-VACE transformer, the encoders of its streams, and the heads of its losses."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.vace_e.config_model import EncoderConfig, ModelConfig
from tacit_learning.vace_e.model.encoders import Encoders
from tacit_learning.vace_e.model.fusion import Condition, Fusion
from tacit_learning.vace_e.model.pointing import places_of
from tacit_learning.vace_e.model.signals import Signals
from tacit_learning.vace_e.model.transformer import VaceETransformer

PREFIX = "model."
"""Prefix of the names of weights in a checkpoint: there the model is part of its objective."""


class Features(NamedTuple):
    """What the feature losses read: z for CLUB and probes, p for the contrastive losses."""

    z_task: Tensor  # (B, feature_dim)
    z_emb: Tensor  # (B, feature_dim)
    p_task: Tensor  # (B, projection_dim)
    p_emb: Tensor  # (B, projection_dim)


class VaceE(nn.Module):
    """The trainable whole. `condition` reads the streams, `forward` predicts the velocity.

    With `with_streams` false it is base VACE, for recipes that train adapters of the base alone.
    """

    def __init__(self, config: ModelConfig, transformer: VaceETransformer, with_streams: bool = True) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.encoders: Encoders | None = None
        if with_streams:
            self.encoders = Encoders(config.encoders, config.backbone.text_dim, config.streams)
            self.project_task = _projection(config.encoders)
            self.project_embodiment = _projection(config.encoders)
            transformer.fusion = Fusion(config, transformer.blocks)

    def conditioning(self, signals: Signals, num_reference: int = 0) -> Condition | None:
        """Encode the streams; None for base VACE.

        Args:
            signals: Streams of the batch.
            num_reference: Leading latent frames that hold a reference image.
        """
        if self.encoders is None:
            return None
        places = places_of(signals) if self.config.task_processing else None
        return Condition.of(self.encoders(signals), num_reference, places)

    def features(self, signals: Signals) -> Features:
        """Compute features and their projections."""
        if self.encoders is None:
            raise ValueError("VaceE.features: this model has no streams")
        encoded = self.encoders(signals)
        return self.project(encoded.z_task, encoded.z_emb)

    def project(self, z_task: Tensor, z_emb: Tensor) -> Features:
        """Add projections to features, for the losses of a video batch."""
        with torch.autocast(z_task.device.type, enabled=False):
            return Features(z_task, z_emb, self.project_task(z_task), self.project_embodiment(z_emb))

    def forward(
        self,
        noisy_latents: Tensor,
        timestep: Tensor,
        control_latents: Tensor,
        text_embeds: Tensor,
        condition: Condition | None,
        control_scale: float = 1.0,
    ) -> Tensor:
        """Predict the velocity.

        Args:
            noisy_latents: (B, 16, T, H, W), reference slots included.
            timestep: 1000 sigma (B,).
            control_latents: (B, 96, T, H, W), see `conditioning.join_control`.
            text_embeds: Zero-padded to the text length (B, 512, text_dim).
            condition: From `conditioning`; None: base VACE.
            control_scale: Weight of what the control latents add.

        Returns:
            (B, 16, T, H, W), in the number type of the latents.
        """
        count = len(self.config.backbone.vace_layers)
        scales = None if control_scale == 1 else control_latents.new_full((count,), control_scale)
        with self._precision(noisy_latents.device.type):
            velocity = self.transformer(
                hidden_states=noisy_latents,
                timestep=timestep,
                encoder_hidden_states=text_embeds,
                control_hidden_states=control_latents,
                control_hidden_states_scale=scales,
                condition=condition,
                return_dict=False,
            )[0]
        return velocity.to(noisy_latents.dtype)

    def _precision(self, device: str) -> contextlib.AbstractContextManager[object]:
        """Return autocast where weights of several number types would meet outside of it."""
        embeddings = (self.transformer.patch_embedding, self.transformer.vace_patch_embedding)
        half = [layer.weight.dtype for layer in embeddings if layer.weight.dtype != torch.float32]
        if not half or torch.is_autocast_enabled(device):
            return contextlib.nullcontext()
        return torch.autocast(device, half[0])


def build_model(config: ModelConfig, with_streams: bool = True) -> VaceE:
    """Build a model with random weights (of the global generator, on the default device)."""
    return VaceE(config, VaceETransformer(**config.backbone.arguments()), with_streams)


def train_in_float32(model: VaceE, groups: Collection[str]) -> None:
    """Turn the weights of groups that will train to float32: in bf16 most steps of AdamW round to none."""
    for name, members in parameter_groups(model).items():
        for parameter in members if name in groups else ():
            parameter.data = parameter.data.float()


def parameter_groups(model: VaceE) -> dict[str, list[nn.Parameter]]:
    """Return every parameter in exactly one group, by what the stages of training name.

    `vace_e`: encoders, fusion and projections; `vace`: the control branch; `dit`: the rest of the
    base; `lora:<name>`: each set of low-rank adapters.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(group_of(name), []).append(parameter)
    return groups


def group_of(name: str) -> str:
    """Return the group of a parameter of `VaceE` by its name."""
    parts = name.split(".")
    if parts[0] != "transformer" or parts[1] == "fusion":
        return "vace_e"
    for kind in ("lora_A", "lora_B"):
        if kind in parts:
            return f"lora:{parts[parts.index(kind) + 1]}"
    return "vace" if parts[1] in ("vace_blocks", "vace_patch_embedding") else "dit"


def _projection(config: EncoderConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.feature_dim, config.feature_dim),
        nn.ReLU(),
        nn.Linear(config.feature_dim, config.projection_dim),
    )
