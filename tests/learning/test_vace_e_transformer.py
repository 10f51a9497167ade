"""The transformer equals diffusers', starts as base VACE, and treats samples of a batch apart."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from diffusers import WanVACETransformer3DModel

from tacit.errors import ConfigError
from tacit_learning.losses.flow import flow_loss_per_sample
from tacit_learning.vace_e.config_model import STREAMS, ModelConfig, preset
from tacit_learning.vace_e.model.fusion import Adapter, Condition, Scene
from tacit_learning.vace_e.model.lora import apply_lora, lora_names
from tacit_learning.vace_e.model.signals import Signals, random_signals
from tacit_learning.vace_e.model.vace_e import (
    VaceE,
    build_model,
    group_of,
    parameter_groups,
    train_in_float32,
)
from tacit_learning.vace_e.sampling.guidance import ORDER, Cue, GuidanceScales, guided_velocity

TINY = preset("tiny")
INJECTIONS = ("adapter", "context")
BATCH, FRAMES, REFERENCE = 3, 4, 1


class Inputs(NamedTuple):
    latents: Tensor
    timestep: Tensor
    control: Tensor
    text: Tensor
    signals: Signals

    def rows(self, index: slice) -> Inputs:
        return Inputs(*(value[index] for value in self[:4]), self.signals.rows(index))


@pytest.fixture
def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(7)
    cells = (FRAMES + REFERENCE, 4, 6)
    return Inputs(
        torch.randn(BATCH, 16, *cells, generator=generator),
        torch.tensor([20.0, 500.0, 950.0]),
        torch.randn(BATCH, 96, *cells, generator=generator),
        torch.randn(BATCH, 16, 32, generator=generator),
        random_signals(BATCH, TINY.encoders, 32, FRAMES, generator=generator),
    )


def make(injection: str = "adapter", awake: bool = False, **changes: object) -> VaceE:
    """A model; awake: the last layer of the fusion is not zero any more."""
    torch.manual_seed(0)
    values = {"injection": injection, **changes}
    model = build_model(ModelConfig.model_validate(TINY.model_dump() | values)).eval()
    if awake:
        for layer in model.transformer.fusion.layers.values():
            torch.nn.init.normal_(layer.output.weight, std=0.1)
    return model


def base_of(model: VaceE) -> WanVACETransformer3DModel:
    """diffusers' own model with the same base weights."""
    base = WanVACETransformer3DModel(**TINY.backbone.arguments()).eval()
    weights = model.transformer.state_dict()
    base.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fusion.")})
    return base


def run(model: VaceE, inputs: Inputs, condition: Condition | None = None, base: bool = False) -> Tensor:
    with torch.no_grad():
        if not base and condition is None:
            condition = model.conditioning(inputs.signals, REFERENCE)
        return model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition)


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


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_trainable_parameter_gets_a_finite_gradient(
    checkpointing: bool, injection: str, inputs: Inputs
) -> None:
    model = make(injection, awake=True).train()
    if checkpointing:
        model.transformer.enable_gradient_checkpointing()
    empty = inputs._replace(signals=inputs.signals.without(["motion", "objects", "embodiment"]))
    condition = model.conditioning(empty.signals, REFERENCE)
    velocity = model(empty.latents, empty.timestep, empty.control, empty.text, condition)
    features = model.project(condition.z_task, condition.z_emb)
    (velocity.square().mean() + sum(value.square().mean() for value in features)).backward()
    bad = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert bad == []


def test_frozen_base_keeps_no_graph_of_the_control_branch(inputs: Inputs) -> None:
    model = make(awake=True)
    for name, group in parameter_groups(model).items():
        for parameter in group:
            parameter.requires_grad_(name == "vace_e")
    seen: list[bool] = []
    for block in model.transformer.vace_blocks:
        block.register_forward_hook(lambda _, __, output: seen.append(output[0].requires_grad))
    condition = model.conditioning(inputs.signals, REFERENCE)
    velocity = model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition)
    assert seen == [False, False] and velocity.requires_grad


@pytest.mark.parametrize("offload", [False, True])
def test_checkpointing_and_offload_change_no_gradient(offload: bool, inputs: Inputs) -> None:
    def gradient(model: VaceE) -> Tensor:
        condition = model.conditioning(inputs.signals, REFERENCE)
        model(
            inputs.latents, inputs.timestep, inputs.control, inputs.text, condition
        ).square().mean().backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.transformer.parameters()])

    plain = gradient(make(awake=True))
    other = make(awake=True)
    other.transformer.enable_gradient_checkpointing()
    other.transformer.offload_activations = offload
    torch.testing.assert_close(gradient(other), plain, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("injection", INJECTIONS)
def test_compiled_blocks_and_adapters_give_the_same_gradients(injection: str, inputs: Inputs) -> None:
    def gradient(model: VaceE) -> Tensor:
        model.zero_grad()
        condition = model.conditioning(inputs.signals, REFERENCE)
        velocity = model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition)
        velocity.square().mean().backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.transformer.parameters()])

    model = make(injection, awake=True)
    plain = gradient(model)
    network = model.transformer
    for block in (*network.blocks, *network.vace_blocks, *network.fusion.layers.values()):
        block.compile(backend="aot_eager")
    torch.testing.assert_close(gradient(model), plain, rtol=1e-5, atol=1e-6)
    network.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(model), plain, rtol=1e-5, atol=1e-6)


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


