"""Touch to come: predicted from trunk and chunk, against a target that no gradient reaches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import tiny_config, tiny_table

from tacit_learning.act_hsa.evaluate import evaluate
from tacit_learning.act_hsa.future import future_loss, touch_features
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.train import windows_of
from tacit_learning.data import keys
from tacit_learning.data.spec import make_spec
from tacit_learning.data.windows import Batch


def make(folder: Path, rows: list[int], **changes: object) -> tuple[ActHsaPolicy, Batch]:
    torch.manual_seed(0)
    table = tiny_table()
    config = tiny_config(folder, **({"future__weight": 1.0, "hsa__weight": 0.0} | changes))
    return ActHsaPolicy(config, make_spec(table)), windows_of(config, table).__getitems__(rows)


def test_the_error_is_that_of_normalised_features_where_the_episode_goes_on() -> None:
    tokens, predicted = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 8)
    valid = torch.tensor([True, False, True])
    mean = tokens.numpy().astype(np.float64).mean(2)
    unit = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-5)
    expected = ((predicted.numpy() - unit) ** 2)[[0, 2]].mean()
    assert float(future_loss(predicted, touch_features(tokens), valid)) == pytest.approx(expected, rel=1e-5)
    nothing = future_loss(predicted.requires_grad_(), touch_features(tokens), valid & False)
    nothing.backward()
    assert float(nothing.detach()) == 0 and predicted.grad is not None and not predicted.grad.any()
    assert not touch_features(tokens.requires_grad_()).requires_grad


@pytest.mark.parametrize("latent_dim", [0, 4])
def test_the_loss_adds_the_touch_to_come_and_trains_trunk_and_chunk(tmp_path: Path, latent_dim: int) -> None:
    policy, batch = make(tmp_path, [0, 11, 35, 27], model__latent_dim=latent_dim)
    assert batch[keys.FUTURE_VALID].tolist() == [True, True, True, False]
    policy.eval()
    loss, metrics = policy(batch)
    without = metrics["l1"] + 10 * metrics.get("kl", torch.zeros(()))
    torch.testing.assert_close(loss, without + metrics["future"])
    output, _ = policy.run(batch)
    policy._future(output, batch)[0].backward()
    model = policy.model
    for part in (model.touch_backbone, model.backbone, model.encoder, model.decoder, policy.future):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    # where the encoder changes nothing, the head is told the tokens of the gels, and of nothing else
    latent = torch.ones(4, 1, 32) if latent_dim else None
    memory, _ = model._sequence(policy.normalize_state(batch[keys.STATE]), output.tokens, latent)
    unchanged = dataclasses.replace(output, encoded=memory)
    torch.testing.assert_close(model.felt(unchanged), output.tokens.touch.mean(2))


def test_the_touch_to_come_is_learnt_and_told_beside_a_touch_that_stays(tmp_path: Path) -> None:
    policy, batch = make(tmp_path, [0, 11, 35, 47], loss__kl_weight=0.0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss, metrics = policy.train()(batch)
        loss.backward()
        optimizer.step()
    assert metrics["future"] < 0.5 * metrics["future_copy"]
    assert {"future", "future_copy", "l1_z0"} <= set(evaluate(policy.eval(), [batch], torch.device("cpu")))


def test_the_last_moments_before_the_gripper_moves_count_more(tmp_path: Path) -> None:
    policy, batch = make(tmp_path, [0, 11], future__weight=0.0, loss__last_weight=4.0, loss__last_ticks=2)
    assert policy.future is None
    batch[keys.TICKS_TO_GRIP] = torch.tensor([[4, 3, 2, 1, 0], [9, 8, 7, 6, 5]])
    policy.eval()
    error = (policy.run(batch)[0].chunk - policy.normalize_action(batch[keys.ACTION])).abs().mean(-1)
    weights = torch.tensor([[1.0, 1, 4, 4, 4], [1, 1, 1, 1, 1]])
    torch.testing.assert_close(policy(batch)[1]["l1"], (error * weights).mean().detach())
