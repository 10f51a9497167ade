"""The one inference thread of the policy node: align, gate, infer, gate, hand the chunk on.

It is joined at shutdown, also while a run is in progress: a thread left inside ONNX Runtime at
interpreter exit aborts the process. No rclpy here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.runtime import OnnxPolicy
from tacit.control.controller import Controller
from tacit.control.inputs import AlignedInputs
from tacit.control.safety import Fault, check_chunk
from tacit.control.states import Answer
from tacit.errors import BundleError, ImageError
from tacit.streams import Tick

WAIT_S = 0.01
"""Longest sleep between looks at the aligner: a tick that waits for a late joint sample closes by time."""

MAX_ERRORS = 3
"""Unusable ticks in a row before the policy holds; the chunk in force bridges fewer."""

PASSING = ("stale", "skew")
"""Faults of one tick that a late message causes: such a tick is left out. A stream that stays silent is
seen by the command thread, everything else holds at once."""

DEADLINE_CHUNKS = 0.5
"""An inference may take this part of a chunk's duration before it is aborted."""


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


class InferenceThread:
    """Runs the policy on aligned ticks while the controller is RUNNING.

    Args:
        policy: The bundle at work.
        inputs: Where ticks come from.
        controller: Where chunks and faults go.
        replanner: Says on which ticks to infer.
        on_tick: Called after each tick of a lockstep run, with its stamp; None in real time.
    """

    def __init__(
        self,
        policy: OnnxPolicy,
        inputs: AlignedInputs,
        controller: Controller,
        replanner: Replanner,
        on_tick: Callable[[int], None] | None = None,
    ) -> None:
        self._policy, self._inputs, self._controller = policy, inputs, controller
        self._replanner, self._on_tick = replanner, on_tick
        manifest = policy.manifest
        self._shape = (manifest.chunk_size, len(manifest.action_names))
        self._deadline_ns = int(DEADLINE_CHUNKS * manifest.chunk_size * 1e9 / manifest.rate_hz)
        self._stop = threading.Event()
        self._visiting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="tacit-inference", daemon=True)
        self._busy_since_ns: int | None = None
        self._errors_in_row = 0
        self._answered: int | None = None
        self._not_before_ns = 0
        self.tick: Tick | None = None
        self.not_finite = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Abort the run in progress and join."""
        self._stop.set()
        while self._thread.is_alive():
            self._policy.terminate()
            self._inputs.wake()
            self._thread.join(0.05)

    def readiness(self) -> Fault | None:
        """Return why a run could not start on the newest tick; None when it could."""
        if self.tick is None:
            return self._inputs.silence_fault() or Fault("missing", "no aligned observation yet")
        return self._inputs.tick_fault(self.tick, check_ages=not self._is_lockstep)

    def begin_run(self, start: Callable[[], Answer]) -> Answer:
        """Call `start` between two ticks; where it succeeds, the run begins.

        Its first tick is not older than the newest message of any stream: a picture from before the
        robot was set up anew must not be planned on.
        """
        with self._visiting:
            answer = start()
            if answer.success:
                self._not_before_ns = self._inputs.newest_stamp_ns()
                self._errors_in_row, self._answered = 0, None
                self._replanner.reset()
        self._inputs.wake()
        return answer

    def abort_overdue(self) -> Fault | None:
        """Abort an inference past its deadline and return that as a fault."""
        since_ns = self._busy_since_ns
        if since_ns is None or time.monotonic_ns() - since_ns <= self._deadline_ns:
            return None
        self._policy.terminate()
        return Fault("inference_deadline", f"inference took longer than {self._deadline_ns / 1e6:.0f} ms")

    @property
    def _is_lockstep(self) -> bool:
        return self._on_tick is not None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._inputs.wait(WAIT_S)
            for tick in self._inputs.poll(may_wait=not self._is_lockstep):
                self.tick = tick
            with self._visiting:
                if self.tick is not None and self.tick.index != self._answered:
                    self._visit(self.tick)

    def _visit(self, tick: Tick) -> None:
        """Answer a tick once; in lockstep every tick, also while braking."""
        if self._stop.is_set():
            return
        self._answered = tick.index
        if tick.stamp_ns < self._not_before_ns:
            return
        if self._controller.state == "RUNNING" and self._is_due(tick):
            self._infer(tick)
        if self._on_tick is not None:
            self._on_tick(tick.stamp_ns)

    def _is_due(self, tick: Tick) -> bool:
        if self._is_lockstep:
            return self._replanner.is_due(tick.index, self._controller.rows_left(tick.stamp_ns), 0)
        manifest = self._policy.manifest
        inference_ms = np.nan_to_num(self._policy.stats.summary().p95_ms)
        lead_rows = OPEN_LOOP_LEAD + int(np.ceil(inference_ms * manifest.rate_hz / 1e3))
        return self._replanner.is_due(
            tick.index, self._controller.rows_left(self._inputs.now_ns()), lead_rows
        )

    def _infer(self, tick: Tick) -> None:
        fault = self._inputs.tick_fault(tick, check_ages=not self._is_lockstep)
        if fault is not None:
            self._refuse(fault)
            return
        self._busy_since_ns = time.monotonic_ns()
        try:
            chunk = self._policy.act(self._inputs.observation(tick))
        except (BundleError, ImageError) as problem:
            self._refuse(Fault("inference_errors", str(problem)))
            return
        finally:
            self._busy_since_ns = None
        self._hand_on(chunk, tick)

    def _hand_on(self, chunk: NDArray[np.float32], tick: Tick) -> None:
        fault = check_chunk(chunk, *self._shape)
        if fault is not None:
            self.not_finite += fault.reason == "not_finite"
            self._controller.fail(fault)
            return
        self._errors_in_row = 0
        self._replanner.planned(tick.index)
        self._controller.add(chunk, tick.stamp_ns)

    def _refuse(self, fault: Fault) -> None:
        """Leave this tick out; hold at once, or at the third in a row where the fault may pass."""
        self._errors_in_row += 1
        if fault.reason not in (*PASSING, "inference_errors") or self._errors_in_row >= MAX_ERRORS:
            self._controller.fail(fault)
