"""What `tacit study control` is asked: apart from the study, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tacit.config.arguments import parse_words

KINDS = ("open", "loose", "tight")


@dataclass(frozen=True)
class Options:
    """Train on clips of a hand with true paths, and measure whether it goes where it is told.

    About an hour of one core in full. What is finished stays: the same command goes on where it was stopped.

    Example: tacit study control --out runs/control --jobs 2
    """

    out: Path
    """Folder of the study; a page, its numbers, and a run for every mask and seed."""
    masks: tuple[str, ...] = KINDS
    """Masks to train with: open (everything is drawn), loose (drawn anew each time), tight (as recorded)."""
    seeds: tuple[int, ...] = (1, 2)
    """Seeds of the training; another pair of clips belongs to each."""
    clips: int = 400
    """Clips to train on."""
    fresh: int = 48
    """Clips to measure on."""
    steps: int = 3000
    """Steps of each training, of 16 clips."""
    jobs: int = 1
    """Trainings at a time, a core each."""
    motion: tuple[float, ...] = (1.5, 2.0)
    """Guidance of the motion to measure beside 1."""


def read(argv: list[str]) -> Options:
    """Return what the words ask for."""
    return parse_words(Options, argv, "tacit study control")
