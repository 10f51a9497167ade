"""Causal encoders: features of frames up to t to the unit embedding of frame t.

`CausalEncoder` serves one task or several alike; `MultiHeadEncoder` (the multi-head context network of
Donahue and Elhamifar, CVPR 2024) gives every task a head and mixes the heads frame by frame. Both run
over sequences and frame by frame. Legend: B videos, T frames, F features, D embedding, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.errors import ConfigError
from tacit_learning.alignment.model.pictures import PictureEncoder, PictureFront
from tacit_learning.alignment.settings import AlignmentEncoderConfig
from tacit_learning.layers.causal import CausalStack


class CausalEncoder(nn.Module):
    """Linear, residual causal convolutions, Linear, unit norm.

    Args:
        config: Sizes.
        num_features: F.
    """

    def __init__(self, config: AlignmentEncoderConfig, num_features: int) -> None:
        super().__init__()
        self.dim = config.dim
        self.input = nn.Linear(num_features, config.width)
        self.stack = CausalStack(config.width, config.dilations, dropout=config.dropout)
        self.output = nn.Linear(config.width, config.dim)

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.stack.state_size

    def forward(self, features_BTF: Tensor) -> Tensor:
        """Map features (B, T, F) to unit embeddings (B, T, D)."""
        return normalize(self.output(self.stack(self.input(features_BTF))), dim=-1)

    def step(self, features_BF: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame; see `CausalConv.step`."""
        x, memory = self.stack.step(self.input(features_BF), memory, is_first)
        return normalize(self.output(x), dim=-1), memory


class MultiHeadEncoder(nn.Module):
    """A causal base, one head per task, and an attention that mixes the heads of each frame.

    The attention of a frame reads the heads of that frame alone (the reference flattened frames into
    heads, so that an embedding depended on the length of its video).

    Args:
        config: Sizes.
        num_features: F.
        num_tasks: H.
    """

    def __init__(self, config: AlignmentEncoderConfig, num_features: int, num_tasks: int) -> None:
        super().__init__()
        self.dim = config.dim
        self.base = CausalEncoder(config, num_features)
        widths = (config.dim, *config.head_widths, config.dim)
        self.heads = nn.ModuleList(_mlp(widths) for _ in range(num_tasks))
        self.attention = _mlp((num_tasks * config.dim, config.dim, num_tasks))

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.base.state_size

    def forward(self, features_BTF: Tensor) -> Tensor:
        """Map features (B, T, F) to unit embeddings (B, T, D)."""
        return self.mix(self.base(features_BTF))

    def step(self, features_BF: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Take one frame; see `CausalConv.step`."""
        x, memory = self.base.step(features_BF, memory, is_first)
        return self.mix(x), memory

    def mix(self, base: Tensor) -> Tensor:
        """Mix the heads of every frame (..., D) by softmax(attention of all heads of that frame)."""
        heads = torch.stack([head(base) for head in self.heads], dim=-2)
        weights = self.attention(heads.flatten(-2)).softmax(-1)
        return normalize((weights.unsqueeze(-1) * heads).sum(-2), dim=-1)


class NoEncoder(nn.Module):
    """Hands features on as embeddings, for a run that learns progress alone.

    Args:
        num_features: F.
    """

    state_size = 0

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.dim = num_features

    def forward(self, features_BTF: Tensor) -> Tensor:
        """Return the features."""
        return features_BTF

    def step(self, features_BF: Tensor, memory: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of one frame, and the empty memory."""
        return features_BF, memory


class DropNetwork(nn.Module):
    """The drop vector c(V) in R^(D+1) of a video: the mean over its frames of a small net.

    Args:
        dim: D.
        num_tasks: One net each.
    """

    def __init__(self, dim: int, num_tasks: int = 1) -> None:
        super().__init__()
        self.nets = nn.ModuleList(_mlp((dim, dim, dim + 1)) for _ in range(num_tasks))

    def forward(self, embeddings_TD: Tensor, task: int = 0) -> Tensor:
        """Return c(V) (D+1,) for one video (T, D)."""
        return self.nets[task](embeddings_TD).mean(0)


def make_encoder(
    config: AlignmentEncoderConfig, num_features: int, num_tasks: int
) -> CausalEncoder | MultiHeadEncoder | NoEncoder | PictureEncoder:
    """Build the encoder that `config` names.

    Raises:
        ConfigError: The frames are not of the size that `config.pictures` says.
    """
    if config.pictures is not None:
        size = config.pictures
        if num_features != size.num_values:
            raise ConfigError(
                f"encoder.pictures: {size.height}x{size.width} pictures have {size.num_values} values, the "
                f"frames of the data have {num_features}"
            )
        front = PictureFront(size)
        inner = config.model_copy(update={"pictures": None})
        return PictureEncoder(front, make_encoder(inner, front.num_features, num_tasks))
    if config.kind == "none":
        return NoEncoder(num_features)
    if config.kind == "multi_head":
        return MultiHeadEncoder(config, num_features, num_tasks)
    return CausalEncoder(config, num_features)


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)
