"""The network of ACT for inference, as LeRobot and tonyzhaozh/act train it.

Sources: huggingface/lerobot 0.4.4, policies/act; tonyzhaozh/act@742c753, detr. The layers are those of our
own ACT; the ResNet is He et al. 2016, arXiv:1512.03385, under the names that torchvision's weights have.
Legend: B batch, T tokens, D width, K chunk, A action, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit_learning.layers.positions import sine_2d
from tacit_learning.layers.transformer import Decoder, Encoder, NormOrder

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, read from its weights but for `heads` and `order`.

    Attributes:
        state: Elements of the state; 0 for a policy that does not see it.
        blocks: Blocks of each stage of the ResNet.
        bottleneck: Whether they have three convolutions (ResNet-50 and up) or two.
    """

    dim: int
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    chunk: int
    action: int
    state: int
    latent: int
    blocks: tuple[int, ...]
    bottleneck: bool
    order: NormOrder = "post"


class Block(nn.Module):
    """A residual block of two (basic) or three (bottleneck) convolutions."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        channels = (inputs, width, width, outputs) if bottleneck else (inputs, width, outputs)
        self.count = len(kernels)
        for index, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            pair = channels[index], channels[index + 1]
            conv = nn.Conv2d(*pair, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index + 1}", conv)
            self.add_module(f"bn{index + 1}", nn.BatchNorm2d(pair[1]))
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        y = x
        for index in range(1, self.count + 1):
            y = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(y))
            y = F.relu(y) if index < self.count else y
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """A ResNet up to its last feature map, a 32nd of the size of the picture."""

    def __init__(self, blocks: Sequence[int], bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.channels = WIDTHS[0]
        for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
            layers = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(Block(self.channels, width, stride, bottleneck))
                self.channels = layers[-1].outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) to features (B, C, h, w)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class ActNetwork(nn.Module):
    """Tokens [latent, state, pictures] through an encoder, K learned queries through a decoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        dim = shape.dim
        arguments = (dim, shape.heads, shape.feedforward, 0.0, shape.order)
        self.backbone = ResNet(shape.blocks, shape.bottleneck)
        self.projection = nn.Conv2d(self.backbone.channels, dim, 1)
        self.encoder = Encoder(shape.encoder_layers, *arguments)
        self.decoder = Decoder(shape.decoder_layers, *arguments)
        self.latent = nn.Linear(shape.latent, dim)
        self.state = nn.Linear(shape.state, dim) if shape.state else None
        self.positions = nn.Parameter(torch.zeros(2 if shape.state else 1, dim))
        self.queries = nn.Parameter(torch.zeros(shape.chunk, dim))
        self.head = nn.Linear(dim, shape.action)

    def forward(self, state: Tensor, pictures: Sequence[Tensor]) -> Tensor:
        """Predict a normalised chunk (B, K, A) for z = 0.

        Args:
            state: Normalised state (B, S).
            pictures: Normalised pictures, each (B, 3, H, W); their order does not matter.
        """
        zero = state.new_zeros(len(state), self.shape.latent)
        tokens = [self.latent(zero).unsqueeze(1)]
        if self.state is not None:
            tokens.append(self.state(state).unsqueeze(1))
        positions: list[Tensor] = [self.positions]
        for picture in pictures:
            features = self.projection(self.backbone(picture))
            height, width = features.shape[-2:]
            tokens.append(features.flatten(2).transpose(1, 2))
            positions.append(sine_2d(height, width, self.shape.dim).flatten(0, 1).to(features))
        position = torch.cat(positions)
        memory = self.encoder(torch.cat(tokens, dim=1), position)
        return self.head(self.decoder(self.queries, memory, position))
