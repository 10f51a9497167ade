"""`make test-system`: the whole robot side, started in up to three ways, against what it promises.

python -m system.acceptance --bundle runs/demo/act_hsa.onnx --progress runs/demo/progress.onnx
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from system.lines import Row
from system.models import slow_policy, tiny_progress
from system.places import PLACES, Namespaces

Way = Literal["compose", "namespaces", "plain"]
LIMIT_S = 1800


@dataclass(frozen=True)
class Args:
    """Run the acceptance test of the robot side and print a table.

    Without a bundle that can do the task (`make demo` trains one), a scripted expert does the tasks on the
    same command topics, and a policy that only drifts serves for the rest.
    """

    ways: tuple[Way, ...] = ("compose", "namespaces", "plain")
    bundle: Annotated[Path | None, tyro.conf.arg(help="Policy that can do the task of the rig.")] = None
    progress: Annotated[Path | None, tyro.conf.arg(help="Progress bundle of that task.")] = None
    tasks: Annotated[int, tyro.conf.arg(help="Tries of the task; 8 of 10 must succeed.")] = 10
    rig: str = "nova2_sim"
    build: Annotated[bool, tyro.conf.arg(help="Build the images before; else those that are there run.")] = (
        True
    )
    folder: Annotated[Path | None, tyro.conf.arg(help="Keep episodes and logs here.")] = None


def run(args: Args, folder: Path) -> dict[str, list[Row]]:
    """Return the rows of each way."""
    folder.mkdir(parents=True, exist_ok=True)
    policy = args.bundle or slow_policy(folder, args.rig)
    progress = args.progress or tiny_progress(folder, args.rig)
    words = ["--policy", str(policy.resolve()), "--progress", str(progress.resolve()), "--rig", args.rig]
    words += ["--tasks", str(args.tasks), "--commander", "policy" if args.bundle else "expert"]
    words += ["--build" if args.build else "--no-build"]
    return {way: _run_once(way, words, folder / way) for way in args.ways}


def _run_once(way: str, words: list[str], folder: Path) -> list[Row]:
    place = PLACES[way]()
    missing = place.missing()
    if missing:
        return [Row("all", "skipped", missing)]
    wrapper = Namespaces.UNSHARED if way == "namespaces" else ()
    command = [
        *wrapper,
        sys.executable,
        "-m",
        "system.director",
        "--way",
        way,
        "--folder",
        str(folder),
        *words,
    ]
    sys.stderr.write(f"{way}: logs in {folder}\n")
    done = subprocess.run(command, timeout=LIMIT_S, check=False)
    written = folder / "rows.json"
    if done.returncode != 0 or not written.exists():
        return [Row("the director ends", "FAILED", f"exit code {done.returncode}")]
    return [Row(**row) for row in json.loads(written.read_text(encoding="utf-8"))]


def show(found: dict[str, list[Row]]) -> None:
    """Print one table for all ways."""
    from rich.console import Console
    from rich.table import Table

    table = Table("way", "", "fact", "found", "bar", title="the robot side", title_justify="left", box=None)
    for way, rows in found.items():
        for row in rows:
            table.add_row(way, row.verdict, row.fact, row.found, row.bar)
    Console(highlight=False).print(table)


def main() -> int:
    """Return 0 where every fact holds in every way that this machine allows, else 1."""
    args = tyro.cli(Args)
    with tempfile.TemporaryDirectory(prefix="tacit_system_") as scratch:
        found = run(args, (args.folder or Path(scratch)).resolve())
    show(found)
    verdicts = {row.verdict for rows in found.values() for row in rows}
    return 1 if "FAILED" in verdicts or "passed" not in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
