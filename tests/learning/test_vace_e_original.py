"""Weights as Wan 2.1 was published become equal networks in the layout of diffusers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

pytest.importorskip("diffusers")

from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from tiny_wan import tiny_tokenizer, tiny_transformer
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import preset
from tacit_learning.vace_e.data.features import encode_text
from tacit_learning.vace_e.model.loading import load_base, load_part
from tacit_learning.vace_e.original import CLIP_FILE, TEXT_FILE, TOKENIZER, VAE_FILE, convert_original, main

BACKBONE = preset("tiny").backbone
Weights = dict[str, Tensor]


def original_transformer() -> Weights:
    """The tiny transformer under the names of wan/modules/{model,vace_model}.py."""
    pairs = [
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        (".to_out.0.", ".o."),
        (".to_q.", ".q."),
        (".to_k.", ".k."),
        (".to_v.", ".v."),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        ("norm2", "norm3"),  # its cross-attention norm comes third
    ]
    weights: Weights = {}
    for name, value in tiny_transformer().state_dict().items():
        in_vace = name.startswith("vace_blocks.")
        for new, old in pairs:
            name = name.replace(new, old)
        if in_vace:
            name = name.replace("proj_in", "before_proj").replace("proj_out", "after_proj")
        name = {"scale_shift_table": "head.modulation"}.get(
            name, name.replace("scale_shift_table", "modulation")
        )
        weights[name.replace("proj_out.", "head.head.") if name.startswith("proj_out.") else name] = value
    return weights


def vae_names() -> Iterator[str]:
    """Every name that wan/modules/vae.py can have."""
    tails = [f"residual.{i}.{kind}" for i in (0, 2, 3, 6) for kind in ("gamma", "weight", "bias")]
    tails += ["shortcut.weight", "shortcut.bias", "resample.1.weight", "resample.1.bias"]
    tails += ["time_conv.weight", "time_conv.bias"]
    tails += ["norm.gamma", "to_qkv.weight", "to_qkv.bias", "proj.weight", "proj.bias"]
    for half, stack in (("encoder", "downsamples"), ("decoder", "upsamples")):
        yield from (f"{half}.{stack}.{i}.{tail}" for i in range(16) for tail in tails)
        yield from (f"{half}.middle.{i}.{tail}" for i in range(3) for tail in tails)
        yield from (f"{half}.{name}" for name in ("conv1.weight", "conv1.bias", "head.0.gamma"))
        yield from (f"{half}.head.2.{kind}" for kind in ("weight", "bias"))
    yield from (f"conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias"))


def original_vae(vae: AutoencoderKLWan) -> Weights:
    old_name = {
        new: old for name in vae_names() for new, old in convert_wan_vae_to_diffusers({name: name}).items()
    }
    return {old_name[name]: value for name, value in vae.state_dict().items()}


def original_text(encoder: UMT5EncoderModel) -> Weights:
    """The encoder under the names of wan/modules/t5.py, block by block."""
    state = encoder.state_dict()
    weights = {
        "token_embedding.weight": state["shared.weight"],
        "norm.weight": state["encoder.final_layer_norm.weight"],
    }
    for i in range(encoder.config.num_layers):
        block, there = f"blocks.{i}", f"encoder.block.{i}.layer"
        attention, feed_forward = f"{there}.0.SelfAttention", f"{there}.1.DenseReluDense"
        weights |= {f"{block}.attn.{k}.weight": state[f"{attention}.{k}.weight"] for k in "qkvo"}
        weights |= {
            f"{block}.norm1.weight": state[f"{there}.0.layer_norm.weight"],
            f"{block}.norm2.weight": state[f"{there}.1.layer_norm.weight"],
            f"{block}.pos_embedding.embedding.weight": state[f"{attention}.relative_attention_bias.weight"],
            f"{block}.ffn.gate.0.weight": state[f"{feed_forward}.wi_0.weight"],
            f"{block}.ffn.fc1.weight": state[f"{feed_forward}.wi_1.weight"],
            f"{block}.ffn.fc2.weight": state[f"{feed_forward}.wo.weight"],
        }
    return weights


def original_clip(encoder: CLIPVisionModel) -> Weights:
    """The image encoder under the names of wan/modules/clip.py, beside some of its text encoder."""
    state = encoder.state_dict()
    weights = {
        "textual.token_embedding.weight": torch.zeros(3, 2),
        "log_scale": torch.zeros(()),
        "visual.head": torch.zeros(encoder.config.hidden_size, 4),
        "visual.cls_embedding": state["embeddings.class_embedding"].view(1, 1, -1),
        "visual.pos_embedding": state["embeddings.position_embedding.weight"].unsqueeze(0),
        "visual.patch_embedding.weight": state["embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        weights[f"visual.pre_norm.{kind}"] = state[f"pre_layrnorm.{kind}"]
        weights[f"visual.post_norm.{kind}"] = state[f"post_layernorm.{kind}"]
        for i in range(encoder.config.num_hidden_layers):
            old, new = f"visual.transformer.{i}", f"encoder.layers.{i}"
            parts = [state[f"{new}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            weights |= {
                f"{old}.attn.to_qkv.{kind}": torch.cat(parts),
                f"{old}.attn.proj.{kind}": state[f"{new}.self_attn.out_proj.{kind}"],
                f"{old}.norm1.{kind}": state[f"{new}.layer_norm1.{kind}"],
                f"{old}.norm2.{kind}": state[f"{new}.layer_norm2.{kind}"],
                f"{old}.mlp.0.{kind}": state[f"{new}.mlp.fc1.{kind}"],
                f"{old}.mlp.2.{kind}": state[f"{new}.mlp.fc2.{kind}"],
            }
    return weights


class Published:
    """A tiny folder as published, and the networks that it was made of."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.vae = AutoencoderKLWan(base_dim=4).eval()
        tokenizer = tiny_tokenizer()
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        self.text = UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **sizes)).eval()
        self.clip = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=160,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
                hidden_act="gelu",
            )
        ).eval()
        save_file(original_transformer(), folder / "diffusion_pytorch_model.safetensors")
        torch.save(original_vae(self.vae), folder / VAE_FILE)
        torch.save(original_text(self.text), folder / TEXT_FILE)
        torch.save(original_clip(self.clip), folder / CLIP_FILE)
        tokenizer.save_pretrained(folder / TOKENIZER)
        values = {
            "_class_name": "VaceWanModel",
            "dim": BACKBONE.dim,
            "ffn_dim": BACKBONE.ffn_dim,
            "freq_dim": BACKBONE.freq_dim,
            "num_heads": BACKBONE.heads,
            "num_layers": BACKBONE.layers,
            "vace_layers": list(BACKBONE.vace_layers),
        }
        (folder / "config.json").write_text(json.dumps(values))


