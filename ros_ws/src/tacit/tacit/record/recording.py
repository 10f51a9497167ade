"""One episode in the making: aligner and writer on one thread, and when to give up.

Pure apart from the file: arrivals and time come in, ticks go to the disk. `RecorderSession` owns
the thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tacit.episode import EpisodeWriter, Step
from tacit.rig import Rig
from tacit.streams import Aligner, Arrival, Finding, Follower, Intake, Tick, Trajectory

WAIT_NS = 900_000_000
"""How long a tick waits for a stream on the stamps: frames come out of the encoders and of the
message queues in bursts, topic by topic, in a fast simulation many in a moment, and a recorder has
no reason to hurry. Just under LOST_NS: what is waited for longer ends the episode."""
LOST_NS = 1_000_000_000
"""A required stream silent for so long, by its stamps and by the time we listened, ends the episode."""
LOSSES_EVERY_NS = 1_000_000_000
"""Losses of a second are one event: under load they come one by one."""
WORST_STEP_BACK_S, WORST_STEP_S = 0.05, 1.0
"""A clock that is set back or ahead by more ends the episode; smaller steps are events."""
MOST_NAMED = 3
"""A reason names at most so many streams: one clock that is set refuses all of them."""
PAUSE_NS = 30_000_000_000
"""In simulated time everything may stand still for so long before the episode ends."""


class Recording:
    """An episode between start and stop; used by one thread only."""

    def __init__(
        self, rig: Rig, writer: EpisodeWriter, intake: Intake | None = None, before: Iterable[Arrival] = ()
    ) -> None:
        """Begin.

        Args:
            rig: The rig.
            writer: The open file.
            intake: Knows what was refused meanwhile; None where nothing comes from outside.
            before: Commands from shortly before the start, still in force at the first tick.
        """
        self.writer = writer
        self.lost_queue: dict[str, int] = {}
        self.lost_reported: dict[str, int] = {}
        self._aligner = Aligner.from_rig(rig, wait_ns=WAIT_NS)
        self._intake = intake
        self._found_before = {} if intake is None else intake.snapshot()
        self._refused_before = {n: 0 if intake is None else intake.num_refused(n) for n in rig.specs}
        self._images = set(rig.image_names)
        # Commands are left out: a silent teleoperator holds the robot, the last command stays in force.
        self._vital = [n for n, s in rig.specs.items() if s.required and n not in rig.commands]
        self._headerless = {n for n, s in rig.specs.items() if s.type.startswith("std_msgs/")}
        self._newest_ns: dict[str, int] = {}
        self._heard_at_ns: dict[str, int] = {}
        self._arrived: set[str] = set()
        self._gaps: dict[str, int] = {}
        self._followed: dict[str, tuple[Follower, Arrival]] = {}
        self._heard_ns: int | None = None
        self._far_since_ns: dict[str, int] = {}
        self._began_ns = 0
        self._noted: dict[str, tuple[int, int]] = {}
        self._noted_at_ns = 0
        self.last_tick_ns = 0
        for arrival in sorted(before, key=lambda a: a.stamp_ns):
            self._aligner.push(arrival.name, arrival.stamp_ns, arrival.recv_ns, arrival.value)
        self._aligner.reset_counts()

    def push(self, arrival: Arrival) -> None:
        """Take one message: encoded bytes (1-D uint8), numbers, or a mapping with `position`."""
        name, stamp_ns = arrival.name, arrival.stamp_ns
        counts = self._aligner.buffers[name].counts
        received = counts.received
        value = arrival.value["position"] if isinstance(arrival.value, Mapping) else arrival.value
        self._aligner.push(name, stamp_ns, arrival.recv_ns, value)
        if counts.received == received:
            return  # refused and counted: stamp 0, duplicate or out of order
        if name not in self._images:
            self._store(arrival)
        self._newest_ns[name] = stamp_ns
        self._arrived.add(name)
        self._began_ns = self._began_ns or stamp_ns

    def advance(self, now_ns: int, listened_ns: int, heard: bool, held: Iterable[str] = ()) -> None:
        """Write the ticks that can be closed, and flush when it is time.

        Args:
            now_ns: Steady clock.
            listened_ns: How long the recorder has been listening (`Attention.ns`): what silence is
                measured on.
            heard: Whether anything arrived since the last call.
            held: Streams whose frames we hold back ourselves, in an encoder: they are not silent.
        """
        self._write(self._aligner.poll(), now_ns)
        for name in self._followed:
            self._follow(name, self.last_tick_ns - WAIT_NS)  # a newer command may still be on its way
        self._note_gaps()
        self._note_losses(now_ns)
        self.writer.flush_if_due(now_ns)
        if heard or self._heard_ns is None:
            self._heard_ns = listened_ns
        self._heard_at_ns |= dict.fromkeys((*self._arrived, *held), listened_ns)
        self._arrived.clear()

    def ended(self, listened_ns: int) -> str | None:
        """Return why the episode must end now; None while all is well.

        Args:
            listened_ns: How long the recorder has been listening.
        """
        simulated = self._intake is not None and self._intake.is_foreign
        return self.stepped() or self.lost(listened_ns, simulated)

    def lost(self, listened_ns: int, simulated: bool) -> str | None:
        """Return why the episode must end, if a required stream is lost; None while all is well.

        Args:
            listened_ns: How long the recorder has been listening.
            simulated: Stamps run on simulated time, which may stand still for a while.
        """
        silent_ns = listened_ns - self._heard_ns if self._heard_ns is not None else 0
        if silent_ns > (PAUSE_NS if simulated else LOST_NS):
            return f"nothing received for {silent_ns / 1e9:.1f} s; are the drivers alive?"
        newest_ns, refusing = max(self._newest_ns.values(), default=0), self._refusing()
        for name in self._vital:
            behind_ns = newest_ns - self._newest_ns.get(name, self._began_ns)
            unheard_ns = listened_ns - self._heard_at_ns.setdefault(name, listened_ns)
            refused = name in refusing
            if unheard_ns >= LOST_NS and (behind_ns >= LOST_NS or refused):
                why = self._refused() if refused else f"{behind_ns / 1e9:.1f} s behind the others"
                return f"required stream {name} lost: {why}"
        return self._displaced(listened_ns)

    def _displaced(self, listened_ns: int) -> str | None:
        """Return why ticks hold values of another time: a clock that stays as far off as a stream is lost."""
        offsets = {} if self._intake is None else self._intake.offsets_ns()
        far = {n: offset for n in self._vital if abs(offset := offsets.get(n, 0)) >= LOST_NS}
        self._far_since_ns = {name: self._far_since_ns.get(name, listened_ns) for name in far}
        for name, since_ns in self._far_since_ns.items():
            if listened_ns - since_ns >= LOST_NS:
                return (
                    f"clock_offset of required stream {name}: its stamps are {far[name] / 1e9:+.1f} s from "
                    "the other clocks"
                )
        return None

    def _refusing(self) -> dict[str, Finding]:
        """Return why messages are refused now, by stream; a repeated stamp is a pause of a simulator."""
        found = {} if self._intake is None else self._intake.refusing()
        return {name: finding for name, finding in found.items() if finding.kind != "duplicate"}

    def _refused(self) -> str:
        """Return in words why the messages of required streams are refused."""
        found = self._refusing()
        chosen = [name for name in self._vital if name in found]
        return "; ".join(f"{name}: {found[name].kind}: {found[name].text}" for name in chosen[:MOST_NAMED])

    def stepped(self) -> str | None:
        """Note what the intake has found since the last call.

        Returns:
            Why a clock that was set must end the episode: its ticks would tell a time that has not passed.
        """
        reason = None
        for found in [] if self._intake is None else self._intake.drain_events():
            self.event(found.kind, {"stream": found.stream, **found.data})
            step_s = found.data.get("step_s")
            if isinstance(step_s, float) and not -WORST_STEP_BACK_S < step_s < WORST_STEP_S:
                reason = (
                    f"clock_step of {found.stream}: its clock stepped by {step_s:+.2f} s; keep clocks by "
                    "chrony or PTP, which slew while a robot works"
                )
        return reason

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Note an event at the newest stamp."""
        self.writer.event(max(self._newest_ns.values(), default=0), kind, dict(data))

    def finish(
        self,
        success: bool | None,
        *,
        reason: str = "stopped",
        outcome: str = "",
        failures: Sequence[Step] = (),
    ) -> Path:
        """Write what is pending and give the file its name; see `EpisodeWriter.close`.

        Raises:
            EpisodeError: No tick was recorded, or the disk is full.
        """
        if reason == "stopped":
            self._write(self._aligner.flush(), None)
        for name in self._followed:
            self._follow(name, self.last_tick_ns)
        self.stepped()  # what was found since the last look belongs to this episode
        self._note_gaps()
        self._note_losses(None)
        counts = self._aligner.counts
        for name, count in counts.items():
            count.lost_queue = self.lost_queue.get(name, 0)
            count.lost_reported = self.lost_reported.get(name, 0)
            count.found = self._found(name)
            if self._intake is not None:
                count.refused = self._intake.num_refused(name) - self._refused_before[name]
            if name in self._headerless:  # stamped on arrival: only sequence numbers tell a loss
                count.missing = count.lost_reported + count.lost_queue
                count.duplicate = 0  # of the same moment of a simulated clock, which is no fault of theirs
        return self.writer.close(success, outcome=outcome, reason=reason, counts=counts, failures=failures)

    def discard(self) -> Path:
        """Move the unfinished file to the trash."""
        return self.writer.discard()

    def summary(self) -> dict[str, dict[str, float]]:
        """Return counts per stream for the status: received, lost, stale ticks, gaps."""
        return {
            name: {
                "received": count.received,
                **self._found(name),
                "gaps": count.gaps,
                "stale_ticks": count.stale_ticks,
                "lost_queue": self.lost_queue.get(name, 0),
                "lost_middleware": self.lost_reported.get(name, 0),
            }
            for name, count in self._aligner.counts.items()
        }

    def _store(self, arrival: Arrival) -> None:
        """Write a message to the table of its stream; a trajectory command by command, as it goes."""
        name = arrival.name
        self._follow(name, arrival.stamp_ns)
        self._followed.pop(name, None)
        if not isinstance(arrival.value, Trajectory):
            self.writer.append_stream(name, arrival.stamp_ns, arrival.recv_ns, arrival.value)
            return
        period_ns = round(1e9 / self.writer.rig.specs[name].rate_hz)
        self._followed[name] = (Follower(arrival.value, arrival.stamp_ns, period_ns), arrival)

    def _follow(self, name: str, before_ns: int) -> None:
        """Write what a trajectory commanded before `before_ns`, as if each had been sent by itself."""
        if name in self._followed:
            follower, sent = self._followed[name]
            for stamp_ns, command in follower.due(before_ns):
                self.writer.append_stream(name, stamp_ns, sent.recv_ns + stamp_ns - sent.stamp_ns, command)

    def _found(self, name: str) -> dict[str, int]:
        """How many samples of a stream were refused or doubted since the start, by kind."""
        if self._intake is None:
            return {}
        return dict(self._intake.snapshot()[name] - self._found_before[name])

    def _write(self, ticks: list[Tick], now_ns: int | None) -> None:
        for tick in ticks:
            self.writer.append(tick, now_ns)
            self.last_tick_ns = tick.stamp_ns

    def _note_gaps(self) -> None:
        """Turn each new gap of a stream into an event, so that a check can tell it from a defect."""
        for name, count in self._aligner.counts.items():
            if count.gaps > self._gaps.get(name, 0) and name not in self._headerless:
                new = count.gaps - self._gaps.get(name, 0)
                self._gaps[name] = count.gaps
                self.event("gap", {"stream": name, "gaps": new, "longest_ms": count.longest_gap_ns / 1e6})

    def _note_losses(self, now_ns: int | None) -> None:
        """Turn messages that were sent and could not be recorded into events, by who lost them.

        Args:
            now_ns: Steady clock; None notes what is left at the end.
        """
        if now_ns is not None and now_ns - self._noted_at_ns < LOSSES_EVERY_NS:
            return
        self._noted_at_ns = now_ns or 0
        for name in self._aligner.counts:
            before = self._noted.get(name, (0, 0))
            found = (self.lost_queue.get(name, 0), self.lost_reported.get(name, 0))
            if found != before:
                self._noted[name] = found
                queue, middleware = (new - old for new, old in zip(found, before, strict=True))
                self.event("lost", {"stream": name, "queue": queue, "middleware": middleware})
