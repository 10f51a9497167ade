"""Vision backbones: images in 0..1 to a grid of features, by one `backbone:` option.

`conv` is a small net trained from scratch; a file, folder or hub id becomes a model of transformers (CLIP,
SigLIP and SigLIP 2, DINO to DINOv3, ViT, ResNet); `random:<name>` builds a network without weights, and
nothing else ever does.
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
from tacit_learning.layers.backbone_files import IMAGENET, VisionModel, from_config, read_file, read_folder
from tacit_learning.layers.tuning import tune

IMAGENET_MEAN, IMAGENET_STD = IMAGENET
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
    """What a checkpoint must know to rebuild its backbone without files or network; `train`: see `tune`."""

    name: str
    pretrained: bool = False
    sha256: str | None = None
    config: dict[str, Any] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    train: str = "full"


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

    def __init__(self, model: nn.Module, patch: int | None, takes_patches: bool = False) -> None:
        super().__init__()
        self.model = model
        self.patch = patch
        self.takes_patches = takes_patches

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, C, h, w)."""
        if self.patch is None:
            return self.model(images).last_hidden_state
        h, w = images.shape[2] // self.patch, images.shape[3] // self.patch
        if self.takes_patches:
            tokens = self._of_patches(images, h, w)
        else:
            tokens = self.model(images, interpolate_pos_encoding=True).last_hidden_state
        return tokens[:, tokens.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))

    def _of_patches(self, images: Tensor, h: int, w: int) -> Tensor:
        """Feed a model of any resolution (SigLIP 2), which takes patches cut apart, colours last."""
        p = self.patch
        assert p is not None
        cut = images[:, :, : h * p, : w * p].unflatten(2, (h, p)).unflatten(4, (w, p))
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), h * w, p * p * 3)
        mask = torch.ones(patches.shape[:2], dtype=torch.long, device=images.device)
        shapes = torch.tensor([[h, w]], device=images.device).expand(len(images), 2)
        return self.model(patches, pixel_attention_mask=mask, spatial_shapes=shapes).last_hidden_state


def build_backbone(
    name: str,
    conv: ConvSpec,
    freeze_norm: bool = True,
    identity: BackboneIdentity | None = None,
    train: str = "full",
) -> Backbone:
    """Build the backbone that `name` asks for.

    Args:
        name: `conv`, a file of weights, a folder with a transformers model, a hub id, or `random:<name>`.
        conv: Sizes for `conv`.
        freeze_norm: Turn BatchNorm of a hub model into constants (statistics and affine).
        identity: From a checkpoint: build the same structure without reading weights.
        train: Which weights train: `full`, `frozen`, `last:<n>` blocks, or `lora`.

    Raises:
        ConfigError: No such file, folder, cached model or download; a part of the weights is missing; unknown
            `random:` name; `train` asks for what the network does not have.
    """
    train = train if identity is None else identity.train
    if name == "conv":
        body = tune(conv_body(conv), train)
        own = identity or BackboneIdentity(name=name, train=train)
        return Backbone(body, conv.channels[-1], own)
    if identity is None:
        model, identity = _from_random(name) if name.startswith("random:") else _from_weights(name)
    else:
        model = from_config(identity.config or {})
    if freeze_norm:
        freeze_batch_norm(model)
    tune(model, train)
    config = model.config
    patch = getattr(config, "patch_size", None)
    channels = config.hidden_size if patch else config.hidden_sizes[-1]
    body = HubBody(model, patch, config.model_type.startswith("siglip2"))
    return Backbone(body, channels, identity.model_copy(update={"train": train}))


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
    model = from_config(RANDOM_CONFIGS[kind])
    return model, BackboneIdentity(name=name, config=RANDOM_CONFIGS[kind])


def _from_weights(name: str) -> tuple[Any, BackboneIdentity]:
    """Load a file or a folder, else the local cache, else the hub; never random weights."""
    path = Path(name)
    if path.is_file():
        found: VisionModel | None = read_file(path)
    else:
        found = read_folder(name, local_only=True)
        if found is None and not path.exists():
            found = read_folder(name, local_only=False)
    if found is None:
        raise ConfigError(
            f"model.backbone: {name!r} is neither 'conv', a file of weights, a folder with a transformers "
            "model, a cached model nor one that could be downloaded; give a folder, or 'random:resnet18' to "
            "start without weights on purpose"
        )
    model, mean, std = found
    identity = BackboneIdentity(
        name=name,
        pretrained=True,
        sha256=weights_sha256(model),
        config=json.loads(model.config.to_json_string(use_diff=False)),
        mean=mean,
        std=std,
    )
    return model, identity


def weights_sha256(model: nn.Module) -> str:
    """Return sha256 (hex) over names and bytes of all weights and buffers, of any number type."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
