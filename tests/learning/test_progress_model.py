"""The progress estimator: causal, streamed equals batch, and better than clocks on paused clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_world import tiny_config, tiny_progress_config, tiny_table

from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables
from tacit_learning.alignment import train as training
from tacit_learning.alignment.evaluate import evaluate
from tacit_learning.alignment.progress_head import ELAPSED, FEATURES, MASK, PROGRESS, STATE, ProgressModel
from tacit_learning.data.clips import ClipConfig, whole_episodes
from tacit_learning.engine.tracking import SilentReporter


def make_model(**changes: object) -> ProgressModel:
    torch.manual_seed(0)
    table = tiny_table(2)
    config = tiny_progress_config(Path("unused"), None, **changes)
    encoder, _ = training.make_encoder(config.encoder, training.make_spec(table), None)
    return ProgressModel(config.head, encoder, 7, config.clips.done_at, config.done_weight).eval()


def frames(model: ProgressModel, batch: int = 2, length: int = 9) -> tuple[torch.Tensor, ...]:
    features = torch.randn(batch, length, model.encoder.num_features)
    elapsed = torch.arange(length).expand(batch, -1) * 0.04
    return features, torch.randn(batch, length, 7), elapsed


def test_streaming_equals_the_batch() -> None:
    model = make_model()
    features, state, elapsed = frames(model)
    with torch.no_grad():
        whole, last = model.sequence(features, state, elapsed)
        hidden = torch.zeros(2, model.hidden_size)
        for t in range(features.shape[1]):
            part = slice(t, t + 1)
            logits, hidden = model.sequence(features[:, part], state[:, part], elapsed[:, part], hidden)
            torch.testing.assert_close(logits[:, 0], whole[:, t], rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden, last, rtol=0, atol=1e-5)


def test_the_future_changes_nothing() -> None:
    model = make_model()
    features, state, elapsed = frames(model)
    changed = features.clone()
    changed[:, 5:] += 3
    with torch.no_grad():
        before, after = (
            model.sequence(features, state, elapsed)[0],
            model.sequence(changed, state, elapsed)[0],
        )
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=0)
    assert (after[:, 5:] - before[:, 5:]).abs().max() > 1e-4


def test_padding_gives_no_loss() -> None:
    model = make_model()
    features, state, elapsed = frames(model)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 4:] = False
    batch = {FEATURES: features, STATE: state, ELAPSED: elapsed, PROGRESS: torch.rand(2, 9), MASK: mask}
    changed = {**batch, PROGRESS: torch.where(mask, batch[PROGRESS], 0.0)}
    torch.testing.assert_close(model(batch)[0], model(changed)[0])


def test_the_encoder_is_frozen() -> None:
    model = make_model()
    model.train()
    assert not model.encoder.training
    assert not any(p.requires_grad for p in model.encoder.parameters())


def test_an_untrained_head_says_near_the_start() -> None:
    model = make_model()
    logits, _ = model.sequence(*frames(model))
    assert logits.sigmoid().mean() < 0.25


def test_perfect_estimates_have_no_error_and_baselines_are_what_they_say() -> None:
    model, table = make_model(), tiny_table(3)
    encoded = training.encode(model.encoder, table)
    batch = training.clip_batch(encoded, whole_episodes(table))
    metrics = evaluate(model, batch, mean_length_s=30 / 25)
    assert metrics["mae_half"] == pytest.approx(0.25, abs=0.01)
    # a clock at the end of tick t says t / 30 where the annotation says (t + 1) / 30
    assert metrics["mae_clock"] == pytest.approx(1 / 30, abs=1e-3)


def test_features_are_the_same_one_by_one_and_in_a_batch() -> None:
    model, table = make_model(), tiny_table(1, length=5)
    whole = training.encode(model.encoder, table).features
    images, touch = table.images([3])
    one = model.encoder(torch.from_numpy(images), torch.from_numpy(touch))
    torch.testing.assert_close(one[0], whole[3], rtol=1e-4, atol=1e-5)


def test_training_on_the_features_of_a_policy_beats_the_constant(tmp_path: Path) -> None:
    train_on_tables(
        tiny_config(tmp_path / "policy", train__steps=2), Tables(tiny_table(2), None), SilentReporter()
    )
    policy = load_policy(tmp_path / "policy")
    config = tiny_progress_config(tmp_path / "p", tmp_path / "policy", train__steps=120, train__lr=5e-3)
    config = config.model_copy(update={"clips": ClipConfig(offset_probability=0.0, pause_probability=0.0)})
    table = tiny_table(2)
    result = training.train_on_tables(config, table, table, policy, SilentReporter())
    assert result.metrics["mae"] < 0.5 * result.metrics["mae_half"]
    again = training.load_progress(tmp_path / "p")
    assert torch.equal(again.model.encoder.references, policy.policy.references)


def test_one_source_of_features_is_required() -> None:
    with pytest.raises(ValueError, match="exactly one of checkpoint"):
        training.ProgressConfig.model_validate(
            {"data": {"datasets": ["x"]}, "encoder": {}, "train": {"output": "x", "steps": 1}}
        )
