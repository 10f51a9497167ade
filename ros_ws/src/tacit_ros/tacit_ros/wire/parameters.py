"""Node parameters as a frozen dataclass: declared, described, typed and checked at one place.

@dataclass(frozen=True)
class RecorderParameters:
    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    task: str = parameter("task", "Identifier of the task.", pattern=NAME_PATTERN, live=True)
    jpeg_quality: int = parameter(90, "JPEG quality of cameras.", low=1, high=100)

settings = declare(node, RecorderParameters)

What a field says of itself holds at the start and for `ros2 param set` afterwards: a value that does not fit
is refused with the reason, and so is a change of a parameter that the node looks at once.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import TypeVar

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from tacit.errors import ConfigError, did_you_mean

SettingsT = TypeVar("SettingsT")
Value = str | int | float | bool
SHA256 = "|[0-9a-fA-F]{64}"
"""A hash of a file, or nothing."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be, beside its type.

    Attributes:
        description: What the parameter is, for `ros2 param describe` and error messages.
        choices: The valid strings, if they are few.
        pattern: Regular expression that a text must match.
        low, high: Least and greatest valid number.
        above: Number that a valid one is greater than.
        unless: One more valid number, which stands for "not given".
        live: Whether a change counts while the node runs.
        only_down: While it runs, a change may only lower the number: what keeps people safe is not loosened
            in motion.
    """

    description: str
    choices: tuple[str, ...] = ()
    pattern: str = ""
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    unless: float | None = None
    live: bool = False
    only_down: bool = False

    def problem(self, value: Value) -> str:
        """Return what is wrong with a value of the right type; "" if nothing is."""
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                return f"{value!r}; {did_you_mean(value, self.choices)}"
            if self.pattern and not re.fullmatch(self.pattern, value):
                return f"{value!r}, expected text like {self.pattern}: {self.description}"
        elif not isinstance(value, bool) and not self._is_within(value):
            return f"{value!r}, expected {self.span}: {self.description}"
        return ""

    def _is_within(self, value: float) -> bool:
        if self.unless is not None and value == self.unless:
            return True
        return math.isfinite(value) and self.low <= value <= self.high and value > self.above

    @property
    def span(self) -> str:
        """The valid numbers in words."""
        parts = [f"above {self.above:g}"] if math.isfinite(self.above) else []
        parts += [f"at least {self.low:g}"] if math.isfinite(self.low) else []
        parts += [f"at most {self.high:g}"] if math.isfinite(self.high) else []
        text = " and ".join(parts) or "a finite number"
        return text if self.unless is None else f"{text}, or {self.unless:g}"

    @property
    def constraints(self) -> str:
        """What a person should know before setting it."""
        parts = [f"one of {', '.join(map(repr, self.choices))}"] if self.choices else []
        parts += [self.span] if self.span != "a finite number" else []
        parts += [] if self.live else ["fixed once the node runs"]
        parts += ["may only be lowered while the node runs"] if self.only_down else []
        return "; ".join(parts)


def parameter(default: Value, description: str, **rules: typing.Any) -> typing.Any:
    """Describe one field of a parameter dataclass.

    Args:
        default: Its value when nothing is given; its type is the type of the parameter.
        description: What it is.
        rules: The other fields of `Rule`.
    """
    return dataclasses.field(default=default, metadata={"rule": Rule(description, **rules)})


def declare(node: Node, settings_class: type[SettingsT]) -> SettingsT:
    """Declare every field of `settings_class` on `node` and return their values.

    A number given for a text parameter (`task:=3`) is read as text, an integer given for a float as
    a float; everything else of a wrong type is an error. From then on the node
    refuses changes that do not fit.

    Raises:
        ConfigError: A value is of the wrong type or out of range, or a parameter is unknown.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_class)}  # type: ignore[arg-type]
    _refuse_unknown(node, set(fields))
    values = {name: _declare_one(node, field) for name, field in fields.items()}
    node.add_on_set_parameters_callback(lambda changes: _judged(node, fields, changes))
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
    rule: Rule = field.metadata["rule"]
    descriptor = ParameterDescriptor(
        description=rule.description, additional_constraints=rule.constraints, dynamic_typing=True
    )
    declared = node.declare_parameter(field.name, field.default, descriptor)
    value = _checked(node, field, declared.value)
    if type(value) is not type(declared.value):
        node.set_parameters([Parameter(field.name, value=value)])
    return value


def _judged(
    node: Node, fields: Mapping[str, dataclasses.Field], changes: list[Parameter]
) -> SetParametersResult:
    """Accept or refuse a change while the node runs; other parameters than ours are none of our business."""
    for change in changes:
        field = fields.get(change.name)
        if field is None:
            continue
        try:
            value = _checked(node, field, change.value)
        except ConfigError as problem:
            return SetParametersResult(successful=False, reason=str(problem))
        rule, before = field.metadata["rule"], node.get_parameter(change.name).value
        if rule.only_down and value > before:
            reason = (
                f"node {node.get_name()}: parameter {change.name} may only be lowered while it runs: it "
                f"is {before:g}, {value:g} was asked for; start it anew with {change.name}:={value:g}"
            )
            return SetParametersResult(successful=False, reason=reason)
        if not rule.live and value != node.get_parameter(change.name).value:
            live = [name for name, other in fields.items() if other.metadata["rule"].live]
            reason = (
                f"node {node.get_name()}: parameter {change.name} is fixed once the node runs: start it anew "
                f"with {change.name}:={change.value}; what may change is {', '.join(live) or 'nothing'}"
            )
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _checked(node: Node, field: dataclasses.Field, value: object) -> Value:
    """Return `value` as the type of the field's default, where it is a valid one."""
    wanted, rule = type(field.default), field.metadata["rule"]
    where = f"node {node.get_name()}: parameter {field.name}"
    if wanted is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        value = str(value)
    elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(
            f"{where}: {value!r} is a {type(value).__name__}, expected {wanted.__name__}: {rule.description}"
        )
    problem = rule.problem(value)
    if problem:
        raise ConfigError(f"{where}: {problem}")
    return typing.cast(Value, value)
