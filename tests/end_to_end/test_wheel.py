"""A wheel holds all that a machine without the checkout needs, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "tacit": "ros_ws/src/tacit",
    "tacit_ros": "ros_ws/src/tacit_ros",
    "tacit_sim": "ros_ws/src/tacit_sim",
    "tacit_learning": "learning",
    "tacit_calibration": "calibration",
}
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
NOT_SHIPPED = {".pyc", ".md"}
LEFT_BEHIND = ("__pycache__", "*.egg-info", "build", "install", "log")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from a copy, for a build leaves files in its sources."""
    root = tmp_path_factory.mktemp("wheel")
    copy, out = root / "copy", root / "out"
    out.mkdir()
    for folder in ("ros_ws/src", "learning", "calibration", "launch"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy / file)
    run = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr[-2000:]
    with zipfile.ZipFile(next(out.glob("tacit-*.whl"))) as wheel:
        return set(wheel.namelist())


@pytest.mark.parametrize("package", SOURCES)
def test_every_file_of_a_package_is_in_the_wheel(names: set[str], package: str) -> None:
    base = ROOT / SOURCES[package]
    files = [
        path
        for path in (base / package).rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED and "__pycache__" not in path.parts
    ]
    missing = {path.relative_to(base).as_posix() for path in files} - names
    assert len(files) > 20 and not missing, "list it under [tool.setuptools.package-data]"


def test_configurations_launch_files_and_the_command_are_in_it_and_no_test_is(names: set[str]) -> None:
    configs = {path.name for path in (ROOT / "learning" / "configs").glob("*.yaml")}
    shipped = {name.rpartition("/")[2] for name in names if "/share/tacit/configs/" in name}
    assert configs and shipped == configs
    assert any(name.endswith(".launch.py") for name in names)
    assert any(name.endswith("/entry_points.txt") for name in names)
    assert not [name for name in names if "test" in name.split("/")[:-1] or "benches" in name]
