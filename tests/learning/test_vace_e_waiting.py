"""Frozen blocks that wait on the CPU or in 8 bits: the same numbers, or nearly, in less memory."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tiny_vace_e import REFERENCE, drawn_inputs, make, run

from tacit.config import parse
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.model.lora import apply_lora
from tacit_learning.vace_e.model.vace_e import VaceE, parameter_groups
from tacit_learning.vace_e.model.waiting import Bits, let_wait
from tacit_learning.vace_e.plan import count_parameters, meta_model, plan_stage
from tacit_learning.vace_e.plan_table import run_of, sizes_of


def waiting(bits: Bits, on_cpu: bool, checkpointed: bool = False, lora: bool = False) -> VaceE:
    model = make(awake=True)
    if lora:
        apply_lora(model.transformer, "dit", 2)
        for parameter in parameter_groups(model)["lora:dit"]:
            torch.nn.init.normal_(parameter, std=0.1)
    for block in (
        (*model.transformer.blocks, *model.transformer.vace_blocks) if bits != "as_is" or on_cpu else ()
    ):
        let_wait(block, bits, on_cpu)
    if checkpointed:
        model.transformer.enable_gradient_checkpointing()
    return model


def gradients(model: VaceE) -> dict[str, torch.Tensor]:
    inputs = drawn_inputs()
    condition = model.conditioning(inputs.signals, REFERENCE)
    model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition).square().mean().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and "blocks." not in n[:25]}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_blocks_that_wait_on_the_cpu_give_the_same_bits(checkpointed: bool) -> None:
    found, expected = gradients(waiting("as_is", True, checkpointed)), gradients(waiting("as_is", False))
    streams = [name for name in expected if "fusion" in name or name.startswith("encoders")]
    assert len(streams) > 20 and set(streams) <= set(found)
    for name in streams:
        assert torch.equal(found[name], expected[name]), name


def test_what_waits_stays_on_the_cpu_and_the_rest_moves() -> None:
    """The meta device stands for a card: nothing comes back from it."""
    model = waiting("as_is", True, lora=True).to("meta")
    where = {name: parameter.device.type for name, parameter in model.named_parameters()}
    stay = {name for name, device in where.items() if device == "cpu"}
    blocks = {n for n in where if ".blocks." in n or ".vace_blocks." in n}
    assert stay == {name for name in blocks if "lora_" not in name} and len(where) > len(stay) > 50


@pytest.mark.parametrize(("bits", "near"), [("int8", 0.01), ("fp8", 0.05)])
def test_matrices_in_eight_bits_stay_near_and_take_a_quarter(bits: Bits, near: float) -> None:
    inputs = drawn_inputs()
    expected = run(waiting("as_is", False, lora=True), inputs)
    model = waiting(bits, False, lora=True)
    error = (run(model, inputs) - expected).norm() / expected.norm()
    assert 0 < error < near
    block = model.transformer.blocks[0]
    matrices = [
        p for n, p in block.named_parameters() if p.ndim > 1 and "lora_" not in n and min(p.shape) > 1
    ]
    assert matrices and {matrix.element_size() for matrix in matrices} == {1}
    gradients(model)
    assert all(parameter.grad is not None for parameter in parameter_groups(model)["lora:dit"])


def test_the_doctor_counts_what_waits() -> None:
    """Of 2.13 B frozen weights of the base in bf16: 4.25 GB."""
    told = {"dataset_base_path": "d", "output_path": "o", "model_size": "wan_1_3b"}
    counts = None

    def weights(**options: object) -> float:
        nonlocal counts
        config = parse(VaceEConfig, told | options, "test")
        sizes, run = sizes_of(config), run_of(config)
        counts = counts or count_parameters(meta_model(sizes, run))
        return plan_stage("a", ("vace_e",), sizes, run, counts).weights_gb

    assert weights() == pytest.approx(4.3, abs=0.1)
    assert weights(vram_optimization={"frozen_weights": "fp8"}) == pytest.approx(2.3, abs=0.1)
    assert weights(cpu_offload=True) < 0.3
    both = {"a": {"trainable_models": "dit,vace"}}
    assert weights(cpu_offload=True, training_stages=both) == weights(), "what trains does not wait"
