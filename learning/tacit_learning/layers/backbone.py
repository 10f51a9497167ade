"""Vision backbones: images in 0..1 to a grid of features, by one `backbone:` option.

`conv` is a small net trained from scratch; a folder or hub id goes through transformers'
AutoModel; `random:<name>` builds a network without weights, and nothing else ever does.
Legend: B images, C channels, H W pixels, h w cells.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tacit.config import Config
from tacit.errors import ConfigError, did_you_mean

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RANDOM_CONFIGS: dict[str, dict[str, Any]] = {
    "resnet18": {
        "model_type": "resnet",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    },
    "vit_tiny": {
        "model_type": "vit",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "patch_size": 16,
        "image_size": 64,
    },
}


class ConvSpec(Config):
    """Sizes of the `conv` backbone; the first kernel is 5x5, the others 3x3."""

    channels: tuple[int, ...] = (16, 32, 64, 64)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    norm: Literal["group", "batch"] = "batch"


class BackboneIdentity(Config):
    """What a checkpoint must know to rebuild its backbone without files or network."""

    name: str
    pretrained: bool = False
    sha256: str | None = None
    config: dict[str, Any] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Backbone(nn.Module):
    """Normalise images with the backbone's own mean and deviation and compute features."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, channels: int, identity: BackboneIdentity) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.identity = identity
        self.register_buffer("mean", torch.tensor(identity.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(identity.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB images (B, 3, H, W) in 0..1 to features (B, C, h, w)."""
        return self.body((images - self.mean) / self.std)

    @torch.no_grad()
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (h, w) for images of that size."""
        was_training = self.training
        features = self.eval()(torch.zeros(1, 3, height, width))
        self.train(was_training)
        return features.shape[2], features.shape[3]


class HubBody(nn.Module):
    """A transformers vision model as a feature grid: patch tokens without class tokens."""

    def __init__(self, model: nn.Module, patch: int | None) -> None:
        super().__init__()
        self.model = model
        self.patch = patch

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, C, h, w)."""
        if self.patch is None:
            return self.model(images).last_hidden_state
        tokens = self.model(images, interpolate_pos_encoding=True).last_hidden_state
        h, w = images.shape[2] // self.patch, images.shape[3] // self.patch
        return tokens[:, tokens.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))


def build_backbone(
    name: str, conv: ConvSpec, freeze_norm: bool = True, identity: BackboneIdentity | None = None
) -> Backbone:
    """Build the backbone that `name` asks for.

    Args:
        name: `conv`, a folder with a transformers model, a hub id, or `random:<name>`.
        conv: Sizes for `conv`.
        freeze_norm: Turn BatchNorm of a hub model into constants (statistics and affine).
        identity: From a checkpoint: build the same structure without reading weights.

    Raises:
        ConfigError: No such folder, cached model or download; unknown `random:` name.
    """
    if name == "conv":
        return Backbone(conv_body(conv), conv.channels[-1], identity or BackboneIdentity(name=name))
    if identity is None:
        model, identity = _from_random(name) if name.startswith("random:") else _from_weights(name)
    else:
        model = _from_config(identity.config or {})
    if freeze_norm:
        freeze_batch_norm(model)
    config = model.config
    patch = getattr(config, "patch_size", None)
    channels = config.hidden_size if patch else config.hidden_sizes[-1]
    return Backbone(HubBody(model, patch), channels, identity)


def conv_body(spec: ConvSpec) -> nn.Sequential:
    """Build convolution, norm, ReLU for each entry of `spec`."""
    layers: list[nn.Module] = []
    last = 3
    for index, (channels, stride) in enumerate(zip(spec.channels, spec.strides, strict=True)):
        kernel = 5 if index == 0 else 3
        layers.append(nn.Conv2d(last, channels, kernel, stride, kernel // 2, bias=False))
        layers.append(nn.BatchNorm2d(channels) if spec.norm == "batch" else nn.GroupNorm(8, channels))
        layers.append(nn.ReLU())
        last = channels
    return nn.Sequential(*layers)


def freeze_batch_norm(module: nn.Module) -> None:
    """Make every BatchNorm of `module` a constant: no gradient, statistics never updated."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
            layer.eval()
            layer.train = lambda mode=True, layer=layer: layer  # type: ignore[method-assign, misc]


def _from_random(name: str) -> tuple[Any, BackboneIdentity]:
    kind = name.removeprefix("random:")
    if kind not in RANDOM_CONFIGS:
        raise ConfigError(f"model.backbone: no {name!r}; {did_you_mean(kind, RANDOM_CONFIGS)}")
    model = _from_config(RANDOM_CONFIGS[kind])
    return model, BackboneIdentity(name=name, config=RANDOM_CONFIGS[kind])


def _from_config(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModel

    values = {key: value for key, value in config.items() if key != "model_type"}
    return AutoModel.from_config(AutoConfig.for_model(config["model_type"], **values))


def _from_weights(name: str) -> tuple[Any, BackboneIdentity]:
    """Load a folder, else the local cache, else the hub; never random weights."""
    model = _load_hub(name, local_only=True) or _load_hub(name, local_only=False)
    if model is None:
        raise ConfigError(
            f"model.backbone: {name!r} is neither 'conv', a folder with a transformers model, a cached "
            "model nor one that could be downloaded; give a folder, or 'random:resnet18' to start "
            "without weights on purpose"
        )
    mean, std = _preprocessing(name)
    identity = BackboneIdentity(
        name=name,
        pretrained=True,
        sha256=weights_sha256(model),
        config=json.loads(model.config.to_json_string(use_diff=False)),
        mean=mean,
        std=std,
    )
    return model, identity


def _load_hub(name: str, local_only: bool) -> Any:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(name, local_files_only=local_only)
    except (OSError, ValueError):
        return None
    return getattr(model, "vision_model", model)


def _preprocessing(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Read the model's own mean and deviation; ImageNet's where it states none."""
    from transformers.utils import cached_file

    found = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if found is None:
        return IMAGENET_MEAN, IMAGENET_STD
    values = json.loads(Path(found).read_text(encoding="utf-8"))
    return tuple(values.get("image_mean", IMAGENET_MEAN)), tuple(values.get("image_std", IMAGENET_STD))


def weights_sha256(model: nn.Module) -> str:
    """Return sha256 (hex) over names and bytes of all weights and buffers, of any number type."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
