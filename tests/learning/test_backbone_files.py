"""Backbones from folders and single files, by whoever made them; parts are refused; which weights train."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit_learning.layers import backbone_files
from tacit_learning.layers.backbone import Backbone, ConvSpec, build_backbone
from tacit_learning.layers.backbone_files import CLIP, IMAGENET, SIGLIP, from_config

VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "patch_size": 16,
    "image_size": 48,
}
MLP = {"intermediate_size": 128}
KINDS: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip_vision_model", **VIT, **MLP},
    "siglip": {"model_type": "siglip_vision_model", **VIT, **MLP},
    "siglip2": {"model_type": "siglip2_vision_model", **VIT, **MLP, "num_patches": 9},
    "dinov2": {"model_type": "dinov2", **VIT, "mlp_ratio": 2},
    "dinov2_registers": {"model_type": "dinov2_with_registers", **VIT, "mlp_ratio": 2},
    "dinov3": {"model_type": "dinov3_vit", **VIT, **MLP},
    "vit": {"model_type": "vit", **VIT, **MLP, "layer_norm_eps": 1e-6},
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
}
IMAGE = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))


def network(kind: str) -> Any:
    """A small network of a kind with weights that are no zeros or ones."""
    torch.manual_seed(1)
    model = from_config(KINDS[kind])
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model.eval()


def on_disk(model: Any, folder: Path) -> dict[str, Tensor]:
    """The tensors of a model under the names that transformers writes."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def built(name: str | Path, train: str = "full") -> Backbone:
    return build_backbone(str(name), ConvSpec(), train=train).eval()


def features(backbone: Backbone) -> Tensor:
    with torch.no_grad():
        return backbone(IMAGE)


def as_openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's tensors under OpenAI's names."""
    simple = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
        "encoder.layers": "transformer.resblocks",
        "layer_norm": "ln_",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    found = fused(tensors, r"self_attn\.[qkv]_proj\.", "self_attn.{}_proj.", "qkv", "attn.in_proj_")
    return {f"visual.{renamed(key, simple)}": value for key, value in found.items()}


def as_dino(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINO's and DINOv2's tensors under their authors' names."""
    simple = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "register_tokens",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm.": "norm.",
        "encoder.layer.": "blocks.",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    pattern, parts = r"attention\.attention\.(query|key|value)\.", ("query", "key", "value")
    found = fused(tensors, pattern, "attention.attention.{}.", parts, "attn.qkv.")
    kept = {key: value for key, value in found.items() if not key.startswith("pooler")}
    return {renamed(key, simple): value for key, value in kept.items()}


def as_torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """ResNet's tensors under torchvision's names."""

    steps = (
        (r"embedder\.embedder\.convolution", "conv1"),
        (r"embedder\.embedder\.normalization", "bn1"),
        (r"\.layer\.0\.convolution", ".conv1"),
        (r"\.layer\.1\.convolution", ".conv2"),
        (r"\.layer\.0\.normalization", ".bn1"),
        (r"\.layer\.1\.normalization", ".bn2"),
        (r"shortcut\.convolution", "downsample.0"),
        (r"shortcut\.normalization", "downsample.1"),
    )

    def name(key: str) -> str:
        for pattern, theirs in steps:
            key = re.sub(pattern, theirs, key)
        return re.sub(r"encoder\.stages\.(\d)\.layers", lambda m: f"layer{int(m[1]) + 1}", key)

    return {name(key): value for key, value in tensors.items()} | {"fc.weight": torch.zeros(2, 32)}


