"""`tacit bench alignment`: every alignment loss beside a straightforward one, on one thread.

Two videos of unit-norm frames with 128 features; milliseconds are forward plus backward. Both sides of a
ratio are measured in turns in the same run, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benches import alignment_references as reference
from tacit.config.arguments import Count, NewFile, parse_words
from tacit_learning.losses.distances import squared_distances
from tacit_learning.losses.gtcc import gtcc_loss
from tacit_learning.losses.lav import lav_loss
from tacit_learning.losses.progress import cumulative_distance
from tacit_learning.losses.soft_dtw import soft_dtw
from tacit_learning.losses.tcc import tcc_loss
from tacit_learning.losses.vava import phi, vava_loss

NUM_FEATURES = 128
STEP = 1000  # of VAVA
EPOCH = 5  # of GTCC
COMPONENTS, STARTS = 15, 20  # of GTCC
CALLS = 3  # per round: the first finds the caches as the reference left them
SLOW_S = 0.1  # a reference slower than this is measured twice


@dataclass(frozen=True)
class Args:
    """Measure the alignment losses: the least of several rounds, forward plus backward, one thread."""

    rounds: Count = 30
    """Rounds of each loss; of a slow reference 2."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


class Case(NamedTuple):
    """A loss of two videos (2, T, D) and drop vectors (2, D + 1), how it is written first, and its bar."""

    name: str
    num_frames: int
    loss: Callable[[Tensor, Tensor], Tensor]
    reference: Callable[[Tensor, Tensor], Tensor]
    bar_ms: float | None = None


class Row(NamedTuple):
    """What one case took, and by how much the two values differ, relative to the reference."""

    name: str
    num_frames: int
    milliseconds: float
    reference_ms: float
    difference: float
    bar_ms: float | None

    @property
    def ratio(self) -> float:
        """How many times faster than the reference."""
        return self.reference_ms / self.milliseconds

    @property
    def verdict(self) -> str:
        """Whether the bar holds."""
        if self.bar_ms is None:
            return ""
        return "holds" if self.milliseconds <= self.bar_ms else "missed"


def cases() -> Iterator[Case]:
    """Yield what is measured, with the bars of the project."""
    for frames, dtw_bar, tcc_bar, lav_bar, vava_bar in (
        (256, 4.0, 6.0, 10.0, 20.0),
        (512, 15.0, None, 30.0, None),
    ):
        yield Case("soft-DTW", frames, _soft_dtw, lambda x, _: reference.soft_dtw(x[0], x[1]), dtw_bar)
        yield Case("TCC", frames, _tcc, lambda x, _: reference.tcc(x), tcc_bar)
        yield Case("LAV", frames, _lav, lambda x, _: reference.lav(x[0], x[1]), lav_bar)
        yield Case("VAVA", frames, _vava, lambda x, _: reference.vava(x[0], x[1], phi(STEP)), vava_bar)
    yield Case(f"GTCC, K={COMPONENTS}, {STARTS} frames", 256, _gtcc, _gtcc_reference, 30.0)
    yield Case("cumulative distance", 512, _cumulative, _cumulative_reference, 0.5)


def main(argv: list[str]) -> int:
    """Measure, print a table and return 0."""

    args = parse_words(Args, argv, "tacit bench alignment")
    with one_thread():
        rows = [measure(case, args.rounds) for case in cases()]
    _print_rows(rows)
    if args.json is not None:
        found = [{**row._asdict(), "ratio": row.ratio} for row in rows]
        args.json.write_text(json.dumps(found, indent=2))
    return 0


def measure(case: Case, rounds: int) -> Row:
    """Run both sides of a case in turns and keep the least time of each."""
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(2, case.num_frames, NUM_FEATURES, generator=generator)
    videos = torch.nn.functional.normalize(videos, dim=-1)
    drops = torch.randn(2, NUM_FEATURES + 1, generator=generator)
    # The first call of each compiles and fills caches.
    (_, value), (warm, expected) = _timed(case.loss, videos, drops), _timed(case.reference, videos, drops)
    ours: list[float] = []
    theirs = [warm]
    for turn in range(rounds):
        ours.extend(_timed(case.loss, videos, drops)[0] for _ in range(CALLS))
        if turn == 0 or min(theirs) < SLOW_S:
            theirs.append(_timed(case.reference, videos, drops)[0])
    difference = abs(value - expected) / abs(expected)
    return Row(case.name, case.num_frames, 1e3 * min(ours), 1e3 * min(theirs), difference, case.bar_ms)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside, so that numbers of different machines can be compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(loss: Callable[[Tensor, Tensor], Tensor], videos: Tensor, drops: Tensor) -> tuple[float, float]:
    """Return seconds of forward plus backward, and the value."""
    leaves = videos.clone().requires_grad_(), drops.clone().requires_grad_()
    begin = time.perf_counter()
    value = loss(*leaves)
    value.backward()
    return time.perf_counter() - begin, value.item()


def _soft_dtw(videos: Tensor, _: Tensor) -> Tensor:
    return soft_dtw(squared_distances(videos[:1], videos[1:]), 0.1)[0]


def _tcc(videos: Tensor, _: Tensor) -> Tensor:
    return tcc_loss(videos, scale_by_dim=False, variance_floor=videos.shape[1] ** -2)


def _lav(videos: Tensor, _: Tensor) -> Tensor:
    return lav_loss(videos[0], videos[1])


def _vava(videos: Tensor, _: Tensor) -> Tensor:
    return vava_loss(videos[0], videos[1], step=STEP)


def _gtcc(videos: Tensor, drops: Tensor) -> Tensor:
    return gtcc_loss(list(videos), list(drops), epoch=EPOCH, n_components=COMPONENTS, max_frames=STARTS)


def _gtcc_reference(videos: Tensor, drops: Tensor) -> Tensor:
    starts = torch.linspace(0, videos.shape[1] - 1, STARTS).round().long().tolist()
    return reference.gtcc(videos[0], videos[1], drops, EPOCH, COMPONENTS, starts)


def _cumulative(videos: Tensor, _: Tensor) -> Tensor:
    return cumulative_distance(videos).sum()


def _cumulative_reference(videos: Tensor, _: Tensor) -> Tensor:
    return torch.stack([reference.cumulative_distance(video) for video in videos]).sum()


def _print_rows(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("loss", "frames", "ms", "plain ms", "ratio", "differs", "bar ms", ""):
        table.add_column(heading, justify="left" if heading in ("loss", "") else "right")
    for row in rows:
        bar = "" if row.bar_ms is None else f"{row.bar_ms:g}"
        times = f"{row.milliseconds:.2f}", f"{row.reference_ms:.1f}", f"{row.ratio:.0f} x"
        table.add_row(row.name, str(row.num_frames), *times, f"{row.difference:.0e}", bar, row.verdict)
    console = Console(highlight=False)
    console.print(f"2 videos, {NUM_FEATURES} features, forward + backward, one thread, least of all rounds\n")
    console.print(table)
    console.print("\nGTCC differs: the plain fit is L-BFGS on another divergence")
