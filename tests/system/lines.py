"""What scenario and director say to each other: JSON, one object per line, over pipes into containers."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["passed", "FAILED", "skipped"]


@dataclass(frozen=True)
class Row:
    """One line of the table: what was asked, what was found, and what was promised."""

    fact: str
    verdict: Verdict
    found: str
    bar: str = ""


def say(message: dict[str, Any]) -> None:
    """Send one message to the director."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def ask(action: str, node: str, wait: Callable[[], None] = lambda: None) -> None:
    """Let the director do something to a process, and wait until it is done.

    Args:
        action: start, stop (in order) or kill (-9).
        node: Name of the process.
        wait: Called meanwhile: an engine of containers takes seconds, and who listens must not fall behind.

    Raises:
        RuntimeError: It could not; the message is the director's.
    """
    say({"ask": action, "node": node})
    while not select.select([sys.stdin], [], [], 0.0)[0]:
        wait()
    answer = json.loads(sys.stdin.readline())
    if answer["problem"]:
        raise RuntimeError(f"{action} {node}: {answer['problem']}")


def report(row: Row) -> None:
    """Send one line of the table."""
    say({"row": asdict(row)})
