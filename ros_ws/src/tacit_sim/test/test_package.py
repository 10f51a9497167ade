"""What colcon builds of the simulated cell, tested without ROS and without physics."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tacit_sim

PACKAGE = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((PACKAGE / "scripts").iterdir())


def test_package_says_what_it_is() -> None:
    assert tacit_sim.__doc__


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_executable_starts_a_module_that_has_a_main(script: Path) -> None:
    tree = ast.parse((PACKAGE / "tacit_sim" / f"{script.name}.py").read_text())
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
