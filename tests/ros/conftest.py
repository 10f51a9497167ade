"""One ROS domain per session, held by a file lock; fields checked; every node torn down."""

from __future__ import annotations

import os

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"  # read when the first message package is imported

import importlib.util
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import rclpy
    from rclpy.node import Node

    from tacit.record.recorder import RecorderSession
    from tacit.rig import Rig

HERE = os.path.dirname(__file__)
collect_ignore_glob = [] if importlib.util.find_spec("rclpy") else ["*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder `ros`."""
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope="session")
def domain() -> Iterator[int]:
    """The ROS domain of this session; children inherit it."""
    from benches.testing import isolated_domain

    with isolated_domain() as number:
        yield number


@pytest.fixture
def ros(domain: int) -> Iterator[rclpy.Context]:
    """A fresh default context per test."""
    import rclpy

    rclpy.init()
    yield rclpy.get_default_context()
    rclpy.try_shutdown()


class Bench:
    """A node of the test with its executor: makes publishers and clients, spins until a fact holds."""

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.node = Node(f"bench_{uuid.uuid4().hex[:8]}")
        self.executor = SingleThreadedExecutor()
        self.add(self.node)

    def add(self, node: Node) -> Node:
        """Spin `node` too."""
        self.executor.add_node(node)
        return node

    def until(self, fact: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Spin until `fact()` holds."""
        from benches.testing import wait_until

        wait_until(fact, what, timeout_s, self._spin)

    def call(self, service: str, request: object = None, timeout_s: float = 60.0) -> Any:
        """Call a Trigger service, or the SetBool one that `request` is for; returns its answer."""
        from std_srvs.srv import SetBool, Trigger

        kind = SetBool if isinstance(request, SetBool.Request) else Trigger
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}", timeout_s)
        future = client.call_async(request or Trigger.Request())
        self.until(future.done, f"answer of {service}", timeout_s)
        self.node.destroy_client(client)
        return future.result()

    def _spin(self) -> None:
        """Handle what comes for 20 ms: a fact may cost more to check than a message to handle."""
        end = time.monotonic() + 0.02
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Destroy every node."""
        for node in list(self.executor.get_nodes()):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def bench(ros: rclpy.Context) -> Iterator[Bench]:
    """A spinning node for the test."""
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def said() -> list[str]:
    """What a recorder session reports, and what ends its threads."""
    return []


@pytest.fixture
def session(rig: Rig, tmp_path: Path, said: list[str]) -> Iterator[RecorderSession]:
    """A recorder without ROS, to be fed by hand."""
    from tacit.record.recorder import RecorderSession, SessionSettings

    tell = lambda level, text: said.append(text)  # noqa: E731
    made = RecorderSession(rig, SessionSettings(tmp_path), tell, lambda failure: said.append(str(failure)))
    yield made
    made.close()
