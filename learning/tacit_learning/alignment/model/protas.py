"""A multi-stage causal TCN with a progress branch and a task graph, after ProTAS (Shen and Elhamifar 2024).

Each stage refines the class probabilities of the one before it; its progress branch tells per class
how far that action is. The graph holds which class precedes which: a class whose predecessors are not
finished, or whose successors have begun, costs. Where the reference runs the whole past again for each
frame, every layer here remembers what it needs. Legend: B videos, T frames, C classes, M maps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit_learning.alignment.model.heads import HeadInputs, HeadOutputs
from tacit_learning.alignment.settings import ProtasConfig
from tacit_learning.layers.causal import CausalConv, join, split

SMOOTHING, PROGRESS, GRAPH, ANCHOR = 0.15, 1.0, 0.1, 0.01
"""Published weights: of changing classes, of per-class progress, of breaking the graph, and of a graph
that leaves where it started."""
PENALTY = 0.01
"""Published share of the graph's objection that is taken off the class logits when a class is said."""


class StageOutputs(NamedTuple):
    """One stage: class logits and per-class progress (B, T, C), and its recurrent features (B, T, M)."""

    logits: Tensor
    progress: Tensor
    features: Tensor


class Stage(nn.Module):
    """Dilated residual causal layers, a GRU branch for progress, and the fusion of both.

    Args:
        channels_in: Features of the first stage, C of the later ones.
        num_classes: C.
        config: Sizes.
    """

    def __init__(self, channels_in: int, num_classes: int, config: ProtasConfig) -> None:
        super().__init__()
        maps = config.maps
        self.input = nn.Linear(channels_in, maps)
        self.dilated = nn.ModuleList(CausalConv(maps, maps, 3, 2**level) for level in range(config.layers))
        self.mix = nn.ModuleList(nn.Linear(maps, maps) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(maps, num_classes)
        self.gru = nn.GRU(maps, maps, batch_first=True)
        self.progress = nn.Linear(maps, num_classes)
        self.fusion = nn.Linear(2 * num_classes, num_classes)

    @property
    def sizes(self) -> list[int]:
        """Numbers that each layer of a stream remembers, the GRU last."""
        convolutions = [layer for layer in self.dilated if isinstance(layer, CausalConv)]
        return [*(layer.state_size for layer in convolutions), self.gru.hidden_size]

    def forward(self, x_BTC: Tensor) -> StageOutputs:
        """Run over whole sequences."""
        x = self.input(x_BTC)
        for dilated, mix in zip(self.dilated, self.mix, strict=True):
            y = dilated(x.transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(mix(torch.relu(y)))
        features, _ = self.gru(x)
        return self._read(x, features)

    def step(self, x_BC: Tensor, memory: Tensor, is_first: Tensor) -> tuple[StageOutputs, Tensor]:
        """Take one frame; outputs have T = 1."""
        *caches, hidden = split(memory, self.sizes)
        x = self.input(x_BC)
        kept = []
        for dilated, mix, cache in zip(self.dilated, self.mix, caches, strict=True):
            assert isinstance(dilated, CausalConv)
            y, new = dilated.step(x, cache, is_first)
            x = x + mix(torch.relu(y))
            kept.append(new)
        start = torch.where(is_first, 0.0, hidden)
        features, last = self.gru(x.unsqueeze(1), start.unsqueeze(0))
        return self._read(x.unsqueeze(1), features), join([*kept, last.squeeze(0)], x)

    def _read(self, x: Tensor, features: Tensor) -> StageOutputs:
        progress = self.progress(features)
        return StageOutputs(self.fusion(torch.cat([self.classes(x), progress], -1)), progress, features)


class Protas(nn.Module):
    """All stages and the task graph.

    Args:
        config: Sizes.
        num_inputs: Width of the features of a frame.
        num_classes: C.
    """

    start_graph: Tensor

    def __init__(self, config: ProtasConfig, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = [num_inputs] + [num_classes] * (config.stages - 1)
        self.stages = nn.ModuleList(Stage(width, num_classes, config) for width in widths)
        graph = torch.zeros(2, num_classes, num_classes)
        self.register_buffer("start_graph", graph)
        self.graph = nn.Parameter(graph.clone())

    @property
    def sizes(self) -> list[int]:
        """Numbers that each stage of a stream remembers, and the completion of each class."""
        return [*(sum(stage.sizes) for stage in self._stages()), self.num_classes]

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self.sizes)

    def set_graph(self, predecessors: Tensor) -> None:
        """Start from a graph: [i, j] is the share of the occurrences of i that came after j (C, C)."""
        with torch.no_grad():
            self.start_graph.copy_(torch.stack([predecessors, predecessors.T]))
            self.graph.copy_(self.start_graph)

    def forward(self, x_BTF: Tensor) -> list[StageOutputs]:
        """Run over whole sequences; the last stage is the answer."""
        outputs: list[StageOutputs] = []
        for stage in self._stages():
            outputs.append(stage(outputs[-1].logits.softmax(-1) if outputs else x_BTF))
        return outputs

    def step(self, x_BF: Tensor, memory: Tensor, is_first: Tensor) -> tuple[StageOutputs, Tensor]:
        """Take one frame and return the last stage's answer (T = 1, logits decided) and the new memory."""
        *memories, finished = split(memory, self.sizes)
        kept, outputs = [], None
        for stage, old in zip(self._stages(), memories, strict=True):
            x = x_BF if outputs is None else outputs.logits.squeeze(1).softmax(-1)
            outputs, new = stage.step(x, old, is_first)
            kept.append(new)
        assert outputs is not None
        now = outputs.progress.squeeze(1).clamp(0, 1)
        finished = torch.where(is_first, now, torch.maximum(finished, now))
        cost = self.graph_cost(finished).unsqueeze(1)
        logits = outputs.logits - PENALTY * cost
        return outputs._replace(logits=logits), join([*kept, finished], x_BF)

    def graph_cost(self, completion: Tensor) -> Tensor:
        """Compute (1 - c) A_pre + c A_suc per class: what it costs to say a class at a frame.

        Args:
            completion: c, the largest progress of each class so far (..., C).
        """
        before, after = self.graph.unbind(0)
        return (1 - completion) @ before.T + completion @ after.T

    def decide(self, outputs: StageOutputs) -> Tensor:
        """Return class logits of whole sequences after the graph's objection (B, T, C)."""
        return outputs.logits - PENALTY * self.graph_cost(completion(outputs))

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]


def completion(outputs: StageOutputs) -> Tensor:
    """Return the largest progress of each class so far, in 0..1 (B, T, C)."""
    return outputs.progress.clamp(0, 1).cummax(dim=1).values


class ProtasHead(nn.Module):
    """ProTAS as a progress head, with progress of the video and completion read from its last stage.

    Args:
        config: Sizes.
        dim: Width of the embedding.
        num_classes: C.
    """

    gives = frozenset({"action", "video", "done", "classes"})
    reads_distance = False

    def __init__(self, config: ProtasConfig, dim: int, num_classes: int) -> None:
        super().__init__()
        self.net = Protas(config, dim, num_classes)
        self.whole = nn.Linear(config.maps, 2)

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return self.net.state_size

    def forward(self, inputs: HeadInputs) -> HeadOutputs:
        """Run over whole sequences."""
        return self.read(self.net(inputs.embedding))

    def read(self, stages: list[StageOutputs]) -> HeadOutputs:
        """Return what the stages of whole sequences say."""
        return self._outputs(stages[-1]._replace(logits=self.net.decide(stages[-1])))

    def step(self, inputs: HeadInputs, memory: Tensor, is_first: Tensor) -> tuple[HeadOutputs, Tensor]:
        """Take one frame, T = 1."""
        last, memory = self.net.step(inputs.embedding.squeeze(1), memory, is_first)
        return self._outputs(last), memory

    def _outputs(self, last: StageOutputs) -> HeadOutputs:
        """Read the progress of the class that each frame is decided to belong to."""
        decided = last.logits.argmax(-1, keepdim=True)
        action = last.progress.gather(-1, decided).squeeze(-1).clamp(0, 1)
        video, done = self.whole(last.features).unbind(-1)
        return HeadOutputs(action, video.sigmoid(), torch.zeros_like(action), done, last.logits)


class ProtasTargets(NamedTuple):
    """labels (B, T) i8, progress of the frame's own class (B, T), mask (B, T)."""

    labels: Tensor
    progress: Tensor
    mask: Tensor


def protas_loss(model: Protas, outputs: list[StageOutputs], targets: ProtasTargets) -> dict[str, Tensor]:
    """Compute sum over stages of CE + .15 smoothing + progress MSE, and the terms of the graph.

    Smoothing is the mean of min((log p_t - stopgrad log p_(t-1))^2, 16); the progress target is zero
    in all rows but the frame's class; the graph term is the mean of cost times softmax of the last stage.
    """
    mask = targets.mask
    zero = outputs[0].logits.sum() * 0.0
    classes, smoothing, progress = zero, zero, zero
    one_hot = F.one_hot(targets.labels, outputs[0].logits.shape[-1])
    wanted = one_hot * targets.progress.unsqueeze(-1)
    for stage in outputs:
        classes = classes + F.cross_entropy(stage.logits[mask], targets.labels[mask])
        smoothing = smoothing + _smoothing(stage.logits, mask)
        progress = progress + (stage.progress - wanted)[mask].square().mean()
    last = outputs[-1]
    graph = (model.graph_cost(completion(last)) * last.logits.softmax(-1))[mask].mean()
    anchor = (model.graph - model.start_graph).square().mean()
    total = classes + SMOOTHING * smoothing + PROGRESS * progress
    total = total + GRAPH * graph + ANCHOR * anchor
    return {"protas": total, "classes": classes, "smoothing": smoothing, "graph": graph}


def precedence(orders: list[list[int]], num_classes: int) -> Tensor:
    """Compute the share of the occurrences of class i before which class j had occurred (C, C).

    Args:
        orders: Class numbers of the actions of every training video, in order of time.
        num_classes: C; the background (0) has no order.

    Returns:
        Shares of at least .5 alone: an order that data contradict half of the time is none.
    """
    counts, seen = torch.zeros(num_classes, num_classes), torch.zeros(num_classes)
    for order in orders:
        for position, label in enumerate(order):
            seen[label] += 1
            for earlier in set(order[:position]) - {label}:
                counts[label, earlier] += 1
    shares = counts / seen.clamp(min=1).unsqueeze(1)
    return shares * (shares > 0.5)


def _smoothing(logits: Tensor, mask: Tensor) -> Tensor:
    logp = logits.log_softmax(-1)
    change = (logp[:, 1:] - logp[:, :-1].detach()).square().clamp(max=16.0)
    pairs = mask[:, 1:] & mask[:, :-1]
    return change[pairs].mean() if bool(pairs.any()) else logits.sum() * 0.0
