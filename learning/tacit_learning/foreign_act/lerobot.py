"""Read an ACT policy of LeRobot: `config.json`, `model.safetensors`, and its processors where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tacit.bundle.player import PlaySpec
from tacit.config import load_json
from tacit.config.documents import inside
from tacit.errors import ConfigError
from tacit_learning.foreign_act.policy import DEVIATIONS, Imported, scale_of
from tacit_learning.foreign_act.weights import LEROBOT_NAMES, network_of, renamed, shape_of
from tacit_learning.layers.transformer import NormOrder

STATE, ACTION = "observation.state", "action"
IMAGES = "observation.images."
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
HARMLESS = ("rename_observations_processor", "to_batch_processor", "device_processor")
NORMALIZERS = ("normalizer_processor", "unnormalizer_processor")

Statistics = dict[str, dict[str, Tensor]]


def read_lerobot(folder: Path) -> Imported:
    """Return the policy of a folder.

    Raises:
        ConfigError: No ACT policy, one of another build than is known here, or damaged files.
    """
    folder = folder if (folder / "config.json").is_file() else folder / "pretrained_model"
    where = folder / "config.json"
    config = load_json(where, ConfigError)
    _require_known(config, str(where))
    tensors = _tensors(folder / "model.safetensors")
    stats = _processor_statistics(folder) or _old_statistics(tensors)
    modes = config.get("normalization_mapping") or {}
    weights = renamed(tensors, LEROBOT_NAMES)
    order: NormOrder = "pre" if config.get("pre_norm") else "post"
    source = str(folder / "model.safetensors")
    shape = shape_of(weights, int(config.get("n_heads", 8)), order, source)
    pictures = {}
    for key, size in _pictures(config, str(where)).items():
        scale = scale_of(str(modes.get("VISUAL", "IDENTITY")), stats.get(key, {}), f"{folder}: {key}")
        pictures[key.removeprefix(IMAGES)] = (scale, size)
    state = stats.get(STATE, {})
    low, high = _range(state, shape.state)
    return Imported(
        network=network_of(weights, shape, source),
        state=scale_of(str(modes.get("STATE", "IDENTITY")), state, f"{folder}: {STATE}"),
        action=scale_of(str(modes.get("ACTION", "IDENTITY")), stats.get(ACTION, {}), f"{folder}: {ACTION}"),
        pictures=pictures,
        state_min=low,
        state_max=high,
        play=_play(config, shape.chunk),
        told={"trained_by": "lerobot", "policy": "act"},
    )


def _require_known(config: Mapping[str, Any], where: str) -> None:
    """Refuse what would give other actions than LeRobot computes."""
    known = {
        "type": "act",
        "n_obs_steps": 1,
        "feedforward_activation": "relu",
        "replace_final_stride_with_dilation": False,
    }
    for name, value in known.items():
        found = config.get(name, value)
        if found != value:
            raise ConfigError(
                f"{where}: {name}: {found!r}, expected {value!r}; only such policies can be run"
            )
    inputs = config.get("input_features")
    if not isinstance(inputs, dict):
        raise ConfigError(f"{where}: input_features: expected an object by name")
    for key, told in inputs.items():
        kind = told.get("type") if isinstance(told, dict) else None
        if (kind, key) != ("STATE", STATE) and kind != "VISUAL":
            raise ConfigError(
                f"{where}: input_features.{key}: {kind}; a rig gives its state and pictures alone"
            )


def _pictures(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, int]]:
    """Return (height, width) of each picture that the policy reads, in its order."""
    found = {}
    for key, told in config["input_features"].items():
        if told["type"] != "VISUAL":
            continue
        shape = told.get("shape")
        if not isinstance(shape, list) or len(shape) != 3 or shape[0] != 3:
            raise ConfigError(f"{where}: input_features.{key}.shape: {shape!r}, expected [3, height, width]")
        found[key] = (int(shape[1]), int(shape[2]))
    return found


def _play(config: Mapping[str, Any], chunk: int) -> PlaySpec:
    """Return how LeRobot plays the chunks of this policy."""
    decay = config.get("temporal_ensemble_coeff")
    if decay is not None:
        return PlaySpec(mode="temporal_ensemble", decay=float(decay))
    played = int(config.get("n_action_steps", chunk))
    if played >= chunk:
        return PlaySpec(mode="open_loop")
    return PlaySpec(mode="replace", every_ticks=played)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; copy the whole folder of the policy") from None
    except (SafetensorError, OSError, ValueError) as problem:
        raise ConfigError(f"{path}: damaged, or no safetensors ({problem})") from None


def _processor_statistics(folder: Path) -> Statistics:
    """Return the statistics that stand beside the policy; of its last word on actions, for the outputs."""
    found: Statistics = {}
    for name in (PREPROCESSOR, POSTPROCESSOR):
        path = folder / name
        if not path.is_file():
            continue
        for step in load_json(path, ConfigError).get("steps", []):
            kind = str(step.get("registry_name"))
            if kind not in (*HARMLESS, *NORMALIZERS):
                raise ConfigError(
                    f"{path}: step {kind[:60]!r} is not known, and leaving it out would change what "
                    "the policy sees or does"
                )
            if kind == HARMLESS[0] and step.get("config", {}).get("rename_map"):
                raise ConfigError(
                    f"{path}: renames observations; train or save the policy without a rename_map"
                )
            if kind in NORMALIZERS and step.get("state_file"):
                where = inside(folder, str(step["state_file"]), str(path), ConfigError)
                for key, value in _tensors(where).items():
                    feature, _, statistic = key.rpartition(".")
                    found.setdefault(feature, {})[statistic] = value
    return found


def _old_statistics(tensors: Mapping[str, Tensor]) -> Statistics:
    """Return the statistics that policies before LeRobot 0.4 keep among their weights."""
    found: Statistics = {}
    for prefix in ("normalize_inputs.buffer_", "normalize_targets.buffer_", "unnormalize_outputs.buffer_"):
        for key, value in tensors.items():
            if key.startswith(prefix):
                feature, _, statistic = key.removeprefix(prefix).rpartition(".")
                name = feature.replace("_", ".") if feature.count("_") < 2 else _image_key(feature)
                found.setdefault(name, {})[statistic] = value
    return found


def _image_key(feature: str) -> str:
    """Return the key that LeRobot wrote with `_` for `.`; names of cameras keep their own."""
    return IMAGES + feature.removeprefix("observation_images_")


def _range(stats: Mapping[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Return the range of the state: what was seen, else what its mean and deviation make likely."""
    if "min" in stats and "max" in stats:
        return stats["min"].float(), stats["max"].float()
    mean = stats.get("mean", torch.zeros(size)).float()
    around = DEVIATIONS * stats.get("std", torch.ones(size)).float()
    return mean - around, mean + around
