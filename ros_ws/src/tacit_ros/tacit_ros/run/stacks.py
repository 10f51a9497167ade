"""What runs together: the one description behind `tacit up <stack>` and `launch/*.launch.py`.

A stack is a list of nodes with their parameters. On a rig with a `simulation` section the simulator
(and, for recording, the scripted expert) takes the place of the robot. Pure: starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tacit.errors import ConfigError, did_you_mean
from tacit.rig import Rig, load_rig
from tacit_ros.run.nodes import MANAGED, NODES, NodeSpec, Value

__all__ = ["NODES", "STACKS", "NodeSpec", "Stack", "build_stack"]


@dataclass(frozen=True)
class StackSpec:
    """A stack before its options: `nodes` always, `simulated` ones in simulation, `extra` ones on demand."""

    description: str
    nodes: tuple[str, ...]
    simulated: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Parameter values that differ from the nodes' own in this stack."""
    extra: tuple[str, ...] = ()
    drives: bool = True
    """Whether the rig's own `drivers` are started with it."""


STACKS = {
    "record": StackSpec(
        "record demonstrations: recorder and box overlay; in simulation also the cell and its expert",
        ("recorder", "overlay"),
        ("simulator", "expert"),
        extra=("desk", "description"),
    ),
    "teleop": StackSpec(
        "demonstrate by keys, pad, space mouse or leader arm: teleop, recorder, overlay; in simulation also "
        "the cell",
        ("recorder", "overlay", "teleop"),
        ("simulator",),
        extra=("desk", "description"),
    ),
    "policy": StackSpec(
        "run a policy bundle on the robot or the simulated cell",
        ("policy",),
        ("simulator",),
        extra=("description",),
    ),
    "replay": StackSpec(
        "do again what was commanded in an episode", ("replay",), ("simulator",), extra=("description",)
    ),
    "progress": StackSpec(
        "watch task progress with a progress bundle", ("progress",), ("simulator",), drives=False
    ),
    "calibrate": StackSpec(
        "take calibration pictures; in simulation also the cell, and somebody who moves its arm",
        ("capture",),
        ("simulator", "mover"),
        {"board": "table"},
    ),
    "simulate": StackSpec(
        "the simulated cell alone, with its scripted expert",
        (),
        ("simulator", "expert"),
        extra=("description",),
    ),
    "full": StackSpec(
        "policy, progress, recorder and overlay together",
        ("recorder", "overlay", "policy", "progress"),
        ("simulator",),
        extra=("desk", "description"),
    ),
}


@dataclass(frozen=True)
class Stack:
    """What to start: the nodes in order, every parameter set."""

    name: str
    rig: str
    nodes: tuple[NodeSpec, ...]

    def arranged(self, namespace: str = "", remaps: Iterable[str] = (), lifecycle: bool = False) -> Stack:
        """Return the stack with other names, or with managed nodes where there are such.

        Args:
            namespace: Of all its nodes.
            remaps: Names to replace, as `from:=to`.
            lifecycle: Let policy, progress and recorder wait for a lifecycle manager.

        Raises:
            ConfigError: A remap is not of that form.
        """
        remaps = tuple(remaps)
        for remap in remaps:
            if not all(remap.partition(":=")[::2]):
                raise ConfigError(f"remap {remap!r}: expected from:=to")
        nodes = (replace(node, namespace=namespace, remaps=remaps) for node in self.nodes)
        return replace(self, nodes=tuple(_managed(node) if lifecycle else node for node in nodes))

    def without(self, names: Iterable[str]) -> Stack:
        """Return the stack less some nodes.

        Raises:
            ConfigError: A name is not in the stack, or no node would be left.
        """
        left_out, present = set(names), {node.name for node in self.nodes}
        for name in left_out - present:
            raise ConfigError(
                f"stack {self.name}: no node {name!r} to leave out; {did_you_mean(name, present)}"
            )
        if left_out == present:
            raise ConfigError(f"stack {self.name}: all its nodes are left out; leave at least one")
        return replace(self, nodes=tuple(node for node in self.nodes if node.name not in left_out))


def _managed(node: NodeSpec) -> NodeSpec:
    if node.name not in MANAGED:
        return node
    return replace(node, module="tacit_ros.managed_node", arguments=(node.name,))


def build_stack(
    name: str, rig: str, options: Mapping[str, str] | None = None, extra: Iterable[str] = ()
) -> Stack:
    """Return the nodes of stack `name` for a rig.

    Args:
        name: A key of STACKS.
        rig: Shipped rig or path of a rig.yaml.
        options: `key` or `node.key` to the text of its value; a bare key goes to every node of the
            stack that has it.
        extra: Nodes that run on demand only, such as the desk.

    Raises:
        ConfigError: Unknown stack, extra node or option, a value of a wrong type, a required value missing,
            or a stack that needs a simulation on a rig without one.
    """
    specs = templates(name, load_rig(rig), extra)
    assigned = _assign(name, specs, options or {})
    nodes = tuple(_with_values(spec, rig, assigned[spec.name]) for spec in specs)
    return Stack(name, rig, nodes)


