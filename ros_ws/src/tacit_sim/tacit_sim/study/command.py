"""`tacit study touch`: is a policy better for what it feels? One command from demonstrations to the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tacit.config.arguments import Count, CountOrNone, NewFolder, Seed, parse_words
from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit_sim.felt import CONTROLS, TouchControl
from tacit_sim.study.plan import Plan, parse_arms, with_fewer
from tacit_sim.study.report import write
from tacit_sim.study.runs import Study
from tacit_sim.tasks import find_task


@dataclass(frozen=True)
class Options:
    """Train policies with and without touch on the same demonstrations, play all of them from the same
    fresh starts, and write a page: success with intervals, pairs, controls, curves, films, cost.

    A second run goes on where the first one stopped; more arms, seeds and controls may join a folder.
    """

    task: str = "sort_by_feel"
    """Task of the cell; in sort_by_feel, insert_peg_in_hand and insert_tight touch decides."""
    arms: str = "vision,touch,touch+hsa"
    """What is compared, with commas between: vision, touch, touch+hsa, its controls touch+hsa+displaced
    (boxes elsewhere) and touch+hsa+shuffled (the touch of others), touch+last (the last moments before the
    gripper moves count four times), touch+future (the touch to come is predicted);
    `name:key=value;key=value` makes an arm of any training keys."""
    seeds: Count = 2
    """Training seeds of each arm: 0, 1, ..."""
    episodes: Count = 100
    """Test starts."""
    first_start: Seed = 70_000
    """First test start; they count up."""
    demonstrations: Count = 100
    """Demonstrations that all arms learn from."""
    fewer: tuple[Count, ...] = ()
    """Numbers of demonstrations that each arm is trained on as well: success against demonstrations."""
    first_demonstration: Seed = 1_000
    """First start that is demonstrated; they count up."""
    steps: Count | None = None
    """Training steps; as the configuration says if left out."""
    config: str = "study_touch"
    """What all arms have in common: a configuration by name or path."""
    every: Count = 2
    """Ticks from one inference to the next."""
    controls: tuple[TouchControl, ...] = ("other", "blank", "shuffled")
    """What the policies of --controlled feel besides their own touch; give none with an empty list."""
    controlled: str = "touch"
    """Arm that is played under controls."""
    films: CountOrNone = 2
    """Episodes of each arm that are filmed."""
    rig: str = "nova2_sim"
    """Rig name or rig.yaml."""
    out: NewFolder | None = None
    """Folder of the study; runs/study_touch_<task> if left out."""
    jobs: Count = 1
    """Trainings, and then evaluations, at a time."""


def main(argv: list[str]) -> int:
    """Run `tacit study touch`; returns 0 when the page is written."""
    options = parse_words(Options, argv, "tacit study touch")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    study = Study(make_plan(options), console.print, jobs=options.jobs)
    study.work()
    page, facts = write(study)
    for row in facts["outcomes"]:
        low, high = row["wilson_95"]
        console.print(
            f"{row['arm']:12} {row['touch']:9} {row['successes']}/{row['episodes']} "
            f"({100 * low:.0f} to {100 * high:.0f} %), right mark {row['right_mark']}"
        )
    console.print(str(page))
    return 0


def make_plan(options: Options) -> Plan:
    """Return the plan that options describe.

    Raises:
        ConfigError: No such task, arm or configuration, or starts that were learnt from.
    """
    task = find_task(options.task).name
    config = Path(options.config)
    if config.suffix and not config.is_file():
        raise ConfigError(f"--config {config}: no such file")
    if "other" in options.controls and load_rig(options.rig).taxels:
        raise ConfigError(
            "--controls other: of gels alone, and the rig has arrays; give --controls blank shuffled"
        )
    return Plan(
        out=options.out or Path(f"runs/study_touch_{task}"),
        task=task,
        rig=options.rig,
        arms=with_fewer(parse_arms(options.arms), options.fewer, options.demonstrations),
        seeds=tuple(range(options.seeds)),
        episodes=options.episodes,
        first_start=options.first_start,
        demonstrations=options.demonstrations,
        first_demonstration=options.first_demonstration,
        config=options.config,
        steps=options.steps,
        every_ticks=options.every,
        controls=tuple(touch for touch in CONTROLS if touch in options.controls and touch != "real"),
        controlled=options.controlled,
        films=options.films,
    )
