"""Where every claim from outside is judged, once: stamps, numbers and pictures of all streams of a rig.

Recorder, policy, progress, capture and offline conversion hear the robot through an `Intake`; what it
refuses reaches none of them. Pure: time is passed in.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tacit.rig import CameraSpec, GelSpec, Rig, TaxelSpec, is_depth
from tacit.streams.findings import Finding, Kind
from tacit.streams.numbers import NumberJudge, all_finite
from tacit.streams.pictures import PictureJudge
from tacit.streams.stamps import AHEAD_NS, StampJudge
from tacit.streams.taxels import TaxelJudge
from tacit.streams.trajectory import Trajectory

REMEMBER_NS = 1_000_000_000
"""A refusal is named for so long after the last one."""

LOOK_NS = 1_000_000_000
"""How often what no single message shows is looked at: clocks that differ, publishers that are two."""

LATE_NS = 200_000_000
"""A stream whose least delayed stamps are older than this has another clock; see `clock_difference`."""

STILL_SHARE = 0.8
"""A clock that was found to differ agrees again once it differs by less than this part of what is allowed."""

EVENT_LIMIT = 1000

OWN_CLOCK_SET = (
    "the clock of this computer was set while it listened; let chrony slew it, and set it only while no "
    "robot is at work"
)
"""Said of streams that count from their reception: they have no other clock than ours."""


@dataclass(frozen=True)
class IntakeEvent:
    """Something that an episode should tell: a doubt that begins, or a clock that stepped."""

    stream: str
    kind: Kind
    data: Mapping[str, object]


@dataclass
class _Live:
    finding: Finding
    heard_ns: int


class Intake:
    """Judges the messages of one node.

    Used by one thread for `take`; `findings` may be read from any.

    Args:
        rig: Streams, limits, expected latencies.
        names: Streams that come in; all by default.
        receive: Streams to stamp with their reception, beside those of the rig that say so.
        simulated: Stamps may be of a simulated clock; by default as the rig says.

    Attributes:
        counts: Per stream, how many samples each kind of finding refused or doubted; of `clock_offset` and
            the kinds of `notice`, which are of no one sample, the seconds they lasted.
        accepted: Per stream, how many samples were accepted.
        problems: Per stream, the last refusal.
        is_foreign: Whether most stamps are of another clock than the machine's: simulated time, or a bag.
        num_steps: How often what was accepted before no longer fits what comes: a clock was set, or another
            one rules than ours.
    """

    def __init__(
        self,
        rig: Rig,
        names: Iterable[str] | None = None,
        *,
        receive: Iterable[str] = (),
        simulated: bool | None = None,
    ) -> None:
        self._rig = rig
        self._specs = {name: rig.specs[name] for name in (rig.specs if names is None else names)}
        self._simulated = rig.simulation is not None if simulated is None else simulated
        self._receive = {*receive} | {n for n, s in self._specs.items() if s.stamps == "receive"}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in self._specs}
        self.accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.problems: dict[str, Finding] = {}
        self._lock = threading.Lock()
        self._noticed: dict[str, dict[str, Finding]] = {}
        self._refusing: dict[str, Finding] = {}
        self._events: deque[IntakeEvent] = deque(maxlen=EVENT_LIMIT)
        self.reset()

    def reset(self) -> None:
        """Forget every clock and value, not the counts: the next sample of each stream is its first."""
        with self._lock:
            self._stamps, self._receptions = self._stamp_judges(), self._stamp_judges()
            self._values = {name: self._value_judge(name) for name in self._specs}
            self._refusals: dict[str, _Live] = {}
            self._doubts: dict[str, _Live] = {}
            self._refusing.clear()
            self._events.clear()
            self._lasting: dict[str, Finding] = {}
            self._looked_ns: int | None = None
            self.num_steps = 0
            self._clocks: dict[str, bool] = {}
            self.is_foreign = False
            self._newest_ns = 0
            self._heard_ns = 0

    def _stamp_judges(self) -> dict[str, StampJudge]:
        return {n: StampJudge(round(1e9 / s.rate_hz), self._simulated) for n, s in self._specs.items()}

    def _value_judge(self, name: str) -> NumberJudge | PictureJudge | TaxelJudge:
        spec = self._specs[name]
        if isinstance(spec, TaxelSpec):
            return TaxelJudge(spec)
        if isinstance(spec, (CameraSpec, GelSpec)):
            return PictureJudge(spec.frozen_after, (spec.height, spec.width), is_depth(spec))
        return NumberJudge(self._rig, name)

    def take(
        self, name: str, header_ns: int | None, recv_ns: int, value: object, heard_ns: int
    ) -> int | None:
        """Judge one sample.

        Args:
            name: Stream.
            header_ns: Stamp of its header; None where its type has none.
            recv_ns: Reception on the machine's clock.
            value: As decoded: image, taxels (R, C, K), numbers (n,), or a mapping with `position` (n,) and
                maybe velocity and effort, of which what is not finite is left out.
            heard_ns: Reception on the steady clock.

        Returns:
            The stamp it counts from; None where it is refused.
        """
        self._heard_ns = max(self._heard_ns, heard_ns)
        if header_ns is not None and name not in self._receive:
            stamp_ns, judge = header_ns, self._stamps[name]
            found = self._judge_stamp(judge, name, header_ns, recv_ns, heard_ns)
            if found is None:
                has_stepped = judge.step_ns is not None
                self._newest_ns = header_ns if has_stepped else max(self._newest_ns, header_ns)
                self._compare_with_own_clock(name, judge.is_foreign)
        elif self.is_foreign:
            stamp_ns, found = self._newest_ns, None
        else:
            stamp_ns, found = recv_ns, self._judge_reception(name, recv_ns, heard_ns)
        if found is None:
            found = self._judge_value(name, stamp_ns, value)
        self._note(name, found, heard_ns)
        self._look(heard_ns)
        if found is not None and found.refused:
            return None
        self.accepted[name] += 1
        return stamp_ns

    def refuse(self, name: str, kind: Kind, text: str, heard_ns: int) -> None:
        """Count a message that could not even be read, or that the graph speaks against."""
        self._heard_ns = max(self._heard_ns, heard_ns)
        self._note(name, Finding(kind, text), heard_ns)

    def notice(self, source: str, found: Mapping[str, Finding]) -> None:
        """Take what something else than a message tells of streams; replaces what `source` said before."""
        with self._lock:
            before, self._noticed[source] = self._noticed.get(source, {}), dict(found)
            for name, finding in found.items():
                if name not in before:
                    self._begins(name, finding)

    def commanded(self, values: Mapping[str, float]) -> None:
        """Note what the joints are told, by whoever tells them: a measured joint must follow."""
        for judge in self._values.values():
            if isinstance(judge, NumberJudge):
                judge.commanded(values)

    def uncommanded(self) -> None:
        """Forget what the joints were told: they may stand still until they are told anew."""
        for judge in self._values.values():
            if isinstance(judge, NumberJudge):
                judge.uncommanded()

    def snapshot(self) -> dict[str, Counter[str]]:
        """Return a copy of `counts`, for another thread."""
        with self._lock:
            return {name: Counter(count) for name, count in self.counts.items()}

    def num_refused(self, name: str) -> int:
        """Return how many messages of a stream were refused."""
        return self._refused[name]

    def longest_repeat(self, name: str) -> int:
        """Return how many equal pictures or readings in a row came at most; 0 for other numbers."""
        judge = self._values[name]
        return 0 if isinstance(judge, NumberJudge) else judge.longest_repeat

    @property
    def newest_ns(self) -> int:
        """The newest accepted stamp of any header."""
        return self._newest_ns

    def offsets_ns(self) -> dict[str, int]:
        """Return how far each stream's clock lies ahead of the others' [ns], its `latency_ms` allowed for.

        Where some clocks agree with the machine's, that is what the others are compared with.
        """
        is_bag = self.is_foreign  # it may be played at any speed; one odd clock among true ones may not
        known = {
            name: ahead_ns
            for name, judge in self._stamps.items()
            if (ahead_ns := judge.ahead_ns) is not None and (judge.keeps_pace or not is_bag)
        }
        if not known:
            return {}
        latency_ms = {name: self._specs[name].latency_ms for name in known}
        own = {name: clock_difference(value, latency_ms[name]) for name, value in known.items()}
        if any(-LATE_NS <= value <= AHEAD_NS for value in own.values()):
            return own
        base = int(np.median(list(known.values())))
        return {name: clock_difference(value - base, latency_ms[name]) for name, value in known.items()}

    def findings(self, heard_ns: int | None = None) -> dict[str, Finding]:
        """Return what is wrong with each stream now; what is well is left out."""
        now_ns = self._heard_ns if heard_ns is None else heard_ns
        offsets = self._clock_offsets()
        with self._lock:
            refused = {
                name: live.finding
                for name, live in self._refusals.items()
                if now_ns - live.heard_ns <= REMEMBER_NS
            }
            doubts = {name: live.finding for name, live in self._doubts.items()}
            # A doubt lasts and is the cause; the odd message refused beside it must not hide it.
            found = refused | offsets | doubts | self._notices()
        return found

    def refusing(self) -> dict[str, Finding]:
        """Return why the newest message of a stream was refused, for each whose newest one was.

        Such a stream is not silent, though nobody hears it: what it sends is of no use.
        """
        with self._lock:
            return dict(self._refusing)

    def drain_events(self) -> list[IntakeEvent]:
        """Return and forget the events since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _notices(self) -> dict[str, Finding]:
        return {name: finding for found in self._noticed.values() for name, finding in found.items()}

    def _look(self, heard_ns: int) -> None:
        """Once a second, note which clocks differ, and count how long what no message shows has lasted."""
        if self._looked_ns is not None and heard_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = heard_ns
        offsets = self._clock_offsets()
        with self._lock:
            now = self._notices() | offsets
            for name, finding in now.items():
                before = self._lasting.get(name)
                if before is not None and before.kind == finding.kind:
                    self.counts[name][finding.kind] += 1
                elif name in offsets:
                    self._begins(name, finding)
            self._lasting = now

    def _begins(self, name: str, finding: Finding) -> None:
        """Count and tell something that no single message shows."""
        self.counts[name][finding.kind] += 1
        self._events.append(IntakeEvent(name, finding.kind, {"text": finding.text, "refused": False}))

    def _clock_offsets(self) -> dict[str, Finding]:
        found = {}
        for name, ahead_ns in self.offsets_ns().items():
            lasting = self._lasting.get(name)
            differed = lasting is not None and lasting.kind == "clock_offset"
            found[name] = clock_finding(ahead_ns, STILL_SHARE if differed else 1.0)
        return {name: finding for name, finding in found.items() if finding is not None}

    def _judge_stamp(
        self, judge: StampJudge, name: str, stamp_ns: int, recv_ns: int, heard_ns: int
    ) -> Finding | None:
        found = judge.judge(stamp_ns, recv_ns, heard_ns)
        if judge.step_ns is not None:
            self._stepped(name, judge.step_ns, heard_ns)
        return found

    def _judge_reception(self, name: str, recv_ns: int, heard_ns: int) -> Finding | None:
        """Judge the machine's clock, where a stream has no other: set back, it would block what comes."""
        judge = self._receptions[name]
        if judge.is_overtaken(
            recv_ns, heard_ns
        ):  # two of one moment, or sent again: alignment takes the first
            return None
        found = self._judge_stamp(judge, name, recv_ns, recv_ns, heard_ns)
        if found is None or found.kind == "no_stamp":
            return found
        return Finding(found.kind, OWN_CLOCK_SET)

    def _compare_with_own_clock(self, name: str, is_foreign: bool) -> None:
        """Count a step where stamps turn out to be of another clock than what was stamped on reception."""
        if self._clocks.get(name) == is_foreign:
            return
        self._clocks[name] = is_foreign
        was_foreign, self.is_foreign = self.is_foreign, 2 * sum(self._clocks.values()) > len(self._clocks)
        if self.is_foreign and not was_foreign:
            self.num_steps += any(judge.newest_ns is not None for judge in self._receptions.values())

    def _judge_value(self, name: str, stamp_ns: int, value: object) -> Finding | None:
        judge = self._values[name]
        if not isinstance(judge, NumberJudge):
            return judge.judge(value)  # type: ignore[arg-type]  # as its decoder made it
        if isinstance(value, dict):
            for field in [f for f, v in value.items() if f != "position" and not all_finite(v)]:
                del value[field]  # drivers fill what they do not measure with NaN
            value = value["position"]
        if isinstance(value, Trajectory):  # judged point by point: all are read, so all must be numbers
            bad = next((row for row in value.positions if not np.isfinite(row).all()), value.positions[0])
            return judge.judge(stamp_ns, bad)
        numbers = np.asarray(value, dtype=np.float64)
        if name in self._rig.commands and all_finite(numbers):
            self.commanded(dict(zip(self._rig.commands[name].names, map(float, numbers), strict=False)))
        return judge.judge(stamp_ns, numbers, may_leap=self._simulated and self.is_foreign)

    def _stepped(self, name: str, step_ns: int, heard_ns: int) -> None:
        self._values[name].reset()
        self.num_steps += 1
        text = f"its clock stepped by {step_ns / 1e9:+.2f} s"
        with self._lock:
            self.counts[name]["clock_step"] += 1
            self._refusals[name] = _Live(Finding("clock_step", text), heard_ns)
        self._events.append(IntakeEvent(name, "clock_step", {"step_s": step_ns / 1e9}))

    def _note(self, name: str, found: Finding | None, heard_ns: int) -> None:
        with self._lock:
            if found is None or not found.refused:
                self._refusing.pop(name, None)
            else:
                self._refusing[name] = found
            if found is None:
                self._doubts.pop(name, None)
                return
            self.counts[name][found.kind] += 1
            live = self._refusals if found.refused else self._doubts
            before = live.get(name)
            begins = before is None or before.finding.kind != found.kind
            begins = begins or heard_ns - before.heard_ns > REMEMBER_NS  # type: ignore[union-attr]  # not None
            live[name] = _Live(found, heard_ns)
            if found.refused:
                self._refused[name] += 1
                self.problems[name] = found
        if begins:
            self._events.append(IntakeEvent(name, found.kind, {"text": found.text, "refused": found.refused}))


