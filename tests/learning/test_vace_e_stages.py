"""Stages: who trains, and where a step lies."""

from __future__ import annotations

import pytest
from torch import nn

from tacit.errors import ConfigError
from tacit_learning.engine.stages import StageConfig, plan_stages, set_trainable, stage_at


def test_stages_follow_one_another_without_gap() -> None:
    stages = plan_stages(
        {"one": StageConfig(epochs=3, learning_rate=5e-4), "two": StageConfig(trainable_models=("dit",))},
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
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    groups = {"vace_e": list(model["a"].parameters()), "dit": list(model["b"].parameters())}
    assert len(set_trainable(groups, ["vace_e", "dit"], model)) == 4
    chosen = set_trainable(groups, ["dit"], model)
    assert [id(each) for each in chosen] == [id(each) for each in model["b"].parameters()]
    trains = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trains == {"b.weight", "b.bias"}


def test_a_group_the_model_lacks_is_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="no parameters in group 'vace'.*did you mean 'vace_e'"):
        set_trainable({"vace_e": list(model.parameters()), "vace": []}, ["vace"], model)
