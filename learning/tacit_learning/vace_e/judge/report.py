"""One self-contained HTML page of a run: curves, validation, labels, samples that play."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tacit.convert.video import probe_video
from tacit.images import load_image
from tacit.view.draw import GAP_PX, enlarge, frames_of_strip
from tacit.view.page import Cell, Judged, Page
from tacit.view.player import clip_player
from tacit.view.plot import Band, Line, Series, line_plot

PAGE = "report.html"
SAMPLES = "samples"
VALIDATION = "validation.json"
LABELS = "labels.json"
MAX_SHOWN = 6
SHOWN_PX = 240
"""Small frames are enlarged to about this width."""
TELLS = 0.25
"""Features that should not tell a thing may beat chance by this part of what is above it, and no more."""
PROBES = {
    "linear": "by a line",
    "knn": "by neighbours",
    "prototype": "by the nearest mean",
    "chance": "chance",
}

Row = Mapping[str, Any]


class Plot(NamedTuple):
    """What one figure shows: (kind, key, label) of each line, its words, and the name of its axis."""

    title: str
    lines: tuple[tuple[str, str, str], ...]
    caption: str
    axis: str


PLOTS = (
    Plot(
        "Flow matching",
        (("train", "flow", "training"), ("val", "flow", "fixed grid, held out")),
        "Training draws noise levels at random; the held-out line uses the same noise every time.",
        "squared error of velocity",
    ),
    Plot(
        "Supervised contrastive, above its floor",
        (("train", "task_excess", "task"), ("train", "embodiment_excess", "embodiment")),
        "The floor of a perfect clustering, ln(partners), is taken off: 0 is the best possible.",
        "loss above its floor [nat]",
    ),
    Plot(
        "CLUB estimate and the fit of q",
        (("train", "club_mi", "estimate [nat]"), ("train", "club_nll", "learning loss of q")),
        "A falling estimate proves nothing by itself: q may be poor. Read it beside the probes below.",
        "[nat]",
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
        "share classified right",
    ),
    Plot(
        "Video quality",
        (("val", "psnr_inside", "PSNR inside [dB]"), ("val", "psnr_outside", "PSNR outside [dB]")),
        "Of sampled videos against the recorded ones, inside and outside the mask.",
        "PSNR [dB]",
    ),
    Plot("Learning rate", (("train", "lr", "AdamW"),), "", "learning rate"),
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
            drawn = line_plot(series, x_label="optimiser step", y_label=plot.axis, bands=bands, lines=zero)
            page.plot(drawn, plot.caption)


def _validation(page: Page, folder: Path) -> None:
    text = _text(folder / VALIDATION)
    if not text:
        return
    result = json.loads(text)
    scores = result["scores"]
    page.section(
        "Last validation",
        f"After step {result['step']}, on {result['num_samples']} windows. A probe is held against chance: "
        "features of the task should tell the task and not the embodiment, and the other way round.",
    )
    page.table(["metric", "value"], [[_named(name), _judged(scores, name)] for name in scores])


def _named(metric: str) -> str:
    """Name a metric in words, with its unit."""
    kind, _, rest = metric.partition("_")
    if "_of_" in metric:
        target, _, rest = metric.partition("_of_")
        source, _, probe = rest.partition("_")
        return f"{target} from features of the {source}, {PROBES.get(probe, probe)} [share right]"
    return {"psnr": f"PSNR {rest} the mask [dB]", "ssim": f"SSIM {rest} the mask [of 1]"}.get(
        kind, metric.replace("_", " ")
    )


def _judged(scores: Mapping[str, float | str], name: str) -> Cell:
    """Return a score, held against chance where it is a probe's."""
    value, (target, _, rest) = scores[name], name.partition("_of_")
    source, _, probe = rest.partition("_")
    chance = scores.get(f"{target}_of_{source}_chance")
    if isinstance(value, str) or isinstance(chance, str) or chance is None or probe == "chance":
        return _cell(value)
    if target == source:
        return Judged(_cell(value), value > chance, f"more than {chance:.3g}, chance")
    most = chance + TELLS * (1 - chance)
    return Judged(_cell(value), value <= most, f"at most {most:.3g}; chance is {chance:.3g}")


def _samples(page: Page, folder: Path) -> None:
    sheets = sorted((folder / SAMPLES).glob("*.png"))[-MAX_SHOWN:]
    if sheets:
        page.section("Samples", "Control is what the model sees, and the recording what it should draw.")
    for sheet in sheets:
        page.heading(sheet.stem).block(_sample(sheet))


def _sample(path: Path) -> str:
    """Return a player of the frames that `save_clip` put on a sheet, beside the video of the sample."""
    sheet, video = load_image(path), probe_video(path.with_suffix(".mp4"))
    rows = (sheet.shape[0] + GAP_PX) // (video.height + GAP_PX)
    frames = frames_of_strip(sheet, (sheet.shape[1] + GAP_PX) // (video.width + GAP_PX), rows)
    factor = max(1, SHOWN_PX // video.width)
    streams = {
        name: [enlarge(frame, factor) for frame in row]
        for name, row in zip(("control", "sample", "recording"), frames, strict=False)
    }
    return clip_player(streams, np.linspace(0, video.frames - 1, len(frames[0])) / video.fps)


def _labels(page: Page, folder: Path) -> None:
    text = _text(folder / LABELS)
    if not text:
        return
    labels = json.loads(text)
    page.section("Labels", "Made once; they only ever grow. A text that is not here is -1, never 0.")
    rows = [[kind, number, name] for kind in ("task", "embodiment") for name, number in labels[kind].items()]
    page.table(["label of", "number", "text"], rows)


def _series(rows: Sequence[Row], kind: str, key: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[key]) for row in rows if row["kind"] == kind and row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