def templates(name: str, rig: Rig, extra: Iterable[str] = ()) -> list[NodeSpec]:
    """Return the nodes of stack `name` for `rig` with their default parameters."""
    stack, extra = stack_spec(name), tuple(extra)
    for node in extra:
        if node not in stack.extra:
            owners = ", ".join(_with(node))
            hint = f"{owners} have one" if owners else did_you_mean(node, stack.extra)
            raise ConfigError(f"stack {name!r} has no {node}; {hint}")
    if rig.simulation is None and not stack.nodes:
        raise ConfigError(
            f"stack {name!r} needs a simulated rig, but rig {rig.name!r} has no `simulation` section; "
            "use --rig nova2_sim"
        )
    names = (stack.simulated if rig.simulation else ()) + stack.nodes + extra
    specs = [_for_simulation(_in_stack(NODES[n], stack), rig) for n in names]
    return [*(_drivers(rig) if stack.drives else ()), *specs]


def _drivers(rig: Rig) -> list[NodeSpec]:
    """One node for each arm that the rig names a driver of ours for: `dobot`, or `dobot_<arm>` of several;
    and one for all tactile sensors with a `device`.

    Raises:
        ConfigError: A parameter that the driver does not have, or of another type.
    """
    result = []
    for arm, driver in rig.drivers.items():
        spec = NODES[driver.kind]
        name = spec.name if len(rig.drivers) == 1 else f"{spec.name}_{arm}"
        values = dict(spec.parameters) | {"arm": arm}
        for key, value in driver.parameters.items():
            where = f"rig {rig.name}: drivers.{arm}.parameters.{key}"
            if key not in values or key in ("rig", "arm"):
                raise ConfigError(f"{where}; {did_you_mean(key, set(values) - {'rig', 'arm'})}")
            values[key] = _parse(where, str(value), values[key])
        if rig.simulation is not None:
            values["use_sim_time"] = True
        result.append(replace(spec, name=name, parameters=values))
    has_gels = any(sensor.device is not None for sensor in rig.gels.values())
    return result + ([NODES["tactile_camera"]] if has_gels and rig.simulation is None else [])


def arguments(name: str) -> dict[str, Value]:
    """Return every option of a stack with its default: `key` where all nodes agree on the default
    and none requires it, `node.key` otherwise. For launch arguments and help texts."""
    stack = stack_spec(name)
    specs = [_in_stack(NODES[n], stack) for n in stack.simulated + stack.nodes + stack.extra]
    result: dict[str, Value] = {}
    for spec in specs:
        for key, value in spec.parameters.items():
            owners = [s for s in specs if key in s.parameters]
            scoped = len(owners) > 1 and any(key in s.required for s in owners)
            result[f"{spec.name}.{key}" if scoped else key] = value
    result.pop("rig", None)
    return result


def stack_spec(name: str) -> StackSpec:
    """Return the stack `name`.

    Raises:
        ConfigError: There is none; the message lists them.
    """
    if name not in STACKS:
        raise ConfigError(f"stack {name!r}; {did_you_mean(name, STACKS)}")
    return STACKS[name]


def _with(extra: str) -> list[str]:
    """Names of the stacks that may run an extra node."""
    return [name for name, stack in STACKS.items() if extra in stack.extra]


def _in_stack(spec: NodeSpec, stack: StackSpec) -> NodeSpec:
    changed = {key: value for key, value in stack.defaults.items() if key in spec.parameters}
    return replace(spec, parameters={**spec.parameters, **changed})


def _for_simulation(spec: NodeSpec, rig: Rig) -> NodeSpec:
    """The task of the rig's simulation is the default task.

    With a driver before the cell, everybody has the cell's clock: a busy machine then slows the cell down,
    and nobody takes what is late for stale.
    """
    if rig.simulation is None:
        return spec
    values: dict[str, Value] = {"task": rig.simulation.task} if "task" in spec.parameters else {}
    if rig.drivers:
        values["publish_clock" if spec.name == "simulator" else "use_sim_time"] = True
    return replace(spec, parameters={**spec.parameters, **values})


def _assign(stack: str, specs: list[NodeSpec], options: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Give each option to the nodes it is for; `node.key` is stronger than `key`."""
    assigned: dict[str, dict[str, str]] = {spec.name: {} for spec in specs}
    for option, text in sorted(options.items(), key=lambda item: item[0].count(".")):
        owner, _, key = option.rpartition(".")
        takers = [s for s in specs if key in s.parameters and owner in ("", s.name) and key != "rig"]
        if not takers:
            valid = {key for s in specs for key in s.parameters} | {
                f"{s.name}.{key}" for s in specs for key in s.parameters
            }
            hint = did_you_mean(option, {key for key in valid if not key.endswith("rig")})
            raise ConfigError(f"stack {stack}: no option {option!r}; {hint}")
        for spec in takers:
            assigned[spec.name][key] = text
    return assigned


def _with_values(spec: NodeSpec, rig: str, texts: Mapping[str, str]) -> NodeSpec:
    values: dict[str, Value] = {**spec.parameters, "rig": rig}
    for key, text in texts.items():
        values[key] = _parse(f"{spec.name}.{key}", text, spec.parameters[key])
    for key in spec.required:
        if not values[key]:
            raise ConfigError(f"node {spec.name}: {key} is needed; add {key}=<value>")
    return replace(spec, parameters=values)


def _parse(where: str, text: str, default: Value) -> Value:
    """Read `text` as the type of `default`."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"option {where}: {text!r}, expected true or false")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError:
        raise ConfigError(f"option {where}: {text!r} is not of type {type(default).__name__}") from None
