"""The learnable progress head: causal convolutions and a GRU over embeddings, elapsed time and distance.

Every frame gets progress in its action and in the whole video, the remaining time, a done logit and
class logits. Output t uses frames up to t; `step` equals `forward`. Legend: B videos, T frames,
D embedding, C classes (0 is the background), H hidden.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.alignment.settings import HeadConfig
from tacit_learning.layers.causal import CausalStack, join, split

ELAPSED_CAP_S = 60.0
"""Elapsed time t [s] enters as log(1 + t) / log(1 + 60): about 1 at the end of a minute's task."""
START_BIAS = -2.0  # sigmoid(-2) = .12: an untrained head says "near the start"
UNKNOWN = 0
"""Condition of a frame of which nothing is told; class c is condition c+1, and one after the last class
says that an action, whichever, began where the condition changed."""


class HeadInputs(NamedTuple):
    """What the head reads of frames: embedding (B, T, D) z-scored, elapsed (B, T) [s], travelled
    distance over its training mean (B, T; 0 where the head does not read it), condition (B, T) i8."""

    embedding: Tensor
    elapsed: Tensor
    travelled: Tensor
    condition: Tensor


class HeadOutputs(NamedTuple):
    """What the head says: progress in the action and in the video (B, T) in 0..1, remaining [s] (B, T),
    done logit (B, T), class logits (B, T, C)."""

    action: Tensor
    video: Tensor
    remaining: Tensor
    done: Tensor
    classes: Tensor


EVERYTHING = frozenset(HeadOutputs._fields)


class ProgressHead(nn.Module):
    """Linear, residual causal convolutions, GRU, and one small net for all outputs.

    Args:
        config: Sizes.
        dim: D.
        num_classes: C, with the background.
        gives: Outputs that are trained.
    """

    def __init__(
        self, config: HeadConfig, dim: int, num_classes: int, gives: frozenset[str] = EVERYTHING
    ) -> None:
        super().__init__()
        self.config, self.gives, self.reads_distance = config, gives, config.distance
        self.cap = math.log1p(ELAPSED_CAP_S)
        self.num_classes = num_classes
        self.condition = nn.Embedding(num_classes + 2, config.class_dim) if config.class_dim else None
        num_inputs = dim + 1 + int(config.distance) + (config.class_dim + 1 if config.class_dim else 0)
        self.input = nn.Linear(num_inputs, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = CausalStack(config.width, config.dilations, dropout=config.dropout)
        recurrent = config.recurrent == "gru"
        self.gru = nn.GRU(config.width, config.hidden, batch_first=True) if recurrent else None
        width = config.hidden if recurrent else config.width
        self.num_progress = num_classes if config.per_class else 1
        self.output = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.num_progress + 3 + num_classes)
        )
        bias = self.output[2].bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias[: self.num_progress + 1].fill_(START_BIAS)
            bias[self.num_progress + 2].fill_(START_BIAS)

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self._sizes())

    def forward(self, inputs: HeadInputs) -> HeadOutputs:
        """Run over whole sequences."""
        x = self.stack(self._enter(inputs, _since_change(inputs)))
        if self.gru is not None:
            x, _ = self.gru(x)
        return self._read(x)

    def step(self, inputs: HeadInputs, memory: Tensor, is_first: Tensor) -> tuple[HeadOutputs, Tensor]:
        """Take one frame, T = 1.

        Args:
            inputs: What is read of this frame.
            memory: (B, state_size); ignored where `is_first`.
            is_first: Whether this frame starts its sequence (B, 1).
        """
        caches, hidden, clock = split(memory, self._sizes())
        changed = is_first | (inputs.condition != clock[:, :1].round())
        since = torch.where(changed, inputs.elapsed, clock[:, 1:])
        clock = torch.cat([inputs.condition.to(since), since], dim=-1)
        x, caches = self.stack.step(self._enter(inputs, inputs.elapsed - since).squeeze(1), caches, is_first)
        x = x.unsqueeze(1)
        if self.gru is not None:
            start = torch.where(is_first, 0.0, hidden)
            x, last = self.gru(x, start.unsqueeze(0))
            hidden = last.squeeze(0)
        return self._read(x), join([caches, hidden, clock], caches)

    def _sizes(self) -> list[int]:
        return [self.stack.state_size, self.config.hidden if self.gru is not None else 0, 2]

    def _enter(self, inputs: HeadInputs, since: Tensor) -> Tensor:
        # In the logarithm a task that takes twice as long is a shift, not another scale.
        time = torch.log1p(inputs.elapsed.clamp(min=0.0)) / self.cap
        parts = [self.dropout(inputs.embedding), time.unsqueeze(-1)]
        if self.config.distance:
            parts.append(inputs.travelled.unsqueeze(-1))
        if self.condition is not None:
            known = inputs.condition != UNKNOWN
            in_class = torch.where(known, torch.log1p(since.clamp(min=0.0)) / self.cap, 0.0)
            parts += [self.condition(inputs.condition), in_class.unsqueeze(-1)]
        return torch.relu(self.input(torch.cat(parts, dim=-1)))

    def _read(self, x: Tensor) -> HeadOutputs:
        sizes = [self.num_progress, 1, 1, 1, self.num_classes]
        action, video, remaining, done, classes = self.output(x).split(sizes, dim=-1)
        action = action.sigmoid()
        if self.config.per_class:
            action = (action * classes.softmax(-1)).sum(-1, keepdim=True)
        seconds = torch.nn.functional.softplus(remaining.squeeze(-1))
        return HeadOutputs(
            action.squeeze(-1), video.squeeze(-1).sigmoid(), seconds, done.squeeze(-1), classes
        )


class DistanceHead(nn.Module):
    """No parameters: progress of the video is the travelled distance over its training mean, clipped.

    Its `done` logit crosses 0 where progress reaches .97.
    """

    gives = frozenset({"video"})
    state_size = 0
    reads_distance = True

    def forward(self, inputs: HeadInputs) -> HeadOutputs:
        """Read the distance that the model measured."""
        return progress_alone(inputs.travelled.clamp(0, 1))

    def step(self, inputs: HeadInputs, memory: Tensor, is_first: Tensor) -> tuple[HeadOutputs, Tensor]:
        """Take one frame, T = 1; the model remembers the distance."""
        return self(inputs), memory


DONE_AT, DONE_SLOPE = 0.97, 100.0


def progress_alone(progress: Tensor) -> HeadOutputs:
    """Fill in what such a head does not know: it gives progress alone, and done from it."""
    nothing = torch.zeros_like(progress)
    done = DONE_SLOPE * (progress - DONE_AT)
    return HeadOutputs(progress, progress, nothing, done, nothing.unsqueeze(-1))


def _since_change(inputs: HeadInputs) -> Tensor:
    """Return the time since the condition last changed (B, T) [s]."""
    changed = torch.ones_like(inputs.condition, dtype=torch.bool)
    changed[:, 1:] = inputs.condition[:, 1:] != inputs.condition[:, :-1]
    return inputs.elapsed - torch.where(changed, inputs.elapsed, 0.0).cummax(dim=1).values
