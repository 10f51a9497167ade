"""A trained model as a folder of safetensors: adapters always, base weights where they were trained.

`model.json` holds the sizes; `vace_e.safetensors` encoders, fusion and projections;
`lora_<name>.safetensors` is in the layout that `load_lora_weights` of diffusers reads; `transformer`
is a base that `WanVACETransformer3DModel.from_pretrained` reads.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tacit.config import Config, load_json, parse
from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import ModelConfig
from tacit_learning.vace_e.model.loading import VACE_CLASS, load_base
from tacit_learning.vace_e.model.lora import LoraBase, apply_lora, lora_rank_and_targets
from tacit_learning.vace_e.model.vace_e import VaceE, group_of

MODEL_FILE, STREAMS_FILE = "model.json", "vace_e.safetensors"
BASE_FOLDER, BASE_WEIGHTS = "transformer", "diffusion_pytorch_model.safetensors"
BASE_GROUPS = ("dit", "vace")
PREFIX = "transformer."


Adapters = dict[str, tuple[Path, dict[str, Tensor]]]
"""Group of parameters -> the file, and its tensors by the names of the model."""


class LoraRecord(Config):
    """One set of low-rank adapters."""

    base: LoraBase
    rank: int
    targets: tuple[str, ...]


class ModelRecord(Config):
    """What `model.json` holds; `base` is where base weights that were not trained came from."""

    model: ModelConfig
    with_streams: bool
    loras: tuple[LoraRecord, ...] = ()
    base: str | None = None


def save_model(
    model: VaceE,
    folder: Path,
    base: str | None,
    trained: Collection[str],
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a folder that `load_model` reads.

    Args:
        model: Any mixture of number types; each tensor keeps its own.
        folder: Made if missing.
        base: Where untrained base weights came from.
        trained: Groups that were trained; base weights are written when `dit` or `vace` is among them.
        weights: Whole weights by their names in the model, where it is sharded; None: its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_adapters(model, folder, base, weights)
    if set(trained) & set(BASE_GROUPS):
        save_base(model, folder / BASE_FOLDER, weights)


def save_adapters(
    model: VaceE, folder: Path, base: str | None = None, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write everything but base weights: sizes, streams, low-rank adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = _grouped(model, weights)
    loras = []
    for name in sorted(group.removeprefix("lora:") for group in groups if group.startswith("lora:")):
        rank, targets = lora_rank_and_targets(model.transformer, name)
        loras.append(LoraRecord.model_validate({"base": name, "rank": rank, "targets": targets}))
        tensors = {_lora_key(key, name): value for key, value in groups[f"lora:{name}"].items()}
        save_file(tensors, folder / f"lora_{name}.safetensors", {"format": "pt"})
    if "vace_e" in groups:
        save_file(groups["vace_e"], folder / STREAMS_FILE, {"format": "pt"})
    record = ModelRecord(
        model=model.config, with_streams=model.encoders is not None, loras=tuple(loras), base=base
    )
    (folder / MODEL_FILE).write_text(record.model_dump_json(indent=2), encoding="utf-8")


def save_base(model: VaceE, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the base weights in the layout of diffusers, without streams and adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = _grouped(model, weights)
    tensors = {
        key.removeprefix(PREFIX).replace(".base_layer.", "."): value
        for group in BASE_GROUPS
        for key, value in groups[group].items()
    }
    save_file(tensors, folder / BASE_WEIGHTS, {"format": "pt"})
    values = {key: value for key, value in dict(model.transformer.config).items() if not key.startswith("_")}
    text = json.dumps({"_class_name": VACE_CLASS} | values, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text, encoding="utf-8")


def load_model(folder: Path, base: str | None = None, dtype: torch.dtype = torch.float32) -> VaceE:
    """Build a saved model.

    Args:
        folder: Written by `save_model` or `save_adapters`.
        base: Where base weights lie that the folder does not hold; None: where they lay when it was saved.
        dtype: Number type of the base weights.

    Raises:
        ConfigError: Not such a folder, a weight missing or of another shape, or no base weights.
    """
    record = read_record(folder)
    place = str(folder) if (folder / BASE_FOLDER).is_dir() else base or record.base
    if place is None:
        raise ConfigError(f"{folder}: holds adapters alone; give the folder or hub id of their base weights")
    transformer = load_base(place, record.model.backbone, dtype)
    model = VaceE(record.model, transformer, record.with_streams)
    load_adapters(model, folder)
    return model


def load_adapters(model: VaceE, folder: Path) -> None:
    """Put saved streams and low-rank adapters into a model; adapters that it lacks are added.

    Raises:
        ConfigError: Saved for other sizes: the message names the first weight that does not fit.
    """
    record = read_record(folder)
    for group, (path, saved) in _read_loras(model, folder, record).items():
        _fill(model, saved, group, path)
    if record.with_streams:
        _fill(model, _read(folder / STREAMS_FILE), "vace_e", folder / STREAMS_FILE)


class AdapterSets:
    """Low-rank adapters of other runs, such as one of each task: a model draws with one set at a time.

    Args:
        model: Changed in place; parts that have no adapters get some without effect.
        folders: Name -> a run, or its folder `model`.

    Raises:
        ConfigError: A folder without low-rank adapters, or with some of another size.
    """

    def __init__(self, model: VaceE, folders: Mapping[str, Path]) -> None:
        self.model = model
        self._sets: dict[str | None, Adapters] = {}
        for name, folder in folders.items():
            place = folder if (folder / MODEL_FILE).is_file() else folder / "model"
            self._sets[name] = _read_loras(model, place, read_record(place))
            if not self._sets[name]:
                raise ConfigError(f"{place}: no low-rank adapters in it; its run had no lora_base_model")
        groups = {group for each in self._sets.values() for group in each}
        self._sets[None] = {
            group: (Path("own"), {name: value.clone() for name, value in _grouped(model)[group].items()})
            for group in groups
        }

    def use(self, name: str | None) -> None:
        """Put a set into the model; None: the adapters that it had itself."""
        for group, (path, saved) in (self._sets[None] | self._sets[name]).items():
            _fill(self.model, saved, group, path)


def read_record(folder: Path) -> ModelRecord:
    """Read `model.json`.

    Raises:
        ConfigError: No such file, or not ours.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise ConfigError(f"{folder}: no {MODEL_FILE} there; expected a folder with saved adapters")
    return parse(ModelRecord, load_json(path), str(path))


