"""Frozen weights that wait on the CPU, or in 8 bits, and are whole on the device while their block runs.

A block runs with copies of its weights (`torch.func.functional_call`). Where it is checkpointed the copies
are made again for its backward pass, so one block at a time is whole; else the graph keeps every copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Bits = Literal["as_is", "fp8", "int8"]
LARGEST: dict[Bits, float] = {"fp8": 448.0, "int8": 127.0}
NARROW: dict[Bits, torch.dtype] = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}


class Waiting:
    """The weights of one block, by their names in it.

    Args:
        block: Its parameters are changed in place; low-rank adapters stay as they are.
        bits: Matrices in 8 bits with a scale for each row; what has one axis stays as it is.
        on_cpu: They stay there whatever moves the block.
    """

    def __init__(self, block: nn.Module, bits: Bits, on_cpu: bool) -> None:
        self.dtypes: dict[str, torch.dtype] = {}
        self.scales: dict[str, Tensor] = {}
        self.on_cpu = on_cpu
        for name, parameter in block.named_parameters():
            if "lora_" in name:
                continue
            self.dtypes[name] = parameter.dtype
            parameter.requires_grad_(False)
            if bits != "as_is" and parameter.ndim > 1 and min(parameter.shape) > 1:
                self._narrow(name, parameter, bits)

    def whole(self, block: nn.Module, device: torch.device) -> dict[str, Tensor]:
        """Return the weights on a device, in the number type in which they were loaded."""
        own = dict(block.named_parameters())
        return {name: self._of(name, own[name].to(device, non_blocking=True)) for name in self.dtypes}

    def _narrow(self, name: str, parameter: nn.Parameter, bits: Bits) -> None:
        matrix = parameter.detach().float()
        scale = matrix.flatten(1).abs().amax(1).clamp(min=1e-12) / LARGEST[bits]
        self.scales[name] = scale.view(-1, *[1] * (matrix.ndim - 1))
        scaled = matrix / self.scales[name]
        parameter.data = (scaled.round() if bits == "int8" else scaled).to(NARROW[bits])

    def _of(self, name: str, value: Tensor) -> Tensor:
        if name in self.scales:
            value = value.float() * self.scales[name].to(value.device)
        return value.to(self.dtypes[name])


def let_wait(block: nn.Module, bits: Bits, on_cpu: bool) -> None:
    """Let the frozen weights of a block wait until it runs; `run_whole` runs it."""
    waiting = Waiting(block, bits, on_cpu)
    block.waiting = waiting  # type: ignore[assignment]
    if on_cpu:
        move = block._apply

        def stay(function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
            kept = {n: (p, p.data) for n, p in block.named_parameters() if n in waiting.dtypes}
            move(function, recurse)
            for name, (parameter, value) in kept.items():
                owner, _, leaf = name.rpartition(".")
                parameter.data = value
                block.get_submodule(owner).register_parameter(leaf, parameter)
            return block

        block._apply = stay  # type: ignore[method-assign]


def run_whole(block: nn.Module, *inputs: Any) -> Any:
    """Call a block, with its weights fetched first where they wait."""
    waiting = getattr(block, "waiting", None)
    if waiting is None:
        return block(*inputs)
    return torch.func.functional_call(block, waiting.whole(block, inputs[0].device), inputs)
