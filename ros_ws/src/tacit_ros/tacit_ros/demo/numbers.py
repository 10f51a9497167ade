"""What the demo measured, as one flat dictionary: `runs/demo/report.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tacit.episode import EpisodeReader
from tacit.view.proportions import wilson_interval
from tacit_ros.demo.acting import progress_curves
from tacit_ros.demo.outcome import steps_wanted


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl."""
    text = (run / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def series(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one metric of `kind` train or val; missing values are left out."""
    found = [(row["step"], row[key]) for row in rows if row["kind"] == kind and row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def last(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> float | None:
    """Return the last value of a metric, None if it was never logged."""
    _, values = series(rows, kind, key)
    return values[-1] if values else None


def command_rate(paths: Sequence[Path]) -> tuple[float, float]:
    """Return rate [Hz] and p99 error of the period [ms] of the commands, as the recorder received them.

    Only the time from the first to the last command of each episode counts, on the wall clock.
    """
    gaps = []
    for path in paths:
        with EpisodeReader(path) as episode:
            for name in episode.rig.commands:
                gaps.append(np.diff(np.sort(episode.stream(name)["recv_ns"])) * 1e-6)
    periods_ms = np.concatenate(gaps) if gaps else np.zeros(0)
    if len(periods_ms) == 0:
        return 0.0, math.nan
    error_ms = np.abs(periods_ms - np.median(periods_ms))
    return 1e3 / float(np.median(periods_ms)), float(np.percentile(error_ms, 99))


def progress_error(episodes: Sequence[dict[str, Any]], stages: tuple[str, ...]) -> dict[str, float | None]:
    """Return the mean absolute progress error over successful episodes, beside always saying 0.5."""
    errors, halves = [], []
    for episode in episodes:
        if not episode["success"]:
            continue
        _, estimate, truth = progress_curves(episode, stages)
        seen = np.isfinite(estimate)
        errors.append(np.abs(estimate - truth)[seen])
        halves.append(np.abs(0.5 - truth)[seen])
    if not errors or not len(np.concatenate(errors)):
        return {"progress_mae": None, "progress_mae_constant_half": None}
    return {
        "progress_mae": round(float(np.concatenate(errors).mean()), 4),
        "progress_mae_constant_half": round(float(np.concatenate(halves).mean()), 4),
    }


def collect(
    results: Mapping[str, dict[str, Any]], policy_run: Path, progress_run: Path, stages: tuple[str, ...]
) -> dict[str, Any]:
    """Merge the results of all steps into the numbers of the report."""
    episodes = results["act"]["closed_loop"]
    successes = sum(episode["success"] for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    policy, progress = read_metrics(policy_run), read_metrics(progress_run)
    rate_hz, period_p99_ms = command_rate([Path(episode["path"]) for episode in episodes])
    node = results["act"]["diagnostics"].get("policy", {})
    export = results["export"]
    return {
        "success_rate": successes / max(1, len(episodes)),
        "success_interval_95": [round(low, 4), round(high, 4)],
        "successes": successes,
        "episodes": len(episodes),
        **{k: v for k, v in results["record"].items() if k != "seconds"},
        "record_seconds": results["record"]["seconds"],
        "train_seconds": results["train_policy"]["seconds"] + results["train_progress"]["seconds"],
        "policy_steps": policy[-1]["step"] if policy else 0,
        "policy_steps_wanted": steps_wanted(policy_run),
        "progress_steps": progress[-1]["step"] if progress else 0,
        "progress_steps_wanted": steps_wanted(progress_run),
        "total_seconds": round(sum(result["seconds"] for result in results.values()), 1),
        "export_max_diff": max(export["policy_max_diff"], export["progress_max_diff"]),
        "policy_hz": round(rate_hz, 2),
        "policy_period_error_p99_ms": _round(period_p99_ms),
        "inference_p50_ms": _number(node.get("inference_p50_ms")),
        "inference_p95_ms": _number(node.get("inference_p95_ms")),
        **progress_error(episodes, stages),
        "hsa_final": last(policy, "train", "hsa"),
        "hsa_chance": last(policy, "train", "hsa_chance"),
        "l1_val_z0": last(policy, "val", "l1_z0"),
        "l1_val_copy_pose": last(policy, "val", "l1_copy"),
        "progress_val_mae": last(progress, "val", "mae"),
    }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
