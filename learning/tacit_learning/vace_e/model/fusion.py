"""Where the streams enter the video: x <- x + H_l(x, tokens, t) after chosen blocks.

`Adapter` is decoupled cross-attention (Ye et al. 2023, arXiv:2308.06721) with a learned balance of
task and embodiment; `ContextBlock` is a copy of the DiT block, to compare. The last layer of both
starts at zero, so the model starts as base VACE, bit for bit. Legend: B batch, N video tokens,
L stream tokens, D width of the video, E width of the streams, H heads.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tacit_learning.vace_e.config_model import ModelConfig
from tacit_learning.vace_e.model.encoders import Encoded, Tokens, latent_frame_times, sinusoid
from tacit_learning.vace_e.model.pointing import Places, Pointer

NORM_EPS = 1e-6  # of the Wan blocks
WIDEST = 32.0  # radians over a side of the picture in the fastest sine: five waves


@dataclass(frozen=True)
class Condition:
    """What `VaceE.forward` needs beside the base inputs: stream tokens, and the reference slots."""

    task: Tokens
    embodiment: Tokens
    z_task: Tensor  # (B, feature_dim)
    z_emb: Tensor  # (B, feature_dim)
    num_reference: int = 0
    places: Places | None = None  # of hands and objects in the picture; None: no such streams
    scale: float = 1.0  # of what the streams add

    @classmethod
    def of(cls, encoded: Encoded, num_reference: int, places: Places | None = None) -> Condition:
        """Join what the encoders said with the number of leading latent frames that are references."""
        return cls(*encoded, num_reference=num_reference, places=places)


@dataclass(frozen=True)
class Scene:
    """What the blocks of one forward share."""

    grid: tuple[int, int, int]  # latent frames, rows and columns of tokens
    time: Tensor  # (B, D), embedded timestep
    modulation: Tensor  # (B, 6, D), the same for the six modulations of a block
    rotary: tuple[Tensor, Tensor]
    pointed: Tensor | None = None  # (B, N, E), where each token is seen from hands and objects


class HeadNorm(nn.RMSNorm):
    """RMS norm of queries or keys whose weight follows their number type, so that it stays one kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class KeyValue(nn.Module):
    """Keys and values of one kind of token for one layer."""

    def __init__(self, inputs: int, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.key = nn.Linear(inputs, dim)
        self.value = nn.Linear(inputs, dim)
        self.key_norm = HeadNorm(dim // heads, eps=NORM_EPS)
        self.heads = heads

    def forward(self, query: Tensor, tokens: Tokens) -> Tensor:
        """Attend from queries (B, H, N, d) to tokens; returns (B, N, D)."""
        values = self.norm(tokens.values.to(self.key.weight.dtype))
        key = self.key_norm(_split(self.key(values), self.heads)).to(query.dtype)
        value = _split(self.value(values), self.heads).to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=tokens.mask[:, None, None, :])
        return mixed.transpose(1, 2).flatten(2)


class Adapter(nn.Module):
    """H = W_o [gate(t) (w_task A(Q, task) + w_emb A(Q, embodiment) + W_p place)], w = 2 softmax(balance).

    Video queries carry the time of their latent frame, reference slots a learned null time, so that
    motion tokens find their frames; and their place in the picture, as the result does: the rotary code
    of Wan tells only how far tokens are apart, and a motion says where. W_o starts at zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, heads, inputs = config.backbone.dim, config.backbone.heads, config.encoders.dim
        self.heads = heads
        self.time_dim = inputs
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS, elementwise_affine=False)
        self.frame_time = nn.Linear(inputs, dim)
        self.reference_time = nn.Parameter(torch.zeros(dim))
        self.place = nn.Linear(inputs, 2 * dim)
        self.query = nn.Linear(dim, dim)
        self.query_norm = HeadNorm(dim // heads, eps=NORM_EPS)
        self.task = KeyValue(inputs, dim, heads)
        self.embodiment = KeyValue(inputs, dim, heads)
        self.balance = nn.Parameter(torch.zeros(2))
        self.gate = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.pointed = nn.Linear(inputs, dim) if config.task_processing else None
        for layer in (self.gate, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def weights(self) -> Tensor:
        """Return (w_task, w_emb); they sum to 2."""
        return 2 * self.balance.softmax(0)

    def forward(self, x: Tensor, condition: Condition, scene: Scene) -> Tensor:
        """Map video tokens (B, N, D) to what is added to them (B, N, D)."""
        dtype = self.query.weight.dtype
        seen, told = self._places(scene).chunk(2, dim=-1)
        located = self.norm(x.float()).to(dtype) + self._times(condition.num_reference, scene) + seen
        query = self.query_norm(_split(self.query(located), self.heads)).to(x.dtype)
        w_task, w_emb = self.weights().to(x.dtype)
        mixed = w_task * self.task(query, condition.task)
        mixed = mixed + w_emb * self.embodiment(query, condition.embodiment) + told.to(x.dtype)
        if self.pointed is not None and scene.pointed is not None:
            mixed = mixed + self.pointed(scene.pointed.to(dtype)).to(x.dtype)
        gate = 1 + self.gate(F.silu(scene.time.to(dtype))).unsqueeze(1)
        return self.output((gate * mixed).to(dtype)).to(x.dtype)

    def _times(self, num_reference: int, scene: Scene) -> Tensor:
        """Return the time code of every video token (1, N, D)."""
        frames, rows, columns = scene.grid
        times = latent_frame_times(frames - num_reference, scene.time.device)
        code = self.frame_time(sinusoid(times, self.time_dim).to(self.frame_time.weight.dtype))
        code = torch.cat([self.reference_time.expand(num_reference, -1), code])
        return code.repeat_interleave(rows * columns, dim=0).unsqueeze(0)

    def _places(self, scene: Scene) -> Tensor:
        """Return the two codes of the place of every video token (1, N, 2 D): for its query, and its own."""
        frames, rows, columns = scene.grid
        sides = [
            WIDEST * (torch.arange(count, device=scene.time.device) + 0.5) / count
            for count in (rows, columns)
        ]
        down, across = (sinusoid(side, self.time_dim // 2) for side in sides)
        code = torch.cat(
            [down.unsqueeze(1).expand(-1, columns, -1), across.expand(rows, -1, -1)], dim=-1
        ).flatten(0, 1)
        return self.place(code.to(self.place.weight.dtype)).repeat(frames, 1).unsqueeze(0)


class ContextBlock(nn.Module):
    """H = W_o block(x, context): a copy of the DiT block that reads stream tokens for text tokens."""

    def __init__(self, config: ModelConfig, block: nn.Module) -> None:
        super().__init__()
        dim, inputs = config.backbone.dim, config.encoders.dim
        self.context = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, dim))
        self.block: Any = copy.deepcopy(block).requires_grad_(True)
        self.pointed = nn.Linear(inputs, dim) if config.task_processing else None
        self.output = nn.Linear(dim, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, condition: Condition, scene: Scene) -> Tensor:
        """Map video tokens (B, N, D) to what is added to them (B, N, D)."""
        if self.pointed is not None and scene.pointed is not None:
            x = x + self.pointed(scene.pointed.to(self.output.weight.dtype)).to(x.dtype)
        joined = [torch.cat(parts, dim=1) for parts in zip(condition.task, condition.embodiment, strict=True)]
        context = self.context(joined[0].to(self.output.weight.dtype))
        return self.output(self._masked_block(x, context, joined[1], scene)).to(x.dtype)

    def _masked_block(self, x: Tensor, context: Tensor, mask: Tensor, scene: Scene) -> Tensor:
        """Do as `WanTransformerBlock.forward`, but hide the masked keys of the context."""
        block = self.block
        x = x.to(self.output.weight.dtype)
        modulation = (block.scale_shift_table + scene.modulation.float()).chunk(6, dim=1)
        shift, scale, gate, shift_ff, scale_ff, gate_ff = modulation
        normed = (block.norm1(x.float()) * (1 + scale) + shift).type_as(x)
        x = (x.float() + block.attn1(normed, None, None, scene.rotary) * gate).type_as(x)
        normed = block.norm2(x.float()).type_as(x)
        x = x + block.attn2(normed, context, mask[:, None, None, :], None)
        normed = (block.norm3(x.float()) * (1 + scale_ff) + shift_ff).type_as(x)
        return (x.float() + block.ffn(normed).float() * gate_ff).type_as(x)


class Fusion(nn.Module):
    """The adapters of a model, by the number of the block that each follows."""

    def __init__(self, config: ModelConfig, blocks: nn.ModuleList) -> None:
        super().__init__()
        made: dict[str, nn.Module] = {}
        for layer in config.layers:
            made[str(layer)] = (
                Adapter(config) if config.injection == "adapter" else ContextBlock(config, blocks[layer])
            )
        self.layers = nn.ModuleDict(made)
        self.pointer = Pointer(config.encoders.dim) if config.task_processing else None

    def at(self, layer: int) -> nn.Module | None:
        """Return what follows block `layer`, or None."""
        name = str(layer)
        if name not in self.layers:
            return None
        return self.layers[name]

    def balances(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Return (w_task, w_emb) of every adapter, cut from the graph; empty for context blocks."""
        return {
            int(layer): tuple(2 * whole(adapter.balance.detach()).softmax(0))
            for layer, adapter in self.layers.items()
            if isinstance(adapter, Adapter)
        }


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may be sharded over processes in one piece; all of them must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
