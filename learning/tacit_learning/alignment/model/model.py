"""The alignment model: features to embeddings to progress, over whole videos or frame by frame.

Normalisers travel as buffers: features and embeddings are z-scored, the travelled distance is divided
by its mean over the training videos. `step` carries one flat memory, so that a bundle needs to know
nothing of what is in it. Legend: B videos, T frames, F features, D embedding, C classes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tacit_learning.alignment.model.encoder import NoEncoder, make_encoder
from tacit_learning.alignment.model.heads import UNKNOWN, DistanceHead, HeadInputs, HeadOutputs, ProgressHead
from tacit_learning.alignment.model.motion import MotionNet
from tacit_learning.alignment.model.normalisers import Distances, FeatureScale
from tacit_learning.alignment.model.outcome import Outcome, OutcomeNet
from tacit_learning.alignment.model.plain import Plain, PlainNet
from tacit_learning.alignment.model.protas import ProtasHead
from tacit_learning.alignment.model.recipe_head import SPECS, RecipeHead
from tacit_learning.alignment.model.task_text import TaskText
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.layers.causal import join, split
from tacit_learning.losses.progress import cumulative_distance, increments


class Head(Protocol):
    """What the model asks of a progress head; `gives` names the outputs that mean something."""

    @property
    def gives(self) -> frozenset[str]:
        """Names among action, video, remaining, done and classes."""

    @property
    def reads_distance(self) -> bool:
        """Whether it reads how far the embedding has travelled."""

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""

    def __call__(self, inputs: HeadInputs) -> HeadOutputs:
        """Run over whole sequences."""

    def step(self, inputs: HeadInputs, memory: Tensor, is_first: Tensor) -> tuple[HeadOutputs, Tensor]:
        """Take one frame."""


class Frames(NamedTuple):
    """What the model reads of whole videos.

    features (B, T, F); elapsed (B, T) [s] since the first frame; task (B,) i8; condition (B, T) i8: class
    + 1 where it is given, else 0.
    """

    features: Tensor
    elapsed: Tensor
    task: Tensor
    condition: Tensor


class Shape(NamedTuple):
    """Sizes that come with the data: F, C with background, the numbers of tasks and kinds of failure, and
    the width of the embedding of a task's text."""

    num_features: int
    num_classes: int
    num_tasks: int
    num_failures: int = 0
    text_width: int = 0


class Stepped(NamedTuple):
    """What one frame says: outputs and motion logits with T = 1, the new memory, and the outcome with T = 1;
    None where it is not learned."""

    outputs: HeadOutputs
    motion: Tensor | None
    memory: Tensor
    outcome: Outcome | None


