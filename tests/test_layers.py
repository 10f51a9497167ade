"""The import law of the house: which package may know which library, and that imports point down.

Read from the source with `ast`, so imports inside functions and `import_module("...")` count too.
"""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

COMMON = {"numpy", "h5py", "cv2", "yaml", "pydantic", "pydantic_core", "tyro", "rich", "typing_extensions"}
MESSAGES = {
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "trajectory_msgs",
}
ROS = {"rclpy", "ament_index_python"} | MESSAGES
TRAINING = {
    "accelerate",
    "diffusers",
    "numba",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "ftfy",
    "huggingface_hub",
    "joblib",
    "peft",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboard",
    "torch",
    "transformers",
}


@dataclass(frozen=True)
class Law:
    """What one package may import, beside the standard library and itself."""

    folder: str
    allowed: set[str]
    lazy: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    """Allowed at the rim alone: in modules named `*_node` and in `rim`, which no other module imports."""
    rim: tuple[str, ...] = ()
    only: dict[str, set[str]] = field(default_factory=dict)
    """What single modules may import beside."""


LAWS = {
    "tacit": Law(
        "ros_ws/src/tacit",
        COMMON,
        lazy={
            "roboticstoolbox",
            "spatialmath",
            "onnxruntime",
            "rerun",
            "rosbags",
            "rospkg",
            "xacro",
            "zarr",
            "numcodecs",
            "av",
            "pyarrow",
        },
        only={"server": {"aiohttp"}},
    ),
    "tacit_ros": Law(
        "ros_ws/src/tacit_ros",
        COMMON | ROS | {"tacit"},
        only={"launching": {"launch", "launch_ros"}, "bag": {"rosbags", "apsw"}, "server": {"aiohttp"}},
    ),
    "tacit_sim": Law(
        "ros_ws/src/tacit_sim", COMMON | {"tacit", "mujoco"}, nodes=ROS | {"tacit_ros"}, rim=("topics",)
    ),
    "tacit_calibration": Law("calibration", COMMON | {"tacit", "scipy"}, lazy={"rosbags"}),
    "tacit_learning": Law("learning", COMMON | TRAINING | {"tacit"}, only={"server": {"aiohttp"}}),
}


class Import(NamedTuple):
    """One import statement: full module name, where, and whether it runs when the module loads."""

    module: str
    line: int
    lazy: bool


@pytest.mark.parametrize("package", LAWS)
def test_package_imports_only_what_the_law_allows(package: str, root: Path) -> None:
    assert list(violations(package, root)) == []


@pytest.mark.parametrize(
    ("package", "module", "planted"),
    [
        ("tacit", "errors.py", "import torch"),
        ("tacit", "errors.py", "def f():\n    from tacit_ros import qos"),
        ("tacit", "errors.py", "import roboticstoolbox"),
        ("tacit", "cli.py", "import importlib\nimportlib.import_module('tacit_learning.cli')"),
        ("tacit_ros", "planted.py", "from tacit_sim import cell"),
        ("tacit_ros", "planted_node.py", "def f():\n    import torch.nn"),
        ("tacit_ros", "planted_node.py", "import psutil"),
        ("tacit_sim", "planted.py", "from rclpy.node import Node"),
        ("tacit_sim", "planted_node.py", "import torch"),
        ("tacit_sim", "planted.py", "from tacit_sim.topics import Topics"),
        ("tacit_calibration", "planted.py", "import rclpy"),
        ("tacit_learning", "planted.py", "try:\n    import tacit_sim\nexcept ImportError:\n    pass"),
        ("tacit_learning", "planted.py", "import torchvision"),
    ],
)
def test_a_planted_import_breaks_the_law(
    package: str, module: str, planted: str, root: Path, tmp_path: Path
) -> None:
    copy_package(package, root, tmp_path)
    before = set(violations(package, tmp_path))
    with (tmp_path / LAWS[package].folder / package / module).open("a") as file:
        file.write(f"\n{planted}\n")
    found = set(violations(package, tmp_path)) - before
    assert len(found) == 1 and module in found.pop()


def test_the_simulators_nodes_may_know_ros(root: Path, tmp_path: Path) -> None:
    copy_package("tacit_sim", root, tmp_path)
    node = tmp_path / LAWS["tacit_sim"].folder / "tacit_sim" / "planted_node.py"
    node.write_text("import rclpy\nfrom tacit_ros import qos\n")
    assert not any("planted_node" in found for found in violations("tacit_sim", tmp_path))


