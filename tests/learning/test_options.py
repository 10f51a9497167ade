"""Command-line words: keys, and the flags of the original notes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tacit.config import load
from tacit.errors import ConfigError
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.cli import MODELS, train
from tacit_learning.options import ALIASES, overrides

CONFIGS = Path(__file__).parents[2] / "learning" / "configs"


def test_three_spellings_mean_the_same() -> None:
    expected = ["train.steps=3"]
    assert overrides(["train.steps=3"]) == expected
    assert overrides(["--train.steps", "3"]) == expected
    assert overrides(["--train.steps=3"]) == expected


def test_flags_of_the_notes_reach_their_keys() -> None:
    words = "--enable_hsa --hsa_weight 0.5 --chunk_size 45 --lr 2e-5 --wrist_camera wrist --ckpt_dir out"
    config = load(ActHsaConfig, CONFIGS / "act_hsa.yaml", overrides(words.split()))
    assert config.hsa.weight == 0.5
    assert config.model.chunk_size == 45
    assert config.train.lr == 2e-5
    assert config.hsa.cameras == ("wrist",)
    assert config.train.output == "out"


def test_enable_hsa_alone_switches_it_on() -> None:
    assert overrides(["--enable_hsa"]) == ["hsa.weight=1.0"]


def test_plain_keys_win_over_flags() -> None:
    assert overrides(["train.lr=1", "--lr", "2"])[-1] == "train.lr=1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hsa_weight"], "expected a value"),
        (["steps"], "expected key.path=value"),
        (["--steps", "3"], "unknown flag"),
        (["--temporal_agg"], "when the policy runs"),
    ],
)
def test_wrong_words_say_what_to_do(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overrides(words)


def test_every_alias_points_at_an_existing_key() -> None:
    config = load(ActHsaConfig, CONFIGS / "act_hsa.yaml")
    for key in ALIASES.values():
        section, name = key.split(".")
        assert name in type(getattr(config, section)).model_fields


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_load_and_say_how_to_use_them(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# tacit train ")
    assert path.name in first
    kind = first.split()[3]
    module, _, name = MODELS[kind].config.partition(":")
    assert load(getattr(importlib.import_module(module), name), path).kind == kind


def test_a_mistyped_key_is_named_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_seconds'"):
        train(["act_hsa", "--config", str(CONFIGS / "act_hsa_demo.yaml"), "train.max_second=3"])
