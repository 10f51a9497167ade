"""Common ground of all tests: marks that skip where a part is missing, and quiet surroundings.

Environment variables are set here, before any library reads them; processes that tests start inherit.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tacit.rig import Rig

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Derandomised: a red run is red again; `--hypothesis-seed=random` explores.
settings.register_profile(
    "house",
    max_examples=50,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; ask nodes that run in real time twice.

    A machine that stands still for a second breaks every promise about time. A fault of ours fails twice;
    what was asked twice is listed at the end of the run.

    Files with slow tests come first: at the end one worker would be left alone with them, and where
    workers steal from each other's tails, what such a file prepares once would be prepared twice.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
    asks_twice = config.pluginmanager.hasplugin("rerunfailures")
    for item in items:
        if asks_twice and item.get_closest_marker("ros") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
        for mark, reason in REASONS.items():
            if item.get_closest_marker(mark) is not None and (why := reason()):
                item.add_marker(pytest.mark.skip(reason=why))


def pytest_collectstart() -> None:
    """Search for no garbage while everything is imported: there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep what was imported, which stays, out of every later search for garbage.

    Each run of a trainer asks for two or three, and among the million objects of torch and its friends one
    takes longer than what tests train.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def _missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


@lru_cache
def _no_ros() -> str:
    return "rclpy is not installed" if _missing("rclpy") else ""


@lru_cache
def _no_simulation() -> str:
    if _missing("mujoco"):
        return "mujoco is not installed"
    from tacit.tools.doctor import check_rendering

    check = check_rendering(os.environ.get("MUJOCO_GL"))
    if check.state != "ok":
        return f"cannot render: {check.found}; {check.cure}"
    os.environ.setdefault("MUJOCO_GL", check.found.partition("=")[2].partition(",")[0])
    return ""


@lru_cache
def _no_learning() -> str:
    return "torch is not installed" if _missing("torch") else ""


@lru_cache
def _no_gpu() -> str:
    if _missing("torch"):
        return "torch is not installed"
    import torch

    return "" if torch.cuda.is_available() else "no CUDA device"


@lru_cache
def _no_launch() -> str:
    # Without ROS `import launch` finds the folder of launch files as an empty namespace.
    return "launch_ros is not installed" if _missing("launch.actions") or _missing("launch_ros") else ""


REASONS: dict[str, Callable[[], str]] = {
    "ros": _no_ros,
    "sim": _no_simulation,
    "learning": _no_learning,
    "gpu": _no_gpu,
    "launch": _no_launch,
}


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def rig() -> Rig:
    """The rig of the simulated cell, which nothing can change."""
    from tacit.rig import load_rig

    return load_rig("nova2_sim")


@pytest.fixture(scope="session")
def tracked_files(root: Path) -> list[Path]:
    """Every file under version control that still exists, or every file when this is no checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        paths = [root / name for name in listing.stdout.split("\0") if name]
    else:
        hidden = (".git", ".venv", "__pycache__", "runs", "data")
        paths = [path for path in root.rglob("*") if not any(part in hidden for part in path.parts)]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