def test_importing_tacit_is_quick_and_light() -> None:
    program = (
        "import sys, time; begin = time.perf_counter(); import tacit; spent = time.perf_counter() - begin;"
        "heavy = {'torch', 'rclpy', 'roboticstoolbox', 'spatialmath', 'mujoco'} & set(sys.modules);"
        "print(spent, *heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    answers = [run.stdout.split() for run in runs]
    assert all(len(answer) == 1 for answer in answers), f"import tacit pulls in {answers[0][1:]}"
    assert min(float(answer[0]) for answer in answers) < 0.100


def test_the_command_line_pulls_in_no_heavy_library() -> None:
    program = "import sys, tacit.cli; tacit.cli.main(['--help']); print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "rclpy", "roboticstoolbox", "mujoco", "cv2"} & set(run.stderr.split())


def violations(package: str, root: Path) -> Iterator[str]:
    """Yield one line per import that the law of `package` forbids."""
    law = LAWS[package]
    for path in sources(package, root):
        here = path.relative_to(root).as_posix()
        at_rim = is_rim(path.stem, law)
        allowed = law.allowed | law.only.get(path.stem, set()) | (law.nodes if at_rim else set())
        for found in imports_of(path, package, root):
            library = found.module.partition(".")[0]
            if library in sys.stdlib_module_names:
                continue
            if library == package:
                if law.nodes and not at_rim and reaches_rim(found.module, law):
                    yield f"{here}:{found.line}: only a node may import {found.module}"
            elif library in law.lazy and not found.lazy:
                yield f"{here}:{found.line}: {library} may be imported inside functions only"
            elif library not in allowed | law.lazy:
                yield f"{here}:{found.line}: {package} may not import {found.module}"


def is_rim(module: str, law: Law) -> bool:
    """Whether a module may know ROS in a package that otherwise may not."""
    return module.endswith("_node") or module in law.rim


def reaches_rim(imported: str, law: Law) -> bool:
    """Whether an import names a module of the rim."""
    return any(is_rim(part, law) for part in imported.split(".")[1:])


def sources(package: str, root: Path) -> list[Path]:
    """Return the modules of a package."""
    return sorted((root / LAWS[package].folder / package).rglob("*.py"))


def imports_of(path: Path, package: str, root: Path) -> Iterator[Import]:
    """Yield every import of a module; relative ones made absolute."""
    module = module_name(path, package, root)
    parent = module if path.stem == "__init__" else module.rpartition(".")[0]
    yield from _imports_in(path.read_text(encoding="utf-8"), parent)


@functools.cache
def _imports_in(text: str, parent: str) -> tuple[Import, ...]:
    """Return the imports of a source text; the copies that tests plant faults in are parsed once."""
    return tuple(_walk(ast.parse(text), parent, lazy=False))


def module_name(path: Path, package: str, root: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(root / LAWS[package].folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _walk(node: ast.AST, parent: str, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, parent)
            yield from (Import(f"{base}.{alias.name}", child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.Call) and (name := _imported_by_call(child)):
            yield Import(name, child.lineno, lazy)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _types_only(child)
        yield from _walk(child, parent, lazy or inside)


def _absolute(node: ast.ImportFrom, parent: str) -> str:
    if not node.level:
        return node.module or ""
    base = ".".join(parent.split(".")[: len(parent.split(".")) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _imported_by_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func).rpartition(".")[2]
    if name not in ("import_module", "__import__") or not call.args:
        return None
    argument = call.args[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def _types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@functools.cache
def import_graph(package: str, root: Path) -> dict[str, set[str]]:
    """Return module -> modules of its package that it imports, wherever the import stands."""
    known = {module_name(path, package, root): path for path in sources(package, root)}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = (_resolve(item.module, known) for item in imports_of(path, package, root))
        graph[name] = {target for target in found if target and target not in (name, package)}
    return graph


def folders_of(package: str, root: Path) -> list[str]:
    """Return the dotted names of a package and of all packages inside it."""
    return [module_name(path, package, root) for path in sources(package, root) if path.stem == "__init__"]


def against_the_order(folder: str, root: Path) -> Iterator[str]:
    """Yield what contradicts the order that the docstring of `folder` states.

    Every room (a module or package right inside) is named; a room imports rooms of later levels only,
    and never the face of the folder that it stands in, which imports the rooms.
    """
    graph = import_graph(folder.partition(".")[0], root)
    rank = order_in_docstring(folder, root)
    rooms = {_room(module, folder) for module in graph} - {None}
    yield from (f"{folder}: {room} is not named in the order" for room in sorted(rooms - set(rank)))  # type: ignore[type-var]
    yield from (f"{folder}: {name} in the order is no room" for name in sorted(set(rank) - rooms))
    for module, targets in sorted(graph.items()):
        here = _room(module, folder)
        for target in sorted(targets) if here else ():
            there = _room(target, folder)
            if target == folder:
                yield f"{module} imports the face of {folder}"
            elif there and there != here and rank.get(there, 99) <= rank.get(here, -1):  # type: ignore[arg-type]
                yield f"{folder}: {here} -> {there} ({module} imports {target})"


def _room(module: str, folder: str) -> str | None:
    """Return the room of `folder` that a module stands in, or None outside of it."""
    return module[len(folder) + 1 :].partition(".")[0] if module.startswith(f"{folder}.") else None


def _resolve(module: str, known: dict[str, Path]) -> str | None:
    """Return the module that `from a.b import c` loads: a.b.c where that is a module, else a.b."""
    return next((name for name in (module, module.rpartition(".")[0]) if name in known), None)


def find_circle(
    graph: dict[str, set[str]], module: str, trail: tuple[str, ...], done: set[str]
) -> tuple[str, ...] | None:
    """Return a path of imports that comes back to where it began, or None."""
    if module in trail:
        return (*trail[trail.index(module) :], module)
    if module in done:
        return None
    for target in sorted(graph.get(module, ())):
        if circle := find_circle(graph, target, (*trail, module), done):
            return circle
    done.add(module)
    return None


def order_in_docstring(folder: str, root: Path) -> dict[str, int]:
    """Read "imports point down this list only: a, b > c > d." as ranks: a 0, b 0, c 1, d 2."""
    package = folder.partition(".")[0]
    init = root / LAWS[package].folder / Path(*folder.split(".")) / "__init__.py"
    text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
    match = re.search(r"point down\s+this\s+list\s+only:(.*?)\.\s", text + " ", re.DOTALL)
    levels = match.group(1).split(">") if match else []
    return {name.strip(): rank for rank, level in enumerate(levels) for name in level.split(",")}


def copy_package(package: str, root: Path, target: Path) -> None:
    """Copy the modules of one package to the same place under `target`."""
    folder = Path(LAWS[package].folder) / package
    shutil.copytree(root / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))


ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [folder for package in LAWS for folder in folders_of(package, ROOT)]


@pytest.mark.parametrize("package", LAWS)
def test_imports_form_no_circle(package: str, root: Path) -> None:
    graph = import_graph(package, root)
    done: set[str] = set()
    for start in graph:
        assert find_circle(graph, start, (), done) is None


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_room_is_ranked_and_imports_point_down(folder: str, root: Path) -> None:
    assert list(against_the_order(folder, root)) == []


@pytest.mark.parametrize(
    ("folder", "rooms", "floors"),
    [
        ("tacit", 23, 10),
        ("tacit_ros", 19, 4),
        ("tacit_learning.vace_e", 17, 8),
        ("tacit_learning.alignment", 21, 8),
    ],
)
def test_the_house_stays_low(folder: str, rooms: int, floors: int, root: Path) -> None:
    order = order_in_docstring(folder, root)
    assert len(order) <= rooms
    assert len(set(order.values())) <= floors


@pytest.mark.parametrize(
    ("module", "planted", "found"),
    [
        ("geometry/transforms.py", "from tacit.rig import Rig", "geometry -> rig"),
        ("geometry/rotations.py", "def f():\n    from tacit.geometry import camera", "rotations -> camera"),
        (
            "rig/specs.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tacit.rig.contract import Rig",
            "specs -> contract",
        ),
        ("streams/aligner.py", "from tacit.streams import Tick", "imports the face of tacit.streams"),
        ("streams/planted.py", "", "planted is not named"),
    ],
)
def test_an_import_against_the_stated_order_is_seen(
    module: str, planted: str, found: str, root: Path, tmp_path: Path
) -> None:
    copy_package("tacit", root, tmp_path)
    with (tmp_path / LAWS["tacit"].folder / "tacit" / module).open("a") as file:
        file.write(f"\n{planted}\n")
    seen = [line for folder in folders_of("tacit", tmp_path) for line in against_the_order(folder, tmp_path)]
    assert len(seen) == 1 and found in seen[0]
