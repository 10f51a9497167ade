"""From a stack to a `LaunchDescription`; imports the ROS launch system only when called.

The files in `launch/` are two lines each over `describe_launch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tacit.errors import ConfigError, did_you_mean
from tacit_ros.run.nodes import NodeSpec, Value
from tacit_ros.run.stacks import Stack, arguments, build_stack, stack_spec
from tacit_ros.wire.environment import child_environment

if TYPE_CHECKING:
    from launch.action import Action

    from launch import LaunchContext, LaunchDescription

ENVIRONMENT = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE")


def describe_launch(stack: str) -> LaunchDescription:
    """Return the launch description of a stack: its options as arguments, its nodes as actions.

    A dot in the name of an option becomes two underscores (`policy__bundle:=...`), since launch
    reads dots in its own way.
    """
    from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction

    from launch import LaunchDescription

    declared = [
        DeclareLaunchArgument(name, default_value=text(value), description=help_text)
        for name, (value, help_text) in launch_arguments(stack).items()
    ]

    def make(context: LaunchContext) -> list[Action]:
        given = dict(context.launch_configurations)
        words = [word.partition(":=")[0] for word in context.argv or () if ":=" in word]
        foreign = refuse_misspelt(stack, words)
        notes = [LogInfo(msg=f"{stack}.launch.py: no argument {name!r} here") for name in foreign]
        return [*notes, *node_actions(stack_of(stack, given))]

    return LaunchDescription([*declared, OpaqueFunction(function=make)])


def launch_arguments(stack: str) -> dict[str, tuple[Value, str]]:
    """Return every argument of a launch file: its default, and what it is."""
    common: dict[str, tuple[Value, str]] = {
        "rig": ("nova2_sim", "Shipped rig or path of a rig.yaml."),
        "namespace": ("", "Of all nodes."),
        "remaps": ("", "Names to replace, as `from:=to`, separated by commas."),
        "lifecycle": (False, "Let policy, progress and recorder wait for a lifecycle manager."),
    }
    extra = {node: (False, f"Run the node {node} too.") for node in stack_spec(stack).extra}
    options = {
        launch_name(key): (value, f"Option {key} of the stack.") for key, value in arguments(stack).items()
    }
    return {**common, **extra, **options}


def stack_of(stack: str, given: Mapping[str, str]) -> Stack:
    """Return the stack that launch arguments, as text, ask for.

    An argument that has its default is left to the stack, which may know better for a rig.
    """
    defaults = {name: text(value) for name, (value, _) in launch_arguments(stack).items()}
    values = {name: given.get(name, default) for name, default in defaults.items()}
    options = {key: values[launch_name(key)] for key in arguments(stack)}
    changed = {key: value for key, value in options.items() if value != defaults[launch_name(key)]}
    wanted = [node for node in stack_spec(stack).extra if values[node].lower() == "true"]
    remaps = [word.strip() for word in values["remaps"].split(",") if word.strip()]
    built = build_stack(stack, values["rig"], changed, wanted)
    return built.arranged(values["namespace"], remaps, values["lifecycle"].lower() == "true")


def refuse_misspelt(stack: str, names: Iterable[str]) -> list[str]:
    """Refuse arguments that are nearly one of a launch file: launch itself takes them and does nothing.

    Returns:
        Those that are like none of ours: they may belong to a file that includes this one.

    Raises:
        ConfigError: There is one like ours; the message names it.
    """
    known = launch_arguments(stack)
    foreign = [name for name in names if name not in known]
    for name in foreign:
        if get_close_matches(name, known):
            raise ConfigError(f"{stack}.launch.py: no argument {name!r}; {did_you_mean(name, known)}")
    return foreign


def text(value: Value) -> str:
    """Return a default as launch arguments write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def launch_name(option: str) -> str:
    """Return the launch argument of a stack option."""
    return option.replace(".", "__")


def node_actions(stack: Stack) -> list[Action]:
    """Return one action per node; when one ends, all end."""
    from launch.actions import SetEnvironmentVariable, Shutdown
    from launch_ros.actions import Node

    environment = child_environment()
    settings: list[Action] = [
        SetEnvironmentVariable(name, environment[name]) for name in ENVIRONMENT if name in environment
    ]
    return settings + [
        Node(
            package=node.package,
            executable=node.executable,
            name=node.name,
            namespace=node.namespace,
            arguments=list(node.arguments),
            remappings=[tuple(remap.split(":=", 1)) for remap in node.remaps],
            output="screen",
            parameters=[_parameters(node)],
            on_exit=Shutdown(reason=f"node {node.name} ended"),
        )
        for node in stack.nodes
    ]


def _parameters(node: NodeSpec) -> dict[str, object]:
    """Texts are wrapped: launch reads a bare one as YAML, and "!" would become None."""
    from launch_ros.parameter_descriptions import ParameterValue

    return {key: ParameterValue(value, value_type=type(value)) for key, value in node.parameters.items()}
