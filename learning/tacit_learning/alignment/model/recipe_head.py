"""The progress heads v1 to v4 of the original notes: a GRU over the embeddings of a prefix.

v1 and v2: GRU 128->64, MLP 64-32-1; they differ in what they are shown. v3: the position k/T of frame k in a
prefix of T frames enters too, and the start of the memory is learned; that position says nothing of the
action, since the last frame of any prefix lies at (T-1)/T. v4: v2 with another loss. Later heads let a frame
count enter, and all may have a dilated convolution before the GRU (the original one looked ahead; this one
does not). All judge the last frame of a prefix that starts with its action. Legend: P prefixes, L frames,
D embedding, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tacit_learning.alignment.model.heads import HeadInputs, HeadOutputs, progress_alone
from tacit_learning.layers.causal import CausalConv, join, split
from tacit_learning.losses.progress import Level

Version = Literal["v1", "v2", "v3", "v4"]
CONV_DILATION = 4
COUNT_CAP = 300.0
HEAD_WIDTH = 32


@dataclass(frozen=True)
class RecipeSpec:
    """What distinguishes the heads: does the position enter, is the start learned, does a count enter."""

    position: bool = False
    learned_start: bool = False
    count: bool = False

    @property
    def extra_width(self) -> int:
        """Inputs beside the embedding."""
        return int(self.position) + int(self.count)


SPECS: dict[Version, RecipeSpec] = {
    "v1": RecipeSpec(),
    "v2": RecipeSpec(),
    "v3": RecipeSpec(position=True, learned_start=True),
    "v4": RecipeSpec(),
}


class RecipeHead(nn.Module):
    """A GRU over a prefix and an MLP on its last output.

    Args:
        spec: Which inputs enter.
        dim: D.
        hidden: Width of the GRU; 0: none, the MLP sees the frame alone.
        level: What its progress means.
        use_gru: Without it the MLP sees the frame alone.
        use_conv: A dilated convolution over what enters.
    """

    reads_distance = False

    def __init__(
        self,
        spec: RecipeSpec,
        dim: int,
        hidden: int,
        level: Level,
        use_gru: bool = True,
        use_conv: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.level, self.hidden = spec, level, hidden
        self.gives = frozenset({"action" if level == "action" else "video"})
        width = dim + spec.extra_width
        self.conv = CausalConv(width, width, dilation=CONV_DILATION) if use_conv else None
        self.gru = nn.GRU(width, hidden, batch_first=True) if use_gru else None
        self.h0 = nn.Parameter(torch.zeros(1, 1, hidden)) if spec.learned_start else None
        width = hidden if use_gru else width
        self.mlp = nn.Sequential(nn.Linear(width, HEAD_WIDTH), nn.ReLU(), nn.Linear(HEAD_WIDTH, 1))

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        conv = self.conv.state_size if self.conv is not None else 0
        return [conv, self.hidden if self.gru is not None else 0]

    @property
    def streams(self) -> bool:
        """Whether the answer at a frame can be had without running its whole prefix again."""
        return not (self.spec.position or self.spec.count)

    def last(self, prefixes_PLD: Tensor, lengths: Tensor) -> Tensor:
        """Judge the last frame of each prefix.

        Args:
            prefixes_PLD: Padded on the right.
            lengths: Frames of each (P,).

        Returns:
            Progress (P,) in 0..1.
        """
        every = self._run(torch.cat([prefixes_PLD, *self._extra(prefixes_PLD, lengths)], dim=-1))
        return every.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)

    def every(self, sequences_PLD: Tensor) -> Tensor:
        """Judge every frame (P, L) as the last one of its prefix; one pass where the head streams."""
        if self.streams:
            return self._run(sequences_PLD)
        count = sequences_PLD.shape[1]
        rows = [
            self.last(sequences_PLD[:, : t + 1], torch.full((len(sequences_PLD),), t + 1))
            for t in range(count)
        ]
        return torch.stack(rows, dim=1)

    def forward(self, inputs: HeadInputs) -> HeadOutputs:
        """Judge every frame of whole sequences."""
        return progress_alone(self.every(inputs.embedding))

    def step(self, inputs: HeadInputs, memory: Tensor, is_first: Tensor) -> tuple[HeadOutputs, Tensor]:
        """Take one frame, T = 1."""
        if not self.streams:
            raise ValueError("a head with positions or counts runs every prefix anew: it has no step")
        x, (cache, hidden) = inputs.embedding, split(memory, self._sizes())
        if self.conv is not None:
            seen, cache = self.conv.step(x.squeeze(1), cache, is_first)
            x = torch.relu(seen).unsqueeze(1)
        if self.gru is not None:
            x, last = self.gru(x, torch.where(is_first, self._start(len(x))[0], hidden).unsqueeze(0))
            hidden = last.squeeze(0)
        return progress_alone(self.mlp(x).squeeze(-1).sigmoid()), join([cache, hidden], memory)

    def _run(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        if self.gru is not None:
            x, _ = self.gru(x, self._start(len(x)))
        return self.mlp(x).squeeze(-1).sigmoid()

    def _start(self, count: int) -> Tensor:
        if self.h0 is not None:
            return self.h0.expand(-1, count, -1).contiguous()
        return self.mlp[0].weight.new_zeros(1, count, self.hidden)  # type: ignore[union-attr,operator]

    def _extra(self, prefixes: Tensor, lengths: Tensor) -> list[Tensor]:
        shape, extra = (*prefixes.shape[:2], 1), []
        if self.spec.position:
            frames = torch.arange(shape[1], device=prefixes.device).unsqueeze(0)
            extra.append((frames / lengths.unsqueeze(1)).unsqueeze(-1).to(prefixes))
        if self.spec.count:
            counts = torch.log1p(lengths.to(prefixes)) / math.log1p(COUNT_CAP)
            extra.append(counts.view(-1, 1, 1).expand(shape))
        return extra
