"""The work of one tick: align, gate, infer, gate, hand the chunk on, command.

One object, `Acting`, does it for everyone: the policy node's inference thread calls it on a robot, the
simulator's closed loop calls it in lockstep. What `tacit evaluate` scores is therefore what `tacit run`
does. Nothing here knows ROS or starts a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.player import ChunkPlayer, PlaySpec
from tacit.bundle.runtime import OnnxPolicy
from tacit.control.controller import Controller
from tacit.control.inputs import AlignedInputs
from tacit.control.players import Mover
from tacit.control.safety import Fault, check_chunk
from tacit.control.states import MOVING, Answer
from tacit.errors import BundleError, ImageError
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.streams import Tick

MAX_ERRORS = 3
"""Unusable ticks in a row before the policy holds; the chunk in force bridges fewer."""

PASSING = ("stale", "skew")
"""Faults of one tick that a late message causes: such a tick is left out. A stream that stays silent is
seen by the command thread, everything else holds at once."""

DEADLINE_CHUNKS = 0.5
"""An inference may take this part of a chunk's duration before it is aborted."""

BETWEEN_TICKS_S = 5.0
"""How long `start` and `reset` wait for an inference to end: many times the deadline of one."""

OPEN_LOOP_LEAD = 3
"""Rows before the end of a chunk at which `open_loop` asks for the next, beside what inference takes."""


class Replanner:
    """Says on which ticks to infer.

    Args:
        mode: Play mode; `open_loop` infers when the chunk nears its end, the others every so often.
        every_ticks: Ticks from one inference to the next.
    """

    def __init__(self, mode: str, every_ticks: int) -> None:
        self._mode, self._every_ticks = mode, every_ticks
        self._planned: int | None = None

    def reset(self) -> None:
        """The next tick is the first of a run."""
        self._planned = None

    def planned(self, index: int) -> None:
        """Note that tick `index` gave a chunk."""
        self._planned = index

    def is_due(self, index: int, rows_left: int, lead_rows: int) -> bool:
        """Decide on tick `index`, with `rows_left` in force and `lead_rows` needed for an inference."""
        if self._planned is None:
            return True
        if self._mode == "open_loop":
            return rows_left <= lead_rows
        return index - self._planned >= self._every_ticks


@dataclass(frozen=True)
class _Late:
    """A chunk (K, S) whose inference, in simulated time, is over at `ready_ns`."""

    ready_ns: int
    chunk: NDArray[np.float32]
    tick: Tick


