"""What the encoders read: text, motion, objects and embodiment of a batch, with masks.

Everything lies on one device; text and image tokens come from the frozen encoders or their cache.
Legend: B batch, L text tokens, T time rows, N objects, P image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import STREAMS, EncoderConfig, Stream
from tacit_learning.vace_e.data.items import VaceEBatch


@dataclass(frozen=True)
class Signals:
    """The streams of a batch. A value whose mask is False is never read, NaN there is harmless."""

    text: Tensor  # (B, L, text_dim) of UMT5
    text_mask: Tensor  # (B, L) bool
    motion: Tensor  # (B, T, 20)
    motion_valid: Tensor  # (B, T, 20) bool
    motion_times: Tensor  # (B, T) frames of the video window
    objects: Tensor  # (B, N, T, 9)
    object_valid: Tensor  # (B, N, T) bool
    object_ids: Tensor  # (B, N) i8
    object_times: Tensor  # (B, T) frames of the video window
    image: Tensor  # (B, P, image_dim), `hidden_states[-2]` of CLIP
    present: Tensor  # (B, 4) bool, in the order of STREAMS
    latent_frames: int  # of the video window, without reference slots

    def __len__(self) -> int:
        return len(self.text)

    def to(self, device: torch.device | str) -> Signals:
        """Return the signals on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | slice) -> Signals:
        """Return the samples of `index`."""
        return self._map(lambda tensor: tensor[index])

    def without(self, streams: Collection[Stream]) -> Signals:
        """Return the signals with these streams absent: each is then its learned null token."""
        keep = torch.tensor([stream not in streams for stream in STREAMS], device=self.present.device)
        return replace(self, present=self.present & keep)

    def drop(self, probability: float, generator: torch.Generator | None = None) -> Signals:
        """Return the signals with each stream of each sample absent by chance.

        Args:
            probability: Of a stream to be dropped.
            generator: On the CPU; None: the global one.
        """
        chance = torch.rand(self.present.shape, generator=generator).to(self.present.device)
        return replace(self, present=self.present & (chance >= probability))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Signals:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: function(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


def signals_of(
    batch: VaceEBatch,
    text: Tensor,
    text_mask: Tensor,
    image: Tensor,
    has_image: Tensor,
    latent_frames: int,
) -> Signals:
    """Join a batch of windows with the tokens of its prompts and images.

    Args:
        batch: As collated.
        text: UMT5 tokens (B, L, text_dim).
        text_mask: True = a token of the prompt (B, L).
        image: CLIP tokens (B, P, image_dim), anything where a sample has no image, P >= 1.
        has_image: Which samples have one (B,) bool.
        latent_frames: Of the window, without reference slots: (F - 1) / 4 + 1.
    """
    present = [text_mask.any(-1), batch.has_motion, batch.has_objects, has_image]
    return Signals(
        text=text,
        text_mask=text_mask,
        motion=batch.motion,
        motion_valid=batch.motion_valid,
        motion_times=batch.motion_times,
        objects=batch.objects,
        object_valid=batch.object_valid,
        object_ids=batch.object_ids,
        object_times=batch.object_times,
        image=image,
        present=torch.stack([flag.to(text.device) for flag in present], dim=1),
        latent_frames=latent_frames,
    ).to(text.device)


def random_signals(
    batch: int,
    config: EncoderConfig,
    text_dim: int,
    latent_frames: int,
    *,
    rows: int = 17,
    objects: int = 2,
    text_tokens: int = 6,
    image_tokens: int = 5,
    generator: torch.Generator | None = None,
) -> Signals:
    """Return complete signals of random values, for tests, plans and speed measurements."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    frames = torch.linspace(0, 4 * (latent_frames - 1), rows).expand(batch, rows)
    return Signals(
        text=normal(batch, text_tokens, text_dim),
        text_mask=torch.ones(batch, text_tokens, dtype=torch.bool),
        motion=normal(batch, rows, config.motion_width).cumsum(1) / rows,
        motion_valid=torch.ones(batch, rows, config.motion_width, dtype=torch.bool),
        motion_times=frames,
        objects=normal(batch, objects, rows, config.object_width).cumsum(2) / rows,
        object_valid=torch.ones(batch, objects, rows, dtype=torch.bool),
        object_ids=torch.arange(objects).expand(batch, objects),
        object_times=frames,
        image=normal(batch, image_tokens, config.image_dim),
        present=torch.ones(batch, len(STREAMS), dtype=torch.bool),
        latent_frames=latent_frames,
    )
