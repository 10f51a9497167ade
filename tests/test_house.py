"""The house keeps its promises: metadata, pins, ROS packages, launch link, README and Makefile agree."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tacit import __version__, cli
from tacit.bundle import MANIFEST_KEY
from tacit.rig import GelSpec
from tacit.tools import doctor

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib  # type: ignore[no-redef, import-not-found, unused-ignore]

ROS_PACKAGES = ("tacit", "tacit_ros", "tacit_sim")
MESSAGE_SUFFIXES = ("_msgs", "_srvs")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def requirements(project: dict[str, Any], *extras: str) -> list[Requirement]:
    """Base requirements and those of the extras."""
    table = project["project"]
    lines = [
        *table["dependencies"],
        *(line for extra in extras for line in table["optional-dependencies"][extra]),
    ]
    return [Requirement(line) for line in lines]


def closure(wanted: list[Requirement]) -> set[str]:
    """Names of all distributions that these bring, by the metadata of what is installed."""
    seen: set[str] = set()
    queue = [(requirement, "") for requirement in wanted]
    while queue:
        requirement, extra = queue.pop()
        environment = {**{key: str(value) for key, value in default_environment().items()}, "extra": extra}
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        for option in ("", *requirement.extras):
            if f"{name}[{option}]" not in seen:
                seen.add(f"{name}[{option}]")
                queue += [(Requirement(line), option) for line in distribution_requires(name)]
    return {entry.partition("[")[0] for entry in seen}


def distribution_requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def test_nothing_that_a_robot_installs_brings_torch(project: dict[str, Any]) -> None:
    brought = closure(requirements(project, "ros", "sim", "calibration"))
    assert {"numpy", "onnxruntime", "mujoco", "ros-rclpy"} <= brought
    assert not {"torch", "torchvision", "transformers", "accelerate", "onnx"} & brought


def test_the_learning_extra_is_the_one_that_brings_torch(project: dict[str, Any]) -> None:
    assert "torch" in closure(requirements(project, "learning"))


def test_tested_set_satisfies_every_range(project: dict[str, Any], root: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in (root / "constraints.txt").read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line]
    here = {canonicalize_name(pin.name): pin for pin in pins if pin.marker is None or pin.marker.evaluate()}
    for wanted in requirements(project, "ros", "sim", "calibration", "learning", "dev"):
        pin = here[canonicalize_name(wanted.name)]
        version = next(iter(pin.specifier)).version
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} excludes the tested {pin}"
    assert str(here["torch"].specifier) == "==2.13.0"


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_set_up_names_no_package_index(name: str, root: Path) -> None:
    text = (root / name).read_text()
    assert not re.search(r"index-url|find-links|--trusted-host|https?://", text)


def test_versions_agree_everywhere(project: dict[str, Any], root: Path) -> None:
    versions = {"pyproject.toml": project["project"]["version"], "tacit": __version__}
    versions["CITATION.cff"] = yaml.safe_load((root / "CITATION.cff").read_text())["version"]
    for package in ROS_PACKAGES:
        manifest = ElementTree.parse(root / "ros_ws/src" / package / "package.xml").getroot()
        versions[f"{package}/package.xml"] = manifest.findtext("version") or ""
        setup = (root / "ros_ws/src" / package / "setup.py").read_text()
        versions[f"{package}/setup.py"] = re.findall(r'version="([^"]+)"', setup)[0]
    assert set(versions.values()) == {__version__}, versions


@pytest.mark.parametrize("package", ["tacit_ros", "tacit_sim"])
def test_package_xml_names_every_ros_package_that_the_code_imports(package: str, root: Path) -> None:
    folder = root / "ros_ws/src" / package
    declared = {node.text for node in ElementTree.parse(folder / "package.xml").getroot().iter("exec_depend")}
    used = {
        name.partition(".")[0]
        for path in (folder / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported_names(node)
    }
    ros = {name for name in used if name == "rclpy" or name.endswith(MESSAGE_SUFFIXES)}
    assert ros <= declared


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


@pytest.mark.parametrize("package", ["tacit_ros", "tacit_sim"])
def test_every_node_has_a_wrapper_that_ros2_run_finds(package: str, root: Path) -> None:
    folder = root / "ros_ws/src" / package
    nodes = {path.stem for path in (folder / package).glob("*_node.py")}
    wrappers = {path.name for path in (folder / "scripts").iterdir()}
    assert nodes and wrappers == nodes
    for name in wrappers:
        wrapper, module = folder / "scripts" / name, folder / package / f"{name}.py"
        assert os.access(wrapper, os.X_OK)
        assert f"from {package}.{name} import main" in wrapper.read_text()
        assert "main" in top_level_functions(module)


def top_level_functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_verb_names_a_function_that_exists(root: Path) -> None:
    folders = [root / "ros_ws/src" / package for package in ROS_PACKAGES] + [
        root / "learning",
        root / "calibration",
    ]
    for verb, entry in cli.VERBS.items():
        module, _, function = entry.target.partition(":")
        found = [path for folder in folders for path in module_files(folder, module)]
        assert found, f"tacit {verb}: no module {module}"
        text = found[0].read_text()
        assert re.search(rf"^(def {function}\(|from .* import .*\b{function}\b)", text, re.MULTILINE), verb


def module_files(folder: Path, module: str) -> list[Path]:
    base = folder / module.replace(".", "/")
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def test_launch_files_are_reached_through_the_ros_package(root: Path) -> None:
    link = root / "ros_ws/src/tacit_ros/launch"
    assert link.is_symlink()
    assert link.resolve() == (root / "launch").resolve()
    assert list(link.glob("*.launch.py"))
    assert not (root / "launch/__init__.py").exists()


def test_data_files_of_the_install_exist(project: dict[str, Any], root: Path) -> None:
    for target, patterns in project["tool"]["setuptools"]["data-files"].items():
        for pattern in patterns:
            assert list(root.glob(pattern)), f"{target}: {pattern} matches nothing"


def test_readme_speaks_of_commands_that_exist(root: Path) -> None:
    text = (root / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?\bmake ([a-z-]+)`", text)) <= targets
    known = set(cli.VERBS) | {name.partition(" ")[0] for name in cli.VERBS}
    assert set(re.findall(r"`tacit ([a-z-]+)\b", text)) <= known


def test_every_top_level_folder_has_a_readme(root: Path) -> None:
    for name in ("ros_ws", "learning", "calibration", "launch", "tests", "docker"):
        assert (root / name / "README.md").is_file(), name


def test_each_training_config_begins_with_the_command_that_uses_it(root: Path) -> None:
    configs = sorted((root / "learning/configs").glob("*.yaml"))
    assert configs
    for path in configs:
        assert re.match(r"# .*tacit (train|study) ", path.read_text()), path.name


def test_no_file_names_a_place_on_somebodys_machine(tracked_files: list[Path], root: Path) -> None:
    places = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/\w|\.\./" + "shared")
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in tracked_files
        if (text := read_text(path)) is not None
        for number, line in enumerate(text.splitlines(), 1)
        if places.search(line)
    ]
    assert found == []


def read_text(path: Path) -> str | None:
    """Text of a file, or None for pictures and arrays."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def test_doctor_and_makefile_ask_for_the_same_debian_packages(root: Path) -> None:
    listed = re.search(r'GL_PACKAGES="([^"]+)"', (root / ".ci/system-libs").read_text())
    assert listed is not None
    assert f"sudo apt-get install -y {listed.group(1)}" == doctor.GL_INSTALL


