"""Weights of vision models as they are found: folders of transformers, and single files of others.

A single file tells by its keys whose it is: CLIP by OpenAI and open_clip (`visual.*`, query, key and value
in one matrix), CLIP and SigLIP by transformers (`vision_model.*`, or no prefix), DINO and DINOv2 by their
authors (`blocks.*`), ResNet by torchvision (`layer1.*`). All become the same models of transformers, so one
path runs them. Whatever is missing is an error: a network with a few random layers looks trained and is not.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.config import load_json
from tacit.errors import ConfigError

Tensors = dict[str, Tensor]
Three = tuple[float, float, float]
IMAGENET: tuple[Three, Three] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Three, Three] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIGLIP: tuple[Three, Three] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
HEAD_WIDTHS = {1152: 72, 1280: 80, 1408: 88, 1536: 96, 1664: 104}
"""Of one head, by the width of the network, where it is not `HEAD_WIDTH`: SigLIP So400m, the H of open_clip
and MAE, the g of open_clip, the giant of SigLIP 2, the bigG of open_clip, all with 16 heads. A file does not
say how many it has, and with another number it would load and see nothing of sense."""
HEAD_WIDTH = 64
UNUSED = ("pooler.", "head.", "vision_model.head.")
"""What makes one vector of the features; nobody here asks for it, and DINO has none."""
LOADING: dict[str, bool] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Transformers tells what it did not find or fit, and whoever loads refuses it by name."""
OPENAI_MARK = "input_resolution"
"""Only OpenAI's own files hold it; their CLIP has QuickGELU, that of open_clip has GELU."""