class Acting:
    """A policy that acts: ticks in, chunks to the controller, commands out.

    Args:
        policy: The bundle at work, bound to the rig.
        rig: Limits and order of the command vector (S,).
        inputs: Where ticks come from.
        play: How chunks are played; the bundle's own way if None.
        dry_run: Commands are not sent: the robot need not follow them.
        lockstep: Time stands still until each tick is answered. Ages then say nothing and are not
            checked; `look` reports each tick that waits for its command.
        latency_ns: In lockstep, how much simulated time each inference takes. A chunk is handed on that
            long after its inference began, and until then no other begins, as on a real robot: it goes
            on with the newest tick.
        person: May take over from the policy.
    """

    def __init__(
        self,
        policy: OnnxPolicy,
        rig: Rig,
        inputs: AlignedInputs,
        play: PlaySpec | None = None,
        *,
        dry_run: bool = False,
        lockstep: bool = False,
        latency_ns: int = 0,
        person: Mover | None = None,
    ) -> None:
        manifest = policy.manifest
        self.play = play or manifest.playing
        self.policy, self.inputs, self._rig = policy, inputs, rig
        self.period_ns = round(1e9 / manifest.rate_hz)
        player = ChunkPlayer.of(self.play, self.period_ns)
        self.controller = Controller(rig, player, self.period_ns / 1e9, dry_run, person)
        self._replanner = Replanner(self.play.mode, self.play.every_ticks)
        self._is_lockstep, self._latency_ns = lockstep, latency_ns
        self._shape = (manifest.chunk_size, len(manifest.action_names))
        self._deadline_ns = int(DEADLINE_CHUNKS * manifest.chunk_size * self.period_ns)
        self._visiting = threading.Lock()
        self._busy_since_ns: int | None = None
        self._errors_in_row = 0
        self._answered: int | None = None
        self._not_before_ns = 0
        self._late: _Late | None = None
        self.tick: Tick | None = None
        self.not_finite = 0

    def readiness(self) -> Fault | None:
        """Return why a run could not start on the newest tick; None when it could."""
        if self.tick is None:
            missing = Fault("missing", "no aligned observation yet")
            return self.inputs.doubt() or self.inputs.silence_fault() or missing
        fault = self.inputs.tick_fault(self.tick, check_ages=not self._is_lockstep)
        return fault or self._live_fault()

    def start(self) -> Answer:
        """Begin a run from the measured state, between two ticks; refused on any input fault.

        Its first tick is not older than the newest message of any stream: a picture from before the
        robot was set up anew must not be planned on.
        """

        def begin() -> Answer:
            answer = self.controller.start(self.inputs.measured(), self.readiness() or self._touch_fault())
            if answer.success:
                self.inputs.intake.uncommanded()
                self._forget()
                self._not_before_ns = self.inputs.newest_stamp_ns()
            return answer

        answer = self._between_ticks(begin)
        self.inputs.wake()
        return answer

    def go_home(self) -> Answer:
        """Go to the rig's home from the measured state; refused where a stream is silent."""
        answer = self.controller.home(self.inputs.measured(), self._live_fault())
        if answer.success:
            self.inputs.intake.uncommanded()
        return answer

    def take_over(self) -> Answer:
        """Let a person move the robot at once: the policy is mute from now on."""
        moving = self.controller.state in MOVING
        answer = self.controller.take_over(self.inputs.measured(), self._person_fault())
        if answer.success and not moving:
            self.inputs.intake.uncommanded()
        return answer

    def hand_back(self) -> Answer:
        """Let the policy go on from the measured state, between two ticks; refused as `start` is.

        It plans on what it sees from now on: a picture from before may show another world.
        """

        def begin() -> Answer:
            answer = self.controller.hand_back(self.inputs.measured(), self.readiness())
            if answer.success:
                self._forget()
                self._not_before_ns = self.inputs.newest_stamp_ns()
            return answer

        answer = self._between_ticks(begin)
        self.inputs.wake()
        return answer

    def reset(self) -> Answer:
        """Back to idle with nothing remembered: the cure after a clock that was set anew.

        A start succeeds once every stream has been heard again.
        """

        def begin() -> Answer:
            answer = self.controller.reset()
            if answer.success:
                self.inputs.reset()
                self.tick, self._not_before_ns = None, 0
                self._forget()
            return answer

        return self._between_ticks(begin)

    def _between_ticks(self, action: Callable[[], Answer]) -> Answer:
        """Do something while no tick is at work; refuse it, for good, where an inference does not end."""
        if not self._visiting.acquire(timeout=BETWEEN_TICKS_S):
            return Answer(False, f"an inference has not ended for {BETWEEN_TICKS_S:g} s; try again")
        try:
            return action()
        finally:
            self._visiting.release()

    def look(self, on_tick: Callable[[int], None] | None = None) -> None:
        """Align what was heard and answer the newest tick, if it is new.

        Args:
            on_tick: Told the stamp of the tick, once, after a chunk of it has been handed on: in
                lockstep each tick waits for a command, also while braking.
        """
        with self._visiting:
            before = self.tick
            for tick in self.inputs.poll(may_wait=not self._is_lockstep):
                self.tick = tick
            if self.tick is None or self.tick.index == self._answered:
                return
            self._answered = self.tick.index
            if self.tick.stamp_ns < self._not_before_ns:
                return
            if self._is_lockstep:
                self.watch()
            self._bring_late(self.tick.stamp_ns, before)
            if self._late is None:
                self._plan(self.tick, self.tick.stamp_ns)
            if on_tick is not None:
                on_tick(self.tick.stamp_ns)

    def command(self, now_ns: int) -> FloatArray | None:
        """Return the command (S,) of the control tick at `now_ns`; see `Controller.step`.

        In lockstep the stamps of the ticks are the time that passes, else the clock that measures ages is:
        it never jumps where the node's may.
        """
        paced_ns = now_ns if self._is_lockstep else self.inputs.steady_now_ns()
        self.controller.limiter.speed_scale = self.inputs.robot.speed_scale
        command = self.controller.step(now_ns, self.inputs.measured(), paced_ns)
        if command is not None and not self.controller.dry_run:  # a joint that is told to move must not rest
            self.inputs.commanded(command)
        return command

    def watch(self) -> None:
        """Hold where an inference is overdue, or a stream is silent or in doubt: called at each control tick.

        In lockstep `look` does it: nothing moves between two ticks.
        """
        overdue = self._abort_overdue()
        person = self.controller.state == "PERSON"
        fault = self._person_fault() if person else overdue or self._live_fault()
        if fault is not None:
            self.controller.fail(fault)

    def _touch_fault(self) -> Fault | None:
        """Take the untouched gels of the run that begins; return why that cannot be."""
        return None if self.tick is None else self.inputs.take_free_gels(self.tick)

    def _live_fault(self) -> Fault | None:
        """Return what speaks against acting now; in lockstep silence says nothing, for time stands still."""
        doubt = self.inputs.doubt()
        return doubt if self._is_lockstep else doubt or self.inputs.silence_fault()

    def _person_fault(self) -> Fault | None:
        """Return what speaks against a person moving the robot; in lockstep silence says nothing."""
        return self.inputs.person_fault(check_silence=not self._is_lockstep)

    def _abort_overdue(self) -> Fault | None:
        """Abort an inference past its deadline and return that as a fault."""
        since_ns = self._busy_since_ns
        if since_ns is None or time.monotonic_ns() - since_ns <= self._deadline_ns:
            return None
        self.policy.terminate()
        return Fault("inference_deadline", f"inference took longer than {self._deadline_ns / 1e6:.0f} ms")

    def _forget(self) -> None:
        """Forget what belongs to the time before: aligned samples, when it was planned, a chunk on its way.

        The newest tick stays, so that a run may start at once; one from a clock that has jumped back
        since does not.
        """
        for tick in self.inputs.poll(may_wait=not self._is_lockstep):
            self.tick = tick
        self.inputs.realign()
        if self.tick is not None and self.tick.stamp_ns > self.inputs.newest_stamp_ns():
            self.tick = None
        self._replanner.reset()
        self._errors_in_row, self._answered, self._late = 0, None, None

    def _bring_late(self, now_ns: int, before: Tick | None) -> None:
        """Hand on a chunk that has become ready by `now_ns`.

        If it did so between two ticks, the next inference began there and then, on the tick `before`.
        """
        while self._late is not None and self._late.ready_ns <= now_ns:
            late, self._late = self._late, None
            self._hand_on(late.chunk, late.tick)
            if late.ready_ns < now_ns and before is not None and before.index > late.tick.index:
                self._plan(before, late.ready_ns)

    def _plan(self, tick: Tick, now_ns: int) -> None:
        """Infer on a tick where it is time to."""
        if self.controller.state == "RUNNING" and self._is_due(tick):
            self._infer(tick, now_ns)

    def _is_due(self, tick: Tick) -> bool:
        now_ns = tick.stamp_ns if self._is_lockstep else self.inputs.now_ns()
        return self._replanner.is_due(tick.index, self.controller.rows_left(now_ns), self._lead_rows())

    def _lead_rows(self) -> int:
        """How many rows pass while the next chunk is inferred; none in lockstep without latency."""
        latency_ns = self._latency_ns
        if not self._is_lockstep:
            latency_ns = int(1e6 * np.nan_to_num(self.policy.stats.summary().p95_ms))
        elif latency_ns == 0:
            return 0
        return OPEN_LOOP_LEAD + -(-latency_ns // self.period_ns)

    def _infer(self, tick: Tick, now_ns: int) -> None:
        fault = self.inputs.tick_fault(tick, check_ages=not self._is_lockstep)
        if fault is not None:
            self._refuse(fault)
            return
        self._busy_since_ns = time.monotonic_ns()
        try:
            chunk = self.policy.act(self.inputs.observation(tick))
        except (BundleError, ImageError) as problem:
            self._refuse(Fault("inference_errors", str(problem)))
            return
        finally:
            self._busy_since_ns = None
        if self._latency_ns > 0:
            self._late = _Late(now_ns + self._latency_ns, chunk, tick)
        else:
            self._hand_on(chunk, tick)

    def _hand_on(self, chunk: NDArray[np.float32], tick: Tick) -> None:
        fault = check_chunk(chunk, *self._shape)
        if fault is not None:
            self.not_finite += fault.reason == "not_finite"
            self.controller.policy_failed(fault)
            return
        self._errors_in_row = 0
        self._replanner.planned(tick.index)
        self.controller.add(chunk, tick.stamp_ns)

    def _refuse(self, fault: Fault) -> None:
        """Leave this tick out; hold at once, or at the third in a row where the fault may pass."""
        self._errors_in_row += 1
        if fault.reason not in (*PASSING, "inference_errors") or self._errors_in_row >= MAX_ERRORS:
            self.controller.policy_failed(fault)
