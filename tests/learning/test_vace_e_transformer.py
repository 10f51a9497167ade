"""The transformer equals diffusers', starts as base VACE, and treats samples of a batch apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from diffusers import WanVACETransformer3DModel
from tiny_vace_e import BATCH, INJECTIONS, REFERENCE, TINY, Inputs, drawn_inputs, make, run

from tacit_learning.vace_e.config_model import STREAMS
from tacit_learning.vace_e.model.fusion import Adapter, Scene
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.model.vace_e import VaceE, build_model, parameter_groups, train_in_float32


@pytest.fixture
def inputs() -> Inputs:
    return drawn_inputs()


def base_of(model: VaceE) -> WanVACETransformer3DModel:
    """diffusers' own model with the same base weights."""
    base = WanVACETransformer3DModel(**TINY.backbone.arguments()).eval()
    weights = model.transformer.state_dict()
    base.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fusion.")})
    return base


def run_base(base: WanVACETransformer3DModel, inputs: Inputs, **options: object) -> Tensor:
    with torch.no_grad():
        return base(
            inputs.latents, inputs.timestep, inputs.text, control_hidden_states=inputs.control, **options
        ).sample


@pytest.mark.parametrize("scale", [None, torch.tensor([0.5, 2.0])])
def test_forward_equals_diffusers(scale: Tensor | None, inputs: Inputs) -> None:
    model = make()
    expected = run_base(base_of(model), inputs, control_hidden_states_scale=scale)
    found = run_base(model.transformer, inputs, control_hidden_states_scale=scale)
    assert (found - expected).abs().max() <= 1e-6


def test_gradients_equal_diffusers_with_and_without_checkpointing(inputs: Inputs) -> None:
    model = make()
    base = base_of(model)
    gradients = []
    for network in (base, model.transformer):
        for checkpointing in (False, True):
            (
                network.enable_gradient_checkpointing
                if checkpointing
                else network.disable_gradient_checkpointing
            )()
            network.zero_grad()
            output = network(
                inputs.latents, inputs.timestep, inputs.text, control_hidden_states=inputs.control
            )
            output.sample.square().mean().backward()
            named = dict(network.named_parameters())
            gradients.append({name: named[name].grad for name in dict(base.named_parameters())})
    for found in gradients[1:]:
        for name, expected in gradients[0].items():
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_step_0_equals_base_vace_bit_for_bit(injection: str, inputs: Inputs) -> None:
    model = make(injection)
    expected = run_base(base_of(model), inputs)
    assert torch.equal(run(model, inputs), expected)
    assert torch.equal(run(model, inputs, base=True), expected)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_after_step_0_the_streams_move_the_video(injection: str, inputs: Inputs) -> None:
    model = make(injection, awake=True)
    whole = run(model, inputs)
    assert (whole - run(model, inputs, base=True)).abs().amax((1, 2, 3, 4)).min() > 1e-2
    for stream in STREAMS:
        without = inputs._replace(signals=inputs.signals.without([stream]))
        assert (run(model, without) - whole).abs().amax((1, 2, 3, 4)).min() > 1e-5, stream


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_batch_equals_its_samples(injection: str, inputs: Inputs) -> None:
    model = make(injection, awake=True)
    together = run(model, inputs)
    for i in range(BATCH):
        alone = run(model, inputs.rows(slice(i, i + 1)))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_masked_tokens_are_not_read_by_the_video(injection: str, inputs: Inputs) -> None:
    model = make(injection, awake=True)
    signals = replace(inputs.signals, motion_valid=inputs.signals.motion_valid.clone())
    signals.motion_valid[:, 5:] = False
    condition = model.conditioning(signals, REFERENCE)
    values = torch.where(condition.task.mask.unsqueeze(-1), condition.task.values, 1e4)
    poisoned = replace(condition, task=condition.task._replace(values=values))
    assert not condition.task.mask.all()
    torch.testing.assert_close(
        run(model, inputs, poisoned), run(model, inputs, condition), rtol=1e-5, atol=5e-6
    )


