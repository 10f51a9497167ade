"""The transformer of ACT (DETR style): positions enter queries and keys, never values.

Source: tonyzhaozh/act@742c753, with one difference: every decoder layer counts (act reads the
first only). Legend: B batch, L sequence, M memory, D model width, H heads.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormOrder = Literal["pre", "post"]


class Attention(nn.Module):
    """Multi-head attention by `scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention: width {dim} is not a multiple of {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.output = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: (B, L, D).
            key: (B, M, D).
            value: (B, M, D).
            key_padding: True = the key does not exist (B, M).

        Returns:
            (B, L, D).
        """
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        mask = None if key_padding is None else ~key_padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, ReLU, dropout, linear."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


class Residual(nn.Module):
    """The norm and dropout around one sublayer, before (pre) or after (post) the sum."""

    def __init__(self, dim: int, dropout: float, order: NormOrder) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.order = order

    def enter(self, x: Tensor) -> Tensor:
        """Return what the sublayer reads (B, L, D)."""
        return self.norm(x) if self.order == "pre" else x

    def leave(self, x: Tensor, update: Tensor) -> Tensor:
        """Return the sum (B, L, D), normalised when the order is post."""
        total = x + self.dropout(update)
        return total if self.order == "pre" else self.norm(total)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, order: NormOrder) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.around_attention = Residual(dim, dropout, order)
        self.around_feed_forward = Residual(dim, dropout, order)

    def forward(self, x: Tensor, position: Tensor, key_padding: Tensor | None = None) -> Tensor:
        """Map tokens (B, L, D) with positions (L, D) or (B, L, D) to tokens (B, L, D)."""
        y = self.around_attention.enter(x)
        located = y + position
        x = self.around_attention.leave(x, self.attention(located, located, y, key_padding))
        return self.around_feed_forward.leave(x, self.feed_forward(self.around_feed_forward.enter(x)))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, cross-attention into the memory, feed-forward."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, order: NormOrder) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.cross_attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.around_self = Residual(dim, dropout, order)
        self.around_cross = Residual(dim, dropout, order)
        self.around_feed_forward = Residual(dim, dropout, order)

    def forward(self, x: Tensor, query_position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        """Map queries (B, L, D) and memory (B, M, D) to queries (B, L, D)."""
        y = self.around_self.enter(x)
        located = y + query_position
        x = self.around_self.leave(x, self.self_attention(located, located, y))
        y = self.around_cross.enter(x)
        update = self.cross_attention(y + query_position, memory + memory_position, memory)
        x = self.around_cross.leave(x, update)
        return self.around_feed_forward.leave(x, self.feed_forward(self.around_feed_forward.enter(x)))


class Encoder(nn.Module):
    """A stack of encoder layers; a final norm only with pre-norm, as in DETR."""

    def __init__(
        self, layers: int, dim: int, heads: int, hidden: int, dropout: float, order: NormOrder
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, hidden, dropout, order) for _ in range(layers))
        self.norm = nn.LayerNorm(dim) if order == "pre" else nn.Identity()

    def forward(self, x: Tensor, position: Tensor, key_padding: Tensor | None = None) -> Tensor:
        """Map tokens (B, L, D) to tokens (B, L, D)."""
        for layer in self.layers:
            x = layer(x, position, key_padding)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of decoder layers over learned queries, then a norm. All layers are real."""

    def __init__(
        self, layers: int, dim: int, heads: int, hidden: int, dropout: float, order: NormOrder
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, hidden, dropout, order) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, query_position: Tensor, memory: Tensor, memory_position: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """Decode queries that start at zero, as in DETR, or at `start`.

        Args:
            query_position: Learned positions of the queries (K, D).
            memory: Encoder output (B, M, D).
            memory_position: Positions of the memory (M, D) or (B, M, D).
            start: First value of the queries (K, D).

        Returns:
            (B, K, D).
        """
        first = torch.zeros_like(query_position) if start is None else start
        x = first.unsqueeze(0).expand(len(memory), -1, -1)
        for layer in self.layers:
            x = layer(x, query_position, memory, memory_position)
        return self.norm(x)


def xavier_uniform_(module: nn.Module) -> None:
    """Initialise every matrix of `module` as act does its main transformer."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