def test_links_between_pages_lead_somewhere(tracked_files: list[Path], root: Path) -> None:
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in tracked_files
        if page.suffix == ".md"
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_worked_examples_of_contributing_are_short_and_real(root: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (root / "CONTRIBUTING.md").read_text(), re.M | re.DOTALL)
    examples = [(kind, text) for kind, text in blocks if kind in ("yaml", "python")]
    assert len(examples) == 6  # robot, sensor, policy, loss, converter, node
    assert all(len(text.splitlines()) <= 15 for _, text in examples)
    for kind, text in examples:
        named = re.findall(r"^# ((?:learning|ros_ws|tests)/\S+\.py)", text, re.MULTILINE)
        new = {"huber.py", "test_huber_loss.py", "my_format.py", "my_node.py"}
        assert all((root / path).is_file() or Path(path).name in new for path in named), named
        if kind == "yaml" and "tactile" in (rig := yaml.safe_load(text)):
            assert GelSpec.model_validate(rig["tactile"]["thumb"]).mount == "arm.finger_left"


PACKAGE_FOLDERS = {
    "tacit": "ros_ws/src/tacit",
    "tacit_ros": "ros_ws/src/tacit_ros",
    "tacit_sim": "ros_ws/src/tacit_sim",
    "tacit_calibration": "calibration",
    "tacit_learning": "learning",
    "benches": "tests",
}


def test_modules_that_pages_and_comments_name_exist(tracked_files: list[Path], root: Path) -> None:
    dead = [
        f"{path.relative_to(root)}: {name}"
        for path in tracked_files
        if path.suffix in (".md", ".py", ".yaml")
        and path.name not in ("CONTRIBUTING.md", "test_cli.py", "setup.py")
        for name in re.findall(r"(?<![\w./])(?:tacit\w*|benches)(?:\.[a-z]\w*)+", path.read_text())
        if name.partition(".")[0] in PACKAGE_FOLDERS
        and name != MANIFEST_KEY
        and not names_a_module_or_its_part(name, root)
    ]
    assert dead == []


def names_a_module_or_its_part(name: str, root: Path) -> bool:
    """Whether the dotted name leads to a module, a package, or something that a module or package holds."""
    place = root / PACKAGE_FOLDERS[name.partition(".")[0]]
    for part in name.split("."):
        if (place / part).is_dir():
            place = place / part
        else:
            init = place / "__init__.py"
            return (place / f"{part}.py").is_file() or (
                init.is_file() and re.search(rf"\b{part}\b", init.read_text()) is not None
            )
    return True


def test_words_of_the_command_line_are_read_in_one_place(tracked_files: list[Path]) -> None:
    """Only there are numbers bounded and outputs looked at before work begins."""
    code = (
        p for p in tracked_files if p.suffix == ".py" and ("tests" not in p.parts or "benches" in p.parts)
    )
    assert [path.name for path in code if "tyro.cli(" in path.read_text()] == ["arguments.py"]
