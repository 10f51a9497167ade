"""Evaluation of ACT-HSA on held-out frames, always beside baselines that use nothing.

z = 0 is what the robot does, so its error stands beside the posterior's; "copy the current pose"
is the error of a policy that never moves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.probes import alignment_probes, touch_of_others
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.engine.job import to_device
from tacit_learning.engine.seeding import seeded, step_generator
from tacit_learning.losses.act import kl_per_dimension, masked_l1

INPUTS = (keys.STATE, keys.IMAGES, keys.TOUCH, keys.TAXELS)
ACTIVE_NATS = 0.01  # a latent dimension below this carries nothing (Burda et al. 2016)


@torch.no_grad()
def evaluate(policy: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """Average the metrics over `batches`.

    Returns:
        loss, l1 (posterior), l1_z0, l1_copy (never move), l1 errors normalised; l1_touch_own and
        l1_touch_other (z = 0 on frames with contact, with their own touch and with that of a frame with
        contact of another episode); l1_angle [rad] and l1_opening [m] for z = 0, l1_of_<joint> in the same
        units, l1_at_<k> (z = 0, normalised) of the first, middle and last step of a chunk; spread (deviation
        of the prediction over observations, 0 = ignores them), active_units and the alignment's (`probes`).
        What no batch could tell is left out.
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
    means = {key: _mean([row[key].cpu() for row in rows], weights) for key in rows[0]}
    return {key: mean for key, mean in means.items() if mean is not None}


def _mean(values: list[Tensor], weights: list[float]) -> float | None:
    """Average the values that are numbers; None where none is."""
    told = [
        (float(value), weight) for value, weight in zip(values, weights, strict=True) if not value.isnan()
    ]
    return sum(v * w for v, w in told) / sum(w for _, w in told) if told else None


def _evaluate_batch(policy: ActHsaPolicy, batch: Batch) -> dict[str, Tensor]:
    _, metrics = policy(batch)
    is_pad, target = batch[keys.ACTION_IS_PAD], policy.normalize_action(batch[keys.ACTION])
    raw = policy.predict(*(batch[key] for key in INPUTS))
    chunk = policy.normalize_action(raw)
    copied = policy.normalize_action(batch[keys.STATE]).unsqueeze(1).expand_as(target)
    metrics |= {
        "l1_z0": masked_l1(chunk, target, is_pad),
        "l1_copy": masked_l1(copied, target, is_pad),
        "spread": chunk.std(0, unbiased=False).mean(),
    }
    metrics |= _by_unit(policy, raw, batch) | _by_step(chunk, target, is_pad)
    if batch[keys.TOUCH].shape[1] or batch[keys.TAXELS].shape[1]:
        metrics |= _touch(policy, batch, chunk)
    if policy.config.model.latent_dim:
        metrics["active_units"] = _active_units(policy, batch)
    return metrics


def _by_unit(policy: ActHsaPolicy, raw: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the z = 0 error of angles [rad] and of openings [m], and of each of them."""
    error = (raw - batch[keys.ACTION]).abs().masked_fill(batch[keys.ACTION_IS_PAD].unsqueeze(-1), 0.0)
    per_element = error.sum((0, 1)) / (~batch[keys.ACTION_IS_PAD]).sum().clamp(min=1)
    grippers = list(policy.gripper_indices)
    angles = [i for i in range(len(per_element)) if i not in grippers]
    result = {"l1_angle": per_element[angles].mean()}
    if grippers:
        result["l1_opening"] = per_element[grippers].mean()
    each = zip(policy.state_names, per_element, strict=True)
    return result | {f"l1_of_{name}": error for name, error in each}


def _by_step(chunk: Tensor, target: Tensor, is_pad: Tensor) -> dict[str, Tensor]:
    """Return the error (B, K, A) at some steps of the chunk, counted from 1; NaN where none exists."""
    length = chunk.shape[1]
    found = {}
    for step in sorted({1, (length + 1) // 2, length}):
        keep = ~is_pad[:, step - 1]
        found[f"l1_at_{step}"] = (chunk - target)[keep, step - 1].abs().mean()
    return found


def _touch(policy: ActHsaPolicy, batch: Batch, chunk: Tensor) -> dict[str, Tensor]:
    """Return what touch is worth: in the actions (B, K, A) it leads to, and in what it is aligned with."""
    output, contact = policy.run(batch)
    touching = contact > policy.config.hsa.contact_threshold
    rows, partners = touch_of_others(batch, touching)
    others = (batch[keys.TOUCH][partners], batch[keys.TAXELS][partners])
    raw = policy.predict(batch[keys.STATE][rows], batch[keys.IMAGES][rows], *others)
    target, is_pad = policy.normalize_action(batch[keys.ACTION][rows]), batch[keys.ACTION_IS_PAD][rows]
    metrics = {
        "l1_touch_own": _l1(chunk[rows], target, is_pad),
        "l1_touch_other": _l1(policy.normalize_action(raw), target, is_pad),
    }
    if policy.alignment is not None:
        metrics |= alignment_probes(policy.alignment, output.tokens, batch, touching)
    return metrics


def _l1(chunk: Tensor, target: Tensor, is_pad: Tensor) -> Tensor:
    """Return the masked L1 of some rows; NaN of none."""
    return masked_l1(chunk, target, is_pad) if len(chunk) else chunk.new_tensor(float("nan"))


def _active_units(policy: ActHsaPolicy, batch: Batch) -> Tensor:
    output, _ = policy.run(batch)
    assert output.mu is not None and output.logvar is not None
    return (kl_per_dimension(output.mu, output.logvar) > ACTIVE_NATS).sum().float()
