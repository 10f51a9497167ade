"""The whole objective: flow matching on clips, and the feature losses on a batch of their own.

L = L_flow + a SupCon(task) + b SupCon(embodiment) + c(step) CLUB + d L_xcov + sum_k w_k extra_k.
Features depend
on neither noise nor noise level, so their batch is balanced over classes and independent of how many
clips fit a device. Legend: B clips, C channels, T latent frames, H W cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, did_you_mean
from tacit_learning.engine.distributed import gather_rows
from tacit_learning.losses.contrastive import contrastive_floor, supervised_contrastive_loss
from tacit_learning.losses.cross_covariance import cross_covariance_loss
from tacit_learning.losses.flow import (
    add_noise,
    flow_loss_per_sample,
    flow_weight,
    share_weight,
    timestep_of,
    velocity_target,
)
from tacit_learning.vace_e.club import ClubTrainer
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.batches import Batch
from tacit_learning.vace_e.data.inputs import Clips
from tacit_learning.vace_e.data.noise import Noise
from tacit_learning.vace_e.model.balance import Balance
from tacit_learning.vace_e.model.vace_e import Features, VaceE


class Predictions(NamedTuple):
    """What the model says of a batch, in float32."""

    flow: Tensor  # (B,), loss of each clip
    velocity: Tensor  # (B, 16, T, H, W)
    features: Features | None


@dataclass(frozen=True)
class VaceEContext:
    """What an extra loss may read beside the predicted velocity and its target.

    Features and labels are those of all processes; None where the stage trains no features.
    """

    features: Features | None
    task_label: Tensor | None
    embodiment_label: Tensor | None
    clips: Clips
    noise: Noise
    step: int


ExtraLoss = Callable[[Tensor, Tensor, VaceEContext], Tensor]
_EXTRA: dict[str, ExtraLoss] = {}


def extra_loss(name: str) -> Callable[[ExtraLoss], ExtraLoss]:
    """Register `f(predicted, target, context) -> scalar` under a name for `extra_losses`."""

    def register(function: ExtraLoss) -> ExtraLoss:
        _EXTRA[name] = function
        return function

    return register


def find_extra_loss(name: str) -> ExtraLoss:
    """Return a registered loss.

    Raises:
        ConfigError: None of that name; the module that registers it must be imported first.
    """
    if name not in _EXTRA:
        raise ConfigError(
            f"extra_losses: {name!r} is not registered; {did_you_mean(name, _EXTRA)}; name the module that "
            "registers it in extra_loss_modules"
        )
    return _EXTRA[name]


class Objective(nn.Module):
    """All trainable parts and all terms in one forward, so that DDP and FSDP see one graph.

    Args:
        model: What trains.
        config: Weights of the terms.
        club: Estimator with its own optimiser; it learns in the forward, on features cut from their graph.
        num_steps: Steps of the whole run, over a share of which the weight of CLUB grows.
    """

    def __init__(
        self, model: VaceE, config: VaceEConfig, club: ClubTrainer | None = None, num_steps: int = 1
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.club = club
        self.num_steps = num_steps
        self.balance: Balance | None = None
        if model.encoders is not None and config.feature_share is not None and config.feature_losses:
            self.balance = model.encoders.balance
            self.balance.share = config.feature_share
        self.watch: Callable[[Batch, Tensor, int], None] | None = None  # told (batch, velocity, step)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, as the average of the weights is one, has neither CLUB nor somebody who watches."""
        return {**self.__dict__, "club": None, "watch": None}

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to descend and the numbers to log, all on the device."""
        pulls = None if self.balance is None else self.balance.settle()
        predictions = self.predict(batch)
        if self.watch is not None:
            self.watch(batch, predictions.velocity.detach(), step)
        with torch.autocast(predictions.flow.device.type, enabled=False):
            loss, metrics = self._combine(predictions, batch, step)
        if self.balance is not None and pulls is not None and predictions.features is not None:
            pull = torch.where(pulls[0] > 0, pulls[1] / pulls[0], 0.0)
            metrics["feature_pull"] = pull.to(loss.device)
            metrics["feature_scale"] = self.balance.scale().to(loss.device)
        return loss, metrics

    def predict(self, batch: Batch) -> Predictions:
        """Predict velocities of noisy clips, and features of the feature batch (or of the clips)."""
        clips, noise = batch.clips, batch.noise
        condition = self.model.conditioning(clips.signals, clips.num_reference)
        noisy = add_noise(clips.latents, noise.values, noise.sigma)
        velocity = self.model(noisy, timestep_of(noise.sigma), clips.control, clips.text, condition)
        found = None
        if batch.features is not None:
            found = self.model.features(batch.features.signals)
        elif condition is not None and self._in_batch:
            found = self.model.project(condition.z_task, condition.z_emb)
        features = None if found is None else Features(*(each.float() for each in found))
        flow = flow_per_clip(self.config, velocity, clips, noise)
        return Predictions(flow.float(), velocity.float(), features)

    @property
    def _in_batch(self) -> bool:
        """Whether the feature losses read the clips, and this stage trains the encoders."""
        if not self.config.feature_losses or self.config.feature_batch or self.model.encoders is None:
            return False
        return next(self.model.encoders.parameters()).requires_grad

    def _combine(self, predictions: Predictions, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Weigh all terms."""
        flow = predictions.flow.mean()
        metrics = {"flow": flow.detach()}
        loss, gathered, everyone = flow, None, None
        if predictions.features is not None:
            labels = batch.clips if batch.features is None else batch.features
            gathered = Features(*(gather_rows(each) for each in predictions.features))
            everyone = gather_rows(torch.stack([labels.task_label, labels.embodiment_label], dim=1))
            terms = self._feature_terms(gathered, everyone, step, metrics)
            # a feature batch comes once per step: made up for the division by the accumulated batches
            scale = 1 if batch.features is None else self.config.gradient_accumulation_steps
            # features stay in the graph even where every weight is 0, or DDP would wait for them
            loss = loss + scale * (terms + 0.0 * sum(each.sum() for each in predictions.features))
        if self.config.extra_losses:
            target = velocity_target(batch.clips.latents, batch.noise.values)
            task, embodiment = (None, None) if everyone is None else everyone.unbind(1)
            context = VaceEContext(gathered, task, embodiment, batch.clips, batch.noise, step)
            for name, weight in self.config.extra_losses.items():
                value = find_extra_loss(name)(predictions.velocity, target, context)
                metrics[f"extra_{name}"] = value.detach()
                loss = loss + weight * value
        return loss, metrics

    def _feature_terms(
        self, features: Features, labels: Tensor, step: int, metrics: dict[str, Tensor]
    ) -> Tensor:
        """Weigh the terms of the features of all processes, and note each in `metrics`."""
        config = self.config
        total = features.z_task.new_zeros(())
        if config.enable_contrastive_loss:
            weights = (config.task_contrastive_lambda, config.embodiment_contrastive_lambda)
            pairs = zip(("task", "embodiment"), weights, features[2:], labels.unbind(1), strict=True)
            for name, weight, projected, label in pairs:
                value = supervised_contrastive_loss(projected, label, config.contrastive_temperature)
                metrics[f"{name}_contrastive"] = value.detach()
                metrics[f"{name}_excess"] = value.detach() - contrastive_floor(label).to(value.device)
                total = total + weight * value
        if self.club is not None:
            estimate = self.club.step(features.z_task, features.z_emb, step)
            metrics |= {"club_mi": estimate.information.detach(), "club_nll": estimate.learning_loss}
            total = total + club_weight(config, step, self.num_steps) * estimate.information
        if config.xcov_lambda:
            value = cross_covariance_loss(features.z_task, features.z_emb)
            metrics["xcov"] = value.detach()
            total = total + config.xcov_lambda * value
        return total


def flow_per_clip(config: VaceEConfig, velocity: Tensor, clips: Clips, noise: Noise) -> Tensor:
    """Return omega mean(W (v - (n - x_0))^2) of every clip (B,)."""
    cells = None
    if config.mask_weight != 1:
        cells = share_weight(clips.share, config.mask_weight, clips.num_reference)
    return flow_loss_per_sample(
        velocity,
        clips.latents,
        noise.values,
        weight=flow_weight(noise.sigma, config.flow_weighting, config.shift),
        cell_weight=cells,
        skip_frames=0 if config.ref_loss else clips.num_reference,
    )


def club_weight(config: VaceEConfig, step: int, num_steps: int) -> float:
    """Return the weight of CLUB: it grows linearly over `club_warmup` of the run."""
    ramp = config.club_warmup * num_steps
    return config.club_lambda * (min(1.0, (step + 1) / ramp) if ramp >= 1 else 1.0)
