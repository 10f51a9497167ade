"""Rules E13 and W15: what was refused or doubted, as the recorder counted it and as the stored numbers tell.

The judge of a running robot (`tacit.streams.numbers`) judges the stored joints once more, so that an
episode of any origin is asked the same questions by the same rules.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from tacit.episode.findings import Audit, by_number
from tacit.episode.reader import EpisodeReader
from tacit.streams.findings import Kind
from tacit.streams.numbers import NumberJudge

Violations = Iterable[tuple[str, str]]

KINDS: tuple[str, ...] = get_args(Kind)

BY_SECOND = ("clock_offset", "two_publishers", "second_commander")
"""Counted by the second, from the first moment on: a count of 1 has lasted no second yet."""

BY_SAMPLE = ("frozen", "stuck", "zeros")
"""Doubted samples, which are in the episode all the same."""

LASTING_S = 1.0
"""What lasts so long is an error, as a hole of a second is (W03): its ticks do not show the world."""

JUMP_SHARE = 0.01
"""A driver that starts anew jumps once. Above one sample in a hundred somebody else publishes too, and those
of his values that happened to lie near the robot's were taken for the robot's."""

STAMP_KINDS, STAMP_SHARE = ("stamp_ahead", "out_of_order", "no_stamp"), 0.05
"""Above one message in twenty, it is the clock that cannot be trusted, not the odd message."""

FROM_NUMBERS = ("jump", "stuck", "zeros")
"""What stored numbers still tell; whether they are finite and within limits is E05's and E10's."""


@dataclass(frozen=True)
class Claim:
    """So many samples of one stream were refused or doubted.

    Attributes:
        stream: Its name.
        kind: A word of `tacit.streams.findings.Kind`.
        count: Samples, or seconds for the kinds `BY_SECOND`.
        total: Messages that came.
        rate_hz: Nominal rate.
        tick: The first tick at or after the first of them; None where nothing tells.
    """

    stream: str
    kind: str
    count: int
    total: int
    rate_hz: float
    tick: int | None

    @property
    def seconds(self) -> float:
        """How long it lasted [s]; 0 for what is a matter of single samples."""
        if self.kind in BY_SECOND:
            return float(self.count - 1)
        return self.count / self.rate_hz if self.kind in BY_SAMPLE else 0.0

    @property
    def is_serious(self) -> bool:
        """Whether the episode is not to be trusted for it."""
        share = self.count / max(self.total, 1)
        return (
            self.seconds >= LASTING_S
            or (self.kind == "jump" and share > JUMP_SHARE)
            or (self.kind in STAMP_KINDS and share > STAMP_SHARE)
        )


def untrusted(audit: Audit) -> Violations:
    """E13: no stream is untrustworthy for long: its clock, its publishers, its values, its pictures."""
    for claim in claims(audit):
        if not claim.is_serious:
            continue
        since = "" if claim.tick is None else f" from tick {claim.tick}"
        if claim.seconds:
            yield claim.stream, f"{claim.kind} for {claim.seconds:.1f} s{since}: not to be trusted"
        else:
            yield (
                claim.stream,
                f"{claim.kind} in {claim.count} of {claim.total} messages{since}: not to be trusted",
            )


def refused(audit: Audit) -> Violations:
    """W15: nothing that came was refused or doubted."""
    for stream in dict.fromkeys(claim.stream for claim in claims(audit)):
        own = [claim for claim in claims(audit) if claim.stream == stream]
        counts = ", ".join(f"{claim.kind} {claim.count}" for claim in own)
        ticks = [claim.tick for claim in own if claim.tick is not None]
        since = f"; first at tick {min(ticks)}" if ticks else ""
        yield stream, f"refused or doubted: {counts} of {own[0].total} messages{since}"


CLAIM_ERRORS = by_number(untrusted)
CLAIM_WARNINGS = by_number(refused)


@functools.lru_cache(maxsize=1)  # both rules ask, one after the other
def claims(audit: Audit) -> tuple[Claim, ...]:
    """Return what was refused or doubted, the recorder's counts first."""
    counted = list(_counted(audit.reader))
    known = {(claim.stream, claim.kind) for claim in counted}
    return (*counted, *(c for c in _judged(audit.reader) if (c.stream, c.kind) not in known))


def _counted(reader: EpisodeReader) -> Iterator[Claim]:
    """What the recorder has counted, with the tick of its first event."""
    began: dict[tuple[object, str], int] = {}
    for stamp_ns, kind, data in reader.events:
        if isinstance(data, dict):
            began.setdefault((data.get("stream"), kind), int(np.searchsorted(reader.tick_ns, stamp_ns)))
    specs = reader.rig.specs
    for stream, found in reader.drops.items():
        counts = {kind: int(found[kind]) for kind in KINDS if found.get(kind)}
        total = int(found.get("received", 0)) + sum(counts.values())
        rate_hz = specs[stream].rate_hz if stream in specs else reader.fps
        for kind, count in counts.items():
            yield Claim(stream, kind, count, total, rate_hz, began.get((stream, kind)))


def _judged(reader: EpisodeReader) -> Iterator[Claim]:
    """What the judge of a running robot says of the stored joints and grippers."""
    for stream in reader.rig.states:
        stamps_ns, values = _values(reader, stream)
        counts: Counter[str] = Counter()
        first: dict[str, int] = {}
        for stamp_ns, kind in _doubts(reader, stream, stamps_ns, values):
            counts[kind] += 1
            first.setdefault(kind, int(np.searchsorted(reader.tick_ns, stamp_ns)))
        passed_s = float(np.ptp(stamps_ns)) / 1e9 if len(stamps_ns) else 0.0
        rate_hz = (len(stamps_ns) - 1) / passed_s if passed_s else reader.fps
        for kind in FROM_NUMBERS:
            if counts[kind]:
                yield Claim(stream, kind, counts[kind], len(stamps_ns), rate_hz, first[kind])


def _values(reader: EpisodeReader, stream: str) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps (N,) and values (N, n) of a state: at its own rate where stored, else at the ticks."""
    names = reader.rig.streams[stream].names
    table = reader.stream(stream) if stream in reader.file.get("streams", ()) else {}
    position = table.get("position")
    if position is not None and position.ndim == 2 and position.shape[1] == len(names) and len(position):
        return table["stamp_ns"], position.astype(np.float64)
    own = [reader.state_names.index(name) for name in names]
    return reader.tick_ns, reader.qpos[:, own].astype(np.float64)


def _doubts(
    reader: EpisodeReader, stream: str, stamps_ns: np.ndarray, values: np.ndarray
) -> Iterator[tuple[int, str]]:
    """Yield (stamp, kind) of what is doubtful, told the action of each tick as the command in force."""
    judge = NumberJudge(reader.rig, stream)
    due = np.searchsorted(reader.tick_ns, stamps_ns, side="right") - 1
    told = -1
    for stamp_ns, row, tick in zip(stamps_ns.tolist(), values, due.tolist(), strict=True):
        if tick > told:
            told = tick
            judge.commanded(dict(zip(reader.state_names, reader.action[tick].tolist(), strict=True)))
        found = judge.judge(stamp_ns, row)
        if found is not None and found.kind in FROM_NUMBERS:
            yield stamp_ns, found.kind
