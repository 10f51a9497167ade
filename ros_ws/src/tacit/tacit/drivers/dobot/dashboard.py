"""The dashboard connection: commands go out at once, replies come back in the same order, on a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from tacit.drivers.dobot.protocol import DobotError, Reply, parse_reply
from tacit.threads import Failure, WatchedThread

POLL_S = 0.1
"""How long a read waits before it looks whether it is to stop."""
MOST_PENDING = 64
"""Replies waited for at once: two seconds of ServoJ. A controller that is further behind does not keep up."""


class Pending:
    """A reply that will come."""

    def __init__(self, command: str, then: Callable[[Reply], None] | None = None) -> None:
        self.command, self._then = command, then
        self._reply: Reply | None = None
        self._problem = ""
        self._done = threading.Event()

    def wait(self, timeout_s: float) -> Reply:
        """Return the reply.

        Raises:
            DobotError: None came in time, or the connection was lost.
        """
        if not self._done.wait(timeout_s):
            raise DobotError(f"{self.command}: no answer within {timeout_s:g} s")
        if self._reply is None:
            raise DobotError(f"{self.command}: {self._problem}")
        return self._reply

    def answer(self, reply: Reply) -> None:
        """The reply has come."""
        self._reply = reply
        self._done.set()
        if self._then is not None:
            self._then(reply)

    def lose(self, problem: str) -> None:
        """No reply will come."""
        self._problem = problem
        self._done.set()


class Dashboard:
    """One connection to port 29999. The controller allows no second one.

    Args:
        host, port: Of the controller.
        timeout_s: For connecting and for sending [s].

    Raises:
        DobotError: It cannot be reached.

    Attributes:
        problem: Why the connection is of no use any more; "" while it is.
    """

    def __init__(self, host: str, port: int, timeout_s: float = 1.0) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise DobotError(
                f"{host}:{port}: {error}; is the controller on, in TCP/IP mode, and free?"
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(POLL_S)
        self.problem = ""
        self._pending: deque[Pending] = deque()
        self._lock = threading.Lock()
        self._thread = WatchedThread("dashboard", self._read, self._failed).start()

    def send(self, command: str, then: Callable[[Reply], None] | None = None) -> Pending:
        """Send a command; `then` is told its reply on the reading thread.

        Raises:
            DobotError: The connection is lost, or the controller does not keep up.
        """
        pending = Pending(command, then)
        with self._lock:
            if not self.problem and len(self._pending) >= MOST_PENDING:
                self._lose(f"{len(self._pending)} commands unanswered: the controller does not keep up")
            if self.problem:
                raise DobotError(f"{command}: {self.problem}")
            self._pending.append(pending)
            try:
                self._socket.sendall(f"{command}\n".encode())
            except OSError as error:
                self._lose(str(error))
                raise DobotError(f"{command}: {error}") from None
        return pending

    def ask(self, command: str, timeout_s: float = 2.0) -> Reply:
        """Send a command and return its reply, whatever it says.

        Raises:
            DobotError: No reply, or the connection is lost.
        """
        return self.send(command).wait(timeout_s)

    def close(self) -> None:
        """Close the connection and join the thread."""
        with self._lock:
            self._lose("closed")
        self._thread.stop()
        self._socket.close()

    def _read(self) -> None:
        text = ""
        while not self._thread_stops():
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                continue
            except OSError as error:
                data, text = b"", f"{error}"
            if not data:
                with self._lock:
                    self._lose(f"the controller closed the connection {text}".rstrip())
                return
            text += data.decode("utf-8", errors="replace")
            *replies, text = text.split(";")
            for reply in replies:
                self._answer(parse_reply(reply))

    def _thread_stops(self) -> bool:
        return bool(self.problem)

    def _answer(self, reply: Reply) -> None:
        with self._lock:
            pending = self._pending.popleft() if self._pending else None
        if pending is None:
            raise DobotError(f"an answer to nothing that was asked: {reply.command}")
        pending.answer(reply)

    def _failed(self, failure: Failure) -> None:
        with self._lock:
            self._lose(str(failure.error))

    def _lose(self, problem: str) -> None:
        """Give up the connection; under the lock."""
        self.problem = self.problem or problem
        while self._pending:
            self._pending.popleft().lose(self.problem)


def backoff_s(failures: int) -> float:
    """Return how long to wait before trying again: 0.2 s, doubling, 5 s at most."""
    return float(min(5.0, 0.2 * 2 ** min(failures, 10)))


def receive(connection: socket.socket, size: int, deadline_s: float) -> bytes:
    """Return exactly `size` bytes.

    Raises:
        DobotError: They did not come within `deadline_s`, or the connection was closed.
    """
    parts, missing, until = [], size, time.monotonic() + deadline_s
    while missing:
        try:
            connection.settimeout(max(0.001, until - time.monotonic()))
            data = connection.recv(missing)
        except (TimeoutError, OSError) as error:
            raise DobotError(f"feedback: {error or 'nothing came'}") from None
        if not data:
            raise DobotError("feedback: the controller closed the connection")
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
