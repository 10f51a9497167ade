"""Wan2.1-VACE for training: diffusers' model with per-sample conditions and streams between blocks.

The weights and numbers of the base are diffusers' own; only the order of work differs. A hint depends
on the control latents alone, so each VACE block runs where its hint is needed and no list of hints is
kept. Legend: B batch, C channels, T latent frames, N tokens, D width.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from torch import Tensor, nn

from tacit_learning.vace_e.model.fusion import Condition, Fusion, Scene
from tacit_learning.vace_e.model.pointing import Places
from tacit_learning.vace_e.model.waiting import run_whole


class VaceETransformer(WanVACETransformer3DModel):
    """`WanVACETransformer3DModel` with an optional `fusion` of stream tokens.

    Without a fusion or without a condition it is the base model. `offload_activations` keeps what
    the backward pass needs in main memory.
    """

    _no_split_modules = ["WanTransformerBlock", "WanVACETransformerBlock", "Adapter", "ContextBlock"]

    fusion: Fusion
    """Set from outside; a class attribute would hide the submodule, an __init__ would hide the config."""
    offload_activations: bool = False

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        control_hidden_states: Tensor | None = None,
        control_hidden_states_scale: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity; names and order of the arguments are diffusers'.

        Args:
            hidden_states: Noisy latents (B, C, T, H, W), reference slots included.
            timestep: 1000 sigma, one per sample (B,).
            encoder_hidden_states: Text tokens, zero-padded (B, 512, text_dim).
            encoder_hidden_states_image: Must be None: VACE reads no CLIP tokens.
            control_hidden_states: Control latents (B, 96, T, H, W).
            control_hidden_states_scale: One factor per VACE layer; None = 1.
            return_dict: As in diffusers.
            attention_kwargs: Must be None or empty.
            condition: Tokens of the streams; None: base VACE.
        """
        if encoder_hidden_states_image is not None or attention_kwargs:
            raise ValueError("VaceETransformer: image tokens and attention_kwargs are not supported")
        if control_hidden_states is None:
            raise ValueError("VaceETransformer: control_hidden_states are required")
        with self._saving():
            velocity = self._velocity(
                hidden_states,
                timestep,
                encoder_hidden_states,
                control_hidden_states,
                self._scales(control_hidden_states, control_hidden_states_scale),
                condition,
            )
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def _velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        control: Tensor,
        scales: tuple[Tensor, ...],
        condition: Condition | None,
    ) -> Tensor:
        patch = self.config["patch_size"]
        grid = tuple(size // step for size, step in zip(latents.shape[2:], patch, strict=True))
        rotary = self.rope(latents)
        x = self.patch_embedding(latents).flatten(2).transpose(1, 2)
        control = self.vace_patch_embedding(control).flatten(2).transpose(1, 2)
        control = nn.functional.pad(control, (0, 0, 0, x.shape[1] - control.shape[1]))
        time, modulation, text, _ = self.condition_embedder(timestep, text, None)
        scene = Scene(grid, time, modulation.unflatten(1, (6, -1)), rotary)
        x = self._blocks(x, text, control, scales, scene, condition)
        return self._unpatch(x, time, grid)

    def _blocks(
        self,
        x: Tensor,
        text: Tensor,
        control: Tensor,
        scales: tuple[Tensor, ...],
        scene: Scene,
        condition: Condition | None,
    ) -> Tensor:
        embedded, hints = x, dict(zip(self.config["vace_layers"], self.vace_blocks, strict=True))
        fusion = self.fusion if condition is not None and "fusion" in self._modules else None
        if fusion is not None and fusion.pointer is not None and condition is not None:
            pointed = self._run(fusion.pointer, condition.places, scene.grid)
            scene = replace(scene, pointed=pointed)
        scale_of = dict(zip(self.config["vace_layers"], scales, strict=True))
        for layer, block in enumerate(self.blocks):
            x = self._run(block, x, text, scene.modulation, scene.rotary)
            if layer in hints:
                hint, control = self._run(
                    hints[layer], embedded, text, control, scene.modulation, scene.rotary
                )
                x = x + hint * scale_of[layer]
            adapter = None if fusion is None else fusion.at(layer)
            if adapter is not None and condition is not None:
                x = x + condition.scale * self._run(adapter, x, condition, scene)
        return x

    def _run(self, block: nn.Module, *inputs: Any) -> Any:
        """Call a block; forget its activations when checkpointing, unless nothing needs a gradient."""
        if not (self.gradient_checkpointing and torch.is_grad_enabled() and _needs_gradient(block, inputs)):
            return run_whole(block, *inputs)
        return self._gradient_checkpointing_func(run_whole, block, *inputs)  # type: ignore[misc]

    def _scales(self, control: Tensor, scale: Tensor | None) -> tuple[Tensor, ...]:
        count = len(self.config["vace_layers"])
        scale = control.new_ones(count) if scale is None else scale
        if len(scale) != count:
            raise ValueError(f"control_hidden_states_scale: {len(scale)} values for {count} VACE layers")
        return scale.unbind()

    def _unpatch(self, x: Tensor, time: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Norm, modulate and project tokens (B, N, D) to (B, C, T, H, W)."""
        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        x = self.proj_out((self.norm_out(x.float()) * (1 + scale) + shift).type_as(x))
        x = x.reshape(len(x), *grid, *self.config["patch_size"], -1)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _saving(self) -> contextlib.AbstractContextManager[object]:
        if not (self.offload_activations and torch.is_grad_enabled()):
            return contextlib.nullcontext()
        return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())


def _needs_gradient(block: nn.Module, inputs: tuple[Any, ...]) -> bool:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if any(isinstance(value, Condition | Places) for value in inputs):
        return True
    return any(t.requires_grad for t in [*tensors, *block.parameters()])
