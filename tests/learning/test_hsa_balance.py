"""HSA beside L1: weight 1 pulls as much at the tokens that both read, and what goes wrong is said."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_world import tiny_config, tiny_table

from tacit_learning.act_hsa.balance import MEASURE_EVERY, MEMORY
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.watch import HsaCourse
from tacit_learning.data import keys
from tacit_learning.data.spec import make_spec
from tacit_learning.data.windows import Batch, ChunkWindows
from tacit_learning.losses.act import masked_l1


def make(folder: Path, **changes: object) -> tuple[ActHsaPolicy, Batch]:
    torch.manual_seed(0)
    table = tiny_table()
    options = {"hsa__negatives": ["batch"], "model__latent_dim": 0, "hsa__weight": 1.0} | changes
    policy = ActHsaPolicy(tiny_config(folder, **options), make_spec(table)).train()
    return policy, ChunkWindows(table, 5).__getitems__([0, 11, 35, 47, 62, 80])


def pulls(policy: ActHsaPolicy, batch: Batch, weight: float) -> tuple[float, float]:
    """Norms of the gradients of L1 and of weighted HSA at all tokens that enter the encoder, one by one."""
    found = []
    assert policy.alignment is not None
    for name in ("l1", "hsa"):
        output, contact = policy.run(batch)
        tokens = output.tokens
        tokens.image.retain_grad()
        tokens.touch.retain_grad()
        if name == "l1":
            target = policy.normalize_action(batch[keys.ACTION])
            masked_l1(output.chunk, target, batch[keys.ACTION_IS_PAD]).backward()
        else:
            (weight * policy.alignment(tokens, batch, contact)[0]).backward()
        gradients = [t.grad for t in (tokens.image, tokens.touch) if t.grad is not None]
        found.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
    return found[0], found[1]


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_weight_is_the_share_of_the_pull_of_l1(tmp_path: Path, weight: float) -> None:
    policy, batch = make(tmp_path, hsa__weight=weight)
    metrics = policy(batch, 0)[1]
    l1, hsa = pulls(policy, batch, float(metrics["hsa_weight"]))
    assert hsa == pytest.approx(weight * l1, rel=1e-4)
    assert float(metrics["hsa_pull"]) == pytest.approx(weight, rel=1e-4)
    l1, hsa = pulls(policy, batch, 1.0)
    assert float(metrics["hsa_pull_raw"]) == pytest.approx(hsa / l1, rel=1e-4)
    assert hsa / l1 > 2  # so the raw weight would take over here


def test_without_balance_the_raw_weight_counts_and_its_pull_is_told(tmp_path: Path) -> None:
    policy, batch = make(tmp_path, hsa__balance="none", hsa__weight=0.5)
    metrics = policy(batch, 0)[1]
    l1, hsa = pulls(policy, batch, 0.5)
    assert float(metrics["hsa_weight"]) == 0.5
    assert float(metrics["hsa_pull"]) == pytest.approx(hsa / l1, rel=1e-4)


def test_norms_are_averaged_and_measured_now_and_then(tmp_path: Path) -> None:
    policy, batch = make(tmp_path)
    policy(batch, 0)
    first = policy.balance.norms.clone()
    policy(batch, 1)
    assert torch.equal(policy.balance.norms, first)
    policy(batch, MEASURE_EVERY)  # the same batch and weights: the average stays what it is
    torch.testing.assert_close(policy.balance.norms, first)
    other = {key: value.flip(0)[:3] for key, value in batch.items()}
    alone, _ = make(tmp_path)
    alone(other, 0)
    policy(other, 2 * MEASURE_EVERY)
    torch.testing.assert_close(policy.balance.norms, MEMORY * first + (1 - MEMORY) * alone.balance.norms)


def test_a_batch_without_a_usable_box_changes_no_norm(tmp_path: Path) -> None:
    policy, batch = make(tmp_path)
    blind = {**batch, keys.BOX_VALID: torch.zeros_like(batch[keys.BOX_VALID])}
    loss, metrics = policy(blind, 0)
    assert torch.isfinite(loss) and torch.isnan(policy.balance.norms).all()
    assert float(metrics["hsa_pull"]) == 0 and float(policy.balance.scale()) == 1
    policy(batch, MEASURE_EVERY)
    first = policy.balance.norms.clone()
    policy(blind, 2 * MEASURE_EVERY)
    assert torch.equal(policy.balance.norms, first)


def test_what_is_learnt_is_not_blown_up_again(tmp_path: Path) -> None:
    policy, _ = make(tmp_path)
    policy.balance.norms.copy_(torch.tensor([[3.0, 4.0], [0.01, 0.0]]))
    assert float(policy.balance.scale()) == 1
    policy.balance.norms.copy_(torch.tensor([[3.0, 4.0], [6.0, 8.0]]))
    assert float(policy.balance.scale()) == pytest.approx(0.5)


def test_each_trouble_is_said_once_with_what_to_do() -> None:
    course = HsaCourse(warmup_steps=100)
    fine = {"hsa_ratio": 0.4, "hsa_pull": 1.0, "hsa_valid": 0.9}
    assert course.remark(5000, fine) is None
    assert course.remark(5000, {"l1": 1.0}) is None
    assert "takes over" in str(course.remark(10, fine | {"hsa_pull": 50.0}))
    assert course.remark(20, fine | {"hsa_pull": 50.0}) is None
    assert course.remark(1000, fine | {"hsa_ratio": 0.99}) is None  # not yet: the weight was still growing
    assert "not learning: its loss is 0.99" in str(course.remark(1100, fine | {"hsa_ratio": 0.99}))
    assert "no usable box" in str(course.remark(10, fine | {"hsa_valid": 0.0}))