def test_one_model_overfits_one_sample_through_the_streams_alone(inputs: Inputs) -> None:
    model = make().train()
    for name, group in parameter_groups(model).items():
        for parameter in group:
            parameter.requires_grad_(name == "vace_e")
    one = inputs.rows(slice(1, 2))
    noise = torch.randn_like(one.latents)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        condition = model.eval().conditioning(one.signals, REFERENCE)
        velocity = model(one.latents, one.timestep, one.control, one.text, condition)
        loss = flow_loss_per_sample(velocity, one.latents, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_the_order_of_a_motion_alone_can_steer_the_video(inputs: Inputs) -> None:
    """Two clips alike in everything but the direction of time of their motion learn opposite targets."""
    model = make().train()
    for name, group in parameter_groups(model).items():
        for parameter in group:
            parameter.requires_grad_(name == "vace_e")
    one, two = inputs.rows(slice(0, 1)), inputs.rows(slice(0, 1))
    backwards = replace(two.signals, motion=two.signals.motion.flip(1))
    pair = Inputs(*(torch.cat([a, a]) for a in one[:4]), joined(one.signals, backwards))
    swapped = pair._replace(signals=joined(backwards, one.signals))
    pattern = torch.randn(1, 16, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    target = torch.cat([pattern, -pattern]).expand_as(pair.latents)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)

    def loss(batch: Inputs) -> Tensor:
        condition = model.eval().conditioning(batch.signals, REFERENCE)
        velocity = model(batch.latents, batch.timestep, batch.control, batch.text, condition)
        return flow_loss_per_sample(velocity, torch.zeros_like(target), target).mean()

    for _ in range(100):
        optimizer.zero_grad()
        loss(pair).backward()
        optimizer.step()
    assert loss(pair).item() < 0.5 * loss(swapped).item()  # equal if order did not matter


def joined(first: Signals, second: Signals) -> Signals:
    """Both samples as one batch."""
    both = {
        name: torch.cat([value, getattr(second, name)])
        for name, value in vars(first).items()
        if isinstance(value, Tensor)
    }
    return replace(first, **both)


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


CUE_VALUES = {"text": 1.0, "motion": 10.0, "objects": 100.0, "embodiment": 1000.0}


@pytest.mark.parametrize(
    ("scales", "evaluations"),
    [
        (dict.fromkeys(ORDER, 1.0), 1),
        (dict.fromkeys(ORDER, 5.0), 2),
        ({"text": 5.0, "motion": 1.0, "objects": 1.0, "embodiment": 1.0}, 3),
        ({"text": 5.0, "motion": 2.0, "objects": 3.0, "embodiment": 0.0}, 4),
        (dict.fromkeys(ORDER, 0.0), 1),
    ],
)
def test_guidance_weighs_each_cue_with_as_few_evaluations_as_needed(
    scales: dict[str, float], evaluations: int
) -> None:
    asked: list[frozenset[Cue]] = []

    def velocity(cues: frozenset[Cue]) -> Tensor:
        asked.append(cues)
        return torch.tensor(7.0 + sum(CUE_VALUES[cue] for cue in cues))

    found = guided_velocity(velocity, GuidanceScales(**scales))
    expected = 7.0 + sum(scale * CUE_VALUES[cue] for cue, scale in scales.items())
    assert found.item() == pytest.approx(expected)
    assert len(asked) == len(set(asked)) == evaluations


def test_one_scale_for_all_is_plain_classifier_free_guidance(inputs: Inputs) -> None:
    model = make(awake=True)

    def velocity(cues: frozenset[Cue]) -> Tensor:
        absent = [stream for stream in STREAMS if stream not in cues]
        text = inputs.text if "text" in cues else torch.zeros_like(inputs.text)
        kept = inputs._replace(text=text, signals=inputs.signals.without(absent))
        return run(model, kept)

    found = guided_velocity(velocity, GuidanceScales(text=3, motion=3, objects=3, embodiment=3))
    nothing, everything = velocity(frozenset()), velocity(frozenset(ORDER))
    torch.testing.assert_close(found, nothing + 3 * (everything - nothing), rtol=1e-4, atol=1e-5)
