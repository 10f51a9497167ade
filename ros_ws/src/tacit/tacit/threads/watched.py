"""Threads that are watched: whatever ends one reaches its owner, and no wait for one is endless.

Every long-lived thread of the house is a `WatchedThread`: the command loop, inference, encoders, the
writer of episodes, the judge of progress, pollers. A plain thread that raises dies in silence, and its
node would go on as if nothing had happened.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

STOP_DEADLINE_S = 5.0
"""How long `stop` waits: inference is aborted within 10 ms and a flush takes less than a second."""
NUDGE_S = 0.05
"""Period at which `stop` nudges a thread that waits for something else than `stopping`."""


class Caught:
    """A block whose exception is kept instead of raised, whatever its class.

    The one place of the house that catches everything, for what must go on after ANY error: a thread
    that has to report its end, a node that still has to brake. Everywhere else errors are named.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> Caught:
        """Return the block; `error` tells afterwards what it raised."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keep the error."""
        self.error = error
        return True


@dataclass(frozen=True)
class Failure:
    """What ended a thread (or another part of a process): its name and the exception."""

    thread: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.thread} ended: {type(self.error).__name__}: {self.error}"

    @property
    def traceback(self) -> str:
        """The traceback as Python prints it."""
        return "".join(traceback.format_exception(type(self.error), self.error, self.error.__traceback__))


OnFailure = Callable[[Failure], None]


class WatchedThread:
    """A thread that runs `work` once, tells its owner when that raises, and can be stopped.

    Args:
        name: Shown in logs and by debuggers.
        work: Runs on the thread; returns soon after `stopping` is set.
        on_failure: Called on the thread with what ended it, and by `stop` when the thread does not end.

    Attributes:
        stopping: Set by `stop`; what `work` looks at.
        failure: What ended the thread; None while it runs and after a proper end.
    """

    def __init__(self, name: str, work: Callable[[], None], on_failure: OnFailure) -> None:
        self.name = name
        self.stopping = threading.Event()
        self.failure: Failure | None = None
        self._work, self._on_failure = work, on_failure
        self._thread = threading.Thread(target=self._run, name=f"tacit-{name}", daemon=True)

    def start(self) -> WatchedThread:
        """Start the thread and return it."""
        self._thread.start()
        return self

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is just telling why it ended."""
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def stop(self, deadline_s: float = STOP_DEADLINE_S, nudge: Callable[[], None] | None = None) -> bool:
        """Ask the thread to end and wait until it has, for `deadline_s` at most.

        Args:
            deadline_s: A thread that runs longer is left behind and reported to `on_failure`.
            nudge: Called again and again while waiting, to end what the thread waits for.

        Returns:
            Whether it has ended.
        """
        self.stopping.set()
        if self.is_current:
            return False
        deadline = time.monotonic() + deadline_s
        while self._thread.is_alive() and (left_s := deadline - time.monotonic()) > 0:
            if nudge is not None:
                nudge()
            self._thread.join(min(left_s, NUDGE_S))
        if self._thread.is_alive():
            self._fail(TimeoutError(f"did not end within {deadline_s:g} s and is left behind"))
        return not self._thread.is_alive()

    def _run(self) -> None:
        with Caught() as caught:
            self._work()
        if caught.error is not None:
            self._fail(caught.error)

    def _fail(self, error: BaseException) -> None:
        """Tell the owner; where even that raises, Python's own hook prints it."""
        self.failure = Failure(self.name, error)
        with Caught() as second:
            self._on_failure(self.failure)
        if (again := second.error) is not None:
            arguments = (type(again), again, again.__traceback__, self._thread)
            threading.excepthook(threading.ExceptHookArgs(arguments))
