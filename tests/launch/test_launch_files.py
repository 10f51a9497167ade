"""Launch files: thin over the stacks, found by `ros2 launch`, and real where ROS is installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tacit.errors import ConfigError
from tacit_ros.run.launching import launch_arguments, launch_name, refuse_misspelt, stack_of, text
from tacit_ros.run.stacks import STACKS, arguments, build_stack

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def test_every_stack_has_its_launch_file_and_no_file_is_left_over() -> None:
    assert {path.name.removesuffix(".launch.py") for path in FILES} == set(STACKS)


def test_ros2_launch_finds_the_files_through_the_package() -> None:
    link = ROOT / "ros_ws/src/tacit_ros/launch"
    assert link.is_symlink() and link.resolve() == ROOT / "launch"
    assert (link / "record.launch.py").is_file()


def test_folder_of_launch_files_is_no_python_package() -> None:
    assert not (ROOT / "launch/__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_describes_the_stack_of_its_name(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls] == [f"describe_launch('{path.name.split('.')[0]}')"]
    assert f"ros2 launch tacit_ros {path.name}" in (ast.get_docstring(tree) or "")


@pytest.mark.parametrize("stack", STACKS)
def test_launch_arguments_are_plain_words_and_all_different(stack: str) -> None:
    names = [launch_name(key) for key in arguments(stack)]
    assert all(name.isidentifier() for name in names)
    assert len(set(names)) == len(names) and "rig" not in names


@pytest.mark.parametrize("stack", STACKS)
def test_defaults_that_launch_shows_are_those_of_the_stack(stack: str) -> None:
    shown = {name: text(value) for name, (value, _) in launch_arguments(stack).items()}
    needed = {name: "p.onnx" for name in shown if name.endswith(("bundle", "episode"))}
    built = stack_of(stack, shown | needed)
    options = {key: needed[launch_name(key)] for key in arguments(stack) if launch_name(key) in needed}
    assert built.nodes == build_stack(stack, "nova2_sim", options).nodes


def test_namespace_remaps_and_extra_nodes_reach_every_node() -> None:
    given = {"namespace": "left", "remaps": "/a:=/b, /c:=/d", "description": "true", "lifecycle": "true"}
    nodes = {node.name: node for node in stack_of("record", given).nodes}
    assert "description" in nodes and {node.namespace for node in nodes.values()} == {"left"}
    assert all(node.remaps == ("/a:=/b", "/c:=/d") for node in nodes.values())
    assert nodes["recorder"].executable == "managed_node" and nodes["recorder"].arguments == ("recorder",)
    assert nodes["overlay"].executable == "overlay_node"
    with pytest.raises(ConfigError, match="from:=to"):
        stack_of("record", {"remaps": "/a"})


def test_misspelt_argument_is_refused_and_one_of_another_file_is_not() -> None:
    with pytest.raises(ConfigError, match="did you mean 'instruction'"):
        refuse_misspelt("record", ["rig", "instuction"])
    assert refuse_misspelt("record", ["rig", "robot_ip_of_the_lab"]) == ["robot_ip_of_the_lab"]


@pytest.mark.launch
def test_real_launch_builds_one_process_per_node_with_texts_left_as_texts() -> None:
    actions = pytest.importorskip("launch.actions")
    pytest.importorskip("launch_ros.actions")
    from launch import LaunchContext
    from tacit_ros.run.launching import describe_launch

    description = describe_launch("record")
    context = LaunchContext()
    context.launch_configurations.update({"rig": "nova2_sim", "instruction": "!"})
    made = []
    for entity in description.entities:
        if isinstance(entity, actions.DeclareLaunchArgument):
            entity.visit(context)
        else:
            made += entity.visit(context)
    nodes = [action for action in made if action.__class__.__name__ == "Node"]
    assert [node.node_executable for node in nodes] == [
        "simulator_node",
        "expert_node",
        "recorder_node",
        "overlay_node",
    ]


@pytest.mark.launch
def test_real_launch_refuses_a_missing_bundle() -> None:
    pytest.importorskip("launch.actions")
    pytest.importorskip("launch_ros.actions")
    from launch import LaunchContext
    from tacit_ros.run.launching import describe_launch

    context = LaunchContext()
    context.launch_configurations["rig"] = "nova2_sim"
    with pytest.raises(ConfigError, match="bundle"):
        for entity in describe_launch("policy").entities:
            entity.visit(context)
