"""Node parameters as a frozen dataclass: declared, described, typed and checked at one place.

@dataclass(frozen=True)
class RecorderParameters:
    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")

settings = declare(node, RecorderParameters)
"""

from __future__ import annotations

import dataclasses
import typing
from typing import TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from tacit.errors import ConfigError, did_you_mean

SettingsT = TypeVar("SettingsT")
Value = str | int | float | bool


def parameter(default: Value, description: str, *, choices: tuple[str, ...] = ()) -> typing.Any:
    """Describe one field of a parameter dataclass.

    Args:
        default: Its value when nothing is given; its type is the type of the parameter.
        description: Shown by `ros2 param describe` and in error messages.
        choices: The valid strings, if they are few.
    """
    return dataclasses.field(default=default, metadata={"description": description, "choices": choices})


def declare(node: Node, settings_class: type[SettingsT]) -> SettingsT:
    """Declare every field of `settings_class` on `node` and return their values.

    A number given for a text parameter (`task:=3`) is read as text, an integer given for a float as
    a float; everything else of a wrong type is an error.

    Raises:
        ConfigError: A value is of the wrong type, is no valid choice, or a parameter is unknown.
    """
    fields = dataclasses.fields(settings_class)  # type: ignore[arg-type]
    _refuse_unknown(node, {field.name for field in fields})
    values = {field.name: _declare_one(node, field) for field in fields}
    return settings_class(**values)


def read(node: Node, settings_class: type[SettingsT]) -> SettingsT:
    """Return the present values of the parameters that `declare` declared."""
    fields = dataclasses.fields(settings_class)  # type: ignore[arg-type]
    return settings_class(**{f.name: _checked(node, f, node.get_parameter(f.name).value) for f in fields})


def _refuse_unknown(node: Node, names: set[str]) -> None:
    builtin = {"use_sim_time", "start_type_description_service"}
    for name in node._parameter_overrides:  # the only list of what the command line gave
        if name not in names | builtin and not name.startswith("qos_overrides"):
            raise ConfigError(
                f"node {node.get_name()}: unknown parameter {name!r}; {did_you_mean(name, names)}"
            )


def _declare_one(node: Node, field: dataclasses.Field) -> Value:
    descriptor = ParameterDescriptor(description=field.metadata["description"], dynamic_typing=True)
    declared = node.declare_parameter(field.name, field.default, descriptor)
    value = _checked(node, field, declared.value)
    if type(value) is not type(declared.value):
        node.set_parameters([Parameter(field.name, value=value)])
    return value


def _checked(node: Node, field: dataclasses.Field, value: object) -> Value:
    """Return `value` as the type of the field's default."""
    wanted = type(field.default)
    where = f"node {node.get_name()}: parameter {field.name}"
    if wanted is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        value = str(value)
    elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(
            f"{where}: {value!r} is a {type(value).__name__}, expected {wanted.__name__}: "
            f"{field.metadata['description']}"
        )
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"{where}: {value!r}; {did_you_mean(str(value), choices)}")
    return typing.cast(Value, value)
