"""What the encoders read: text, motion, objects and embodiment of a batch, with masks.

Everything lies on one device; text and image tokens come from the frozen encoders or their cache.
Legend: B batch, L text tokens, T time rows, N objects, P image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import STREAMS, EncoderConfig, Stream

T = TypeVar("T")


@dataclass(frozen=True)
class Signals:
    """The streams of a batch. A value whose mask is False is never read, NaN there is harmless.

    Prompts and pictures are held, moved and encoded once, however many rows share them.
    """

    text: Tensor  # (U, L, text_dim) of UMT5, the different prompts
    text_mask: Tensor  # (U, L) bool
    text_of: Tensor  # (B,) i8, the prompt of each row
    motion: Tensor  # (B, T, 20)
    motion_valid: Tensor  # (B, T, 20) bool
    motion_times: Tensor  # (B, T) frames of the video window
    objects: Tensor  # (B, N, T, 9)
    object_valid: Tensor  # (B, N, T) bool
    object_ids: Tensor  # (B, N) i8
    object_times: Tensor  # (B, T) frames of the video window
    camera: Tensor  # (B, 3, 4), world to shares of the picture (homogeneous); zeros: unknown
    image: Tensor  # (V, P, image_dim), `hidden_states[-2]` of CLIP, the different pictures
    image_of: Tensor  # (B,) i8, the picture of each row; any where it has none
    present: Tensor  # (B, 4) bool, in the order of STREAMS
    latent_frames: int  # of the video window, without reference slots

    def __len__(self) -> int:
        return len(self.present)

    def to(self, device: torch.device | str) -> Signals:
        """Return the signals on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | slice) -> Signals:
        """Return the samples of `index`."""
        shared = {name: getattr(self, name) for name in ("text", "text_mask", "image")}
        return replace(self._map(lambda tensor: tensor[index], set(shared)), **shared)

    def without(self, streams: Collection[Stream]) -> Signals:
        """Return the signals with these streams absent: each is then its learned null token."""
        keep = torch.tensor([stream not in streams for stream in STREAMS], device=self.present.device)
        return replace(self, present=self.present & keep)

    def _map(self, function: Callable[[Tensor], Tensor], kept: Collection[str] = ()) -> Signals:
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in kept}
        changed: dict[str, Any] = {
            name: function(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


def pad_text(tokens: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Pad prompts with zeros; Wan attends these zeros, so its transformer must get all of its length.

    Args:
        tokens: B tensors (L_i, text_dim).
        length: L; longer prompts are cut.

    Returns:
        Text (B, L, text_dim), and True where a token is real (B, L).
    """
    text = tokens[0].new_zeros(len(tokens), length, tokens[0].shape[-1])
    mask = torch.zeros(len(tokens), length, dtype=torch.bool, device=text.device)
    for row, prompt in enumerate(tokens):
        count = min(len(prompt), length)
        text[row, :count] = prompt[:count]
        mask[row, :count] = True
    return text, mask


def stack_images(tokens: Sequence[Tensor | None], image_dim: int) -> tuple[Tensor, Tensor]:
    """Stack image tokens of a batch where some samples have none.

    Args:
        tokens: Each (P, image_dim) or None.
        image_dim: The width when no sample has an image.

    Returns:
        Tokens (B, P, image_dim), zero where there is none, and which samples have them (B,) bool.
    """
    present = [image for image in tokens if image is not None]
    example = present[0] if present else torch.zeros(1, image_dim)
    has_image = torch.tensor([image is not None for image in tokens], device=example.device)
    return torch.stack([torch.zeros_like(example) if t is None else t for t in tokens]), has_image


def different(tensors: Sequence[T | None]) -> tuple[list[T], Tensor]:
    """Return the different tensors of a list, by identity, and the place of each row among them (B,)."""
    pool: dict[int, T] = {id(each): each for each in tensors if each is not None}
    places = {key: place for place, key in enumerate(pool)}
    return list(pool.values()), torch.tensor([places.get(id(each), 0) for each in tensors])


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
        text_of=torch.arange(batch),
        motion=normal(batch, rows, config.motion_width).cumsum(1) / rows,
        motion_valid=torch.ones(batch, rows, config.motion_width, dtype=torch.bool),
        motion_times=frames,
        objects=normal(batch, objects, rows, config.object_width).cumsum(2) / rows,
        object_valid=torch.ones(batch, objects, rows, dtype=torch.bool),
        object_ids=torch.arange(objects).expand(batch, objects),
        object_times=frames,
        camera=torch.tensor([[1.0, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 0, 1]]).expand(batch, 3, 4),
        image=normal(batch, image_tokens, config.image_dim),
        image_of=torch.arange(batch),
        present=torch.ones(batch, len(STREAMS), dtype=torch.bool),
        latent_frames=latent_frames,
    )
