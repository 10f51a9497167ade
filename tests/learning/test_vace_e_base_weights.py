"""Training on base weights from a folder: real encoders, what a checkpoint keeps, and back again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import WanVACETransformer3DModel
from tiny_wan import tiny_transformer, write_tiny_base, write_tiny_clip
from vace_e_runs import changed, losses, run, small_config, weights, write_small_dataset

from tacit.cli import main
from tacit.errors import ConfigError
from tacit_learning.vace_e.data.cache import LatentCache
from tacit_learning.vace_e.model.folder import load_model
from tacit_learning.vace_e.model.vace_e import group_of
from tacit_learning.vace_e.sampling.trained import load_trained


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("base")
    wan, clip = write_tiny_base(folder / "wan"), write_tiny_clip(folder / "clip")
    return {"base_model": str(wan), "image_encoder": str(clip), "vace_e_layers": "0,2"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_dataset(tmp_path_factory.mktemp("vace_e") / "data", episodes=1)


def test_a_run_on_a_folder_of_weights_keeps_what_trained_and_names_the_rest(
    data: Path, base: dict[str, str], tmp_path: Path
) -> None:
    stages = {"a": {"trainable_models": "vace_e,lora:dit", "learning_rate": 1e-3}}
    options = base | {"training_stages": stages, "lora_base_model": "dit", "lora_rank": 2}
    config = small_config(data, tmp_path / "run", **options)
    snapshot = run(config)
    saved = weights(snapshot)
    assert {group_of(name) for name in saved} == {"vace_e", "lora:dit"}
    assert yaml.safe_load(snapshot.texts["config.yaml"])["base_model"] == base["base_model"]
    trained = dict(load_trained(tmp_path / "run").model.state_dict())
    assert changed(saved, {name: trained[name] for name in saved}) == set()
    own = tiny_transformer().state_dict()
    name = "blocks.0.attn1.to_q"
    assert trained[f"transformer.{name}.base_layer.weight"].equal(own[f"{name}.weight"])
    exported = dict(load_model(tmp_path / "run" / "model").state_dict())
    assert changed(trained, exported) == set()


def test_a_run_in_bf16_keeps_what_trains_in_float32_and_draws(
    data: Path, base: dict[str, str], tmp_path: Path
) -> None:
    settings = {"enabled": True, "num_videos": 1, "num_samples": 1}
    options = base | {"mixed_precision": "bf16", "sample_steps": 1, "validation": settings}
    snapshot = run(small_config(data, tmp_path / "run", max_steps=1, **options))
    assert {value.dtype for value in snapshot.weights.values()} <= {torch.float32, torch.bfloat16}
    streams = [value for name, value in weights(snapshot).items() if group_of(name) == "vace_e"]
    assert {value.dtype for value in streams} == {torch.float32}
    words = f"sample vace_e {tmp_path / 'run'} --data {data} --out {tmp_path} --num 1 --steps 1 --device cpu"
    assert main(words.split()) == 0
    words = f"--checkpoint {tmp_path / 'run'} --test_data {data} --output_dir {tmp_path} --device cpu"
    assert main(["evaluate", "vace_e", *words.split()]) == 0


def test_a_trained_base_is_exported_in_the_layout_of_diffusers(
    data: Path, base: dict[str, str], tmp_path: Path
) -> None:
    stages = {"a": {"trainable_models": "dit", "learning_rate": 1e-3}}
    snapshot = run(small_config(data, tmp_path, training_stages=stages, **base))
    exported = WanVACETransformer3DModel.from_pretrained(tmp_path / "model" / "transformer").state_dict()
    dit = {name: value for name, value in weights(snapshot).items() if group_of(name) == "dit"}
    assert dit
    for name, value in dit.items():
        assert value.equal(exported[name.removeprefix("transformer.")])


def test_once_cached_the_frozen_networks_are_not_needed(
    data: Path, base: dict[str, str], tmp_path: Path
) -> None:
    cache = {"cache_path": str(tmp_path / "cache")}
    first = small_config(data, tmp_path / "first", max_steps=2, **base, **cache)
    run(first)
    wan = Path(base["base_model"])
    hidden = [(wan / part, tmp_path / part) for part in ("vae", "text_encoder")]
    for here, there in hidden:
        here.rename(there)
    try:
        second = small_config(data, tmp_path / "second", max_steps=2, **base, **cache)
        run(second)
    finally:
        for here, there in hidden:
            there.rename(here)
    assert losses(first) == losses(second)
    assert LatentCache(tmp_path / "cache").size_bytes() > 0


def test_prompts_are_cached_at_their_real_length_and_attended_at_full_length(
    data: Path, base: dict[str, str], tmp_path: Path
) -> None:
    from tacit_learning.vace_e.assembly import make_inputs, make_networks
    from tacit_learning.vace_e.data.dataset import VaceEDataset

    config = small_config(data, tmp_path, use_cache=False, **base)
    inputs = make_inputs(config, VaceEDataset(config), make_networks(config, torch.device("cpu")))
    tokens, clips = inputs.text_tokens(0), inputs.clips([0])
    assert 5 < len(tokens) < 100
    assert clips.text.shape == (1, 512, 32) and not clips.text[0, len(tokens) :].any()
    assert clips.signals.text.shape[1] == int(clips.signals.text_mask.sum()) == len(tokens)


def test_a_folder_that_is_no_base_model_is_refused_before_anything_is_read(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ConfigError, match="expected the layout of diffusers"):
        run(small_config(data, tmp_path / "run", base_model=str(tmp_path / "wrong")))
