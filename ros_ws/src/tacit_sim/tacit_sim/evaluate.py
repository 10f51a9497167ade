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

from tacit.bundle import load_bundle
from tacit.bundle.player import PlayMode, PlaySpec
from tacit.bundle.runtime import OnnxPolicy, OnnxProgress
from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit.view.proportions import wilson_interval
from tacit_sim.cell import Cell
from tacit_sim.closed_loop import MAX_TICKS, Rollout, Runner


@dataclass(frozen=True)
class Arguments:
    """Run a policy bundle in the simulated cell in lockstep at 25 Hz and count successes."""

    bundle: Path
    """Policy bundle (.onnx)."""
    task: str | None = None
    """place_cube or insert_peg; the rig's own task if left out."""
    rig: str | None = None
    """Rig name or rig.yaml; the one the bundle was trained on if left out."""
    episodes: int = 100
    """Number of episodes; seeds count up from --seed."""
    seed: int = 10_000
    """First seed. Keep it away from the seeds of the demonstrations."""
    mode: PlayMode | None = None
    """How overlapping chunks are played; as the bundle says if left out, like the other three."""
    every: int | None = None
    """Ticks from one inference to the next."""
    blend: int | None = None
    """Rows of cross-fade in mode blend."""
    decay: float | None = None
    """Decay of the weights in mode temporal_ensemble."""
    latency_ms: float = 0.0
    """Simulated time that each inference takes: its chunk is handed on so much later."""
    max_ticks: int = MAX_TICKS
    """Longest episode."""
    progress: Path | None = None
    """Progress bundle to compare with the true progress on the way."""
    output: Path | None = None
    """Write the result as JSON here."""
    films: Path | None = None
    """Write one film strip (PNG) per episode into this folder."""
    threads: int = 1
    """ONNX Runtime threads."""
    headless: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    """No window. To watch, run `tacit up policy` and any ROS image viewer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit evaluate`.

    Returns:
        0: the episodes ran, whatever their outcome.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="tacit evaluate")
    if not arguments.headless:
        raise ConfigError("tacit evaluate: --no-headless: it has no window; run `tacit up policy` to watch")
    console = Console()
    report = evaluate(arguments, console)
    _print(report, console)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def evaluate(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Run the episodes and return the report as JSON-able data."""
    bundle = load_bundle(arguments.bundle)
    rig = load_rig(arguments.rig or bundle.manifest.rig_name)
    policy = OnnxPolicy(bundle, rig, arguments.threads)
    progress = OnnxProgress(arguments.progress, rig, arguments.threads) if arguments.progress else None
    cell = Cell(rig, arguments.task)
    film_every = 12 if arguments.films else 0
    play = bundle.manifest.playing.changed(
        bundle.manifest.chunk_size, arguments.mode, arguments.every, arguments.blend, arguments.decay
    )
    runner = Runner(cell, policy, play, round(1e6 * arguments.latency_ms), progress, film_every)
    rollouts: list[Rollout] = []
    for seed in range(arguments.seed, arguments.seed + arguments.episodes):
        rollouts.append(runner.run(seed, arguments.max_ticks))
        done = sum(rollout.success for rollout in rollouts)
        console.print(
            f"seed {seed}  {'success' if rollouts[-1].success else 'failure in ' + rollouts[-1].stage:20}"
            f"  {done}/{len(rollouts)}",
            highlight=False,
            soft_wrap=True,
        )
        if arguments.films:
            save_film(rollouts[-1], arguments.films)
    cell.close()
    latency = asdict(policy.stats.summary())
    return summarise(rollouts) | {
        "task": cell.task.name,
        "play": play.model_dump(),
        "latency_ms": arguments.latency_ms,
        "bundle": arguments.bundle.name,
        "bundle_sha256": bundle.sha256,
        "inference": latency,
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
        "placement_error_mm": percentiles([1e3 * rollout.error_m for rollout in successes]),
        "placement_error_all_mm": percentiles([1e3 * rollout.error_m for rollout in rollouts]),
        "ticks": percentiles([float(rollout.num_ticks) for rollout in successes]),
        "holds": dict(Counter(r.fault.partition(":")[0] for r in rollouts if r.fault)),
        "failures_by_stage": dict(Counter(r.stage for r in rollouts if not r.success)),
        "progress_mae": float(np.mean(errors)) if errors else None,
        "progress_episodes": len(errors),
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
        f"= {100 * report['success_rate']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)",
        highlight=False,
        soft_wrap=True,
    )
    for key, unit in (("placement_error_mm", "mm"), ("ticks", "")):
        if report[key]:
            values = "  ".join(f"{name} {value:.1f}" for name, value in report[key].items())
            console.print(f"{key} of successes: {values} {unit}", highlight=False, soft_wrap=True)
    if report["failures_by_stage"]:
        console.print(
            f"failures by last stage: {report['failures_by_stage']}", highlight=False, soft_wrap=True
        )
    if report["holds"]:
        console.print(f"held by a fault: {report['holds']}", highlight=False, soft_wrap=True)
    if report["progress_mae"] is not None:
        console.print(
            f"progress error (mean absolute, {report['progress_episodes']} episodes): "
            f"{report['progress_mae']:.3f}",
            highlight=False,
            soft_wrap=True,
        )
