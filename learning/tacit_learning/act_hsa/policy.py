"""The ACT-HSA policy: canonical units and uint8 images in, losses or canonical chunks out.

Normalisation, background subtraction and their constants live here, as buffers, so that training,
evaluation and the exported graph share them. Legend: B batch, N cameras, S sensors, K chunk,
A action.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tacit.images.gels import NO_CONTACT
from tacit_learning.act_hsa.balance import GradientBalance
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.act_hsa.future import FutureTouch, future_loss, touch_features
from tacit_learning.act_hsa.model import ActModel, ModelOutput
from tacit_learning.act_hsa.touch_alignment import TouchAlignment, view_pairs
from tacit_learning.data import keys
from tacit_learning.data.spec import PolicySpec
from tacit_learning.data.windows import Batch
from tacit_learning.layers.backbone import BackboneIdentity
from tacit_learning.layers.inputs import prepare_images, prepare_taxels, prepare_touch
from tacit_learning.losses.act import kl_divergence, masked_l1

Identities = tuple[BackboneIdentity, BackboneIdentity]


class ActHsaPolicy(nn.Module):
    """ACT with touch, trained with L1 + KL + HSA.

    Args:
        config: The run.
        spec: Rig, streams, statistics.
        identities: Backbones of a checkpoint.
    """

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    references: Tensor
    free_gels: Tensor
    taxel_spans: Tensor

    def __init__(self, config: ActHsaConfig, spec: PolicySpec, identities: Identities | None = None) -> None:
        super().__init__()
        self.config = config
        self.gripper_indices, self.state_names = spec.rig.gripper_indices, spec.rig.state_names
        sizes = spec.sizes
        self.model = ActModel(config.model, sizes, identities)
        self.alignment: TouchAlignment | None = None
        if config.hsa.weight > 0 and spec.view.touch:  # without touch there is nothing to align
            cameras, sensors = list(spec.view.cameras), list(spec.view.touch)
            self.alignment = TouchAlignment(
                config.hsa,
                config.model.dim,
                view_pairs(spec.rig, cameras, sensors, config.hsa.cameras),
                sizes.image_size,
                self.model.image_grid,
            )
            self.balance = GradientBalance(config.hsa.balance)
        feels = bool(config.future_ticks and spec.view.touch)
        self.future = FutureTouch(config.model.dim) if feels else None
        for name in ("state_mean", "state_std", "action_mean", "action_std"):
            self.register_buffer(name, torch.tensor(getattr(spec.statistics, name), dtype=torch.float32))
        spans = [np.broadcast_to(a.high - a.low, a.shape).reshape(-1) for a in spec.view.taxels.values()]
        self._taxel_counts = tuple(map(len, spans))
        every = np.concatenate(spans) if spans else np.zeros(0, np.float32)
        self.register_buffer("taxel_spans", torch.from_numpy(every), persistent=False)
        blank = torch.zeros(sizes.num_sensors, *sizes.touch_size, 3, dtype=torch.uint8)
        gels = blank if spec.references is None else spec.references
        self.touch_reference = spec.view.touch_reference
        if (
            self.touch_reference == "run"
        ):  # touch comes against the gel of its own run; these tell a touched one
            self.register_buffer("free_gels", gels)
            gels = torch.full_like(gels, NO_CONTACT)
        self.register_buffer("references", gels)

    def forward(self, batch: Batch, step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute L1 + kl_weight KL + hsa_weight scale (HSA_w + tp_weight HSA_tp) + future_weight future.

        Args:
            batch: See `tacit_learning.data.keys`.
            step: Optimiser step, for the warm-up of the HSA weight and for when it is balanced (scale, see
                `hsa.balance`); None: full weight, balanced by this batch too.

        Returns:
            Scalar loss, and detached scalars: loss, l1 (weighed), kl, and those of alignment and future.
        """
        config = self.config
        output, contact = self.run(batch)
        target = self.normalize_action(batch[keys.ACTION])
        is_pad, weights = batch[keys.ACTION_IS_PAD], self._step_weights(batch)
        l1 = masked_l1(output.chunk, target, is_pad, config.loss.l1_over, weights)
        loss = l1
        metrics = {"l1": l1.detach()}
        if output.mu is not None and output.logvar is not None:
            kl = kl_divergence(output.mu, output.logvar)
            loss = loss + config.loss.kl_weight * kl
            metrics["kl"] = kl.detach()
        if self.alignment is not None:
            hsa, alignment_metrics = self.alignment(output.tokens, batch, contact)
            if self.training:
                self.balance.measure(l1, hsa, output.tokens, step)
            weight = self._hsa_weight(step) * self.balance.scale()
            loss = loss + weight * hsa
            metrics |= alignment_metrics | self.balance.metrics(weight)
        if self.future is not None:
            future, future_metrics = self._future(output, batch)
            loss = loss + config.future.weight * future
            metrics |= future_metrics
        return loss, {"loss": loss.detach(), **metrics}

    def _step_weights(self, batch: Batch) -> Tensor | None:
        """Return how often the error of each step of the chunk counts (B, K); None: all alike."""
        loss = self.config.loss
        if loss.last_weight == 1:
            return None
        is_last = batch[keys.TICKS_TO_GRIP] <= loss.last_ticks
        return torch.where(is_last, loss.last_weight, 1.0)

    def _future(self, output: ModelOutput, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the error of the touch to come, and beside it that of a touch that stays as it is."""
        assert self.future is not None
        touch, taxels, _ = self._touch(batch[keys.FUTURE_TOUCH], batch[keys.FUTURE_TAXELS])
        with torch.no_grad():
            features = touch_features(self.model.encode_touch(touch, taxels))
        valid = batch[keys.FUTURE_VALID]
        step = output.steps[:, self.config.future_ticks - 1]
        loss = future_loss(self.future(step, self.model.felt(output)), features, valid)
        stays = future_loss(touch_features(output.tokens.touch), features, valid)
        return loss, {"future": loss.detach(), "future_copy": stays}

    def predict(self, state: Tensor, images: Tensor, touch: Tensor, taxels: Tensor | None = None) -> Tensor:
        """Return the chunk for z = 0: what the robot does.

        Args:
            state: Canonical units (B, A).
            images: RGB (B, N, H, W, 3) u1.
            touch: RGB (B, S, h, w, 3) u1; against the gel of the run where `touch_reference` says so.
            taxels: Readings of arrays against no contact (B, M), in their units.

        Returns:
            Actions (B, K, A) in canonical units.
        """
        felt, shares, _ = self._touch(touch, taxels)
        output = self.model(self.normalize_state(state), prepare_images(images), felt, taxels=shares)
        return output.chunk * self.action_std + self.action_mean

    def normalize_state(self, state: Tensor) -> Tensor:
        """Map canonical units to zero mean and unit deviation (B, A)."""
        return (state - self.state_mean) / self.state_std

    def normalize_action(self, action: Tensor) -> Tensor:
        """Map canonical units to zero mean and unit deviation (B, K, A)."""
        return (action - self.action_mean) / self.action_std

    def run(self, batch: Batch) -> tuple[ModelOutput, Tensor]:
        """Return what the network makes of a batch, with the posterior of its actions.

        Returns:
            The output, and the mean change of each touch image against its reference (B, S) [grey levels].
        """
        state = self.normalize_state(batch[keys.STATE])
        if self.training and self.config.augment.state_noise > 0:
            state = state + self.config.augment.state_noise * torch.randn_like(state)
        touch, taxels, contact = self._touch(batch[keys.TOUCH], batch[keys.TAXELS])
        action = self.normalize_action(batch[keys.ACTION])
        images = prepare_images(batch[keys.IMAGES])
        features = batch.get(keys.FEATURES)
        output = self.model(state, images, touch, action, batch[keys.ACTION_IS_PAD], taxels, features)
        return output, contact

    def _touch(self, touch: Tensor, taxels: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return prepared pictures and readings, and the contact (B, S) of gels, then arrays."""
        felt, contact = prepare_touch(touch, self.references)
        if not self._taxel_counts:
            return felt, None, contact
        if taxels is None:
            raise ValueError("a policy with arrays of taxels needs their readings")
        shares, pressed = prepare_taxels(taxels, self.taxel_spans, self._taxel_counts)
        return felt, shares, torch.cat([contact, pressed], 1)

    def _hsa_weight(self, step: int | None) -> float:
        warmup = self.config.hsa.warmup_steps
        share = 1.0 if step is None or not warmup else min(1.0, (step + 1) / warmup)
        return self.config.hsa.weight * share
