"""How a node of ours runs: environment, rclpy, one single-threaded executor, a sure end.

Whatever ends a node (SIGINT, SIGTERM, an exception in a callback or in one of its threads), it is first
brought to rest, then closed, within a hard deadline. rclpy's own signal handlers would close the context
at once, and a moving robot could not be braked any more: so signals are handled here.
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from tacit.errors import TacitError
from tacit.threads import Caught, Failure, WatchedThread
from tacit_ros.wire.environment import prepare

CLOSE_DEADLINE_S = 60.0
"""A node that has not closed by then is ended with the tracebacks of all threads: a stuck disk or driver
must not leave a process behind that still holds its topics. A recorder may need 30 s to finish a file."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BLOCK_BYTES = 32 << 20  # the largest value that glibc accepts
KEPT_TOTAL_BYTES = 256 << 20


class Closable(Protocol):
    """A node that holds something (a file, a thread, a simulator) which must be released."""

    def close(self) -> None:
        """Release it; called once, also after an error or a signal."""


class WatchedNode(Node):
    """A node with threads of its own: the end of one of them ends the node, and is told.

    Attributes:
        failure: What ended a thread of the node; None while all is well.
        end: Ends `run_node`; may be called from any thread.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.failure: Failure | None = None
        self.end: Callable[[], None] = _nobody_spins

    def halt(self, reason: str) -> None:
        """Bring to rest what the node moves, and say why it ends: before `close`, while topics work.

        Args:
            reason: The signal that came, or what failed.
        """

    def thread_failed(self, failure: Failure) -> None:
        """Take what ended a thread: log it, halt, and let the node end with exit code 1."""
        first, self.failure = self.failure is None, self.failure or failure
        self.log_failure(failure)
        if first:
            self._halt(str(failure))
        self.end()

    def log_failure(self, failure: Failure) -> None:
        """Log a failure; with its traceback, unless the user can mend it."""
        if self.context.ok():
            trace = "" if isinstance(failure.error, TacitError) else f"\n{failure.traceback}"
            self.get_logger().fatal(f"{failure}; the node ends{trace}")

    def _halt(self, reason: str) -> None:
        with Caught() as caught:
            self.halt(reason)
        if caught.error is not None:
            self.log_failure(Failure("halt", caught.error))


def run_node(make: Callable[[], Node], argv: list[str] | None = None) -> int:
    """Run the node that `make` returns until a signal comes or something in it fails.

    Args:
        make: Builds the node; a TacitError here is a refusal to start.
        argv: Arguments after the program name (`--ros-args ...`); the process's own by default.

    Returns:
        Exit code: 0 after a signal, 1 after a failure, 2 when the node refused to start.
    """
    prepare()
    arguments = sys.argv if argv is None else ["node", *argv]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    with _signals() as signals:
        made: list[Node] = []
        with Caught() as caught:
            made.append(make())
        code = _refused(caught.error) if caught.error is not None else _live(made[0], signals)
        rclpy.try_shutdown()
    return code


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed images instead of handing it back to the kernel.

    Each VGA image is 900 KB: mapped, faulted in page by page and unmapped again, which costs 0.25 ms
    per image, more than decoding the message. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_TOTAL_BYTES)


class _Signals:
    """The first SIGINT or SIGTERM; later ones are absorbed, for the node is closing already."""

    def __init__(self, receiver: socket.socket) -> None:
        self.first: str | None = None
        self.end: Callable[[], None] = _nobody_spins
        self._receiver = receiver

    def listen(self) -> None:
        """Wait for the numbers of signals, which the C handler writes at once; 0 ends the thread."""
        while number := self._receiver.recv(1)[0]:
            if self.first is None:
                self.first = signal.Signals(number).name
                _close_within_deadline()
                self.end()


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Hear signals on a thread: Python's handlers wait until the executor returns from its sleep."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signals = _Signals(receiver)
    before_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _absorb) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = WatchedThread("signals", signals.listen, lambda failure: signals.end()).start()
    try:
        yield signals
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.send(b"\0")
        thread.stop()
        receiver.close()
        sender.close()


def _absorb(number: int, frame: object) -> None:
    """Do nothing: the number of the signal is on its way to the thread that listens."""


def _nobody_spins() -> None:
    """Stand in for `end` while no executor runs."""


class _Leave(Exception):
    """Ends the executor's spin."""


def _leave() -> None:
    raise _Leave


def _live(node: Node, signals: _Signals) -> int:
    """Spin `node` to its end, bring it to rest and close it; return the exit code."""
    with Caught() as caught:
        _spin(node, signals)
    _close_within_deadline()
    failed = caught.error if caught.error is None or not _is_proper_end(caught.error) else None
    if failed is not None:
        _tell(node, Failure("callbacks", failed))
    elif isinstance(node, WatchedNode) and node.failure is None and rclpy.ok():
        node._halt(f"{signals.first} came")
    with Caught() as closing:
        _close(node)
    if closing.error is not None:
        _tell(node, Failure("close", closing.error))
    return 0 if failed is closing.error is getattr(node, "failure", None) is None else 1


def _tell(node: Node, failure: Failure) -> None:
    """Let a node know what failed outside its own threads; one without threads only has it logged."""
    if isinstance(node, WatchedNode):
        node.thread_failed(failure)
    else:
        rclpy.logging.get_logger(node.get_name()).fatal(f"{failure}\n{failure.traceback}")


def _spin(node: Node, signals: _Signals) -> None:
    guard = node.create_guard_condition(_leave)  # raised on the executor's thread, woken from any
    signals.end = guard.trigger
    if isinstance(node, WatchedNode):
        node.end = guard.trigger
    if signals.first is not None or getattr(node, "failure", None) is not None:
        return
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin()


def _is_proper_end(error: BaseException) -> bool:
    """Whether the spin ended as it should: on request, or with the context."""
    if isinstance(error, (_Leave, ExternalShutdownException)):
        return True
    return isinstance(error, RuntimeError) and not rclpy.ok()  # a message was being taken


def _refused(error: BaseException) -> int:
    logger = rclpy.logging.get_logger("tacit")
    if isinstance(error, TacitError):
        logger.fatal(f"refused to start: {error}")
        return 2
    failure = Failure("main", error)
    logger.fatal(f"{failure}\n{failure.traceback}")
    return 1


def _close_within_deadline() -> None:
    """End the process by force if it is not closed in time; works also while the interpreter is stuck."""
    faulthandler.dump_traceback_later(CLOSE_DEADLINE_S, exit=True, file=sys.__stderr__ or sys.stderr)


def _close(node: Node) -> None:
    close = getattr(node, "close", None)
    if close is not None:
        close()
    node.destroy_node()
