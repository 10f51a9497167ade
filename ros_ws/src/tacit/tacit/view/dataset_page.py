"""A whole data set as a page: what to look at first, every episode in a line, first and last frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from tacit.episode import AuditReport, DatasetReport, EpisodeReader
from tacit.episode.ranking import Ranked
from tacit.episode.rules_claims import CLAIM_ERRORS, CLAIM_WARNINGS
from tacit.errors import TacitError
from tacit.view.draw import Image, film_strip
from tacit.view.episode_page import boxed_image, episode_page
from tacit.view.page import Cell, Judged, Link, Page, Tile
from tacit.view.plot import histogram

MAX_PICTURES = 24
MAX_REASONS = 4
TILE_WIDTH_PX = 240

Track = Callable[[Sequence[Ranked]], Iterable[Ranked]]
"""Goes through the episodes whose pages are written, and may show how far it is."""


def save_dataset(
    report: DatasetReport, ranked: Sequence[Ranked], path: Path, pages: int, track: Track = iter
) -> Path:
    """Write the page of a data set, and beside it the pages of the episodes to look at first.

    Args:
        report: Of the audit.
        ranked: The episodes, the one to look at first at the front.
        path: The page; pages of episodes go to `<name of the page>_episodes/`.
        pages: How many episodes get a page.
        track: Shows the progress.
    """
    folder = path.with_name(f"{path.stem}_episodes")
    addresses: dict[Path, str] = {}
    for item in track(ranked[:pages]):
        source = item.report.path
        target = folder / f"{source.parent.name}_{source.stem}.html"
        try:
            with EpisodeReader(source) as reader:
                episode_page(reader, item.report).save(target)
        except (TacitError, KeyError):
            continue  # the table says what is wrong with it
        addresses[source] = f"{folder.name}/{target.name}"
    return dataset_page(report, ranked, addresses).save(path)


def dataset_page(
    report: DatasetReport, ranked: Sequence[Ranked] = (), addresses: Mapping[Path, str] | None = None
) -> Page:
    """Return the page of a checked data set.

    Args:
        report: Of the audit.
        ranked: The episodes, the one to look at first at the front; left out, none comes first.
        addresses: Pages of episodes.
    """
    addresses = addresses or {}
    readable = [episode for episode in report.episodes if "ticks" in episode.facts]
    successes = [episode.facts["success"] for episode in readable]
    labelled = [bool(s) for s in successes if s is not None]
    bad = sum(not episode.ok for episode in report.episodes)
    page = Page(f"Data set {report.root.name}", f"{len(report.episodes)} episodes, checked")
    page.facts(
        {
            "episodes": len(report.episodes),
            "minutes": round(sum(_value(e, "seconds") for e in readable) / 60, 1),
            "success rate": f"{np.mean(labelled):.0%}" if labelled else "unlabelled",
            "with errors": Judged(bad, not bad, "0"),
            "MB": round(sum(_value(e, "bytes") for e in readable) / 1e6, 1),
        }
    )
    _add_first(page, report, ranked, addresses)
    if report.findings:
        rows = [(f.rule, f.level, f.where, f.message) for f in report.findings]
        page.section("Between episodes").table(("rule", "level", "where", "finding"), rows, badges=1)
    page.section("Episodes").table(
        ("episode", "task", "ticks", "length [s]", "success", "verdict", "findings"),
        _rows(report, addresses),
        badges=5,
    )
    _add_claims(page, report)
    if len(readable) > 1:
        seconds = [_value(e, "seconds") for e in readable]
        page.section("Lengths").plot(histogram(seconds, x_label="episode length [s]", bins=24))
    _add_pictures(page, report, readable[:MAX_PICTURES], addresses)
    return page


def _add_first(
    page: Page, report: DatasetReport, ranked: Sequence[Ranked], addresses: Mapping[Path, str]
) -> None:
    """The episodes with doubts about them: pictures that open their pages, and the reasons."""
    first = [item for item in ranked if item.doubts][:MAX_PICTURES]
    if not first:
        return
    text = "Each doubt has a weight; an episode is held against the others of its task. Look from the top."
    page.section("What to look at first", text)
    page.gallery([tile for item in first if (tile := _tile(report, item, addresses)) is not None])
    rows = [
        (
            _link(report, item.report, addresses),
            round(item.score, 1),
            "; ".join(doubt.text for doubt in item.doubts[:MAX_REASONS]),
        )
        for item in first
    ]
    page.table(("episode", "weight", "doubts"), rows)


def _tile(report: DatasetReport, item: Ranked, addresses: Mapping[Path, str]) -> Tile | None:
    """The middle frame of the first camera, small; None where it cannot be read."""
    try:
        with EpisodeReader(item.report.path) as reader:
            image = boxed_image(reader, (*reader.cameras, *reader.depth_cameras)[0], reader.num_ticks // 2)
    except (TacitError, IndexError, KeyError):
        return None
    caption = f"{_name(report, item.report)}: {item.doubts[0].text}"
    return Tile(_small(image), caption, addresses.get(item.report.path, ""))


def _link(report: DatasetReport, episode: AuditReport, addresses: Mapping[Path, str]) -> str | Link:
    name = _name(report, episode)
    return Link(name, addresses[episode.path]) if episode.path in addresses else name


def _rows(report: DatasetReport, addresses: Mapping[Path, str]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for episode in report.episodes:
        facts = episode.facts
        rules = ", ".join(dict.fromkeys(f.rule for f in episode.findings))
        verdict = "error" if not episode.ok else ("warning" if episode.warnings else "ok")
        success = facts.get("success")
        rows.append(
            (
                _link(report, episode, addresses),
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
    inside = report.root.is_dir() and episode.path.is_relative_to(report.root)
    return str(episode.path.relative_to(report.root) if inside else episode.path)


def _add_pictures(
    page: Page, report: DatasetReport, shown: Sequence[AuditReport], addresses: Mapping[Path, str]
) -> None:
    """First and last frame of the first camera of each episode."""
    tiles = []
    for episode in shown:
        try:
            with EpisodeReader(episode.path) as reader:
                camera = (*reader.cameras, *reader.depth_cameras)[0]
                ends = [_small(boxed_image(reader, camera, tick)) for tick in (0, reader.num_ticks - 1)]
        except (TacitError, IndexError):
            continue  # the table above already says what is wrong with it
        tiles.append(Tile(film_strip(ends), _name(report, episode), addresses.get(episode.path, "")))
    if tiles:
        page.section("First and last frames").gallery(tiles)


def _small(image: Image) -> Image:
    height = round(image.shape[0] * TILE_WIDTH_PX / image.shape[1])
    return np.asarray(cv2.resize(image, (TILE_WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)


def _value(report: AuditReport, name: str) -> float:
    value = report.facts.get(name, 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0
