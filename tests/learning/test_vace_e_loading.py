"""Pretrained parts are checked before they are used; saved models come back equal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from tiny_wan import tiny_transformer, tiny_vae, write_tiny_base, write_tiny_clip
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import preset
from tacit_learning.vace_e.model.folder import load_adapters, load_model, save_adapters, save_model
from tacit_learning.vace_e.model.frozen import encode_images, encode_text
from tacit_learning.vace_e.model.loading import backbone_of, load_base, load_part, load_vae
from tacit_learning.vace_e.model.lora import apply_lora, lora_names
from tacit_learning.vace_e.model.signals import pad_text, random_signals, stack_images
from tacit_learning.vace_e.model.vace_e import VaceE, build_model, parameter_groups

TINY = preset("tiny")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(base, tmp_path / "base"))


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights_of(folder: Path) -> Path:
    return next((folder / "transformer").glob("*.safetensors"))


def test_a_base_folder_gives_its_weights_and_sizes(base: Path) -> None:
    model = load_base(base, TINY.backbone)
    for name, value in tiny_transformer().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert backbone_of(base, TINY.backbone.text_length) == TINY.backbone


def test_frozen_parts_load_and_encode(base: Path, tmp_path: Path) -> None:
    vae = load_part(AutoencoderKLWan, base, "vae")
    assert torch.equal(vae.quant_conv.weight, tiny_vae().quant_conv.weight)
    tokenizer = load_part(AutoTokenizer, base, "tokenizer")
    encoder = load_part(UMT5EncoderModel, base, "text_encoder")
    long, short = encode_text(["Right hand grasping cup.", "Pour"], tokenizer, encoder, 64)
    assert long.shape[1] == 32 and len(short) < len(long)
    text, mask = pad_text([long, short], 40)
    assert text.shape == (2, 40, 32) and mask.sum(1).tolist() == [len(long), len(short)]
    assert torch.equal(text[1, len(short) :], torch.zeros(40 - len(short), 32))
    clip = write_tiny_clip(tmp_path)
    image_encoder = load_part(CLIPVisionModel, clip, "image_encoder")
    processor = load_part(CLIPImageProcessorPil, clip, "image_processor")
    tokens = encode_images([torch.zeros(40, 60, 3, dtype=torch.uint8)], processor, image_encoder)
    assert tokens.shape == (1, 17, 32)
    stacked, has_image = stack_images([None, tokens[0]], TINY.encoders.image_dim)
    assert stacked.shape == (2, 17, 32) and has_image.tolist() == [False, True]


def test_a_prompt_is_encoded_the_same_alone_and_in_a_batch(base: Path) -> None:
    tokenizer = load_part(AutoTokenizer, base, "tokenizer")
    encoder = load_part(UMT5EncoderModel, base, "text_encoder")
    prompts = ["Pouring, left hand cup", "a"]
    together = encode_text(prompts, tokenizer, encoder, 64)
    for prompt, tokens in zip(prompts, together, strict=True):
        alone = encode_text([prompt], tokenizer, encoder, 64)[0]
        torch.testing.assert_close(tokens, alone, rtol=1e-5, atol=1e-6)


def test_a_missing_folder_is_named_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no such folder; give a folder .* Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    ):
        load_base(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_fetched_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="nobody/nothing-here: neither a folder here, nor in the cache"):
        load_base("nobody/nothing-here")


def test_the_original_layout_is_told_from_that_of_diffusers(tmp_path: Path) -> None:
    (tmp_path / "Wan2.1_VAE.pth").touch()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"first published in .*: give .*VACE-1.3B-diffusers or .*VACE-14B-diffusers"
    ):
        load_base(tmp_path)


def test_the_transformer_folder_alone_is_recognised(base: Path) -> None:
    with pytest.raises(ConfigError, match="one part alone .*give the folder above it"):
        load_base(base / "transformer")


def test_a_folder_of_something_else_lists_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(ConfigError, match="no folder 'transformer' in it, found holiday.txt"):
        load_base(tmp_path)


def test_a_wan_model_without_vace_is_refused(copied: Path) -> None:
    edit(copied / "transformer" / "config.json", _class_name="WanTransformer3DModel")
    with pytest.raises(ConfigError, match="a WanTransformer3DModel, expected WanVACETransformer3DModel"):
        load_base(copied)


def test_another_size_than_planned_is_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match="num_attention_heads 2, expected 12"):
        load_base(base, preset("wan_1_3b").backbone)


def test_missing_weights_are_named(copied: Path) -> None:
    tensors = load_file(weights_of(copied))
    del tensors["proj_out.bias"]
    save_file(tensors, weights_of(copied))
    with pytest.raises(ConfigError, match="1 weights are missing: proj_out.bias"):
        load_base(copied)


def test_unknown_weights_are_named(copied: Path) -> None:
    tensors = load_file(weights_of(copied)) | {"head.extra": torch.zeros(1)}
    save_file(tensors, weights_of(copied))
    with pytest.raises(ConfigError, match="unknown to this model: head.extra"):
        load_base(copied)


def test_weights_of_another_shape_are_named(copied: Path) -> None:
    edit(copied / "transformer" / "config.json", ffn_dim=48)
    with pytest.raises(ConfigError, match=r"weights have other shapes: blocks.0.ffn.net.0.proj.bias \(32,\)"):
        load_base(copied)


def test_a_file_cut_short_is_refused_with_its_size(copied: Path) -> None:
    path = weights_of(copied)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="5000 bytes, not a whole safetensors file"):
        load_base(copied)


def test_a_folder_without_weights_is_refused(copied: Path) -> None:
    weights_of(copied).unlink()
    with pytest.raises(ConfigError, match="no weights .* was the download cut short"):
        load_base(copied)


def test_vae_weights_that_are_missing_are_never_random(copied: Path) -> None:
    path = next((copied / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    tensors.pop("quant_conv.weight")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"missing.*quant_conv.weight|quant_conv.weight.*missing"):
        load_part(AutoencoderKLWan, copied, "vae")


def test_the_vae_of_another_wan_is_refused(base: Path, copied: Path) -> None:
    assert load_vae(base).config["z_dim"] == 16
    tiny_vae_of_48_channels().save_pretrained(copied / "vae")
    with pytest.raises(
        ConfigError, match="48 channels, 4 frames and 8 pixels per cell; VACE reads 16, 4 and 8"
    ):
        load_vae(copied)


def tiny_vae_of_48_channels() -> AutoencoderKLWan:
    numbers = [0.0] * 48
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=numbers,
        latents_std=numbers,
    )


def trained_model() -> VaceE:
    """A tiny model with two sets of adapters, nothing at its initial zero."""
    torch.manual_seed(1)
    model = build_model(TINY).eval()
    apply_lora(model.transformer, "dit", 4)
    apply_lora(model.transformer, "vace", 2, ["q", "ffn.2"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def velocity(model: VaceE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(1, 16, 3, 4, 4, generator=generator)
    control = torch.randn(1, 96, 3, 4, 4, generator=generator)
    text = torch.randn(1, 16, 32, generator=generator)
    signals = random_signals(1, TINY.encoders, 32, 3, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([300.0]), control, text, model.conditioning(signals))


def assert_equal(again: VaceE, model: VaceE) -> None:
    """All weights to the bit; the velocity up to how memory happens to be aligned."""
    saved = dict(model.named_parameters())
    assert set(saved) == set(dict(again.named_parameters()))
    assert [name for name, value in again.named_parameters() if not torch.equal(value, saved[name])] == []
    torch.testing.assert_close(velocity(again), velocity(model), rtol=1e-5, atol=2e-6)


def test_base_and_adapters_come_back_equal(tmp_path: Path) -> None:
    model = trained_model()
    save_model(model, tmp_path, None, ["dit", "vace_e"])
    again = load_model(tmp_path).eval()
    assert lora_names(again.transformer) == ["dit", "vace"]
    assert_equal(again, model)


def test_adapters_alone_come_back_on_their_base(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = VaceE(TINY, load_base(base)).eval()
    apply_lora(model.transformer, "dit", 4)
    with torch.no_grad():
        for name, group in parameter_groups(model).items():
            for parameter in group if name in ("vace_e", "lora:dit") else ():
                parameter.add_(0.05 * torch.randn_like(parameter))
    save_adapters(model, tmp_path / "adapters", str(base))
    assert not (tmp_path / "adapters" / "transformer").exists()
    assert_equal(load_model(tmp_path / "adapters").eval(), model)


def test_a_saved_base_loads_in_diffusers(tmp_path: Path) -> None:
    model = trained_model()
    save_model(model, tmp_path, None, ["vace"])
    base = WanVACETransformer3DModel.from_pretrained(tmp_path / "transformer")
    own = model.transformer.blocks[0].attn1.to_q.base_layer.weight
    assert torch.equal(base.blocks[0].attn1.to_q.weight, own)


def test_saved_low_rank_adapters_load_in_diffusers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(TINY, with_streams=False).eval()
    save_model(model, tmp_path, None, ["dit"])
    apply_lora(model.transformer, "dit", 4)
    for parameter in parameter_groups(model)["lora:dit"]:
        torch.nn.init.normal_(parameter, std=0.1)
    save_adapters(model, tmp_path)
    base = WanVACETransformer3DModel.from_pretrained(tmp_path / "transformer").eval()
    base.load_lora_adapter(load_file(tmp_path / "lora_dit.safetensors"), prefix="transformer")
    latents, control = torch.randn(1, 16, 3, 4, 4), torch.randn(1, 96, 3, 4, 4)
    text, time = torch.randn(1, 16, 32), torch.tensor([300.0])
    with torch.no_grad():
        theirs = base(latents, time, text, control_hidden_states=control).sample
        ours = model(latents, time, control, text, None)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_adapters_of_another_size_name_the_first_weight(tmp_path: Path) -> None:
    save_adapters(build_model(TINY), tmp_path)
    wider = TINY.encoders.model_copy(update={"latents": 5})
    other = build_model(TINY.model_copy(update={"encoders": wider}))
    with pytest.raises(
        ConfigError, match=r"weights do not fit; .*latents: saved \(4, 32\), this model \(5, 32\)"
    ):
        load_adapters(other, tmp_path)


def test_adapters_without_a_base_ask_for_it(tmp_path: Path) -> None:
    save_adapters(build_model(TINY), tmp_path)
    with pytest.raises(ConfigError, match="holds adapters alone; give the folder"):
        load_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model.json there"):
        load_model(tmp_path)
