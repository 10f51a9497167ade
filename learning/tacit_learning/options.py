"""From command-line words to configuration overrides, with the original notes' flags as aliases.

`data.cache=ram`, `--data.cache ram` and `--data.cache=ram` mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from tacit.errors import ConfigError

# flag of the original notes -> key; see the table in the README
ALIASES: dict[str, str] = {
    "hsa_weight": "hsa.weight",
    "hsa_temperature": "hsa.temperature",
    "hsa_feature_dim": "hsa.feature_dim",
    "wrist_camera": "hsa.cameras",
    "ckpt_dir": "train.output",
    "task_name": "data.datasets",
    "batch_size": "train.batch_size",
    "num_steps": "train.steps",
    "lr": "train.lr",
    "kl_weight": "loss.kl_weight",
    "chunk_size": "model.chunk_size",
    "hidden_dim": "model.dim",
    "dim_feedforward": "model.feedforward",
    "validate_every": "train.validate_every",
    "save_every": "train.save_every",
    "seed": "train.seed",
    "resume_ckpt_path": "train.resume",
}
IN_LISTS = ("data.datasets", "hsa.cameras")  # keys whose alias takes one name for a list of one
ENABLE_HSA_WEIGHT = "1.0"
NO_EFFECT: dict[str, str] = {
    "temporal_agg": "ensembling is chosen when the policy runs, not when it is trained",
    "robot_type": "the rig is read from the episodes",
    "hsa_img_size": "HSA reads the policy's own tokens; set data.image_height and data.image_width",
}


def overrides(words: Sequence[str]) -> list[str]:
    """Translate words to `key.path=value`; aliases come first, so that plain keys win.

    Raises:
        ConfigError: A word is neither `key=value` nor a flag with a value, or has no effect here.
    """
    aliased: list[str] = []
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            plain.append(_assignment(word))
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_") if "." not in name else name
        if name in NO_EFFECT:
            raise ConfigError(f"--{name}: {NO_EFFECT[name]}; leave the flag out")
        if name == "enable_hsa":
            aliased.insert(0, f"hsa.weight={ENABLE_HSA_WEIGHT}")
            continue
        if not equals:
            value = _value(name, rest)
        key = ALIASES.get(name, name)
        if "." not in key:
            raise ConfigError(f"--{name}: unknown flag; write key.path=value, for example train.steps=1000")
        wrapped = f"[{value}]" if name in ALIASES and key in IN_LISTS else value
        (aliased if name in ALIASES else plain).append(f"{key}={wrapped}")
    return [*aliased, *plain]


def _assignment(word: str) -> str:
    if "=" not in word:
        raise ConfigError(f"{word!r}: expected key.path=value, for example train.steps=1000")
    return word


def _value(name: str, rest: list[str]) -> str:
    if not rest or rest[0].startswith("--"):
        raise ConfigError(f"--{name}: expected a value after it")
    return rest.pop(0)
