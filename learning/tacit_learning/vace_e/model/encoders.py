"""Encoders of the streams: tokens with true time, and the features z_task and z_emb.

Every stream ends in one learned null token that always attends, so an absent stream is an input like
any other and no softmax is empty. Runs in float32: bf16 steps of a position near 1 m are 4-8 mm.
Legend: B batch, L tokens, T time rows, J latent frames, N objects, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.layers.positions import TEMPERATURE
from tacit_learning.layers.transformer import Attention, Encoder, EncoderLayer, FeedForward, Residual
from tacit_learning.vace_e.config_model import STREAMS, TASK_STREAMS, TEMPORAL, EncoderConfig, Stream
from tacit_learning.vace_e.model.balance import Balance
from tacit_learning.vace_e.model.signals import Signals

WAVES = tuple(2.0**-k for k in range(-1, 5))
"""Wavelengths in which values are told [m], 2 m .. 6 cm: a network learns places from these, and hardly from
the bare numbers (Tancik et al. 2020, arXiv:2006.10739)."""
ROUNDING = 1e-3  # frames: a time of 4.0001 belongs to the latent frame of 4


class Tokens(NamedTuple):
    """Tokens of one or several streams, and which of them exist."""

    values: Tensor  # (B, L, D)
    mask: Tensor  # (B, L) bool


class Encoded(NamedTuple):
    """What a batch of signals says: tokens for the video, features for the losses."""

    task: Tokens
    embodiment: Tokens
    z_task: Tensor  # (B, feature_dim)
    z_emb: Tensor  # (B, feature_dim)


def sinusoid(time: Tensor, dim: int) -> Tensor:
    """Encode real numbers (...) as (..., dim): sines, then cosines, of periods 2 pi .. 2 pi 10000."""
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = time.float().unsqueeze(-1) * torch.exp(-math.log(TEMPERATURE) * exponent)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def waves(values: Tensor, valid: Tensor) -> Tensor:
    """Return values (..., W) with their sines and cosines of each length of `WAVES`, and validity.

    What is not valid is 0 throughout: (..., (2 + 2 len(WAVES)) W).
    """
    known = torch.where(valid, values, 0.0).float()
    angles = [2 * math.pi / length * known for length in WAVES]
    told = [known, *(each.sin() for each in angles), *(each.cos() * valid for each in angles)]
    return torch.cat([*told, valid.to(known.dtype)], dim=-1)


def latent_frame_times(count: int, device: torch.device | None = None) -> Tensor:
    """Return the middle of each latent frame in frames (J,): frame 0, then frames 4j-3..4j."""
    times = TEMPORAL * torch.arange(count, dtype=torch.float32, device=device) - (TEMPORAL - 1) / 2
    return times.clamp(min=0)


def pool_to_latent_frames(values: Tensor, mask: Tensor, times: Tensor, count: int) -> Tokens:
    """Average the rows whose time falls in a latent frame.

    Args:
        values: (B, T, D).
        mask: True = the row exists (B, T).
        times: In frames of the window (B, T); those outside count to the first or last latent frame.
        count: J.

    Returns:
        One token per latent frame (B, J, D); those without a row are masked.
    """
    index = torch.ceil((torch.where(mask, times, 0.0) - ROUNDING) / TEMPORAL).clamp(0, count - 1)
    frames = torch.arange(count, device=index.device)
    member = ((index.unsqueeze(-1) == frames) & mask.unsqueeze(-1)).to(values.dtype)
    number = member.sum(1)
    total = torch.einsum("btj,btd->bjd", member, values)
    return Tokens(total / number.clamp(min=1).unsqueeze(-1), number > 0)


class MotionEncoder(nn.Module):
    """Values and their validity, plus the sine code of their time; attention over time."""

    def __init__(self, config: EncoderConfig, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear((2 + 2 * len(WAVES)) * width, config.dim)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(width))  # or the time code drowns the values
        self.register = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.encoder = Encoder(layers, config.dim, config.heads, config.feedforward, 0.0, "pre")

    def forward(
        self, values: Tensor, valid: Tensor, times: Tensor, count: int, offset: Tensor | None = None
    ) -> Tokens:
        """Encode rows (B, T, width) that are valid where `valid` says, at `times` (B, T), to J tokens.

        Args:
            values: Any number where not valid, NaN included.
            valid: (B, T, width) bool.
            times: In frames of the window.
            count: J, latent frames of the window.
            offset: Added to every row (B, D), for example who it belongs to.
        """
        rows = valid.any(-1)
        code = sinusoid(torch.where(rows, times, 0.0), self.register.numel())
        x = self.embed(waves(values, valid)) + code
        if offset is not None:
            x = x + offset.unsqueeze(1)
        # the register always attends, so rows that are all masked give no NaN
        x = torch.cat([self.register.expand(len(x), 1, -1), x], dim=1)
        code = torch.cat([torch.zeros_like(code[:, :1]), code], dim=1)
        hidden = nn.functional.pad(~rows, (1, 0), value=False)
        return pool_to_latent_frames(self.encoder(x, code, hidden)[:, 1:], rows, times, count)


class ObjectEncoder(nn.Module):
    """One encoder for all objects over time, told apart by their ids, then attention among objects.

    Permuting the objects together with their ids changes nothing but the order of the tokens.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.over_time = MotionEncoder(config, config.object_width, config.object_layers)
        self.identity = nn.Linear(config.dim, config.dim)
        self.register = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.over_objects = Encoder(1, config.dim, config.heads, config.feedforward, 0.0, "pre")

    def forward(self, objects: Tensor, valid: Tensor, ids: Tensor, times: Tensor, count: int) -> Tokens:
        """Encode tracks (B, N, T, 9), valid (B, N, T), with ids (B, N), to N x J tokens."""
        batch, number, rows, width = objects.shape
        identity = self.identity(sinusoid(ids, self.dim)).flatten(0, 1)
        tracks = self.over_time(
            objects.flatten(0, 1),
            valid.flatten(0, 1).unsqueeze(-1).expand(-1, -1, width),
            times.unsqueeze(1).expand(batch, number, rows).flatten(0, 1),
            count,
            identity,
        )
        values = tracks.values.unflatten(0, (batch, number)).transpose(1, 2).flatten(0, 1)
        mask = tracks.mask.unflatten(0, (batch, number)).transpose(1, 2).flatten(0, 1)
        x = torch.cat([self.register.expand(len(values), 1, -1), values], dim=1)
        hidden = nn.functional.pad(~mask, (1, 0), value=False)
        mixed = self.over_objects(x, x.new_zeros(()), hidden)[:, 1:]
        mixed = mixed.unflatten(0, (batch, count)).transpose(1, 2)
        return Tokens(mixed.flatten(1, 2), mask.unflatten(0, (batch, count)).transpose(1, 2).flatten(1, 2))


