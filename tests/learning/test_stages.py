"""Stages: who trains, and where a step lies."""

from __future__ import annotations

import pytest
from torch import nn

from tacit.errors import ConfigError
from tacit_learning.engine.stages import StageConfig, one_stage, plan_stages, set_trainable, stage_at


def first_word(name: str) -> str:
    """Group parameters by the part of the model they are in."""
    return name.split(".")[0]


def test_stages_follow_one_another_without_gap() -> None:
    stages = plan_stages(
        {
            "one": StageConfig(trainable_models=("vace",), epochs=3, learning_rate=5e-4),
            "two": StageConfig(trainable_models=("dit",)),
        },
        steps_in_epoch=lambda epoch: 5 if epoch < 4 else 6,
        epochs=2,
        learning_rate=1e-5,
    )
    assert [(stage.first_step, stage.end, stage.learning_rate) for stage in stages] == [
        (0, 15, 5e-4),
        (15, 26, 1e-5),
    ]
    assert [stage.first_epoch for stage in stages] == [0, 3]
    assert [stage_at(stages, step) for step in (0, 14, 15, 25, 26)] == [0, 0, 1, 1, 2]


def test_a_stage_sets_every_gradient_switch_exactly() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3), "c": nn.Linear(2, 2)})
    assert set_trainable(first_word, ["a", "b"], model) == 6 + 9
    assert set_trainable(first_word, ["b"], model) == 9
    trains = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trains == {"b.weight", "b.bias"}


def test_a_group_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameters in group 'vace'.*did you mean 'vace_e'"):
        set_trainable(first_word, ["vace"], nn.ModuleDict({"vace_e": nn.Linear(2, 2)}))


def test_a_run_without_stages_is_one_that_ends_with_its_steps() -> None:
    assert (one_stage(0.1, 7).end, one_stage(0.1, 7).groups) == (7, ())
    assert stage_at([one_stage(0.1, None)], 10**9) == 0
