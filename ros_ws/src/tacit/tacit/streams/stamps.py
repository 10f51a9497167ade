"""Judges the stamps of one stream against their reception: disorder, odd samples, clocks that step.

A stamp is a claim. Order alone would believe one stamp of the future and then refuse every true one
after it, so a sample that its own clock contradicts is refused, and only a clock that keeps
contradicting is believed: then it has been set anew.
"""

from __future__ import annotations

from collections import deque

from tacit.streams.findings import Finding

AHEAD_NS = 50_000_000
"""A stamp may lie this far in the future of its reception: two clocks that NTP keeps together differ less."""

STEP_NS = 250_000_000
"""Stamps that gain this much on the steady clock have been set; a message cannot come early."""

LAG_NS = 100_000_000
"""Stamps that lose this much and stay there were set back, if they also went back; else they come late."""

EVIDENCE_NS = 6_000_000_000
"""A stamp that went back is evidence for so long: a lag is seen two to four seconds after it began."""

CONFIRM_NS = 800_000_000
"""A contradicting clock is believed after it has run on by itself for so long."""

CONFIRM_SAMPLES = 3

SAME_CLOCK_NS = 10_000_000_000
"""Stamps further than this from the machine's clock are of another: a simulator's, a bag's, an uptime."""

SIM_STEP_NS = 1_000_000_000
"""A simulated clock, which may run at any speed, may not leap further than this beyond its own pace."""

PACE_MARGIN, FIRST_PACE = 2.0, 10.0
"""It may go so much faster than it lately did while messages are lost; its pace before any is known."""

BUCKET_NS = 1_000_000_000
PACED_BUCKETS, PACE_TOLERANCE = 3, 0.03
"""A simulator that has kept pace with real time for so many seconds can be compared with it."""

FORGET = 1e-3
"""How fast the best offset is forgotten [s/s]: faster than any quartz drifts, slower than a stall matters."""


class Envelope:
    """The largest of values over the last one to two seconds, and over a long time.

    The least delayed message tells how two clocks differ: delays only ever make a stamp look older.
    """

    def __init__(self) -> None:
        self._buckets: deque[int] = deque(maxlen=2)
        self._began_ns = self._at_ns = 0
        self.long_ns: int | None = None
        self.full_buckets = 0

    def add(self, value_ns: int, heard_ns: int) -> bool:
        """Take a value; returns whether a bucket was completed by it."""
        if self.long_ns is None:
            self.long_ns = value_ns
        forgotten = round(FORGET * max(0, heard_ns - self._at_ns)) if self._at_ns else 0
        self.long_ns, self._at_ns = max(value_ns, self.long_ns - forgotten), heard_ns
        completed = bool(self._buckets) and heard_ns - self._began_ns >= BUCKET_NS
        if completed or not self._buckets:
            self._buckets.append(value_ns)
            self._began_ns = heard_ns
            self.full_buckets += completed
        else:
            self._buckets[-1] = max(self._buckets[-1], value_ns)
        return completed

    @property
    def recent_ns(self) -> int | None:
        """The largest value of the last one to two seconds; None before the first."""
        return max(self._buckets) if self._buckets else None


