"""Sizes of VACE-E: the Wan backbone, the encoders of its streams, the layers they enter; and presets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tacit.config import Config
from tacit.errors import ConfigError, did_you_mean
from tacit_learning.engine.stages import SPLIT

MOTION_WIDTH = 20
"""Left position 3, left rotation 6, right position 3, right rotation 6, left gripper, right gripper."""
OBJECT_WIDTH = 9  # position 3, rotation 6
Stream = Literal["text", "motion", "objects", "embodiment"]
TASK_STREAMS: tuple[Stream, ...] = ("text", "motion", "objects")
STREAMS: tuple[Stream, ...] = (*TASK_STREAMS, "embodiment")
LATENT_CHANNELS = 16
SPATIAL, TEMPORAL, PATCH = 8, 4, 2  # of the Wan 2.1 VAE, and of the patch embedding


def _check_layers(name: str, layers: tuple[int, ...], count: int) -> None:
    """Demand a sorted, unique, non-empty choice of 0..count-1."""
    if not layers or list(layers) != sorted(set(layers)):
        raise ValueError(f"{name} {list(layers)}: expected sorted block numbers, each once, at least one")
    if layers[0] < 0 or layers[-1] >= count:
        raise ValueError(f"{name} {list(layers)}: the transformer has blocks 0..{count - 1}")


class BackboneConfig(Config):
    """The transformer, in the words of `WanVACETransformer3DModel`. Width = heads x head_dim."""

    heads: int = 12
    head_dim: int = 128
    ffn_dim: int = 8960
    layers: int = 30
    vace_layers: tuple[int, ...] = tuple(range(0, 30, 2))
    text_dim: int = 4096
    text_length: int = 512
    freq_dim: int = 256

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.heads * self.head_dim

    @model_validator(mode="after")
    def _layers_exist(self) -> BackboneConfig:
        _check_layers("vace_layers", self.vace_layers, self.layers)
        if 0 not in self.vace_layers:
            raise ValueError(f"vace_layers {list(self.vace_layers)}: block 0 must be among them")
        return self

    def arguments(self) -> dict[str, object]:
        """Return the arguments of `WanVACETransformer3DModel`."""
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_dim,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "text_dim": self.text_dim,
            "freq_dim": self.freq_dim,
            "ffn_dim": self.ffn_dim,
            "num_layers": self.layers,
            "vace_layers": list(self.vace_layers),
            "vace_in_channels": 2 * LATENT_CHANNELS + SPATIAL**2,
        }


class EncoderConfig(Config):
    """Encoders of text, motion, objects and embodiment; all share the width `dim`.

    `latents`: tokens that a Perceiver keeps of text and of the image. `feature_dim`: of z_task and
    z_emb. `image_dim`: of the CLIP tokens.
    """

    dim: int = 256
    heads: int = 4
    feedforward: int = 1024
    motion_layers: int = Field(default=3, ge=1)
    object_layers: int = Field(default=2, ge=1)
    perceiver_layers: int = Field(default=2, ge=1)
    latents: int = Field(default=8, ge=1)
    feature_dim: int = 256
    projection_dim: int = 128
    image_dim: int = 1280
    motion_width: int = MOTION_WIDTH
    object_width: int = OBJECT_WIDTH

    @model_validator(mode="after")
    def _heads_fit(self) -> EncoderConfig:
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(f"dim {self.dim}: expected an even multiple of {self.heads} heads")
        return self


class ModelConfig(Config):
    """Everything that defines the network; it travels with every checkpoint.

    `layers`: blocks after which the streams enter ("0,5,10" or a list). `injection`: `adapter`, two
    decoupled cross-attentions, or `context`, copies of the DiT blocks. `task_processing` false leaves
    the embodiment tokens alone.
    """

    backbone: BackboneConfig = BackboneConfig()
    encoders: EncoderConfig = EncoderConfig()
    layers: Annotated[tuple[int, ...], SPLIT] = (0, 5, 10, 15, 20, 25)
    injection: Literal["adapter", "context"] = "adapter"
    task_processing: bool = True

    @model_validator(mode="after")
    def _layers_exist(self) -> ModelConfig:
        _check_layers("layers", self.layers, self.backbone.layers)
        return self

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Streams that have an encoder."""
        return STREAMS if self.task_processing else ("embodiment",)


_TINY = BackboneConfig(
    heads=2, head_dim=12, ffn_dim=32, layers=3, vace_layers=(0, 2), text_dim=32, text_length=16, freq_dim=32
)
_SMALL = BackboneConfig(
    heads=4, head_dim=48, ffn_dim=768, layers=6, vace_layers=(0, 2, 4), text_dim=64, text_length=64
)
_TINY_ENCODERS = EncoderConfig(
    dim=32,
    heads=2,
    feedforward=64,
    motion_layers=2,
    object_layers=1,
    perceiver_layers=1,
    latents=4,
    feature_dim=32,
    projection_dim=16,
    image_dim=32,
)
_STUDY = BackboneConfig(
    heads=4, head_dim=24, ffn_dim=256, layers=4, vace_layers=(0, 2), text_dim=32, text_length=8, freq_dim=64
)
PRESETS: dict[str, ModelConfig] = {
    "study": ModelConfig(
        backbone=_STUDY,
        encoders=_TINY_ENCODERS.model_copy(update={"dim": 64, "heads": 4, "feedforward": 128}),
        layers=(0, 1, 2, 3),
    ),
    "tiny": ModelConfig(backbone=_TINY, encoders=_TINY_ENCODERS, layers=(0, 2)),
    "small": ModelConfig(backbone=_SMALL, encoders=_TINY_ENCODERS, layers=(0, 2, 4)),
    "wan_1_3b": ModelConfig(),
    "wan_14b": ModelConfig(
        backbone=BackboneConfig(heads=40, ffn_dim=13824, layers=40, vace_layers=tuple(range(0, 40, 5))),
        layers=(0, 5, 10, 15, 20, 25, 30, 35),
    ),
}
"""`study` is the size of `tacit study control`, `small` of the speed measurement; `wan_1_3b` and `wan_14b`
are Wan2.1-VACE."""


def preset(name: str) -> ModelConfig:
    """Return the sizes called `name`.

    Raises:
        ConfigError: There is no such preset; the message names close ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"model preset {name!r}: {did_you_mean(name, PRESETS)}")
    return PRESETS[name]
