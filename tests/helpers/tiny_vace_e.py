"""A tiny VACE-E, three clips for it, and what it says of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import ModelConfig, preset
from tacit_learning.vace_e.model.fusion import Condition
from tacit_learning.vace_e.model.signals import Signals, random_signals
from tacit_learning.vace_e.model.vace_e import VaceE, build_model

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


def drawn_inputs() -> Inputs:
    """Three clips with streams, always the same."""
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


def run(model: VaceE, inputs: Inputs, condition: Condition | None = None, base: bool = False) -> Tensor:
    with torch.no_grad():
        if not base and condition is None:
            condition = model.conditioning(inputs.signals, REFERENCE)
        return model(inputs.latents, inputs.timestep, inputs.control, inputs.text, condition)
