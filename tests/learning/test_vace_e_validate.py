"""What validation measures, and that a small model learns one clip by heart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from vace_e_runs import run, small_config

from benches.drawn_clips import SyntheticConfig, example_tasks, write_dataset
from tacit_learning.vace_e.assembly import choose_held_out, make_inputs, make_networks
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.judge.metrics import Unavailable
from tacit_learning.vace_e.judge.validate import Validator, spread

BAR = 0.7


class Knows:
    """A stand-in for a model: predicts the true velocity of one clip, plus a constant error."""

    encoders = None
    training = False

    def __init__(self, latents: torch.Tensor, error: float) -> None:
        self.latents, self.error = latents, error

    def eval(self) -> None:
        pass

    def train(self, mode: bool) -> None:
        pass

    def conditioning(self, *_: object) -> None:
        return None

    def __call__(self, x: torch.Tensor, time: torch.Tensor, *_: object) -> torch.Tensor:
        sigma = (time / 1000).view(-1, 1, 1, 1, 1)
        return (x - self.latents) / sigma + self.error


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "data"
    write_dataset(folder, example_tasks(1)[:1], SyntheticConfig(height=32, width=48, num_frames=9))
    return folder


def inputs_of(config: VaceEConfig) -> Inputs:
    return make_inputs(config, VaceEDataset(config), make_networks(config, torch.device("cpu")))


def test_the_fixed_grid_measures_the_squared_error_of_the_velocity(one_clip: Path, tmp_path: Path) -> None:
    settings = {"enabled": True, "metrics": [], "sigmas": 3}
    inputs = inputs_of(small_config(one_clip, tmp_path, validation=settings))
    validator = Validator(small_config(one_clip, tmp_path, validation=settings), inputs, inputs)
    model = Knows(inputs.clips([0]).latents, error=0.5)
    scores = validator.run(model, torch.device("cpu"), tmp_path, step=0)  # type: ignore[arg-type]
    assert set(scores) == {"flow", "flow_sigma_0.17", "flow_sigma_0.50", "flow_sigma_0.83"}
    assert list(scores.values()) == pytest.approx([0.25] * 4, rel=1e-4)


def test_probes_without_held_out_episodes_are_unavailable(one_clip: Path, tmp_path: Path) -> None:
    config = small_config(one_clip, tmp_path)
    inputs = inputs_of(config)
    nothing = make_inputs(config, inputs.dataset.subset([]), inputs.frozen)

    class Featured(Knows):
        encoders = object()  # type: ignore[assignment]

    model = Featured(torch.zeros(1), 0.0)
    scores = Validator(config, inputs, nothing).task_alignment(model, torch.device("cpu"))  # type: ignore[arg-type]
    assert all(isinstance(score, Unavailable) for score in scores.values())


def test_every_task_of_several_episodes_gives_one_and_keeps_one() -> None:
    tasks = ["a"] * 10 + ["b"] * 2 + ["c"]
    held_out = choose_held_out(tasks, 0.2, seed=0)
    assert [sum(tasks[i] == task for i in held_out) for task in "abc"] == [2, 1, 0]
    assert choose_held_out(tasks, 0.2, seed=0) == held_out
    assert choose_held_out(tasks, 0.0, seed=0) == set()


def test_windows_are_spread_over_the_whole_set() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(11, 3) == [0, 5, 10]


@pytest.mark.slow
def test_one_clip_repeated_is_learned_by_heart(one_clip: Path, tmp_path: Path) -> None:
    """The flow loss on the fixed grid falls by more than 70 %."""

    def loss(repeat: int, name: str) -> float:
        config = small_config(
            one_clip,
            tmp_path / name,
            model_size="small",
            width=32,
            num_frames=5,
            batch_size=8,
            dataset_repeat=repeat,
            modality_dropout=0.0,
            enable_contrastive_loss=False,
            enable_club_loss=False,
            warmup_steps=20,
            training_stages={"all": {"trainable_models": "dit,vace,vace_e", "learning_rate": 2e-3}},
            validation={"enabled": True, "metrics": []},
        )
        run(config)
        return json.loads((tmp_path / name / "validation.json").read_text())["scores"]["flow"]

    start, end = loss(8, "start"), loss(280, "end")
    assert np.isfinite(start) and end < (1 - BAR) * start
