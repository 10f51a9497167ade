"""What alignment training minimises: alignment losses plus lambda times the progress loss.

One module for the training loop: `forward(batch, step) -> (loss, metrics)`. Validation runs the same
losses over whole videos, all frames, and the last epoch's lambda, so that epochs can be compared.
Legend: B videos, T frames, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.batches import frames_of
from tacit_learning.alignment.model.encoder import DropNetwork
from tacit_learning.alignment.model.heads import ProgressHead
from tacit_learning.alignment.model.model import AlignmentModel, Shape
from tacit_learning.alignment.model.normalisers import MOMENTUM
from tacit_learning.alignment.model.protas import ProtasHead, precedence
from tacit_learning.alignment.model.recipe_head import RecipeHead
from tacit_learning.alignment.progress_terms import (
    SegmentRates,
    dense_terms,
    distance_loss,
    motion_loss,
    outcome_loss,
    plain_loss,
    protas_terms,
    segment_terms,
    update_statistics,
)
from tacit_learning.alignment.recipes import recipe_loss, recipe_step
from tacit_learning.alignment.settings import ALIGNMENT, COMBINED, AlignmentConfig
from tacit_learning.alignment.terms import Moment, alignment_losses, draw_frames
from tacit_learning.data.windows import Batch
from tacit_learning.losses.progress import progress_lambda

PLAIN_ACTIONS = 16
"""Actions of each video that the plain net learns from in one step, those whose start is told."""


@dataclass(frozen=True)
class Schedule:
    """How steps make epochs: one epoch is as many steps as it takes to see every video once."""

    steps_per_epoch: int
    num_epochs: int

    @classmethod
    def of(cls, num_videos: int, batch_size: int, num_steps: int) -> Schedule:
        """Count epochs of a run."""
        steps = max(1, math.ceil(num_videos / batch_size))
        return cls(steps, max(1, math.ceil(num_steps / steps)))

    def epoch(self, step: int) -> int:
        """Return the epoch (from 0) of an optimiser step."""
        return min(step // self.steps_per_epoch, self.num_epochs - 1)


class AlignmentObjective(nn.Module):
    """The model, the drop networks of GTCC, and the losses.

    Args:
        config: Configuration of the run.
        shape: Sizes of the data.
        schedule: Epochs of the run.
        frames: The frozen encoder that the features came from, where there is one: it goes along into
            the checkpoint.
    """

    def __init__(
        self, config: AlignmentConfig, shape: Shape, schedule: Schedule, frames: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config, self.schedule, self.frames = config, schedule, frames
        self.model = AlignmentModel(config, shape)
        self._share = 1.0
        if (config.progress.method, config.progress.recipe) == ("learnable", "v2"):
            for parameter in self.model.head_net.parameters() if self.model.head_net is not None else ():
                parameter.register_hook(lambda gradient: gradient * self._share)
        uses_drop = "gtcc" in config.losses.coefficients() and config.losses.gtcc.drop
        self.drop = DropNetwork(self.model.dim, shape.num_tasks) if uses_drop else None

    def set_orders(self, orders: list[list[int]]) -> None:
        """Give ProTAS the order of the actions (class numbers) in the training videos."""
        if isinstance(self.model.head_net, ProtasHead):
            self.model.head_net.net.set_graph(precedence(orders, self.model.shape.num_classes))

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a training batch, and every part of it for the log."""
        generator = torch.Generator().manual_seed(int(batch[keys.DRAW]))
        epoch = self.schedule.epoch(step)
        weight = progress_lambda(epoch, self.schedule.num_epochs, self.config.progress)
        parts = self.parts(batch, Moment(step, epoch, int(batch[keys.TASK][0])), generator)
        loss = parts[ALIGNMENT] + weight * parts["progress_loss"]
        self._share = 1 / weight if weight else 1.0  # v2: lambda is for the encoder, not for the head
        # Processes exchange the gradient of every weight that trains, so each must take part in each step.
        trained = (parameter.sum() for parameter in self.parameters() if parameter.requires_grad)
        loss = loss + sum(trained, torch.zeros(())) * 0.0
        metrics = {name: value.detach() for name, value in parts.items()}
        metrics |= {"loss": loss.detach(), "total_loss": loss.detach()}
        metrics |= {"progress_lambda": torch.tensor(weight)}
        return loss, metrics

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, float]:
        """Compute the losses of whole videos at the end of training: last epoch, all frames, no chance."""
        last = self.schedule.num_epochs - 1
        step = self.schedule.num_epochs * self.schedule.steps_per_epoch
        # The last epoch throughout: losses and lambda that change with the epoch could not be compared.
        parts = self.parts(batch, Moment(step, last, int(batch[keys.TASK][0])), None)
        weight = progress_lambda(last, self.schedule.num_epochs, self.config.progress)
        values = {name: float(value) for name, value in parts.items()}
        combined = values[ALIGNMENT] + weight * values["progress_loss"]
        return values | {"loss": combined, "total_loss": combined, COMBINED: combined}

    def parts(self, batch: Batch, moment: Moment, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Compute alignment_loss, progress_loss and each of their terms.

        Args:
            batch: From `data.batches`.
            moment: Where the training stands.
            generator: Source of chance of this step; None in validation.
        """
        aligns = self.config.losses.coefficients()
        features = self._disturb(batch[keys.FEATURES], generator)
        embeddings = self.model.embed(features)
        zero = embeddings.sum() * 0.0
        parts: dict[str, Tensor] = {ALIGNMENT: zero, "progress_loss": zero}
        if aligns:
            count = self.config.losses.frames if generator is not None else None
            drawn = draw_frames(embeddings, batch[keys.MASK], count, generator)
            terms = alignment_losses(drawn, self.config.losses, moment, self.drop)
            parts |= {f"{name}_loss": value for name, value in terms.items()}
            parts[ALIGNMENT] = sum((aligns[name] * value for name, value in terms.items()), zero)
        if self.training:
            update_statistics(self.model, embeddings.detach(), batch, MOMENTUM)
        if self.config.progress.enabled:
            terms = self._progress(batch, features, embeddings, generator)
            terms |= self._beside(batch, generator) | self._plain(batch, features, generator)
            parts["progress_loss"] = terms.pop("progress")
            weights = {"motion": self.config.progress.motion_weight}
            weights |= {"outcome": self.config.progress.outcome_weight, "plain": 1.0}
            for name in weights.keys() & terms.keys():
                parts["progress_loss"] = parts["progress_loss"] + weights[name] * terms[name]
            parts |= {f"progress_{name}": value for name, value in terms.items()}
        return parts

    def _progress(
        self, batch: Batch, features: Tensor, embeddings: Tensor, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Compute the progress loss, under `progress`, and its terms."""
        config, head = self.config.progress, self.model.head_net
        if config.method == "cumulative_l2":
            one = generator if config.frames == "one_random" else None
            return distance_loss(self.model, embeddings, batch, config, one)
        if isinstance(head, RecipeHead):
            chance = generator or torch.Generator().manual_seed(0)
            scaled = self.model.embedding_scale(embeddings)
            how = recipe_loss(config.recipe, config.learnable)  # type: ignore[arg-type]
            return {"progress": recipe_step(head, scaled, batch, config.learnable, how, chance)}
        whole, seen, clips = embeddings, features, keys.clip_of(batch) or batch
        if clips is not batch:
            seen = self._disturb(clips[keys.FEATURES], generator)
            embeddings = self.model.embed(seen)
        embeddings = embeddings.detach() if config.dense.detach else embeddings
        if isinstance(head, ProtasHead):
            return protas_terms(head, self.model.embedding_scale(embeddings), clips, config)
        assert isinstance(head, ProgressHead)
        outputs = self.model.read(embeddings, frames_of(clips)._replace(features=seen))
        terms = dense_terms(outputs, clips, config)
        if config.dense.whole and clips is not batch:
            plain = whole.detach() if config.dense.detach else whole
            said = self.model.read(plain, frames_of(batch)._replace(features=features))
            extra = config.dense.whole * dense_terms(said, batch, config)["progress"]
            terms |= {"progress": terms["progress"] + extra, "whole": extra}
        if config.dense.segments:
            chance = generator or torch.Generator().manual_seed(0)
            rates = SegmentRates(
                config.dense.per_video, self.config.head.condition_rate, float(batch[keys.FPS])
            )
            source = whole.detach() if config.dense.detach else whole
            segments = segment_terms(self.model, source, features, batch, rates, config.dense, chance)
            terms |= {"progress": terms["progress"] + config.dense.segments * segments, "segments": segments}
        return terms

    def _beside(self, batch: Batch, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Compute the losses of motion and outcome, where they are learned."""
        if self.model.motion_net is None and self.model.outcome_net is None:
            return {}
        clips = keys.clip_of(batch) or batch
        features = self._disturb(clips[keys.FEATURES], generator)
        motion, outcome = self.model.motion(features), self.model.outcome(features)
        terms = {} if motion is None else {"motion": motion_loss(motion, clips)}
        return terms if outcome is None else terms | {"outcome": outcome_loss(outcome, clips)}

    def _plain(self, batch: Batch, features: Tensor, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Compute the loss of the plain net in training; in validation it is judged with the head."""
        net = self.model.plain_net
        if net is None or generator is None:
            return {}
        scaled = self.model.scale(features)
        return {"plain": plain_loss(net, scaled, batch, PLAIN_ACTIONS, generator)}

    def _disturb(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add noise to every frame and an offset to every video (B, T, F), in training alone."""
        noise, shift = self.config.warp.noise, self.config.warp.shift
        if generator is None or not (noise or shift):
            return features
        frames = torch.randn(features.shape, generator=generator).to(features)
        videos = torch.randn(features[:, :1].shape, generator=generator).to(features)
        return features + self.model.scale.std * (noise * frames + shift * videos)
