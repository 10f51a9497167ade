"""The only resampler: streams with their own clocks in, ticks with one time out.

Used by the recorder, the policy node and offline re-alignment. Pure: time is passed in. A tick is
made at each stamp of the reference camera (or of a timer grid); see `Aligner`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import RigError, did_you_mean
from tacit.rig import Rig
from tacit.streams.counts import StreamCounts
from tacit.streams.interpolation import SILENT_PERIODS, interpolate
from tacit.streams.trajectory import Trajectory

Kind = Literal["linear", "nearest", "hold"]
Value = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32] | NDArray[np.float64] | Trajectory
"""What a message says: an image, RGB (H, W, 3), depth (H, W) or encoded (N,), a reading of taxels (R, C, K)
float32, or numbers in canonical units, (n,) or a `Trajectory`."""
JointReading = dict[str, NDArray[np.float64]]
"""position (n,) and, where the driver reports them, velocity and effort (n,), canonical."""
TIMER = "timer"
BUFFER_LIMIT = 4096  # samples kept per stream while no tick consumes them (41 s at 100 Hz)
PENDING_LIMIT = 256  # reference frames that may wait; the oldest closes when one more arrives


@dataclass(frozen=True)
class StreamPlan:
    """How one stream is brought to a tick.

    Attributes:
        name: Stream name in the rig.
        kind: `linear` interpolates float arrays, `nearest` takes the closest sample within half a
            period (else holds the last one), `hold` takes the value in force (zero-order hold).
        period_ns: Nominal sample period.
        required: No tick is made before its first sample.
        latency_ns: Subtracted from every stamp: the calibrated delay of the sensor.
    """

    name: str
    kind: Kind
    period_ns: int
    required: bool = True
    latency_ns: int = 0


@dataclass(frozen=True)
class Sample:
    """One stream's share of a tick.

    Attributes:
        value: As pushed; interpolated float64 array for `linear`.
        stamp_ns: Effective stamp of the value; the tick itself when interpolated.
        recv_ns: When it was received; of the later neighbour when interpolated.
        index: Running number of the sample in its stream (the earlier neighbour's).
        fresh: linear: not held; nearest: new and within half a period; hold: new.
    """

    value: object
    stamp_ns: int
    recv_ns: int
    index: int
    fresh: bool


@dataclass(frozen=True)
class Tick:
    """All streams at one instant; `index` counts the ticks of the aligner."""

    stamp_ns: int
    index: int
    samples: Mapping[str, Sample]


@dataclass(frozen=True)
class Arrival:
    """One message as received; the unit of offline re-alignment."""

    name: str
    stamp_ns: int
    recv_ns: int
    value: object


@dataclass(frozen=True)
class _Stored:
    stamp_ns: int
    recv_ns: int
    index: int
    value: object


class StreamBuffer:
    """The samples of one stream that a coming tick may still need; stamps strictly increase."""

    def __init__(self, plan: StreamPlan) -> None:
        self.plan = plan
        self.counts = StreamCounts(plan.period_ns)
        self._samples: deque[_Stored] = deque()
        self._next_index = 0
        self.newest_ns: int | None = None

    def push(self, stamp_ns: int, recv_ns: int, value: object) -> bool:
        """Store a sample at its effective stamp.

        Returns:
            False when it is refused and only counted: stamp 0 or negative, equal to the newest
            (duplicate) or before it (out of order).
        """
        if stamp_ns <= 0:
            self.counts.bad_stamp += 1
            return False
        stamp_ns -= self.plan.latency_ns
        if self.newest_ns is not None and stamp_ns <= self.newest_ns:
            self.counts.duplicate += stamp_ns == self.newest_ns
            self.counts.out_of_order += stamp_ns < self.newest_ns
            return False
        if len(self._samples) >= BUFFER_LIMIT:
            self._samples.popleft()
        self._samples.append(_Stored(stamp_ns, recv_ns, self._next_index, value))
        self._next_index += 1
        self.newest_ns = stamp_ns
        self.counts.arrived(stamp_ns, recv_ns)
        return True

    def latest(self) -> _Stored | None:
        """Return the newest sample."""
        return self._samples[-1] if self._samples else None

    def around(self, stamp_ns: int) -> tuple[_Stored | None, _Stored | None]:
        """Return the last sample at or before `stamp_ns` and the first after it; forget older ones."""
        samples = self._samples
        while len(samples) > 1 and samples[1].stamp_ns <= stamp_ns:
            samples.popleft()
        if not samples:
            return None, None
        if samples[0].stamp_ns > stamp_ns:
            return None, samples[0]
        return samples[0], samples[1] if len(samples) > 1 else None


class Aligner:
    """Make one tick per reference frame, with every other stream brought to its stamp.

    A tick closes when every other stream has a sample at or after it (or, for `nearest`, one so
    close before it that no later one can be closer). A stream that does not deliver is waited for
    at most one of its periods (half a period for `nearest`), on the stamps of the reference, or on
    `now_ns` counted from the reception of the reference frame. Then its last value is held and
    flagged. The result depends only on the order of `push` and `poll`, so a recording replayed in
    its order of reception gives the ticks of the live run.

    Args:
        plans: All streams, the reference among them.
        reference: Name of the stream whose frames make the ticks, or "timer".
        timer_period_ns: Tick period of the "timer" reference.
        wait_ns: Replaces the waiting time of all streams. A recorder that drains a backlog topic
            by topic gives a longer one; values change only where they would have been held.
    """

    def __init__(
        self,
        plans: Iterable[StreamPlan],
        reference: str,
        *,
        timer_period_ns: int = 0,
        wait_ns: int | None = None,
    ) -> None:
        self.buffers = {plan.name: StreamBuffer(plan) for plan in plans}
        self.reference = reference
        self._timer_period_ns = timer_period_ns
        self._wait_ns = wait_ns
        if reference == TIMER and timer_period_ns <= 0:
            raise ValueError("a timer reference needs timer_period_ns > 0")
        if reference != TIMER and reference not in self.buffers:
            raise RigError(f"reference stream {reference!r}; {did_you_mean(reference, self.buffers)}")
        self._clock_name = reference if reference != TIMER else self._timer_clock()
        self._others = [buffer for name, buffer in self.buffers.items() if name != reference]
        self._pending: deque[_Stored] = deque()
        self._last_index: dict[str, int] = {}
        self._num_ticks = self.skipped_frames = 0
        self._next_timer_ns: int | None = None

    @classmethod
    def from_rig(cls, rig: Rig, exclude: Iterable[str] = (), *, wait_ns: int | None = None) -> Aligner:
        """Build the aligner of a rig; `exclude` names streams that are not aligned (a policy
        leaves out the commands).

        Raises:
            RigError: `exclude` names an unknown stream or the reference.
        """
        reference = rig.alignment.tick_source.removeprefix("camera:")
        plans = {plan.name: plan for plan in plans_of(rig)}
        for name in exclude:
            if name not in plans or name == reference:
                raise RigError(
                    f"cannot exclude stream {name!r}; {did_you_mean(name, {*plans} - {reference})}"
                )
            del plans[name]
        period_ns = round(1e9 / rig.alignment.rate_hz)
        return cls(plans.values(), reference, timer_period_ns=period_ns, wait_ns=wait_ns)

    @property
    def counts(self) -> Mapping[str, StreamCounts]:
        """Counts per stream since the last `reset_counts`."""
        return {name: buffer.counts for name, buffer in self.buffers.items()}

    def reset_counts(self) -> None:
        """Start counting anew (at the start of an episode); alignment goes on."""
        for buffer in self.buffers.values():
            buffer.counts = StreamCounts(buffer.plan.period_ns)

    @property
    def num_ticks(self) -> int:
        """How many ticks were made: the index of the next one, also after a reset."""
        return self._num_ticks

    def reset(self) -> None:
        """Forget all samples, pending frames and counts: after a clock jump or a long pause."""
        self.buffers = {name: StreamBuffer(buffer.plan) for name, buffer in self.buffers.items()}
        self._others = [buffer for name, buffer in self.buffers.items() if name != self.reference]
        self._pending.clear()
        self._last_index.clear()
        self._next_timer_ns = None

    def push(self, name: str, stamp_ns: int, recv_ns: int, value: object) -> None:
        """Take one message.

        Args:
            name: Stream of the plan.
            stamp_ns: Stamp of the header; 0 or a stamp that does not increase is only counted.
            recv_ns: Time of reception, on the clock of `poll(now_ns)`.
            value: Float array (n,) for linear streams, anything else otherwise.

        Raises:
            RigError: Unknown stream.
        """
        buffer = self.buffers.get(name)
        if buffer is None:
            raise RigError(f"stream {name!r} is not in the plan; {did_you_mean(name, self.buffers)}")
        if not buffer.push(stamp_ns, recv_ns, value) or name != self._clock_name:
            return
        newest = buffer.latest()
        assert newest is not None
        if self.reference == TIMER:
            self._advance_timer(newest)
        else:
            self._pending.append(newest)

    def poll(self, now_ns: int | None = None) -> list[Tick]:
        """Return the ticks that can be closed.

        Args:
            now_ns: Current time on the clock of `recv_ns`. Leave it out where time may stand still
                (a simulator that waits): then only stamps decide.
        """
        ticks = []
        while self._pending:
            frame = self._pending[0]
            overdue = len(self._pending) > PENDING_LIMIT
            if not overdue and not all(self._settled(buffer, frame, now_ns) for buffer in self._others):
                break
            ticks += self._close(self._pending.popleft())
        return ticks

    def flush(self) -> list[Tick]:
        """Close every pending tick with what is there: the end of an episode."""
        ticks = []
        while self._pending:
            ticks += self._close(self._pending.popleft())
        return ticks

    def _settled(self, buffer: StreamBuffer, frame: _Stored, now_ns: int | None) -> bool:
        """Whether waiting longer for this stream cannot or may not change the tick."""
        plan, newest_ns, stamp_ns = buffer.plan, buffer.newest_ns, frame.stamp_ns
        if newest_ns is None:
            if not plan.required:
                return True
        else:
            # A next sample comes half a period later or more: it cannot be nearer than this one.
            close_ns = plan.period_ns // 4 if plan.kind == "nearest" else 0
            if newest_ns >= stamp_ns - close_ns or stamp_ns - newest_ns > SILENT_PERIODS * plan.period_ns:
                return True
        wait_ns = self._wait_ns
        if wait_ns is None:
            wait_ns = plan.period_ns // 2 if plan.kind == "nearest" else plan.period_ns
        reference_ns = self.buffers[self._clock_name].newest_ns or 0
        by_stamps = reference_ns >= stamp_ns + wait_ns
        return by_stamps or (now_ns is not None and now_ns >= frame.recv_ns + wait_ns)

    def _close(self, frame: _Stored) -> list[Tick]:
        """Make the tick of a reference frame; none while a required stream has no value yet."""
        samples: dict[str, Sample] = {}
        for buffer in self._others:
            sample = self._sample(buffer, frame.stamp_ns)
            if sample is None and buffer.plan.required:
                self.skipped_frames += 1
                return []
            if sample is not None:
                samples[buffer.plan.name] = sample
        if self.reference != TIMER:
            reference = Sample(frame.value, frame.stamp_ns, frame.recv_ns, frame.index, True)
            samples[self.reference] = reference
            self.buffers[self.reference].around(frame.stamp_ns)
        for name, sample in samples.items():
            self._last_index[name] = sample.index
            self.buffers[name].counts.used(sample.stamp_ns - frame.stamp_ns, sample.fresh)
        tick = Tick(frame.stamp_ns, self._num_ticks, samples)
        self._num_ticks += 1
        return [tick]

    def _sample(self, buffer: StreamBuffer, stamp_ns: int) -> Sample | None:
        before, after = buffer.around(stamp_ns)
        if buffer.plan.kind == "linear":
            return _linear(before, after, stamp_ns, buffer.plan.period_ns)
        previous = self._last_index.get(buffer.plan.name, -1)
        if buffer.plan.kind == "hold":
            return _held(before, stamp_ns, previous)
        return _nearest(before, after, stamp_ns, buffer.plan.period_ns // 2, previous)

    def _timer_clock(self) -> str:
        """The stream whose stamps drive the timer grid: the first required linear one, else any."""
        plans = [buffer.plan for buffer in self.buffers.values()]
        linear = [plan.name for plan in plans if plan.kind == "linear" and plan.required]
        return (linear or [plan.name for plan in plans])[0]

    def _advance_timer(self, newest: _Stored) -> None:
        """Queue the grid instants up to the newest stamp; a gap of a second restarts the grid."""
        period_ns = self._timer_period_ns
        if self._next_timer_ns is None or newest.stamp_ns - self._next_timer_ns > 1_000_000_000:
            self._next_timer_ns = -(-newest.stamp_ns // period_ns) * period_ns
        while self._next_timer_ns <= newest.stamp_ns:
            self._pending.append(_Stored(self._next_timer_ns, newest.recv_ns, -1, None))
            self._next_timer_ns += period_ns


def align(aligner: Aligner, arrivals: Iterable[Arrival]) -> list[Tick]:
    """Align a recording: push its messages in order of reception and close all ticks."""
    ticks = []
    for arrival in sorted(arrivals, key=lambda a: a.recv_ns):
        aligner.push(arrival.name, arrival.stamp_ns, arrival.recv_ns, arrival.value)
        ticks += aligner.poll()
    return ticks + aligner.flush()


def plans_of(rig: Rig) -> list[StreamPlan]:
    """Return the plan of every stream of a rig: images and touch nearest, states linear, the rest held."""
    plans, sensed = [], {*rig.cameras, *rig.tactile}
    for name, spec in rig.specs.items():
        kind: Kind = "nearest" if name in sensed else "linear" if name in rig.states else "hold"
        latency_ns = round(spec.latency_ms * 1e6)
        plans.append(StreamPlan(name, kind, round(1e9 / spec.rate_hz), spec.required, latency_ns))
    return plans


def _sample_of(stored: _Stored | None, fresh: bool) -> Sample | None:
    if stored is None:
        return None
    return Sample(stored.value, stored.stamp_ns, stored.recv_ns, stored.index, fresh)


def _held(before: _Stored | None, stamp_ns: int, previous: int) -> Sample | None:
    """Take the value in force; of a trajectory that is where it has come to by `stamp_ns`."""
    sample = _sample_of(before, before is not None and before.index > previous)
    if sample is None or not isinstance(sample.value, Trajectory):
        return sample
    return replace(sample, value=sample.value.at(stamp_ns - sample.stamp_ns))


def _linear(before: _Stored | None, after: _Stored | None, stamp_ns: int, period_ns: int) -> Sample | None:
    """Bring a numeric stream to `stamp_ns` by the rule of `interpolate`; a held value is flagged."""
    if before is None:
        return None
    known = [before] if after is None else [before, after]
    values = [np.asarray(stored.value, dtype=np.float64) for stored in known]
    if values[0].shape != values[-1].shape:
        raise ValueError(f"a linear stream changed its shape from {values[0].shape} to {values[-1].shape}")
    stamps = [stored.stamp_ns for stored in known]
    (value,), (fresh,) = interpolate(stamps, values, [stamp_ns], period_ns)
    if after is None or not fresh or before.stamp_ns == stamp_ns:
        return _sample_of(before, bool(fresh))
    return Sample(value, stamp_ns, after.recv_ns, before.index, True)


def _nearest(
    before: _Stored | None, after: _Stored | None, stamp_ns: int, half_period_ns: int, previous: int
) -> Sample | None:
    """Take the closest sample within half a period; else hold the last one and flag it."""
    candidates = [s for s in (before, after) if s is not None]
    candidates = [s for s in candidates if abs(s.stamp_ns - stamp_ns) <= half_period_ns]
    if candidates:
        best = min(candidates, key=lambda s: abs(s.stamp_ns - stamp_ns))
        return _sample_of(best, best.index > previous)
    return _sample_of(before, False)