def test_reversed_motion_changes_the_video(inputs: Inputs) -> None:
    model = make(awake=True)
    signals = replace(inputs.signals, motion=inputs.signals.motion.flip(1))
    difference = run(model, inputs._replace(signals=signals)) - run(model, inputs)
    assert difference.abs().amax((1, 2, 3, 4)).min() > 1e-4


def test_video_queries_know_their_frame_and_the_reference_slot_its_own_time(inputs: Inputs) -> None:
    adapter = make(awake=True).transformer.fusion.layers["0"]
    assert isinstance(adapter, Adapter)
    with torch.no_grad():
        adapter.reference_time.normal_()
    nothing = torch.zeros(1, 24)
    with_slot, without = (Scene((n, 2, 3), nothing, nothing, (nothing, nothing)) for n in (5, 4))
    code = adapter._times(1, with_slot).view(5, 6, -1)
    assert torch.equal(code[0], adapter.reference_time.expand(6, -1))
    assert torch.equal(code[1], code[1][:1].expand(6, -1))  # one time for all cells of a frame
    assert torch.equal(code[1:], adapter._times(0, without).view(4, 6, -1))
    assert torch.pdist(code[:, 0]).min() > 1e-3


def test_balance_starts_even_sums_to_two_and_learns(inputs: Inputs) -> None:
    model = make(awake=True).train()
    for weights in model.transformer.fusion.balances().values():
        assert [float(weight) for weight in weights] == [1.0, 1.0]
    with torch.no_grad():
        model.transformer.fusion.layers["0"].balance.copy_(torch.tensor([2.0, -1.0]))
    assert float(sum(model.transformer.fusion.balances()[0])) == pytest.approx(2)
    condition = model.conditioning(inputs.signals, REFERENCE)
    model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition).square().mean().backward()
    assert model.transformer.fusion.layers["2"].balance.grad.abs().sum() > 0


def test_bf16_autocast_stays_near_float32_and_features_stay_float32(inputs: Inputs) -> None:
    model = make(awake=True)
    expected = run(model, inputs)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        condition = model.conditioning(inputs.signals, REFERENCE)
        found = model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition)
        features = model.features(inputs.signals)
    assert (found.float() - expected).norm() / expected.norm() < 0.02
    assert {value.dtype for value in features} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(features.z_task, model.features(inputs.signals).z_task)


def to_bf16(model: VaceE) -> VaceE:
    """Round the base as loading in bf16 does: norms and the tables of modulation stay float32."""
    for name, parameter in model.transformer.named_parameters():
        kept = any(word in name for word in ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"))
        if not kept and not name.startswith("fusion."):
            parameter.data = parameter.data.bfloat16()
    return model


@pytest.mark.parametrize("trained", [(), ("dit",), ("vace",), ("dit", "vace")])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_bf16_base_takes_any_groups_in_float32(
    injection: str, trained: tuple[str, ...], inputs: Inputs
) -> None:
    expected = run(make(injection, awake=True), inputs)
    model = to_bf16(make(injection, awake=True))
    train_in_float32(model, trained)
    for group in trained:
        assert {parameter.dtype for parameter in parameter_groups(model)[group]} == {torch.float32}
    found = run(model, inputs)
    assert found.dtype == torch.float32
    assert (found - expected).norm() / expected.norm() < 0.03


def test_base_vace_has_no_streams() -> None:
    torch.manual_seed(0)
    model = build_model(TINY, with_streams=False)
    signals = random_signals(1, TINY.encoders, 32, 2)
    assert model.conditioning(signals) is None
    assert set(parameter_groups(model)) == {"dit", "vace"}
    with pytest.raises(ValueError, match="has no streams"):
        model.features(signals)


def test_inputs_that_vace_does_not_have_are_refused(inputs: Inputs) -> None:
    transformer = make().transformer
    arguments = (inputs.latents, inputs.timestep, inputs.text)
    with pytest.raises(ValueError, match="control_hidden_states are required"):
        transformer(*arguments)
    with pytest.raises(ValueError, match="image tokens"):
        transformer(*arguments, encoder_hidden_states_image=inputs.text, control_hidden_states=inputs.control)
    with pytest.raises(ValueError, match="3 values for 2 VACE layers"):
        transformer(
            *arguments, control_hidden_states=inputs.control, control_hidden_states_scale=torch.ones(3)
        )
