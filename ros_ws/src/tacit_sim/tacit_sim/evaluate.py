"""`tacit evaluate`: how often a policy bundle succeeds in the simulated cell, without torch or ROS.

It acts as `tacit run` does: same gates, limits and chunk player, chunks played as the bundle says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from rich.console import Console

from tacit.bundle import load_bundle, save_playing
from tacit.bundle.player import PlayFlags, PlaySpec
from tacit.bundle.runtime import OnnxPolicy, OnnxProgress
from tacit.config.arguments import Count, NewFile, NewFolder, Seed, Within, parse_words
from tacit.config.pace import Pace
from tacit.errors import ConfigError
from tacit.progress import StopOn
from tacit.rig import load_rig
from tacit.view.proportions import wilson_interval
from tacit_sim.cell import Cell
from tacit_sim.choose_playing import LATENCIES_MS, Trial, best, trials
from tacit_sim.closed_loop import FILM_EVERY, MAX_TICKS, Rollout, Runner
from tacit_sim.felt import TouchControl
from tacit_sim.surroundings import Change

EPISODES, FIRST_SEED = 100, 10_000
CHOICE_EPISODES, FIRST_CHOICE_SEED = 10, 30_000
"""Choosing has starts of its own: what chose the way of playing must not also judge it."""

EVALUATED = ("play", "latency_ms", "touch", "changed", "progress", "films")
"""Options of evaluating alone; choosing the way of playing has its own, or none."""


@dataclass(frozen=True)
class Arguments:
    """Run a policy bundle in the simulated cell, as `tacit run` would on a robot, and count successes.

    Time waits for the policy (lockstep at 25 Hz), so the result does not depend on this machine's speed;
    --latency-ms shows what slow inference costs.
    """

    bundle: Path
    """Policy bundle (.onnx)."""
    task: str | None = None
    """place_cube, insert_peg, sort_by_feel, insert_peg_in_hand or insert_tight; the rig's own if left out."""
    rig: str | None = None
    """Rig name or rig.yaml; the one the bundle was trained on if left out."""
    episodes: Count | None = None
    """Number of episodes; 100 if left out, or 10 for each way and latency with --choose-playing."""
    seed: Seed | None = None
    """First seed; seeds count up. 10000 if left out, 30000 with --choose-playing: far from the seeds of
    the demonstrations."""
    play: Annotated[PlayFlags, tyro.conf.arg(name="")] = PlayFlags()
    latency_ms: Annotated[float, Within(0, 10_000)] = 0.0
    """Simulated time that each inference takes [ms]: its chunk is handed on so much later."""
    touch: TouchControl = "real"
    """What the policy feels: its own touch, or a control: that of another episode, blank gels, or its own
    with the pixels in disorder."""
    changed: tuple[Change, ...] = ()
    """What differs from the cell of the demonstrations, drawn anew in every episode: light (brightness and
    tint), camera (each moved by 2 cm and turned by 2 degrees, unknown to the rig), distractors (four more
    things on the table), gel (other colours, which drift)."""
    choose_playing: bool = False
    """Try several ways of playing chunks, each with 0, 40, 80 and 120 ms of latency, and write the one that
    succeeds most often into the bundle."""
    max_ticks: Count = MAX_TICKS
    """Longest episode."""
    progress: Path | None = None
    """Progress bundle to compare with the true progress on the way."""
    stop_on: StopOn = "nothing"
    """What of the progress bundle ends an episode, as stop_on of the progress node does on a robot."""
    output: NewFile | None = None
    """Write the result as JSON here."""
    films: NewFolder | None = None
    """Write one film strip (PNG) per episode into this folder."""
    threads: Annotated[int, Within(1, 256)] = 1
    """ONNX Runtime threads."""
    headless: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    """No window. To watch, run `tacit up policy` and any ROS image viewer."""

    def seeds(self, first: int, count: int) -> range:
        """Return the seeds to play: those asked for, else `count` from `first` on."""
        start = first if self.seed is None else self.seed
        return range(start, start + (count if self.episodes is None else self.episodes))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit evaluate`.

    Returns:
        0: the episodes ran, whatever their outcome.
    """
    arguments = parse_words(Arguments, argv, "tacit evaluate")
    _refuse_idle(arguments)
    console = Console(highlight=False, soft_wrap=True)
    if arguments.choose_playing:
        report = choose_playing(arguments, console)
    else:
        report = evaluate(arguments, console)
        _print(report, console)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _refuse_idle(arguments: Arguments) -> None:
    """Refuse options that would change nothing."""
    if not arguments.headless:
        raise ConfigError("tacit evaluate: --no-headless: it has no window; run `tacit up policy` to watch")
    if arguments.stop_on != "nothing" and arguments.progress is None:
        raise ConfigError(f"--stop-on {arguments.stop_on}: who tells? Give a --progress bundle")
    given = vars(arguments).items() - vars(Arguments(arguments.bundle)).items()
    idle = [f"--{name.replace('_', '-')}" for name, _ in given if name in EVALUATED]
    if arguments.choose_playing and idle:
        raise ConfigError(
            f"--choose-playing plays the cell as it is, in ways and with latencies of its own; leave out "
            f"{', '.join(sorted(idle))}"
        )


def evaluate(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Run the episodes and return the report as JSON-able data."""
    bundle = load_bundle(arguments.bundle)
    rig = load_rig(arguments.rig or bundle.manifest.rig_name)
    if arguments.touch != "real" and not (bundle.manifest.touch or bundle.manifest.taxels):
        raise ConfigError(f"--touch {arguments.touch}: {arguments.bundle} has no touch as an input")
    policy = OnnxPolicy(bundle, rig, arguments.threads)
    progress = OnnxProgress(arguments.progress, rig, arguments.threads) if arguments.progress else None
    cell = Cell(rig, arguments.task, changes=arguments.changed)
    play = arguments.play.applied(bundle.manifest.playing, bundle.manifest.chunk_size)
    film_every = FILM_EVERY if arguments.films else 0
    latency_ns = round(1e6 * arguments.latency_ms)
    runner = Runner(cell, policy, play, latency_ns, progress, film_every, arguments.stop_on, arguments.touch)
    rollouts: list[Rollout] = []
    seeds = arguments.seeds(FIRST_SEED, EPISODES)
    watch = Pace(len(seeds))
    for seed in seeds:
        try:
            rollouts.append(runner.run(seed, arguments.max_ticks))
        except KeyboardInterrupt:
            console.print(f"interrupted in episode {len(rollouts) + 1} of {len(seeds)}; no result is written")
            raise
        done = sum(rollout.success for rollout in rollouts)
        outcome = "success" if rollouts[-1].success else "failure in " + rollouts[-1].stage
        console.print(f"seed {seed}  {outcome:20}  {done}/{len(rollouts)}  {watch.after(len(rollouts))}")
        if arguments.films:
            save_film(rollouts[-1], arguments.films)
    cell.close()
    return summarise(rollouts) | {
        "task": cell.task.name,
        "num_marks": len(cell.task.marks),
        "touch": arguments.touch,
        "changed": list(arguments.changed),
        "play": play.model_dump(),
        "latency_ms": arguments.latency_ms,
        "bundle": arguments.bundle.name,
        "bundle_sha256": bundle.sha256,
        "inference": asdict(policy.stats.summary()),
    }


def choose_playing(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Try the ways of playing, write the best into the bundle, and return all counts as JSON-able data."""
    bundle = load_bundle(arguments.bundle)
    rig = load_rig(arguments.rig or bundle.manifest.rig_name)
    policy = OnnxPolicy(bundle, rig, arguments.threads)
    cell = Cell(rig, arguments.task)

    def success_of(play: PlaySpec, latency_ms: float, seed: int) -> bool:
        return Runner(cell, policy, play, round(1e6 * latency_ms)).run(seed, arguments.max_ticks).success

    tried: list[Trial] = []
    seeds = arguments.seeds(FIRST_CHOICE_SEED, CHOICE_EPISODES)
    for trial in trials(bundle.manifest.chunk_size, seeds, success_of):
        tried.append(trial)
        pairs = zip(LATENCIES_MS, trial.successes, strict=True)
        counts = ", ".join(f"{count} at {latency_ms:g} ms" for latency_ms, count in pairs)
        console.print(f"{trial.play}: {counts}, of {trial.episodes} each")
    cell.close()
    chosen = save_playing(bundle, best(tried), arguments.bundle)
    console.print(f"{arguments.bundle} is played so from now on: {chosen.manifest.playing}")
    return {
        "chosen": chosen.manifest.playing.model_dump(),
        "latencies_ms": list(LATENCIES_MS),
        "seeds": [seeds.start, seeds.stop - 1],
        "trials": [{"play": t.play.model_dump(), "successes": list(t.successes)} for t in tried],
        "bundle_sha256": chosen.sha256,
    }


def summarise(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return success with its 95 % interval, placement errors, lengths and progress error."""
    successes = [rollout for rollout in rollouts if rollout.success]
    errors = [rollout.progress_mae for rollout in rollouts if rollout.progress_mae is not None]
    interval = wilson_interval(len(successes), len(rollouts))
    return {
        "episodes": len(rollouts),
        "successes": len(successes),
        "success_rate": len(successes) / max(1, len(rollouts)),
        "wilson_95": list(interval),
        "right_mark": sum(rollout.mark == rollout.goal for rollout in rollouts),
        "placed_on_any_mark": sum(rollout.placed_on is not None for rollout in rollouts),
        "placement_error_mm": percentiles([1e3 * rollout.error_m for rollout in successes]),
        "placement_error_all_mm": percentiles([1e3 * rollout.error_m for rollout in rollouts]),
        "ticks": percentiles([float(rollout.num_ticks) for rollout in successes]),
        "holds": dict(Counter(r.fault.partition(":")[0] for r in rollouts if r.fault)),
        "failures_by_stage": dict(Counter(r.stage for r in rollouts if not r.success)),
        "progress_mae": float(np.mean(errors)) if errors else None,
        "progress_episodes": len(errors),
        "called_done": {
            "of_successes": sum(rollout.done_tick is not None for rollout in successes),
            "of_failures": sum(r.done_tick is not None for r in rollouts if not r.success),
        },
        "alarms": dict(Counter(alarm for rollout in rollouts for alarm in rollout.alarms)),
        "rollouts": [{k: v for k, v in vars(rollout).items() if k != "frames"} for rollout in rollouts],
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, 90th and 95th percentile and largest of `values`; None of none."""
    if not values:
        return None
    p50, p90, p95, largest = np.percentile(values, [50, 90, 95, 100])
    return {"p50": float(p50), "p90": float(p90), "p95": float(p95), "max": float(largest)}


def save_film(rollout: Rollout, folder: Path) -> Path:
    """Write the frames of an episode below each other as one PNG and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed_{rollout.seed}_{'success' if rollout.success else 'failure'}.png"
    cv2.imwrite(str(path), np.concatenate(rollout.frames, axis=0)[..., ::-1])
    return path


def _print(report: dict[str, Any], console: Console) -> None:
    low, high = report["wilson_95"]
    console.print(
        f"\n{report['task']}, {PlaySpec.model_validate(report['play'])}, inference takes "
        f"{report['latency_ms']:g} ms: [bold]{report['successes']}/{report['episodes']}[/] "
        f"= {100 * report['success_rate']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    )
    if report["num_marks"] > 1:
        console.print(
            f"right mark: {report['right_mark']}/{report['episodes']}; placed on any mark: "
            f"{report['placed_on_any_mark']}/{report['episodes']}"
        )
    for key, unit in (("placement_error_mm", "mm"), ("ticks", "")):
        if report[key]:
            values = "  ".join(f"{name} {value:.1f}" for name, value in report[key].items())
            console.print(f"{key} of successes: {values} {unit}")
    if report["failures_by_stage"]:
        console.print(f"failures by last stage: {report['failures_by_stage']}")
    if report["holds"]:
        console.print(f"held by a fault: {report['holds']}")
    if report["progress_mae"] is not None:
        console.print(
            f"progress error (mean absolute, {report['progress_episodes']} episodes): "
            f"{report['progress_mae']:.3f}"
        )
    if report["progress_mae"] is not None or report["alarms"]:
        done, failures = report["called_done"], report["episodes"] - report["successes"]
        console.print(
            f"called done: {done['of_successes']} of {report['successes']} successes, "
            f"{done['of_failures']} of {failures} failures; alarms: {report['alarms'] or 'none'}"
        )
