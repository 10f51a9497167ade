"""What is random in a step, which windows it reads, and the estimator that has its own optimiser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from vace_e_runs import small_config

from tacit_learning.vace_e.club import ClubTrainer
from tacit_learning.vace_e.config import VaceEStage
from tacit_learning.vace_e.config_model import preset
from tacit_learning.vace_e.data.batch_choice import BucketSampler
from tacit_learning.vace_e.data.noise import (
    CLIP_DROPOUT,
    FEATURE_DROPOUT,
    Place,
    draw_noise,
    drop_streams,
    fixed_noise,
)
from tacit_learning.vace_e.data.schedule import Schedule
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.objective import club_weight

SHAPE = (4, 16, 2, 3, 5)


@pytest.mark.parametrize("weighting", ["none", "logit_normal"])
def test_processes_together_draw_what_one_draws(weighting: str) -> None:
    whole = draw_noise(Place(3), 7, SHAPE, 3.0, weighting)  # type: ignore[arg-type]
    parts = [draw_noise(Place(3, rank, 2), 7, (2, *SHAPE[1:]), 3.0, weighting) for rank in range(2)]  # type: ignore[arg-type]
    assert torch.cat([part.values for part in parts]).equal(whole.values)
    assert torch.cat([part.sigma for part in parts]).equal(whole.sigma)
    assert ((whole.sigma > 0) & (whole.sigma < 1)).all()


def test_every_batch_and_every_sample_has_noise_of_its_own() -> None:
    first, second = (draw_noise(Place(3), batch, SHAPE, 3.0, "none").values for batch in (7, 8))
    rows = torch.cat([first, second]).flatten(1)
    assert len(rows.unique(dim=0)) == 8
    assert abs(float(rows.mean())) < 0.1 and float(rows.std()) == pytest.approx(1, abs=0.1)


def test_streams_are_dropped_as_often_as_asked_and_alike_in_parts() -> None:
    sizes = preset("tiny")
    signals = random_signals(1, sizes.encoders, 32, 3).rows(torch.zeros(4000, dtype=torch.long))
    whole = drop_streams(signals, Place(0), 1, CLIP_DROPOUT, 0.3).present
    assert (~whole).float().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.03), "each stream by itself"
    parts = [
        drop_streams(signals.rows(slice(0, 2000)), Place(0, r, 2), 1, CLIP_DROPOUT, 0.3).present
        for r in (0, 1)
    ]
    assert torch.cat(parts).equal(whole)
    other = drop_streams(signals, Place(0), 1, FEATURE_DROPOUT, 0.3).present
    assert not other.equal(whole)
    assert drop_streams(signals, Place(0), 1, CLIP_DROPOUT, 0.0) is signals


def test_the_noise_of_validation_depends_on_window_and_level_alone() -> None:
    first, again = (fixed_noise(0, 3, 0.5, SHAPE[1:]) for _ in range(2))
    assert first.values.equal(again.values) and float(first.sigma) == 0.5
    assert not fixed_noise(0, 4, 0.5, SHAPE[1:]).values.equal(first.values)
    assert not fixed_noise(0, 3, 0.7, SHAPE[1:]).values.equal(first.values)


def schedule(accumulate: int) -> Schedule:
    made = Schedule(BucketSampler(["a"] * 5, 1, seed=0), accumulate)
    made.plan({"one": VaceEStage(epochs=2), "two": VaceEStage(epochs=1)}, epochs=1, learning_rate=1.0)
    return made


def test_an_epoch_reads_every_window_and_fills_its_last_step_from_its_start() -> None:
    steps = schedule(accumulate=2)
    assert steps.num_steps == 9 and [stage.steps for stage in steps.stages] == [6, 3]
    for epoch in range(3):
        read = [steps.numbers(3 * epoch + step, micro)[0] for step in range(3) for micro in range(2)]
        assert sorted(read[:5]) == [0, 1, 2, 3, 4] and read[5] == read[0]
    assert [steps.epoch_of(step) for step in (0, 2, 3, 8, 9)] == [0, 0, 1, 2, 3]


def test_any_step_can_be_read_first() -> None:
    forward = [schedule(1).numbers(step, 0) for step in range(15)]
    one = schedule(1)
    assert [one.numbers(step, 0) for step in reversed(range(15))] == forward[::-1]


def test_the_weight_of_club_grows_over_its_share_of_the_run(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path, club_warmup=0.1, club_lambda=2.0)
    assert [club_weight(config, step, 100) for step in (0, 4, 9, 50)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert club_weight(small_config(tmp_path, tmp_path, club_warmup=0.0), 0, 100) == 1.0


def test_club_learns_on_its_schedule_and_leaves_its_gradient_to_the_features(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path, club_update_freq=2, club_training_steps=3)
    club = ClubTrainer(config, 6, torch.device("cpu"))
    z_task, z_emb = (torch.randn(8, 6, requires_grad=True) for _ in range(2))
    before = [each.clone() for each in club.estimator.parameters()]
    estimate = club.step(z_task, z_emb, step=1)
    assert all(a.equal(b) for a, b in zip(before, club.estimator.parameters(), strict=True))
    estimate.information.backward()
    assert z_task.grad is not None and z_emb.grad is not None
    assert all(each.grad is None for each in club.estimator.parameters())
    club.step(z_task, z_emb, step=2)
    assert not any(a.equal(b) for a, b in zip(before, club.estimator.parameters(), strict=True))


def test_club_goes_on_from_its_state(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path)
    x, y = torch.randn(8, 6), torch.randn(8, 6)
    one, two = (ClubTrainer(config, 6, torch.device("cpu")) for _ in range(2))
    one.step(x, y, step=0)
    two.restore(one.state())
    assert float(one.step(x, y, step=1).information) == float(two.step(x, y, step=1).information)
