"""Low-rank adapters of the base by peft, under the names that Wan users know.

Hu et al. 2021, arXiv:2106.09685. The base has two parts that take adapters of their own: `dit`, the
blocks that generate, and `vace`, those that read the control video.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from tacit.errors import ConfigError, did_you_mean
from tacit_learning.vace_e.model.transformer import VaceETransformer

LoraBase = Literal["dit", "vace"]
BLOCKS: dict[LoraBase, str] = {"dit": "blocks", "vace": "vace_blocks"}
ALIASES: dict[str, tuple[str, ...]] = {
    "q": ("to_q",),
    "k": ("to_k",),
    "v": ("to_v",),
    "o": ("to_out.0",),
    "ffn.0": ("ffn.net.0.proj",),
    "ffn.2": ("ffn.net.2",),
}
"""Names of Wan and DiffSynth -> of diffusers."""
DEFAULT_TARGETS = tuple(ALIASES)


def apply_lora(
    transformer: VaceETransformer, base: LoraBase, rank: int = 32, targets: Sequence[str] = DEFAULT_TARGETS
) -> list[str]:
    """Add adapters called `base` to the blocks of one part; what else trains does not change.

    The second matrix starts at zero, so the output does not change either.

    Args:
        transformer: Changed in place.
        base: The part.
        rank: Rank of each adapter; the scale alpha / rank is 1.
        targets: Names of Wan (q, k, v, o, ffn.0, ffn.2) or of diffusers (to_q, ...).

    Returns:
        The layers that got an adapter.

    Raises:
        ConfigError: A target matches no layer, or the part has its adapters already.
    """
    if base not in BLOCKS:
        raise ConfigError(f"lora_base_model {base!r}: {did_you_mean(base, BLOCKS)}")
    if base in lora_names(transformer):
        raise ConfigError(f"lora_base_model {base!r}: this part has its adapters already")
    layers = [layer for target in targets for layer in _layers_of(transformer, base, target)]
    trained = {id(parameter): parameter.requires_grad for parameter in transformer.parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are meant
        inject_adapter_in_model(config, transformer, adapter_name=base)
    for module in _tuned(transformer):  # peft leaves only the newest active
        module.set_adapter(list(module.lora_A))
    for parameter in transformer.parameters():  # and freezes the rest; here the stages decide
        parameter.requires_grad_(trained.get(id(parameter), True))
    return layers


def lora_names(transformer: nn.Module) -> list[str]:
    """Return the names of the adapters that the model has."""
    return sorted({name for module in _tuned(transformer) for name in module.lora_A})


def lora_rank_and_targets(transformer: nn.Module, name: str) -> tuple[int, list[str]]:
    """Return the rank of the adapters called `name`, and the full names of their layers."""
    tuned = {
        layer: module.r[name]
        for layer, module in transformer.named_modules()
        if isinstance(module, LoraLayer) and name in module.lora_A
    }
    return next(iter(tuned.values())), list(tuned)


def _tuned(transformer: nn.Module) -> list[LoraLayer]:
    return [module for module in transformer.modules() if isinstance(module, LoraLayer)]


def _layers_of(transformer: nn.Module, base: LoraBase, target: str) -> list[str]:
    """Return the full names of the linear layers of a part that `target` means."""
    suffixes = ALIASES.get(target, (target,))
    layers = [
        name
        for name, module in transformer.named_modules()
        if name.startswith(f"{BLOCKS[base]}.")
        and isinstance(module, nn.Linear)
        and any(f".{name}".endswith(f".{suffix}") for suffix in suffixes)
    ]
    if not layers:
        raise ConfigError(
            f"lora_target_modules: {target!r} is no linear layer of {BLOCKS[base]}; "
            f"{did_you_mean(target, [*ALIASES, *(s for names in ALIASES.values() for s in names)])}"
        )
    return layers