class PerceiverLayer(EncoderLayer):
    """Latents read a memory and themselves, then a feed-forward layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.dim, config.heads, config.feedforward, 0.0, "pre")

    def forward(self, x: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:  # type: ignore[override]
        """Map latents (B, K, D) and memory (B, L, D) to latents; `hidden` (B, L + K) keys are not read."""
        query = self.around_attention.enter(x)
        keys = torch.cat([memory, query], dim=1)
        x = self.around_attention.leave(x, self.attention(query, keys, keys, hidden))
        return self.around_feed_forward.leave(x, self.feed_forward(self.around_feed_forward.enter(x)))


class Perceiver(nn.Module):
    """A few learned latents that read many tokens; they also read each other, so none reads nothing."""

    def __init__(self, config: EncoderConfig, inputs: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(config.latents, config.dim) * 0.02)
        self.embed = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, config.dim))
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.perceiver_layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tokens:
        """Read tokens (B, L, inputs) where `mask` (B, L) is True."""
        memory = self.embed(torch.where(mask.unsqueeze(-1), tokens, 0.0))
        x = self.latents.expand(len(tokens), -1, -1)
        hidden = torch.cat([~mask, mask.new_zeros(x.shape[:2])], dim=1)
        for layer in self.layers:
            x = layer(x, memory, hidden)
        return Tokens(self.norm(x), mask.new_ones(x.shape[:2]))


class AttentionPool(nn.Module):
    """One learned query over tokens, then LayerNorm: a feature.

    Each token first passes a feed-forward layer of its own: the mean of (value + time code) would
    forget which value came when, the mean of a nonlinear function of it does not.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.feed_forward = FeedForward(config.dim, config.feedforward, 0.0)
        self.around = Residual(config.dim, 0.0, "pre")
        self.query = nn.Parameter(torch.randn(config.dim))
        self.attention = Attention(config.dim, config.heads, 0.0)
        self.output = nn.Linear(config.dim, config.feature_dim)
        self.norm = nn.LayerNorm(config.feature_dim)

    def forward(self, tokens: Tokens) -> Tensor:
        """Map tokens (B, L, D) to a feature (B, feature_dim)."""
        values = self.around.leave(tokens.values, self.feed_forward(self.around.enter(tokens.values)))
        query = self.query.expand(len(values), 1, -1)
        pooled = self.attention(query, values, values, ~tokens.mask)
        return self.norm(self.output(pooled[:, 0]))


