"""Which weights of a backbone train: all, none, its last blocks, or small adapters beside them (LoRA).

Source of LoRA: Hu et al. 2021, arXiv:2106.09685, by the `peft` library.
"""

from __future__ import annotations

import re

from torch import nn

from tacit.errors import ConfigError, MissingDependencyError

PATTERN = r"full|frozen|lora|last:[1-9]\d*"
LORA_RANK = 8
ATTENDING = re.compile(r"(^|\.)(q_proj|v_proj|query|value|qkv)$")
"""The layers that LoRA was proposed for: queries and values."""


def tune(model: nn.Module, how: str) -> nn.Module:
    """Prepare a network for training as `how` says.

    Args:
        model: All its weights train.
        how: `full`, `frozen`, `last:<number of blocks>` with whatever follows them, or `lora`.

    Returns:
        The same network; with `lora` its attention has adapters, which change nothing until they are trained.

    Raises:
        ConfigError: The network has no blocks, or fewer, or no attention.
    """
    if how == "full":
        return model
    model.requires_grad_(False)
    if how.startswith("last:"):
        _thaw_last(model, int(how.removeprefix("last:")))
    if how == "lora":
        _add_adapters(model)
    return model


def _thaw_last(model: nn.Module, count: int) -> None:
    """Let the last blocks train, and what stands behind them: norms of the output."""
    stacks = {name: stack for name, stack in model.named_modules() if isinstance(stack, nn.ModuleList)}
    name = max(stacks, key=lambda name: (len(stacks[name]), -name.count(".")), default=None)
    if name is None or count > len(stacks[name]):
        have = 0 if name is None else len(stacks[name])
        raise ConfigError(f"model.train_backbone: last:{count}: the backbone has {have} blocks")
    stacks[name][-count:].requires_grad_(True)
    # Only what is registered later runs later; the embeddings before the blocks stay as they are.
    is_after = False
    for child, parameter in model.named_parameters():
        inside = child.startswith(f"{name}.")
        is_after = is_after or inside
        if is_after and not inside:
            parameter.requires_grad_(True)


def _add_adapters(model: nn.Module) -> None:
    targets = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and ATTENDING.search(n)]
    if not targets:
        raise ConfigError("model.train_backbone: lora: the backbone has no attention; use last:<n>, or full")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError(
            "model.train_backbone: lora needs the package peft: pip install 'tacit[vace_e]'"
        ) from None
    inject_adapter_in_model(LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=targets), model)
