"""Pretrained parts from a local folder or the hub, checked before gigabytes are read.

The layout is that of diffusers: `transformer`, `vae`, `text_encoder`, `tokenizer`, and `image_encoder`
with `image_processor` for CLIP. Sizes are compared by config, names and shapes by the headers of the
weight files. Nothing is ever replaced by random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from tacit.config import load_json
from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import LATENT_CHANNELS, SPATIAL, TEMPORAL, BackboneConfig
from tacit_learning.vace_e.model.transformer import VaceETransformer

VACE_1_3B = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
PUBLISHED = {VACE_1_3B: "wan_1_3b", "Wan-AI/Wan2.1-VACE-14B-diffusers": "wan_14b"}  # hub id -> preset
VACE_CLASS = "WanVACETransformer3DModel"
ORIGINAL_FILES = ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth")
MODEL_PARTS = {"transformer", "vae", "text_encoder", "image_encoder"}
WEIGHTS = ("diffusion_pytorch_model", "model")
IGNORED = "norm_added_q"  # in some published files, read by no model
SHOWN = 3  # names in a message

Shapes = dict[str, tuple[int, ...]]


def locate(place: str | Path, part: str) -> Path:
    """Return the folder of one part, downloading it when `place` is a hub id.

    Args:
        place: A local folder in the layout of diffusers, or a hub id (owner/name).
        part: `transformer`, `vae`, `text_encoder`, `tokenizer`, `image_encoder` or `image_processor`.

    Raises:
        ConfigError: Nothing there, another layout, or no weights; says what lies there instead.
    """
    folder = Path(place)
    if not folder.is_dir():
        folder = _download(str(place), part)
    if not (folder / part).is_dir():
        raise ConfigError(f"{folder}: {_wrong_layout(folder, part)}")
    if part in MODEL_PARTS and not weight_files(folder / part):
        raise ConfigError(
            f"{folder / part}: no weights ({WEIGHTS[0]}*.safetensors or {WEIGHTS[1]}*.safetensors), found "
            f"{_listing(folder / part)}; was the download cut short?"
        )
    return folder / part


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of one part, all shards in order."""
    return sorted(path for name in WEIGHTS for path in folder.glob(f"{name}*.safetensors"))


def backbone_of(place: str | Path, text_length: int = 512) -> BackboneConfig:
    """Read the sizes of a VACE transformer from its config.

    Raises:
        ConfigError: It is no VACE model, or has parts that VACE does not have.
    """
    path = locate(place, "transformer") / "config.json"
    values = load_json(path)
    if values.get("_class_name") != VACE_CLASS:
        raise ConfigError(
            f"{path}: a {values.get('_class_name', 'model without a class')}, expected {VACE_CLASS}; "
            f"VACE has its own weights, for example {VACE_1_3B}"
        )
    missing = [name for name in _CONFIG_NAMES if name not in values]
    if missing:
        raise ConfigError(f"{path}: {missing[0]} is missing")
    found = {field: values[name] for name, field in _CONFIG_NAMES.items()}
    try:
        backbone = BackboneConfig(**found, text_length=text_length)
    except ValidationError as problem:
        raise ConfigError(f"{path}: {problem.errors()[0]['msg']}") from None
    for name, expected in backbone.arguments().items():
        if values.get(name, expected) != expected:
            raise ConfigError(f"{path}: {name} is {values[name]!r}, VACE has {expected!r}")
    return backbone


def load_base(
    place: str | Path, expected: BackboneConfig | None = None, dtype: torch.dtype = torch.float32
) -> VaceETransformer:
    """Load the transformer after comparing its sizes, names and shapes.

    Args:
        place: Folder or hub id.
        expected: Sizes that the run was planned for; None: any.
        dtype: Number type of the weights; as in diffusers, norms, tables and the time embedding stay
            float32.

    Raises:
        ConfigError: Wrong sizes, missing or damaged files, missing, odd or misshapen weights.
    """
    folder = locate(place, "transformer")
    backbone = backbone_of(place)
    if expected is not None:
        _compare_sizes(folder, backbone, expected)
    check_weights(folder, transformer_shapes(backbone))
    return VaceETransformer.from_pretrained(folder, torch_dtype=dtype)


