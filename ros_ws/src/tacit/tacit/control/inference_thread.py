"""The thread of the policy node that infers: it waits for messages and lets `Acting` do the work.

It is joined at shutdown, also while a run is in progress: a thread left inside ONNX Runtime at
interpreter exit aborts the process. No rclpy here.
"""

from __future__ import annotations

from collections.abc import Callable

from tacit.control.acting import Acting
from tacit.threads import OnFailure, WatchedThread

WAIT_S = 0.01
"""Longest sleep between looks at the aligner: a tick that waits for a late joint sample closes by time."""


class InferenceThread:
    """Answers ticks as they come.

    Args:
        acting: Does the work of a tick.
        on_failure: Told on the thread what ended it: no chunk comes any more.
        on_tick: Called after each tick of a lockstep run, with its stamp; None in real time.
    """

    def __init__(
        self, acting: Acting, on_failure: OnFailure, on_tick: Callable[[int], None] | None = None
    ) -> None:
        self._acting, self._on_tick = acting, on_tick
        self._thread = WatchedThread("inference", self._run, on_failure)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Abort the run in progress and join."""
        self._thread.stop(nudge=self.interrupt)

    @property
    def is_at_work(self) -> bool:
        """Whether ticks are still looked at; False once something has ended the thread."""
        return self._thread.is_alive and self._thread.failure is None

    def interrupt(self) -> None:
        """Abort the run in progress and look at the inputs now."""
        self._acting.policy.terminate()
        self._acting.inputs.wake()

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            self._acting.inputs.wait(WAIT_S)
            if not self._thread.stopping.is_set():
                self._acting.look(self._on_tick)
