"""Evaluation of ACT-HSA on held-out frames, always beside baselines that use nothing.

z = 0 is what the robot does, so its error stands beside the posterior's; "copy the current pose"
is the error of a policy that never moves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.engine.job import to_device
from tacit_learning.engine.seeding import seeded, step_generator
from tacit_learning.layers.inputs import prepare_images, prepare_touch
from tacit_learning.losses.act import kl_per_dimension, masked_l1

ACTIVE_NATS = 0.01  # a latent dimension below this carries nothing (Burda et al. 2016)


@torch.no_grad()
def evaluate(policy: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """Average the metrics over `batches`.

    Returns:
        loss, l1 (posterior), l1_z0, l1_copy (never move), l1_touch_shuffled (touch of another
        frame), l1 errors normalised; l1_angle [rad] and l1_opening [m] for z = 0; spread (deviation
        of the prediction over observations, 0 = ignores them), active_units and the alignment's.
    """
    assert isinstance(policy, ActHsaPolicy)
    rows, weights = [], []
    for number, batch in enumerate(batches):
        batch = to_device(batch, device)
        with seeded(step_generator(0, number).initial_seed() % 2**31):
            rows.append(_evaluate_batch(policy, batch))
        weights.append(float(len(batch[keys.STATE])))
    if not rows:
        return {}
    total = torch.tensor(weights)
    return {
        key: float((torch.stack([row[key].cpu().float() for row in rows]) * total).sum() / total.sum())
        for key in rows[0]
    }


def _evaluate_batch(policy: ActHsaPolicy, batch: Batch) -> dict[str, Tensor]:
    _, metrics = policy(batch)
    is_pad, target = batch[keys.ACTION_IS_PAD], policy.normalize_action(batch[keys.ACTION])
    raw = policy.predict(batch[keys.STATE], batch[keys.IMAGES], batch[keys.TOUCH])
    chunk = policy.normalize_action(raw)
    copied = policy.normalize_action(batch[keys.STATE]).unsqueeze(1).expand_as(target)
    metrics |= {
        "l1_z0": masked_l1(chunk, target, is_pad),
        "l1_copy": masked_l1(copied, target, is_pad),
        "spread": chunk.std(0, unbiased=False).mean(),
    }
    metrics |= _by_unit(policy, raw, batch)
    if batch[keys.TOUCH].shape[1] and len(chunk) > 1:
        touch = batch[keys.TOUCH].roll(1, 0)
        shuffled = policy.predict(batch[keys.STATE], batch[keys.IMAGES], touch)
        metrics["l1_touch_shuffled"] = masked_l1(policy.normalize_action(shuffled), target, is_pad)
    if policy.config.model.latent_dim:
        metrics["active_units"] = _active_units(policy, batch)
    return metrics


def _by_unit(policy: ActHsaPolicy, raw: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the z = 0 error of angles [rad] and of openings [m]."""
    error = (raw - batch[keys.ACTION]).abs().masked_fill(batch[keys.ACTION_IS_PAD].unsqueeze(-1), 0.0)
    per_element = error.sum((0, 1)) / (~batch[keys.ACTION_IS_PAD]).sum().clamp(min=1)
    grippers = list(policy.gripper_indices)
    angles = [i for i in range(len(per_element)) if i not in grippers]
    result = {"l1_angle": per_element[angles].mean()}
    if grippers:
        result["l1_opening"] = per_element[grippers].mean()
    return result


def _active_units(policy: ActHsaPolicy, batch: Batch) -> Tensor:
    state, touch = (
        policy.normalize_state(batch[keys.STATE]),
        prepare_touch(batch[keys.TOUCH], policy.references)[0],
    )
    action = policy.normalize_action(batch[keys.ACTION])
    images = prepare_images(batch[keys.IMAGES])
    output = policy.model(state, images, touch, action, batch[keys.ACTION_IS_PAD])
    return (kl_per_dimension(output.mu, output.logvar) > ACTIVE_NATS).sum().float()
