"""`tacit bench hostile`: every file of `hostile_files` in a process of its own, its time and memory.

A process that has imported everything forks one child for each file, so what is measured is the file:
its peak of memory is that of the child, the imports (about 200 MB) included.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import tyro

from benches import hostile_files, hostile_texts
from benches.hostile_cases import CASES, SECRET, Case
from tacit.config.arguments import parse_words
from tacit.errors import TacitError
from tacit.threads import Caught

LISTS = (hostile_texts, hostile_files)  # importing them fills CASES
MAX_SECONDS, MAX_MB, MAX_TEXT = 2.0, 500.0, 5000
GIVE_UP_S = 20.0  # a file that hangs
MEMORY_BYTES = 3 << 30  # above what is mapped already: a file must not take the machine down
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        name: Of the case.
        seconds: From the call to its end.
        peak_mb: Largest resident memory of the process, imports included.
        error: Class of what was raised; "" when the file was read, "hang" or "killed" without an answer.
        is_clear: Whether that is an error of ours, for users.
        text: Its message.
    """

    name: str
    seconds: float
    peak_mb: float
    error: str
    is_clear: bool
    text: str

    @property
    def problem(self) -> str:
        """What is wrong with it; "" when the file was refused as it should be."""
        if not self.is_clear:
            return f"ends in {self.error or 'success'}: {self.text[:200]}"
        if CASES[self.name][1] not in self.text:
            return f"is refused for another reason: {self.text[:200]}"
        if self.seconds > MAX_SECONDS or self.peak_mb > MAX_MB:
            return f"takes {self.seconds:.1f} s and {self.peak_mb:.0f} MB"
        if SECRET in self.text or "root:" in self.text:
            return "tells what stands in another file"
        return f"message of {len(self.text)} characters" if len(self.text) > MAX_TEXT else ""


def run_case(name: str, make: Case) -> Outcome:
    """Make the files of a case, read them in a child, and report; time is that of the processor."""
    with tempfile.TemporaryDirectory(prefix="tacit_hostile_") as folder:
        here, there = FORK.Pipe()
        child = FORK.Process(target=_child, args=(make, Path(folder), there))
        child.start()
        there.close()
        try:
            found = here.recv() if here.poll(GIVE_UP_S * 3) else None
        except EOFError:
            found = None
        if found is None:
            hung = child.is_alive()
            child.kill()
            child.join()
            return Outcome(
                name, GIVE_UP_S, 0.0, "hang" if hung else "killed", False, f"exit {child.exitcode}"
            )
        child.join()
    seconds, peak_mb, error, is_clear, text = found
    return Outcome(name, seconds, peak_mb, error, is_clear, text)


def _child(make: Case, folder: Path, answer: Connection) -> None:
    """Make the files in one process and read them in a second one, whose answer is passed on."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # open until the process ends
    act = make(folder)
    begin = time.monotonic()
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            answer.send((time.monotonic() - begin, 0.0, "killed", False, f"status {status}"))
        os._exit(0)
    _limit()
    answer.send(_judged(act))
    os._exit(0)


def _judged(act: Callable[[], object]) -> tuple[float, float, str, bool, str]:
    begin = time.process_time()
    error, text = "", ""
    with Caught() as caught:
        act()
    if (problem := caught.error) is not None:
        error, text = type(problem).__name__, str(problem)
        if not isinstance(problem, TacitError):
            text = "".join(traceback.format_exception(type(problem), problem, problem.__traceback__))[-600:]
    is_clear = isinstance(problem, TacitError)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.process_time() - begin, peak_mb, error, is_clear, text


def _limit() -> None:
    """Bound address space and processor time: a bomb ends as MemoryError or SIGXCPU, not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (round(GIVE_UP_S), round(GIVE_UP_S) + 1))


@dataclass(frozen=True)
class HostileArgs:
    """Read every hostile file and say how long it took, what it cost and how it was refused."""

    only: Annotated[str, tyro.conf.arg(help="Cases whose name contains this.")] = ""
    json: Annotated[bool, tyro.conf.arg(help="Print one JSON object a line instead of a table.")] = False


def main(argv: list[str] | None = None) -> int:
    """Run the cases; 0 when each was refused in time, in memory and with a clear error."""
    args = parse_words(HostileArgs, argv, "tacit bench hostile")
    outcomes = []
    gc.freeze()  # a child that looks for garbage among the imports would copy them all
    for name, (make, _) in CASES.items():
        if args.only in name:
            outcomes.append(run_case(name, make))
            sys.stdout.write((json.dumps(asdict(outcomes[-1])) if args.json else _line(outcomes[-1])) + "\n")
            sys.stdout.flush()
    failed = [outcome for outcome in outcomes if outcome.problem]
    if not args.json:
        slowest, largest = max(o.seconds for o in outcomes), max(o.peak_mb for o in outcomes)
        sys.stdout.write(
            f"{len(outcomes) - len(failed)} of {len(outcomes)} refused clearly; slowest {slowest:.2f} s, "
            f"largest {largest:.0f} MB\n"
        )
    return 1 if failed else 0


def _line(outcome: Outcome) -> str:
    said = outcome.problem or outcome.text.splitlines()[0]
    mark = "WRONG" if outcome.problem else "ok   "
    return f"{mark} {outcome.seconds:5.2f} s {outcome.peak_mb:4.0f} MB  {outcome.name:48} {said[:110]}"
