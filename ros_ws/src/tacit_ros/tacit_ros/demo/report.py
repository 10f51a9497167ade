"""The page that the demo ends with: what was recorded, learned and done, with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tacit.episode import find_episodes, segments
from tacit.view.page import Page
from tacit.view.plot import Band, Line, Series, line_plot
from tacit_ros.demo.acting import progress_curves
from tacit_ros.demo.numbers import read_metrics, series
from tacit_ros.demo.pictures import film, located_touch
from tacit_ros.demo.settings import DemoSettings

FILMS = 6
"""Film strips shown: failures first, for they teach most."""
CURVES = 3


def write_report(
    settings: DemoSettings,
    numbers: Mapping[str, Any],
    results: Mapping[str, dict[str, Any]],
    stages: tuple[str, ...],
) -> Path:
    """Write `report.html` into the demo's folder.

    Args:
        settings: The demo.
        numbers: What `tacit_ros.demo.numbers.collect` returned.
        results: Results of all steps, by name.
        stages: Names of the task's stages.
    """
    subtitle = f"{settings.instruction} Recorded over ROS 2, learned, exported, acted in closed loop."
    page = Page("tacit demo", subtitle)
    _headline(page, settings, numbers)
    _recorded(page, settings, numbers)
    _learned(page, settings, numbers)
    episodes = results["act"]["closed_loop"]
    _acted(page, episodes, numbers)
    _progressed(page, episodes, numbers, stages)
    _timings(page, results)
    return page.save(settings.output / "report.html")


def _headline(page: Page, settings: DemoSettings, numbers: Mapping[str, Any]) -> None:
    low, high = numbers["success_interval_95"]
    page.facts(
        {
            "closed-loop success": f"{numbers['successes']}/{numbers['episodes']}",
            "95 % interval": f"{100 * low:.0f}-{100 * high:.0f} %",
            "demonstrations": numbers["recorded_episodes"],
            "dropped ticks": numbers["dropped_ticks"],
            "training": f"{numbers['train_seconds']:.0f} s",
            "in all": f"{numbers['total_seconds'] / 60:.1f} min",
        }
    )
    if settings.name == "quick":
        page.paragraph(
            "This is the quick demo: a handful of demonstrations and training steps. It proves that every "
            "part runs; it does not show learning. `make demo` does."
        )


def _recorded(page: Page, settings: DemoSettings, numbers: Mapping[str, Any]) -> None:
    page.section(
        "Recorded: touch is located",
        f"{numbers['recorded_episodes']} demonstrations, {numbers['recorded_ticks']} ticks, "
        f"{numbers['dropped_ticks']} dropped. The boxes of both tactile sensors in both cameras were "
        "computed at record time from the joints, the gripper opening and the calibration, and stored.",
    )
    paths = find_episodes(settings.episodes)
    caption = (
        "Top and wrist camera with the sensor boxes; left and right touch. "
        "Four moments of the first demonstration."
    )
    page.figure(located_touch(paths[0]), caption)


def _learned(page: Page, settings: DemoSettings, numbers: Mapping[str, Any]) -> None:
    page.section(
        "Learned: ACT with touch aligned to vision",
        "Action chunking with a CVAE; the tokens of every camera cell and of both touch images feed the "
        "policy, and the alignment loss (HSA) trains those same tokens.",
    )
    rows = read_metrics(settings.output / "act_hsa")
    errors = [_curve(rows, kind, key, f"{kind} {key}") for kind, key in (("train", "l1"), ("val", "l1_z0"))]
    page.plot(
        line_plot([s for s in errors if s], x_label="step", y_label="L1, standardised targets"),
        "Error of the predicted chunk: in training with the posterior, "
        "in validation as on the robot (z = 0).",
    )
    alignment = [s for s in (_curve(rows, "train", "hsa", "HSA"), _chance(rows)) if s]
    if alignment:
        page.plot(
            line_plot(alignment, x_label="step", y_label="HSA loss"),
            "Alignment of touch and vision against chance, ln(1 + number of negatives).",
        )
    progress = read_metrics(settings.output / "progress")
    errors = [_curve(progress, kind, "loss", f"{kind} loss") for kind in ("train", "val")]
    page.plot(
        line_plot([s for s in errors if s], x_label="step", y_label="loss"), "The causal progress estimator."
    )
    page.paragraph(
        f"Largest difference between torch and the exported files: {numbers['export_max_diff']:.1e}."
    )


def _curve(rows: list[dict[str, Any]], kind: str, key: str, label: str) -> Series | None:
    steps, values = series(rows, kind, key)
    return Series(label, steps, values) if steps else None


def _chance(rows: list[dict[str, Any]]) -> Series | None:
    steps, values = series(rows, "train", "hsa_chance")
    return Series("chance", steps, values, dashed=True) if steps else None


def _acted(page: Page, episodes: list[dict[str, Any]], numbers: Mapping[str, Any]) -> None:
    page.section(
        "Acted: starts that were never recorded",
        f"The policy node sent {numbers['policy_hz']:.1f} commands a second (p99 of the period error "
        f"{numbers['policy_period_error_p99_ms']} ms), one inference took {numbers['inference_p50_ms']} ms "
        f"(median) and {numbers['inference_p95_ms']} ms (p95).",
    )
    rows = [
        ["ok" if e["success"] else "error", e["seed"], round(e["seconds"], 2), round(1e3 * e["error_m"], 1)]
        for e in episodes
    ]
    page.table(["outcome", "seed", "seconds", "distance from goal [mm]"], rows, badges=0)
    for episode in sorted(episodes, key=lambda e: e["success"])[:FILMS]:
        outcome = "success" if episode["success"] else "failure"
        page.figure(film(Path(episode["path"])), f"Seed {episode['seed']}: {outcome}")


def _progressed(
    page: Page, episodes: list[dict[str, Any]], numbers: Mapping[str, Any], stages: tuple[str, ...]
) -> None:
    page.section(
        "Progress against truth",
        f"Mean absolute error {numbers['progress_mae']} in closed loop over successful episodes; "
        "always saying 0.5 "
        f"would be off by {numbers['progress_mae_constant_half']}. The truth comes from the physical stages.",
    )
    for episode in [e for e in episodes if e["success"]][:CURVES] or episodes[:CURVES]:
        seconds, estimate, truth = progress_curves(episode, stages)
        steps = segments([stage for _, stage in episode["truth"]], stages)
        bands = [Band(seconds[s.start_frame], seconds[s.end_frame], s.name) for s in steps]
        lines = [Series("progress node", seconds, estimate), Series("truth", seconds, truth, dashed=True)]
        plot = line_plot(
            lines, x_label="s", y_label="progress", bands=bands, lines=[Line(1.0)], y_range=(0.0, 1.05)
        )
        page.plot(plot, f"Seed {episode['seed']}")


def _timings(page: Page, results: Mapping[str, dict[str, Any]]) -> None:
    page.section("Where the time went")
    page.table(["step", "seconds"], [[name, result["seconds"]] for name, result in results.items()])
