"""How a node of ours runs: environment, rclpy, one single-threaded executor, a sure clean-up.

SIGINT and SIGTERM end the spin; `close` then runs whatever happened before.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from tacit.errors import TacitError
from tacit_ros.wire.environment import prepare

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BLOCK_BYTES = 32 << 20  # the largest value that glibc accepts
KEPT_TOTAL_BYTES = 256 << 20


class Closable(Protocol):
    """A node that holds something (a file, a thread, a simulator) which must be released."""

    def close(self) -> None:
        """Release it; called once, also after an error or a signal."""


def run_node(make: Callable[[], Node], argv: list[str] | None = None) -> int:
    """Run the node that `make` returns until a signal comes.

    Args:
        make: Builds the node; a TacitError here is a refusal to start.
        argv: Arguments after the program name (`--ros-args ...`); the process's own by default.

    Returns:
        Exit code: 0 after a signal, 2 when the node refused to start.
    """
    prepare()
    rclpy.init(args=sys.argv if argv is None else ["node", *argv])
    node: Node | None = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except TacitError as error:
        rclpy.logging.get_logger("tacit").fatal(f"refused to start: {error}")
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except RuntimeError:
        if rclpy.ok():  # else a signal ended the context while a message was being taken
            raise
        return 0
    finally:
        _close(node)
    return 0


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed images instead of handing it back to the kernel.

    Each VGA image is 900 KB: mapped, faulted in page by page and unmapped again, which costs 0.25 ms
    per image, more than decoding the message. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_TOTAL_BYTES)


def _close(node: Node | None) -> None:
    if node is not None:
        close = getattr(node, "close", None)
        if close is not None:
            close()
        node.destroy_node()
    rclpy.try_shutdown()
