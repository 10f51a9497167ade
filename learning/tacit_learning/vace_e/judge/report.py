"""One self-contained HTML page of a run: curves, validation, labels, samples as film strips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tacit.images import load_image
from tacit.view.page import Page
from tacit.view.plot import Band, Line, Series, line_plot

PAGE = "report.html"
SAMPLES = "samples"
VALIDATION = "validation.json"
LABELS = "labels.json"
MAX_STRIPS = 6
STRIP_WIDTH = 900  # [px] on the page

Row = Mapping[str, Any]


class Plot(NamedTuple):
    """What one figure shows: (kind, key, label) of each line, and its words."""

    title: str
    lines: tuple[tuple[str, str, str], ...]
    caption: str


PLOTS = (
    Plot(
        "Flow matching",
        (("train", "flow", "training"), ("val", "flow", "fixed grid, held out")),
        "Training draws noise levels at random; the held-out line uses the same noise every time.",
    ),
    Plot(
        "Supervised contrastive, above its floor",
        (("train", "task_excess", "task"), ("train", "embodiment_excess", "embodiment")),
        "The floor of a perfect clustering, ln(partners), is taken off: 0 is the best possible.",
    ),
    Plot(
        "CLUB estimate and the fit of q",
        (("train", "club_mi", "estimate [nat]"), ("train", "club_nll", "learning loss of q")),
        "A falling estimate proves nothing by itself: q may be poor. Read it beside the probes below.",
    ),
    Plot(
        "Probes on held-out episodes",
        (
            ("val", "task_of_task_knn", "task from z_task, kNN"),
            ("val", "embodiment_of_task_linear", "embodiment from z_task, linear"),
            ("val", "embodiment_of_task_knn", "embodiment from z_task, kNN"),
            ("val", "embodiment_of_task_chance", "embodiment, chance"),
        ),
        "What z_task still tells of the embodiment, to a line and to neighbours.",
    ),
    Plot(
        "Video quality",
        (("val", "psnr_inside", "PSNR inside [dB]"), ("val", "psnr_outside", "PSNR outside [dB]")),
        "Of sampled videos against the recorded ones, inside and outside the mask.",
    ),
    Plot("Learning rate", (("train", "lr", "AdamW"),), ""),
)


def write_page(folder: Path, title: str = "VACE-E") -> Path:
    """Write `report.html` into the folder of a run from the files that lie there."""
    rows = read_metrics(folder)
    stages = json.loads(_text(folder / "stages.json") or "[]")
    page = Page(
        title, "; ".join(f"{s['name']}: {', '.join(s['groups'])}, {s['steps']} steps" for s in stages)
    )
    _headline(page, rows)
    _curves(page, rows, [Band(s["first_step"], s["first_step"] + s["steps"], s["name"]) for s in stages])
    _validation(page, folder)
    _samples(page, folder)
    _labels(page, folder)
    if config := _text(folder / "config.yaml"):
        page.section("Options").details("config.yaml of this run", config)
    return page.save(folder / PAGE)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics; where a run was resumed, the later row of a step counts."""
    text = _text(folder / "metrics.jsonl")
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in map(json.loads, text.splitlines()):
        rows[row["kind"], row["step"]] = row
    return sorted(rows.values(), key=lambda row: row["step"])


def _headline(page: Page, rows: Sequence[Row]) -> None:
    last = [row for row in rows if row["kind"] == "train"]
    held_out = [row for row in rows if row["kind"] == "val"]
    facts: dict[str, Any] = {"steps": last[-1]["step"] if last else 0}
    for name, source, key in (
        ("flow loss, training", last, "flow"),
        ("flow loss, held out", held_out, "flow"),
        ("samples per second", last, "samples_per_s"),
    ):
        if source and source[-1].get(key) is not None:
            facts[name] = f"{source[-1][key]:.4g}"
    page.facts(facts)


def _curves(page: Page, rows: Sequence[Row], bands: list[Band]) -> None:
    page.section("Curves", "Shaded: the stages of the run.")
    for plot in PLOTS:
        series = [
            Series(label, *found) for kind, key, label in plot.lines if (found := _series(rows, kind, key))[0]
        ]
        if series:
            zero = [Line(0.0)] if "excess" in plot.lines[0][1] else []
            page.heading(plot.title)
            page.plot(line_plot(series, x_label="optimiser step", bands=bands, lines=zero), plot.caption)


def _validation(page: Page, folder: Path) -> None:
    text = _text(folder / VALIDATION)
    if not text:
        return
    result = json.loads(text)
    page.section("Last validation", f"After step {result['step']}, on {result['num_samples']} windows.")
    page.table(["metric", "value"], [[name, _cell(value)] for name, value in result["scores"].items()])


def _samples(page: Page, folder: Path) -> None:
    sheets = sorted((folder / SAMPLES).glob("*.png"))[-MAX_STRIPS:]
    if sheets:
        page.section("Samples", "Rows: control (what the model sees), sample, recording.")
    for sheet in sheets:
        page.figure(load_image(sheet), sheet.stem, width=STRIP_WIDTH)


def _labels(page: Page, folder: Path) -> None:
    text = _text(folder / LABELS)
    if not text:
        return
    labels = json.loads(text)
    page.section("Labels", "Made once; they only ever grow. A text that is not here is -1, never 0.")
    rows = [[kind, number, name] for kind in ("task", "embodiment") for name, number in labels[kind].items()]
    page.table(["of", "id", "text"], rows)


def _series(rows: Sequence[Row], kind: str, key: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[key]) for row in rows if row["kind"] == kind and row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
