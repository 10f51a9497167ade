"""From command-line words to configuration overrides, with the original notes' flags as aliases.

`data.cache=ram`, `--data.cache ram` and `--data.cache=ram` mean the same. Each model has a table of
flags; where a model's options are one flat list, every key is a flag (`--learning-rate 1e-4`, bare
`--debug`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tacit.errors import ConfigError

DATA = Path("data")
PLACES = (Path(__file__).parents[1] / "configs", Path(sys.prefix) / "share/tacit/configs")
CONFIGS = next((place for place in PLACES if place.is_dir()), PLACES[0])
"""Of the checkout, else of the installed wheel."""


@dataclass(frozen=True)
class Flags:
    """What the words of one model mean.

    Attributes:
        aliases: Flag, or the name that a key had before -> key.
        in_lists: Keys whose alias takes one name for a list of one.
        folders: Keys whose alias also takes the name of a folder in `data/`.
        versions: Value of `--version` -> the assignments that it stands for.
        switches: Flag without a value -> assignment.
        no_effect: Flag -> why it does nothing here.
        everywhere: Key -> keys of sections that it sets too, where they have a value of their own.
        flat: Every key without a dot is a flag, and a flag without a value means true.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    in_lists: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)
    no_effect: Mapping[str, str] = field(default_factory=dict)
    everywhere: Mapping[str, str] = field(default_factory=dict)
    flat: bool = False


TRAINING: dict[str, str] = {
    "batch_size": "train.batch_size",
    "num_steps": "train.steps",
    "lr": "train.lr",
    "seed": "train.seed",
    "resume_ckpt_path": "train.resume",
}
# flag of the original notes -> key; see the table in the README
ALIASES: dict[str, str] = {
    **TRAINING,
    "hsa_weight": "hsa.weight",
    "hsa_temperature": "hsa.temperature",
    "hsa_feature_dim": "hsa.feature_dim",
    "wrist_camera": "hsa.cameras",
    "ckpt_dir": "train.output",
    "task_name": "data.datasets",
    "kl_weight": "loss.kl_weight",
    "chunk_size": "model.chunk_size",
    "hidden_dim": "model.dim",
    "dim_feedforward": "model.feedforward",
    "validate_every": "train.validate_every",
    "save_every": "train.save_every",
}
ACT_HSA = Flags(
    aliases=ALIASES,
    in_lists=("data.datasets", "hsa.cameras"),
    switches={"enable_hsa": "hsa.weight=1.0"},
    no_effect={
        "temporal_agg": "ensembling is chosen when the policy runs, not when it is trained",
        "robot_type": "the rig is read from the episodes",
        "hsa_img_size": "HSA reads the policy's own tokens; set data.image_height and data.image_width",
    },
)
VACE_E = Flags(
    aliases={
        "base_path": "dataset_base_path",
        "vram_optimization": "vram_optimization.enabled",
        "cpu_offload": "vram_optimization.cpu_offload",
        "offload_optimizer": "vram_optimization.offload_optimizer",
        "gradient_compression": "vram_optimization.gradient_compression",
        "wandb_project": "logging.wandb_project",
        "experiment_name": "logging.experiment_name",
        "log_frequency": "logging.log_frequency",
        "save_model_artifacts": "logging.save_model_artifacts",
    },
    everywhere={"learning_rate": "training_stages.*.learning_rate", "num_epochs": "training_stages.*.epochs"},
    no_effect={
        "trainable_models": "a stage names what trains: give --training_stages.<stage>.trainable_models",
        "model_id_with_origin_paths": "base_model and image_encoder name folders or hub ids in the layout of "
        "diffusers",
        "num_workers": "one thread reads a batch ahead, from the cache",
        "remove_prefix_in_ckpt": "the folder model/ of a run has the names of diffusers and peft",
        "cfg_scale": "training has guidance_scale, for the videos that it draws",
    },
    flat=True,
)
ALIGNMENT = Flags(
    aliases={
        "version": "train.output",
        "use_conv": "progress.learnable.use_conv",
        "dataset": "data.folder",
        "loss_type": "losses.loss_type",
        "progress_loss": "progress.method",
        "progress_lambda": "progress.lambda_fixed",
        "use_gru": "progress.learnable.use_gru",
        **TRAINING,
    },
    folders=("data.folder",),
    versions={
        str(number): (
            f"progress.recipe=v{number}",
            "progress.level=action",
            f"train.output=runs/alignment_v{number}",
        )
        for number in (1, 2, 3, 4)
    },
    no_effect={
        "use_position_encoding": "positions in a prefix are recipe v3; set progress.recipe=v3",
        "checkpoint_type": "a run keeps both; choose one in `tacit evaluate alignment --checkpoint`",
    },
)
PROGRESS = Flags(
    aliases={
        "ckpt_dir": "train.output",
        "task_name": "data.episodes.datasets",
        "data.datasets": "data.episodes.datasets",
        "encoder.checkpoint": "data.frames.checkpoint",
        "encoder.backbone": "data.frames.backbone",
        **TRAINING,
    },
    in_lists=("data.episodes.datasets",),
)
TABLES: dict[str, Flags] = {
    "act_hsa": ACT_HSA,
    "alignment": ALIGNMENT,
    "progress": PROGRESS,
    "vace_e": VACE_E,
}


