"""Checkpoints: a kill at any instant leaves one that loads, and a broken loss leaves the last good one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_videos import tiny_alignment, tiny_annotated
from tiny_world import tiny_config, tiny_table
from torch import Tensor, nn
from vace_e_runs import small_config, write_small_dataset

import tacit_learning.engine.checkpoint as module
from tacit.errors import ConfigError, TacitError
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.objective import AlignmentObjective
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.engine.checkpoint import FIRST, Position, find, load_checkpoint, save_checkpoint
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.job import Course, Job
from tacit_learning.engine.loop import fit
from tacit_learning.engine.optimizer import optimizer_state, restore_optimizer
from tacit_learning.engine.stages import Stage
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.vace_e.objective import Objective
from tacit_learning.vace_e.run import train
from tacit_learning.vace_e.sampling.trained import load_trained

QUIET = SilentReporter()


class Killed(BaseException):
    """What a process dies of: nothing that any `except` catches."""


def save(folder: Path, step: int) -> None:
    """Write a small checkpoint with every kind of part."""
    flat = {"w": torch.full((2,), float(step)), "values": [1, {"a": 2}]}
    save_checkpoint(folder, Position(step), {"model": flat, "course": flat, "rng": {}}, {"a.txt": "b"})


def kill_after(actions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die before its `actions`-th write, rename or removal from now on."""
    left = [actions]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(module, "save_file", dying(module.save_file))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))
    for name in ("write_text", "rename", "mkdir"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))


@pytest.mark.parametrize("second", range(11))
@pytest.mark.parametrize("first", range(6, 10), ids=lambda actions: f"after {actions} actions")
def test_two_kills_at_any_instants_leave_the_previous_or_the_new_checkpoint(
    tmp_path: Path, first: int, second: int
) -> None:
    folder = tmp_path / "checkpoints" / "last"
    save(folder, 1)
    before = 1
    for step, actions in ((2, first), (3, second)):
        with pytest.MonkeyPatch.context() as patch:
            kill_after(actions, patch)
            with contextlib.suppress(Killed):
                save(folder, step)
        found = load_checkpoint(tmp_path)
        assert found.position.step in (before, step)
        assert found.part("model")["w"].tolist() == [float(found.position.step)] * 2
        before = found.position.step
    save(folder, 4)
    assert load_checkpoint(tmp_path).position.step == 4
    assert [path.name for path in folder.parent.iterdir()] == ["last"]


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(9, 9))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW([*model[1].parameters(), *model[2].parameters()], lr=0.1)
    model[:2](torch.randn(5, 3)).square().mean().backward()
    optimizer.step()  # the last layer gets no gradient, so it has no moments
    position = Position(7, 2.5, {"best": 1.0}, {"flow": 1.0}, {"scale": 2.0})
    parts = {"model": model.state_dict(), "optimizer": optimizer_state(model, optimizer), "course": {}}
    save_checkpoint(tmp_path / "checkpoints" / "last", position, parts, {"a.txt": "b"})
    found = load_checkpoint(tmp_path, resume=True)
    assert found.position == position and dict(found.texts) == {"a.txt": "b"}
    assert found.part("course") == found.part("average") == {}
    other = torch.optim.AdamW([*model[1].parameters(), *model[2].parameters()], lr=0.5)
    restore_optimizer(model, other, found.part("optimizer"), "here")
    assert len(other.state) == len(optimizer.state) == 2
    for mine, theirs in zip(other.state.values(), optimizer.state.values(), strict=True):
        assert all(mine[key].equal(theirs[key]) for key in theirs)
    assert other.param_groups[0]["lr"] == 0.1


