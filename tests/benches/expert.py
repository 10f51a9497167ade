"""`tacit bench expert`: how often the scripted experts of the simulated cell succeed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from tacit.config.arguments import Count, Seed, parse_words
from tacit.rig import load_rig
from tacit.view.proportions import wilson_interval
from tacit_sim.cell import Cell
from tacit_sim.demonstrations import Demonstration
from tacit_sim.experts import Expert
from tacit_sim.tasks import TASKS, distance_to_goal


@dataclass(frozen=True)
class ExpertArguments:
    """Count how often the scripted expert succeeds; physics and IK only, no images."""

    task: tuple[str, ...] = tuple(TASKS)
    """Tasks to try."""
    rig: str = "nova2_sim"
    """Rig name or rig.yaml."""
    episodes: Count = 100
    """Episodes per task, with and without disturbance."""
    seed: Seed = 0
    """First seed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit bench expert`: success of each expert, clean and disturbed.

    Returns:
        0 when each rate is at least 95 %, else 1.
    """
    arguments = parse_words(ExpertArguments, argv, "tacit bench expert")
    console = Console()
    good = True
    for task in arguments.task:
        for disturbed in (False, True):
            results = run_expert(arguments.rig, task, arguments.episodes, arguments.seed, disturbed)
            successes = sum(result.success for result in results)
            low, high = wilson_interval(successes, len(results))
            good = good and successes >= 0.95 * len(results)
            console.print(
                f"{task:12} {'disturbed' if disturbed else 'clean':9} {successes}/{len(results)}  "
                f"95 % interval {100 * low:.1f} to {100 * high:.1f} %  "
                f"largest error {max(r.error_m for r in results) * 1e3:.1f} mm",
                highlight=False,
                soft_wrap=True,
            )
    return 0 if good else 1


def run_expert(rig: str, task: str, episodes: int, seed: int, disturbed: bool) -> list[Demonstration]:
    """Play `episodes` episodes of the expert without images and return their outcomes."""
    cell = Cell(load_rig(rig), task, disturbed=disturbed)
    expert = Expert(cell.rig, cell.task)
    return [demonstrate(cell, expert, seed + i) for i in range(episodes)]


def demonstrate(cell: Cell, expert: Expert, seed: int) -> Demonstration:
    """Play one episode of the expert without images or file: physics and IK alone."""
    cell.reset(seed)
    expert.start(cell.state(), cell.object_pose(), hidden=cell.hidden)
    tick_ns = round(1e9 / cell.rig.alignment.rate_hz)
    for tick in range(expert.num_ticks):
        cell.command(expert.target(tick))
        cell.step(tick_ns)
    error_m = distance_to_goal(cell.task, cell.object_pose()[:3, 3])
    return Demonstration(seed, cell.success(), expert.num_ticks, error_m)
