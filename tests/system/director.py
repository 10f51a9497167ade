"""Starts and kills processes as the scenario asks, and takes down what it finds; one way at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from system.lines import Row
from system.places import PLACES, Compose, Place, What
from tacit.errors import TacitError

ACTIONS = ("start", "stop", "kill")


@dataclass(frozen=True)
class Args:
    """Run the scenario once."""

    way: Literal["compose", "namespaces", "plain"]
    policy: Path
    progress: Path
    folder: Annotated[Path, tyro.conf.arg(help="For episodes, logs and `rows.json`.")]
    rig: str = "nova2_sim"
    tasks: int = 10
    commander: Literal["policy", "expert"] = "expert"
    build: bool = True


def direct(args: Args) -> list[Row]:
    """Return the rows of one run; a run that ends early ends with a row that failed."""
    place: Place = PLACES[args.way]()
    if isinstance(place, Compose):
        place.missing()  # chooses the engine
    args.folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    rows: list[Row] = []
    what = What(args.rig, args.policy, args.progress, args.folder, build=args.build)
    try:
        with place.opened(what):
            words = ["--tasks", str(args.tasks), "--commander", args.commander]
            with place.scenario(words) as scenario:
                rows = converse(place, scenario)
            if scenario.returncode != 0:
                rows.append(Row("the scenario ends", "FAILED", f"exit code {scenario.returncode}"))
    except (TacitError, RuntimeError, OSError) as problem:
        rows.append(Row("processes start and end", "FAILED", str(problem)))
    rows.append(Row("seconds", "passed", f"{time.monotonic() - begin:.0f}"))
    return rows


def converse(place: Place, scenario: subprocess.Popen[str]) -> list[Row]:
    """Do what the scenario asks until it ends; return the rows that it reported."""
    rows: list[Row] = []
    assert scenario.stdout is not None and scenario.stdin is not None
    for line in scenario.stdout:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            sys.stderr.write(line)
            continue
        if "row" in message:
            rows.append(Row(**message["row"]))
            sys.stderr.write(f"  {rows[-1].verdict:>7}  {rows[-1].fact}: {rows[-1].found}\n")
            continue
        scenario.stdin.write(json.dumps({"problem": _done(place, message["ask"], message["node"])}) + "\n")
        scenario.stdin.flush()
    return rows


def _done(place: Place, action: str, node: str) -> str:
    """Do one thing; return what was wrong with it."""
    try:
        {"start": place.start, "stop": place.stop, "kill": place.kill}[action](node)
    except (KeyError, RuntimeError, OSError) as problem:
        return f"{type(problem).__name__}: {problem}"
    return ""


def main() -> int:
    """Run once and write `rows.json`."""
    args = tyro.cli(Args)
    rows = direct(args)
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "rows.json").write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
