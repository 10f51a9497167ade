"""Groups of parameters, and low-rank adapters that start without effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tiny_vace_e import TINY, Inputs, drawn_inputs, make, run

from tacit.errors import ConfigError
from tacit_learning.vace_e.model.folder import AdapterSets, save_adapters
from tacit_learning.vace_e.model.lora import apply_lora, lora_names
from tacit_learning.vace_e.model.vace_e import group_of, parameter_groups


@pytest.fixture
def inputs() -> Inputs:
    return drawn_inputs()


def test_groups_hold_every_parameter_once() -> None:
    model = make()
    apply_lora(model.transformer, "dit", 2)
    apply_lora(model.transformer, "vace", 2)
    groups = parameter_groups(model)
    assert set(groups) == {"vace_e", "vace", "dit", "lora:dit", "lora:vace"}
    members = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(members) == sorted(id(parameter) for parameter in model.parameters())
    assert group_of("transformer.vace_blocks.0.proj_in.weight") == "vace"
    assert group_of("transformer.condition_embedder.time_proj.weight") == "dit"
    assert group_of("transformer.fusion.layers.0.balance") == group_of("encoders.null") == "vace_e"


@pytest.mark.parametrize("base", ["dit", "vace"])
def test_low_rank_adapters_start_without_effect_and_leave_what_trains(base: str, inputs: Inputs) -> None:
    model = make(awake=True)
    expected = run(model, inputs)
    trained = {name: index % 2 == 0 for index, (name, _) in enumerate(model.named_parameters())}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    layers = apply_lora(model.transformer, base, 4)  # type: ignore[arg-type]
    blocks = {"dit": TINY.backbone.layers, "vace": len(TINY.backbone.vace_layers)}[base]
    assert len(layers) == 10 * blocks  # q, k, v, o twice, and two of the feed-forward layer
    torch.testing.assert_close(run(model, inputs), expected, rtol=1e-6, atol=1e-6)
    for name, parameter in model.named_parameters():
        own = name.replace(".base_layer.", ".")
        assert parameter.requires_grad == trained.get(own, True), name


def test_two_sets_of_adapters_are_both_active(inputs: Inputs) -> None:
    model = make()
    apply_lora(model.transformer, "dit", 4)
    apply_lora(model.transformer, "vace", 4, ["q", "ffn.2"])
    assert lora_names(model.transformer) == ["dit", "vace"]
    before = run(model, inputs)
    for name in ("lora:dit", "lora:vace"):
        for parameter in parameter_groups(model)[name]:
            torch.nn.init.normal_(parameter, std=0.1)
        after = run(model, inputs)
        assert (after - before).abs().max() > 1e-3
        before = after


def test_wrong_targets_and_bases_name_the_right_ones() -> None:
    model = make()
    with pytest.raises(ConfigError, match=r"'to_qq' is no linear layer of blocks; did you mean 'to_q'"):
        apply_lora(model.transformer, "dit", 4, ["to_qq"])
    with pytest.raises(ConfigError, match="did you mean 'dit'"):
        apply_lora(model.transformer, "dti", 4)  # type: ignore[arg-type]
    apply_lora(model.transformer, "dit", 4)
    with pytest.raises(ConfigError, match="has its adapters already"):
        apply_lora(model.transformer, "dit", 4)


def test_adapters_of_tasks_take_turns_in_one_model(inputs: Inputs, tmp_path: Path) -> None:
    alone = {}
    for seed, (task, base) in enumerate({"pour": "dit", "grasp": "dit", "both": "vace"}.items()):
        trained = make(awake=True)
        apply_lora(trained.transformer, base, 2)  # type: ignore[arg-type]
        torch.manual_seed(seed)
        for parameter in parameter_groups(trained)[f"lora:{base}"]:
            torch.nn.init.normal_(parameter, std=0.2)
        save_adapters(trained, tmp_path / task / "model")
        alone[task] = run(trained, inputs)
    model = make(awake=True)
    plain = run(model, inputs)
    sets = AdapterSets(model, {task: tmp_path / task for task in alone})
    for task in ("grasp", "pour", "both", "grasp"):
        sets.use(task)
        torch.testing.assert_close(run(model, inputs), alone[task], rtol=1e-5, atol=1e-5)
    assert (alone["grasp"] - alone["pour"]).abs().max() > 1e-3
    sets.use(None)
    torch.testing.assert_close(run(model, inputs), plain, rtol=1e-6, atol=1e-6)
    save_adapters(make(), tmp_path / "none" / "model")
    with pytest.raises(ConfigError, match="no low-rank adapters in it"):
        AdapterSets(make(), {"none": tmp_path / "none"})