def transformer_shapes(backbone: BackboneConfig) -> Shapes:
    """Return names and shapes of the base weights, without allocating them."""
    with torch.device("meta"):
        model = VaceETransformer(**backbone.arguments())
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def load_part(kind: Any, place: str | Path, part: str, **options: Any) -> Any:
    """Load a frozen part with the class that diffusers or transformers has for it.

    Args:
        kind: For example `AutoencoderKLWan`, `UMT5EncoderModel`, `AutoTokenizer`.
        place: Folder or hub id.
        part: Folder of the part.
        options: For `from_pretrained`.

    Raises:
        ConfigError: The part is not there, or lacks weights that the class has.
    """
    folder = locate(place, part)
    if part in MODEL_PARTS:
        options["output_loading_info"] = True
    try:
        loaded = kind.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ConfigError(f"{folder}: cannot be loaded as {kind.__name__}: {first}") from None
    if part not in MODEL_PARTS:
        return loaded
    model, information = loaded
    _refuse(folder, [str(name) for name in information["missing_keys"]], "weights are missing")
    _refuse(folder, [str(name) for name in information["mismatched_keys"]], "weights have other shapes")
    return model


def load_vae(place: str | Path) -> AutoencoderKLWan:
    """Load the video autoencoder and check that it is that of Wan 2.1.

    Raises:
        ConfigError: Not there, or with other latents: Wan 2.2 has 48 channels in cells of 16 pixels.
    """
    vae = load_part(AutoencoderKLWan, place, "vae")
    config = vae.config
    found = (config["z_dim"], config["scale_factor_temporal"], config["scale_factor_spatial"])
    if found != (LATENT_CHANNELS, TEMPORAL, SPATIAL):
        raise ConfigError(
            f"{place}: vae: {found[0]} channels, {found[1]} frames and {found[2]} pixels per cell; VACE "
            f"reads {LATENT_CHANNELS}, {TEMPORAL} and {SPATIAL}, as the VAE of Wan 2.1 has"
        )
    return vae


def check_weights(folder: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the headers of the weight files of `folder` with names and shapes.

    Raises:
        ConfigError: Names missing or unknown, shapes that differ, a damaged file.
    """
    found = read_shapes(folder)
    _refuse(folder, sorted(set(expected) - set(found)), "weights are missing")
    unknown = [name for name in sorted(set(found) - set(expected)) if IGNORED not in name]
    _refuse(folder, unknown, "weights are unknown to this model")
    odd = [name for name in sorted(expected) if found[name] != tuple(expected[name])]
    _refuse(
        folder, [f"{n} {found[n]}, expected {tuple(expected[n])}" for n in odd], "weights have other shapes"
    )


def read_shapes(folder: Path) -> Shapes:
    """Read names and shapes from the headers of the weight files.

    Raises:
        ConfigError: A file is damaged or cut short.
    """
    shapes: Shapes = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as problem:
            raise ConfigError(
                f"{path}: {path.stat().st_size} bytes, not a whole safetensors file "
                f"({problem}); fetch it again"
            ) from None
    return shapes


_CONFIG_NAMES = {
    "num_attention_heads": "heads",
    "attention_head_dim": "head_dim",
    "ffn_dim": "ffn_dim",
    "num_layers": "layers",
    "vace_layers": "vace_layers",
    "text_dim": "text_dim",
    "freq_dim": "freq_dim",
}


def _compare_sizes(folder: Path, found: BackboneConfig, expected: BackboneConfig) -> None:
    odd = [
        f"{name} {getattr(found, field)}, expected {getattr(expected, field)}"
        for name, field in _CONFIG_NAMES.items()
        if getattr(found, field) != getattr(expected, field)
    ]
    if odd:
        raise ConfigError(f"{folder / 'config.json'}: another size than planned: {'; '.join(odd[:SHOWN])}")


def _download(place: str, part: str) -> Path:
    """Fetch one part of a hub repository into the cache of the hub, or find it there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    advice = "give a folder in the layout of diffusers, or a hub id such as " + VACE_1_3B
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise ConfigError(f"{place}: no such folder; {advice}")
    patterns = [f"{part}/*.json", f"{part}/*.safetensors", f"{part}/*.model", f"{part}/*.txt"]
    try:
        return Path(snapshot_download(place, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ConfigError(
            f"{place}: neither a folder here, nor in the cache of the hub, nor could {part} be fetched "
            f"({first}); {advice}"
        ) from None


def _wrong_layout(folder: Path, part: str) -> str:
    if any((folder / name).exists() for name in ORIGINAL_FILES):
        return (
            f"the layout that Wan was first published in (found {_listing(folder)}); tacit reads the same "
            f"weights in the layout of diffusers: give {' or '.join(PUBLISHED)}"
        )
    if (folder / "config.json").exists() and weight_files(folder):
        name = load_json(folder / "config.json").get("_class_name")
        return f"one part alone ({name}); give the folder above it"
    return f"no folder {part!r} in it, found {_listing(folder)}; expected the layout of diffusers"


def _refuse(folder: Path, names: list[str], what: str) -> None:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ConfigError(f"{folder}: {len(names)} {what}: {', '.join(names[:SHOWN])}{more}")


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