@pytest.fixture
def published(tmp_path: Path) -> Published:
    folder = tmp_path / "published"
    folder.mkdir()
    return Published(folder)


def test_every_part_becomes_the_network_it_was(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    folder = published.folder
    assert main([str(folder), "--out", str(out), "--clip", str(folder)]) == 0
    transformer = load_base(out, BACKBONE)
    for name, value in tiny_transformer().state_dict().items():
        assert torch.equal(transformer.state_dict()[name], value), name
    vae = load_part(AutoencoderKLWan, out, "vae").eval()
    text = load_part(UMT5EncoderModel, out, "text_encoder").eval()
    clip = load_part(CLIPVisionModel, out, "image_encoder").eval()
    video, pixels = torch.rand(1, 3, 5, 32, 32), torch.rand(1, 3, 32, 32)
    tokenizer = load_part(AutoTokenizer, out, "tokenizer")
    with torch.no_grad():
        expected, found = (each.encode(video).latent_dist.mode() for each in (published.vae, vae))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(vae.decode(found).sample, published.vae.decode(expected).sample)
        expected, found = (
            encode_text(["Pour tea."], tokenizer, each, 24)[0] for each in (published.text, text)
        )
        torch.testing.assert_close(found, expected)
        hidden = [
            each(pixels, output_hidden_states=True).hidden_states[-2] for each in (published.clip, clip)
        ]
        torch.testing.assert_close(hidden[1], hidden[0])
    assert (out / "image_processor" / "preprocessor_config.json").is_file()
    assert "M parameters" in capsys.readouterr().out


def test_what_was_converted_is_not_overwritten(published: Published, tmp_path: Path) -> None:
    (tmp_path / "out" / "vae").mkdir(parents=True)
    with pytest.raises(ConfigError, match="vae: exists already"):
        convert_original(published.folder, tmp_path / "out")
    assert not (tmp_path / "out" / "transformer").exists()


@pytest.mark.parametrize("name", [VAE_FILE, TEXT_FILE, "config.json"])
def test_a_missing_file_is_named_before_anything_is_written(
    name: str, published: Published, tmp_path: Path
) -> None:
    (published.folder / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: not there; expected a folder of Wan 2.1 as published"):
        convert_original(published.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_weight_is_named(published: Published, tmp_path: Path) -> None:
    weights = original_text(published.text)
    del weights["blocks.1.attn.o.weight"]
    torch.save(weights, published.folder / TEXT_FILE)
    with pytest.raises(
        ConfigError, match=r"UMT5EncoderModel: .*Missing key.*block.1.layer.0.SelfAttention.o"
    ):
        convert_original(published.folder, tmp_path / "out")


def test_an_unknown_weight_is_named(published: Published, tmp_path: Path) -> None:
    torch.save(original_text(published.text) | {"decoder.x": torch.zeros(1)}, published.folder / TEXT_FILE)
    with pytest.raises(ConfigError, match="'decoder.x' is no weight of this network"):
        convert_original(published.folder, tmp_path / "out")


def test_a_pickle_with_code_in_it_is_refused(published: Published, tmp_path: Path) -> None:
    torch.save({"encoder.conv1.weight": Path("anything")}, published.folder / VAE_FILE)
    with pytest.raises(ConfigError, match="not a whole file of tensors"):
        convert_original(published.folder, tmp_path / "out")


def test_a_file_cut_short_is_refused(published: Published, tmp_path: Path) -> None:
    path = published.folder / VAE_FILE
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigError, match="not a whole file of tensors"):
        convert_original(published.folder, tmp_path / "out")


def test_sizes_of_another_model_are_refused(published: Published, tmp_path: Path) -> None:
    path = published.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 2}))
    with pytest.raises(ConfigError, match="not the sizes of a VACE model"):
        convert_original(published.folder, tmp_path / "out")


def test_a_file_without_an_image_encoder_is_refused(published: Published, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no image encoder"):
        convert_original(published.folder, tmp_path / "out", published.folder / VAE_FILE)
