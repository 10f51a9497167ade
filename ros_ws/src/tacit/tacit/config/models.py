"""Typed configuration: the pydantic base, YAML in and out, and messages that name the mistake.

Every file from outside goes through `parse`, so a typo ends in "unknown key ... did you mean ...",
never in a value that is silently ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tacit.config.documents import (
    MAX_JSON_BYTES,
    MAX_YAML_BYTES,
    json_mapping,
    read_text,
    yaml_mapping,
    yaml_of,
)
from tacit.errors import ConfigError, TacitError, did_you_mean

MAX_PROBLEMS, LINE_LENGTH, NAME_LENGTH = 20, 600, 100
"""Of a file that is wrong everywhere, nobody reads more."""
ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Config(BaseModel):
    """Base of every configuration model: frozen; unknown keys, NaN and infinity are errors."""

    # A limit that is not a number compares as neither exceeded nor kept: what it guards would be open.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


def load_yaml(path: str | Path, error: type[ConfigError] = ConfigError) -> dict[str, Any]:
    """Read one YAML mapping with the safe loader, within the limits of `tacit.config.documents`.

    Args:
        path: The file.
        error: The error class to raise.

    Raises:
        ConfigError: The file is missing, is not YAML, is beyond the limits, or holds no mapping.
    """
    text = read_text(path, MAX_YAML_BYTES, "YAML", error)
    return yaml_mapping(text, str(path), error)


def load_json(path: str | Path, error: type[TacitError] = ConfigError) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `load_yaml` does.

    Raises:
        TacitError: An error of class `error`: the file is missing, is not JSON, or holds no object.
    """
    text = read_text(path, MAX_JSON_BYTES, "JSON", error)
    return json_mapping(text, str(path), error)


def parse(
    model: type[ConfigT], data: Mapping[str, Any], source: str, error: type[ConfigError] = ConfigError
) -> ConfigT:
    """Validate `data` as `model`.

    Args:
        model: The pydantic class.
        data: Parsed YAML or JSON.
        source: Where the data came from; starts every line of the message.
        error: The error class to raise.

    Raises:
        ConfigError: One line per problem: source, key path, what is wrong, what was expected.
    """
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        found = problem.errors()
        lines = [_describe(model, dict(item), source)[:LINE_LENGTH] for item in found[:MAX_PROBLEMS]]
        more = [f"{source}: and {len(found) - MAX_PROBLEMS} more"] if len(found) > MAX_PROBLEMS else []
        raise error("\n".join(lines + more)) from None


def load(
    model: type[ConfigT],
    path: str | Path,
    overrides: Iterable[str] = (),
    error: type[ConfigError] = ConfigError,
) -> ConfigT:
    """Read a YAML file as `model`, after applying `key.path=value` overrides."""
    data = apply_overrides(load_yaml(path, error), overrides)
    return parse(model, data, str(path), error)


def save(config: BaseModel, path: str | Path) -> None:
    """Write `config` as YAML with its keys in the order of the class."""
    Path(path).write_text(to_yaml(config), encoding="utf-8")


def to_yaml(config: BaseModel) -> str:
    """Return `config` as YAML text that `load` reads back to an equal model."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=120)


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `data` with each `a.b=value` set; values are read as YAML. In `a.*.b=value` the star
    stands for every section that `a` has.

    Raises:
        ConfigError: An override has no `=` or goes through a value that is not a mapping.
    """
    result = _copy(data)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"override {override!r}: expected key.path=value")
        nodes = [result]
        *parents, last = key.split(".")
        for name in parents:
            nodes = [child for node in nodes for child in _sections(node, name, override, "*" in parents)]
        for node in nodes:
            node[last] = yaml_of(text, f"override {key}")
    return result


def _sections(node: dict[str, Any], name: str, override: str, is_pattern: bool) -> list[dict[str, Any]]:
    """Return the section of a name, made if need be; `*`: all there are, and a pattern makes none."""
    if name == "*":
        return [child for child in node.values() if isinstance(child, dict)]
    if is_pattern and name not in node:
        return []
    child = node.setdefault(name, {})
    if not isinstance(child, dict):
        raise ConfigError(f"override {override!r}: {name!r} is a value, not a section")
    return [child]


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in data.items()}


def _describe(model: type[BaseModel], item: dict[str, Any], source: str) -> str:
    """Turn one pydantic error into a line of ours."""
    location = item["loc"]
    path = ".".join(str(part)[:NAME_LENGTH] for part in location) or "(top)"
    if item["type"] == "extra_forbidden":
        fields = {f: None for owner in _models_at(model, location[:-1]) for f in owner.model_fields}
        return f"{source}: {path}: unknown key; {did_you_mean(str(location[-1])[:NAME_LENGTH], fields)}"
    if item["type"] == "missing":
        return f"{source}: {path}: required key is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{source}: {path}: {message}"
    return f"{source}: {path}: {message}, found {item['input']!r:.80}"


def _models_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """Follow a pydantic error location, through models, mappings and lists, to the models that may stand
    there."""
    owners: list[type[BaseModel]] = [model]
    annotation: object = model
    for part in location:
        if owners:
            fields = [owner.model_fields[str(part)] for owner in owners if str(part) in owner.model_fields]
            annotation = fields[0].annotation if fields else None
        else:
            annotation = _element(annotation)
        annotation = _present(annotation)
        owners = [] if get_origin(annotation) in (dict, list, tuple) else _all_models(annotation)
    return owners


def _present(annotation: object) -> object:
    """Return X of `X | None`, else the annotation as it is."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    is_optional = len(options) == 1 and type(None) in get_args(annotation)
    return options[0] if is_optional else annotation


def _element(annotation: object) -> object:
    """Return what a dict, list or tuple holds: the last argument that is not an ellipsis."""
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    return arguments[-1] if arguments else None


def _all_models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _all_models(argument)]
