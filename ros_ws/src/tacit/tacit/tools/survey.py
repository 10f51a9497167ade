"""What a running robot does beside what its rig says: rates, clocks, publishers, and the lines to change.

Pure: fed with what an intake accepts. `tacit doctor --rig` listens to the robot and prints it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tacit.record.monitor import monitors_of
from tacit.record.preroll import Surroundings, reasons_not_to_start
from tacit.rig import Rig
from tacit.rig.topics import MAX_LATENCY_MS
from tacit.streams import Finding, Intake, StreamCounts, clock_difference, clock_finding

RATE_TOLERANCE = 0.1
"""Relative difference to the rate of the rig above which the recorder refuses to start (its default)."""

WHOLE_RATE = 0.02
"""A rate this close to a whole number of Hz was set to that number."""

BIN_NS = 1_000_000_000
"""Clocks are compared within so much time, in which even a simulator of another pace runs off by little."""

STEADY = 0.5
"""A camera that repeats fewer pictures than come in half a second is a slow sensor behind a fast driver."""

CLOCK_CURE = (
    "Synchronise the clocks of all computers that stamp: run chrony on each, with one of them as the server "
    "of the others (`chronyc tracking` tells the difference), or PTP where cameras support it."
)


@dataclass(frozen=True)
class StreamReport:
    """What one stream did while it was listened to.

    Attributes:
        name: The stream.
        topic: Its topic, with remaps.
        publishers: Full names of the nodes that publish it.
        hz: Measured rate [Hz]; of the stamps, or of the reception where no stamp was accepted.
        sent_hz: Rate that its driver keeps [Hz]: above `hz` where messages are lost on the way.
        rate_hz: What the rig expects [Hz].
        jitter_p99_ms: 99th percentile of |interval - median interval| [ms].
        latency_p50_ms: Reception minus stamp, median [ms]; None where the stamps are of another clock.
        offset_s: How far its clock lies ahead of the others [s]; None where that is not known.
        refused: Refused and doubted messages by kind.
        finding: What is wrong now.
        longest_repeat: Most equal pictures in a row.
    """

    name: str
    topic: str
    publishers: tuple[str, ...]
    hz: float
    sent_hz: float
    rate_hz: float
    jitter_p99_ms: float
    latency_p50_ms: float | None
    offset_s: float | None
    refused: Mapping[str, int]
    finding: Finding | None
    longest_repeat: int = 0


class Survey:
    """Listens along with an intake, and says how the robot and its rig differ.

    Args:
        rig: What should come.
        intake: Judges what comes; `saw` is given what it accepts.
    """

    def __init__(self, rig: Rig, intake: Intake) -> None:
        self._rig, self._intake = rig, intake
        self._monitors = monitors_of(rig)
        self._counts = {name: StreamCounts(round(1e9 / spec.rate_hz)) for name, spec in rig.specs.items()}
        self._ahead_ns: dict[int, dict[str, int]] = defaultdict(dict)

    def saw(self, name: str, stamp_ns: int, recv_ns: int, value: object) -> None:
        """Take one accepted message."""
        ahead_ns = stamp_ns - recv_ns
        within = self._ahead_ns[recv_ns // BIN_NS]
        within[name] = max(ahead_ns, within.get(name, ahead_ns))  # of the least delayed message
        counts = self._counts[name]
        if counts.last_ns is None or stamp_ns > counts.last_ns:
            counts.arrived(stamp_ns, recv_ns)
        self._monitors[name].saw(stamp_ns, recv_ns, value)  # type: ignore[arg-type]  # as its decoder made it

    def reports(
        self, seconds: float, topic: Callable[[str], str], publishers: Callable[[str], Sequence[str]]
    ) -> list[StreamReport]:
        """Return what each stream of the rig did.

        Args:
            seconds: How long was listened.
            topic: Tells the topic of a stream.
            publishers: Tells who publishes a stream.
        """
        offsets, findings = self.offsets_ns(), self.findings()
        foreign, refused = self._intake.is_foreign, self._intake.snapshot()
        made = []
        for name, counts in self._counts.items():
            came = counts.received + self._intake.num_refused(name)
            offset_ns = offsets.get(name)
            made.append(
                StreamReport(
                    name=name,
                    topic=topic(name),
                    publishers=tuple(publishers(name)),
                    hz=counts.hz_mean or came / seconds,
                    sent_hz=counts.hz_sent or came / seconds,
                    rate_hz=self._rig.specs[name].rate_hz,
                    jitter_p99_ms=counts.jitter_p99_ms,
                    latency_p50_ms=None if foreign or not counts.received else counts.latency_ms(50),
                    offset_s=None if offset_ns is None else offset_ns / 1e9,
                    refused=refused[name],
                    finding=findings.get(name),
                    longest_repeat=self._intake.longest_repeat(name),
                )
            )
        return made

    def offsets_ns(self) -> dict[str, int]:
        """Return how far each clock lies ahead of the others [ns], as the intake finds it.

        Where the intake cannot tell, because a simulated clock does not keep pace with real time, what was
        received within the same second is compared.
        """
        found: dict[str, list[float]] = defaultdict(list)
        for ahead in self._ahead_ns.values():
            middle = median(ahead.values())
            for name, value_ns in ahead.items():
                if self._rig.specs[name].stamps == "header":
                    latency_ms = self._rig.specs[name].latency_ms
                    found[name].append(clock_difference(round(value_ns - middle), latency_ms))
        compared = {name: round(median(values)) for name, values in found.items()}
        return compared | self._intake.offsets_ns()

    def findings(self) -> dict[str, Finding]:
        """Return what is wrong with each stream now."""
        clocks = {name: clock_finding(offset_ns) for name, offset_ns in self.offsets_ns().items()}
        return {name: f for name, f in clocks.items() if f is not None} | self._intake.findings()

    def reasons(self, now_ns: int, num_publishers: Callable[[str], int]) -> list[str]:
        """Return why the recorder would refuse to start now.

        Args:
            now_ns: The machine's clock.
            num_publishers: Number of publishers of a stream, by name.
        """
        intake = self._intake
        around = Surroundings(
            now_ns=intake.newest_ns if intake.is_foreign else now_ns,
            num_publishers=num_publishers,
            findings=self.findings(),
            free_bytes=1,
            min_free_bytes=0,  # the disk is the recorder's matter
            rate_tolerance=RATE_TOLERANCE,
        )
        return reasons_not_to_start(self._rig, self._monitors, around)


def proposed_lines(rig: Rig, reports: Sequence[StreamReport]) -> str:
    """Return the lines of the rig to change, as YAML to paste; "" where it fits the robot."""
    sections: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        lines = list(_proposals(rig, report))
        if lines:
            sections.setdefault(_section(rig, report.name), {})[report.name] = lines
    text = []
    for section, streams in sections.items():
        text.append(f"{section}:")
        for name, lines in streams.items():
            text += [f"  {name}:", *(f"    {line}" for line in lines)]
    return "\n".join(text)


def cures(reports: Sequence[StreamReport]) -> list[str]:
    """Return what to do beside the rig: clocks, publishers."""
    found: set[str] = {report.finding.kind for report in reports if report.finding is not None}
    found |= {kind for report in reports for kind in report.refused}
    advice = []
    if found & {"clock_offset", "clock_step", "stamp_ahead", "out_of_order"}:
        advice.append(CLOCK_CURE)
    if "two_publishers" in found:
        advice.append("Stop all publishers of a topic but the robot's driver; the table names them.")
    for r in reports:
        if r.hz < (1 - RATE_TOLERANCE) * r.sent_hz:
            advice.append(
                f"{r.name}: its driver sends {_rate(r.sent_hz)} Hz, {r.hz:.1f} Hz arrive: messages are lost "
                "on the way. Look at the load of this machine and at the network; "
                "`qos: {reliability: reliable}` asks for them again."
            )
    return advice


def _proposals(rig: Rig, report: StreamReport) -> Iterator[str]:
    kind = None if report.finding is None else report.finding.kind
    hz = report.sent_hz
    if hz and abs(hz / report.rate_hz - 1) > RATE_TOLERANCE and kind != "two_publishers":
        yield f"rate_hz: {_rate(hz)}  # measured; the rig says {report.rate_hz:g}"
    if "no_stamp" in report.refused:
        yield "stamps: receive  # its driver leaves the stamps empty"
    elif kind == "clock_offset" and report.offset_s is not None:
        yield f"stamps: receive  # until its clock is kept right: it is off by {report.offset_s:+.3f} s"
        latency_ms = rig.specs[report.name].latency_ms - 1e3 * report.offset_s
        if report.offset_s < 0 and latency_ms <= MAX_LATENCY_MS:
            yield f"# and, if its stamps are right and the way is slow: latency_ms: {latency_ms:.0f}"
    repeats = report.longest_repeat
    if (
        repeats >= getattr(rig.specs[report.name], "frozen_after", repeats + 1)
        and repeats < STEADY * report.hz
    ):
        yield f"frozen_after: {2 * repeats}  # its driver repeats up to {repeats} pictures"


def _section(rig: Rig, name: str) -> str:
    parts: dict[str, Mapping[str, object]] = {
        "cameras": rig.cameras,
        "tactile": rig.tactile,
        "streams": rig.streams,
        "commands": rig.commands,
    }
    return next(section for section, streams in parts.items() if name in streams)


def _rate(hz: float) -> str:
    whole = round(hz)
    return f"{whole:.1f}" if whole and abs(hz / whole - 1) < WHOLE_RATE else f"{hz:.1f}"