def overrides(words: Sequence[str], flags: Flags = ACT_HSA) -> list[str]:
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
            plain.append(_assignment(word, flags))
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_") if flags.flat or "." not in name else name
        if name in flags.no_effect:
            raise ConfigError(f"--{name}: {flags.no_effect[name]}; leave the flag out")
        if name in flags.switches:
            aliased.insert(0, flags.switches[name])
            continue
        key = flags.aliases.get(name, name)
        if "." not in key and not flags.flat:
            raise ConfigError(f"--{name}: unknown flag; write key.path=value, for example train.steps=1000")
        if not equals:
            value = _value(name, rest, flags.flat)
        if name == "version" and value in flags.versions:
            aliased[:0] = flags.versions[value]
            continue
        if name in flags.aliases and key in flags.folders and not Path(value).exists():
            value = str(DATA / value) if (DATA / value).is_dir() else value
        is_one_name = name in flags.aliases and key in flags.in_lists and "." not in name
        wrapped = f"[{value}]" if is_one_name else value
        (aliased if name in flags.aliases else plain).append(f"{key}={wrapped}")
    return [*_in_sections([*aliased, *plain], flags), *aliased, *plain]


def _in_sections(assignments: Sequence[str], flags: Flags) -> list[str]:
    """Return what assignments mean for sections that have a value of their own."""
    pairs = (each.partition("=") for each in assignments)
    return [f"{flags.everywhere[key]}={value}" for key, _, value in pairs if key in flags.everywhere]


def find_config(path: Path, folder: Path = CONFIGS) -> Path:
    """Return the file that a path or the name of a shipped configuration means.

    `vace_e_dev` and `vace_e_dev.yaml` are found in `folder` where no such file lies here.
    """
    candidates: Iterable[Path] = (path, folder / path.name, folder / f"{path.name}.yaml")
    is_name = path.parent == Path(".")
    return next((each for each in candidates if each.is_file() and (is_name or each == path)), path)


def _assignment(word: str, flags: Flags) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"{word!r}: expected key.path=value, for example train.steps=1000")
    return f"{flags.aliases.get(key, key)}={value}"


def _value(name: str, rest: list[str], is_switch: bool) -> str:
    """Take the value after a flag; a switch without one means true."""
    if rest and not rest[0].startswith("--") and not (is_switch and _is_assignment(rest[0])):
        return rest.pop(0)
    if is_switch:
        return "true"
    raise ConfigError(f"--{name}: expected a value after it")


def _is_assignment(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and key.replace(".", "").replace("_", "").isalnum()