def test_an_older_checkpoint_of_a_policy_loads_but_is_not_resumed(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", train__steps=1)
    train_on_tables(config, Tables(tiny_table(2), None), QUIET)
    path = tmp_path / "run" / "checkpoints" / "last" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FIRST}))
    for name in ("model", "average"):  # the alignment had other heads then; acting needs none
        weights = load_file(path.with_name(f"{name}.safetensors"))
        kept = {
            key: value for key, value in weights.items() if key not in ("alignment.sensor", "balance.norms")
        }
        save_file(kept, path.with_name(f"{name}.safetensors"))
    assert load_policy(tmp_path / "run").provenance["step"] == 1
    again = tiny_config(tmp_path / "again", train__steps=2, train__resume=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="older release.*not resumed: train again"):
        train_on_tables(again, Tables(tiny_table(2), None), QUIET)


@pytest.mark.parametrize("found", ["tacit-vace-e-checkpoint 1", "something else"])
def test_a_folder_of_another_format_is_refused_with_what_to_do(tmp_path: Path, found: str) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"format": found}))
    with pytest.raises(ConfigError, match=f"format '{found}'.*train again, or use the release"):
        load_checkpoint(tmp_path)


def train_policy(folder: Path) -> None:
    config = tiny_config(folder, train__steps=6, train__save_every=2, train__accumulate=2)
    train_on_tables(config, Tables(tiny_table(2), None), QUIET)


def train_alignment(folder: Path) -> None:
    config = tiny_alignment(folder, train__steps=6, train__save_every=2, train__validate_every=None)
    train_on(config, tiny_annotated(), None, QUIET)


def train_vace_e(folder: Path) -> None:
    data = write_small_dataset(folder.parent / "data")
    train(small_config(data, folder, save_every=2, max_steps=6), QUIET)


