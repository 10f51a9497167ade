"""`tacit convert wan`: weights as Wan 2.1 was published, rewritten once in the layout of diffusers.

The original folder holds one safetensors file and pickles, which are opened with `weights_only` here
and never again. Names of the transformer and the VAE are diffusers' own tables; those of UMT5 and CLIP
follow Wan-Video/Wan2.1@fc124fd, `wan/modules/{t5,clip}.py`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from tacit.config import load_json
from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import BackboneConfig
from tacit_learning.vace_e.model.loading import VACE_CLASS, weight_files

VAE_FILE, TEXT_FILE = "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
TOKENIZER = "google/umt5-xxl"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
CLIP_HEAD_DIM = 80  # of ViT-H/14; a file of weights does not tell its heads
Weights = dict[str, Tensor]

_BLOCK, _LAYER = r"blocks\.(\d+)\.", r"encoder.block.\1.layer."
TEXT_NAMES: tuple[tuple[str, str], ...] = (
    (r"token_embedding\.", "shared."),
    (rf"{_BLOCK}norm1\.", rf"{_LAYER}0.layer_norm."),
    (rf"{_BLOCK}attn\.([qkvo])\.", rf"{_LAYER}0.SelfAttention.\2."),
    (rf"{_BLOCK}pos_embedding\.embedding\.", rf"{_LAYER}0.SelfAttention.relative_attention_bias."),
    (rf"{_BLOCK}norm2\.", rf"{_LAYER}1.layer_norm."),
    (rf"{_BLOCK}ffn\.gate\.0\.", rf"{_LAYER}1.DenseReluDense.wi_0."),
    (rf"{_BLOCK}ffn\.fc1\.", rf"{_LAYER}1.DenseReluDense.wi_1."),
    (rf"{_BLOCK}ffn\.fc2\.", rf"{_LAYER}1.DenseReluDense.wo."),
    (r"norm\.", "encoder.final_layer_norm."),
)
_IMAGE_BLOCK, _IMAGE_LAYER = r"transformer\.(\d+)\.", r"encoder.layers.\1."
IMAGE_NAMES: tuple[tuple[str, str], ...] = (
    (r"patch_embedding\.", "embeddings.patch_embedding."),
    (r"cls_embedding", "embeddings.class_embedding"),
    (r"pos_embedding", "embeddings.position_embedding.weight"),
    (r"pre_norm\.", "pre_layrnorm."),
    (rf"{_IMAGE_BLOCK}norm([12])\.", rf"{_IMAGE_LAYER}layer_norm\2."),
    (rf"{_IMAGE_BLOCK}attn\.([qkv])\.", rf"{_IMAGE_LAYER}self_attn.\2_proj."),
    (rf"{_IMAGE_BLOCK}attn\.proj\.", rf"{_IMAGE_LAYER}self_attn.out_proj."),
    (rf"{_IMAGE_BLOCK}mlp\.0\.", rf"{_IMAGE_LAYER}mlp.fc1."),
    (rf"{_IMAGE_BLOCK}mlp\.2\.", rf"{_IMAGE_LAYER}mlp.fc2."),
    (r"post_norm\.", "post_layernorm."),
)


@dataclass(frozen=True)
class Args:
    """Rewrite original Wan 2.1 weights in the layout of diffusers, once.

    Example: tacit convert wan models/Wan2.1-VACE-1.3B --clip models/Wan2.1-I2V-14B-480P --out models/vace
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of Wan2.1-VACE as published."""
    out: Path
    """Folder to write; use it as base_model."""
    clip: Path | None = None
    """Folder of Wan2.1-I2V-14B, or its CLIP file; the image encoder goes to the same output folder."""


def main(argv: list[str]) -> int:
    """Convert what is there, say what; return 0."""
    args = tyro.cli(Args, args=argv, prog="tacit convert wan")
    console = Console(highlight=False)
    convert_original(args.source, args.out, args.clip, lambda text: console.print(text))
    return 0


def convert_original(
    source: Path, out: Path, clip: Path | None = None, report: Callable[[str], None] = lambda text: None
) -> None:
    """Write `transformer`, `vae`, `text_encoder`, `tokenizer`, and with `clip` the image encoder.

    Args:
        source: Folder as published.
        out: Written part by part; a part that exists is an error.
        clip: Folder or file with CLIP.
        report: Told of each part.

    Raises:
        ConfigError: A file is missing or not what its name says, or a part exists already.
    """
    clip_file = clip / CLIP_FILE if clip is not None and clip.is_dir() else clip
    for path in [source / VAE_FILE, source / TEXT_FILE, source / TOKENIZER, source / "config.json"]:
        _demand(path)
    if clip_file is not None:
        _demand(clip_file)
    for name in PARTS:
        if (out / name).exists():
            raise ConfigError(f"{out / name}: exists already; give another --out")
    parts = {"transformer": _transformer, "vae": _vae, "text_encoder": _text_encoder}
    for name, convert in parts.items():
        _save(convert(source), out / name, report)
    shutil.copytree(source / TOKENIZER, out / "tokenizer")
    if clip_file is not None:
        _save(_image_encoder(clip_file), out / "image_encoder", report)
        _image_processor().save_pretrained(out / "image_processor")


def rename(weights: Mapping[str, Tensor], names: tuple[tuple[str, str], ...], where: Path) -> Weights:
    """Give weights their new names; each old name must match exactly one rule from its start.

    Raises:
        ConfigError: A name that no rule knows.
    """
    renamed: Weights = {}
    for name, value in weights.items():
        found = [re.sub(f"^{old}", new, name) for old, new in names if re.match(old, name)]
        if len(found) != 1:
            raise ConfigError(f"{where}: {name!r} is no weight of this network")
        renamed[found[0]] = value
    return renamed


def _transformer(source: Path) -> Any:
    files = weight_files(source)
    if not files:
        raise ConfigError(f"{source}: no diffusion_pytorch_model*.safetensors; was the download cut short?")
    original = {name: value for path in files for name, value in load_file(path).items()}
    values = load_json(source / "config.json")
    try:
        backbone = BackboneConfig(
            heads=values["num_heads"],
            head_dim=values["dim"] // values["num_heads"],
            ffn_dim=values["ffn_dim"],
            layers=values["num_layers"],
            vace_layers=values["vace_layers"],
            text_dim=original["text_embedding.0.weight"].shape[1],
            freq_dim=values["freq_dim"],
        )
    except (KeyError, ValidationError) as problem:
        raise ConfigError(f"{source / 'config.json'}: not the sizes of a VACE model: {problem}") from None
    with torch.device("meta"):
        model = WanVACETransformer3DModel(**backbone.arguments())
    return _filled(model, convert_wan_transformer_to_diffusers(original), source, VACE_CLASS)


def _vae(source: Path) -> Any:
    path = source / VAE_FILE
    original = _unpickle(path)
    if "encoder.conv1.weight" not in original:
        raise ConfigError(f"{path}: not the VAE of Wan 2.1")
    with torch.device("meta"):
        model = AutoencoderKLWan(base_dim=original["encoder.conv1.weight"].shape[0])
    return _filled(model, convert_wan_vae_to_diffusers(original), path, "AutoencoderKLWan")


def _text_encoder(source: Path) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    path = source / TEXT_FILE
    weights = rename(_unpickle(path), TEXT_NAMES, path)
    first = _LAYER.replace(r"\1", "0")
    try:
        vocabulary, dim = weights["shared.weight"].shape
        buckets, heads = weights[f"{first}0.SelfAttention.relative_attention_bias.weight"].shape
        config = UMT5Config(
            vocab_size=vocabulary,
            d_model=dim,
            d_kv=weights[f"{first}0.SelfAttention.q.weight"].shape[0] // heads,
            d_ff=weights[f"{first}1.DenseReluDense.wi_0.weight"].shape[0],
            num_layers=_count(weights, r"encoder\.block\.(\d+)\."),
            num_heads=heads,
            relative_attention_num_buckets=buckets,
        )
    except KeyError as problem:
        raise ConfigError(f"{path}: weights are missing: {problem.args[0]}") from None
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    filled = _filled(model, weights, path, "UMT5EncoderModel")
    model.tie_weights()
    return filled


def _image_encoder(path: Path) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    visual = {
        name.removeprefix("visual."): value
        for name, value in _unpickle(path).items()
        if name.startswith("visual.") and name != "visual.head"
    }
    if "cls_embedding" not in visual:
        raise ConfigError(f"{path}: no image encoder ('visual.*') in it; expected {CLIP_FILE}")
    for name in [name for name in visual if ".attn.to_qkv." in name]:
        parts = visual.pop(name).chunk(3)
        visual |= {name.replace("to_qkv", kind): part for kind, part in zip("qkv", parts, strict=True)}
    visual["cls_embedding"] = visual["cls_embedding"].flatten()
    visual["pos_embedding"] = visual["pos_embedding"][0]
    weights = rename(visual, IMAGE_NAMES, path)
    dim, _, patch, _ = weights["embeddings.patch_embedding.weight"].shape
    side = round((len(weights["embeddings.position_embedding.weight"]) - 1) ** 0.5)
    config = CLIPVisionConfig(
        hidden_size=dim,
        intermediate_size=weights["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_count(weights, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=max(1, dim // CLIP_HEAD_DIM),
        image_size=side * patch,
        patch_size=patch,
        hidden_act="gelu",
    )
    with torch.device("meta"):
        model = CLIPVisionModel(config)
    return _filled(model, weights, path, "CLIPVisionModel")


def _image_processor() -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil()


def _filled(model: Any, weights: Weights, where: Path, name: str) -> Any:
    """Put weights into a model that has no memory yet, all of them and no others."""
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as problem:
        first = " ".join(str(problem).split())[:300]
        raise ConfigError(f"{where}: its weights do not make a {name}: {first}") from None
    return model


def _save(model: Any, folder: Path, report: Callable[[str], None]) -> None:
    model.save_pretrained(folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    report(f"{folder}: {count / 1e6:,.1f} M parameters")


def _unpickle(path: Path) -> Weights:
    """Read a file of tensors; anything else in it is refused."""
    from pickle import UnpicklingError

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError) as problem:
        first = (str(problem).strip().splitlines() or ["unreadable"])[0]
        raise ConfigError(f"{path}: not a whole file of tensors: {first}") from None
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise ConfigError(f"{path}: expected a table of tensors")
    return weights


def _count(weights: Weights, pattern: str) -> int:
    numbers = [int(found.group(1)) for name in weights if (found := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def _demand(path: Path) -> None:
    if not path.exists():
        raise ConfigError(
            f"{path}: not there; expected a folder of Wan 2.1 as published, with {VAE_FILE}, {TEXT_FILE} and "
            f"{TOKENIZER}"
        )
