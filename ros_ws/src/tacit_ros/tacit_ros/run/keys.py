"""`tacit record keys`: the operator's keys in a terminal; a foot pedal that types does as well."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from tacit.errors import ConfigError, TacitError
from tacit_ros.run.operator import KEYS, MEANING, Operator, Recorder

LOOK_S = 1.0
"""Time between two looks at the recorder."""
QUIT = "q"


def play_keys(recorder: Recorder) -> int:
    """Do what the keys say until q or Ctrl-C; returns 0.

    Raises:
        ConfigError: The input is no terminal.
        TacitError: No recorder answers at the start.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            "keys: the input is no terminal; run it in one, or call the services of the recorder"
        )
    operator = Operator(recorder)
    sys.stdout.write(help_text() + "\n" + line_of(operator) + "\n")
    with contextlib.suppress(KeyboardInterrupt), single_keys():
        follow(operator, _read_key)
    sys.stdout.write("\n")
    return 0


def follow(operator: Operator, read: Callable[[], str]) -> None:
    """Carry out keys and show what goes on, until q.

    Args:
        operator: Acts.
        read: Returns the next key, or "" when none came for a while.
    """
    while (key := read().lower()) != QUIT:
        action = KEYS.get(key)
        try:
            text = operator.do(action) + "\n" if action else ""
            sys.stdout.write(f"\r\033[K{text}{line_of(operator)}")
        except TacitError as problem:
            sys.stdout.write(f"\r\033[K{problem}\n")
        sys.stdout.flush()


def line_of(operator: Operator) -> str:
    """Return in one line what goes on."""
    status = operator.status()
    doing = f"RECORDING {status['num_ticks']} ticks" if status["state"] == "recording" else "idle"
    if status["state"] != "recording" and status["not_ready"]:
        doing = f"not ready: {status['not_ready'][0]}"
    counts = ", ".join(f"{count} {name}" for name, count in operator.tally.items() if count)
    return " | ".join(filter(None, (doing, counts, f"{status['free_gb']:g} GB free")))


def help_text() -> str:
    """Return what each key does."""
    names = {" ": "space"}
    return "\n".join(
        [*(f"  {names.get(key, key):>5}  {MEANING[action]}" for key, action in KEYS.items()), "      q  end"]
    )


def _read_key() -> str:
    """Wait for a key, for at most a second."""
    ready, _, _ = select.select([sys.stdin], [], [], LOOK_S)
    # Not sys.stdin.read, which takes all that is there, and select would not tell of the rest.
    return os.read(sys.stdin.fileno(), 1).decode(errors="ignore") if ready else ""


@contextlib.contextmanager
def single_keys() -> Iterator[None]:
    """Let the terminal hand over each key at once, and give it back as it was."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
