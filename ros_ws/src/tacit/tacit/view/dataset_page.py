"""A whole data set as a page: every episode in a line, first and last frames, what the audit found."""

from __future__ import annotations

import numpy as np

from tacit.episode import AuditReport, DatasetReport, EpisodeReader
from tacit.episode.rules_claims import CLAIM_ERRORS, CLAIM_WARNINGS
from tacit.errors import TacitError
from tacit.view.draw import film_strip
from tacit.view.episode_page import boxed_image
from tacit.view.page import Page
from tacit.view.plot import histogram

MAX_PICTURES = 24


def dataset_page(report: DatasetReport) -> Page:
    """Return the page of a checked data set."""
    readable = [episode for episode in report.episodes if "ticks" in episode.facts]
    successes = [episode.facts["success"] for episode in readable]
    labelled = [bool(s) for s in successes if s is not None]
    page = Page(f"Data set {report.root.name}", f"{len(report.episodes)} episodes, checked")
    page.facts(
        {
            "episodes": len(report.episodes),
            "minutes": round(sum(_value(e, "seconds") for e in readable) / 60, 1),
            "success rate": f"{np.mean(labelled):.0%}" if labelled else "unlabelled",
            "with errors": sum(not episode.ok for episode in report.episodes),
            "MB": round(sum(_value(e, "bytes") for e in readable) / 1e6, 1),
        }
    )
    if report.findings:
        rows = [(f.rule, f.level, f.where, f.message) for f in report.findings]
        page.section("Between episodes").table(("rule", "level", "where", "finding"), rows, badges=1)
    page.section("Episodes").table(
        ("episode", "task", "ticks", "s", "success", "verdict", "findings"), _rows(report)
    )
    _add_claims(page, report)
    if len(readable) > 1:
        seconds = [_value(e, "seconds") for e in readable]
        page.section("Lengths").plot(histogram(seconds, x_label="episode length [s]", bins=24))
    _add_pictures(page, readable[:MAX_PICTURES])
    return page


def _rows(report: DatasetReport) -> list[tuple[str | int | float | bool | None, ...]]:
    rows: list[tuple[str | int | float | bool | None, ...]] = []
    for episode in report.episodes:
        facts = episode.facts
        rules = ", ".join(dict.fromkeys(f.rule for f in episode.findings))
        verdict = "error" if not episode.ok else ("warning" if episode.warnings else "ok")
        name = _name(report, episode)
        success = facts.get("success")
        rows.append(
            (
                name,
                str(facts.get("task", "")),
                int(_value(episode, "ticks")),
                _value(episode, "seconds"),
                success if isinstance(success, bool) else None,
                verdict,
                rules,
            )
        )
    return rows


def _add_claims(page: Page, report: DatasetReport) -> None:
    """What each episode's messages were refused or doubted for; nothing where nothing was."""
    rows = [
        (f.rule, f.level, _name(report, episode), f.where, f.message)
        for episode in report.episodes
        for f in episode.findings
        if f.rule in CLAIM_ERRORS or f.rule in CLAIM_WARNINGS
    ]
    if rows:
        page.section("Refused or doubted messages").table(
            ("rule", "level", "episode", "stream", "finding"), rows, badges=1
        )


def _name(report: DatasetReport, episode: AuditReport) -> str:
    return str(episode.path.relative_to(report.root) if report.root.is_dir() else episode.path.name)


def _add_pictures(page: Page, reports: list[AuditReport]) -> None:
    """First and last frame of the first camera of each episode."""
    images, labels = [], []
    for report in reports:
        try:
            with EpisodeReader(report.path) as reader:
                camera = (*reader.cameras, *reader.depth_cameras)[0]
                for tick, word in ((0, "first"), (reader.num_ticks - 1, "last")):
                    images.append(boxed_image(reader, camera, tick))
                    labels.append(f"{report.path.stem} {word}")
        except (TacitError, IndexError):
            continue  # the table above already says what is wrong with it
    if images:
        page.section("First and last frames").figure(film_strip(images, 4, labels), width=1800)


def _value(report: AuditReport, name: str) -> float:
    value = report.facts.get(name, 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0
