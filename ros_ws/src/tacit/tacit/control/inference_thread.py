"""The thread of the policy node that infers: it waits for messages and lets `Acting` do the work.

It is joined at shutdown, also while a run is in progress: a thread left inside ONNX Runtime at
interpreter exit aborts the process. No rclpy here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tacit.control.acting import Acting

WAIT_S = 0.01
"""Longest sleep between looks at the aligner: a tick that waits for a late joint sample closes by time."""


class InferenceThread:
    """Answers ticks as they come.

    Args:
        acting: Does the work of a tick.
        on_tick: Called after each tick of a lockstep run, with its stamp; None in real time.
    """

    def __init__(self, acting: Acting, on_tick: Callable[[int], None] | None = None) -> None:
        self._acting, self._on_tick = acting, on_tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tacit-inference", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Abort the run in progress and join."""
        self._stop.set()
        while self._thread.is_alive():
            self._acting.policy.terminate()
            self._acting.inputs.wake()
            self._thread.join(0.05)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._acting.inputs.wait(WAIT_S)
            if not self._stop.is_set():
                self._acting.look(self._on_tick)
