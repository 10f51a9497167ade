"""`tacit bench control`: the command thread beside busy cores, with and without SCHED_FIFO.

The loop of the policy node as it is: `PeriodicThread` calls `Controller.step`, which plays a chunk of random
targets through the limiter. Commands are judged by the time at which they were given.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import tyro

from benches.load import busy
from tacit.bundle.player import ChunkPlayer
from tacit.config.arguments import NewFile, Seconds, parse_words
from tacit.control.controller import Controller
from tacit.control.periodic import PeriodicThread
from tacit.control.safety import LONGEST_STEP
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig
from tacit.threads import Failure

BAR_SKIPPED, BAR_GAP = 0.01, 0.7


@dataclass(frozen=True)
class Args:
    """Run the command loop beside busy processes, first as an ordinary thread, then with SCHED_FIFO."""

    rate_hz: float = 50.0
    """Rate of the loop."""
    seconds: Annotated[Seconds, tyro.conf.arg(help="Duration of each run [s].")] = 30.0
    hogs: int = 1
    """Busy processes beside it."""
    rig: str = "nova2_sim"
    """Shipped rig or path of a rig.yaml."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass(frozen=True)
class LoopNumbers:
    """What one run of the loop measured.

    Attributes:
        is_realtime: Whether the thread had SCHED_FIFO.
        steps, skipped: Commands given, and periods without one.
        p50_ms, p99_ms, max_ms: |time between two commands - period|.
        shortest_gap: Least time between two commands, in periods.
        excess: By how much a command exceeded a limit of velocity [1/s] or acceleration [1/s^2], over the
            time since the one before; 0 or rounding where none did.
    """

    is_realtime: bool
    steps: int
    skipped: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    shortest_gap: float
    excess: float


def main(argv: list[str]) -> int:
    """Measure both, print a table; 1 where a bar is missed."""
    args = parse_words(Args, argv, "tacit bench control")
    runs = [measure(args, priority) for priority in (0, 10)]
    _print(runs, args)
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(run) for run in runs], indent=2))
    return 0 if all(meets_bars(run) for run in runs) else 1


def meets_bars(run: LoopNumbers) -> bool:
    """Whether no two commands came at once, few were left out, and none was outside the limits."""
    few = run.skipped <= BAR_SKIPPED * (run.steps + run.skipped)
    return few and run.shortest_gap >= BAR_GAP and run.excess <= 1e-6


def measure(args: Args, priority: int) -> LoopNumbers:
    """Run the loop once, at a SCHED_FIFO `priority` or 0 for none.

    Raises:
        RuntimeError: A step of the loop raised.
    """
    rig, period_ns = load_rig(args.rig), round(1e9 / args.rate_hz)
    controller = _running(rig, period_ns, args.seconds)
    given: list[tuple[int, FloatArray]] = []
    failures: list[Failure] = []

    def step() -> None:
        now_ns = time.monotonic_ns()
        command = controller.step(now_ns, None)
        if command is not None:
            given.append((now_ns, command))

    loop = PeriodicThread(period_ns, step, failures.append, priority=priority)
    with busy(args.hogs):
        loop.start()
        time.sleep(args.seconds)
        loop.stop()
    if failures:  # the rest of the time nobody commanded: its numbers would look well
        raise RuntimeError(f"the loop ended before its time: {failures[0]}") from failures[0].error
    jitter = loop.jitter()
    stamps = np.array([stamp for stamp, _ in given])
    return LoopNumbers(
        loop.is_realtime,
        jitter.steps,
        jitter.missed,
        jitter.p50_ms,
        jitter.p99_ms,
        jitter.max_ms,
        float(np.diff(stamps).min() / period_ns),
        excess(rig, stamps, np.array([command for _, command in given]), period_ns),
    )


def excess(rig: Rig, stamps_ns: np.ndarray, commands: FloatArray, period_ns: int) -> float:
    """Return the largest excess of velocity and acceleration limits over the time that passed.

    Args:
        rig: Says the limits.
        stamps_ns: When each command was given (N,).
        commands: The commands (N, S).
        period_ns: After `LONGEST_STEP` of these without a command the arm counts as standing, and the
            next command as one period after the last.
    """
    dt = np.diff(stamps_ns)[:, None] / 1e9
    stood = dt > LONGEST_STEP * period_ns / 1e9
    dt = np.where(stood, period_ns / 1e9, dt)
    velocity = np.diff(commands, axis=0) / dt
    before = np.where(stood[1:], 0.0, velocity[:-1])
    too_fast = np.abs(velocity) - rig.limits("velocity")
    too_hard = np.abs(velocity[1:] - before) / dt[1:] - rig.limits("acceleration")
    return max(0.0, float(too_fast.max()), float(too_hard.max()))


def _running(rig: Rig, period_ns: int, seconds: float) -> Controller:
    """A controller that has one chunk of random targets to play, long enough for the run."""
    controller = Controller(rig, ChunkPlayer(period_ns, "replace"), period_ns / 1e9, dry_run=True)
    middle = (rig.limits("lower") + rig.limits("upper")) / 2
    assert controller.start(middle, None).success
    rows = int((seconds + 30) * 1e9 / period_ns)
    random = np.random.default_rng(0)
    targets = np.repeat(random.uniform(-0.5, 0.5, (rows // 20 + 1, len(middle))), 20, axis=0)
    controller.add(middle + targets, time.monotonic_ns())
    return controller


def _print(runs: list[LoopNumbers], args: Args) -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"tacit bench control: {args.rate_hz:g} Hz for {args.seconds:g} s beside {args.hogs} busy processes"
    )
    table = Table("", "ordinary", "SCHED_FIFO", title=title, title_justify="left", box=None)
    for name in ("is_realtime", "steps", "skipped", "p50_ms", "p99_ms", "max_ms", "shortest_gap", "excess"):
        values = [getattr(run, name) for run in runs]
        table.add_row(name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    Console(highlight=False).print(table)
