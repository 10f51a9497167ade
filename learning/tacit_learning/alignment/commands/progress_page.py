"""The page of `tacit evaluate progress`: counts, calibration, and what was said of single episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tacit.progress import DetectorConfig
from tacit.view.page import Cell, Judged, Page
from tacit.view.plot import Band, Series, line_plot
from tacit.view.proportions import wilson_interval
from tacit_learning.alignment.data.videos import Video, VideoSet
from tacit_learning.alignment.judge.predict import Prediction
from tacit_learning.alignment.judge.verdicts import judge, said_of

GOOD = 0.9
"""A share of so much is called good, or of the rest where little is wanted."""
LOW = ("false_done", "early", "false_alarms")
"""Shares that should be small."""
_WANTED_HIGH, _WANTED_LOW = f"at least {100 * GOOD:.0f} %", f"at most {100 * (1 - GOOD):.0f} %"
SHOWN = 8
"""Episodes that are drawn: those that went wrong or were judged wrongly first."""


def save_page(
    path: Path,
    title: str,
    report: Mapping[str, Any],
    videos: VideoSet,
    predictions: Sequence[Prediction],
    detector: DetectorConfig,
) -> Path:
    """Write the page and return its path.

    Args:
        path: The HTML file.
        title: What was judged.
        report: Plain values of `tacit evaluate progress`.
        videos: What was judged.
        predictions: What the model says of them.
        detector: Its thresholds.
    """
    page = Page("tacit evaluate progress", f"{title}: {len(videos)} episodes")
    page.facts(_headline(report))
    page.section(
        "What the detector says", f"Good: {_WANTED_HIGH} where much is wanted, {_WANTED_LOW} where little is."
    )
    page.table(("", "share", "count", "of", "95 % interval"), _share_rows(report["ours"]))
    page.section(
        "Beside the baselines",
        "Mean error of progress (it goes from 0 to 1), and done by progress alone above .95. Ours is held "
        "against the best of the others.",
    )
    page.table(("", "mean error", "done, of successes", "called done, of failures"), _rival_rows(report))
    page.section("Played otherwise", "Successes at other speeds, with a rest and with a retry.")
    page.table(("", "done", "early", "false alarms"), _warp_rows(report))
    page.section("Calibration", "How often what was said with this probability was so.")
    page.plot(
        _calibration_plot(report["calibration"]), "On the diagonal a probability is meant as it is said."
    )
    page.section("Error of progress by step")
    page.table(("step", "mean error [of 1]"), [(k, round(v, 4)) for k, v in report["error_by_step"].items()])
    page.section("Episodes")
    for video, said in _chosen(videos, predictions, detector):
        page.plot(_episode_plot(video, said, videos.fps), _caption(video, said, videos, detector))
    page.details("Thresholds", "\n".join(f"{k}: {v}" for k, v in report["detector"].items()))
    return page.save(path)


def _headline(report: Mapping[str, Any]) -> dict[str, Cell]:
    tally = report["ours"]
    shares = {
        "done is said of successes": "done_recall",
        "done is said of failures": "false_done",
        "failures are found": "found",
        "false alarms on successes": "false_alarms",
    }
    facts: dict[str, Cell] = {name: _judged_share(key, tally[key]) for name, key in shares.items()}
    facts["done is said after, median"] = _seconds(tally["done_delay_s"])
    facts["failure is said after, median"] = _seconds(tally["alarm_delay_s"])
    return facts


def _seconds(value: float) -> Cell:
    """Return a delay in words; none where nothing was said."""
    return None if np.isnan(value) else f"{value:.2f} s"


def _judged_share(name: str, share: Sequence[float]) -> Cell:
    """Return a share in percent, good or bad; none where nothing was counted."""
    count, total = share[:2]
    if not total:
        return None
    part, few = count / total, name in LOW
    good = part <= 1 - GOOD if few else part >= GOOD
    return Judged(f"{100 * part:.0f} %", good, _WANTED_LOW if few else _WANTED_HIGH)


def _share_rows(tally: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    shares = {k: v for k, v in tally.items() if isinstance(v, list)}
    shares |= {f"named: {k}": v for k, v in tally["by_kind"].items()}
    shares |= {f"found: {k}": v for k, v in tally["found_by_kind"].items()}
    return [
        (
            name.replace("_", " "),
            _judged_share(name, share),
            int(share[0]),
            int(share[1]),
            f"{100 * share[2]:.0f}-{100 * share[3]:.0f} %" if share[1] else None,
        )
        for name, share in shares.items()
    ]


def _rival_rows(report: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    tallies = {"ours": report["ours"], **report["baselines"]}
    errors = {name: report["errors"][name] for name in tallies}
    rivals = {name: error for name, error in errors.items() if name != "ours"}
    best = min(rivals, key=rivals.__getitem__)
    mine = Judged(
        round(errors["ours"], 4), errors["ours"] < rivals[best], f"below {rivals[best]:.4f}, {best}"
    )
    return [
        (
            name,
            mine if name == "ours" else f"{error:.4f}",
            _of(tally["done_recall"]),
            _of(tally["false_done"]),
        )
        for (name, tally), error in zip(tallies.items(), errors.values(), strict=True)
    ]


def _warp_rows(report: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    names = ("done_recall", "early", "false_alarms")
    return [(warp, *(_of(tally[name]) for name in names)) for warp, tally in report["warps"].items()]


def _of(share: Sequence[float]) -> str:
    count, total = int(share[0]), int(share[1])
    low, high = wilson_interval(count, total)
    return f"{count}/{total} ({100 * low:.0f}-{100 * high:.0f} %)" if total else "-"


def _calibration_plot(bins: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    lines = [Series("as meant", [0, 1], [0, 1], color="var(--soft)", dashed=True)]
    for name, rows in bins.items():
        lines.append(Series(name, [row[0] for row in rows], [row[1] for row in rows]))
    return line_plot(lines, x_label="probability as said", y_label="share that happened", y_range=(0.0, 1.0))


def _chosen(
    videos: VideoSet, predictions: Sequence[Prediction], detector: DetectorConfig
) -> list[tuple[Video, Prediction]]:
    """Return episodes to draw: wrongly judged ones first, then one of each kind of failure, then others."""
    pairs = list(zip(videos.videos, predictions, strict=True))
    seen: set[str] = set()

    def rank(pair: tuple[Video, Prediction]) -> int:
        video, said = pair
        verdict = judge(video.annotation, said_of(said, videos.fps, detector, videos.failures))
        if verdict.is_done_badly or verdict.is_false or (verdict.success and not verdict.is_done_well):
            return 0
        kind = verdict.events[0][0] if verdict.events else "success"
        new = kind not in seen
        seen.add(kind)
        return 1 if new else 2

    ranks = [rank(pair) for pair in pairs]
    return [pairs[i] for i in np.argsort(ranks, kind="stable")[:SHOWN]]


def _episode_plot(video: Video, said: Prediction, fps: float) -> str:
    seconds = np.arange(len(video)) / fps
    assert said.video is not None
    lines = [Series("progress", seconds, said.video), Series("truth", seconds, video.progress, dashed=True)]
    if said.success is not None:
        lines.append(Series("success", seconds, said.success))
    if said.failure is not None and said.failure.shape[1] > 1:
        lines.append(Series("failure", seconds, 1 - said.failure[:, 0]))
    bands = [Band(s.start / fps, (s.end + 1) / fps, s.name) for s in video.annotation.action_segments()]
    return line_plot(
        lines, x_label="time [s]", y_label="progress, probability", bands=bands, y_range=(0.0, 1.05)
    )


def _caption(video: Video, said: Prediction, videos: VideoSet, detector: DetectorConfig) -> str:
    states = said_of(said, videos.fps, detector, videos.failures)
    told, before = [], "running"
    for t, one in enumerate(states):
        if one.state != before:
            told.append(f"{one.state}{f' ({one.kind})' if one.kind else ''} at {t / videos.fps:.1f} s")
        before = one.state
    truth = ", ".join(f"{e.failure} from {e.start / videos.fps:.1f} s" for e in video.annotation.events)
    outcome = {True: "success", False: "failure", None: "unlabelled"}[video.annotation.success]
    happened = f"{outcome}; {truth}" if truth else outcome
    return f"{video.annotation.name}: {happened}. Said: {', '.join(told) or 'nothing'}."
