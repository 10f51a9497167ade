"""A linear video codec, fitted in seconds: latents that mean something where no weights are at hand.

16 principal components of a cell of pixels, 1 x 8 x 8 for the first frame and 4 x 8 x 8 after it, as the
autoencoder of Wan lays them out. Legend: B batch, F frames, H W pixels, T latent frames, h w cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import LATENT_CHANNELS, SPATIAL, TEMPORAL

DEPTHS = {"first": 1, "rest": TEMPORAL}
EVENNESS = 0.5
"""Components are divided by this power of their deviation: 1 makes the faintest as loud as the first, 0
leaves them so faint that noise hides them."""


class LinearCodec(nn.Module):
    """What is used of `AutoencoderKLWan`: its latents already have the statistics that it would name."""

    def __init__(self, tables: dict[str, Tensor]) -> None:
        super().__init__()
        for name, table in tables.items():
            self.register_buffer(name, table)
        self.config = SimpleNamespace(
            latents_mean=[0.0] * LATENT_CHANNELS, latents_std=[1.0] * LATENT_CHANNELS
        )

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the tables."""
        return self.get_buffer("first_mean").dtype

    def encode(self, x: Tensor) -> SimpleNamespace:
        """Encode a video in -1..1 (B, 3, F, H, W), F = 4 k + 1; the latents are `latent_dist.mode()`."""
        parts = zip(DEPTHS, (x[:, :, :1], x[:, :, 1:]), strict=True)
        latents = torch.cat([self._encode(name, part) for name, part in parts if part.shape[2]], dim=1)
        latents = latents.movedim(-1, 1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, z: Tensor) -> SimpleNamespace:
        """Decode latents (B, 16, T, h, w); the video is `sample`."""
        parts = zip(DEPTHS, (z[:, :, :1], z[:, :, 1:]), strict=True)
        return SimpleNamespace(
            sample=torch.cat([self._decode(name, part) for name, part in parts if part.shape[2]], dim=2)
        )

    def save(self, path: Path) -> None:
        """Write the tables."""
        save_file({name: value.contiguous() for name, value in self.named_buffers()}, path)

    def _encode(self, name: str, part: Tensor) -> Tensor:
        pixels = cells_of(part, DEPTHS[name]) - self.get_buffer(f"{name}_mean")
        return pixels @ self.get_buffer(f"{name}_basis").T / self.get_buffer(f"{name}_scale")

    def _decode(self, name: str, part: Tensor) -> Tensor:
        scaled = part.movedim(1, -1) * self.get_buffer(f"{name}_scale")
        pixels = scaled @ self.get_buffer(f"{name}_basis") + self.get_buffer(f"{name}_mean")
        pixels = pixels.unflatten(-1, (3, DEPTHS[name], SPATIAL, SPATIAL))
        return pixels.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(2, 3).flatten(3, 4).flatten(4, 5)


def cells_of(video: Tensor, depth: int) -> Tensor:
    """Cut a video (B, 3, F, H, W) into cells (B, F / depth, H / 8, W / 8, 3 * depth * 64)."""
    batch, channels, frames, height, width = video.shape
    cut = video.reshape(
        batch, channels, frames // depth, depth, height // SPATIAL, SPATIAL, width // SPATIAL, SPATIAL
    )
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def fit_codec(videos: Iterable[Tensor]) -> LinearCodec:
    """Fit the components to videos in -1..1 (B, 3, F, H, W); those of one frame count for the first alone."""
    tables: dict[str, Tensor] = {}
    cells: dict[str, list[Tensor]] = {name: [] for name in DEPTHS}
    for video in videos:
        for name, part in zip(DEPTHS, (video[:, :, :1], video[:, :, 1:]), strict=True):
            if part.shape[2]:
                cells[name].append(cells_of(part, DEPTHS[name]).flatten(0, 3))
    for name, found in cells.items():
        rows = torch.cat(found).double()
        mean = rows.mean(0)
        variance, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        deviation = variance.clamp(min=0).sqrt().flip(0)[:LATENT_CHANNELS]
        scale = deviation.clamp(min=1e-3 * float(deviation[0])) ** EVENNESS
        scale = scale * float((deviation / scale).square().mean().sqrt())  # mean variance of a latent: 1
        basis = vectors.flip(1)[:, :LATENT_CHANNELS].T
        tables |= {f"{name}_mean": mean, f"{name}_basis": basis, f"{name}_scale": scale}
    return LinearCodec({name: table.float() for name, table in tables.items()})


def load_codec(path: Path) -> LinearCodec:
    """Read a codec.

    Raises:
        ConfigError: No such file, or of something else.
    """
    wanted = {f"{name}_{part}" for name in DEPTHS for part in ("mean", "basis", "scale")}
    try:
        tables = load_file(path)
    except (OSError, SafetensorError) as problem:
        raise ConfigError(f"codec: {path}: cannot be read ({problem})") from None
    if set(tables) != wanted or len(tables["first_basis"]) != LATENT_CHANNELS:
        raise ConfigError(f"codec: {path}: holds {sorted(tables)[:3]} ..., expected {sorted(wanted)}")
    return LinearCodec(tables)
