"""What colcon builds of the nodes, tested without ROS: stacks, launch files, executables."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tacit_ros.run.stacks import NODES, STACKS, build_stack

PACKAGE = Path(__file__).resolve().parents[1]
LAUNCH_FILES = sorted((PACKAGE / "launch").glob("*.launch.py"))


def test_every_node_of_the_stacks_is_an_executable_of_its_package() -> None:
    for spec in NODES.values():
        scripts = PACKAGE.parent / spec.package / "scripts"
        assert (scripts / spec.executable).is_file(), spec.name


@pytest.mark.parametrize("stack", STACKS)
def test_stack_names_only_nodes_that_are_described(stack: str) -> None:
    assert {*STACKS[stack].nodes, *STACKS[stack].simulated} <= set(NODES)


def test_recording_stack_of_the_simulated_rig_holds_simulator_and_recorder() -> None:
    names = {node.name for node in build_stack("record", "nova2_sim", {}).nodes}
    assert {"simulator", "recorder"} <= names


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_defines_what_ros2_launch_calls(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions


def test_launch_files_are_here() -> None:
    assert LAUNCH_FILES
