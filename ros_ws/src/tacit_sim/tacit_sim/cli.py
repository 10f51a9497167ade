"""`tacit simulate`: a data set of scripted demonstrations without ROS."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from tacit.config.arguments import Count, NewFolder, Seed, parse_words
from tacit.config.claims import sole_writer
from tacit.config.pace import Pace
from tacit.errors import ConfigError, TacitError, did_you_mean
from tacit.rig import load_rig
from tacit_sim.cell import Cell
from tacit_sim.demonstrations import Demonstration, Stopwatch, record, seeds_done
from tacit_sim.experts import Expert
from tacit_sim.failures import FAILURES


@dataclass(frozen=True)
class SimulateArguments:
    """Write scripted demonstrations of the simulated cell as episodes, faster than real time.

    A second run with the same arguments goes on where the first one stopped.
    """

    out: NewFolder
    """Root of the data set; episodes go to <out>/<task>/."""
    rig: str = "nova2_sim"
    """Rig name or rig.yaml."""
    task: str | None = None
    """place_cube, insert_peg, sort_by_feel, insert_peg_in_hand or insert_tight; the rig's own if left out."""
    episodes: Count = 60
    """Number of episodes in all, with those already there."""
    seed: Seed = 0
    """First seed; seeds count up."""
    failures: tuple[str, ...] = ()
    """What shall go wrong, one kind after the other: miss, drop, hang, wrong_place, retry, abort; `all`.
    Each kind gets `episodes` of them, labelled by kind, step and time."""
    disturbance: bool = True
    """Push the executed (not the recorded) target about, so that data show how to come back."""


def simulate(argv: Sequence[str] | None = None) -> int:
    """Run `tacit simulate`.

    Returns:
        0 when at least nine of ten demonstrations succeeded, or failed as they should; else 1.
    """
    arguments = parse_words(SimulateArguments, argv, "tacit simulate")
    console = Console()
    cell = Cell(load_rig(arguments.rig), arguments.task, disturbed=arguments.disturbance)
    wanted = _wanted(arguments)
    done = {kind: seeds_done(arguments.out, cell.task.name, kind) for kind, _ in wanted}
    starts = [(kind, seed) for kind, seed in wanted if seed not in done[kind]]
    if len(starts) < len(wanted):
        console.print(f"{len(wanted) - len(starts)} of {len(wanted)} episodes are already there")
    watch = Stopwatch()
    started = time.perf_counter()
    with sole_writer(arguments.out / cell.task.name):
        results = _record_all(cell, starts, arguments.out, watch, console)
    cell.close()
    _report(cell, results, watch, time.perf_counter() - started, console)
    return 0 if sum(result.as_asked for result in results) >= 0.9 * len(results) else 1


def _wanted(arguments: SimulateArguments) -> list[tuple[str, int]]:
    """Return what shall go wrong and from which seed, episode by episode."""
    kinds = tuple(FAILURES) if arguments.failures == ("all",) else arguments.failures or ("",)
    for kind in filter(None, kinds):
        if kind not in FAILURES:
            raise ConfigError(f"--failures {kind}: the experts cannot do it; {did_you_mean(kind, FAILURES)}")
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    return [(kind, seed) for seed in seeds for kind in kinds]


def _record_all(
    cell: Cell, starts: Sequence[tuple[str, int]], root: Path, watch: Stopwatch, console: Console
) -> list[Demonstration]:
    """Record each start, with a progress bar on a terminal and a line per episode elsewhere."""
    expert = Expert(cell.rig, cell.task)
    results: list[Demonstration] = []
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("{task.fields[last]}"))
    with (
        _kept(results, starts, root, console),
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        pace, bar = Pace(len(starts)), progress.add_task(cell.task.name, total=len(starts), last="")
        for kind, seed in starts:
            result = record(cell, expert, seed, root, watch, kind)
            results.append(result)
            line = f"seed {seed}: {'success' if result.success else 'FAILURE'}, {result.error_m * 1e3:.1f} mm"
            line += f" ({kind})" if kind else ""
            progress.update(bar, advance=1, last=line)
            if not console.is_terminal:
                console.print(
                    f"{line}, {result.num_ticks} ticks, {pace.after(len(results))}",
                    highlight=False,
                    soft_wrap=True,
                )
    return results


@contextmanager
def _kept(
    results: Sequence[Demonstration], starts: Sequence[tuple[str, int]], root: Path, console: Console
) -> Iterator[None]:
    """Say what is there when the work ends early."""
    try:
        yield
    except (KeyboardInterrupt, OSError, TacitError):
        console.print(
            f"stopped: {len(results)} of {len(starts)} episodes are whole in {root}; the same command "
            "goes on",
            highlight=False,
            soft_wrap=True,
        )
        raise


def _report(
    cell: Cell, results: Sequence[Demonstration], watch: Stopwatch, seconds: float, console: Console
) -> None:
    if not results:
        return
    ticks = sum(result.num_ticks for result in results)
    successes = sum(result.success for result in results)
    simulated = ticks / cell.rig.alignment.rate_hz
    parts = ", ".join(f"{name} {1e3 * spent / ticks:.2f}" for name, spent in watch.seconds.items())
    console.print(
        f"{successes}/{len(results)} succeeded, {ticks} ticks in {seconds:.1f} s: "
        f"{simulated / seconds:.1f} x real time\nms per tick: {parts}",
        highlight=False,
        soft_wrap=True,
    )