class StampJudge:
    """Judges each stamp of one stream; stamps that pass strictly increase until `step_ns` says otherwise.

    Args:
        period_ns: Nominal period of the stream.
        simulated: The rig is a simulation: stamps far from the machine's clock may run at any speed.

    Attributes:
        newest_ns: Newest accepted stamp; None before the first.
        step_ns: By how much the clock has just been found to have stepped; None otherwise.
    """

    def __init__(self, period_ns: int, simulated: bool) -> None:
        self._period_ns, self._simulated = period_ns, simulated
        self._candidates: deque[tuple[int, int]] = deque(maxlen=4096)
        self._begin()
        self.step_ns: int | None = None

    def _begin(self) -> None:
        self.newest_ns: int | None = None
        self._newest_recv_ns = self._newest_heard_ns = 0
        self._steady, self._wall = Envelope(), Envelope()
        self._lagging = self._paced = 0
        self._went_back_ns = -EVIDENCE_NS
        self._paced_from: tuple[int, int] | None = None
        self._pace = FIRST_PACE

    @property
    def ahead_ns(self) -> int | None:
        """How far the least delayed stamps of the last seconds lie ahead of their reception.

        None where that is not known, or says nothing: a simulator that does not keep pace with real time.
        """
        return None if self._simulated and not self.keeps_pace else self._wall.recent_ns

    @property
    def is_foreign(self) -> bool:
        """Whether the stamps are of another clock than the machine's."""
        newest_ns = self.newest_ns  # read once: other threads ask, while a step sets it to None
        return newest_ns is not None and abs(newest_ns - self._newest_recv_ns) > SAME_CLOCK_NS

    @property
    def keeps_pace(self) -> bool:
        """Whether a clock that is not the machine's runs as fast as that; else no offset is known."""
        return not self.is_foreign or self._paced >= PACED_BUCKETS

    def judge(self, stamp_ns: int, recv_ns: int, heard_ns: int) -> Finding | None:
        """Return why a sample is refused; None where it is accepted.

        Args:
            stamp_ns: Stamp of the header.
            recv_ns: Reception on the machine's clock, which may be set while we listen.
            heard_ns: Reception on the steady clock.
        """
        self.step_ns = None
        if stamp_ns <= 0:
            return Finding(
                "no_stamp",
                "the header stamp is empty; have the driver fill it, or set `stamps: "
                "receive` of this stream in the rig",
            )
        if stamp_ns == self.newest_ns:
            return Finding("duplicate", "two messages carry the same stamp")
        contradiction = self._contradiction(stamp_ns, recv_ns, heard_ns)
        if contradiction is None:
            self._candidates.clear()
        elif self._persists(stamp_ns, heard_ns):
            before_ns = self.newest_ns
            predicted_ns = 0 if before_ns is None else before_ns + heard_ns - self._newest_heard_ns
            self._candidates.clear()
            self._begin()
            if before_ns is not None:  # before the first there was no clock to step
                self.step_ns = stamp_ns - predicted_ns
        else:
            return contradiction
        self._accept(stamp_ns, recv_ns, heard_ns)
        return None

    def _accept(self, stamp_ns: int, recv_ns: int, heard_ns: int) -> None:
        if self.newest_ns is not None and stamp_ns - self.newest_ns < self._period_ns - LAG_NS:
            self._went_back_ns = heard_ns  # a slow stream is not out of order by less than its period
        self.newest_ns, self._newest_recv_ns, self._newest_heard_ns = stamp_ns, recv_ns, heard_ns
        self._wall.add(stamp_ns - recv_ns, heard_ns)
        if not self._steady.add(stamp_ns - heard_ns, heard_ns):
            return
        if self.is_foreign:
            self._measure_pace(stamp_ns, heard_ns)
        if not self._runs_freely() and self.keeps_pace:  # of a bag played slowly all comes later and later
            self._look_for_lag()

    def _measure_pace(self, stamp_ns: int, heard_ns: int) -> None:
        before, self._paced_from = self._paced_from, (stamp_ns, heard_ns)
        if before is not None:
            pace = (stamp_ns - before[0]) / max(heard_ns - before[1], 1)
            self._pace = max(pace, self._pace / 2)  # a pause is no reason to expect it slow
            self._paced = self._paced + 1 if abs(pace - 1) < PACE_TOLERANCE else 0

    def _look_for_lag(self) -> None:
        """Find a clock that was set back by little: its stamps increase again, but stay behind.

        Stamps that merely come late prove nothing: on a busy machine it is we who hear them late, for
        seconds, and their order is whole. A clock that is set back repeats a time that has been.
        """
        long_ns, recent_ns = self._steady.long_ns, self._steady.recent_ns
        assert long_ns is not None and recent_ns is not None
        self._lagging = self._lagging + 1 if recent_ns < long_ns - LAG_NS else 0
        if self._lagging >= 2 and self._newest_heard_ns - self._went_back_ns <= EVIDENCE_NS:
            self.step_ns = recent_ns - long_ns
            self._steady.long_ns, self._lagging = recent_ns, 0

    def _runs_freely(self) -> bool:
        return self._simulated and self.is_foreign

    def _contradiction(self, stamp_ns: int, recv_ns: int, heard_ns: int) -> Finding | None:
        if self.newest_ns is None:
            if self._simulated or stamp_ns - recv_ns <= AHEAD_NS:
                return None
            return _ahead(stamp_ns - recv_ns)
        if stamp_ns < self.newest_ns:
            self._went_back_ns = heard_ns
            behind_ms = (self.newest_ns - stamp_ns) / 1e6
            return Finding(
                "out_of_order", f"stamped {behind_ms:.0f} ms before what came earlier; was a clock set back?"
            )
        if self._runs_freely():
            leap_ns = stamp_ns - self.newest_ns
            # In a fast simulation a busy machine loses a second of messages in a moment: a hole, no leap.
            passed_ns = round(PACE_MARGIN * self._pace * max(0, heard_ns - self._newest_heard_ns))
            return _ahead(leap_ns) if leap_ns > max(SIM_STEP_NS, 20 * self._period_ns) + passed_ns else None
        if not self.is_foreign:
            ahead_ns = stamp_ns - recv_ns
            if ahead_ns > max(0, self._wall.long_ns or 0) + AHEAD_NS:
                return _ahead(ahead_ns)
        gained_ns = stamp_ns - heard_ns - (self._steady.long_ns or 0)
        return _ahead(gained_ns) if gained_ns > STEP_NS else None

    def is_overtaken(self, stamp_ns: int, heard_ns: int) -> bool:
        """Whether a stamp is not after the newest although its clock was not set: messages changed places.

        A reliable middleware hands on in order what was sent, also where one was lost and sent again: then
        the earlier message is the one received later.
        """
        if self.newest_ns is None or stamp_ns > self.newest_ns:
            return False
        return stamp_ns - heard_ns >= (self._steady.long_ns or 0) - STEP_NS

    def _persists(self, stamp_ns: int, heard_ns: int) -> bool:
        """Whether a contradicting clock has run on by itself long enough to be believed."""
        waiting = self._candidates
        if waiting and stamp_ns <= waiting[-1][0]:
            waiting.clear()
        waiting.append((stamp_ns, heard_ns))
        if not self._runs_freely() and not self._simulated:
            # On a real clock both must pass at one speed; what does not fit the newest begins anew.
            while abs((stamp_ns - waiting[0][0]) - (heard_ns - waiting[0][1])) > STEP_NS:
                waiting.popleft()
        return len(waiting) >= CONFIRM_SAMPLES and stamp_ns - waiting[0][0] >= CONFIRM_NS


def _ahead(ahead_ns: int) -> Finding:
    return Finding(
        "stamp_ahead",
        f"stamped {ahead_ns / 1e6:.0f} ms in the future; synchronise that clock (chrony, PTP), or set "
        "`stamps: receive` of this stream in the rig",
    )
