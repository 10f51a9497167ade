"""The training loop: exact resume, checkpoints without pickle, averages and schedules."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny_world import tiny_config, tiny_table
from torch import nn

from tacit.errors import ConfigError, MissingDependencyError
from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables
from tacit_learning.engine.checkpoint import load_checkpoint
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.ema import Ema
from tacit_learning.engine.loop import Clock
from tacit_learning.engine.optimizer import make_optimizer, set_learning_rate
from tacit_learning.engine.seeding import seeded
from tacit_learning.engine.tracking import SilentReporter


def run(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    """Train a tiny policy and return all its tensors."""
    config = tiny_config(folder, **changes)
    train_on_tables(config, Tables(tiny_table(2), None), SilentReporter())
    last = folder / "checkpoints" / "last"
    tensors = {}
    for name in ("model", "average", "optimizer", "rng"):
        tensors |= {f"{name}.{k}": v for k, v in load_file(last / f"{name}.safetensors").items()}
    return tensors


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_halves_and_a_resume_equal_one_run_bit_for_bit(tmp_path: Path, accumulate: int) -> None:
    options = {"model__dropout": 0.1, "train__accumulate": accumulate, "train__warmup_steps": 2}
    if accumulate == 2:
        options |= {"future__weight": 0.5, "loss__last_weight": 2.0, "hsa__queue_size": 32}
        options |= {"hsa__negatives": ["batch", "tokens", "time", "queue"]}
    whole = run(tmp_path / "whole", train__steps=6, train__save_every=3, **options)
    middle = tmp_path / "whole" / "checkpoints" / "step_3"
    resumed = run(tmp_path / "resumed", train__steps=6, train__resume=str(middle), **options)
    assert whole.keys() == resumed.keys()
    assert [k for k in whole if not torch.equal(whole[k], resumed[k])] == []


def test_accumulation_has_the_gradient_of_the_large_batch(tmp_path: Path) -> None:
    # without alignment (negatives come from the micro-batch), latent noise, shifts and padding
    options = {"hsa__weight": 0.0, "model__latent_dim": 0, "model__chunk_size": 1, "augment__shift": 0.0}
    large = run(tmp_path / "large", train__batch_size=8, train__steps=1, **options)
    small = run(tmp_path / "small", train__batch_size=4, train__accumulate=2, train__steps=1, **options)
    moments = [k for k in large if k.endswith("exp_avg")]  # .1 gradient after one step
    assert moments
    for name in moments:
        torch.testing.assert_close(small[name], large[name], rtol=1e-3, atol=1e-7)


def test_checkpoint_rebuilds_the_policy(tmp_path: Path) -> None:
    tensors = run(tmp_path)
    trained = load_policy(tmp_path)
    for name, value in trained.policy.state_dict().items():
        assert torch.equal(value, tensors[f"average.{name}"])
    assert trained.fps == 25.0
    assert trained.provenance["step"] == 4
    assert len(str(trained.provenance["dataset_sha256"])) == 64


def test_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    run(tmp_path)
    names = {path.suffix for path in (tmp_path / "checkpoints" / "last").iterdir()}
    assert names == {".safetensors", ".json", ".yaml"}


def test_metrics_are_lines_of_json(tmp_path: Path) -> None:
    run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]
    assert {"loss", "l1", "kl", "hsa", "hsa_chance", "hsa_ratio", "samples_per_s"} <= set(rows[0])


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_wandb_is_asked_for_by_an_option_and_named_where_it_is_missing(tmp_path: Path) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(MissingDependencyError, match="pip install wandb"):
        run(tmp_path, train__wandb="offline")
    assert not list(tmp_path.iterdir())


def test_time_boxed_training_ends(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train__steps=None, train__max_seconds=0.5)
    result = train_on_tables(config, Tables(tiny_table(2), None), SilentReporter())
    assert result.step >= 1
    assert result.seconds >= 0.5


def test_validation_runs_and_keeps_the_best(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train__validate_every=2)
    result = train_on_tables(config, Tables(tiny_table(2), tiny_table(1, seed=9)), SilentReporter())
    assert result.metrics["l1_z0"] > 0
    assert (tmp_path / "checkpoints" / "best" / "state.json").is_file()


def test_training_needs_an_end() -> None:
    with pytest.raises(ValueError, match="steps, max_seconds"):
        TrainConfig(output="x")


def test_average_follows_its_recursion_and_copies_buffers() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    start = module[0].weight.detach().clone()
    ema = Ema(module, 0.9)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    module.train()(torch.randn(8, 2))
    ema.update(module)
    torch.testing.assert_close(ema.module[0].weight, 0.9 * start + 0.1 * module[0].weight)
    assert torch.equal(ema.module[1].running_mean, module[1].running_mean)
    assert int(ema.module[1].num_batches_tracked) == 1


def test_rate_warms_up_then_falls_along_a_cosine() -> None:
    config = TrainConfig(output="x", steps=100, lr=1.0, warmup_steps=10, final_lr=0.02)
    optimizer = make_optimizer(nn.Linear(2, 2), config, config.lr)
    rates = []
    for step in range(101):
        set_learning_rate(optimizer, config, step, step / 100)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.97
    assert rates[50] == pytest.approx(0.51)
    assert rates[100] == pytest.approx(0.02)


def test_backbone_has_its_own_rate_and_every_group_decays(tmp_path: Path) -> None:
    module = nn.ModuleDict({"backbone": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    config = TrainConfig(output="x", steps=1, lr=1e-3, lr_backbone=1e-5, weight_decay=1e-4)
    optimizer = make_optimizer(module, config, config.lr)
    set_learning_rate(optimizer, config, 0, 0.0)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3, 1e-5]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [1e-4, 1e-4]


def test_a_seed_of_its_own_leaves_the_generators_of_all_devices_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = {0: torch.tensor([11]), 1: torch.tensor([12])}  # a stand-in for two cards

    def seed_all(seed: int) -> None:
        devices.update(dict.fromkeys(devices, torch.tensor([seed])))

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_all)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: devices[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: devices.update({device: state}))
    cpu = torch.get_rng_state()
    with seeded(5):
        assert {int(state) for state in devices.values()} == {5}
        first = torch.rand(3)
    assert [int(state) for state in devices.values()] == [11, 12]
    assert torch.equal(torch.get_rng_state(), cpu)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)


def test_nothing_but_the_group_of_processes_holds_it_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reducer that held it to the end was joined with the lock of the interpreter held, and hung."""
    held: list[int] = []
    monkeypatch.setattr(Accelerator, "end_training", lambda self: held.append(len(self._models)))
    run(tmp_path, train__steps=1)
    assert held == [0]


def test_time_of_validation_is_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tacit_learning.engine.loop.time.monotonic", lambda: now[0])
    clock = Clock(5.0)
    now[0] += 2
    clock.pause()
    now[0] += 30
    assert clock.read() == 7.0
    clock.go()
    now[0] += 1
    assert clock.read() == 8.0
