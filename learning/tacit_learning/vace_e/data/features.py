"""Tokens of prompts and embodiment images from the frozen encoders: UMT5 and CLIP.

Wan attends the zero padding of its text, so a prompt is stored at its real length and padded again to
`text_length` before the transformer reads it. Legend: B batch, L text tokens, P image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import EncoderConfig

CLIP_LAYER = -2  # Wan I2V reads the last but one layer of CLIP


@torch.no_grad()
def encode_text(
    prompts: Sequence[str], tokenizer: Callable[..., Any], text_encoder: Any, length: int = 512
) -> list[Tensor]:
    """Encode prompts as the Wan pipelines do, cut to their real lengths.

    Args:
        prompts: B texts.
        tokenizer: Of UMT5.
        text_encoder: `UMT5EncoderModel`.
        length: Longest prompt in tokens; more is cut off.

    Returns:
        B tensors (L_i, text_dim).
    """
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    inputs = tokenizer(
        [prompt_clean(prompt) for prompt in prompts],
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    device = next(text_encoder.parameters()).device
    ids, mask = inputs.input_ids.to(device), inputs.attention_mask.to(device)
    hidden = text_encoder(ids, mask).last_hidden_state
    return [row[:count] for row, count in zip(hidden, mask.sum(1).tolist(), strict=True)]


def pad_text(tokens: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Pad prompts with zeros to what the transformer reads.

    Args:
        tokens: B tensors (L_i, text_dim).
        length: The model's text length; longer prompts are cut.

    Returns:
        Text (B, length, text_dim), and True where a token is real (B, length).
    """
    text = tokens[0].new_zeros(len(tokens), length, tokens[0].shape[-1])
    mask = torch.zeros(len(tokens), length, dtype=torch.bool, device=text.device)
    for row, prompt in enumerate(tokens):
        count = min(len(prompt), length)
        text[row, :count] = prompt[:count]
        mask[row, :count] = True
    return text, mask


@torch.no_grad()
def encode_images(images: Sequence[Tensor], processor: Callable[..., Any], image_encoder: Any) -> Tensor:
    """Encode RGB images u1 (h, w, 3) with CLIP to tokens (B, P, image_dim), class token first."""
    pixels = processor(images=[image.cpu().numpy() for image in images], return_tensors="pt").pixel_values
    parameter = next(image_encoder.parameters())
    output = image_encoder(pixels.to(parameter.device, parameter.dtype), output_hidden_states=True)
    return output.hidden_states[CLIP_LAYER]


def stack_images(tokens: Sequence[Tensor | None], config: EncoderConfig) -> tuple[Tensor, Tensor]:
    """Stack image tokens of a batch where some samples have none.

    Args:
        tokens: Each (P, image_dim) or None.
        config: Gives the width when no sample has an image.

    Returns:
        Tokens (B, P, image_dim), zero where there is none, and which samples have them (B,) bool.
    """
    present = [image for image in tokens if image is not None]
    example = present[0] if present else torch.zeros(1, config.image_dim)
    has_image = torch.tensor([image is not None for image in tokens], device=example.device)
    return torch.stack([torch.zeros_like(example) if t is None else t for t in tokens]), has_image
