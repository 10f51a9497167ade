"""Pixels to latents as `WanVACEPipeline` of diffusers does it, for whole batches.

VACE mask: 1 = generate, 0 = keep. `inactive` holds what is kept, `reactive` what lies under the mask;
value 0 is grey in both. Legend: B batch, F frames, H W pixels, T latent frames, h w latent cells.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from tacit_learning.vace_e.config_model import PATCH, SPATIAL, TEMPORAL


class VideoCoder(Protocol):
    """What is used of `AutoencoderKLWan`."""

    config: Any
    dtype: torch.dtype

    def encode(self, x: Tensor) -> Any:
        """Return an object with `latent_dist`."""

    def decode(self, z: Tensor) -> Any:
        """Return an object with `sample`."""


def latent_shape(frames: int, height: int, width: int, num_reference: int = 0) -> tuple[int, int, int]:
    """Return (T, h, w) of the latents of a clip.

    Raises:
        ValueError: Frames are not 4 k + 1, or a side is no multiple of 16.
    """
    if frames % TEMPORAL != 1:
        raise ValueError(
            f"video of {frames} frames: expected 4 k + 1; trim it to {(frames - 1) // 4 * 4 + 1}"
        )
    step = SPATIAL * PATCH
    if height % step or width % step:
        raise ValueError(f"video of {width}x{height}: both sides must be multiples of {step}")
    return (frames - 1) // TEMPORAL + 1 + num_reference, height // SPATIAL, width // SPATIAL


def to_signed(pixels: Tensor) -> Tensor:
    """Map RGB u1 (B, F, H, W, 3) to float (B, 3, F, H, W) in -1..1."""
    return pixels.movedim(-1, 1).float() / 127.5 - 1


def letterbox(image: Tensor, height: int, width: int) -> Tensor:
    """Fit an image in -1..1 (3, h, w) into (3, height, width) without distortion, on white."""
    rows, columns = image.shape[-2:]
    scale = min(height / rows, width / columns)
    rows, columns = int(rows * scale), int(columns * scale)
    small = F.interpolate(image[None], size=(rows, columns), mode="bilinear", align_corners=False)[0]
    canvas = torch.ones(3, height, width, dtype=image.dtype, device=image.device)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[:, top : top + rows, left : left + columns] = small
    return canvas


def reference_batch(images: list[Tensor | None], height: int, width: int) -> Tensor | None:
    """Letterbox the reference images of a batch (each (h, w, 3) u1) to (B, 3, height, width).

    As in the pipeline, whose image processor first brings each side to a multiple of 8.

    Returns:
        None when no sample has one.

    Raises:
        ValueError: Some samples have one and others not: their latents differ in length.
    """
    present = [image for image in images if image is not None]
    if not present:
        return None
    if len(present) < len(images):
        raise ValueError(
            f"reference images: {len(present)} of {len(images)} samples have one; batch those with and "
            "those without apart"
        )
    processor = VideoProcessor(vae_scale_factor=SPATIAL)
    pictures = [processor.numpy_to_pil(image.cpu().numpy() / 255.0)[0] for image in present]
    signed = [processor.preprocess(picture)[0].to(present[0].device) for picture in pictures]
    return torch.stack([letterbox(image, height, width) for image in signed])


def tile(vae: VideoCoder, tiled: bool) -> None:
    """Let an autoencoder work in tiles, or whole; one that knows no tiles works whole."""
    switch = getattr(vae, "enable_tiling" if tiled else "disable_tiling", None)
    if switch is not None:
        switch()


@torch.no_grad()
def encode_latents(vae: VideoCoder, video: Tensor, chunk: int | None = None) -> Tensor:
    """Encode a video in -1..1 (B, 3, F, H, W) to normalised latents (B, 16, T, h, w): the mode.

    Args:
        vae: `AutoencoderKLWan`.
        video: In -1..1.
        chunk: Samples at a time, None = all; the result is the same.
    """
    latent_shape(*video.shape[2:])
    mean, std = _statistics(vae, video.device)
    parts = [vae.encode(part.to(vae.dtype)).latent_dist.mode() for part in video.split(chunk or len(video))]
    # diffusers multiplies by the reciprocal; dividing would differ in the last bit
    return ((torch.cat(parts).float() - mean) * (1.0 / std)).to(vae.dtype)


@torch.no_grad()
def decode_latents(vae: VideoCoder, latents: Tensor, num_reference: int = 0) -> Tensor:
    """Decode normalised latents to a video in -1..1 (B, 3, F, H, W); reference slots are dropped."""
    mean, std = _statistics(vae, latents.device)
    raw = latents[:, :, num_reference:].float() / (1.0 / std) + mean
    return vae.decode(raw.to(vae.dtype)).sample.clamp(-1, 1)


def mask_latents(mask: Tensor) -> Tensor:
    """Turn a mask (B, F, H, W), > 0.5 = generate, into 64 channels (B, 64, T, h, w).

    Each latent cell keeps its 8x8 pixels as channels; in time the nearest frame is taken.
    """
    batch, frames, height, width = mask.shape
    count, rows, columns = latent_shape(frames, height, width)
    cells = _binary(mask).view(batch, frames, rows, SPATIAL, columns, SPATIAL)
    channels = cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 2)
    return F.interpolate(channels, size=(count, rows, columns), mode="nearest-exact")


def encode_reference(vae: VideoCoder, reference: Tensor) -> Tensor:
    """Encode letterboxed images in -1..1 (B, 3, H, W) to (B, 16, 1, h, w)."""
    return encode_latents(vae, reference.unsqueeze(2))


def encode_halves(video: Tensor, mask: Tensor, vae: VideoCoder) -> tuple[Tensor, Tensor]:
    """Encode what is kept and what lies under the mask, each (B, 16, T, h, w)."""
    video = video.to(vae.dtype)
    generate = _binary(mask).to(vae.dtype).unsqueeze(1)
    return encode_latents(vae, video * (1 - generate)), encode_latents(vae, video * generate)


def join_control(inactive: Tensor, reactive: Tensor, mask: Tensor, reference: Tensor | None) -> Tensor:
    """Join encoded parts, fresh or cached, to the control latents (B, 96, T + n, h, w).

    Args:
        inactive: (B, 16, T, h, w).
        reactive: (B, 16, T, h, w).
        mask: Pixels (B, F, H, W), > 0.5 = generate.
        reference: (B, 16, 1, h, w); its slot has a zero reactive part and a zero mask.
    """
    control = torch.cat([inactive, reactive, mask_latents(mask).to(inactive.dtype)], dim=1)
    if reference is None:
        return control
    rest = reference.new_zeros(len(reference), control.shape[1] - reference.shape[1], *reference.shape[2:])
    return torch.cat([torch.cat([reference, rest], dim=1), control], dim=2)


def _binary(mask: Tensor) -> Tensor:
    return mask.float() if mask.dtype == torch.bool else (mask > 0.5).float()


def _statistics(vae: VideoCoder, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, device=device, dtype=torch.float32).view(shape)
    return mean, torch.tensor(vae.config.latents_std, device=device, dtype=torch.float32).view(shape)