def fused(tensors: dict[str, Tensor], pattern: str, part: str, parts: Any, whole: str) -> dict[str, Tensor]:
    """Join query, key and value of every layer."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        match = re.search(pattern, key)
        if match is None:
            found[key] = value
            continue
        before, after = key[: match.start()], key[match.end() :]
        found[before + whole + after] = torch.cat(
            [tensors[before + part.format(kind) + after] for kind in parts]
        )
    return found


def renamed(key: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key


FILES: list[tuple[str, Callable[[dict[str, Tensor]], dict[str, Tensor]], Any]] = [
    ("clip", as_openai, CLIP),
    ("clip", lambda t: {f"vision_model.{k}": v for k, v in t.items()} | {"logit_scale": torch.ones(1)}, CLIP),
    ("siglip", lambda t: t, SIGLIP),
    ("dinov2", as_dino, IMAGENET),
    ("dinov2_registers", lambda t: {f"module.{k}": v for k, v in as_dino(t).items()}, IMAGENET),
    ("vit", as_dino, IMAGENET),
    ("resnet", as_torchvision, IMAGENET),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_every_kind_gives_its_own_features_and_scale(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    model.save_pretrained(tmp_path)
    scale = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scale))
    backbone = built(tmp_path)
    assert (backbone.identity.mean, backbone.identity.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    seen = features(backbone)
    assert seen.shape[2:] == ((2, 3) if kind == "resnet" else (3, 5)) and backbone.identity.pretrained
    changed = IMAGE.clone()
    changed[:, :, 32:, 64:] = 0.0
    with torch.no_grad():
        difference = (backbone(changed) - seen).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), seen.shape[3]) == (seen.shape[2] - 1, seen.shape[3] - 1)
    again = build_backbone("gone", ConvSpec(), identity=backbone.identity).eval()
    again.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(features(again), seen)


@pytest.mark.parametrize(("kind", "theirs", "scale"), FILES)
def test_a_single_file_gives_the_features_of_its_folder(
    kind: str, theirs: Callable[[dict[str, Tensor]], dict[str, Tensor]], scale: Any, tmp_path: Path
) -> None:
    model = network(kind)
    if kind == "clip" and theirs is as_openai:
        model = from_config(KINDS[kind] | {"hidden_act": "gelu"}).eval()  # no mark of OpenAI in the file
    own = on_disk(model, tmp_path / "folder")
    (tmp_path / "folder" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": scale[0], "image_std": scale[1]})
    )
    tensors = {key: value.contiguous() for key, value in theirs(own).items()}
    save_file(tensors, tmp_path / "weights.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "weights.pt")
    expected = features(built(tmp_path / "folder"))
    for name in ("weights.safetensors", "weights.pt"):
        backbone = built(tmp_path / name)
        assert (backbone.identity.mean, backbone.identity.std) == scale
        torch.testing.assert_close(features(backbone), expected, atol=1e-5, rtol=1e-5)


def test_openais_own_file_has_its_own_activation(tmp_path: Path) -> None:
    tensors = as_openai(on_disk(network("clip"), tmp_path)) | {"input_resolution": torch.tensor(48)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "ViT.safetensors")
    backbone = built(tmp_path / "ViT.safetensors")
    assert backbone.identity.config is not None and backbone.identity.config["hidden_act"] == "quick_gelu"


def test_a_part_of_a_model_and_what_is_none_are_refused(tmp_path: Path) -> None:
    whole = on_disk(network("dinov2"), tmp_path / "folder")
    place = tmp_path / "folder" / "model.safetensors"
    part = {key: value.clone() for key, value in whole.items() if "layer.1.mlp.fc2" not in key}
    save_file(part, place, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks encoder.layer.1.mlp.fc2.bias.*\(2 in all\)"):
        built(tmp_path / "folder")
    for name, tensors, message in [
        ("part", as_dino(part), "lacks encoder.layer.1.mlp.fc2"),
        (
            "small",
            as_dino(whole) | {"norm.weight": torch.ones(3)},
            r"has other sizes at layernorm.weight: \(3,\), expected \(64,\)",
        ),
        ("other", {"a": torch.ones(1), "b": torch.ones(2)}, "its keys .a, b, .* are those of no CLIP"),
    ]:
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors"
        )
        with pytest.raises(ConfigError, match=message):
            built(tmp_path / f"{name}.safetensors")
    (tmp_path / "code.pt").write_bytes(pickle.dumps({"a": print}))
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes(place.read_bytes()[:999])
    for name in ("code.pt", "text.pt", "cut.safetensors"):
        with pytest.raises(ConfigError, match=f"{name}: (holds more than tensors|no weights can be read)"):
            built(tmp_path / name)


def test_a_folder_whose_weights_are_damaged_is_refused_by_its_name(tmp_path: Path) -> None:
    network("dinov2").save_pretrained(tmp_path)
    place = tmp_path / "model.safetensors"
    place.write_bytes(place.read_bytes()[:999])
    with pytest.raises(ConfigError, match=f"{tmp_path}: transformers cannot load it"):
        built(tmp_path)


@pytest.mark.parametrize(
    ("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1152, 16), (1280, 16), (1664, 16)]
)
def test_large_networks_have_wider_heads_not_more(width: int, heads: int) -> None:
    patches = torch.empty(width, 3, 14, 14, device="meta")
    config = backbone_files._vit_config(patches, torch.empty(257, width, device="meta"), 1)
    assert config["num_attention_heads"] == heads


def trained(backbone: Backbone) -> set[str]:
    return {
        name.removeprefix("body.model.") for name, value in backbone.named_parameters() if value.requires_grad
    }


def test_what_trains_is_what_was_asked_for(tmp_path: Path) -> None:
    network("dinov2").save_pretrained(tmp_path)
    assert not trained(built(tmp_path, "frozen"))
    last = trained(built(tmp_path, "last:1"))
    assert {"layernorm.weight", "layernorm.bias"} < last
    assert all(name.startswith(("encoder.layer.1.", "layernorm.")) for name in last)
    plain, adapted = built(tmp_path), built(tmp_path, "lora")
    names = trained(adapted)
    assert names and all(re.search(r"(query|value|[qv]_proj)\.lora_[AB]\.", name) for name in names)
    torch.testing.assert_close(features(adapted), features(plain))
    optimizer = torch.optim.SGD([v for v in adapted.parameters() if v.requires_grad], lr=1.0)
    adapted(IMAGE).square().mean().backward()
    optimizer.step()
    assert (features(adapted) - features(plain)).abs().max() > 1e-4
    again = build_backbone("gone", ConvSpec(), identity=adapted.identity).eval()
    again.load_state_dict(adapted.state_dict())
    torch.testing.assert_close(features(again), features(adapted))
    assert trained(again) == names


def test_what_a_network_does_not_have_cannot_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="last:3: the backbone has 2 blocks"):
        build_backbone("random:vit_tiny", ConvSpec(), train="last:3")
    with pytest.raises(ConfigError, match="lora: the backbone has no attention"):
        build_backbone("random:resnet18", ConvSpec(), train="lora")
    with pytest.raises(ConfigError, match="last:1: the backbone has 0 blocks"):
        build_backbone("conv", ConvSpec(), train="last:1")
    assert not any(v.requires_grad for v in build_backbone("conv", ConvSpec(), train="frozen").parameters())
    assert isinstance(build_backbone("random:resnet18", ConvSpec(), train="last:1").body, nn.Module)
