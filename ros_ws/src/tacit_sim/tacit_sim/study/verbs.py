"""Verbs of `tacit` as child processes: their lines in a log, their cost beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tacit.errors import TacitError

TAIL_LINES = 8


class Cost(NamedTuple):
    """What a step took [s]: of the processors, and of the day."""

    cpu_s: float
    wall_s: float


RunVerb = Callable[[Sequence[str], Path], None]
"""Runs `tacit <words>`; keeps its lines in a log and its cost beside it."""


def run_verb(words: Sequence[str], log: Path) -> None:
    """Run `tacit <words>` to its end and add its cost to `cost_file(log)`.

    Raises:
        TacitError: It ended with another code than 0; the message holds its last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as sink:
        command = [sys.executable, "-m", "tacit.cli", *words]
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    add_cost(log, Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - started))
    if child.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
        raise TacitError(
            f"tacit {' '.join(words)} ended with code {child.returncode}; {log} ends so:\n{tail}"
        )


def cost_file(log: Path) -> Path:
    """Return where the cost of a step with this log stands."""
    return log.with_suffix(".cost.json")


def add_cost(log: Path, cost: Cost) -> None:
    """Add what one run of a step took; an interrupted one counts too."""
    before = cost_of(log)
    total = Cost(before.cpu_s + cost.cpu_s, before.wall_s + cost.wall_s)
    cost_file(log).write_text(json.dumps(total._asdict()) + "\n", encoding="utf-8")


def cost_of(log: Path) -> Cost:
    """Return what a step took so far; nothing where it never ran."""
    path = cost_file(log)
    return Cost(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Cost(0.0, 0.0)
