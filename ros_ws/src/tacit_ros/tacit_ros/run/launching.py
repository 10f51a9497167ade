"""From a stack to a `LaunchDescription`; imports the ROS launch system only when called.

The files in `launch/` are two lines each over `describe_launch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tacit_ros.run.stacks import NodeSpec, Stack, arguments, build_stack, stack_spec
from tacit_ros.wire.environment import child_environment

if TYPE_CHECKING:
    from launch.action import Action

    from launch import LaunchContext, LaunchDescription

UNSET = ""  # an argument left empty keeps the default of the stack
ENVIRONMENT = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE")


def describe_launch(stack: str) -> LaunchDescription:
    """Return the launch description of a stack: its options as arguments, its nodes as actions.

    A dot in the name of an option becomes two underscores (`policy__bundle:=...`), since launch
    reads dots in its own way.
    """
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    from launch import LaunchDescription

    declared = [DeclareLaunchArgument("rig", default_value="nova2_sim", description="Rig name or rig.yaml.")]
    extra = stack_spec(stack).extra
    declared += [
        DeclareLaunchArgument(node, default_value="false", choices=["true", "false"]) for node in extra
    ]
    declared += [
        DeclareLaunchArgument(launch_name(key), default_value=UNSET, description=f"Default: {value!r}")
        for key, value in arguments(stack).items()
    ]

    def make(context: LaunchContext) -> list[Action]:
        values = {key: context.launch_configurations.get(launch_name(key), UNSET) for key in arguments(stack)}
        given = {key: value for key, value in values.items() if value != UNSET}
        wanted = [node for node in extra if context.launch_configurations[node] == "true"]
        return node_actions(build_stack(stack, context.launch_configurations["rig"], given, wanted))

    return LaunchDescription([*declared, OpaqueFunction(function=make)])


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