OPENAI_NAMES = (
    (r"class_embedding$", "embeddings.class_embedding"),
    (r"conv1\.weight$", "embeddings.patch_embedding.weight"),
    (r"positional_embedding$", "embeddings.position_embedding.weight"),
    (r"ln_pre\.", "pre_layrnorm."),
    (r"ln_post\.", "post_layernorm."),
    (r"transformer\.resblocks\.(\d+)\.ln_(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"encoder.layers.\1.self_attn.{qkv}_proj."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"encoder.layers.\1.mlp.fc1."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"encoder.layers.\1.mlp.fc2."),
)
DINO_NAMES = (
    (r"cls_token$", "embeddings.cls_token"),
    (r"mask_token$", "embeddings.mask_token"),
    (r"register_tokens$", "embeddings.register_tokens"),
    (r"pos_embed$", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"norm\.", "layernorm."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layer.\1.attention.attention.{qkv}."),
    (r"blocks\.(\d+)\.ls(\d)\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.(norm\d|mlp\.fc\d)\.", r"encoder.layer.\1.\2."),
)
VIT_NAMES = (
    *DINO_NAMES[:8],
    (r"blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)
RESNET_NAMES = (
    (r"conv1\.", "embedder.embedder.convolution."),
    (r"bn1\.", "embedder.embedder.normalization."),
    (r"layer(\d)\.(\d+)\.downsample\.0\.", r"encoder.stages.{\1}.layers.\2.shortcut.convolution."),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", r"encoder.stages.{\1}.layers.\2.shortcut.normalization."),
    (r"layer(\d)\.(\d+)\.conv(\d)\.", r"encoder.stages.{\1}.layers.\2.layer.{\3}.convolution."),
    (r"layer(\d)\.(\d+)\.bn(\d)\.", r"encoder.stages.{\1}.layers.\2.layer.{\3}.normalization."),
)


class VisionModel(NamedTuple):
    """A network with its weights, and the mean and deviation that its pictures are normalised by."""

    model: Any
    mean: Three
    std: Three


class _Family(NamedTuple):
    """How one family of files is read: its configuration, its keys under our names, mean and deviation."""

    config: dict[str, Any]
    tensors: Tensors
    scale: tuple[Three, Three]


def read_file(path: Path) -> VisionModel:
    """Read a vision model from one file of weights (safetensors, or a pickle of tensors alone).

    Raises:
        ConfigError: No weights, of a family that nobody here knows, or some are missing.
    """
    tensors, is_openai = _tensors(path)
    family = _family(tensors, is_openai, path)
    empty = from_config(family.config)
    found = family.tensors
    if hasattr(getattr(empty, "embeddings", None), "mask_token"):  # for patches that are hidden; none are
        found.setdefault("embeddings.mask_token", torch.zeros(1, family.config["hidden_size"]))
    # The names are those that transformers writes; what it calls them inside differs by its version.
    model, about = type(empty).from_pretrained(None, config=empty.config, state_dict=found, **LOADING)
    _refuse_parts(str(path), about)
    stated = _stated_scale(path.parent / "preprocessor_config.json")
    return VisionModel(model, *(stated or family.scale))


def read_folder(name: str, local_only: bool) -> VisionModel | None:
    """Read a folder of transformers or a model of the hub; None where there is none.

    Raises:
        ConfigError: It is there, and cannot be loaded, or holds a part of the weights only.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        whole, about = AutoModel.from_pretrained(name, local_files_only=local_only, **LOADING)
    except (OSError, ValueError, KeyError, SafetensorError) as problem:
        if not (Path(name) / "config.json").is_file():
            return None
        note = " ".join(str(problem).split())[:200]
        raise ConfigError(f"model.backbone: {name}: transformers cannot load it ({note})") from None
    vision = getattr(whole, "vision_model", whole)
    prefix = "vision_model." if vision is not whole else ""
    _refuse_parts(name, about, prefix)
    return VisionModel(vision, *(_hub_scale(name) or IMAGENET))


def from_config(config: Mapping[str, Any]) -> Any:
    """Return a model of transformers without weights."""
    from transformers import AutoConfig, AutoModel

    values = {key: value for key, value in config.items() if key != "model_type"}
    return AutoModel.from_config(AutoConfig.for_model(config["model_type"], **values))


def _refuse_parts(source: str, about: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse what was loaded in part; `about` is what transformers tells of it."""
    sizes = {
        key: f"{tuple(found)}, expected {tuple(wanted)}" for key, found, wanted in about["mismatched_keys"]
    }
    for keys, what in ((about["missing_keys"], "lacks"), (sizes, "has other sizes at")):
        own = sorted(key.removeprefix(prefix) for key in keys if key.startswith(prefix))
        wrong = [key for key in own if not key.startswith(UNUSED) and not key.endswith("num_batches_tracked")]
        if wrong:
            size = f": {sizes[prefix + wrong[0]]}" if keys is sizes else ""
            raise ConfigError(
                f"model.backbone: {source}: {what} {', '.join(wrong[:3])}{size} ({len(wrong)} in all): a "
                "part of a model, or a damaged copy; copy it again, or name another"
            )


def _tensors(path: Path) -> tuple[Tensors, bool]:
    """Return all tensors of a file, and whether OpenAI wrote it; no code of a pickle runs."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            held: Any = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as problem:
        note = " ".join(str(problem).split())[:200]
        raise ConfigError(f"model.backbone: {path}: no weights can be read from it ({note})") from None
    except pickle.UnpicklingError:
        raise ConfigError(
            f"model.backbone: {path}: holds more than tensors, and nothing of a file is executed; save its "
            "state_dict() as safetensors"
        ) from None
    for inner in ("state_dict", "model", "teacher"):
        if isinstance(held, Mapping) and isinstance(held.get(inner), Mapping):
            held = held[inner]
    found = {str(key): value for key, value in dict(held).items() if isinstance(value, Tensor)}
    prefix = next((p for p in ("module.", "backbone.") if found and all(k.startswith(p) for k in found)), "")
    return {key.removeprefix(prefix): value for key, value in found.items()}, OPENAI_MARK in found


def _family(tensors: Tensors, is_openai: bool, path: Path) -> _Family:
    """Tell whose keys these are."""
    try:
        if "visual.conv1.weight" in tensors:
            return _openai(_below(tensors, "visual."), is_openai)
        own = _below(tensors, "vision_model.") or tensors
        if "embeddings.patch_embedding.weight" in own:
            return _transformers(own)
        if "patch_embed.proj.weight" in tensors:
            return _dino(tensors)
        if "layer1.0.conv1.weight" in tensors:
            return _resnet(tensors)
    except (KeyError, ValueError) as problem:
        raise ConfigError(f"model.backbone: {path}: lacks {problem}: a part of a model") from None
    raise ConfigError(
        f"model.backbone: {path}: its keys ({', '.join(sorted(tensors)[:3])}, ...) are those of no CLIP, "
        "SigLIP, DINO, DINOv2 or ResNet; give a folder that transformers can load"
    )


def _openai(tensors: Tensors, is_openai: bool) -> _Family:
    config = _vit_config(tensors["conv1.weight"], tensors["positional_embedding"], 1)
    layers = _count(tensors, r"transformer\.resblocks\.(\d+)\.")
    hidden = len(tensors["transformer.resblocks.0.mlp.c_fc.bias"])
    config |= {"num_hidden_layers": layers, "intermediate_size": hidden, "model_type": "clip_vision_model"}
    config["hidden_act"] = "quick_gelu" if is_openai else "gelu"
    return _Family(config, _renamed(tensors, OPENAI_NAMES, ("q", "k", "v")), CLIP)


def _transformers(tensors: Tensors) -> _Family:
    is_clip = "embeddings.class_embedding" in tensors
    places = tensors["embeddings.position_embedding.weight"]
    config = _vit_config(tensors["embeddings.patch_embedding.weight"], places, int(is_clip))
    layers = _count(tensors, r"encoder\.layers\.(\d+)\.")
    hidden = len(tensors["encoder.layers.0.mlp.fc1.bias"])
    config |= {"num_hidden_layers": layers, "intermediate_size": hidden}
    config["model_type"] = "clip_vision_model" if is_clip else "siglip_vision_model"
    return _Family(config, tensors, CLIP if is_clip else SIGLIP)


def _dino(tensors: Tensors) -> _Family:
    config = _vit_config(tensors["patch_embed.proj.weight"], tensors["pos_embed"], 1)
    layers = _count(tensors, r"blocks\.(\d+)\.")
    hidden = len(tensors["blocks.0.mlp.fc1.bias"])
    config["num_hidden_layers"] = layers
    kinds = ("query", "key", "value")
    if "blocks.0.ls1.gamma" not in tensors:
        config |= {"intermediate_size": hidden, "model_type": "vit", "layer_norm_eps": 1e-6}
        return _Family(config, _renamed(tensors, VIT_NAMES, kinds), IMAGENET)
    registers = "register_tokens" in tensors
    config |= {
        "mlp_ratio": hidden // config["hidden_size"],
        "model_type": "dinov2_with_registers" if registers else "dinov2",
    }
    if registers:
        config["num_register_tokens"] = tensors["register_tokens"].shape[1]
    return _Family(config, _renamed(tensors, DINO_NAMES, kinds), IMAGENET)


def _resnet(tensors: Tensors) -> _Family:
    stages = range(1, 1 + _count(tensors, r"layer(\d)\.", first=1))
    kind = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    last = "conv3" if kind == "bottleneck" else "conv2"
    config = {
        "model_type": "resnet",
        "embedding_size": len(tensors["bn1.weight"]),
        "hidden_sizes": [len(tensors[f"layer{stage}.0.{last}.weight"]) for stage in stages],
        "depths": [_count(tensors, rf"layer{stage}\.(\d+)\.") for stage in stages],
        "layer_type": kind,
    }
    return _Family(config, _renamed(tensors, RESNET_NAMES, ()), IMAGENET)


def _vit_config(patches: Tensor, places: Tensor, num_classes: int) -> dict[str, Any]:
    width, channels, size, _ = patches.shape
    if channels != 3:
        raise ConfigError(f"model.backbone: pictures of {channels} channels, expected 3 (RGB)")
    side = round((places.shape[-2] - num_classes) ** 0.5)
    heads = max(1, width // HEAD_WIDTHS.get(width, HEAD_WIDTH))
    return {"hidden_size": width, "patch_size": size, "image_size": side * size, "num_attention_heads": heads}


def _renamed(tensors: Tensors, names: tuple[tuple[str, str], ...], kinds: tuple[str, ...]) -> Tensors:
    """Return tensors under the names of transformers; what has none is left out, thirds are cut apart."""
    found: Tensors = {}
    for key, value in tensors.items():
        for pattern, ours in names:
            match = re.match(pattern, key)
            if match is None:
                continue
            name = re.sub(r"\{(\d)\}", lambda m: str(int(m[1]) - 1), match.expand(ours)) + key[match.end() :]
            if "{qkv}" in name:
                thirds = zip(kinds, value.chunk(3), strict=True)
                found |= {name.replace("{qkv}", kind): third.contiguous() for kind, third in thirds}
            else:
                found[name] = value
            break
    return found


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _count(tensors: Tensors, pattern: str, first: int = 0) -> int:
    """Return how many layers keys number."""
    numbers = [int(match[1]) for match in (re.match(pattern, key) for key in tensors) if match]
    return 1 + max(numbers, default=first - 1) - first


def _hub_scale(name: str) -> tuple[Three, Three] | None:
    from transformers.utils import cached_file

    found = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    return None if found is None else _stated_scale(Path(found))


def _stated_scale(path: Path) -> tuple[Three, Three] | None:
    """Read mean and deviation as the model's authors wrote them down; None where they did not."""
    if not path.is_file():
        return None
    values = load_json(path)
    mean, std = values.get("image_mean", IMAGENET[0]), values.get("image_std", IMAGENET[1])
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))