def clock_difference(ahead_ns: int, latency_ms: float) -> int:
    """Return how far a clock lies ahead of another [ns], beyond what its stream's `latency_ms` explains.

    A driver that stamps when it sends is not late at all, however old its values are; one that stamps the
    exposure sends that much later. Neither tells of a clock.

    Args:
        ahead_ns: The least delayed stamp minus its reception.
        latency_ms: Of the stream's rig.
    """
    return max(ahead_ns, min(0, ahead_ns + round(1e6 * latency_ms)))


def clock_finding(ahead_ns: int, share: float = 1.0) -> Finding | None:
    """Return what to say of a clock that lies so far ahead of the others [ns]; None where it agrees.

    Args:
        ahead_ns: As of `clock_difference`.
        share: Part of what is allowed from where on it differs.
    """
    if -LATE_NS * share <= ahead_ns <= AHEAD_NS * share:
        return None
    side = "ahead of" if ahead_ns > 0 else "behind"
    return Finding(
        "clock_offset",
        f"its stamps are {abs(ahead_ns) / 1e9:.2f} s {side} the other clocks; synchronise the clock of its "
        "computer (chrony, PTP), or set `stamps: receive` of this stream in the rig, with `latency_ms` if "
        "its values are old when they come",
        refused=False,
    )
