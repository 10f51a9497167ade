"""What trains gets its gradient, whatever saves memory; and the streams alone can steer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tiny_vace_e import INJECTIONS, REFERENCE, Inputs, drawn_inputs, make

from tacit_learning.losses.flow import flow_loss_per_sample
from tacit_learning.vace_e.model.balance import Balance
from tacit_learning.vace_e.model.signals import Signals
from tacit_learning.vace_e.model.vace_e import VaceE, parameter_groups


@pytest.fixture
def inputs() -> Inputs:
    return drawn_inputs()


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
    first = next(iter(network.fusion.layers.values()))
    for block in (network.blocks[0], network.vace_blocks[0], first):  # the others are of the same kinds
        block.compile(backend="aot_eager")
    torch.testing.assert_close(gradient(model), plain, rtol=1e-5, atol=1e-6)
    network.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(model), plain, rtol=1e-5, atol=1e-6)


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


def test_features_pull_at_most_as_hard_as_told_beside_the_flow() -> None:
    weight = torch.ones(4, requires_grad=True)

    def pull(balance: Balance, flow: float, features: float) -> float:
        balance.settle()
        tokens = 1.0 * weight
        loss = flow * balance.flow(tokens).sum() + features * balance.features(tokens).sum()
        return float(torch.autograd.grad(loss, weight)[0].mean())

    strong, weak, asleep = Balance(), Balance(), Balance()
    for each in (strong, weak, asleep):
        each.share = 0.5
    assert pull(strong, 2.0, 300.0) == 2.0  # nothing is known yet
    assert pull(strong, 2.0, 300.0) == pytest.approx(2.0 + 0.5 * 2.0)
    pull(weak, 2.0, 0.25)
    assert pull(weak, 2.0, 0.25) == pytest.approx(2.25)  # never blown up
    pull(asleep, 0.0, 300.0)  # a fusion that starts at zero sends nothing back
    assert pull(asleep, 0.0, 300.0) == 0
    assert Balance().features(weight) is weight
