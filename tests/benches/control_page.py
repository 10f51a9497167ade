"""The page of `tacit study control`: what was measured, and films of command and outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tacit.view.page import Page
from tacit.view.player import clip_player

WORDS = {
    "own": "own motion, to the command [px]",
    "swapped": "swapped motion, to the command [px]",
    "swapped_to_recording": "swapped motion, to the recording [px]",
    "swapped_motion_1.5": "swapped motion, guidance 1.5, to the command [px]",
    "swapped_motion_2": "swapped motion, guidance 2, to the command [px]",
    "absent": "no motion, to the recording [px]",
    "body_right": "another body's picture: body right (share)",
    "body": "another body's picture: path [px]",
    "objects": "swapped block, everything masked: to the command [px]",
    "objects_to_recording": "swapped block, everything masked: to the recording [px]",
    "codec": "recording through the codec: floor [px]",
    "tracker": "tracker on recordings [px]",
    "tracker_body_right": "tracker on recordings: body right (share)",
    "tracker_objects": "tracker of blocks on recordings [px]",
    "middle": "always the mean place [px]",
    "other_path": "path of another clip [px]",
    "task_of_task_linear": "probe: task from task features, linear",
    "task_of_embodiment_linear": "probe: task from embodiment features, linear",
    "task_of_embodiment_knn": "probe: task from embodiment features, kNN",
    "task_of_task_chance": "probe: task, chance",
    "embodiment_of_embodiment_linear": "probe: embodiment from embodiment features, linear",
    "embodiment_of_task_linear": "probe: embodiment from task features, linear",
    "embodiment_of_task_knn": "probe: embodiment from task features, kNN",
    "embodiment_of_task_chance": "probe: embodiment, chance",
    "cpu_seconds": "training [CPU s]",
}
SHOWN = ("recording", "command", "own", "swapped", "absent", "body", "objects")
ENLARGED = 2
SHOWN_HZ = 4
"""Frames of a clip shown in a second; slow enough to follow."""


Table = Mapping[str, Mapping[str, Sequence[float]]]


def write_study_page(folder: Path, table: Table, seeds: Sequence[int]) -> Path:
    """Write `control.html`: a table for all masks, then films of the first seed."""
    page = Page(
        "Does the hand follow its command?",
        "Fresh clips; motion, body or block of one is given to another. Mean and 95 % interval over clips.",
    )
    page.section("Numbers", f"Training seeds {', '.join(map(str, seeds))}; in brackets the mean of each.")
    rows = [[words, *(_cell(table[kind].get(name)) for kind in table)] for name, words in WORDS.items()]
    page.table(["", *(f"{kind} masks" for kind in table)], rows)
    for kind in table:
        path = folder / f"seed_{seeds[0]}" / kind / "strips.npz"
        if path.is_file():
            page.section(f"{kind.capitalize()} masks", "All films of a clip move together.")
            _clips(page, path)
    return page.save(folder / "control.html")


def _clips(page: Page, path: Path) -> None:
    with np.load(path) as videos:
        for number in range(len(videos["recording"])):
            streams = {
                name: [frame.repeat(ENLARGED, 0).repeat(ENLARGED, 1) for frame in videos[name][number]]
                for name in SHOWN
            }
            seconds = np.arange(len(streams["recording"])) / SHOWN_HZ
            page.heading(f"Clip {number}").block(clip_player(streams, seconds))


def _cell(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    mean, low, high, *each = values
    seeds = ", ".join(f"{value:.3g}" for value in each)
    return f"{mean:.3g} ({low:.3g} to {high:.3g}) [{seeds}]"