class AlignmentModel(nn.Module):
    """Encoder, normalisers and one progress head.

    Args:
        config: Configuration of the run.
        shape: Sizes of the data.
    """

    def __init__(self, config: AlignmentConfig, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.scale = FeatureScale(shape.num_features)
        self.encoder = make_encoder(config.encoder, shape.num_features, shape.num_tasks)
        self.dim = self.encoder.dim
        is_bare = isinstance(self.encoder, NoEncoder)
        self.embedding_scale = nn.Identity() if is_bare else FeatureScale(self.dim)
        self.distances = Distances(shape.num_tasks, shape.num_classes)
        measures = config.progress.enabled and config.progress.method == "cumulative_l2"
        self.foreground = nn.Linear(self.dim, 1) if measures else None
        self.reads_features = reads_features(config)
        width = self.dim + (shape.num_features if self.reads_features else 0)
        text = config.text if is_dense(config) else None
        self.task_text = TaskText(shape.num_tasks, shape.text_width, text.width) if text is not None else None
        width += text.width if text is not None else 0
        self.head_net = make_head(config, shape, width)
        beside = has_plain(config)
        self.plain_net = PlainNet(shape.num_features, config.head.plain) if beside else None
        moves = config.progress.enabled and config.progress.motion_weight > 0
        self.motion_net = MotionNet(config.motion, shape.num_features) if moves else None
        judges = config.progress.enabled and config.progress.outcome_weight > 0
        sizes = (shape.num_features, shape.num_failures)
        self.outcome_net = OutcomeNet(config.outcome, *sizes) if judges else None

    @property
    def head(self) -> Head | None:
        """The progress head with its type; None where only alignment is learned."""
        return self.head_net  # type: ignore[return-value]

    @property
    def state_size(self) -> int:
        """Numbers that a stream remembers."""
        return sum(self._sizes())

    @property
    def travels(self) -> bool:
        """Whether anything reads the travelled distance, so that it must be measured and remembered."""
        return self.head is not None and self.head.reads_distance

    def motion(self, features: Tensor) -> Tensor | None:
        """Return logits of the task going back, standing still, going on (B, T, 3); None: not learned."""
        return self.motion_net(self.scale(features)) if self.motion_net is not None else None

    def outcome(self, features: Tensor) -> Outcome | None:
        """Return success and failure of features (B, T, F); None: not learned."""
        return self.outcome_net(self.scale(features)) if self.outcome_net is not None else None

    @property
    def encodes(self) -> bool:
        """Whether embeddings differ from the scaled features, so that they need a scale of their own."""
        return isinstance(self.embedding_scale, FeatureScale)

    def follow_embeddings(self, rows: Tensor, momentum: float = 1.0) -> None:
        """Move the scale of embeddings towards that of `rows` (N, D), where they have one."""
        if isinstance(self.embedding_scale, FeatureScale):
            self.embedding_scale.follow(rows, momentum)

    def embed(self, features: Tensor) -> Tensor:
        """Map features (B, T, F) to unit embeddings (B, T, D)."""
        return self.encoder(self.scale(features))

    def read(self, embeddings: Tensor, frames: Frames) -> HeadOutputs:
        """Run the head over embeddings (B, T, D) of whole videos."""
        assert self.head is not None
        travelled = torch.zeros_like(frames.elapsed)
        if self.travels:
            travelled = self.distances.of_video(self.travel(embeddings), frames.task)
        entered = self._entered(embeddings, frames.features, frames.task)
        said = self.head(HeadInputs(entered, frames.elapsed, travelled, frames.condition))
        if self.plain_net is None or self.training:  # each learns for itself
            return said
        return _with_plain(said, self.plain_net(self.scale(frames.features)), frames.condition == UNKNOWN)

    def read_segments(
        self,
        embeddings: Tensor,
        features: Tensor,
        seconds: Tensor,
        label: Tensor,
        given: Tensor,
        task: Tensor,
    ) -> HeadOutputs:
        """Run the head over actions whose starts are known, each as a sequence of its own.

        Args:
            embeddings: Frames of the actions (S, L, D), padded on the right.
            features: The same frames (S, L, F).
            seconds: Time since the first frame of the action (S, L).
            label: Class of each action (S,).
            given: Whether the head is told the class (S,); it always knows that an action starts.
            task: Number of the task of each (S,).
        """
        assert self.head is not None
        distance = cumulative_distance(embeddings)
        travelled = self.distances.of_action(distance, label.unsqueeze(1).expand(distance.shape))
        condition = torch.where(given, label + 1, self.shape.num_classes + 1).unsqueeze(1)
        entered = self._entered(embeddings, features, task)
        said = self.head(HeadInputs(entered, seconds, travelled, condition.expand(distance.shape)))
        if self.plain_net is None or self.training:
            return said
        plain = self.plain_net.from_start(self.scale(features))
        return said._replace(action=torch.cat([said.action.unsqueeze(0), plain]).mean(0))

    def _entered(self, embeddings: Tensor, features: Tensor, task: Tensor) -> Tensor:
        """Return what the head sees of frames (B, ..., D) of tasks (B,): their scaled embedding, their scaled
        features, and what is to be done."""
        parts = [self.embedding_scale(embeddings)]
        parts += [self.scale(features)] if self.reads_features else []
        parts += [self.task_text(task, embeddings)] if self.task_text is not None else []
        return torch.cat(parts, dim=-1)

    def travel(self, embeddings: Tensor) -> Tensor:
        """Compute the distance (B, T) that embeddings (B, T, D) travel, on frames of actions if those are
        told from the background."""
        steps = increments(embeddings)
        if self.foreground is not None:
            steps = steps * self._foreground(embeddings[:, 1:])
        return torch.nn.functional.pad(steps, (1, 0)).cumsum(-1)

    def foreground_logits(self, embeddings: Tensor) -> Tensor:
        """Return the logit of being part of an action per frame (B, T); the embedding is not moved by it."""
        assert self.foreground is not None
        return self.foreground(self.embedding_scale(embeddings.detach())).squeeze(-1)

    def step(self, features: Tensor, elapsed: Tensor, memory: Tensor, task: int = 0) -> Stepped:
        """Take one frame with explicit memory: what the exported graph does.

        Args:
            features: (B, F).
            elapsed: Seconds since the first frame (B, 1); 0 marks the first frame, whose memory is not read.
            memory: (B, state_size).
            task: Which task is followed.
        """
        assert self.head is not None
        is_first = elapsed <= 0  # no other input of a progress bundle could tell the first frame
        encoder, before, travelled, head, beside, moving, judging = split(memory, self._sizes())
        scaled = self.scale(features)
        embedding, encoder = self.encoder.step(scaled, encoder, is_first)
        share = torch.zeros_like(elapsed)
        number = torch.full((len(features),), task, device=features.device)
        if self.travels:
            travelled = self._travelled(embedding, before, travelled, is_first)
            before = embedding
            share = self.distances.of_video(travelled, number)
        inputs = HeadInputs(
            self._entered(embedding, features, number).unsqueeze(1),
            elapsed,
            share,
            torch.full_like(elapsed, UNKNOWN, dtype=torch.long),
        )
        outputs, head = self.head.step(inputs, head, is_first)
        if self.plain_net is not None:
            plain, beside = self.plain_net.step(scaled, beside, is_first)
            outputs = _with_plain(outputs, plain)
        motion = None
        if self.motion_net is not None:
            motion, moving = self.motion_net.step(scaled, moving, is_first)
        outcome = None
        if self.outcome_net is not None:
            outcome, judging = self.outcome_net.step(scaled, judging, is_first)
        memory = join([encoder, before, travelled, head, beside, moving, judging], embedding)
        return Stepped(outputs, motion, memory, outcome)

    def _travelled(self, embedding: Tensor, before: Tensor, travelled: Tensor, is_first: Tensor) -> Tensor:
        """Return the distance (B, 1) travelled up to this frame, from that up to the one before."""
        moved = increments(torch.stack([torch.where(is_first, embedding, before), embedding], dim=1))
        if self.foreground is not None:
            moved = moved * self._foreground(embedding.unsqueeze(1))
        return torch.where(is_first, 0.0, travelled + moved)

    def _foreground(self, embeddings: Tensor) -> Tensor:
        return self.foreground_logits(embeddings).sigmoid().detach()

    def _sizes(self) -> list[int]:
        head = self.head.state_size if self.head is not None else 0
        nets = (self.plain_net, self.motion_net, self.outcome_net)
        beside = [net.state_size if net is not None else 0 for net in nets]
        return [self.encoder.state_size, *((self.dim, 1) if self.travels else (0, 0)), head, *beside]


def reads_features(config: AlignmentConfig) -> bool:
    """Tell whether the head sees features beside embeddings that differ from them."""
    encodes = config.encoder.kind != "none" and config.encoder.pictures is None
    return is_dense(config) and encodes and config.head.features


def is_dense(config: AlignmentConfig) -> bool:
    """Tell whether progress is learned by the dense head."""
    progress = config.progress
    return progress.enabled and (progress.method, progress.recipe) == ("learnable", "dense")


def has_plain(config: AlignmentConfig) -> bool:
    """Tell whether a plain GRU over the features learns beside the head."""
    return is_dense(config) and config.encoder.pictures is None and config.head.plain > 0


def _with_plain(said: HeadOutputs, plain: Plain, counts: Tensor | None = None) -> HeadOutputs:
    """Return what both say in the mean, of the frames where the plain net `counts`."""
    action, video = (said.action + plain.action) / 2, (said.video + plain.video) / 2
    if counts is not None:
        action, video = torch.where(counts, action, said.action), torch.where(counts, video, said.video)
    return said._replace(action=action, video=video)


def make_head(config: AlignmentConfig, shape: Shape, dim: int) -> nn.Module | None:
    """Build the head that `config.progress` names, over embeddings of width `dim`; None: progress is off."""
    progress = config.progress
    if not progress.enabled:
        return None
    if progress.method == "cumulative_l2":
        return DistanceHead()
    if progress.method == "protas":
        return ProtasHead(progress.protas, dim, shape.num_classes)
    if progress.recipe == "dense":
        return ProgressHead(config.head, dim, shape.num_classes, progress.terms.learned)
    options, spec = progress.learnable, SPECS[progress.recipe]
    sizes = (dim, options.hidden_dim, progress.level, options.use_gru, options.use_conv)
    return RecipeHead(spec, *sizes)
