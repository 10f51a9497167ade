"""Raw video into the encoder: pictures through a backbone that trains along.

A frame travels as a flat row of numbers in 0..1, like any other features, so batches, streams and exports
need to know nothing of it. Legend: B videos, T frames, H height, W width, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from tacit_learning.alignment.settings import PictureConfig
from tacit_learning.layers.backbone import build_backbone


class PictureFront(nn.Module):
    """A backbone over single frames.

    Args:
        config: Size and backbone.
    """

    def __init__(self, config: PictureConfig) -> None:
        super().__init__()
        self.size = (config.height, config.width, 3)
        self.backbone = build_backbone(config.backbone, config.conv, identity=config.identity)
        self.pool = nn.AdaptiveAvgPool2d(config.grid)
        self.num_features = self.backbone.channels * config.grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Map flat frames (..., H*W*3) in 0..1 to features (..., C*grid^2)."""
        pictures = frames.reshape(-1, *self.size).movedim(-1, 1)
        return self.pool(self.backbone(pictures)).reshape(*frames.shape[:-1], self.num_features)


class PictureEncoder(nn.Module):
    """Pictures through their front, then a causal encoder of features.

    Args:
        front: The backbone over single frames.
        encoder: The net over the features of frames in time; has `step` and `state_size`.
    """

    def __init__(self, front: PictureFront, encoder: nn.Module) -> None:
        super().__init__()
        self.front, self.encoder = front, encoder
        self.dim = int(encoder.dim)  # type: ignore[arg-type]

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return int(self.encoder.state_size)  # type: ignore[arg-type]

    def forward(self, frames: Tensor) -> Tensor:
        """Map flat frames (B, T, H*W*3) to unit embeddings (B, T, D)."""
        return self.encoder(self.front(frames))

    def step(self, frames: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame; see `layers.causal.CausalConv.step`."""
        return self.encoder.step(self.front(frames), memory, is_first)  # type: ignore[operator]
