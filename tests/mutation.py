"""`make mutation`: plant small faults in the code and count how many of them a test notices.

mutmut plants them and forks a test run for each, of those tests alone that reach the function. It wants all
packages below one `src/`, so they are copied to `build/mutation` first; the checkout stays as it is. Of each
module a fixed sample is run, drawn by a seed, so that the same command gives the same faults again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"
PACKAGES = {"tacit": "ros_ws/src/tacit", "tacit_ros": "ros_ws/src/tacit_ros", "tacit_learning": "learning"}
MODULES = (
    "tacit/streams/aligner.py",
    "tacit/control/safety.py",
    "tacit/control/controller.py",
    "tacit/bundle/player.py",
    "tacit/geometry/footprint.py",
    "tacit_learning/losses/hsa.py",
    "tacit_learning/losses/act.py",
)
TESTS = (
    "tests/core/test_streams.py",
    "tests/core/test_safety.py",
    "tests/core/test_player.py",
    "tests/core/test_footprint.py",
    "tests/ros/test_policy_parts.py",
    "tests/learning/test_hsa_loss.py",
    "tests/learning/test_act_losses.py",
)
SURVIVED, NO_TEST, NOT_RUN = 0, 33, None
"""Exit codes in mutmut's records; every other one means that a test failed, hung or crashed."""


def lay_out() -> None:
    """Copy packages and tests to `build/mutation`, with a configuration for mutmut."""
    shutil.rmtree(WORK, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for package, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder / package, WORK / "src" / package, ignore=ignore)
    shutil.copytree(ROOT / "tests", WORK / "tests", ignore=ignore)
    options = (
        (ROOT / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[2].partition("\n[")[0]
    )
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/{module}" for module in MODULES],
        "pytest_add_cli_args_test_selection": list(TESTS),
        "timeout_constant": 10.0,
    }
    mutmut = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    (WORK / "pyproject.toml").write_text(f"[tool.pytest.ini_options]{options}\n[tool.mutmut]\n{mutmut}\n")


def run_mutmut(*names: str) -> None:
    """Run the named mutants; a name that nothing has only generates them."""
    environment = os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}  # mutmut adds mutants/src itself
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    with (WORK / "mutmut.log").open("a") as log:
        subprocess.run(command, cwd=WORK, env=environment, stdout=log, stderr=log, check=False)


def outcomes(module: str) -> dict[str, int | None]:
    """Return {mutant: exit code of its test run} of one module."""
    record = WORK / "mutants" / "src" / f"{module}.meta"
    return dict(json.loads(record.read_text())["exit_code_by_key"])


def main() -> int:
    """Run a sample of every module and print the score; returns 0 when something was run."""
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("--each", type=int, default=30, help="mutants of each module; 0 runs all")
    parser.add_argument("--seed", type=int, default=0, help="decides the sample")
    options = parser.parse_args()
    lay_out()
    run_mutmut("none.such")  # plants all faults and learns which test reaches which function
    drawn = []
    for module in MODULES:
        names = sorted(outcomes(module))
        drawn += random.Random(options.seed).sample(names, min(options.each or len(names), len(names)))
    run_mutmut(*drawn)
    return report()


def report() -> int:
    """Print killed / run per module, and the names of what survived."""
    console, table, survivors, ran = Console(highlight=False), Table(box=None), [], 0
    for heading in ("module", "killed", "run", "of"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for module in MODULES:
        codes = outcomes(module)
        run = {name: code for name, code in codes.items() if code is not NOT_RUN}
        alive = [name for name, code in run.items() if code in (SURVIVED, NO_TEST)]
        table.add_row(module, str(len(run) - len(alive)), str(len(run)), str(len(codes)))
        survivors, ran = survivors + alive, ran + len(run)
    console.print(table)
    console.print(f"survivors (mutmut show NAME, in {WORK}):", *survivors, sep="\n  ", soft_wrap=True)
    return 0 if ran else 1


if __name__ == "__main__":
    raise SystemExit(main())
