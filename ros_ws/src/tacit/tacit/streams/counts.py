"""Bookkeeping of one stream: what arrived, what was lost and why, how late, how regular.

Filled by `tacit.streams`, stored by the episode writer under `/drops/<stream>`, shown live.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NS_PER_MS = 1e6
GAP_PERIODS = 1.5
"""An interval above this many periods is a gap: half a period of jitter is still no loss."""
REGULAR = 0.1
"""Intervals differ from their median by less than this part of it where a driver keeps a beat."""
WINDOW = 65536
"""Intervals and latencies kept for the percentiles: 11 minutes at 100 Hz in 1 MB per stream."""


class Latest:
    """The latest `WINDOW` numbers; in eight bytes each, where a deque of Python's integers takes forty."""

    def __init__(self) -> None:
        self._ring, self._oldest = array("q"), 0

    def __len__(self) -> int:
        return len(self._ring)

    def append(self, number: int) -> None:
        """Take one number; the oldest goes where the window is full."""
        if len(self._ring) < WINDOW:
            self._ring.append(number)
        else:
            self._ring[self._oldest] = number
            self._oldest = (self._oldest + 1) % WINDOW

    def numbers(self) -> NDArray[np.float64]:
        """Return them, in no order."""
        return np.array(self._ring, dtype=np.float64)


@dataclass
class StreamCounts:
    """Counts of one stream since the last reset.

    `found` is what the intake refused or doubted, by kind.
    `lost_queue` is reported by whoever owns a bounded queue, `lost_reported` by the middleware
    (ROS message-lost events), `refused` by the intake; what else is missing between stamps is put on the
    middleware.
    """

    period_ns: int
    received: int = 0
    out_of_order: int = 0
    duplicate: int = 0
    bad_stamp: int = 0
    found: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    lost_queue: int = 0
    lost_reported: int = 0
    missing: int = 0
    gaps: int = 0
    longest_gap_ns: int = 0
    ticks: int = 0
    stale_ticks: int = 0
    max_skew_ns: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    intervals_ns: Latest = field(default_factory=Latest, repr=False)
    latencies_ns: Latest = field(default_factory=Latest, repr=False)

    def arrived(self, stamp_ns: int, recv_ns: int) -> None:
        """Count one accepted sample; stamps must increase (the buffer sees to it)."""
        self.received += 1
        self.latencies_ns.append(recv_ns - stamp_ns)
        if self.last_ns is not None:
            self._interval(stamp_ns - self.last_ns)
        else:
            self.first_ns = stamp_ns
        self.last_ns = stamp_ns

    def used(self, skew_ns: int, fresh: bool) -> None:
        """Count one tick that used this stream, `skew_ns` away from the tick."""
        self.ticks += 1
        self.stale_ticks += not fresh
        self.max_skew_ns = max(self.max_skew_ns, abs(skew_ns))

    @property
    def expected(self) -> int:
        """Samples that the nominal rate put between the first and the last one."""
        return self.received + self.missing + self.lost_queue

    @property
    def lost_middleware(self) -> int:
        """Samples lost before they reached us: reported, or missing between the stamps."""
        return max(self.lost_reported, self.missing - self.lost_queue - self.refused, 0)

    @property
    def hz_mean(self) -> float:
        """Mean rate over the stamps [Hz]; 0 with fewer than two samples."""
        if self.received < 2 or self.first_ns is None or self.last_ns is None:
            return 0.0
        return (self.received - 1) * 1e9 / (self.last_ns - self.first_ns)

    @property
    def hz_sent(self) -> float:
        """Rate that the driver sends at [Hz], whatever was lost on the way; the mean where it keeps no beat.

        Bursts of messages have short intervals of equal length too, but then most messages would be lost.
        """
        if not self.intervals_ns:
            return 0.0
        intervals = self.intervals_ns.numbers()
        middle = float(np.median(intervals))
        regular = np.abs(intervals - middle) < REGULAR * middle
        beat_hz = 1e9 / middle
        return beat_hz if np.mean(regular) > 0.5 and beat_hz < 2 * self.hz_mean else self.hz_mean

    @property
    def jitter_p99_ms(self) -> float:
        """99th percentile of |interval - median interval| [ms]."""
        if not self.intervals_ns:
            return 0.0
        intervals = self.intervals_ns.numbers()
        return float(np.percentile(np.abs(intervals - np.median(intervals)), 99) / NS_PER_MS)

    def latency_ms(self, percent: float) -> float:
        """Percentile of receive time minus effective stamp [ms]."""
        if not self.latencies_ns:
            return 0.0
        return float(np.percentile(self.latencies_ns.numbers(), percent) / NS_PER_MS)

    def as_dict(self) -> dict[str, int | float]:
        """Return the attributes of `/drops/<stream>`."""
        return {
            "received": self.received,
            "expected": self.expected,
            "lost_middleware": self.lost_middleware,
            "lost_queue": self.lost_queue,
            "out_of_order": self.out_of_order,
            "duplicate": self.duplicate,
            "bad_stamp": self.bad_stamp,
            **self.found,
            "stale_ticks": self.stale_ticks,
            "gaps": self.gaps,
            "longest_gap_ms": self.longest_gap_ns / NS_PER_MS,
            "hz_mean": self.hz_mean,
            "jitter_p99_ms": self.jitter_p99_ms,
            "latency_p50_ms": self.latency_ms(50),
            "latency_p95_ms": self.latency_ms(95),
            "max_skew_ms": self.max_skew_ns / NS_PER_MS,
        }

    def _interval(self, interval_ns: int) -> None:
        self.intervals_ns.append(interval_ns)
        self.longest_gap_ns = max(self.longest_gap_ns, interval_ns)
        if interval_ns > GAP_PERIODS * self.period_ns:
            self.gaps += 1
            self.missing += round(interval_ns / self.period_ns) - 1
