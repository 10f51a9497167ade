"""Limits of the house style that a machine can count, over every module that is not a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("ros_ws/src/tacit/tacit", "ros_ws/src/tacit_ros/tacit_ros", "ros_ws/src/tacit_sim/tacit_sim")
FOLDERS += ("learning/tacit_learning", "calibration/tacit_calibration", "launch")
FILE_LINES, FUNCTION_LINES, LAUNCH_LINES = 400, 60, 80
Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def modules(root: Path) -> dict[str, ast.Module]:
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in paths}


def functions(modules: dict[str, ast.Module]) -> Iterator[tuple[str, Function]]:
    """Every function with the place where it stands."""
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def test_no_file_is_longer_than_a_reader_can_hold(modules: dict[str, ast.Module], root: Path) -> None:
    long = {
        name: lines for name in modules if (lines := len((root / name).read_text().splitlines())) > FILE_LINES
    }
    assert long == {}


def test_no_function_is_longer_than_a_page(modules: dict[str, ast.Module]) -> None:
    def length(node: Function) -> int:
        return (node.end_lineno or node.lineno) - node.lineno + 1

    limits = {
        place: LAUNCH_LINES if place.startswith("launch/") else FUNCTION_LINES
        for place, _ in functions(modules)
    }
    assert [place for place, node in functions(modules) if length(node) > limits[place]] == []


def test_every_signature_is_annotated(modules: dict[str, ast.Module]) -> None:
    bare = []
    for place, node in functions(modules):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        if node.returns is None or any(argument.annotation is None for argument in named):
            bare.append(place)
    assert bare == []


def test_every_module_says_what_it_is_for(modules: dict[str, ast.Module]) -> None:
    assert [name for name, tree in modules.items() if not ast.get_docstring(tree)] == []


def test_nobody_catches_everything(modules: dict[str, ast.Module]) -> None:
    wide = [
        f"{name}:{node.lineno}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert wide == []


def test_nobody_unpickles_or_evaluates(modules: dict[str, ast.Module]) -> None:
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "torch.jit.load"}
    calls = [
        f"{name}:{node.lineno} {ast.unparse(node.func)}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden
    ]
    assert calls == []