def _read_loras(model: VaceE, folder: Path, record: ModelRecord) -> Adapters:
    """Read the low-rank adapters of a folder; a model that has none in their place gets some."""
    found: Adapters = {}
    for lora in record.loras:
        if f"lora:{lora.base}" not in _grouped(model):
            apply_lora(model.transformer, lora.base, lora.rank, lora.targets)
        path = folder / f"lora_{lora.base}.safetensors"
        saved = {_parameter_name(key, lora.base): value for key, value in _read(path).items()}
        found[f"lora:{lora.base}"] = (path, saved)
    return found


def _fill(model: VaceE, saved: Mapping[str, Tensor], group: str, path: Path) -> None:
    """Copy tensors into the parameters of one group, all of them and no others."""
    own = _grouped(model).get(group, {})
    odd = sorted(set(own) ^ set(saved)) + sorted(
        name for name in set(own) & set(saved) if own[name].shape != saved[name].shape
    )
    if odd:
        name = odd[0]
        there = tuple(saved[name].shape) if name in saved else "missing"
        here = tuple(own[name].shape) if name in own else "no such weight"
        raise ConfigError(f"{path}: {len(odd)} weights do not fit; {name}: saved {there}, this model {here}")
    with torch.no_grad():
        for name, value in saved.items():
            own[name].copy_(value)


def _grouped(model: VaceE, weights: Mapping[str, Tensor] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return group -> name -> parameter, with the values of `weights` where they are given."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach() if weights is None else weights[name]
        groups.setdefault(group_of(name), {})[name] = value
    return groups


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; the folder is not whole")
    return load_file(path)


def _lora_key(name: str, adapter: str) -> str:
    """transformer.blocks.0.attn1.to_q.lora_A.dit.weight -> ... .lora_A.weight."""
    return name.replace(f".lora_A.{adapter}.", ".lora_A.").replace(f".lora_B.{adapter}.", ".lora_B.")


def _parameter_name(key: str, adapter: str) -> str:
    return key.replace(".lora_A.", f".lora_A.{adapter}.").replace(".lora_B.", f".lora_B.{adapter}.")
