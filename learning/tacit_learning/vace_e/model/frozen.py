"""The frozen networks around the model: video autoencoder, text encoder, image encoder.

They run once per input and their results are cached, so each is loaded when first needed and let go
afterwards. `tiny` means small random ones: the chain runs without weights, offline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from tacit_learning.engine.seeding import seeded
from tacit_learning.vace_e.config_model import ModelConfig
from tacit_learning.vace_e.model.codec import load_codec
from tacit_learning.vace_e.model.conditioning import VideoCoder
from tacit_learning.vace_e.model.loading import load_part, load_vae

TINY = "tiny"
TINY_IMAGE_TOKENS = 5
CLIP_LAYER = -2  # Wan I2V reads the last but one layer of CLIP


TextCoder = Callable[[str], Tensor]
"""Turns a prompt into tokens of its real length (L, D), float32 on the CPU."""
ImageCoder = Callable[[np.ndarray], Tensor]
"""Turns a picture (h, w, 3) u1 into tokens (P, D), float32 on the CPU."""


@dataclass
class Frozen:
    """The three networks, each made on first use; `identity` names them in the keys of the cache."""

    identity: str
    make_vae: Callable[[], Any]
    make_text: Callable[[], TextCoder]
    make_image: Callable[[], ImageCoder]
    device: torch.device

    @cached_property
    def vae(self) -> VideoCoder:
        """The autoencoder, in float32 on the device."""
        return self.make_vae().to(self.device).eval().requires_grad_(False)

    @cached_property
    def text(self) -> TextCoder:
        """The text encoder."""
        return self.make_text()

    @cached_property
    def image(self) -> ImageCoder:
        """The image encoder."""
        return self.make_image()

    def release(self, *names: str) -> None:
        """Let networks go; the next use makes them again. Without names all."""
        for name in names or ("vae", "text", "image"):
            self.__dict__.pop(name, None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def make_frozen(
    base_model: str,
    image_encoder: str | None,
    model: ModelConfig,
    device: torch.device,
    seed: int = 0,
    codec: Path | None = None,
) -> Frozen:
    """Return the frozen networks of a base model.

    Args:
        base_model: Folder or hub id in the layout of diffusers (vae, text_encoder, tokenizer); `tiny`.
        image_encoder: Folder or hub id with image_encoder and image_processor; None: `base_model`.
        model: Gives the widths of the random networks of `tiny`.
        device: Where they run.
        seed: Seed of the random networks of `tiny`.
        codec: With `tiny`, the file of a linear codec in place of a random autoencoder.
    """
    if base_model == TINY:
        coder = "" if codec is None else f"-{hashlib.sha256(codec.read_bytes()).hexdigest()[:16]}"
        return Frozen(
            f"{TINY}-{model.backbone.text_dim}-{model.encoders.image_dim}-{seed}{coder}",
            lambda: _tiny_vae(seed) if codec is None else load_codec(codec),
            lambda: _WordVectors(model.backbone.text_dim, seed),
            lambda: _Patches(model.encoders.image_dim, seed),
            device,
        )
    clip = image_encoder or base_model
    return Frozen(
        f"{base_model}+{clip}",
        lambda: load_vae(base_model),
        lambda: _Umt5(base_model, device),
        lambda: _Clip(clip, device),
        device,
    )


@torch.no_grad()
def encode_text(
    prompts: Sequence[str], tokenizer: Callable[..., Any], text_encoder: Any, length: int = 512
) -> list[Tensor]:
    """Encode prompts as the Wan pipelines do, cut to their real lengths.

    Args:
        prompts: B texts.
        tokenizer: The tokenizer of UMT5.
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


@torch.no_grad()
def encode_images(images: Sequence[Tensor], processor: Callable[..., Any], image_encoder: Any) -> Tensor:
    """Encode RGB images u1 (h, w, 3) with CLIP to tokens (B, P, image_dim), class token first."""
    pixels = processor(images=[image.cpu().numpy() for image in images], return_tensors="pt").pixel_values
    parameter = next(image_encoder.parameters())
    output = image_encoder(pixels.to(parameter.device, parameter.dtype), output_hidden_states=True)
    return output.hidden_states[CLIP_LAYER]


class _Umt5:
    """UMT5 as the pipeline of diffusers calls it, without its padding."""

    def __init__(self, folder: str, device: torch.device) -> None:
        from transformers import AutoTokenizer, UMT5EncoderModel

        self.tokenizer = load_part(AutoTokenizer, folder, "tokenizer")
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model = load_part(UMT5EncoderModel, folder, "text_encoder", dtype=dtype).to(device).eval()

    def __call__(self, prompt: str) -> Tensor:
        return encode_text([prompt], self.tokenizer, self.model)[0].float().cpu()


class _Clip:
    """CLIP's second last layer, as Wan 2.1 image-to-video reads it."""

    def __init__(self, folder: str, device: torch.device) -> None:
        from transformers import CLIPVisionModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        self.processor = load_part(CLIPImageProcessorPil, folder, "image_processor")
        self.model = load_part(CLIPVisionModel, folder, "image_encoder").to(device).eval()

    def __call__(self, image: np.ndarray) -> Tensor:
        return encode_images([torch.from_numpy(image)], self.processor, self.model)[0].float().cpu()


class _WordVectors:
    """Random but fixed vectors of words: a text encoder for a chain without weights."""

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.seed = seed

    def __call__(self, prompt: str) -> Tensor:
        words = [*prompt.lower().split(), "</s>"]
        return torch.stack([self._vector(word) for word in words])

    def _vector(self, word: str) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}:{word}".encode()).digest()
        generator = np.random.default_rng(list(digest))
        return torch.from_numpy(generator.normal(size=self.dim).astype(np.float32))


class _Patches:
    """A fixed random projection of the mean colours of a picture's quarters and whole."""

    def __init__(self, dim: int, seed: int) -> None:
        generator = np.random.default_rng([seed, dim])
        self.weight = generator.normal(size=(TINY_IMAGE_TOKENS, 6, dim)).astype(np.float32)

    def __call__(self, image: np.ndarray) -> Tensor:
        rows, columns = (max(1, size // 2) for size in image.shape[:2])
        parts = [
            image,
            image[:rows, :columns],
            image[:rows, columns:],
            image[rows:, :columns],
            image[rows:, columns:],
        ]
        signed = [part.reshape(-1, 3).astype(np.float32) / 127.5 - 1 for part in parts]
        colours = np.stack([np.concatenate([part.mean(0), part.std(0)]) for part in signed])
        return torch.from_numpy(np.einsum("pc,pcd->pd", colours, self.weight))


def _tiny_vae(seed: int) -> AutoencoderKLWan:
    with seeded(seed):
        return AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
