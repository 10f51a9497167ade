"""Signals that ask a process to end, heard at once and on a thread of their own.

Python's handlers wait until the main thread returns from what it does; rclpy's close the context at once.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tacit.threads import OnFailure, WatchedThread

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""What asks a process to end: Ctrl-C, a supervisor, a terminal that is closed, Ctrl-\\."""


@contextmanager
def hear_signals(on_signal: Callable[[str], None], on_failure: OnFailure) -> Iterator[None]:
    """Call `on_signal` with the name of each signal that comes, on a thread; the process goes on.

    Args:
        on_signal: While it is at work on one signal, the next ones wait.
        on_failure: Told what ended the thread.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _absorb) for number in SIGNALS if not _is_disowned(number)}
    thread = WatchedThread("signals", lambda: _listen(receiver, on_signal), on_failure).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.send(b"\0")
        thread.stop()
        receiver.close()
        sender.close()


def _listen(receiver: socket.socket, on_signal: Callable[[str], None]) -> None:
    """Wait for the numbers of signals, which the C handler writes at once; 0 ends the thread."""
    while number := receiver.recv(1)[0]:
        on_signal(signal.Signals(number).name)


def _is_disowned(number: signal.Signals) -> bool:
    """Whether the process was started to outlive its terminal (`nohup`)."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def _absorb(number: int, frame: object) -> None:
    """Do nothing: the number of the signal is on its way to the thread that listens."""
