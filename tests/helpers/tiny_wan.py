"""Tiny random parts of Wan2.1-VACE in the folder layout of diffusers."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Tokenizer, UMT5Config, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tacit_learning.vace_e.config_model import preset

PRINTABLE = [chr(code) for code in range(33, 127)]


def tiny_vae(seed: int = 0) -> AutoencoderKLWan:
    """The smallest autoencoder with the strides of Wan 2.1."""
    torch.manual_seed(seed)
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


def tiny_transformer(seed: int = 0) -> WanVACETransformer3DModel:
    """diffusers' own model in the sizes of the preset `tiny`."""
    torch.manual_seed(seed)
    return WanVACETransformer3DModel(**preset("tiny").backbone.arguments()).eval()


def tiny_tokenizer() -> T5Tokenizer:
    """A unigram tokenizer of letters."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=vocabulary + [(letter, -3.0) for letter in PRINTABLE])


def write_tiny_base(folder: Path) -> Path:
    """Write all parts of a base model, with random weights."""
    tiny_transformer().save_pretrained(folder / "transformer")
    tiny_vae().save_pretrained(folder / "vae")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    text = UMT5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    UMT5EncoderModel(text).save_pretrained(folder / "text_encoder")
    return folder


def write_tiny_clip(folder: Path) -> Path:
    """Write an image encoder and its processor, with random weights."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(folder / "image_encoder")
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(
        folder / "image_processor"
    )
    return folder
