"""The page that the demo ends with: what was recorded, learned and done, with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tacit.episode import EpisodeReader, find_episodes, segments
from tacit.view.page import Cell, Judged, Page
from tacit.view.player import player
from tacit.view.plot import Band, Line, Series, line_plot
from tacit_ros.demo.acting import progress_curves
from tacit_ros.demo.numbers import read_metrics, series
from tacit_ros.demo.outcome import expectation, shortfalls
from tacit_ros.demo.settings import DemoSettings

FILMS, FILM_FRAMES = 6, 40
"""Episodes that can be played, failures first, for they teach most; and frames of each."""
CURVES = 3
FEW_DROPPED = 0.005
"""Part of the ticks that may be missing before it is worth a look."""
RATE_OFF = 0.1
EXACT = 1e-4
"""Largest difference between torch and ONNX, in standardised targets, that no robot would notice."""


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
    reached = f"{numbers['successes']}/{numbers['episodes']}"
    success: Cell = reached
    wanted = settings.min_success_rate
    if wanted:  # the quick demo learns nothing that could be judged
        success = Judged(reached, numbers["success_rate"] >= wanted, f"at least {100 * wanted:.0f} %")
    most = round(FEW_DROPPED * numbers["recorded_ticks"])
    page.facts(
        {
            "closed-loop success": success,
            "95 % interval": f"{100 * low:.0f}-{100 * high:.0f} %",
            "demonstrations": _against(numbers["recorded_episodes"], settings.demonstrations),
            "dropped ticks": Judged(
                numbers["dropped_ticks"], numbers["dropped_ticks"] <= most, f"at most {most}"
            ),
            "steps of the policy": _against(numbers["policy_steps"], numbers["policy_steps_wanted"]),
            "steps of progress": _against(numbers["progress_steps"], numbers["progress_steps_wanted"]),
            "training": f"{numbers['train_seconds']:.0f} s",
            "in all": f"{numbers['total_seconds'] / 60:.1f} min",
        }
    )
    page.paragraph(f"Machine: {numbers['machine']}.")
    for words in (*shortfalls(settings, numbers), expectation(settings, numbers)):
        page.paragraph(words)


def _against(reached: int, wanted: int) -> Judged:
    return Judged(reached, reached >= wanted, str(wanted))


def _recorded(page: Page, settings: DemoSettings, numbers: Mapping[str, Any]) -> None:
    page.section(
        "Recorded: touch is located",
        f"{numbers['recorded_episodes']} demonstrations, {numbers['recorded_ticks']} ticks, "
        f"{numbers['dropped_ticks']} dropped. The boxes of both tactile sensors in both cameras were "
        "computed at record time from the joints, the gripper opening and the calibration, and stored. "
        "Here is the first demonstration; the arrow keys and the space bar move the film that was clicked.",
    )
    page.block(_film(find_episodes(settings.episodes)[0]))


def _film(path: Path) -> str:
    with EpisodeReader(path) as reader:
        return player(reader, FILM_FRAMES)


def _learned(page: Page, settings: DemoSettings, numbers: Mapping[str, Any]) -> None:
    page.section(
        "Learned: ACT with touch aligned to vision",
        "Action chunking with a CVAE; the tokens of every camera cell and of both touch images feed the "
        "policy, and the alignment loss (HSA) trains those same tokens.",
    )
    page.facts(_learned_facts(numbers))
    rows = read_metrics(settings.output / "act_hsa")
    errors = [
        _curve(rows, "train", "l1", "training"),
        _curve(rows, "val", "l1_z0", "validation"),
        _curve(rows, "val", "l1_copy", "staying where it is", dashed=True),
    ]
    page.plot(
        line_plot([s for s in errors if s], x_label="training step", y_label="L1, standardised targets"),
        "Error of the predicted chunk: in training with the posterior, "
        "in validation as on the robot (z = 0).",
    )
    alignment = [
        _curve(rows, "train", "hsa", "HSA"),
        _curve(rows, "train", "hsa_chance", "chance", dashed=True),
    ]
    if any(alignment):
        page.plot(
            line_plot([s for s in alignment if s], x_label="training step", y_label="HSA loss [nat]"),
            "Alignment of touch and vision against chance, ln(1 + number of negatives).",
        )
    progress = read_metrics(settings.output / "progress")
    errors = [
        _curve(progress, kind, "loss", name) for kind, name in (("train", "training"), ("val", "validation"))
    ]
    page.plot(
        line_plot([s for s in errors if s], x_label="training step", y_label="loss"),
        "The causal progress estimator.",
    )


def _learned_facts(numbers: Mapping[str, Any]) -> dict[str, Cell]:
    """What was learned, each number beside what it must beat."""
    difference = numbers["export_max_diff"]
    return {
        "validation error of actions, L1": _below(
            numbers["l1_val_z0"], numbers["l1_val_copy_pose"], "standing"
        ),
        "alignment loss (HSA) [nat]": _below(numbers["hsa_final"], numbers["hsa_chance"], "chance"),
        "validation error of progress [of 1]": _below(numbers["progress_val_mae"], 0.25, "always saying .5"),
        "torch to ONNX, largest difference": Judged(
            f"{difference:.1e}", difference <= EXACT, f"at most {EXACT:.0e}"
        ),
    }


def _below(value: float | None, bar: float | None, name: str) -> Cell:
    if value is None or bar is None:
        return value
    return Judged(value, value < bar, f"below {bar:.3g}, {name}")


def _curve(
    rows: list[dict[str, Any]], kind: str, key: str, label: str, dashed: bool = False
) -> Series | None:
    steps, values = series(rows, kind, key)
    return Series(label, steps, values, dashed=dashed) if steps else None


def _acted(page: Page, episodes: list[dict[str, Any]], numbers: Mapping[str, Any]) -> None:
    page.section("Acted: starts that were never recorded")
    wanted_hz = numbers["rig_hz"]
    period_ms = 1e3 / wanted_hz
    page.facts(
        {
            "commands of the policy node": Judged(
                f"{numbers['policy_hz']:.1f} Hz",
                abs(numbers["policy_hz"] - wanted_hz) < RATE_OFF * wanted_hz,
                f"{wanted_hz:g} Hz, {100 * RATE_OFF:.0f} % off at most",
            ),
            "error of the period, p99": _within(numbers["policy_period_error_p99_ms"], period_ms, "a period"),
            "inference, median": _within(numbers["inference_p50_ms"], period_ms, "a period"),
            "inference, p95": _within(numbers["inference_p95_ms"], period_ms, "a period"),
        }
    )
    rows = [
        [
            "success" if e["success"] else "failure",
            e["seed"],
            f"{e['seconds']:.2f}",
            f"{1e3 * e['error_m']:.1f}",
        ]
        for e in episodes
    ]
    page.table(["outcome", "seed", "time [s]", "from the goal [mm]"], rows, badges=0)
    for episode in sorted(episodes, key=lambda e: e["success"])[:FILMS]:
        outcome = "success" if episode["success"] else "failure"
        page.heading(f"Seed {episode['seed']}: {outcome}").block(_film(Path(episode["path"])))


def _within(value_ms: float | None, limit_ms: float, name: str) -> Cell:
    if value_ms is None:
        return None
    return Judged(f"{value_ms:.3g} ms", value_ms < limit_ms, f"below {limit_ms:.0f} ms, {name}")


def _progressed(
    page: Page, episodes: list[dict[str, Any]], numbers: Mapping[str, Any], stages: tuple[str, ...]
) -> None:
    page.section("Progress against truth", "The truth comes from the physical stages of the simulation.")
    error = _below(numbers["progress_mae"], numbers["progress_mae_constant_half"], "always saying .5")
    page.facts({"mean error in closed loop, successes [of 1]": error})
    for episode in [e for e in episodes if e["success"]][:CURVES] or episodes[:CURVES]:
        seconds, estimate, truth = progress_curves(episode, stages)
        steps = segments([stage for _, stage in episode["truth"]], stages)
        bands = [Band(seconds[s.start_frame], seconds[s.end_frame], s.name) for s in steps]
        lines = [Series("progress node", seconds, estimate), Series("truth", seconds, truth, dashed=True)]
        plot = line_plot(
            lines, x_label="time [s]", y_label="progress", bands=bands, lines=[Line(1.0)], y_range=(0.0, 1.05)
        )
        page.plot(plot, f"Seed {episode['seed']}")


def _timings(page: Page, results: Mapping[str, dict[str, Any]]) -> None:
    page.section("Where the time went")
    page.table(
        ["step", "time [s]"],
        [[name.replace("_", " "), result["seconds"]] for name, result in results.items()],
    )
