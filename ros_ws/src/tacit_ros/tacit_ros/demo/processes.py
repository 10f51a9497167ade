"""Child processes of the demo: `tacit` verbs with their output in a log, stacks that are always reaped."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from tacit.errors import TacitError
from tacit_ros.wire.environment import child_environment

STOP_SECONDS = 20.0
"""Time a stack gets to finalise an open episode before it is killed."""
TAIL_LINES = 15


def run_verb(arguments: Sequence[str], log: Path, console: Console) -> None:
    """Run `tacit <arguments>`, showing its lines dimmed and keeping them in `log`.

    Raises:
        TacitError: It ended with another code than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tacit.cli", *arguments]
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=child_environment()
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            sink.write(line)
            console.print(f"  {line.rstrip()}", style="dim", markup=False, highlight=False)
    if child.returncode != 0:
        raise TacitError(f"tacit {' '.join(arguments)} ended with code {child.returncode}; see {log}")


@contextlib.contextmanager
def running_stack(stack: str, options: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Keep `tacit up <stack>` running inside the block; its nodes end with it, whatever happens.

    Args:
        stack: Name of the stack.
        options: More arguments of `tacit up`.
        log: File for the lines of all its nodes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tacit.cli", "up", stack, *options]
    with log.open("wb") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=child_environment())
        try:
            yield child
        finally:
            _stop(child)


def check_alive(child: subprocess.Popen[bytes], log: Path) -> None:
    """Raise TacitError with the end of the log when a stack ended by itself."""
    if child.poll() is not None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise TacitError(f"the nodes ended with code {child.returncode}; the end of {log}:\n{tail}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
