"""Command-line words: keys, and the flags of the original notes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tacit.config import load
from tacit.errors import ConfigError
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.cli import MODELS, _options_of, train
from tacit_learning.config_help import groups_of
from tacit_learning.options import overrides

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


def flags_of_the_readme() -> tuple[list[str], list[str]]:
    """Return the flags that learning/README.md promises to accept, and those that it says do nothing."""
    text = (CONFIGS.parent / "README.md").read_text()
    section = text.partition("### Flags of the original notes")[2].partition("\n## ")[0]
    accepted, _, others = section.partition("are accepted")
    return re.findall(r"--(\w+)", accepted), re.findall(r"--(\w+)", others)


def test_every_flag_that_the_readme_promises_is_accepted_and_no_other_is_silent() -> None:
    accepted, without_effect = flags_of_the_readme()
    assert len(accepted) > 15 and len(without_effect) == 2
    texts = {"wrist_camera", "ckpt_dir", "task_name", "resume_ckpt_path"}
    for flag in accepted:
        value = [] if flag == "enable_hsa" else ["some" if flag in texts else "3"]
        without_hsa = ["hsa.weight=0"]
        changed = load(ActHsaConfig, CONFIGS / "act_hsa.yaml", without_hsa + overrides([f"--{flag}", *value]))
        assert changed != load(ActHsaConfig, CONFIGS / "act_hsa.yaml", without_hsa), flag
    for flag in without_effect:
        with pytest.raises(ConfigError, match="leave the flag out"):
            overrides([f"--{flag}", "3"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[!s]*.yaml")), ids=lambda path: path.name)
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


@pytest.mark.parametrize("kind", MODELS)
def test_the_help_of_a_model_lists_every_key_with_the_default_that_loading_gives(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train([kind, "--help"]) == 0
    text = capsys.readouterr().out
    keys = {key.path: key for group in groups_of(_options_of(kind)) for key in group.keys}
    assert all(path in text for path in keys)
    assert "Annotated" not in text and "NoneType" not in text
    if kind == "act_hsa":
        assert (keys["train.lr"].default, keys["train.lr"].values) == (
            "2e-05",
            "number >= 0 <= 10 [per step]",
        )
        assert keys["train.max_seconds"].values.endswith("[s]")
        assert (keys["data.datasets"].default, keys["data.only_success"].default) == ("required", "true")