class Encoders(nn.Module):
    """All streams of a model, their null tokens, and the two features.

    Without task streams the task tokens are one null token: the embodiment alone steers the video.
    """

    def __init__(self, config: EncoderConfig, text_dim: int, streams: tuple[Stream, ...] = STREAMS) -> None:
        super().__init__()
        self.config = config
        self.streams = streams
        builders: dict[Stream, nn.Module] = {
            "text": Perceiver(config, text_dim),
            "motion": MotionEncoder(config, config.motion_width, config.motion_layers),
            "objects": ObjectEncoder(config),
            "embodiment": Perceiver(config, config.image_dim),
        }
        self.encoder = nn.ModuleDict({stream: builders[stream] for stream in streams})
        self.null = nn.Parameter(torch.randn(len(STREAMS), config.dim) * 0.02)
        self.presence = nn.Parameter(torch.randn(len(STREAMS), 2, config.dim) * 0.02)
        self.kind = nn.Parameter(torch.randn(len(STREAMS), config.dim) * 0.02)
        timed = "motion" in streams or "objects" in streams
        self.time = nn.Linear(config.dim, config.dim) if timed else nn.Identity()
        self.balance = Balance()
        self.pool_task = AttentionPool(config)
        self.pool_embodiment = AttentionPool(config)

    def forward(self, signals: Signals) -> Encoded:
        """Encode a batch; absent streams are their null token and stay in the graph."""
        with torch.autocast(signals.text.device.type, enabled=False):
            task = [self._stream(stream, signals) for stream in TASK_STREAMS]
            joined = Tokens(*(torch.cat(parts, dim=1) for parts in zip(*task, strict=True)))
            embodiment = self._stream("embodiment", signals)
            read = [Tokens(self.balance.features(each.values), each.mask) for each in (joined, embodiment)]
            task_shown, embodiment_shown = (
                Tokens(self.balance.flow(each.values), each.mask) for each in (joined, embodiment)
            )
            z_task, z_emb = self.pool_task(read[0]), self.pool_embodiment(read[1])
            return Encoded(task_shown, embodiment_shown, z_task, z_emb)

    def _stream(self, stream: Stream, signals: Signals) -> Tokens:
        """Return the tokens of one stream behind its null token."""
        index = STREAMS.index(stream)
        present = signals.present[:, index] & (stream in self.streams)
        null = (self.null[index] + self.presence[index][present.long()]).unsqueeze(1)
        null_mask = present.new_ones(len(present), 1)
        if stream not in self.streams:
            return Tokens(null, null_mask)
        values, mask = self._encode(stream, signals)
        values = values + self.kind[index]
        mask = mask & present.unsqueeze(1)
        return Tokens(torch.cat([null, values], dim=1), torch.cat([null_mask, mask], dim=1))

    def _encode(self, stream: Stream, signals: Signals) -> Tokens:
        encoder, count = self.encoder[stream], signals.latent_frames
        if stream == "text":
            values, mask = encoder(signals.text.float(), signals.text_mask)
            return Tokens(values[signals.text_of], mask[signals.text_of])
        if stream == "embodiment":
            image, which = signals.image.float(), signals.image_of
            shown = signals.present.new_zeros(len(image)).index_fill(0, which[signals.present[:, -1]], True)
            values, mask = encoder(image, shown.unsqueeze(1).expand(image.shape[:2]))
            return Tokens(values[which], mask[which])
        if stream == "motion":
            tokens = encoder(signals.motion, signals.motion_valid, signals.motion_times, count)
        else:
            tokens = encoder(
                signals.objects, signals.object_valid, signals.object_ids, signals.object_times, count
            )
        code = self.time(sinusoid(latent_frame_times(count, signals.text.device), self.config.dim))
        return Tokens(tokens.values + code.repeat(tokens.values.shape[1] // count, 1), tokens.mask)