Trainer = tuple[Callable[[Path], None], type[nn.Module], Callable[[Path], object], str]
TRAINERS: dict[str, Trainer] = {
    "act_hsa": (train_policy, ActHsaPolicy, load_policy, "train.lr"),
    "alignment": (train_alignment, AlignmentObjective, lambda run: load_alignment(run, "last"), "train.lr"),
    "vace_e": (train_vace_e, Objective, load_trained, "debug=true"),
}


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_step_that_is_not_finite_stops_every_trainer_and_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, broken: str
) -> None:
    run, model, load, advice = TRAINERS[name]
    real = model.forward

    def forward(self: nn.Module, batch: object, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = real(self, batch, step)
        if step != 4:
            return loss, metrics
        if broken == "loss":
            return loss * float("nan"), metrics | {"broken_term": loss.detach() * float("nan")}
        weight = next(each for each in self.parameters() if each.requires_grad)
        return loss + (weight * 0).sum().sqrt(), metrics  # the root has no slope at 0

    monkeypatch.setattr(model, "forward", forward)
    named = "(?=.*loss)(?=.*broken_term)" if broken == "loss" else "not finite: grad_norm"
    with pytest.raises(TacitError, match=f"step 5: {named}.*checkpoints/last.*{advice}"):
        run(tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.position.step == 4
    assert all(bool(torch.isfinite(value).all()) for value in checkpoint.weights.values())
    load(tmp_path / "run")


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_killed_while_it_saves_leaves_a_checkpoint_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run, _, load, _ = TRAINERS[name]
    real, saves = module._replace, [0]

    def die_between_the_renames(folder: Path, complete: Path) -> None:
        saves[0] += folder.name == "last"
        if folder.name == "last" and saves[0] == 2:
            kill_after(2, monkeypatch)  # the older one is moved away, the new one has no name yet
        real(folder, complete)

    monkeypatch.setattr(module, "_replace", die_between_the_renames)
    with pytest.raises(Killed):
        run(tmp_path / "run")
    monkeypatch.undo()
    last = tmp_path / "run" / "checkpoints" / "last"
    assert not last.exists() and find(last) is not None
    assert load_checkpoint(tmp_path / "run").position.step == 2
    load(tmp_path / "run")


class Square(nn.Module):
    """Two numbers that both want to be 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(1))
        self.b = nn.Parameter(torch.ones(1))

    def forward(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.a**2 + self.b**2 + batch["noise"]).sum()
        return loss, {"sum": (self.a + self.b).detach().sum()}


class TwoStages(Course):
    """First `a` trains, then `b`; each stage leaves a checkpoint."""

    stages = (Stage("first", ("a",), 0.1, 0, 1, 0, 3), Stage("second", ("b",), 0.01, 1, 1, 3, 4))
    keeps_steps = False
    keeps_stages = True

    def __init__(self) -> None:
        self.visits = 0

    def group_of(self, name: str) -> str:
        return name

    def state(self) -> dict[str, object]:
        return {"visits": torch.tensor(self.visits)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.visits = int(state["visits"]) + 1


def run_stages(folder: Path, **options: object) -> Course:
    """Train `Square` over two stages; a batch is its own number."""
    course = TwoStages()

    def batches(first: int, rank: int, world: int):  # type: ignore[no-untyped-def]
        while True:
            yield {"noise": torch.tensor([float(first)])}
            first += 1

    config = TrainConfig(
        output=str(folder), device="cpu", log_every=2, validate_every=None, **{"steps": 7, **options}
    )
    fit(Job(Square(), batches, lambda *_: {}, {}, course=course), config, QUIET)
    return course


def test_stages_train_what_they_name_and_leave_their_checkpoints(tmp_path: Path) -> None:
    run_stages(tmp_path, save_every=2)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["last", "stage_first", "stage_second"]
    first, last = load_checkpoint(folder / "stage_first"), load_checkpoint(tmp_path)
    assert float(first.weights["a"]) < 1 and float(first.weights["b"]) == 1
    assert last.weights["a"].equal(first.weights["a"]) and float(last.weights["b"]) < 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["lr"]) for row in rows] == [(2, 0.1), (3, 0.1), (4, 0.01), (6, 0.01), (7, 0.01)]


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_of_stages_goes_on_from_any_step_bit_for_bit(tmp_path: Path, stop: int) -> None:
    run_stages(tmp_path / "whole")
    run_stages(tmp_path / "half", steps=stop)
    course = run_stages(tmp_path / "rest", resume=str(tmp_path / "half"))
    whole, rest = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "rest")
    assert course.visits == 1  # type: ignore[attr-defined]
    assert whole.position.step == rest.position.step == 7
    for part in ("model", "optimizer"):
        for key, value in whole.part(part).items():
            again = rest.part(part)[key]
            assert value.equal(again) if isinstance(value, Tensor) else value == again


def test_a_run_with_nothing_left_to_train_keeps_its_optimiser(tmp_path: Path) -> None:
    run_stages(tmp_path / "whole")
    run_stages(tmp_path / "again", resume=str(tmp_path / "whole"))
    again = load_checkpoint(tmp_path / "again")
    assert again.position.step == 7
    assert again.part("optimizer").keys() == load_checkpoint(tmp_path / "whole").part("optimizer").keys()


def test_weights_that_lack_a_part_are_refused_by_its_name(tmp_path: Path) -> None:
    train_on_tables(tiny_config(tmp_path / "run", train__steps=1), Tables(tiny_table(2), None), QUIET)
    path = tmp_path / "run" / "checkpoints" / "last" / "average.safetensors"
    weights = load_file(path)
    del weights["model.head.weight"]
    save_file(weights, path)
    with pytest.raises(ConfigError, match=r"model.head.weight: saved: no such weight, this model: \(7, 32\)"):
        load_policy(tmp_path / "run")


def test_a_checkpoint_of_other_sizes_is_named(tmp_path: Path) -> None:
    train_on_tables(tiny_config(tmp_path / "run", train__steps=1), Tables(tiny_table(2), None), QUIET)
    wider = tiny_config(tmp_path / "b", train__resume=str(tmp_path / "run"), model__feedforward=128)
    with pytest.raises(ConfigError, match=r"saved: \(64.*this model: \(128.*other model options"):
        train_on_tables(wider, Tables(tiny_table(2), None), QUIET)
