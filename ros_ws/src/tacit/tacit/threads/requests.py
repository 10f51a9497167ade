"""What other threads ask of the one that owns something: done there in order, in time, or not at all.

The recorder's writer owns the episode, the simulator's stepping thread the cell; services only ask.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from tacit.errors import TacitError
from tacit.threads.watched import Caught

TIMEOUT_S = 30.0
"""Whatever stalls for longer, somebody is waiting who needs to know."""
ResultT = TypeVar("ResultT")


class Requests:
    """Requests that wait for one thread.

    Args:
        owner: Who serves them, for messages: "the recorder".
        error: What a request that is not done raises.
        wake: Called when a request has come.

    Attributes:
        refusal: Why nothing is done any more; "" while requests are served.
    """

    def __init__(self, owner: str, error: type[TacitError], wake: Callable[[], None]) -> None:
        self._owner, self._error, self._wake = owner, error, wake
        self._waiting: deque[tuple[Callable[[], object], Future]] = deque()
        self.refusal = ""

    def ask(self, action: Callable[[], ResultT]) -> ResultT:
        """Have `action` done on the serving thread and return its result.

        A request that has not been begun in time is withdrawn: it is never carried out later.

        Raises:
            TacitError: An error of class `error`: requests are refused, or there was no answer in time.
        """
        future: Future[ResultT] = Future()
        self._waiting.append((action, future))
        self._wake()
        if self.refusal:
            self.refuse(self.refusal)
        try:
            return future.result(timeout=TIMEOUT_S)
        except concurrent.futures.TimeoutError:  # not the built-in one before Python 3.11
            outcome = "It is withdrawn" if future.cancel() else "It is being carried out: ask ~/status"
        raise self._error(f"{self._owner} did not answer within {TIMEOUT_S:g} s; is it stuck? {outcome}.")

    @property
    def are_waiting(self) -> bool:
        """Whether one waits to be served."""
        return bool(self._waiting)

    def serve(self) -> None:
        """Do everything that waits; an unexpected error is answered, then raised."""
        while self._waiting:
            action, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            with Caught() as caught:
                future.set_result(action())
            if isinstance(caught.error, (TacitError, OSError, ValueError)):  # h5py raises ValueError
                future.set_exception(caught.error)
            elif caught.error is not None:
                future.set_exception(self._error(f"{self._owner} has failed: {caught.error!r}"))
                raise caught.error

    def refuse(self, reason: str) -> None:
        """Answer what waits, and all that will be asked, with `reason`."""
        self.refusal = reason
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(self._error(f"{self._owner} has failed: {reason}"))
