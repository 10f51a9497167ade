"""How a node of ours runs: environment, rclpy, one single-threaded executor, a sure end.

Whatever ends a node (a signal, an exception in a callback or in one of its threads), it is first brought to
rest, at once and on the thread that learns of it, then closed, within a hard deadline. rclpy's own signal
handlers would close the context at once, and a moving robot could not be braked any more: so signals are
handled here. A callback that hangs delays the closing, never the braking.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import cv2
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from tacit.errors import TacitError
from tacit.threads import Caught, Failure, WatchedThread
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.signals import hear_signals

CLOSE_DEADLINE_S = 60.0
"""A node that has not closed by then is ended with the tracebacks of all threads: a stuck disk or driver
must not leave a process behind that still holds its topics. A recorder may need 30 s to finish a file."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
FIRST_NICE = -10  # ten times the share of an ordinary process
KEPT_BLOCK_BYTES = 32 << 20  # the largest value that glibc accepts
KEPT_TOTAL_BYTES = 256 << 20


class WatchedNode(Node):
    """A node with threads of its own: the end of one of them ends the node, and is told.

    Attributes:
        failure: What ended a thread of the node; None while all is well.
        ending: Ends `run_node`; may be used from any thread.
        patience_s: How long a callback that is at work may go on once the node is to end. After that the node
            is closed without it, from another thread, and the process ends [s].
    """

    patience_s = 40.0  # a recorder finishes a file within a callback: 30 s at most

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.failure: Failure | None = None
        self.ending: Ending = Ending()
        self._halting = threading.RLock()
        self._halted = ""

    def halt(self, reason: str) -> None:
        """Bring to rest what the node moves, and say why it ends: before `close`, while topics work.

        Called on the thread that learns of the end, while callbacks may still be at work.

        Args:
            reason: The signal that came, or what failed.
        """

    def thread_failed(self, failure: Failure) -> None:
        """Take what ended a thread: log it, halt, and let the node end with exit code 1."""
        first, self.failure = self.failure is None, self.failure or failure
        self.ending.begin()
        self.log_failure(failure)
        if first:
            self.halt_once(str(failure))
        self.ending.leave()

    def log_failure(self, failure: Failure) -> None:
        """Log a failure; with its traceback, unless the user can mend it."""
        if self.context.ok():
            trace = "" if isinstance(failure.error, TacitError) else f"\n{failure.traceback}"
            self.get_logger().fatal(f"{failure}; the node ends{trace}")

    def halt_once(self, reason: str) -> None:
        """Halt for `reason`, unless that is done; returns when it is, whichever thread does it."""
        with self._halting:
            if reason == self._halted:
                return
            self._halted = reason
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
    cv2.setNumThreads(1)  # its threads share out every conversion, and wait for one another wide awake
    arguments = sys.argv if argv is None else ["node", *argv]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    ending = _NodeEnding()
    with hear_signals(ending.on_signal, lambda failure: ending.leave()):
        made: list[Node] = []
        with Caught() as caught:
            made.append(make())
        code = _refused(caught.error) if caught.error is not None else _live(made[0], ending)
        rclpy.try_shutdown()
        faulthandler.cancel_dump_traceback_later()
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


def go_first() -> bool:
    """Ask the kernel to prefer this process to ordinary ones; to be called before its threads begin.

    What a recorder misses while others run is gone, whereas they only wait. It needs the right to do so
    (root, or CAP_SYS_NICE in a container); without it everything goes on as it was. Where the kernel
    shares its time among sessions first (autogroup), it counts within the session of this process.

    Returns:
        Whether it was allowed.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0), FIRST_NICE))
    except OSError:
        return False
    return True


class Ending:
    """How a node lets its process know that it ends; does nothing for a node that `run_node` does not run."""

    def begin(self) -> None:
        """The node is to end: from now on the deadline counts."""

    def leave(self) -> None:
        """The node is at rest: let its callbacks end, and close it."""


class _NodeEnding(Ending):
    """The end of the node that `run_node` runs: begun from any thread, carried out by the main one.

    Attributes:
        signal: Name of the first signal; None before.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._lock = threading.Lock()
        self._node: Node | None = None
        self._guard: Any = None
        self._is_leaving = False
        self._has_left = threading.Event()

    def adopt(self, node: Node) -> bool:
        """Take charge of a node that has been made; False where it is to end already."""
        if isinstance(node, WatchedNode):
            node.ending = self
        with self._lock:
            self._node, self._guard = node, node.create_guard_condition(_leave)
            return self.signal is None and getattr(node, "failure", None) is None

    def on_signal(self, name: str) -> None:
        """Bring the node to rest, then let it end; further signals are absorbed."""
        with self._lock:
            if self.signal is not None:
                return
            self.signal = name
            node = self._node
        self.begin()
        if isinstance(node, WatchedNode):
            node.halt_once(f"{name} came")
        self.leave()

    def begin(self) -> None:
        """End the process by force if it is not closed in time; works while the interpreter is stuck too."""
        faulthandler.dump_traceback_later(CLOSE_DEADLINE_S, exit=True, file=sys.__stderr__ or sys.stderr)

    def leave(self) -> None:
        """Wake the executor; a callback that hangs is not waited for longer than the node's patience."""
        with self._lock:
            node, first, self._is_leaving = self._node, not self._is_leaving, True
        if node is None:
            return
        self._guard.trigger()
        if first:
            WatchedThread("ending", lambda: self._outlast(node), lambda failure: _tell(node, failure)).start()

    def has_left(self) -> None:
        """The main thread has left the callbacks and closes the node."""
        self._has_left.set()

    def _outlast(self, node: Node) -> None:
        """Close the node from here where a callback does not return, and end the process."""
        patience_s = getattr(node, "patience_s", WatchedNode.patience_s)
        if self._has_left.wait(patience_s):
            return
        stream = sys.__stderr__ or sys.stderr
        rclpy.logging.get_logger(node.get_name()).fatal(
            f"a callback has not returned for {patience_s:g} s; the node is closed without it"
        )
        faulthandler.dump_traceback(file=stream)
        with Caught() as closing:
            getattr(node, "close", _nothing)()
        if closing.error is not None:
            stream.write(Failure("close", closing.error).traceback)
        stream.flush()
        os._exit(1)  # an ordinary exit would wait for the callback


def _nothing() -> None:
    """Stand in for the `close` of a node that has none."""


class _Leave(Exception):
    """Ends the executor's spin."""


def _leave() -> None:
    raise _Leave


def _live(node: Node, ending: _NodeEnding) -> int:
    """Spin `node` to its end, bring it to rest and close it; return the exit code."""
    with Caught() as caught:
        if ending.adopt(node):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            executor.spin()
    ending.has_left()
    ending.begin()
    failed = caught.error if caught.error is None or not _is_proper_end(caught.error) else None
    if failed is not None:
        _tell(node, Failure("callbacks", failed))
    elif isinstance(node, WatchedNode) and node.failure is None and rclpy.ok():
        node.halt_once(f"{ending.signal or 'no signal'} came")
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


def _close(node: Node) -> None:
    close = getattr(node, "close", None)
    if close is not None:
        close()
    node.destroy_node()
